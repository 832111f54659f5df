"""Who runs next: the queue of callers, as pure decisions without a lock, a thread or a descriptor.

Theory of operation. A caller needs up to two things: a *place* (at most `places` programs run at once) and a *guest* of one lane
(a lane is one kind of zygote: its preloads). Places go out in the order of arrival; whoever has a place then waits for a guest
of its lane, in order. A session that runs again needs a place only, a session that opens a guest only.

Every method returns the callers that are served now, for the pool to wake them after it has let go of its lock.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from dspex.errors import QueueFullError

if TYPE_CHECKING:
    from collections.abc import Callable

    from dspex._sandbox.process import Guest


class Caller:
    """Somebody who waits. `wake` is called once, from any thread, when it is served or has failed."""

    __slots__ = ("error", "guest", "lane", "needs_place", "placed", "served", "wake")

    def __init__(self, lane: Lane | None, *, needs_place: bool, wake: Callable[[], None]) -> None:
        self.lane = lane
        self.needs_place = needs_place
        self.wake = wake
        self.placed = False
        self.served = False
        self.guest: Guest | None = None
        self.error: Exception | None = None


class Lane:
    """The guests of one zygote that wait for work, and the callers that wait for them."""

    def __init__(self, imports: tuple[str, ...]) -> None:
        self.imports = imports
        self.ready: deque[Guest] = deque()
        self.callers: deque[Caller] = deque()
        self.coming: set[int] = set()  # serials of guests that were asked for and have not said hello yet

    def shortage(self, ahead: int) -> int:
        """How many guests to ask for, so that every caller is served and `ahead` more wait."""
        return max(0, len(self.callers) + ahead - len(self.ready) - len(self.coming))


class Line:
    """The queue in front of all lanes."""

    def __init__(self, places: int, bound: int) -> None:
        self.places = places
        self.bound = bound
        self.running = 0
        self._waiting: deque[Caller] = deque()

    @property
    def blocked(self) -> bool:
        """True while somebody waits for a place."""
        return bool(self._waiting)

    def join(self, caller: Caller) -> list[Caller]:
        """Take a caller in. Raises `QueueFullError` when more than `bound` wait."""
        if caller.needs_place:
            if self.running >= self.places and len(self._waiting) >= self.bound:
                raise QueueFullError(
                    f"{len(self._waiting):,} callers wait already, as many as the queue holds; "
                    "run fewer at once, or give CodeExecutor a larger queue"
                )
            self._waiting.append(caller)
            return self._place()
        return self._next_step(caller)

    def leave(self) -> list[Caller]:
        """A place became free."""
        self.running -= 1
        return self._place()

    def arrive(self, lane: Lane, guest: Guest) -> list[Caller]:
        """A guest became ready."""
        lane.ready.append(guest)
        return self._match(lane)

    def give_up(self, caller: Caller) -> list[Caller]:
        """A caller no longer waits: take back what it holds, or its turn."""
        if caller in self._waiting:
            self._waiting.remove(caller)
        if caller.lane is not None and caller in caller.lane.callers:
            caller.lane.callers.remove(caller)
        served: list[Caller] = []
        if caller.guest is not None and caller.lane is not None:
            served += self.arrive(caller.lane, caller.guest)
            caller.guest = None
        if caller.placed:
            caller.placed = False
            served += self.leave()
        return served

    def fail(self, lane: Lane, error: Exception) -> list[Caller]:
        """No guest of this lane will come: tell those who wait for one."""
        told: list[Caller] = []
        while lane.callers:  # a place that becomes free may go to one more of them
            caller = lane.callers.popleft()
            caller.error = error
            caller.served = True
            told.append(caller)
            if caller.placed:
                caller.placed = False
                told += self.leave()
        return told

    def empty(self, error: Exception) -> list[Caller]:
        """Everybody in the queue fails with `error`."""
        failed = [*self._waiting]
        self._waiting.clear()
        for caller in failed:
            caller.error = error
            caller.served = True
        return failed

    def _place(self) -> list[Caller]:
        served: list[Caller] = []
        while self._waiting and self.running < self.places:
            caller = self._waiting.popleft()
            self.running += 1
            caller.placed = True
            served += self._next_step(caller)
        return served

    def _next_step(self, caller: Caller) -> list[Caller]:
        if caller.lane is None:
            caller.served = True
            return [caller]
        caller.lane.callers.append(caller)
        return self._match(caller.lane)

    def _match(self, lane: Lane) -> list[Caller]:
        served: list[Caller] = []
        while lane.callers and lane.ready:
            caller = lane.callers.popleft()
            caller.guest = lane.ready.popleft()
            caller.served = True
            served.append(caller)
        return served
