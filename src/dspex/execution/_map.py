"""`CodeExecutor.map`: many runs driven by one thread, results in order, memory bounded.

Theory of operation. The consumer's own thread polls the channels of all runs under way, so there is no handing over between
threads. A caller in the pool's line wakes the poll through an event descriptor. At most `concurrency` runs are under way and
`_ROOM` times as many jobs are drawn ahead of the one that is to be yielded next. What goes wrong (with a job, with the
iterable that gives them, with the engine) is raised when its turn comes, behind the results of the jobs before it.

A run with tools is driven by a task in the executor's workshop instead, so that a tool never stops the poll, nor the consumer
a tool.

A generator stands still while its consumer is away, and the consumer may well be waiting for a place that these very runs
hold: `for result in executor.map(...): executor.execute(...)`. So when somebody waits for a place, the pool's keeper calls
`advance`: it starts and reads what it can, and gives free the places of runs that are over.
"""

from __future__ import annotations

import os
import select
import socket
import threading
import time
from collections import deque
from typing import TYPE_CHECKING, Final

from dspex.errors import ClosedError
from dspex.execution._job import Job
from dspex.execution._run import Run, adrive, send

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from concurrent.futures import Future

    from dspex.execution._executor import CodeExecutor
    from dspex.execution._job import Prepared
    from dspex.execution._line import Caller
    from dspex.execution._pool import Pool
    from dspex.execution._result import ExecutionResult

_ROOM: Final = 4
_LAST_BREATH: Final = 1.0  # seconds for the task of a run whose guest was killed to be over
_END: Final = object()


class _Ticket:
    """A job on its way: waiting for its turn, running, or finished with an outcome or an error."""

    __slots__ = ("begun", "caller", "error", "outcome", "run", "task")

    def __init__(self) -> None:
        self.begun = time.perf_counter()
        self.caller: Caller | None = None
        self.run: Run | None = None
        self.task: Future[None] | None = None  # which drives the run, if it has tools
        self.outcome: ExecutionResult | None = None
        self.error: Exception | None = None

    @property
    def finished(self) -> bool:
        return self.outcome is not None or self.error is not None

    @property
    def driven(self) -> bool:
        """True when nobody moves the run any more."""
        return self.task.done() if self.task is not None else self.run is not None and self.run.over

    def result(self) -> ExecutionResult:
        """The outcome of a finished job. Raises its error."""
        if self.outcome is None:
            raise self.error or RuntimeError("the job is not finished")
        return self.outcome


def run_all(executor: CodeExecutor, jobs: Iterable[str | Job], concurrency: int) -> Iterator[ExecutionResult]:
    """Yield the results of `jobs` in order."""
    flight = Flight(executor, concurrency)
    try:
        yield from flight.fly(iter(jobs))
    finally:
        flight.close()


