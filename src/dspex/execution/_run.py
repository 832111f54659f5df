"""One run of one program in one guest: started, driven to its end, turned into a result.

Theory of operation. `Run` knows what has happened (answered, expired, lost) and makes the result; the drivers only move
bytes. There are three: `drive` blocks the calling thread, `adrive` awaits on the running event loop, and `map` polls many
at once; runs with tools, and those whose output is streamed, are driven by `_attend`'s. A run that takes longer than a moment
is shown to the pool's keeper, which enforces what the kernel cannot; short runs never pay for that.
"""

from __future__ import annotations

import os
import signal
import socket
import struct
import time
from typing import TYPE_CHECKING, Final

from dspex import telemetry
from dspex._kernel import resources
from dspex._sandbox import process
from dspex.errors import ClosedError, SandboxLostError, SandboxStartError
from dspex.execution import _files
from dspex.execution._exchange import Answer, Breach, Exchange, Message
from dspex.execution._result import ExecutionResult, Failure, IsolationReport, Usage

if TYPE_CHECKING:
    import asyncio

    from dspex._network._log import Attempt
    from dspex._sandbox.limits import ResourceLimits
    from dspex._sandbox.process import Ended, Guest
    from dspex.execution._calls import Calls
    from dspex.execution._pool import Pool
    from dspex.execution._watch import Watch
    from dspex.languages._base import Language

_MOMENT: Final = 0.1  # seconds after which the keeper is asked to look on
_HARD: Final = 0.1  # seconds between the soft deadline, inside, and the hard one
_STACK: Final = 8 << 20  # bytes that a thread reserves
_START: Final = 60.0  # seconds that a runtime may take to start
_TAIL: Final = 4096  # bytes of stderr in which a runtime says why it died
_LAST_BREATH: Final = 1.0  # seconds that a guest whose channel is closed may take to be dead
_CRASHES: Final[dict[int, str]] = {
    signal.SIGSEGV: "a segmentation fault",
    signal.SIGBUS: "a bus error",
    signal.SIGILL: "an illegal instruction",
    signal.SIGFPE: "an arithmetic fault",
    signal.SIGABRT: "an abort",
}


