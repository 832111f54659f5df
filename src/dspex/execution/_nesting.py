"""Which runs wait for the tool that is running here: a tool may run programs itself."""

from __future__ import annotations

from contextvars import ContextVar
from typing import Final

from dspex.errors import UsageError

_DEEPEST: Final = 8

# The executor, the session (or None) and the calls of every run that waits for a tool here, the outermost first. A context
# variable, so that it follows the tool into tasks and `asyncio.to_thread`; threads that a tool starts by hand do not inherit it.
WAITING: Final[ContextVar[tuple[object, ...]]] = ContextVar("dspex_waiting", default=())


def within(executor: object, session: object, calls: object) -> tuple[object, ...]:
    """What `WAITING` is inside a tool of this run. Raises `UsageError` for tools that run programs that call tools ..."""
    chain = WAITING.get()
    if len(chain) >= 3 * _DEEPEST:
        raise UsageError(f"tools ran programs that called tools, {_DEEPEST} deep; no deeper nesting is allowed")
    return (*chain, executor, session, calls)
