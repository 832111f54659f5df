"""The state of a whole program: its parameters' states by path, and what is said about them under `metadata`.

Theory of operation. Loading goes in two steps. First every parameter says what it would set and what does not fit
(`Parameter.fitting_state`), and nothing is touched; a parameter with a way of loading of its own is tried on a copy.
Then, when all fits or what does not is to be skipped, all is set. Should something fail nevertheless, every parameter
gets back what it had.

DSPy writes the same layout, but the key of an entry of a dict always as text, and only what it finds; both are understood.
"""

from __future__ import annotations

import collections
import datetime
import platform
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from dspex._collection import no_collection
from dspex.errors import StateFormatError, StateMismatchError
from dspex.modules._copy import copied
from dspex.modules._node import Node
from dspex.modules._parameter import Parameter, told
from dspex.modules._walk import parameters_as_dspy, parameters_of

if TYPE_CHECKING:
    from dspex.modules._values import Mismatches

SCHEMA = 1
METADATA = "metadata"


# --- dumping ---


def dumped(module: Any, *, json_mode: bool, like_dspy: bool) -> dict[str, Any]:
    """The states of all parameters by path, without metadata.

    With `like_dspy`, what DSPy would find goes by the name under which DSPy looks for it; the rest, which DSPy passes
    over, is there by its path nevertheless, so that nothing is lost.
    """
    names = _names_of_dspy(module) if like_dspy else {}
    return {
        names.get(id(parameter), _key(path)): parameter.dump_state(json_mode=json_mode, **_known(parameter, like_dspy))
        for path, parameter in parameters_of(module)
    }


def _known(parameter: Parameter, like_dspy: bool) -> dict[str, bool]:
    """A predictor has a layout of DSPy's; other parameters have only their own."""
    return (
        {"like_dspy": True} if like_dspy and isinstance(parameter, Node) and hasattr(parameter, "fitting_state") else {}
    )


def _key(path: str) -> str:
    """A parameter that is an attribute `metadata` is written with quotes, which mean the same in a path."""
    return f"'{METADATA}'" if path == METADATA else path


def metadata_of(module: Any) -> dict[str, Any]:
    """What is said about a state. `dependency_versions` has only names that DSPy knows, as it fails on others."""
    from dspex import __version__

    about = {
        "schema": SCHEMA,
        "version": __version__,
        "module": module_type(module),
        "module_id": module.module_id,
        "module_version": module.version,
        "module_metadata": dict(module.metadata) if isinstance(module.metadata, Mapping) else {},
        "parameters": {path: module_type(parameter) for path, parameter in parameters_of(module)},
        "time": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    }
    python = ".".join(platform.python_version_tuple()[:2])
    return {"dependency_versions": {"python": python}, "dspex": about}


def module_type(module: Any) -> str:
    """The class of an object, as `package.module:Class`."""
    return f"{type(module).__module__}:{type(module).__qualname__}"


# --- loading ---


class _Change(NamedTuple):
    """What is to be done to one parameter."""

    path: str
    parameter: Parameter
    apply: Callable[[], Any]
    restore: Callable[[], None]


def load(module: Any, state: Any, *, strict: bool, allow_unsafe_lm_state: bool) -> Mismatches:
    """Load `state` into the parameters of `module`, all or nothing; gives what was skipped, by path."""
    if not isinstance(state, Mapping):
        raise StateMismatchError(
            f"a state is a mapping of paths to states of parameters, not {type(state).__name__}",
            mismatches=(("", f"is of type {type(state).__name__}"),),
        )
    check_schema(state)
    states, mismatches = _assigned(module, state)
    changes = []
    with no_collection():
        for path, parameter, own in states:
            change, wrong = _change(path, parameter, own, allow_unsafe_lm_state)
            mismatches += [(below_parameter(path, inner), reason) for inner, reason in wrong]
            if change is not None:
                changes.append(change)
    if mismatches and strict:
        raise StateMismatchError(told(tuple(mismatches), type(module).__name__), mismatches=mismatches)
    _apply(changes)
    return tuple(mismatches)


