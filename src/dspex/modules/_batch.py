"""Batches: one call for each of many items, in threads or in asyncio, with an error budget and time limits.

Theory of operation. Threads take the next item from one shared feed and put what came of it into a queue; the caller's
thread alone reads that queue, counts and decides. A thread cannot be stopped from outside, so one whose call takes
too long is given up: what it may still answer is ignored, it takes no further item, and another thread takes its
place. Whether a call ended in time is settled by who removes it from `_begun`, its thread or the caller's: only one
can. All threads are daemons, so neither a call that hangs nor Ctrl-C keeps the batch or the program waiting.
"""

from __future__ import annotations

import asyncio
import contextvars
import logging
import queue
import threading
import time
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from dspex.errors import BatchError, UsageError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine, Iterable, Sequence
    from contextlib import AbstractContextManager

Item = TypeVar("Item")
AT_ONCE = 8  # calls wait for a model, not for a processor; as many as DSPy has at once

_log = logging.getLogger("dspex.batch")


def run_batch(
    call: Callable[[Item], Any],
    items: Iterable[Item],
    *,
    threads: int | None = None,
    max_errors: int | None = None,
    timeout: float | None = None,
    progress: bool = False,
    return_failed: bool = False,
    traceback: bool = False,
    stragglers: int | None = None,
) -> Any:
    """Call `call(item)` for each item, in `threads` threads (8), and give the results in the order of the items.

    max_errors: how many calls may fail; one more, and the batch is given up. None: any number when `return_failed`
        hands the failures over, otherwise none. A call that failed within the budget has the result None, and is
        told to the logger `dspex.batch`, with its traceback if `traceback` is set.
    timeout: seconds for each call. A call that takes longer failed with TimeoutError; its thread is left to itself.
    stragglers: do not give up on slow calls, but when at most that many are left, start one that exceeded `timeout`
        a second time; the first to answer counts.
    progress: show a bar on stderr.
    return_failed: give `(results, failed_items, exceptions)` instead.

    Each call sees the context variables of the caller, in a copy of its own. One thread and no timeout: the calls are
    made in the caller's own thread. Ctrl-C ends the batch at once.

    Raises BatchError (with `failures` and `results`) when more calls fail than may; UsageError for an option that
    cannot be; what is no Exception (SystemExit) as it comes from a call.
    """
    listed = list(items)
    _check(threads, max_errors, timeout)
    if stragglers is not None and timeout is None:
        raise UsageError("stragglers needs a timeout: without one, no call is slow")
    budget = _Budget(max_errors, return_failed)
    with _bar(progress, len(listed)) as advance:
        tally = _Tally(listed, budget, advance, traceback)
        if threads == 1 and timeout is None:
            _run_here(call, tally)
        else:
            _Crew(call, tally, timeout, stragglers).run(min(threads or AT_ONCE, len(listed)))
        return tally.given()


async def arun_batch(
    call: Callable[[Item], Awaitable[Any]],
    items: Iterable[Item],
    *,
    concurrency: int | None = None,
    max_errors: int | None = None,
    timeout: float | None = None,
    progress: bool = False,
    return_failed: bool = False,
    traceback: bool = False,
) -> Any:
    """Await `call(item)` for each item, `concurrency` (8) at once, and give the results in the order of the items.

    As `run_batch`, but a call that exceeds `timeout` is cancelled, and so are all that run when the batch is given up
    or is cancelled itself.
    """
    listed = list(items)
    _check(concurrency, max_errors, timeout)
    budget = _Budget(max_errors, return_failed)
    with _bar(progress, len(listed)) as advance:
        tally = _Tally(listed, budget, advance, traceback)
        await _all_of([_take(call, tally, timeout) for _ in range(min(concurrency or AT_ONCE, len(listed)))])
        return tally.given()


# --- what all ways have in common ---


class _Budget(NamedTuple):
    """How many calls may fail, and whether their failures are handed over."""

    max_errors: int | None
    return_failed: bool

    def exceeded_by(self, failures: int) -> bool:
        if self.max_errors is None:
            return failures > 0 and not self.return_failed
        return failures > self.max_errors


class _Outcome(NamedTuple):
    """What came of the call for one item: a result, or an error."""

    place: int
    result: Any
    error: BaseException | None


class _Tally:
    """What came of the items so far, and the feed of those that nobody has taken yet.

    One thread settles; any may take from `feed`, which is one step that no other thread can break into.
    """

    def __init__(self, items: Sequence[Any], budget: _Budget, advance: Callable[[], None], traceback: bool) -> None:
        self.items = items
        self.feed = iter(range(len(items)))
        self.open = set(range(len(items)))
        self.results: list[Any] = [None] * len(items)
        self.failures: dict[int, Exception] = {}
        self._budget = budget
        self._advance = advance
        self._traceback = traceback

    def settle(self, outcome: _Outcome) -> None:
        """Note what came of an item, unless that is known. Raises BatchError when it was one failure too many."""
        index, result, error = outcome
        if index not in self.open:
            return
        if error is not None and not isinstance(error, Exception):
            raise error  # SystemExit, KeyboardInterrupt: not the call failed, but the program is to end
        self.open.discard(index)
        self._advance()
        self.results[index] = result
        if error is not None:
            self.failures[index] = error
            self._judge(index, error)

    def _judge(self, index: int, error: Exception) -> None:
        cause = f"{type(error).__name__}: {error}"
        if self._budget.exceeded_by(len(self.failures)):
            raise BatchError(
                f"{len(self.failures)} of {len(self.items)} calls failed, which is more than may; "
                f"the last was item {index}: {cause}",
                failures=sorted(self.failures.items(), key=lambda failure: failure[0]),
                results=self.results,
            ) from error
        if not self._budget.return_failed:
            _log.warning("item %d failed: %s", index, cause, exc_info=error if self._traceback else None)

    def given(self) -> Any:
        """What the caller gets."""
        if not self._budget.return_failed:
            return self.results
        failed = sorted(self.failures)
        return self.results, [self.items[i] for i in failed], [self.failures[i] for i in failed]