class Run:
    """See the head of this file."""

    __slots__ = (
        "_begun",
        "_ended",
        "_expired",
        "_language",
        "_limits",
        "_lost",
        "_pool",
        "_started",
        "_started_cpu",
        "_starting",
        "_timeout",
        "_waited",
        "_watch",
        "exchange",
        "guest",
        "message",
    )

    def __init__(
        self,
        pool: Pool,
        guest: Guest,
        language: Language,
        limits: ResourceLimits,
        request: tuple[bytes, list[memoryview]] | Message,
        *,
        timeout: float,
        waited: float,
        started_cpu: float,
        calls: Calls | None = None,
    ) -> None:
        self.guest = guest
        self.exchange = Exchange(language, limits.value, calls)
        self.message = request if isinstance(request, Message) else self.exchange.opening(*request)
        self._pool = pool
        self._limits = limits
        self._timeout = timeout
        self._waited = waited
        self._started_cpu = started_cpu
        self._watch: Watch | None = None
        self._expired = False
        self._lost = False
        self._language = language
        self._ended = 0.0
        self._begun = time.time_ns() if telemetry.listening() else 0
        self._started = time.perf_counter()
        self._starting = language.runtime.announces and not guest.announced

    # --- What happened --------------------------------------------------------------------------------------------------

    @property
    def over(self) -> bool:
        """True once nothing more is to be read."""
        return self.exchange.reply is not None or self._expired or self._lost

    def patience(self) -> float:
        """Seconds to wait for the guest before `look` is due."""
        left = self._started + self._patience - time.perf_counter()
        return max(0.0, left if self._watch is not None else min(left, _MOMENT))

    @property
    def due(self) -> bool:
        """True when `look` has something to do: a moment is over and the keeper does not look on, or all time is."""
        patience = self._patience
        return time.perf_counter() - self._started >= (min(_MOMENT, patience) if self._watch is None else patience)

    @property
    def late(self) -> bool:
        """True once the program's time is over: nothing more is done for it."""
        return not self._starting and time.perf_counter() - self._started >= self._timeout

    def left(self) -> float:
        """Seconds to the hard deadline, never quite none."""
        return max(0.001, self._started + self._patience - time.perf_counter())

    @property
    def _patience(self) -> float:
        """Seconds from the start to the hard deadline; a runtime that has not started yet has its own."""
        return _START if self._starting else self._timeout + _HARD

    def look(self) -> None:
        """Nothing came for a while: past the deadline that is the end, before it the keeper looks on."""
        now = time.perf_counter()
        if now - self._started >= self._patience:
            self._expired = True
            self.guest.kill()
        elif self._watch is None and not self._starting:
            deadline = time.monotonic() + self._started + self._patience - now
            try:
                self._watch = self._pool.watch(self.guest, deadline)
            except OSError:  # it has just ended
                self._lost = True

    def settle(self) -> None:
        """See to it that nothing more is printed: a guest that did not answer is dead when this returns."""
        if not self.survived:
            self.guest.kill()
            self.guest.ends_within(_LAST_BREATH)

    def show(self) -> None:
        """Let the keeper look on from now: nobody else will for a while."""
        if self._watch is None and not self.over:
            self.look()

    def feed(self, data: bytes) -> Message | None:
        """Bytes of the guest; none at all means that its channel was closed."""
        if not data:
            self._lost = True
            return None
        message = self.exchange.feed(data)
        if self._starting and (self.exchange.ready or self.exchange.reply is not None):
            self._begin()
        if self.exchange.reply is not None:
            self._ended = time.perf_counter()
        elif self.due:  # a guest that sends a byte now and then is never found silent
            self.look()
        return message

    def _begin(self) -> None:
        """The runtime has started: what it took for that is not the program's."""
        self._starting, self.guest.announced = False, True
        self._started = time.perf_counter()
        try:
            self._started_cpu = resources.cpu_time(self.guest.pid)
            if self._language.runtime.data:
                stacks = self._language.runtime.threads * _STACK
                resources.bound_data(self.guest.pid, process.heap(self._limits) + stacks)
        except OSError:
            pass  # it has just ended; or is of another user, and the keeper alone bounds its memory

    # --- What comes of it -------------------------------------------------------------------------------------------------

    @property
    def survived(self) -> bool:
        """True when the guest answered properly and can take another request."""
        return isinstance(self.exchange.reply, Answer)

    def result(self, isolation: IsolationReport) -> ExecutionResult:
        """The outcome. Raises `SandboxLostError` when the engine, not the program, lost the guest."""
        result = self._outcome((self._ended or time.perf_counter()) - self._started, isolation)
        if self._begun:
            telemetry.record(self._language.name, result, self._begun - int(self._waited * 1e9))
        return result

    def _outcome(self, wall: float, isolation: IsolationReport) -> ExecutionResult:
        if self._watch is not None:
            self._pool.unwatch(self._watch)
        self.exchange.close()
        reply = self.exchange.reply
        if isinstance(reply, Answer):
            return self._answered(reply, wall, isolation)
        failure = None
        if isinstance(reply, Breach):
            self.guest.kill()
            message = f"the program broke the engine's channel: {reply.reason}"
            failure = Failure("killed", "ProtocolBreach", message)
        elif self._lost and not self.guest.ends_within(_LAST_BREATH):
            self.guest.kill()
            failure = Failure("killed", "ChannelClosed", "the program closed the engine's channel and did not end")
        ended = self._pool.post_mortem(self.guest)
        return self._died(failure or self._cause(ended), ended, wall, isolation)

    def _answered(self, reply: Answer, wall: float, isolation: IsolationReport) -> ExecutionResult:
        try:
            cpu, peak = resources.cpu_time(self.guest.pid) - self._started_cpu, self.guest.peak_memory(wall)
        except OSError:  # it answered, and was gone before it could be asked
            cpu, peak = 0.0, 0
        failure = reply.failure
        if failure is None and self.guest.directory and resources.disk_usage(self.guest.directory) > self._limits.disk:
            failure = _limit("disk_limit", self._limits, self._timeout)
        return self._finished(
            reply, failure, Usage(wall, max(0.0, cpu), peak, self._processes(), self._waited), isolation
        )

    def _processes(self) -> int:
        return self._watch.processes if self._watch is not None else 1

    def _died(self, failure: Failure, ended: Ended | None, wall: float, isolation: IsolationReport) -> ExecutionResult:
        cpu, peak = (ended.cpu, ended.peak_memory) if ended is not None else (0.0, 0)
        usage = Usage(wall, max(0.0, cpu - self._started_cpu), peak, self._processes(), self._waited)
        return self._finished(Answer(None, None, None, None), failure, usage, isolation)

    def _finished(
        self, reply: Answer, failure: Failure | None, usage: Usage, isolation: IsolationReport
    ) -> ExecutionResult:
        limit = self._limits.output
        stdout, more_out = self.guest.output(self.guest.out, limit)
        stderr, more_err = self.guest.output(self.guest.err, limit)
        if more_out or more_err:
            stream = "stdout" if more_out else "stderr"
            line = failure.line if failure is not None else None
            failure = Failure(
                "output_limit", "OutputLimit", f"the program wrote more than {limit:,} bytes to {stream}", line
            )
        calls = self.exchange.calls
        attempts, unlisted = _tried(self.guest)
        return ExecutionResult(
            value=reply.value if failure is None else None,
            value_repr=reply.value_repr,
            value_type=reply.value_type,
            stdout=stdout.decode("utf-8", "replace") if stdout else "",
            stderr=stderr.decode("utf-8", "replace") if stderr else "",
            error=failure,
            usage=usage,
            isolation=isolation,
            files=_files.changed(self.guest, self._limits.disk),
            displays=tuple(self.exchange.displays.seen) if self.exchange.displays is not None else (),
            tool_calls=tuple(calls.records) if calls is not None else (),
            tool_call_count=calls.count if calls is not None else 0,
            network=attempts,
            network_count=len(attempts) + unlisted,
        )

    def _never_started(self, ended: Ended | None) -> Failure:
        """Raises: that a runtime does not start is the engine's failure, whatever the program is."""
        if self._pool.closed:
            raise ClosedError("the executor was closed while this program's runtime started")
        how = "was lost" if ended is None else f"ended with wait status {ended.status}"
        if self._expired:
            how = f"was not ready after {_START:g} s"
        said = _tail(self.guest).strip()
        raise SandboxStartError(
            f"the runtime of {self._language.name} {how}" + (f"; it said: {said[-1000:]}" if said else "")
        )

    def _last_words(self) -> Failure | None:
        """What the runtime says that it died of, where it says that."""
        known = self._language.runtime.last_words
        said = _tail(self.guest) if known else ""
        for words, kind in known:
            if words in said:
                return _limit(kind, self._limits, self._timeout)
        return None

    def _cause(self, ended: Ended | None) -> Failure:
        if self._starting:
            return self._never_started(ended)
        if self._expired:
            return _limit("timeout", self._limits, self._timeout)
        if self._watch is not None and self._watch.limit_hit:
            return _limit(self._watch.limit_hit, self._limits, self._timeout)
        if ended is None and self._pool.closed:
            raise ClosedError("the executor was closed while this program ran")
        if ended is None:
            raise SandboxLostError(
                "the guest was lost, and with it its zygote or its session's tree; the run may be repeated"
            )
        if (failure := self._last_words()) is not None:
            return failure
        if ended.status < 0:
            text = "the branch's process ended; as a copy of a program with threads it leaves no word of how"
            return Failure("killed", "ProcessEnded", text)
        if not os.WIFSIGNALED(ended.status):
            code = os.WEXITSTATUS(ended.status)
            return Failure(
                "killed", "ProcessExit", f"the program ended its own process with status {code} before it answered"
            )
        number = os.WTERMSIG(ended.status)
        if number == signal.SIGXCPU or (number == signal.SIGKILL and ended.cpu - self._started_cpu >= self._limits.cpu):
            return _limit("cpu_limit", self._limits, self._timeout)
        if number == signal.SIGSYS:
            return Failure("policy", "SystemCall", "the program made a system call of a foreign architecture")
        name = _name_of(number)
        return Failure("killed", name, f"the program's process ended by {_CRASHES.get(number, f'signal {name}')}")


