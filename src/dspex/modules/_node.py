"""`Node`: what has children in its attributes. All that walking and copying need to know of a module."""

from __future__ import annotations

from typing import Any, Self

# What belongs to one object in one process, and neither to its copies nor to its files. The names are DSPy's.
OWN = frozenset({"callbacks", "history"})


class Node:
    """The base of `Module`. Its attributes are there before `__init__` runs, so a subclass may forget to call that."""

    _compiled: bool
    callbacks: list[Any]
    history: list[Any]

    def __new__(cls, *args: Any, **kwargs: Any) -> Self:
        made = super().__new__(cls)
        made.__dict__.update(_compiled=False, callbacks=[], history=[])
        return made

    def __getstate__(self) -> Any:
        return {name: value for name, value in vars(self).items() if name not in OWN}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        from dspex.modules._copy import copied

        made: Self = copied(self, memo, stacklevel=5)
        return made