def _check(at_once: int | None, max_errors: int | None, timeout: float | None) -> None:
    if at_once is not None and at_once < 1:
        raise UsageError(f"at least one call must be made at once, not {at_once}")
    if max_errors is not None and max_errors < 0:
        raise UsageError(f"max_errors must be 0 or more, not {max_errors}")
    if timeout is not None and not timeout > 0:
        raise UsageError(f"timeout must be more than 0 seconds, or None for no limit, not {timeout}")


def _slow(timeout: float) -> TimeoutError:
    return TimeoutError(f"no answer within {timeout:g} s")


def _bar(progress: bool, total: int) -> AbstractContextManager[Callable[[], None]]:
    return _Bar(total) if progress else nullcontext(lambda: None)


class _Bar:
    """A bar on stderr that advances by one each time it is called."""

    def __init__(self, total: int) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        columns = (TextColumn("batch"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        self._progress = Progress(*columns, console=Console(stderr=True))
        self._task = self._progress.add_task("batch", total=total)

    def __enter__(self) -> Callable[[], None]:
        self._progress.start()
        return lambda: self._progress.advance(self._task)

    def __exit__(self, *_: object) -> None:
        self._progress.stop()


# --- in threads ---


def _run_here(call: Callable[[Any], Any], tally: _Tally) -> None:
    context = contextvars.copy_context()
    for index in tally.feed:
        tally.settle(_called(call, tally.items[index], index, context.copy()))


def _called(call: Callable[[Any], Any], item: Any, index: int, context: contextvars.Context) -> _Outcome:
    try:
        return _Outcome(index, context.run(call, item), None)
    except BaseException as error:  # whatever it is, the caller's thread must hear of it
        return _Outcome(index, None, error)


class _Crew:
    """The threads of one batch, and the caller's thread that waits for them."""

    def __init__(
        self, call: Callable[[Any], Any], tally: _Tally, timeout: float | None, stragglers: int | None
    ) -> None:
        self._call = call
        self._tally = tally
        self._timeout = timeout
        self._stragglers = stragglers
        self._context = contextvars.copy_context()
        self._outcomes: queue.SimpleQueue[_Outcome] = queue.SimpleQueue()
        self._begun: dict[int, float] = {}  # when the call for an item began, as long as it counts
        self._ended = False

    def run(self, threads: int) -> None:
        """Start the threads and wait until every item is settled."""
        try:
            for _ in range(threads):
                self._start(self._take)
            while self._tally.open:
                self._wait()
        finally:
            self._ended = True

    def _start(self, work: Callable[..., None], *arguments: int) -> None:
        threading.Thread(target=work, args=arguments, name="dspex-batch", daemon=True).start()

    def _take(self) -> None:
        for index in self._tally.feed:
            self._begun[index] = time.monotonic()
            outcome = self._once(index)
            in_time = self._begun.pop(index, None) is not None
            self._outcomes.put(outcome)
            if self._ended or not in_time:  # when it was too slow, another thread is in this one's place
                return

    def _take_again(self, index: int) -> None:
        self._outcomes.put(self._once(index))

    def _once(self, index: int) -> _Outcome:
        return _called(self._call, self._tally.items[index], index, self._context.copy())

    def _wait(self) -> None:
        try:
            self._tally.settle(self._outcomes.get(timeout=self._patience()))
        except queue.Empty:
            self._give_up_slow()

    def _patience(self) -> float | None:
        """Seconds until a call may be too slow; a call that begins meanwhile has longer."""
        many_left = self._stragglers is not None and len(self._tally.open) > self._stragglers
        if self._timeout is None or many_left:
            return None
        now = time.monotonic()
        oldest = min(self._begun.copy().values(), default=now)
        return max(0.0, oldest + self._timeout - now)

    def _give_up_slow(self) -> None:
        timeout = self._timeout or 0.0
        limit = time.monotonic() - timeout
        slow = [index for index, begun in self._begun.copy().items() if begun <= limit]
        for index in slow:
            if self._begun.pop(index, None) is not None:
                self._give_up(index, timeout)

    def _give_up(self, index: int, timeout: float) -> None:
        if self._stragglers is not None:
            self._start(self._take_again, index)
        else:
            self._start(self._take)
            self._tally.settle(_Outcome(index, None, _slow(timeout)))


# --- in asyncio ---


async def _all_of(works: list[Coroutine[Any, Any, None]]) -> None:
    """Await all; when one raises, or this is cancelled, the others are cancelled and have ended before it goes on."""
    tasks = [asyncio.create_task(work) for work in works]
    try:
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _take(call: Callable[[Any], Awaitable[Any]], tally: _Tally, timeout: float | None) -> None:
    for index in tally.feed:
        tally.settle(await _awaited(call, tally.items[index], index, timeout))


async def _awaited(call: Callable[[Any], Awaitable[Any]], item: Any, index: int, timeout: float | None) -> _Outcome:
    limit = asyncio.timeout(timeout)
    try:
        async with limit:
            # A task of its own: what a call sets in its context, the next one does not see.
            return _Outcome(index, await asyncio.create_task(_as_coroutine(call, item)), None)
    except TimeoutError as error:
        return _Outcome(index, None, _slow(timeout) if timeout and limit.expired() else error)
    except Exception as error:
        return _Outcome(index, None, error)


async def _as_coroutine(call: Callable[[Any], Awaitable[Any]], item: Any) -> Any:
    return await call(item)