class Flight:
    """One `map` under way. Its lock is held by whoever moves it on: the consumer, or the keeper in between."""

    def __init__(self, executor: CodeExecutor, concurrency: int) -> None:
        self._executor = executor
        self._pool: Pool = executor.pool()
        self._concurrency = concurrency
        self._lock = threading.Lock()
        self._bell = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._bell_lock = threading.Lock()
        self._poll = select.poll()
        self._poll.register(self._bell, select.POLLIN)
        self._order: deque[_Ticket] = deque()
        self._waiting: dict[_Ticket, Prepared] = {}
        self._running: dict[int, _Ticket] = {}
        self._pool.flights.add(self)

    def fly(self, jobs: Iterator[str | Job]) -> Iterator[ExecutionResult]:
        """Yield the results in order. Raises whatever a job or the iterable ran into, when its turn comes."""
        more = True
        while more or self._order:
            while more and self._has_room():
                more = self._draw(jobs)
            while self._order and self._order[0].finished:
                yield self._order.popleft().result()
            if self._waiting or self._running:
                self._turn()

    def advance(self) -> None:
        """For the keeper, while the consumer is away: give free the places of runs that are over."""
        if not self._lock.acquire(blocking=False):
            return
        try:
            self._move(0)
            for ticket in self._running.values():
                if ticket.run is not None and ticket.run.over and ticket.caller is not None:
                    self._pool.leave(ticket.caller)
        finally:
            self._lock.release()

    def close(self) -> None:
        """Let go of whatever is still under way: the consumer went away."""
        self._pool.flights.discard(self)
        with self._lock:
            for ticket in self._waiting:
                if ticket.caller is not None:
                    self._pool.give_up(ticket.caller)
            for ticket in list(self._running.values()):
                if ticket.run is not None:
                    ticket.run.guest.kill()
                    self._release(ticket)
        with self._bell_lock:
            os.close(self._bell)
            self._bell = -1

    def _has_room(self) -> bool:
        active = len(self._waiting) + len(self._running)
        return active < self._concurrency and len(self._order) < self._concurrency * _ROOM

    def _draw(self, jobs: Iterator[str | Job]) -> bool:
        """Take the next job, if there is one; False when there will be no more."""
        ticket = _Ticket()
        try:
            job = next(jobs, _END)
            if job is _END:
                return False
            prepared = self._executor.prepare(job if isinstance(job, Job) else Job(job))  # type: ignore[arg-type]
            ticket.caller = self._pool.joiner(prepared.imports, needs_place=True)(self._ring)
        except Exception as error:  # raised to the consumer, in its turn
            ticket.error = error
            self._order.append(ticket)
            return False
        self._order.append(ticket)
        with self._lock:
            self._waiting[ticket] = prepared
            if ticket.caller.served:
                self._start_served()
        return True

    def _ring(self) -> None:
        with self._bell_lock:
            if self._bell >= 0:
                os.eventfd_write(self._bell, 1)

    def _turn(self) -> None:
        with self._lock:
            if not any(ticket.driven for ticket in self._running.values()):
                patience = [ticket.run.patience() for ticket in self._running.values() if ticket.run is not None]
                self._move(min(patience) * 1000 + 1 if patience else None)
            for ticket in list(self._running.values()):
                self._settle(ticket)

    def _move(self, patience: float | None) -> None:
        """Wait up to so many milliseconds for something to happen, and take it in."""
        events = dict(self._poll.poll(patience))
        if events.pop(self._bell, None):
            os.eventfd_read(self._bell)
            self._start_served()
        for descriptor, ticket in self._running.items():
            run = ticket.run
            if run is None or run.over or ticket.task is not None:
                continue
            if descriptor in events:
                _read(run)
            elif run.due:
                run.look()

    def _start_served(self) -> None:
        for ticket in [ticket for ticket in self._waiting if ticket.caller is not None and ticket.caller.served]:
            prepared = self._waiting.pop(ticket)
            assert ticket.caller is not None  # just looked at
            if ticket.caller.error is not None:
                ticket.error = ticket.caller.error
            else:
                self._start(ticket, ticket.caller, prepared)

    def _start(self, ticket: _Ticket, caller: Caller, prepared: Prepared) -> None:
        guest = caller.guest
        assert guest is not None  # a served caller with a lane holds one
        waited = time.perf_counter() - ticket.begun
        run = self._executor.begin(self._pool, guest, prepared, waited, started_cpu=0.0)
        ticket.run = run
        self._running[guest.channel.fileno()] = ticket
        if prepared.calls is not None:
            ticket.task = self._executor.workshop().begin(adrive(run), prepared.calls.context)
            ticket.task.add_done_callback(lambda _: self._ring())
        else:
            self._poll.register(guest.channel, select.POLLIN)
            try:
                send(guest.channel, run.message, run.left())
            except OSError:
                run.feed(b"")
        self._pool.refill(caller)

    def _settle(self, ticket: _Ticket) -> None:
        run = ticket.run
        if run is None or not ticket.driven:
            return
        try:
            if ticket.task is not None:
                _check(ticket.task)
            ticket.outcome = run.result(self._pool.report)
        except Exception as error:  # raised to the consumer, in its turn
            ticket.error = error
        finally:
            self._release(ticket)

    def _release(self, ticket: _Ticket) -> None:
        assert ticket.run is not None  # only what runs is released
        assert ticket.caller is not None
        guest = ticket.run.guest
        if ticket.task is None:
            self._poll.unregister(guest.channel)
        elif not ticket.task.done():
            from concurrent import futures  # loaded by whoever made the task

            futures.wait([ticket.task], _LAST_BREATH)  # the guest was killed: it ends by itself
        del self._running[guest.channel.fileno()]
        self._pool.discard(guest)
        self._pool.leave(ticket.caller)


def _check(task: Future[None]) -> None:
    """Raise what went wrong while a run was driven, if anything did."""
    if task.cancelled():
        raise ClosedError("the executor was closed while this program ran")
    task.result()


def _read(run: Run) -> None:
    try:
        message = run.feed(run.guest.channel.recv(run.exchange.wanted, socket.MSG_DONTWAIT))
        if message is not None:
            send(run.guest.channel, message, run.left())
    except BlockingIOError:
        return
    except OSError:
        run.feed(b"")
