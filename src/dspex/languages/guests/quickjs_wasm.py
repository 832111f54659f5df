"""QuickJS in WebAssembly, as the package quickjs-rs has it: `Engine` for `quickjs`.

Theory of operation. The engine is made in the zygote and its memory forked with every guest, so it must have no threads: it
gets a wasmtime of our settings, which compiles without. What QuickJS runs reaches its own memory and `host`, nothing else.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from .quickjs_native import BELOW, VERBS

if TYPE_CHECKING:
    from collections.abc import Callable

_STACK: Final = 2 << 20  # bytes; a stack that is full ends the instance, and no program can catch that
_NEVER: Final = 1e9  # seconds: the host holds the deadline


class Failed(Exception):  # noqa: N818  (as the native engine tells it: type, message, stack)
    """An error of the program's."""


class Engine:
    """One context with the prelude in it; `host` is what that calls."""

    error: type[Exception] = Failed
    lost = False  # the instance came to its end, and a session with it

    def __init__(self, prelude: str, memory: int, host: Callable[..., Any]) -> None:
        import quickjs_rs
        import wasmtime

        _share(wasmtime)
        self._trap: tuple[type[Exception], ...] = (wasmtime.Trap, wasmtime.WasmtimeError)
        self._full: type[Exception] = quickjs_rs.MemoryLimitError
        self._errors: tuple[type[Exception], ...] = (quickjs_rs.JSError, quickjs_rs.QuickJSError)
        self._context = quickjs_rs.Runtime(memory_limit=memory).new_context(timeout=_NEVER)
        self._context.register("__host", host)
        engine = self._context.eval_handle("\n" * BELOW + prelude)
        self._functions = {verb: engine.get(verb).call_method("bind", engine) for verb in VERBS}

    def call(self, verb: str, *words: Any) -> Any:
        """What the prelude does under this name. Raises `error`."""
        return self._tried(lambda: self._functions[verb].call(*words).to_python(allow_opaque=True))

    def told(self, code: str) -> str:
        """What the value of a script is told as."""
        value = self._tried(lambda: self._context.eval_handle(code))
        return str(self.call("told", value))

    def evaluate(self, code: str) -> None:
        """Something of the engine's own."""
        self._context.eval_handle(code).dispose()

    def settle(self) -> None:
        """Run what promises have left to do."""
        while self._context._engine_ctx.run_pending_jobs():
            pass

    def _tried(self, action: Callable[[], Any]) -> Any:
        try:
            return action()
        except self._errors as error:
            name, message = getattr(error, "name", type(error).__name__), getattr(error, "message", str(error))
            if isinstance(error, self._full):
                name, message = "InternalError", "out of memory"
            raise Failed(f"{name}: {message}\n{getattr(error, 'stack', None) or ''}") from None
        except self._trap as trap:
            self.lost = True
            raise Failed(f"RangeError: {_cause(str(trap))}\n(no trace)") from None


def _share(wasmtime: Any) -> None:
    """The engine that the package finds is ours."""
    from quickjs_rs import _wasmtime

    config = wasmtime.Config()
    config.parallel_compilation = False
    config.memory_init_cow = False  # memory files are refused to guests
    config.max_wasm_stack = _STACK
    if not hasattr(_wasmtime, "_SHARED_ENGINE"):
        raise ImportError("this version of quickjs-rs is not known to dspex: it keeps its engine elsewhere")
    _wasmtime._SHARED_ENGINE = wasmtime.Engine(config)


def _cause(said: str) -> str:
    return "Maximum call stack size exceeded" if "stack exhausted" in said else said.strip().splitlines()[-1].strip()
