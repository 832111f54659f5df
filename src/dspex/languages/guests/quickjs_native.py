"""QuickJS as an extension module, in this process: `Engine` for `quickjs`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Callable

_STACK: Final = 4 << 20  # bytes


class Engine:
    """One context with the prelude in it; `host` is what that calls."""

    lost = False  # it outlives every error

    def __init__(self, prelude: str, memory: int, host: Callable[..., Any]) -> None:
        import quickjs

        self.error: type[Exception] = quickjs.JSException
        self._context = quickjs.Context()
        self._context.set_memory_limit(memory)
        self._context.set_max_stack_size(_STACK)
        self._context.add_callable("__host", host)
        self._context.set("__engine", self._context.eval("\n" * BELOW + prelude))
        self._functions = {verb: self._context.eval(f"__engine.{verb}.bind(__engine)") for verb in VERBS}
        self._context.eval("delete globalThis.__engine")

    def call(self, verb: str, *words: Any) -> Any:
        """What the prelude does under this name. Raises `error`."""
        return self._functions[verb](*words)

    def told(self, code: str) -> str | None:
        """What the value of a script is told as; None where the binding has nothing for it: a BigInt, a Symbol."""
        try:
            value = self._context.eval(code)
        except TypeError:
            return None
        return str(self._functions["told"](value))

    def evaluate(self, code: str) -> None:
        """Something of the engine's own."""
        self._context.eval(code)

    def settle(self) -> None:
        """Run what promises have left to do."""
        while self._context.execute_pending_job():
            pass


VERBS: Final = ("run", "told", "settled", "give", "offer")
BELOW: Final = 1_000_000  # lines: where the prelude begins
