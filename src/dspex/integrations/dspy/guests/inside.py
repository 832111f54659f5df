"""What DSPy's interpreter prepares in its guest: SUBMIT, tools that always block, and inputs that were sent before."""

from __future__ import annotations

import gc
import marshal
import pickle
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable


class FinalOutput(BaseException):
    """Ends the program; `except Exception` does not catch it."""


class Inside:
    """`names` are the program's. Lives there as `_dspex`, whose methods the host calls."""

    def __init__(self, names: dict[str, Any]) -> None:
        self._names = names
        self._bound: dict[str, tuple[Any, Any]] = {}  # the engine's function by that name, and the blocking form of it
        self._kept: dict[str, Any] = {}
        self.carry: Callable[[Any], object]

    def release(self) -> None:
        """Give tools back their own forms, before the engine offers others under these names."""
        for name, (engine, ours) in self._bound.items():
            if self._names.get(name) is ours:
                del self._names[name]
                self._names[engine.__name__] = engine
        self._bound.clear()

    def bind(self, tools: list[tuple[str, str]], carrier: str, submit: bytes) -> None:
        """Give tools the names that programs call them by, and SUBMIT the fields of now, as compiled on the host."""
        for name, called in tools:
            engine = self._names[called]
            self._bound[name] = engine, engine.wait
            self._names[name] = engine.wait
        self.carry = self._names[carrier].wait
        made = {"_dspex": self, "__name__": "__main__"}
        exec(marshal.loads(submit), made)
        self._names["SUBMIT"] = made["SUBMIT"]

    def submit(self, fields: dict[str, Any]) -> None:
        """Carry the fields to the host, and end the program."""
        self.carry(fields)
        raise FinalOutput

    def take(self, variable: str, *pickled: str) -> None:
        """Bind the large inputs that came in `variable`, those that are pickled unpickled, and keep them."""
        given = self._names.pop(variable)
        collecting = gc.isenabled()
        gc.disable()  # it would take most of the time
        try:
            given.update((name, pickle.loads(given[name])) for name in pickled)
        finally:
            if collecting:
                gc.enable()
        self._kept.update(given)
        self._names.update(given)

    def again(self, *names: str) -> None:
        """Bind again what was kept."""
        self._names.update((name, self._kept[name]) for name in names)