def _tail(guest: Guest) -> str:
    """The end of what was written to stderr."""
    end = os.lseek(guest.err, 0, os.SEEK_CUR)
    start = max(0, end - _TAIL)
    return os.pread(guest.err, end - start, start).decode("utf-8", "replace")


def _tried(guest: Guest) -> tuple[tuple[Attempt, ...], int]:
    """What was tried in the guest's network since its last result, and how many attempts more."""
    if guest.network is None:
        return (), 0
    log, guest.told = guest.network.log_since(guest.told)
    return log.attempts, log.dropped


def _name_of(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:  # one of the real-time signals, which have numbers only
        return f"SIG{number}"


def _limit(kind: str, limits: ResourceLimits, timeout: float) -> Failure:
    texts = {
        "timeout": ("Deadline", f"the program ran longer than its {timeout:g} s of wall time and was killed"),
        "cpu_limit": ("CpuLimit", f"the program used more than its {limits.cpu:g} s of CPU time"),
        "memory_limit": ("MemoryError", f"the program took more than its {limits.memory:,} bytes of memory"),
        "disk_limit": ("DiskLimit", f"the program's files took more than {limits.disk:,} bytes"),
        "policy": ("PolicyViolation", "the program tried to start a process, which its policy does not allow"),
        "process_limit": ("ProcessLimit", f"the program had more than {limits.processes} processes or threads"),
    }
    name, message = texts[kind]
    return Failure(kind, name, message)  # type: ignore[arg-type]  # a key of the table above


# --- Drivers ----------------------------------------------------------------------------------------------------------------


def drive(run: Run) -> None:
    """Block until the run is over."""
    if run.exchange.calls is not None:
        from dspex.execution._attend import attend

        for _ in attend(run):
            pass
        return
    channel = run.guest.channel
    try:
        send(channel, run.message, run.left())
        while not run.over:
            channel.settimeout(run.patience())
            try:
                message = run.feed(channel.recv(run.exchange.wanted))
            except (TimeoutError, BlockingIOError):
                run.look()
                continue
            if message is not None:
                send(channel, message, run.left())
    except TimeoutError:  # it does not take its request
        while not run.over:
            run.look()
            time.sleep(run.patience())
    except OSError:
        run.feed(b"")


def send(channel: socket.socket, message: Message, patience: float) -> None:
    """Send all of a message, within `patience` seconds a part, or raise `OSError`."""
    channel.settimeout(patience)
    for part in _sent_at_once(channel, message):
        channel.sendall(part)


def _sent_at_once(channel: socket.socket, message: Message) -> list[bytes | memoryview]:
    """Send what the channel takes, and the descriptor, which is ours no longer; what is left to send."""
    first, *rest = message.data
    if message.descriptor < 0:
        sent = channel.send(first)
    else:
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, struct.pack("i", message.descriptor))]
        try:
            sent = channel.sendmsg([first], rights)
        finally:
            os.close(message.descriptor)
    return rest if sent == len(first) else [memoryview(first)[sent:], *rest]


