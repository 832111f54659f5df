"""What a run tells while it goes on: `Output` as it is printed, displays, tool calls, and `Finished` last."""

from __future__ import annotations

import codecs
import os
from contextlib import aclosing
from typing import TYPE_CHECKING, NamedTuple

from dspex.execution._attend import aattend, attend
from dspex.execution._displays import Display
from dspex.execution._tools import ToolCall, ToolReturn

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from typing import Literal

    from dspex._sandbox.process import Guest
    from dspex.execution._executor import CodeExecutor
    from dspex.execution._job import Prepared
    from dspex.execution._result import ExecutionResult


class Output(NamedTuple):
    """Text that the program printed; a line that is not finished comes when it is, or at the program's end."""

    stream: Literal["stdout", "stderr"]
    text: str


class Finished(NamedTuple):
    """The last event."""

    result: ExecutionResult


Event = Output | Display | ToolCall | ToolReturn | Finished


class _Tail:
    """One output file, read as it grows; a character that is cut in two waits for its rest."""

    def __init__(self, stream: Literal["stdout", "stderr"], descriptor: int, limit: int) -> None:
        self._stream = stream
        self._descriptor = descriptor
        self._limit = limit
        self._read = 0
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")

    def grown(self, most: int, *, final: bool) -> str:
        """What came since the last time, up to an offset of `most` bytes."""
        end = min(os.lseek(self._descriptor, 0, os.SEEK_CUR), most)  # the guest shares the offset
        data = os.pread(self._descriptor, end - self._read, self._read) if end > self._read else b""
        self._read += len(data)
        return self._decoder.decode(data, final)

    def events(self, most: int | None = None, *, final: bool = False) -> Iterator[Output]:
        """The same as an event, if there is anything."""
        if text := self.grown(self._limit if most is None else min(most, self._limit), final=final):
            yield Output(self._stream, text)


class Tails:
    """Both output files of a guest, from where they stand: its runs begin at the start."""

    def __init__(self, guest: Guest, limit: int) -> None:
        self._tails = (_Tail("stdout", guest.out, limit), _Tail("stderr", guest.err, limit))

    def events(self, *, before: Display | None = None, final: bool = False) -> Iterator[Output]:
        """What was printed since the last time; to stdout only, where it is what came before a display."""
        out, err = self._tails
        if before is not None:
            yield from out.events(before.offset)
            return
        yield from out.events(final=final)
        yield from err.events(final=final)


def fresh(executor: CodeExecutor, prepared: Prepared) -> Iterator[Event]:
    """Stream a run in a guest of its own."""
    pool, caller, waited = executor.acquire(prepared.imports, needs_place=executor.needs_place())
    guest = caller.guest
    assert guest is not None  # a served caller with a lane holds one
    try:
        run = executor.begin(pool, guest, prepared, waited, started_cpu=0.0)
        pool.refill(caller)
        tails = Tails(guest, executor.limits.output)
        yield from attend(run, tails)
        run.settle()
        yield from tails.events(final=True)
        result = run.result(pool.report)
    except BaseException:
        guest.kill()
        raise
    finally:
        pool.discard(guest)
        pool.leave(caller)
    yield Finished(result)


async def afresh(executor: CodeExecutor, prepared: Prepared) -> AsyncIterator[Event]:
    """`fresh` for event loops."""
    pool, caller, waited = await executor.aacquire(prepared.imports, needs_place=executor.needs_place())
    guest = caller.guest
    assert guest is not None  # a served caller with a lane holds one
    try:
        run = await executor.abegin(pool, guest, prepared, waited, started_cpu=0.0)
        pool.refill(caller)
        tails = Tails(guest, executor.limits.output)
        async with aclosing(aattend(run, tails)) as events:
            async for event in events:
                yield event
        run.settle()
        for event in tails.events(final=True):
            yield event
        result = run.result(pool.report)
    except BaseException:
        guest.kill()
        raise
    finally:
        pool.discard(guest)
        pool.leave(caller)
    yield Finished(result)
