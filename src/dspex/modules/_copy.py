"""Deep copies of programs.

Theory of operation. `copy.deepcopy` goes through every object by a protocol meant for any object, and recursively; most of
a program is modules, containers and strings, which need neither. Here each module, list and dict is first made empty,
noted in the memo, and put on a list of what is still to be filled. So what was shared is shared in the copy, a cycle
closes upon itself, and depth needs no recursion. The memo is that of `copy.deepcopy`, which copies all other objects.

An object that cannot be copied (a lock, a client) is kept by reference. A copy of it that failed half-way may have left
parts in the memo that are not whole; they are the last that were added, and are taken out again.
"""

from __future__ import annotations

import copy
import dataclasses
import datetime
import decimal
import enum
import fractions
import pathlib
import re
import types
import uuid
import warnings
from collections.abc import Callable
from typing import Any

from dspex._collection import no_collection
from dspex.examples import Example
from dspex.examples._values import ATOMS
from dspex.modules._node import OWN, Node
from dspex.modules._parameter import Parameter
from dspex.modules._signature import Field, Signature
from dspex.modules._walk import attributes_of

Copier = Callable[[Any], Any]

_ATOMS = (
    str,
    int,
    float,
    bool,
    complex,
    bytes,
    range,
    type(None),
    type(...),
    type(NotImplemented),
    types.FunctionType,
    types.BuiltinFunctionType,
    types.ModuleType,
    re.Pattern,
    datetime.date,
    datetime.time,
    datetime.timedelta,
    decimal.Decimal,
    fractions.Fraction,
    uuid.UUID,
    pathlib.PurePath,
    Field,
    Signature,
)


def copied(root: Any, memo: dict[int, Any] | None = None, *, stacklevel: int = 3) -> Any:
    """A deep copy of `root`. One UserWarning names all that was kept by reference, each with its path."""
    copying = _Copying({} if memo is None else memo)
    with no_collection():
        made = copying.copy(root)
        copying.fill()
    if copying.kept:
        warnings.warn(_told(root, copying.kept), stacklevel=stacklevel)
    return made


