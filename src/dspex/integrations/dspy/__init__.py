"""DSPy's programs on dspex: `dspy.configure(interpreter_factory=Interpreter)`. Needs `pip install 'dspex[dspy]'`."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dspex.integrations.dspy._interpreter import Interpreter as Interpreter

__all__ = ["Interpreter"]


def __getattr__(name: str) -> object:
    if name in __all__:  # DSPy is loaded when it is used, not when it is named
        from dspex.integrations.dspy import _interpreter

        return getattr(_interpreter, name)
    raise AttributeError(f"module 'dspex.integrations.dspy' has no attribute {name!r}")
