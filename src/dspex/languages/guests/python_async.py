"""Programs that await at their top level, on an event loop that lives as long as the session.

Theory of operation. The loop is made when a program first needs it, and runs only while one does: tasks that are left over
stand still between two calls and go on with the next that awaits. It polls without an object of the kernel's (epoll would
be shared with every copy of this process).
"""

from __future__ import annotations

import types
from typing import TYPE_CHECKING, Any, Final

from . import python_interrupts as interrupts

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Coroutine

COROUTINE: Final = 0x80  # of a code object's flags (inspect.CO_COROUTINE): it awaits

_loop: asyncio.AbstractEventLoop | None = None


def run(body: types.CodeType | None, last: types.CodeType | None, names: dict[str, Any]) -> object:
    """The value of the program's last expression. Raises what the program raises, and what interrupts it."""
    loop = _opened()
    program = _program(body, last, names)
    main = loop.create_task(program)
    try:
        return loop.run_until_complete(main)
    except BaseException as error:
        kind = interrupts.due
        if kind is None:
            raise
        interrupts.running = False  # from here on only the hard deadline counts
        trace = error.__traceback__ if _within(error.__traceback__) else _where(program)
        _abandon(loop, main)
        raise kind().with_traceback(trace) from None


async def _program(body: types.CodeType | None, last: types.CodeType | None, names: dict[str, Any]) -> object:
    value = None
    for code in (body, last):
        value = None if code is None else eval(code, names)
        if code is not None and code.co_flags & COROUTINE:
            value = await value  # type: ignore[misc]  # a coroutine, as the flag says
    return value if last is not None else None


def _opened() -> asyncio.AbstractEventLoop:
    global _loop
    if _loop is None or _loop.is_closed():  # a program may have closed it
        import asyncio
        import selectors

        _loop = asyncio.SelectorEventLoop(selectors.PollSelector())
        asyncio.set_event_loop(_loop)
    return _loop


def part() -> None:
    """In a copy of this process: the loop is woken by a socket pair of its own, not by the one that its parent reads too.

    Its pool of threads is made anew: those that it counts on have not followed.
    """
    if _loop is None or _loop.is_closed():
        return
    import signal

    loop: Any = _loop  # asyncio has no public word for this
    woken, own = signal.set_wakeup_fd(-1), loop._csock.fileno()
    loop._default_executor = None
    loop._close_self_pipe()
    loop._make_self_pipe()
    signal.set_wakeup_fd(loop._csock.fileno() if woken == own else woken)


def _abandon(loop: asyncio.AbstractEventLoop, main: asyncio.Task[object]) -> None:
    """Let an interrupted program clean up: cancelled, it runs once more, up to its next await."""
    if not main.done():
        main.cancel()
        loop.call_soon(loop.stop)
        loop.run_forever()
    if main.done() and not main.cancelled():
        main.exception()  # so that nobody complains that it was never asked for


def _within(trace: types.TracebackType | None) -> bool:
    """True if one of the program's own frames is in the traceback."""
    while trace is not None:
        if trace.tb_frame.f_code.co_filename.startswith("<program"):
            return True
        trace = trace.tb_next
    return False


def _where(waiting: Coroutine[Any, Any, object] | None) -> types.TracebackType | None:
    """Where a suspended program stands, as a traceback of its own frames."""
    frames = []
    while waiting is not None:
        frame = getattr(waiting, "cr_frame", None)
        if frame is not None and frame.f_code.co_filename.startswith("<program"):
            frames.append(frame)
        waiting = getattr(waiting, "cr_await", None)
    trace = None
    for frame in reversed(frames):
        trace = types.TracebackType(trace, frame, frame.f_lasti, frame.f_lineno)
    return trace
