"""`RLM`: DSPy's, on sessions that go back to where they were before a step that failed."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import dspy

from dspex.integrations.dspy._interpreter import Interpreter

if TYPE_CHECKING:
    from collections.abc import Callable


class RLM(dspy.RLM):
    """`dspy.RLM` whose failed steps leave no trace, and that does not hold up an event loop.

    Before each step stands a checkpoint; after one that raised an error, ended its process or took too much memory, names
    and files are what they were, and the model goes on from there. Takes the arguments of `dspy.RLM`; an
    `interpreter_factory` of the caller's makes what it makes, `Interpreter.factory(undo_failed=True, ...)` the same as here.
    """

    def __init__(
        self, *args: Any, interpreter_factory: Callable[[], dspy.CodeInterpreter] | None = None, **keywords: Any
    ) -> None:
        super().__init__(
            *args, interpreter_factory=interpreter_factory or Interpreter.factory(undo_failed=True), **keywords
        )

    async def aforward(self, *args: Any, **inputs: Any) -> dspy.Prediction:
        """`forward` in a thread, where DSPy's would run each program on the event loop."""
        return await dspy.asyncify(partial(type(self).forward, self))(*args, **inputs)
