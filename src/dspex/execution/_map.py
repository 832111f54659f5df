"""`CodeExecutor.map`: many runs driven by one thread, results in order, memory bounded.

Theory of operation. The caller's own thread polls the channels of all runs under way, so there is no handing over between
threads. A caller in the pool's line wakes the poll through an event descriptor. At most `concurrency` runs are under way and
as many more finished ones wait for an earlier one; the next job is drawn only when there is room for it.
"""

from __future__ import annotations

import os
import select
import time
from collections import deque
from typing import TYPE_CHECKING

from dspex.execution._job import Job
from dspex.execution._line import Caller
from dspex.execution._run import Run, send

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from dspex.execution._executor import CodeExecutor
    from dspex.execution._job import Prepared
    from dspex.execution._pool import Pool
    from dspex.execution._result import ExecutionResult

_ROOM = 4  # finished results that may wait for an earlier one, for each run under way


class _Ticket:
    """A job on its way: waiting for its turn, running, or finished."""

    __slots__ = ("begun", "caller", "outcome", "prepared", "run")

    def __init__(self, prepared: Prepared) -> None:
        self.prepared = prepared
        self.begun = time.perf_counter()
        self.caller: Caller | None = None
        self.run: Run | None = None
        self.outcome: ExecutionResult | None = None


def run_all(executor: CodeExecutor, jobs: Iterable[str | Job], concurrency: int) -> Iterator[ExecutionResult]:
    """Yield the results of `jobs` in order."""
    flight = _Flight(executor, concurrency)
    try:
        yield from flight.fly(iter(jobs))
    finally:
        flight.close()


class _Flight:
    """One `map` under way."""

    def __init__(self, executor: CodeExecutor, concurrency: int) -> None:
        self._executor = executor
        self._pool: Pool = executor.pool()
        self._concurrency = concurrency
        self._bell = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._poll = select.poll()
        self._poll.register(self._bell, select.POLLIN)
        self._order: deque[_Ticket] = deque()
        self._waiting: list[_Ticket] = []
        self._running: dict[int, _Ticket] = {}

    def fly(self, jobs: Iterator[str | Job]) -> Iterator[ExecutionResult]:
        more = True
        while more or self._order:
            while more and self._has_room():
                job = next(jobs, None)
                if job is None:
                    more = False
                else:
                    self._queue(job)
            while self._order and self._order[0].outcome is not None:
                yield self._order.popleft().outcome  # type: ignore[misc]  # just checked
            if self._waiting or self._running:
                self._turn()

    def close(self) -> None:
        """Let go of whatever is still under way: the consumer went away."""
        for ticket in self._waiting:
            if ticket.caller is not None:
                self._pool.give_up(ticket.caller)
        for ticket in list(self._running.values()):
            if ticket.run is not None:
                ticket.run.guest.kill()
                self._release(ticket)
        os.close(self._bell)
        self._bell = -1

    def _has_room(self) -> bool:
        active = len(self._waiting) + len(self._running)
        return active < self._concurrency and len(self._order) < self._concurrency * _ROOM

    def _queue(self, job: str | Job) -> None:
        prepared = self._executor.prepare(job if isinstance(job, Job) else Job(job))
        ticket = _Ticket(prepared)
        ticket.caller = self._pool.join(lambda lane: Caller(lane, needs_place=True, wake=self._ring), prepared.imports)
        self._order.append(ticket)
        self._waiting.append(ticket)
        if ticket.caller.served:
            self._start_served()

    def _ring(self) -> None:
        if self._bell >= 0:
            os.eventfd_write(self._bell, 1)

    def _turn(self) -> None:
        patience = [ticket.run.patience() for ticket in self._running.values() if ticket.run is not None]
        events = self._poll.poll(min(patience) * 1000 + 1 if patience else None)
        for descriptor, _ in events:
            if descriptor == self._bell:
                os.eventfd_read(self._bell)
                self._start_served()
            else:
                self._read(self._running[descriptor])
        if not events:
            for ticket in list(self._running.values()):
                if ticket.run is not None and ticket.run.patience() <= 0:
                    ticket.run.look()
                    self._settle(ticket)

    def _start_served(self) -> None:
        for ticket in [t for t in self._waiting if t.caller is not None and t.caller.served]:
            self._waiting.remove(ticket)
            self._start(ticket)

    def _start(self, ticket: _Ticket) -> None:
        caller = ticket.caller
        assert caller is not None  # a ticket that waits has joined the line
        if caller.error is not None or caller.guest is None:
            raise caller.error or RuntimeError("a served caller has neither guest nor error")
        guest = caller.guest
        waited = time.perf_counter() - ticket.begun
        run = self._executor.begin(self._pool, guest, ticket.prepared, waited, started_cpu=0.0)
        ticket.run = run
        self._running[guest.channel.fileno()] = ticket
        try:
            send(guest.channel, run.message, run.patience)
        except OSError:
            run.feed(b"")
        self._pool.refill(caller)
        self._poll.register(guest.channel, select.POLLIN)
        self._settle(ticket)

    def _read(self, ticket: _Ticket) -> None:
        run = ticket.run
        assert run is not None  # it is in the poll set
        try:
            message = run.feed(run.guest.channel.recv(run.exchange.wanted))
            if message is not None:
                send(run.guest.channel, message, run.patience)
        except OSError:
            run.feed(b"")
        self._settle(ticket)

    def _settle(self, ticket: _Ticket) -> None:
        run = ticket.run
        if run is None or not run.over:
            return
        try:
            ticket.outcome = run.result(self._pool.report)
        finally:
            self._release(ticket)

    def _release(self, ticket: _Ticket) -> None:
        assert ticket.run is not None  # only what runs is released
        assert ticket.caller is not None
        guest = ticket.run.guest
        self._poll.unregister(guest.channel)
        del self._running[guest.channel.fileno()]
        self._pool.discard(guest)
        self._pool.leave(ticket.caller)