async def adrive(run: Run) -> None:
    """Await until the run is over; nothing here blocks the event loop."""
    import asyncio

    if run.exchange.calls is not None:
        from dspex.execution._attend import aattend

        async for _ in aattend(run):
            pass
        return
    loop = asyncio.get_running_loop()
    channel = run.guest.channel
    channel.setblocking(False)
    try:
        await _asend(loop, channel, run.message, run.left())
        while not run.over:
            await _readable(loop, channel, run.patience())
            try:
                message = run.feed(channel.recv(run.exchange.wanted))
            except BlockingIOError:
                run.look()
                continue
            if message is not None:
                await _asend(loop, channel, message, run.left())
    except TimeoutError:  # it does not take its request
        while not run.over:
            run.look()
            await asyncio.sleep(run.patience())
    except OSError:
        run.feed(b"")


async def _readable(loop: asyncio.AbstractEventLoop, channel: socket.socket, patience: float) -> None:
    """Wait until there is something to read, at most `patience` seconds; reads nothing itself, so nothing can be lost."""
    ready = loop.create_future()
    loop.add_reader(channel, _resolve, ready)
    timer = loop.call_later(patience, _resolve, ready)
    try:
        await ready
    finally:
        timer.cancel()
        loop.remove_reader(channel)


def _resolve(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


async def _asend(loop: asyncio.AbstractEventLoop, channel: socket.socket, message: Message, patience: float) -> None:
    import asyncio

    rest = _sent_at_once(channel, message)
    if rest:
        async with asyncio.timeout(patience):
            for part in rest:
                await loop.sock_sendall(channel, part)