class _Copying:
    """One deep copy, under way."""

    def __init__(self, memo: dict[int, Any]) -> None:
        self.kept: list[Any] = []  # what could not be copied
        self._memo = memo
        # `copy.deepcopy` keeps here what must not die while the memo knows its id.
        self._alive = memo.setdefault(id(memo), [])
        self._copiers: dict[type, Copier | None] = dict.fromkeys((str, int, float, bool, type(None)))
        self._unfilled: list[tuple[Callable[[Any, Any], None], Any, Any]] = []

    def copy(self, value: Any) -> Any:
        """The copy of `value`, perhaps still to be filled."""
        kind = type(value)
        copiers = self._copiers
        if kind not in copiers:
            copiers[kind] = self._copier_of(kind)
        copier = copiers[kind]
        if copier is None:
            return value
        made = self._memo.get(id(value), self)
        return copier(value) if made is self else made

    def fill(self) -> None:
        """Fill all that is still empty, and what comes up meanwhile."""
        while self._unfilled:
            filler, value, made = self._unfilled.pop()
            filler(value, made)

    def _copier_of(self, kind: type) -> Copier | None:
        """How values of this type are copied; None: not at all, as they never change."""
        if issubclass(kind, (type, enum.Enum)) or kind in _ATOMS or issubclass(kind, pathlib.PurePath):
            return None
        if kind is list or (issubclass(kind, list) and _is_stock(kind, list)):
            return self._list
        if kind is dict or (issubclass(kind, dict) and _is_stock(kind, dict)):
            return self._dict
        if issubclass(kind, tuple) and (kind is tuple or hasattr(kind, "_make")):
            return self._tuple
        if kind in (set, frozenset):
            return self._set
        if issubclass(kind, Node):
            return self._node_copier(kind)
        if (dataclasses.is_dataclass(kind) or issubclass(kind, Parameter)) and _is_stock(kind, object):
            return self._record
        return self._example if kind is Example else self._other

    def _node_copier(self, kind: type) -> Copier:
        if _is_stock(kind, Node) and not any(vars(base).get("__slots__") for base in kind.__mro__):
            return self._module
        stock_copy = getattr(kind, "__deepcopy__", None) is Node.__deepcopy__
        return self._pickled if stock_copy else self._other

    def _note(self, value: Any, made: Any) -> Any:
        self._memo[id(value)] = made
        return made

    def _later(self, filler: Callable[[Any, Any], None], value: Any, made: Any) -> Any:
        self._memo[id(value)] = made
        self._unfilled.append((filler, value, made))
        return made

    # --- each kind of value ---

    def _list(self, value: list[Any]) -> Any:
        return self._later(self._fill_list, value, [] if type(value) is list else _emptied(value))

    def _fill_list(self, value: list[Any], made: list[Any]) -> None:
        made.extend([self.copy(item) for item in value])
        self._fill_attributes_of_container(value, made)

    def _dict(self, value: dict[Any, Any]) -> Any:
        return self._later(self._fill_dict, value, {} if type(value) is dict else _emptied(value))

    def _fill_dict(self, value: dict[Any, Any], made: dict[Any, Any]) -> None:
        for key, item in value.items():
            made[key if type(key) is str else self._whole(key)] = self.copy(item)
        self._fill_attributes_of_container(value, made)

    def _fill_attributes_of_container(self, value: Any, made: Any) -> None:
        if type(value) not in (list, dict) and hasattr(value, "__dict__"):
            vars(made).update((name, self.copy(item)) for name, item in vars(value).items())

    def _tuple(self, value: tuple[Any, ...]) -> Any:
        items = [self.copy(item) for item in value]
        known = self._memo.get(id(value), self)
        if known is not self:  # an item held it, and was faster
            return known
        if all(item is copied for item, copied in zip(value, items, strict=True)):
            return self._note(value, value)
        return self._note(value, tuple(items) if type(value) is tuple else type(value)._make(items))  # type: ignore[attr-defined]

    def _set(self, value: Any) -> Any:
        return self._note(value, type(value)([self._whole(item) for item in value]))

    def _whole(self, value: Any) -> Any:
        """A copy that is filled, as its hash is about to be asked for."""
        if self._copiers.get(type(value), self) is None:
            return value
        made = self.copy(value)
        if not isinstance(made, Node):  # a module has the hash of its identity
            self.fill()
        return made

    def _module(self, value: Any) -> Any:
        return self._later(self._fill_module, value, object.__new__(type(value)))

    def _fill_module(self, value: Any, made: Any) -> None:
        attributes = vars(made)
        for name, item in list(vars(value).items()):
            attributes[name] = [] if name in OWN else self.copy(item)

    def _pickled(self, value: Any) -> Any:
        """A copy of a module whose class says what its state is, by the methods that pickle asks."""
        make, arguments, state, *_ = value.__reduce_ex__(4)
        made = self._note(value, make(*[self._whole(argument) for argument in arguments]))
        made.__setstate__(self._whole(state))
        return made

    def _record(self, value: Any) -> Any:
        return self._later(self._fill_record, value, object.__new__(type(value)))

    def _fill_record(self, value: Any, made: Any) -> None:
        for name, item in attributes_of(value):
            object.__setattr__(made, name, self.copy(item))

    def _example(self, value: Example) -> Any:
        """As its own `__deepcopy__`, but most hold text alone, and then one new dict is all that there is to do."""
        for field in value._store.values():
            if type(field) not in ATOMS:
                return self._note(value, value.__deepcopy__(self._memo))
        return self._note(value, value.copy())

    def _other(self, value: Any) -> Any:
        before = len(self._memo)
        try:
            made = copy.deepcopy(value, self._memo)
        except Exception:
            while len(self._memo) > before:
                self._memo.popitem()
            self.kept.append(value)
            made = value
        self._alive.append(value)
        return self._note(value, made)


def _is_stock(kind: type, base: type) -> bool:
    """Whether a class leaves copying as `base` has it."""
    names = ("__deepcopy__", "__reduce_ex__", "__reduce__", "__getstate__", "__setstate__")
    return all(getattr(kind, name, None) == getattr(base, name, None) for name in names)


def _emptied(value: Any) -> Any:
    made = copy.copy(value)
    made.clear()
    return made


def _told(root: Any, kept: list[Any]) -> str:
    places = _places(root, {id(value) for value in kept})
    named = sorted(f"{places.get(id(value), 'inside')} ({type(value).__qualname__})" for value in kept)
    return f"the copy of {type(root).__qualname__} shares what cannot be copied: {', '.join(named)}"


def _places(root: Any, wanted: set[int]) -> dict[int, str]:
    from dspex.modules._walk import sub_modules_of

    everything = sub_modules_of(root, object, skip_compiled=False, max_depth=None, enter_parameters=True)
    return {id(value): path.removeprefix("self.") for path, value in everything if id(value) in wanted}
