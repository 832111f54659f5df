"""`Parameter`: a leaf of a program, which holds state of its own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from dspex.errors import StateMismatchError
from dspex.modules._values import fitted, plain

if TYPE_CHECKING:
    from dspex.modules._values import Mismatches


class Parameter:
    """A leaf of a tree of modules: enumeration finds it and does not look inside.

    Its state is its public attributes, each plain data or something that becomes plain data: examples, arrays, pydantic
    models, dataclasses, enums, dates, paths. What an attribute holds now says which type a state must bring for it;
    an attribute that is None takes anything. Attributes whose names begin with `_` are not state.

        Parameter(numpy.zeros((3, 3))).dump_state()  # {"value": array(...)}

    A subclass with attributes of its own need not call `super().__init__()`, and gets saving and loading for nothing.
    """

    def __init__(self, value: Any = None) -> None:
        self.value = value

    def reset(self) -> None:
        """Forget what was learned. A subclass that learns says here what that means; a plain one learns nothing."""

    def dump_state(self, json_mode: bool = True) -> dict[str, Any]:
        """The state as plain data that shares nothing mutable with this parameter.

        Raises StateError when an attribute holds what is no plain data, such as a lock or a client.
        """
        return {name: plain(value, name) for name, value in self._state_attributes().items()}

    def check_state(self, state: Mapping[str, Any]) -> Mismatches:
        """What does not fit, as (path within this parameter, reason); empty when all of it can be loaded."""
        return self.fitting_state(state)[1]

    def load_state(
        self, state: Mapping[str, Any], strict: bool = True, *, allow_unsafe_lm_state: bool = False
    ) -> Mismatches:
        """Take over a state; with `strict=False` all of it that fits. Gives what was skipped, as (path, reason).

        Raises StateMismatchError, having changed nothing, when `strict` and anything does not fit.
        """
        values, mismatches = self.fitting_state(state, allow_unsafe_lm_state=allow_unsafe_lm_state)
        if mismatches and strict:
            raise StateMismatchError(told(mismatches, type(self).__name__), mismatches=mismatches)
        vars(self).update(values)
        return mismatches

    def _state_attributes(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if not name.startswith("_")}

    def fitting_state(self, state: Any, *, allow_unsafe_lm_state: bool = False) -> tuple[dict[str, Any], Mismatches]:
        """The values as they would be set, and what does not fit. A subclass with a layout of its own says so here."""
        if not isinstance(state, Mapping):
            return {}, (("", f"is of type {type(state).__name__}, but a mapping is needed"),)
        own = self._state_attributes()
        mismatches: list[tuple[str, str]] = []
        values: dict[str, Any] = {}
        mismatches += [(name, "is missing") for name in own if name not in state]
        mismatches += [(str(name), "is no attribute of this parameter") for name in state if name not in own]
        for name in [name for name in own if name in state]:
            value, wrong = fitted(state[name], own[name], name)
            mismatches += wrong
            if not wrong:
                values[name] = value
        return values, tuple(sorted(mismatches))


def told(mismatches: Mismatches, what: str) -> str:
    """All mismatches in words, one a line."""
    return f"the state does not fit {what}; nothing was changed:\n" + "\n".join(
        f"  {path}: {reason}" for path, reason in mismatches
    )