def check_schema(state: Any) -> None:
    """Raises StateFormatError for the state of a newer dspex, naming both versions."""
    metadata = state.get(METADATA) if isinstance(state, Mapping) else None
    about = metadata.get("dspex") if isinstance(metadata, Mapping) else None
    if not isinstance(about, Mapping):
        return
    schema = about.get("schema")
    if isinstance(schema, int) and schema > SCHEMA:
        raise StateFormatError(
            f"the state has schema {schema}, written by dspex {about.get('version')}; this dspex reads up to {SCHEMA}",
            source="state",
            place=f"{METADATA}.dspex.schema",
        )


def below_parameter(path: str, inner: str) -> str:
    """The path of something within a parameter."""
    return f"{path}.{inner}" if inner else path


def _assigned(module: Any, state: Mapping[Any, Any]) -> tuple[list[tuple[str, Any, Any]], list[tuple[str, str]]]:
    """Which parameter gets which state; and what is missing or unknown."""
    found = parameters_of(module)
    left = {key: value for key, value in state.items() if key != METADATA}
    by_dspy: dict[int, str] = {}
    if any(_key(path) not in left for path, _ in found):
        by_dspy = _names_of_dspy(module)
    states, wrong = [], []
    for path, parameter in found:
        key = next((k for k in (_key(path), path, by_dspy.get(id(parameter))) if k in left), None)
        if key is None:
            wrong.append((path, "is missing"))
        else:
            states.append((path, parameter, left.pop(key)))
    wrong += [(str(key), "is no parameter of this module") for key in left]
    return states, wrong


def _names_of_dspy(module: Any) -> dict[int, str]:
    """DSPy's names by parameter, without those that stand for several (keys 0 and '0' of one dict)."""
    named = [(name, id(parameter)) for name, parameter in parameters_as_dspy(module)]
    counts = collections.Counter(name for name, _ in named)
    return {parameter: name for name, parameter in named if counts[name] == 1}


def _change(path: str, parameter: Any, state: Any, unsafe: bool) -> tuple[_Change | None, Mismatches]:
    if getattr(type(parameter), "load_state", None) is not Parameter.load_state:
        return _change_of_custom(path, parameter, state, unsafe)
    values, wrong = parameter.fitting_state(state, allow_unsafe_lm_state=unsafe)
    if not values:
        return None, wrong
    attributes, before = vars(parameter), dict(vars(parameter))
    return _Change(path, parameter, lambda: attributes.update(values), lambda: _put_back(attributes, before)), wrong


def _change_of_custom(path: str, parameter: Any, state: Any, unsafe: bool) -> tuple[_Change | None, Mismatches]:
    """A parameter that loads in its own way: nobody knows what it changes, so it is tried on a copy."""
    try:
        _load_custom(copied(parameter), state, unsafe)
    except Exception as error:
        return None, getattr(error, "mismatches", None) or (("", f"{type(error).__name__}: {error}"),)
    attributes = vars(parameter)
    before = copied(dict(attributes))
    return _Change(
        path, parameter, lambda: _load_custom(parameter, state, unsafe), lambda: _put_back(attributes, before)
    ), ()


def _load_custom(parameter: Any, state: Any, unsafe: bool) -> None:
    if unsafe:
        parameter.load_state(state, allow_unsafe_lm_state=True)
    else:
        parameter.load_state(state)


def _put_back(attributes: dict[str, Any], before: dict[str, Any]) -> None:
    attributes.clear()
    attributes.update(before)


def _apply(changes: list[_Change]) -> None:
    done: list[_Change] = []
    try:
        for change in changes:
            done.append(change)
            change.apply()
    except BaseException:
        for change in done:
            change.restore()
        raise
