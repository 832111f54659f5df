"""`Session`: one living guest; names persist from one `execute` to the next."""

from __future__ import annotations

import math
import threading
from typing import TYPE_CHECKING, final

from dspex._kernel import resources
from dspex.errors import ClosedError
from dspex.execution._job import Job
from dspex.execution._run import adrive, drive
from dspex.execution._turn import Turn

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from types import TracebackType

    from dspex._sandbox.process import Guest
    from dspex.execution._executor import CodeExecutor
    from dspex.execution._job import Prepared
    from dspex.execution._pool import Pool
    from dspex.execution._result import ExecutionResult
    from dspex.execution._run import Run


@final
class Session:
    """Many runs in one guest. A run that fails does not end it; one that is killed does.

    Calls from several threads or tasks run one after the other. CPU and wall limits count for each `execute`, memory for
    the session. Made by `CodeExecutor.session`.
    """

    def __init__(self, executor: CodeExecutor, imports: tuple[str, ...]) -> None:
        self._executor = executor
        self._imports = imports
        self._turn = Turn()
        self._guest: Guest | None = None
        self._pool: Pool | None = None
        self._ended = ""
        self._allowed_cpu = 0
        self._guard = threading.Lock()  # so that nobody signals a guest whose descriptors are being closed

    def execute(
        self,
        code: str,
        variables: Mapping[str, object] | None = None,
        *,
        imports: Sequence[str] = (),
        environment: Mapping[str, str] | None = None,
        working_directory: str | None = None,
        timeout: float | None = None,
    ) -> ExecutionResult:
        """Run `code` in this session's guest; see `CodeExecutor.execute`. Raises `ClosedError` after its end."""
        prepared = self._prepare(Job(code, variables, imports, environment, working_directory, timeout))
        self._turn.acquire()
        try:
            self._check_open()
            guest = self._guest or self._open(*self._executor._acquire(self._imports, needs_place=False)[:2])
            pool, caller, waited = self._executor._acquire(None, needs_place=True)
            try:
                run = self._executor.begin(pool, guest, prepared, waited, started_cpu=self._allow_cpu(guest))
                drive(run)
                return self._conclude(run, pool)
            except BaseException:
                self._end("a call was broken off")
                raise
            finally:
                pool.leave(caller)
        finally:
            self._let_go()
            self._turn.release()

    async def aexecute(
        self,
        code: str,
        variables: Mapping[str, object] | None = None,
        *,
        imports: Sequence[str] = (),
        environment: Mapping[str, str] | None = None,
        working_directory: str | None = None,
        timeout: float | None = None,
    ) -> ExecutionResult:
        """`execute` for event loops. Cancelling it ends the session."""
        prepared = self._prepare(Job(code, variables, imports, environment, working_directory, timeout))
        await self._turn.aacquire()
        try:
            self._check_open()
            guest = self._guest
            if guest is None:
                guest = self._open(*(await self._executor._aacquire(self._imports, needs_place=False))[:2])
            pool, caller, waited = await self._executor._aacquire(None, needs_place=True)
            try:
                run = self._executor.begin(pool, guest, prepared, waited, started_cpu=self._allow_cpu(guest))
                await adrive(run)
                return self._conclude(run, pool)
            except BaseException:
                self._end("a call was broken off")
                raise
            finally:
                pool.leave(caller)
        finally:
            self._let_go()
            self._turn.release()

    def close(self) -> None:
        """End the guest and everything in it. A call that runs in it ends with an error."""
        self._end("the session is closed")
        if self._turn.try_acquire():  # else the call under way lets go of the guest: it still reads from it
            try:
                self._let_go()
            finally:
                self._turn.release()

    def __enter__(self) -> Session:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    async def __aenter__(self) -> Session:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

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

    def _allow_cpu(self, guest: Guest) -> float:
        """Give the guest the CPU time of one more call, on top of what it has used, which is returned."""
        try:
            used = resources.cpu_time(guest.pid)
            allowed = math.ceil(used + self._executor.limits.cpu)
            if allowed != self._allowed_cpu:  # it counts in whole seconds: mostly there is nothing to do
                resources.allow_cpu(guest.pid, allowed)
                self._allowed_cpu = allowed
        except ProcessLookupError:
            return 0.0  # it has ended; the run will find out how
        except PermissionError:
            pass  # a container's root without CAP_SYS_RESOURCE: there the limit counts for the session
        return used

    def _prepare(self, job: Job) -> Prepared:
        self._check_open()
        if job.imports:
            self._executor.check_imports(job.imports)
        if self._guest is None:  # what the session was opened with is preloaded, and bound by its first run
            job = job._replace(imports=(*self._imports, *job.imports))
        return self._executor.prepare(job)

    def _check_open(self) -> None:
        if self._ended:
            raise ClosedError(f"{self._ended}; open a new one with executor.session()")

    def _open(self, pool: Pool, caller: object) -> Guest:
        guest: Guest = caller.guest  # type: ignore[attr-defined]
        pool.refill(caller)  # type: ignore[arg-type]
        self._pool, self._guest = pool, guest
        return guest

    def _conclude(self, run: Run, pool: Pool) -> ExecutionResult:
        result = run.result(pool.report)
        if not run.survived:
            reason = result.error.message if result.error else "it was lost"
            self._end(f"the session ended when {reason}")
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
            self._pool.discard(guest)
