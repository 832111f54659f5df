"""`CodeExecutor`: runs programs, each in a fresh guest, from any thread and any event loop."""

from __future__ import annotations

import atexit
import math
import os
import threading
import weakref
from functools import partial
from typing import TYPE_CHECKING, Any, final

from dspex import languages
from dspex._sandbox.limits import ResourceLimits
from dspex._sandbox.policy import SecurityPolicy
from dspex.errors import ClosedError, LimitsError, UsageError
from dspex.execution import _building, _files
from dspex.execution._isolation import Isolation
from dspex.execution._job import Job, Prepared, Resumption
from dspex.execution._nesting import WAITING
from dspex.execution._pool import Pool
from dspex.execution._run import Run, adrive, drive
from dspex.execution._turn import await_turn, wait
from dspex.languages._base import Builds, Request

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable, Iterator, Mapping, Sequence
    from concurrent.futures import Future, ThreadPoolExecutor
    from types import TracebackType

    from dspex._sandbox.process import Guest
    from dspex.execution._calls import Calls, PendingCall
    from dspex.execution._exchange import Message
    from dspex.execution._line import Caller
    from dspex.execution._result import ExecutionResult
    from dspex.execution._session import Session
    from dspex.execution._stream import Event
    from dspex.execution._tools import Tools
    from dspex.execution._workshop import Workshop
    from dspex.languages._base import Language, ToolSpec


