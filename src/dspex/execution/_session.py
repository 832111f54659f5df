"""`Session`: one living guest; names persist from one `execute` to the next, and it can be branched."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, TypeVar, final, overload

from dspex.errors import SandboxLostError, UsageError
from dspex.execution._checkpoint import Checkpoint
from dspex.execution._job import Job
from dspex.execution._living import Living
from dspex.execution._tree import Tree, send, tune

if TYPE_CHECKING:
    import os
    import socket
    from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
    from types import TracebackType

    from dspex._sandbox.process import Guest
    from dspex.execution._calls import PendingCall
    from dspex.execution._dump import Dump
    from dspex.execution._files import Files
    from dspex.execution._job import Prepared, Resumption
    from dspex.execution._pool import Pool
    from dspex.execution._result import ExecutionResult
    from dspex.execution._run import Run
    from dspex.execution._stream import Event
    from dspex.execution._tools import Tools


@final
class Session(Living):
    """Many runs in one guest. A run that fails does not end it; one that is killed does.

    Calls from several threads or tasks run one after the other. CPU and wall limits count for each `execute`, memory for
    the session. Made by `CodeExecutor.session`.
    """

    def execute(
        self,
        code: str,
        variables: Mapping[str, object] | None = None,
        *,
        imports: Sequence[str] = (),
        environment: Mapping[str, str] | None = None,
        working_directory: str | None = None,
        timeout: float | None = None,
        tools: Tools | None = None,
        files: Mapping[str, str | os.PathLike[str] | bytes] | None = None,
    ) -> ExecutionResult:
        """Run `code` in this session's guest; see `CodeExecutor.execute`. Raises `ClosedError` after its end."""
        prepared = self._prepare(Job(code, variables, imports, environment, working_directory, timeout, tools, files))
        self._turn.acquire()
        try:
            self._check_open()
            guest = self._guest or self._open(
                *self._executor.acquire(self._imports, needs_place=False, session=True)[:2]
            )
            return self._driven(lambda pool, waited: self._begin(pool, guest, prepared, waited))
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
        tools: Tools | None = None,
        files: Mapping[str, str | os.PathLike[str] | bytes] | None = None,
    ) -> ExecutionResult:
        """`execute` for event loops. Cancelling it ends the session."""
        prepared = self._prepare(Job(code, variables, imports, environment, working_directory, timeout, tools, files))
        await self._turn.aacquire()
        try:
            self._check_open()
            guest = self._guest
            if guest is None:
                guest = self._open(*(await self._executor.aacquire(self._imports, needs_place=False, session=True))[:2])
            return await self._adriven(lambda pool, waited: self._abegin(pool, guest, prepared, waited))
        finally:
            self._let_go()
            self._turn.release()

    def stream(
        self,
        code: str,
        variables: Mapping[str, object] | None = None,
        *,
        imports: Sequence[str] = (),
        environment: Mapping[str, str] | None = None,
        working_directory: str | None = None,
        timeout: float | None = None,
        tools: Tools | None = None,
        files: Mapping[str, str | os.PathLike[str] | bytes] | None = None,
    ) -> Iterator[Event]:
        """`execute` that tells what happens as it happens; see `CodeExecutor.stream`. Closing it early interrupts the run."""
        return self._streamed(
            self._prepare(Job(code, variables, imports, environment, working_directory, timeout, tools, files))
        )

    def astream(
        self,
        code: str,
        variables: Mapping[str, object] | None = None,
        *,
        imports: Sequence[str] = (),
        environment: Mapping[str, str] | None = None,
        working_directory: str | None = None,
        timeout: float | None = None,
        tools: Tools | None = None,
        files: Mapping[str, str | os.PathLike[str] | bytes] | None = None,
    ) -> AsyncIterator[Event]:
        """`stream` for event loops."""
        return self._astreamed(
            self._prepare(Job(code, variables, imports, environment, working_directory, timeout, tools, files))
        )

    # --- Branching ------------------------------------------------------------------------------------------------------

    @overload
    def fork(self) -> Session: ...

    @overload
    def fork(self, n: int) -> list[Session]: ...

    def fork(self, n: int | None = None) -> Session | list[Session]:
        """Another living session with the same memory and files, copy on write; with `n`, a list of so many.

        Each goes its own way from here: names, files and random numbers. Called inside a tool that this session waits for,
        the branches wait for its answer too (`pending`), and each may be given another (`resume`). Threads of the program do
        not follow. Raises `UsageError` beyond `limits.branches` or where guests cannot be copied, `ClosedError`.
        """
        with self._still() as guest:
            copies = self._copies(guest, 1 if n is None else _count(n), "session")
        branches = [self._like(*copy) for copy in copies]
        return branches if n is not None else branches[0]

    def checkpoint(self, name: str = "checkpoint") -> Checkpoint:
        """What this session is now, to come back to any number of times (`restore`). See `fork` for what it holds."""
        with self._still() as guest:
            (copy,) = self._copies(guest, 1, name)
        return Checkpoint(self._like(*copy), name)

    def restore(self, checkpoint: Checkpoint) -> None:
        """Be again what this session was at `checkpoint`, one of its own or of a branch of its tree."""
        self._check_outside("restored")
        with self._still() as guest:
            self._replace(guest, checkpoint.copy(self._tree))
            self._pending = checkpoint.pending

    def become(self, branch: Session) -> None:
        """Go on where `branch`, another session of the same tree, stands; `branch` is closed, and what this one was is gone."""
        if branch is self:
            return
        self._check_outside("replaced")
        branch._check_outside("replaced")
        with ExitStack() as turns:  # taken in one order, for the other may be about to become this one
            guests = {one: turns.enter_context(one._still()) for one in sorted((self, branch), key=id)}
            if self._tree is None or branch._tree is not self._tree:
                raise UsageError("a session can become a branch of its own tree only")
            with branch._guard:
                branch._guest, branch._ended = None, "the session has become another one"
            self._replace(guests[self], guests[branch])
            self._pending = branch._pending

    @property
    def places(self) -> int:
        """How many programs the executor runs at once."""
        return self._executor.max_concurrency

    def resume(self, *values: object, timeout: float | None = None) -> ExecutionResult:
        """Give the answers of the tool calls that this branch waits for (`pending`), in order, and run on to the end.

        An exception among them is raised in the program. Raises `UsageError` for another number of values.
        """
        prepared = self._resumption(values, timeout)
        self._turn.acquire()
        try:
            self._check_open()
            assert self._guest is not None  # it is a branch
            guest = self._guest
            return self._driven(lambda pool, waited: self._continue(pool, guest, prepared, waited))
        finally:
            self._let_go()
            self._turn.release()

    def copy_into(self, tree: Tree | None) -> Guest:
        """One more process like this one's, which stands still, for a session of `tree`. Raises `ClosedError`, `UsageError`."""
        self._check_open()
        if tree is not self._tree:
            raise UsageError("the checkpoint is not of this session's tree; open it with checkpoint.session()")
        assert self._guest is not None  # it is a branch
        return self._copies(self._guest, 1, "session")[0][0]

    async def afork(self, n: int = 1) -> list[Session]:
        """`fork` for event loops: a list."""
        return await _in_thread(self.fork, n)

    async def acheckpoint(self, name: str = "checkpoint") -> Checkpoint:
        """`checkpoint` for event loops."""
        return await _in_thread(self.checkpoint, name)

    async def arestore(self, checkpoint: Checkpoint) -> None:
        """`restore` for event loops."""
        await _in_thread(self.restore, checkpoint)

    async def aresume(self, *values: object, timeout: float | None = None) -> ExecutionResult:
        """`resume` for event loops; takes a thread while it runs."""
        return await _in_thread(lambda: self.resume(*values, timeout=timeout))

    # --- Carrying -------------------------------------------------------------------------------------------------------

    def dump(self, *, without: Sequence[str] = (), timeout: float | None = None) -> bytes:
        """This session as bytes: names, functions and classes of its own, and working files, for `executor.session(restore=...)`.

        On any machine with the same minor version of Python and the packages that the values come from. What is no data
        (threads, open files, event loops) stays: names that hold such are told in a `UsageError`, and can be left out by
        `without`; tools are left out always. What the environment and the random generators were does not come along.
        Bounded by `limits.value`. Raises `ClosedError`; `ProgramError` when it takes too long or too much memory.
        """
        from dspex.execution import _dump

        self._check_outside("dumped")
        if isinstance(without, str) or not all(isinstance(name, str) for name in without):
            raise UsageError(f"without is {without!r:.100}; it must be a sequence of names")
        if self._pending:
            raise UsageError("a session that waits for the answer of a tool cannot be dumped; resume it first")
        prepared = self._executor.host_job(("dump", *without), _dump.library(), timeout)
        with self._still() as guest:
            result = self._driven(lambda pool, waited: self._begin(pool, guest, prepared, waited))
            if result.error is not None and result.error.type == "CannotBeDumped":
                raise UsageError(
                    f"these names cannot be dumped: {result.error.message}; leave them out with without=[...]"
                )
            pickled = result.unwrap()
            if not isinstance(pickled, bytes):
                raise SandboxLostError("the guest gave something else than its state")
            imports = tuple(dict.fromkeys((*self._restored, *self._imports)))
            return _dump.pack(self._executor.language.name, imports, pickled, self.files)

    async def adump(self, *, without: Sequence[str] = (), timeout: float | None = None) -> bytes:
        """`dump` for event loops; takes a thread while it runs."""
        return await _in_thread(lambda: self.dump(without=without, timeout=timeout))

    def load(self, dump: Dump, timeout: float | None = None) -> None:
        """Begin where a session that was dumped stood. Only for a session that has not run yet.

        What the dump names is imported in the guest: a zygote preloads what the caller names, not what came with some bytes.
        """
        self._restored = dump.imports
        imports = (*dump.imports, *self._imports)
        prepared = self._executor.host_job(("load",), dump.pickled, timeout, dump.files, imports)
        try:
            with self._still() as guest:
                self._driven(lambda pool, waited: self._begin(pool, guest, prepared, waited)).unwrap()
        except BaseException:
            self.close()
            raise

    @property
    def pending(self) -> tuple[PendingCall, ...]:
        """The tool calls whose answers this branch waits for."""
        return self._pending

    @property
    def tree(self) -> Tree | None:
        """The tree of this session's branches; None before the first."""
        return self._tree

    @property
    def files(self) -> Files:
        """All files in the working directory as it is now; empty before the first call."""
        from dspex.execution import _files

        with self._guard:
            guest = self._guest
            return _files.NONE if guest is None else _files.present(guest, self._executor.limits.disk)

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

    def _prepare(self, job: Job) -> Prepared:
        self._check_open()
        if self._pending:
            names = ", ".join(call.name for call in self._pending)
            raise UsageError(f"this session waits for the answer of {names}; give it with session.resume(value)")
        if self._waits_here():
            raise UsageError("this session waits for the tool that is running here; run the program in another session")
        if job.imports:
            self._executor.check_imports(job.imports)
        if self._guest is None:  # what the session was opened with is preloaded, and bound by its first run
            job = job._replace(imports=(*self._imports, *job.imports))
        return self._executor.prepare(job, self, *(() if self._tools is None else (self._tools,)))

    def _replace(self, old: Guest, new: Guest) -> None:
        """Let `new` be this session's guest, and end the one that was."""
        assert self._tree is not None  # `new` is of it
        with self._guard:
            self._guest, self._allowed_cpu = new, 0
        self._tree.release(old)
        if self._pool is not None:
            self._pool.discard(old)

    def _rooted(self, guest: Guest) -> Tree:
        if self._tree is None:
            if guest.warden is None:
                raise UsageError(
                    "this session cannot be branched: that takes level namespaces and a policy without subprocesses, "
                    "whose processes could not follow (`dspex doctor` shows what this host offers)"
                )
            assert self._pool is not None  # the guest came from it
            self._tree = Tree(guest, guest.warden, self._executor.limits, self._seed, self._pool.held)
        return self._tree

    def _copies(self, guest: Guest, number: int, name: str) -> list[tuple[Guest, tuple[PendingCall, ...]]]:
        """Copies of this session's guest, and what each waits for. One that does its part by halves is ended, as the session is."""
        try:
            if self._calls is None or not self._waits_here():
                return self._rooted(guest).copy(guest, number, name, self._send)
            with self._calls.listening():
                return self._rooted(guest).copy(guest, number, name, self._calls.interject)
        except SandboxLostError as error:
            self._end(str(error))
            raise

    def _send(self, channel: socket.socket, frame: bytes, descriptors: list[int]) -> tuple[PendingCall, ...]:
        """Send a frame between two calls; what a copy that it asks for waits for."""
        send(channel, frame, descriptors)
        return self._pending

    def _like(self, guest: Guest, pending: tuple[PendingCall, ...]) -> Session:
        """A session like this one, around a copy of its guest."""
        branch = Session(
            self._executor, self._imports, tools=self._tools, ends_on_timeout=self._ends_on_timeout, seed=self._seed
        )
        branch._pool, branch._guest, branch._tree = self._pool, guest, self._tree
        branch._restored = self._restored
        branch._calls, branch._pending = self._calls, pending
        self._executor.register(branch)
        return branch

    def _resumption(self, values: tuple[object, ...], timeout: float | None) -> Resumption:
        self._check_open()
        if len(values) != len(self._pending) or not values:
            raise UsageError(f"{len(values)} answers were given; this session waits for {len(self._pending)}")
        assert self._calls is not None  # something is pending
        return self._executor.resumption(
            self._calls.again(self), list(zip(self._pending, values, strict=True)), timeout
        )

    def _continue(self, pool: Pool, guest: Guest, prepared: Resumption, waited: float) -> Run:
        known = [call.number for call in self._pending]
        self._calls, self._pending = prepared.calls, ()
        tune(guest, {"seconds": prepared.timeout, "known": known})
        return self._executor.carry_on(pool, guest, prepared, waited, started_cpu=self._allow_cpu(guest))


T = TypeVar("T")


async def _in_thread(function: Callable[..., T], *args: Any) -> T:
    """`asyncio.to_thread`, imported when an event loop runs anyway."""
    import asyncio

    return await asyncio.to_thread(function, *args)


def _count(n: object) -> int:
    if not isinstance(n, int) or isinstance(n, bool) or n < 1:
        raise UsageError(f"n is {n!r}; it must be a whole number of at least 1")
    return n
