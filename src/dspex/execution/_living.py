"""`Living`: the guest behind a session: whose turn it is, how a run in it goes, and how it comes to its end."""

from __future__ import annotations

import math
import signal
import threading
from contextlib import aclosing, contextmanager
from typing import TYPE_CHECKING

from dspex._kernel import resources
from dspex.errors import ClosedError, UsageError
from dspex.execution._nesting import WAITING
from dspex.execution._run import adrive, drive
from dspex.execution._tree import tune
from dspex.execution._turn import Turn

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterator

    from dspex._sandbox.process import Guest
    from dspex.execution._calls import Calls, PendingCall
    from dspex.execution._executor import CodeExecutor
    from dspex.execution._job import Prepared
    from dspex.execution._pool import Pool
    from dspex.execution._result import ExecutionResult
    from dspex.execution._run import Run
    from dspex.execution._stream import Event
    from dspex.execution._tools import Tools
    from dspex.execution._tree import Tree


class Living:
    """Takes turns: whoever has the turn speaks with the guest, opens it, and lets go of it when it has ended."""

    def __init__(
        self,
        executor: CodeExecutor,
        imports: tuple[str, ...],
        *,
        tools: Tools | None = None,
        ends_on_timeout: bool = False,
        seed: int | None = None,
    ) -> None:
        self._executor = executor
        self._imports = imports
        self._restored: tuple[str, ...] = ()  # what the session that this one was restored from had imported
        self._tools = tools
        self._ends_on_timeout = ends_on_timeout
        self._seed = seed
        self._turn = Turn()
        self._guest: Guest | None = None
        self._pool: Pool | None = None
        self._ended = ""
        self._tree: Tree | None = None  # from the first time that it is branched
        self._calls: Calls | None = None  # of the run under way
        self._pending: tuple[PendingCall, ...] = ()
        self._allowed_cpu = 0
        self._guard = threading.Lock()  # so that nobody signals a guest whose descriptors are being closed

    def interrupt(self) -> None:
        """Raise `KeyboardInterrupt` in the program that runs, from any thread; the session lives on.

        The program's result is a failure of kind `runtime` and type `KeyboardInterrupt`, unless it catches that. Where no
        program runs nothing happens.
        """
        with self._guard:
            if self._guest is not None:
                try:
                    signal.pidfd_send_signal(self._guest.pidfd, self._executor.language.runtime.interrupt)
                except ProcessLookupError:
                    pass  # it has ended: the call under way finds out

    def __del__(self) -> None:
        guest, pool = self._guest, self._pool
        if guest is not None and pool is not None:  # may be called anywhere, so it takes no lock
            guest.kill()
            pool.forsaken.append(guest)

    def forked(self) -> None:
        """In a forked child: the guest belongs to the parent."""
        self._ended = "the session belongs to the process that this one was forked from"
        self._turn, self._guard = Turn(), threading.Lock()
        self._guest = None

    def _driven(self, begin: Callable[[Pool, float], Run]) -> ExecutionResult:
        """One run to its end, in the place that it waits for."""
        pool, caller, waited = self._executor.acquire(None, needs_place=self._executor.needs_place())
        try:
            run = begin(pool, waited)
            drive(run)
            return self._conclude(run, pool)
        except UsageError:  # its files do not fit: nothing ran
            raise
        except BaseException:
            self._end("a call was broken off")
            raise
        finally:
            pool.leave(caller)

    async def _adriven(self, begin: Callable[[Pool, float], Awaitable[Run]]) -> ExecutionResult:
        """`_driven` for event loops."""
        pool, caller, waited = await self._executor.aacquire(None, needs_place=self._executor.needs_place())
        try:
            run = await begin(pool, waited)
            await adrive(run)
            return self._conclude(run, pool)
        except UsageError:  # its files do not fit: nothing ran
            raise
        except BaseException:
            self._end("a call was broken off")
            raise
        finally:
            pool.leave(caller)

    def _streamed(self, prepared: Prepared) -> Iterator[Event]:
        from dspex.execution._attend import attend, drain
        from dspex.execution._stream import Finished, Tails

        self._turn.acquire()
        try:
            self._check_open()
            guest = self._guest or self._open(
                *self._executor.acquire(self._imports, needs_place=False, session=True)[:2]
            )
            pool, caller, waited = self._executor.acquire(None, needs_place=self._executor.needs_place())
            run = None
            try:
                run = self._begin(pool, guest, prepared, waited)
                tails = Tails(guest, self._executor.limits.output)
                yield from attend(run, tails)
                run.settle()
                yield from tails.events(final=True)
                result = self._conclude(run, pool)
            except GeneratorExit:
                self.interrupt()
                self._give_up(run, pool, drain)
                raise
            except UsageError:  # its files do not fit: nothing ran
                raise
            except BaseException:
                self._end("a call was broken off")
                raise
            finally:
                pool.leave(caller)
        finally:
            self._let_go()
            self._turn.release()
        yield Finished(result)

    async def _astreamed(self, prepared: Prepared) -> AsyncIterator[Event]:
        import asyncio

        from dspex.execution._attend import aattend, drain
        from dspex.execution._stream import Finished, Tails

        await self._turn.aacquire()
        try:
            self._check_open()
            guest = self._guest
            if guest is None:
                guest = self._open(*(await self._executor.aacquire(self._imports, needs_place=False, session=True))[:2])
            pool, caller, waited = await self._executor.aacquire(None, needs_place=self._executor.needs_place())
            run = None
            try:
                run = await self._abegin(pool, guest, prepared, waited)
                tails = Tails(guest, self._executor.limits.output)
                async with aclosing(aattend(run, tails)) as events:
                    async for event in events:
                        yield event
                run.settle()
                for event in tails.events(final=True):
                    yield event
                result = self._conclude(run, pool)
            except GeneratorExit:
                self.interrupt()
                await asyncio.to_thread(self._give_up, run, pool, drain)
                raise
            except UsageError:  # its files do not fit: nothing ran
                raise
            except BaseException:
                self._end("a call was broken off")
                raise
            finally:
                pool.leave(caller)
        finally:
            self._let_go()
            self._turn.release()
        yield Finished(result)

    def _give_up(self, run: Run | None, pool: Pool, drain: Callable[[Run], None]) -> None:
        """A stream was closed early and its program interrupted: the session lives on if it gives way soon."""
        if run is None:
            return
        drain(run)
        if run.survived:
            self._conclude(run, pool)
        else:
            self._end("a stream was closed, and its program did not give way to the interruption")

    def _allow_cpu(self, guest: Guest) -> float:
        """Give the guest the CPU time of one more call, on top of what it has used, which is returned."""
        try:
            used = resources.cpu_time(guest.pid)
            allowed = math.ceil(used + self._executor.limits.cpu)
            if allowed != self._allowed_cpu:  # it counts in whole seconds: mostly there is nothing to do
                if guest.ends_within(0):
                    return 0.0  # its number may be another's by now
                resources.allow_cpu(guest.pid, allowed)
                self._allowed_cpu = allowed
        except ProcessLookupError:
            return 0.0  # it has ended; the run will find out how
        except PermissionError:
            pass  # a container's root without CAP_SYS_RESOURCE: there the limit counts for the session
        return used

    async def _abegin(self, pool: Pool, guest: Guest, prepared: Prepared, waited: float) -> Run:
        self._calls = prepared.calls
        return await self._executor.abegin(pool, guest, prepared, waited, started_cpu=self._allow_cpu(guest))

    def _begin(self, pool: Pool, guest: Guest, prepared: Prepared, waited: float) -> Run:
        self._calls = prepared.calls
        return self._executor.begin(pool, guest, prepared, waited, started_cpu=self._allow_cpu(guest))

    @contextmanager
    def _still(self) -> Iterator[Guest]:
        """The guest while it waits for the host: between two calls, or in a tool that was called from here."""
        inside = self._waits_here()
        if not inside:
            self._turn.acquire()
        try:
            self._check_open()
            yield self._guest or self._open(*self._executor.acquire(self._imports, needs_place=False, session=True)[:2])
        finally:
            if not inside:
                self._let_go()
                self._turn.release()

    def _waits_here(self) -> bool:
        """True inside a tool that the run under way waits for; a tool that outlived its run is not one."""
        calls, chain = self._calls, WAITING.get()
        return calls is not None and self in chain and calls in chain and not calls.over

    def _check_outside(self, done: str) -> None:
        if self._waits_here():
            raise UsageError(
                f"a session cannot be {done} inside a tool that it waits for; fork it there, or do it after the call"
            )

    def _check_open(self) -> None:
        if self._ended:
            raise ClosedError(f"{self._ended}; open a new one with executor.session()")

    def _open(self, pool: Pool, caller: object) -> Guest:
        guest: Guest = caller.guest  # type: ignore[attr-defined]
        pool.refill(caller)  # type: ignore[arg-type]
        self._pool, self._guest = pool, guest
        if self._seed is not None:
            tune(guest, {"seed": self._seed})
        return guest

    def _conclude(self, run: Run, pool: Pool) -> ExecutionResult:
        result = run.result(pool.report)
        if not run.survived:
            reason = result.error.message if result.error else "it was lost"
            self._end(f"the session ended when {reason}")
        elif self._ends_on_timeout and result.error is not None and result.error.kind == "timeout":
            self._end(f"the session ended when {result.error.message}")
        return result

    def _end(self, why: str) -> None:
        self._ended = self._ended or why
        with self._guard:
            if self._guest is not None:
                self._guest.kill()

    def _let_go(self) -> None:
        """Close the guest's descriptors once the session has ended; only for whoever has the turn."""
        if not self._ended:
            return
        with self._guard:
            guest, self._guest = self._guest, None
        if guest is not None and self._pool is not None:
            if self._tree is not None:
                self._tree.release(guest)
            self._pool.discard(guest)
