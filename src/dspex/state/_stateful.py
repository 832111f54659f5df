"""What has a state: the protocol on which everything that keeps states stands, and the adapter to it."""

from __future__ import annotations

import copy
import dataclasses
import typing
from collections.abc import Iterator
from pathlib import PurePath
from typing import Any, Protocol, runtime_checkable

import msgspec

from dspex.errors import StateError, StateMismatchError, UsageError
from dspex.state._plain import to_plain


@runtime_checkable
class Stateful(Protocol):
    """An object that gives its state as plain data and takes it back. Modules of dspex and of DSPy are."""

    def dump_state(self) -> dict[str, Any]:
        """The state, plain data under str keys."""

    def load_state(self, state: dict[str, Any]) -> Any:
        """Take a state that `dump_state` gave, here or elsewhere."""


def as_stateful(target: Any) -> Stateful:
    """A `Stateful` through which the state of `target` is dumped, and loaded all or not at all.

    `target` is Stateful itself, an instance of a dataclass (its fields are the state, restored to their annotated
    types), or a dict (its items are). When loading fails, StateMismatchError is raised and `target` is as it was.
    Raises UsageError for anything else.
    """
    if isinstance(target, dict):
        return _DictState(target)
    if not isinstance(target, type):
        if isinstance(target, Stateful):
            return _ObjectState(target)
        if dataclasses.is_dataclass(target):
            return _DataclassState(target)
    raise UsageError(f"{target!r:.200} has no state: it needs dump_state and load_state, or to be a dataclass or a dict")


class _ObjectState:
    """A Stateful whose own loading may fail half-way: its state before is put back."""

    def __init__(self, target: Stateful) -> None:
        self._target = target

    def dump_state(self) -> dict[str, Any]:
        return self._target.dump_state()

    def load_state(self, state: dict[str, Any]) -> None:
        # What is dumped may be the object's own lists, which loading changes.
        before = copy.deepcopy(self._target.dump_state())
        try:
            self._target.load_state(state)
        except BaseException as error:
            self._put_back(before, error)
            if isinstance(error, StateError) or not isinstance(error, Exception):
                raise
            name = type(self._target).__qualname__
            raise StateMismatchError(f"{name} did not take the state: {type(error).__name__}: {error}") from error

    def _put_back(self, before: dict[str, Any], error: BaseException) -> None:
        try:
            self._target.load_state(before)
        except Exception as second:
            raise StateError(f"loading failed ({error!r}), and so did putting the old state back: {second!r}") from error


class _DictState:
    def __init__(self, target: dict[str, Any]) -> None:
        self._target = target

    def dump_state(self) -> dict[str, Any]:
        plain: dict[str, Any] = to_plain(self._target)
        return plain

    def load_state(self, state: dict[str, Any]) -> None:
        loaded = to_plain(_mapping(state))
        self._target.clear()
        self._target.update(loaded)


class _DataclassState:
    def __init__(self, target: Any) -> None:
        self._target = target

    def dump_state(self) -> dict[str, Any]:
        plain: dict[str, Any] = to_plain(self._target)
        return plain

    def load_state(self, state: dict[str, Any]) -> None:
        kind = type(self._target)
        if kind.__dataclass_params__.frozen:
            raise StateError(f"a {kind.__qualname__} is frozen: nothing can be loaded into it")
        restored = _restored_fields(kind, to_plain(_mapping(state)))
        before = {name: getattr(self._target, name) for name in restored}
        try:
            self._assign(restored)
        except Exception as error:
            self._assign(before)
            raise StateMismatchError(f"{kind.__qualname__} refused a value: {error}") from error

    def _assign(self, values: dict[str, Any]) -> None:
        for name, value in values.items():
            setattr(self._target, name, value)


def _mapping(state: Any) -> dict[str, Any]:
    if type(state) is not dict:
        raise StateMismatchError(f"a state is a dict, not a {type(state).__name__}", mismatches=[("", "no dict")])
    return state


def _restored_fields(kind: type, state: dict[str, Any]) -> dict[str, Any]:
    """The value of each field of a dataclass. Raises StateMismatchError naming all that does not fit."""
    hints = _hints(kind)
    names = [field.name for field in dataclasses.fields(kind)]  # type: ignore[arg-type]
    wrong = [(name, "missing") for name in names if name not in state]
    wrong += [(str(name), "unknown") for name in state if name not in names]
    restored = {}
    for name in (name for name in names if name in state):
        try:
            restored[name] = msgspec.convert(state[name], hints[name], dec_hook=_restored)
            wrong += [(f"{name}{path}", why) for path, why in _differences(state[name], to_plain(restored[name]))]
        except (msgspec.ValidationError, TypeError) as error:
            wrong.append((name, str(error)))
    if wrong:
        listed = "; ".join(f"{path}: {why}" for path, why in wrong)
        raise StateMismatchError(f"the state does not fit {kind.__qualname__}: {listed}", mismatches=wrong)
    return restored


def _hints(kind: type) -> dict[str, Any]:
    try:
        return typing.get_type_hints(kind, include_extras=True)
    except NameError as error:
        raise StateError(f"an annotation of {kind.__qualname__} cannot be resolved: {error}") from error


def _restored(kind: Any, value: Any) -> Any:
    """For msgspec, an instance of a class that it does not know. Raises ValueError, which it reports with the path."""
    if isinstance(kind, type) and issubclass(kind, PurePath) and type(value) is str:
        return kind(value)
    if hasattr(kind, "model_validate"):
        return kind.model_validate(value)
    if isinstance(value, typing.get_origin(kind) or kind):
        return value
    raise ValueError(f"a {type(value).__name__} is no {kind}")


def _differences(given: Any, taken: Any, path: str = "") -> Iterator[tuple[str, str]]:
    """Keys that a nested class ignored, or filled in by itself: neither may pass in silence."""
    if type(given) is dict and type(taken) is dict:
        yield from ((f"{path}[{key!r}]", "unknown") for key in given.keys() - taken.keys())
        yield from ((f"{path}[{key!r}]", "missing") for key in taken.keys() - given.keys())
        for key in given.keys() & taken.keys():
            yield from _differences(given[key], taken[key], f"{path}[{key!r}]")
    elif isinstance(given, list | tuple) and isinstance(taken, list | tuple):
        for index, (one, other) in enumerate(zip(given, taken, strict=False)):
            yield from _differences(one, other, f"{path}[{index}]")
