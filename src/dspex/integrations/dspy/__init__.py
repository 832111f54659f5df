"""DSPy's programs on dspex: `dspy.configure(interpreter_factory=Interpreter)`. Needs `pip install 'dspex[dspy]'`."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dspex.integrations.dspy._best_of_n import BestOfN as BestOfN
    from dspex.integrations.dspy._interpreter import Interpreter as Interpreter
    from dspex.integrations.dspy._rlm import RLM as RLM

_PLACES = {"BestOfN": "_best_of_n", "Interpreter": "_interpreter", "RLM": "_rlm"}

__all__ = ["RLM", "BestOfN", "Interpreter"]


def __getattr__(name: str) -> object:
    if name in _PLACES:  # DSPy is loaded when it is used, not when it is named
        return getattr(import_module(f"{__name__}.{_PLACES[name]}"), name)
    raise AttributeError(f"module 'dspex.integrations.dspy' has no attribute {name!r}")
