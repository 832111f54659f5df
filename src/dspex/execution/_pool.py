"""Guests forked ahead: zygotes started, watched and restarted, and their guests handed to callers in order.

Theory of operation. All decisions are `_line`'s; this file holds the lock around them and one thread, the *keeper*, that reads
every control socket. The keeper starts the zygotes (they die with the thread that started them, so it must outlive them),
takes in the guests as they say hello, restarts a zygote that was lost (with backoff), closes lanes that nobody used for
a while, and kills what runs far beyond its deadline. Callers talk to their guest themselves, on their own thread or event
loop; the keeper is never between a request and its answer.

A fork of the host (multiprocessing, os.fork) finds a pool without its keeper: `abandon` closes the inherited descriptors in the
child, which starts a pool of its own on first use.
"""

from __future__ import annotations

import os
import select
import socket
import threading
import time
from collections import deque
from typing import TYPE_CHECKING, Final

from dspex._kernel import landlock, trees
from dspex._sandbox import process
from dspex.errors import ClosedError, IsolationError, SandboxError, SandboxStartError
from dspex.execution._line import Caller, Lane, Line
from dspex.execution._watch import Watch

if TYPE_CHECKING:
    from collections.abc import Callable

    from dspex._sandbox.limits import ResourceLimits
    from dspex._sandbox.network import NetworkRules
    from dspex._sandbox.policy import SecurityPolicy
    from dspex._sandbox.process import Guest, Warden, Zygote
    from dspex.execution._isolation import Isolation
    from dspex.execution._map import Flight
    from dspex.languages._base import Language

_IDLE: Final = 60.0  # seconds after which a lane other than the plain one is closed
_TICK: Final = 0.05  # seconds between two looks at what runs
_FORKED_AT_ONCE: Final = 4  # more places than this and than cores need no more guests ahead: the cores fork no faster
_SHORT_TICK: Final = 0.005  # and at `map`s whose consumer may be away while others wait for their places
_START: Final = 120.0  # seconds that a zygote may take to be ready, its preloads included
_TRIES: Final = 4  # starts in a row that may fail before callers are told
_LAST_BREATH: Final = 1.0  # seconds that processes which were killed may take to be gone
_NOBODY: Final = 65534
_MAX_LANES: Final = 8
_NAMES: Final = 53  # the port where a guest's names are answered


class Sessions(Lane):
    """The guests of a zygote that can be branched, each with a warden, and the sessions that wait for one."""

    def __init__(self, home: Staffed) -> None:
        super().__init__(home.imports)
        self.home = home
        self.ahead = 0  # one, from the first session on


class Staffed(Lane):
    """A lane with its zygote, as far as there is one."""

    def __init__(self, imports: tuple[str, ...]) -> None:
        super().__init__(imports)
        self.sessions = Sessions(self)
        self.zygote: Zygote | None = None
        self.serving = False
        self.failures = 0
        self.start_at = 0.0
        self.started_at = 0.0
        self.last_used = time.monotonic()
        self.directory = ""
        self.alive: dict[int, Guest] = {}
        self.parent: Staffed | None = None  # from whose zygote this one's was forked

    @property
    def starting(self) -> bool:
        """True while a zygote has not said that it serves."""
        return self.zygote is not None and not self.serving

    @property
    def wanted(self) -> bool:
        """True when a zygote shall be started: one that failed several times in a row, for a caller only."""
        return self.zygote is None and (self.failures < _TRIES or self.waited_for)

    @property
    def waited_for(self) -> bool:
        """True while somebody waits for a guest of this zygote."""
        return bool(self.callers or self.sessions.callers)

    def busy(self) -> bool:
        """True while a guest of this lane is at work or on its way to it."""
        return len(self.alive) > len(self.ready) + len(self.sessions.ready)


