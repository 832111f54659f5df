"""Waiting in a line of callers, by blocking a thread or by awaiting; and `Turn`, a fair lock for threads and tasks alike."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

from dspex.execution._line import Caller, Line

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

    Join = Callable[[Callable[[], None]], Caller]  # takes how to wake the caller, returns it as it stands in the line
    GiveUp = Callable[[Caller], None]


def wait(join: Join, give_up: GiveUp) -> tuple[Caller, float]:
    """Join a line and block until served: the caller, and the seconds that it waited. Raises the caller's error."""
    signal = threading.Lock()
    signal.acquire()
    caller = join(signal.release)
    if caller.served and caller.error is None:
        return caller, 0.0
    begun = time.perf_counter()
    try:
        signal.acquire()
    except BaseException:
        give_up(caller)
        raise
    return _served(caller), time.perf_counter() - begun


async def await_turn(join: Join, give_up: GiveUp) -> tuple[Caller, float]:
    """`wait` for event loops."""
    import asyncio

    loop = asyncio.get_running_loop()
    turn: asyncio.Future[None] = loop.create_future()
    home = threading.get_ident()

    def wake() -> None:
        try:
            if threading.get_ident() == home:
                _resolve(turn)  # by the loop itself, which need not be woken up
            else:
                loop.call_soon_threadsafe(_resolve, turn)
        except RuntimeError:  # the loop is closed: the caller is no more
            give_up(caller)

    caller = join(wake)
    if caller.served and caller.error is None:
        return caller, 0.0
    begun = time.perf_counter()
    try:
        await turn
    except BaseException:
        give_up(caller)
        raise
    return _served(caller), time.perf_counter() - begun


def _served(caller: Caller) -> Caller:
    if caller.error is not None:
        raise caller.error
    return caller


def _resolve(turn: asyncio.Future[None]) -> None:
    if not turn.done():
        turn.set_result(None)


class Turn:
    """A lock that threads and tasks of any event loop get in the order in which they came."""

    def __init__(self) -> None:
        self._line = Line(1, 1 << 30)
        self._lock = threading.Lock()

    def acquire(self) -> None:
        """Block until it is ours."""
        wait(self._join, self._give_up)

    async def aacquire(self) -> None:
        """Await until it is ours."""
        await await_turn(self._join, self._give_up)

    def try_acquire(self) -> bool:
        """Take it if nobody has it."""
        with self._lock:
            if self._line.running:
                return False
            self._line.running = 1
            return True

    def release(self) -> None:
        """Let the next one have it."""
        with self._lock:
            served = self._line.leave()
        for caller in served:
            caller.wake()

    def _join(self, wake: Callable[[], None]) -> Caller:
        caller = Caller(None, needs_place=True, wake=wake)
        with self._lock:
            served = self._line.join(caller)
        for other in served:
            if other is not caller:
                other.wake()
        return caller

    def _give_up(self, caller: Caller) -> None:
        with self._lock:
            served = self._line.give_up(caller)
        for other in served:
            other.wake()