@final
class CodeExecutor:
    """Runs untrusted programs, each in a fresh sandbox of its own.

    `policy` says what guests may reach, `limits` how much they may use, `isolation` how they are walled in: "namespaces",
    "landlock", None for the stronger of the two that there is, or "wasm" (docs/portable.md). At most `max_concurrency`
    (default: the cores) run at once; up to `queue` callers wait in order. Safe to share between threads and event loops;
    the processes start with the first run.
    `language` is one of `dspex languages`, or a `Language`; `options` are its own (`runtime="quickjs"`, docs/languages.md).

    Raises `UnknownLanguageError`, `IsolationError`, `PolicyError`, `LimitsError`, `UsageError`.
    """

    def __init__(
        self,
        language: str | Language = "python",
        *,
        policy: SecurityPolicy | None = None,
        limits: ResourceLimits | None = None,
        isolation: Isolation | str | None = None,
        max_concurrency: int | None = None,
        queue: int = 10_000,
        **options: object,
    ) -> None:
        self.policy = _instance("policy", policy, SecurityPolicy)
        self.limits = _instance("limits", limits, ResourceLimits)
        self.isolation = Isolation.of(isolation).settled()
        chosen = languages.portable if self.isolation.level == "wasm" else languages.get
        self.language: Language = chosen(language, **options)
        self.max_concurrency = _count("max_concurrency", max_concurrency, len(os.sched_getaffinity(0)))
        self.queue = _count("queue", queue, queue)
        self.policy.check()
        if isinstance(self.language, Builds):
            walls = " ".join(sorted(self.isolation.without))  # what was made where one is missing is not for others
            self.language.build(partial(_building.run, type(self), self.isolation), walls)
        if self.policy.network:
            from dspex.execution import _networking

            _networking.check(self.policy, self.limits, self.isolation)
        self._closed = False
        self._lock = threading.Lock()
        self._pool: Pool | None = None
        self._threads: ThreadPoolExecutor | None = None
        self._workshop: Workshop | None = None
        self._submitted = 0
        self._sessions: weakref.WeakSet[Session] = weakref.WeakSet()
        _EXECUTORS.add(self)

    # --- Running --------------------------------------------------------------------------------------------------------

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
        """Run `code` in a fresh guest and return its result; the value is that of the last expression.

        `variables` become names of the program. `imports` ("numpy", "numpy as np") are preloaded and bound.
        `environment` is what the program finds in its environment besides the engine's own few. `working_directory` is a
        path inside the sandbox. `timeout` is in seconds of wall time and only ever shortens `limits.wall`. `tools` are
        functions of yours that the program may call, by name or as they are called (see `Tool`); the deadline goes on
        while they run. `files` lie in the working directory when the program begins: names there to paths of the host or
        bytes, together at most `limits.disk`.

        Raises `UsageError` and below for wrong arguments, `SandboxError` and below when the engine fails. A program
        that fails is a result whose `error` says why.
        """
        return self._execute(
            self.prepare(Job(code, variables, imports, environment, working_directory, timeout, tools, files))
        )

    def _execute(self, prepared: Prepared) -> ExecutionResult:
        pool, caller, waited = self.acquire(prepared.imports, needs_place=self.needs_place())
        guest = _guest_of(caller)
        try:
            run = self.begin(pool, guest, prepared, waited, started_cpu=0.0)
            pool.refill(caller)
            drive(run)
            return run.result(pool.report)
        except BaseException:
            guest.kill()
            raise
        finally:
            pool.discard(guest)
            pool.leave(caller)

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
        """`execute` for event loops: awaits, takes no thread but for sync tools. Cancelling it kills the guest."""
        prepared = self.prepare(Job(code, variables, imports, environment, working_directory, timeout, tools, files))
        pool, caller, waited = await self.aacquire(prepared.imports, needs_place=self.needs_place())
        guest = _guest_of(caller)
        try:
            run = await self.abegin(pool, guest, prepared, waited, started_cpu=0.0)
            pool.refill(caller)
            await adrive(run)
            return run.result(pool.report)
        except BaseException:
            guest.kill()
            raise
        finally:
            pool.discard(guest)
            pool.leave(caller)

    def submit(
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
    ) -> Future[ExecutionResult]:
        """`execute` behind the caller's back: a future of its result. Raises `QueueFullError` at once."""
        return self._in_background(
            self.prepare(Job(code, variables, imports, environment, working_directory, timeout, tools, files))
        )

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
        """`execute` that tells what happens as it happens: `Output`, `Display`, `ToolCall`,
        `ToolReturn`, and `Finished` last.

        The program begins with the first event that is asked for; it goes on while the consumer is away, but for its
        tool calls. Closing the iterator early kills it.
        """
        from dspex.execution import _stream

        return _stream.fresh(
            self, self.prepare(Job(code, variables, imports, environment, working_directory, timeout, tools, files))
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
        from dspex.execution import _stream

        return _stream.afresh(
            self, self.prepare(Job(code, variables, imports, environment, working_directory, timeout, tools, files))
        )

    def map(self, jobs: Iterable[str | Job], *, concurrency: int | None = None) -> Iterator[ExecutionResult]:
        """Run many programs, at most `concurrency` at once, and yield their results in order as they come.

        Jobs are drawn from the iterable only as they are needed, so both may be endless.
        """
        from dspex.execution._map import run_all

        return run_all(self, jobs, _count("concurrency", concurrency, self.max_concurrency))

    def session(
        self,
        *,
        imports: Sequence[str] = (),
        tools: Tools | None = None,
        on_timeout: str = "interrupt",
        seed: int | None = None,
        restore: bytes | None = None,
    ) -> Session:
        """A living guest in which names persist between its `execute` calls, with `imports` preloaded.

        `tools` are offered to every call; a mapping is kept as it is and looked at anew each time. A call beyond its
        deadline is interrupted, and the session lives on if the program gives way; `on_timeout="end"` ends it.
        `seed` makes `random` and NumPy in it and in its branches repeatable, as the order of sets is everywhere; the kernel's
        own numbers (`os.urandom`, and so `uuid4` and `secrets`) are never. `restore` takes what `Session.dump` gave, here or on
        another machine, and blocks until the session stands where it stood; the bytes are unpickled in the guest only. It
        raises `StateFormatError` for bytes that are no dump, or one of another version of Python.
        """
        from dspex.execution._session import Session

        if seed is not None and not self.language.runtime.branches:
            raise UsageError(f"seed: the random numbers of {self.language.name} cannot be set; leave it out")
        if on_timeout not in ("interrupt", "end"):
            raise UsageError(f"on_timeout is {on_timeout!r}; it must be 'interrupt' or 'end'")
        if tools is not None:
            from dspex.execution._tools import offered

            offered(tools)
        dump = None
        if restore is not None:
            from dspex.execution import _dump

            dump = _dump.unpack(restore, self.language.name)
            self.check_imports(dump.imports)
        session = Session(self, _imports(imports), tools=tools, ends_on_timeout=on_timeout == "end", seed=_seed(seed))
        self._sessions.add(session)
        if dump is not None:
            session.load(dump)
        return session

    # --- Closing --------------------------------------------------------------------------------------------------------

    def close(self) -> None:
        """End every guest and zygote; nothing is left when this returns. Calls that wait get `ClosedError`."""
        with self._lock:
            self._closed = True
            pool, self._pool = self._pool, None
            threads, self._threads = self._threads, None
            workshop, self._workshop = self._workshop, None
        if pool is not None:
            pool.close()
        if workshop is not None:
            workshop.close()
        for session in list(self._sessions):
            session.close()
        if threads is not None:
            threads.shutdown(wait=False)  # what waits in there meets a closed executor

    async def aclose(self) -> None:
        """`close` for event loops."""
        import asyncio

        await asyncio.to_thread(self.close)

    def __enter__(self) -> CodeExecutor:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    async def __aenter__(self) -> CodeExecutor:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    # --- For this package -------------------------------------------------------------------------------------------------

    def prepare(self, job: Job, session: Session | None = None, *others: Tools | None) -> Prepared:
        """Check a job and encode it; a session's own tools are `others`. Raises `UsageError` and below."""
        if not isinstance(job.code, self.language.sources):
            kinds = " or ".join(kind.__name__ for kind in self.language.sources)
            raise UsageError(f"code is a {type(job.code).__name__}; it must be a {kinds}")
        timeout = _timeout(job.timeout, self.limits.wall)
        imports = _imports(job.imports)
        variables = _variables(job.variables)
        specs: Sequence[ToolSpec] = ()
        calls = None
        if job.tools is not None or others:
            specs, calls = self._offer((*others, job.tools), session, variables)
        request = Request(
            job.code,
            variables,
            imports,
            _environment(job.environment),
            _directory(job.working_directory),
            timeout,
            specs,
            session is not None,
        )
        body, buffers = self.language.encode(request)
        return Prepared(body, buffers, imports, timeout, calls, _files.checked(job.files, self.limits.disk))

    def host_job(
        self,
        words: tuple[str, ...],
        data: str | bytes,
        timeout: float | None,
        files: Mapping[str, bytes] | None = None,
        imports: tuple[str, ...] = (),
    ) -> Prepared:
        """What the host itself asks of a guest: `words`, with `data`, after `imports`. Raises `UsageError`."""
        seconds = _timeout(timeout, self.limits.wall)
        body, buffers = self.language.encode(Request(words, {"data": data}, imports, {}, None, seconds))
        return Prepared(body, buffers, (), seconds, None, _files.checked(files, self.limits.disk))

    def _offer(
        self, given: tuple[Tools | None, ...], session: Session | None, variables: Mapping[str, object]
    ) -> tuple[Sequence[ToolSpec], Calls | None]:
        from dspex.execution._calls import Calls
        from dspex.execution._tools import offered

        tools = offered(*given)
        for name in tools.keys() & variables.keys():
            raise UsageError(f"{name!r} is a tool and a variable as well; give one of them another name")
        return [tool.spec for tool in tools.values()], Calls(tools, self, session) if tools else None

    def needs_place(self) -> bool:
        """False inside a tool of this executor's: what it runs uses the place of the run that waits for it."""
        return self not in WAITING.get()

    def check_imports(self, imports: Sequence[str]) -> None:
        """Raises `PolicyError` for a module that guests cannot see."""
        self.language.plan(self.policy, self.limits, _imports(imports), "namespaces")

    def begin(self, pool: Pool, guest: Guest, job: Prepared, waited: float, *, started_cpu: float) -> Run:
        """A run of a prepared job, not yet sent; its files are in place. Raises `UsageError` where they do not fit."""
        if job.files:
            _files.place(guest, job.files)
        return Run(
            pool,
            guest,
            self.language,
            self.limits,
            (job.body, job.buffers),
            timeout=job.timeout,
            waited=waited,
            started_cpu=started_cpu,
            calls=job.calls,
        )

    async def abegin(self, pool: Pool, guest: Guest, job: Prepared, waited: float, *, started_cpu: float) -> Run:
        """`begin` for event loops."""
        if job.files:
            await _files.aplace(guest, job.files)
        return self.begin(pool, guest, job._replace(files=()), waited, started_cpu=started_cpu)

    def resumption(
        self, calls: Calls, answers: Sequence[tuple[PendingCall, object]], timeout: float | None
    ) -> Resumption:
        """What a branch goes on with, checked and encoded. Raises `VariableError`, `LimitsError`."""
        seconds = _timeout(timeout, self.limits.wall)
        messages: list[Message] = []
        try:
            for call, value in answers:
                messages.append(calls.answer(call, value))
        except BaseException:
            for message in messages:
                message.close()
            raise
        return Resumption(messages, seconds, calls)

    def carry_on(self, pool: Pool, guest: Guest, job: Resumption, waited: float, *, started_cpu: float) -> Run:
        """A run that stood still in a tool call, about to go on."""
        first, *rest = job.answers
        run = Run(
            pool,
            guest,
            self.language,
            self.limits,
            first,
            timeout=job.timeout,
            waited=waited,
            started_cpu=started_cpu,
            calls=job.calls,
        )
        job.calls.afterwards(rest)
        return run

    def register(self, session: Session) -> None:
        """Close this session along with the executor."""
        self._sessions.add(session)

    def workshop(self) -> Workshop:
        """Where async tools of callers that block are awaited, started on first use. Raises `ClosedError`."""
        from dspex.execution._workshop import Workshop

        with self._lock:
            if self._closed:
                raise ClosedError("this executor is closed; make a new CodeExecutor")
            if self._workshop is None:
                self._workshop = Workshop()
            return self._workshop

    def pool(self) -> Pool:
        """The pool, started on first use. Raises `ClosedError`."""
        pool = self._pool
        if pool is not None:
            return pool
        with self._lock:
            if self._closed:
                raise ClosedError("this executor is closed; make a new CodeExecutor")
            if self._pool is None:
                self._pool = Pool(
                    language=self.language,
                    policy=self.policy,
                    limits=self.limits,
                    isolation=self.isolation,
                    places=self.max_concurrency,
                    queue=self.queue,
                )
            return self._pool

    def acquire(
        self, imports: tuple[str, ...] | None, *, needs_place: bool, session: bool = False
    ) -> tuple[Pool, Caller, float]:
        pool = self.pool()
        return pool, *wait(pool.joiner(imports, needs_place=needs_place, session=session), pool.give_up)

    async def aacquire(
        self, imports: tuple[str, ...] | None, *, needs_place: bool, session: bool = False
    ) -> tuple[Pool, Caller, float]:
        pool = self.pool()
        return pool, *await await_turn(pool.joiner(imports, needs_place=needs_place, session=session), pool.give_up)

    def _in_background(self, prepared: Prepared) -> Future[ExecutionResult]:
        from concurrent.futures import ThreadPoolExecutor

        from dspex.errors import QueueFullError

        with self._lock:
            if self._closed:
                raise ClosedError("this executor is closed; make a new CodeExecutor")
            if self._submitted >= self.queue + self.max_concurrency:
                raise QueueFullError(f"{self._submitted:,} submitted programs wait already; the queue holds no more")
            if self._threads is None:
                self._threads = ThreadPoolExecutor(self.max_concurrency, thread_name_prefix="dspex-submit")
            self._submitted += 1
            if prepared.calls is None:
                future = self._threads.submit(self._execute, prepared)
            else:
                future = self._threads.submit(prepared.calls.context.run, self._execute, prepared)
        future.add_done_callback(self._one_less)
        return future

    def _one_less(self, _: Future[ExecutionResult]) -> None:
        with self._lock:
            self._submitted -= 1

    def _forked(self) -> None:
        """In a forked child: let go of what belongs to the parent."""
        pool, self._pool, self._threads, self._workshop = self._pool, None, None, None
        self._lock = threading.Lock()
        self._submitted = 0
        for session in list(self._sessions):
            session.forked()
        if pool is not None:
            pool.abandon()


def _guest_of(caller: Caller) -> Guest:
    assert caller.guest is not None  # a served caller with a lane holds one
    return caller.guest


# --- Arguments, checked ----------------------------------------------------------------------------------------------------


def _instance(name: str, value: Any, kind: Any) -> Any:
    if value is None:
        return kind()
    if not isinstance(value, kind):
        raise UsageError(f"{name} is a {type(value).__name__}; it must be a {kind.__name__}")
    return value


def _count(name: str, value: object, default: int) -> int:
    if value is None:
        return default
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise UsageError(f"{name} is {value!r}; it must be a whole number of at least 1")
    return value


def _seed(value: object) -> int | None:
    if value is not None and (not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < 1 << 62):
        raise UsageError(f"seed is {value!r}; it must be a whole number from 0 to 2**62 - 1")
    return value


def _timeout(value: object, most: float) -> float:
    if value is None:
        return most
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value < math.inf:
        raise LimitsError(f"timeout is {value!r}; it must be a positive number of seconds")
    return float(min(value, most))


def _variables(value: object) -> Mapping[str, object]:
    from collections.abc import Mapping

    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise UsageError(f"variables is a {type(value).__name__}; it must be a mapping of names to values")
    return value


def _imports(value: object) -> tuple[str, ...]:
    if value == ():
        return ()
    from collections.abc import Sequence

    if not isinstance(value, Sequence) or isinstance(value, (str, bytes)):
        raise UsageError(f"imports is {value!r}; it must be a list of module names")
    for spec in value:
        parts = spec.split(" as ") if isinstance(spec, str) else []
        names = [part.strip() for part in parts]
        well = 1 <= len(names) <= 2 and all(p.isidentifier() for p in names[0].split("."))
        if not well or (len(names) == 2 and not names[1].isidentifier()):
            raise UsageError(f"imports has {spec!r}; an entry is 'module' or 'module as name'")
    return tuple(dict.fromkeys(value))


def _environment(value: object) -> Mapping[str, str]:
    from collections.abc import Mapping

    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise UsageError(f"environment is a {type(value).__name__}; it must be a mapping of names to texts")
    for name, text in value.items():
        if not isinstance(name, str) or not name or "=" in name or "\0" in name:
            raise UsageError(f"environment has the name {name!r}; it must be a non-empty str without '='")
        if not isinstance(text, str) or "\0" in text:
            raise UsageError(f"environment has {name}={text!r}; a value must be a str without NUL")
    return value


def _directory(value: object) -> str | None:
    if value is None:
        return None
    if not isinstance(value, (str, os.PathLike)) or "\0" in str(value) or not str(value):
        raise UsageError(f"working_directory is {value!r}; it must be a path inside the sandbox")
    return str(value)


# --- The host process: its forks and its end ------------------------------------------------------------------------------------

_EXECUTORS: weakref.WeakSet[CodeExecutor] = weakref.WeakSet()


def _after_fork() -> None:
    for executor in list(_EXECUTORS):
        executor._forked()


def _at_exit() -> None:
    for executor in list(_EXECUTORS):
        executor.close()


os.register_at_fork(after_in_child=_after_fork)
atexit.register(_at_exit)