class Pool:
    """See the head of this file."""

    def __init__(
        self,
        *,
        language: Language,
        policy: SecurityPolicy,
        limits: ResourceLimits,
        isolation: Isolation,
        places: int,
        queue: int,
    ) -> None:
        self._language = language
        self._policy = policy
        self._limits = limits
        self._isolation = isolation.offered()
        self._level = isolation.level or "namespaces"
        self.report = self._isolation.report(self._level)  # the walls in force, as every result tells them
        self._ahead = max(2, 2 * min(places, max(_FORKED_AT_ONCE, len(os.sched_getaffinity(0)))))
        self._line = Line(places, queue)
        self._rules = policy.network_rules() if policy.network else None
        self._lock = threading.Lock()
        self._deaths = threading.Condition(self._lock)
        self._lanes: dict[tuple[str, ...], Staffed] = {}
        self._watched: dict[int, Watch] = {}
        self.forsaken: deque[Guest] = deque()  # of sessions that nobody refers to any more
        self.flights: set[Flight] = set()  # the `map`s under way
        # What trees of sessions hold. A reference from here keeps their sockets out of a collector's hands, which would finalize
        # them in any order with the sessions that nobody refers to any more.
        self.held: set[Guest | Warden] = set()
        self._serial = 0
        self._closed = False
        self._closing = False
        self._waker, self._alarm = socket.socketpair()
        self._alarm.setblocking(False)
        self._waker.setblocking(False)
        self._keeper = threading.Thread(target=self._keep, name="dspex-keeper", daemon=True)
        self._keeper.start()

    # --- For callers: a place and a guest -----------------------------------------------------------------------------

    def join(
        self, caller_of: Callable[[Lane | None], Caller], imports: tuple[str, ...] | None, *, session: bool = False
    ) -> Caller:
        """Queue a caller, for a guest that has `imports` preloaded (None: for a place only), for a `session` or one run.

        Raises `QueueFullError`, `ClosedError`, `PolicyError`.
        """
        with self._lock:
            if self._closed:
                raise ClosedError("this executor is closed; make a new CodeExecutor")
            lane = None if imports is None else self._lane(imports)
            caller = caller_of(self._sessions(lane) if lane is not None and session else lane)
            served = self._line.join(caller)
            if lane is not None:
                lane.last_used = time.monotonic()
                if not caller.served:
                    self._hasten(lane)
            if self.flights and self._line.blocked:
                self._ring()
        self._wake(served, unless=caller)
        return caller

    def joiner(
        self, imports: tuple[str, ...] | None, *, needs_place: bool, session: bool = False
    ) -> Callable[[Callable[[], None]], Caller]:
        """`join` for whoever only has to say how it is woken."""

        def join(wake: Callable[[], None]) -> Caller:
            return self.join(lambda lane: Caller(lane, needs_place=needs_place, wake=wake), imports, session=session)

        return join

    def _sessions(self, lane: Staffed) -> Lane:
        """Where a session waits: for a guest that can be branched, where there are such."""
        lane.sessions.ahead = 1
        return lane.sessions if self.can_branch else lane

    @property
    def can_branch(self) -> bool:
        """True where the guests of sessions can be copied."""
        return process.can_branch(
            self._level, self._isolation.without, self._policy.subprocesses, self._language.runtime
        )

    def refill(self, caller: Caller) -> None:
        """Ask for the guests that are missing; called once the caller's own request is on its way."""
        lane = caller.lane.home if isinstance(caller.lane, Sessions) else caller.lane
        if isinstance(lane, Staffed):
            with self._lock:
                self._staff(lane)

    def give_up(self, caller: Caller) -> None:
        """A caller that will not run after all."""
        with self._lock:
            guest = caller.guest
            if guest is not None and (self._closed or guest.lost or guest.ended is not None):
                caller.guest = None
                guest.close()
            served = self._line.give_up(caller)
        self._wake(served)

    def leave(self, caller: Caller) -> None:
        """The caller's run is over."""
        with self._lock:
            if not caller.placed:
                return
            caller.placed = False
            served = self._line.leave()
        self._wake(served)

    def discard(self, guest: Guest) -> None:
        """Nobody needs this guest any more."""
        with self._lock:
            for lane in self._lanes.values():
                lane.alive.pop(guest.serial, None)
        self._watched.pop(guest.serial, None)
        self.held.discard(guest)
        guest.close()

    def watch(self, guest: Guest, deadline: float) -> Watch:
        """Let the keeper enforce what the kernel does not: until `unwatch`."""
        threads = self._language.runtime.threads
        watch = Watch(guest, self._limits, deadline=deadline, alone=self._alone(), threads=threads)
        self._watched[guest.serial] = watch
        if len(self._watched) == 1:
            self._ring()
        return watch

    def _alone(self) -> bool:
        """True where a guest is one process whose memory, threads and files the kernel bounds by itself."""
        runtime = self._language.runtime
        bounded = not runtime.data and not runtime.children
        return self._level == "namespaces" and not self._policy.subprocesses and bounded

    def unwatch(self, watch: Watch) -> None:
        """The run is over."""
        self._watched.pop(watch.guest.serial, None)

    def post_mortem(self, guest: Guest, timeout: float = 2.0) -> process.Ended | None:
        """How a guest whose channel closed came to its end; None when its zygote could not say."""
        if guest.post_mortem is not None:
            return guest.post_mortem(timeout)
        if guest.warden is not None:
            return guest.warden.how_ended(guest.inner, timeout)
        with self._deaths:
            if guest.ended is None:
                for lane in self._lanes.values():
                    if lane.zygote is not None and guest.serial in lane.alive:
                        lane.zygote.wonder(guest.serial)
            self._deaths.wait_for(lambda: guest.ended is not None or guest.lost, timeout)
            return guest.ended

    @property
    def closed(self) -> bool:
        """True from the moment that `close` was called."""
        return self._closed

    def close(self) -> None:
        """End every zygote and guest; return when none is left. Callers that wait get `ClosedError`."""
        with self._lock:
            self._closed = self._closing = True
        self._ring()
        if threading.current_thread() is not self._keeper:
            self._keeper.join()

    def abandon(self) -> None:
        """In a forked child: close the inherited descriptors; the processes belong to the parent."""
        self._closed = self._closing = True
        for lane in self._lanes.values():
            if lane.zygote is not None:
                lane.zygote.abandon()
            for guest in lane.alive.values():
                guest.abandon()
        for held in self.held:
            held.abandon()
        self._waker.close()
        self._alarm.close()

    # --- Under the lock -------------------------------------------------------------------------------------------------

    def _lane(self, imports: tuple[str, ...]) -> Staffed:
        lane = self._lanes.get(imports)
        if lane is None:
            self._language.plan(self._policy, self._limits, imports, self._level)  # raises PolicyError here and now
            lane = self._lanes[imports] = Staffed(imports)
            self._ring()
        return lane

    def _staff(self, lane: Staffed) -> None:
        if lane.zygote is None or not lane.serving:
            return
        if not self.can_branch:  # as was found out only when a zygote was started
            lane.callers += lane.sessions.callers
            for caller in lane.sessions.callers:
                caller.lane = lane
            lane.sessions.callers.clear()
        self._call(lane.zygote, lane, self._ahead)
        if self.can_branch:
            self._call(lane.zygote, lane.sessions, lane.sessions.ahead)

    def _call(self, zygote: Zygote, lane: Lane, ahead: int) -> None:
        for _ in range(lane.shortage(ahead)):
            self._serial += 1
            if not zygote.fork(self._serial, session=isinstance(lane, Sessions)):
                return  # those that are coming will ask for the rest
            lane.coming.add(self._serial)

    def _hasten(self, lane: Staffed) -> None:
        """Somebody waits for a guest of this lane: see to it that one is coming."""
        if lane.zygote is None:
            self._ring()
        else:
            self._staff(lane)

    # --- Without it -----------------------------------------------------------------------------------------------------

    @staticmethod
    def _wake(served: list[Caller], unless: Caller | None = None) -> None:
        for caller in served:
            if caller is not unless:
                caller.wake()

    def _ring(self) -> None:
        try:
            self._waker.send(b"!")
        except (BlockingIOError, OSError):
            pass  # it has been rung already, or is gone

    # --- The keeper -----------------------------------------------------------------------------------------------------

    def _keep(self) -> None:
        try:
            while not self._closing:
                self._start_lanes()
                for descriptor in self._wait():
                    self._hear(descriptor)
                self._look_around()
                if self._line.blocked:
                    for flight in self.flights.copy():
                        flight.advance()
        finally:  # whatever went wrong here: nobody may wait for ever
            self._end()

    def _wait(self) -> list[int]:
        poll = select.poll()
        poll.register(self._alarm, select.POLLIN)
        for lane in self._lanes.copy().values():
            if lane.zygote is not None:
                poll.register(lane.zygote, select.POLLIN)
        return [descriptor for descriptor, _ in poll.poll(self._patience())]

    def _patience(self) -> float:
        """Milliseconds until there is something to look at without being called."""
        if self.flights and self._line.blocked:
            return _SHORT_TICK * 1000
        if self._watched:
            return _TICK * 1000
        now = time.monotonic()
        lanes = self._lanes.copy().values()
        due = [lane.start_at - now for lane in lanes if lane.wanted]
        due += [lane.started_at + _START - now for lane in lanes if lane.starting]
        return max(0.0, min([*due, _IDLE / 4]) * 1000)

    def _hear(self, descriptor: int) -> None:
        if descriptor == self._alarm.fileno():
            try:
                self._alarm.recv(4096)
            except BlockingIOError:
                pass
            return
        for lane in self._lanes.copy().values():
            if lane.zygote is not None and lane.zygote.fileno() == descriptor:
                message = lane.zygote.receive()
                if self._rules is not None and isinstance(message, process.Guest):
                    message = self._connected(message, self._rules)
                self._act(lane, message)

    def _connected(self, guest: Guest, rules: NetworkRules) -> Guest | process.Stillborn:
        """A guest whose network is served, and that has been told what it needs for it."""
        from dspex.execution._networking import connect

        try:
            connect(guest, rules)
        except Exception as error:  # nobody may wait for a guest that will not come
            guest.kill()
            guest.close()
            return process.Stillborn(guest.serial, f"its network is not served: {error}")
        return guest

    def _act(self, lane: Staffed, message: object) -> None:
        served: list[Caller] = []
        with self._lock:
            match message:
                case process.Guest():
                    kind: Lane = lane if message.warden is None else lane.sessions
                    kind.coming.discard(message.serial)
                    lane.failures = 0
                    lane.alive[message.serial] = message
                    message.directory = lane.directory and f"{lane.directory}/{message.serial}"
                    served = self._line.arrive(kind, message)
                    if lane.waited_for:
                        self._staff(lane)
                case process.Ready():
                    lane.serving = True
                    self._staff(lane)
                case process.Ended():
                    served = self._bury(lane, message)
                case process.Stillborn():
                    served = self._stillborn(lane, message.serial, f"a guest could not be confined: {message.reason}")
                case process.Refused():
                    served = self._refused(lane, message.reason)
                case process.Unprepared():
                    self._clear(lane)
                    lane.failures = _TRIES
                    served = self._failed(lane, SandboxStartError(f"preloading failed: {message.reason}"))
                case process.Gone():
                    served = self._lost(lane)
        self._wake(served)

    def _stillborn(self, lane: Staffed, serial: int, reason: str) -> list[Caller]:
        if serial not in lane.coming | lane.sessions.coming:
            return []
        lane.coming.discard(serial)
        lane.sessions.coming.discard(serial)
        served = self._failed(lane, SandboxStartError(reason))
        if lane.failures < _TRIES:
            self._staff(lane)
        return served

    def _bury(self, lane: Staffed, ended: process.Ended) -> list[Caller]:
        guest = lane.alive.pop(ended.serial, None)
        if guest is None:
            return self._stillborn(lane, ended.serial, "guests were killed from outside before they were ready")
        guest.ended = ended
        self._deaths.notify_all()
        for ready in (lane.ready, lane.sessions.ready):
            if guest in ready:
                ready.remove(guest)
                guest.close()
                self._staff(lane)
        return []

    def _failed(self, lane: Staffed, error: SandboxError) -> list[Caller]:
        lane.failures += 1
        lane.start_at = time.monotonic() + min(2.0, 0.01 * 2**lane.failures)
        return self._fail(lane, error) if lane.failures >= _TRIES else []

    def _fail(self, lane: Staffed, error: SandboxError) -> list[Caller]:
        return [*self._line.fail(lane, error), *self._line.fail(lane.sessions, error)]

    def _refused(self, lane: Staffed, reason: str) -> list[Caller]:
        self._clear(lane)
        weaker = self._isolation.level is None and self._rules is None  # without namespaces nobody has a network
        if self._level == "namespaces" and weaker and landlock.abi() > 0:
            self._level = "landlock"  # the next lower level at or above the minimum; every result says so
            self.report = self._isolation.report(self._level)
            return []
        lane.failures = _TRIES
        wanted = f"{self._level!r}" + (", which a network takes" if self._rules is not None else "")
        return self._failed(lane, _refusal(wanted, reason))

    def _lost(self, lane: Staffed) -> list[Caller]:
        self._clear(lane)
        return self._failed(lane, SandboxStartError("the zygote was lost as soon as it was started, several times"))

    def _clear(self, lane: Staffed) -> None:
        if lane.zygote is not None:
            lane.zygote.close()
        for guest in lane.alive.values():
            guest.lost = True
            if self._level != "namespaces":  # where a zygote's death is only a signal to its guests
                guest.kill()
                guest.ends_within(_LAST_BREATH)
        self._deaths.notify_all()
        for kind in (lane, lane.sessions):
            for guest in kind.ready:
                guest.close()
            kind.ready.clear()
            kind.coming.clear()
        lane.alive.clear()
        lane.zygote, lane.serving = None, False
        if lane.directory:
            _remove(lane.directory)
            lane.directory = ""

    def _start_lanes(self) -> None:
        now = time.monotonic()
        for lane in self._lanes.copy().values():
            if lane.wanted and lane.start_at <= now and not self._closing:
                self._start(lane)

    def _start(self, lane: Staffed) -> None:
        try:
            plan = self._language.plan(self._policy, self._limits, lane.imports, self._level)
            if self._level != "namespaces":
                lane.directory = _working_directory()
            charter = process.charter(
                plan,
                self._limits,
                level=self._level,
                without=self._isolation.without,
                subprocesses=self._policy.subprocesses and self._level == "namespaces",
                directory=lane.directory,
                ports=(_NAMES, *self._rules.ports()) if self._rules is not None else (),
            )
            lane.zygote = self._sprouted(lane, charter) or process.Zygote.start(charter, plan.argv)
            lane.started_at = time.monotonic()
        except Exception as error:
            known = error if isinstance(error, SandboxError) else SandboxStartError(f"a zygote cannot start: {error}")
            with self._lock:
                self._clear(lane)
                lane.failures = _TRIES
                served = self._failed(lane, known)
            self._wake(served)

    def _sprouted(self, lane: Staffed, charter: dict[str, object]) -> Zygote | None:
        """A zygote forked from the one that has most of this lane's preloads, if there is one that serves."""
        kin = [other for other in self._lanes.copy().values() if other.serving and {*other.imports} < {*lane.imports}]
        for parent in sorted(kin, key=lambda other: len(other.imports), reverse=True):
            assert parent.zygote is not None  # it serves
            try:
                zygote = parent.zygote.sprout({name: charter[name] for name in ("preload", "directory")})
            except OSError:
                continue  # it has just gone, or has too much to do
            lane.parent = parent
            return zygote
        lane.parent = None
        return None

    def _look_around(self) -> None:
        now = time.monotonic()
        for watch in self._watched.copy().values():
            watch.enforce(now)
        served: list[Caller] = []
        with self._lock:
            for lane in [lane for lane in self._lanes.values() if lane.starting and now - lane.started_at > _START]:
                self._clear(lane)
                lane.failures = _TRIES
                served += self._failed(lane, SandboxStartError(f"a zygote was not ready after {_START:g} s"))
            for lane in self._unneeded(now):
                self._clear(lane)
                del self._lanes[lane.imports]
        self._wake(served)
        self._bury_forsaken()

    def _bury_forsaken(self) -> None:
        while self.forsaken:
            self.discard(self.forsaken.pop())

    def _unneeded(self, now: float) -> list[Staffed]:
        """Lanes with preloads that nobody uses: those idle for long, or else the oldest beyond the number allowed."""
        parents = [lane.parent for lane in self._lanes.values()]
        idle = [
            lane
            for lane in self._lanes.values()
            if lane.imports and lane not in parents and not lane.waited_for and not lane.busy()
        ]
        idle.sort(key=lambda lane: lane.last_used)
        old = [lane for lane in idle if now - lane.last_used > _IDLE]
        return old or idle[: max(0, len(self._lanes) - _MAX_LANES)]

    def _end(self) -> None:
        error = ClosedError("the executor was closed while this call waited")
        with self._lock:
            self._closed = self._closing = True
            failed = self._line.empty(error)
            for lane in self._lanes.values():
                failed += self._fail(lane, error)
                self._clear(lane)
            self._lanes.clear()
        self._bury_forsaken()
        self._waker.close()
        self._alarm.close()
        self._wake(failed)


def _working_directory() -> str:
    import tempfile

    path = tempfile.mkdtemp(prefix="dspex-")
    if os.geteuid() == 0:
        try:
            os.chown(path, _NOBODY, _NOBODY)  # whom the zygote becomes where it may
        except PermissionError:
            pass  # then it may not, and stays who it is
    return path


def _remove(directory: str) -> None:
    """Remove a directory in which a dying guest may still have made something while it was being removed."""
    end = time.monotonic() + _LAST_BREATH
    while os.path.exists(directory) and time.monotonic() < end:
        trees.remove(directory)
        if os.path.exists(directory):
            time.sleep(0.005)


def _refusal(wanted: str, reason: str) -> IsolationError:
    from dspex._kernel.probe import probe

    findings = [finding for finding in probe().findings() if not finding.ok]
    missing = tuple(finding.name for finding in findings)
    mend = tuple(finding.mend for finding in findings if finding.mend)
    text = f"this host cannot enforce isolation {wanted}: {reason}"
    if mend:
        text += "; to mend it: " + "; ".join(mend)
    return IsolationError(text + " (`dspex doctor` shows all)", missing=missing, mend=mend)
