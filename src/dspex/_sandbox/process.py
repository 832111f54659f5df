"""The host's side: a zygote that was started, and a guest that it forked.

Theory of operation. `Zygote` and `Guest` are thin handles: descriptors, and what was said on them. They hold no policy
and take no decision; the pool does. The control socket is read by one thread only (the pool's keeper), written by any:
a datagram is sent whole or not at all.
"""

from __future__ import annotations

import array
import errno
import json
import os
import select
import socket
import struct
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from dspex._kernel import processes, resources
from dspex._sandbox import ahead
from dspex.errors import SandboxStartError

if TYPE_CHECKING:
    from collections.abc import Callable

    from dspex._network._service import NetworkHandle
    from dspex._sandbox.limits import ResourceLimits
    from dspex.languages._base import Plan, Runtime

_SERIAL: Final = struct.Struct("<Q")
_EXIT: Final = struct.Struct("<QidQ")
_ANNOUNCE: Final = struct.Struct("<IQI")
_BORN: Final = struct.Struct("<IQI")
_FAILED: Final = struct.Struct("<I")
_OWN: Final = 5  # descriptors in a hello (`Ends`); a session's guest sends its warden's control socket besides
_RIGHTS_SPACE: Final = socket.CMSG_SPACE(4 * 253)  # the most that the kernel sends; guests with a network send more
_MAX_MESSAGE: Final = 8192
_BRIEF: Final = 0.001  # seconds
_PATIENCE: Final = 5.0  # seconds for a zygote to end by itself
_HASTE: Final = 1.0  # seconds for one to fork another; the keeper waits for it
# Socket buffers count in no limit of the kernel's but this: descriptors, times what one may hold (net.core.wmem_default).
_PER_DESCRIPTOR: Final = 208 << 10


class Ready(NamedTuple):
    """The zygote serves."""


class Refused(NamedTuple):
    """The kernel refuses these walls; `reason` names the step and the kernel's word."""

    reason: str


class Unprepared(NamedTuple):
    """The walls stand, but the zygote could not preload what its guests need."""

    reason: str


class Ended(NamedTuple):
    """A guest ended otherwise than by our leave: its wait status, CPU seconds and peak memory in bytes."""

    serial: int
    status: int
    cpu: float
    peak_memory: int


class Stillborn(NamedTuple):
    """A guest could not be confined; `reason` names the step."""

    serial: int
    reason: str


class Gone(NamedTuple):
    """The zygote is no more."""


class Ends(NamedTuple):
    """The descriptors through which the host has to do with a guest, in the order of a hello."""

    channel: int
    pidfd: int
    out: int
    err: int
    work: int


class Guest:
    """One confined process, and the descriptors through which the host has to do with it."""

    __slots__ = (
        "_peak",
        "_pid",
        "_status",
        "announced",
        "channel",
        "directory",
        "emptied",
        "ended",
        "err",
        "inner",
        "listeners",
        "lost",
        "network",
        "out",
        "pidfd",
        "post_mortem",
        "seen",
        "serial",
        "told",
        "warden",
        "work",
    )

    def __init__(self, serial: int, ends: Ends) -> None:
        self.serial = serial
        self.channel = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM, 0, fileno=ends.channel)
        self.pidfd = ends.pidfd
        self.out = ends.out
        self.err = ends.err
        self.work = ends.work  # its working directory, which can be read here as long as this is open
        self.ended: Ended | None = None  # filled in by the pool's keeper when the zygote reports it
        self.lost = False  # its zygote went, and will not say how it ended
        self.seen: dict[str, Any] = {}  # its files as the host last saw them, by name
        self.emptied = (
            -1
        )  # when the working directory last changed, if it was empty then and nothing can have been missed
        self.directory = ""  # of the host's, where it works without namespaces
        self.warden: Warden | None = None  # of a session's first guest, until its tree takes it
        self.listeners: list[int] = []  # in its network, until somebody serves them
        self.network: NetworkHandle | None = None  # who does
        self.announced = False  # its runtime has started, where that takes time
        self.told = 0  # how many attempts in its network results have told of
        self.inner = Warden.FIRST  # its number in a session's PID namespace
        self.post_mortem: Callable[[float], Ended | None] | None = None  # where the zygote would not know how it ended
        self._peak = 0
        self._pid = 0
        self._status = -1  # /proc/PID/status, open from the first time that it was asked for

    @property
    def pid(self) -> int:
        """The guest's process number as the host sees it. `ProcessLookupError` once it has ended and was reaped."""
        if not self._pid:
            pid = processes.pid_of(self.pidfd)
            if pid < 0:
                raise ProcessLookupError(errno.ESRCH, "the guest has ended")
            self._pid = pid
        return self._pid

    def peak_memory(self, wall: float) -> int:
        """The most bytes that the guest's first process has had resident. `OSError` once it has ended.

        After a run of less than a millisecond what was seen before still holds, to a megabyte, and is not read again.
        """
        if self._peak and wall < _BRIEF:
            return self._peak
        if self._status < 0:
            self._status = os.open(f"/proc/{self.pid}/status", os.O_RDONLY | os.O_CLOEXEC)
        self._peak = resources.peak_memory_in(os.pread(self._status, 4096, 0), self.pid)
        return self._peak

    def ends_within(self, seconds: float) -> bool:
        """True once the guest's process is dead; waits for that at most so long."""
        poll = select.poll()
        poll.register(self.pidfd, select.POLLIN)
        return bool(poll.poll(seconds * 1000))

    def kill(self) -> None:
        """SIGKILL; every process of the guest ends with it."""
        if self.pidfd >= 0:
            processes.kill(self.pidfd)

    def close(self) -> None:
        """Let go: a guest that waits for its next request sees the end of its channel and exits."""
        if self.pidfd < 0:
            return
        pidfd, self.pidfd = self.pidfd, -1
        self.channel.close()
        if self.warden is not None:
            self.warden.close()
        for descriptor in (pidfd, self.out, self.err, self.work, self._status, *self.listeners):
            if descriptor >= 0:
                os.close(descriptor)
        if self.network is not None:
            self.network.close()

    def abandon(self) -> None:
        """`close` in a forked child, where what serves networks looks after itself."""
        self.network = None
        self.close()

    def output(self, descriptor: int, limit: int) -> tuple[bytes, bool]:
        """What was printed into `self.out` or `self.err` so far, at most `limit` bytes, and whether there was more.

        The guest shares the file's offset, so it also says how much was written; it is set back for the next run.
        """
        size = os.lseek(descriptor, 0, os.SEEK_CUR)
        if size == 0:
            return b"", False
        os.lseek(descriptor, 0, os.SEEK_SET)
        return os.pread(descriptor, min(size, limit), 0), size > limit


class Branch(NamedTuple):
    """A copy of a session's guest that has its view: its number among the session's processes, and which copy it is."""

    announcement: int
    inner: int
    place: int  # among the copies that were announced, from 0
    pidfd: int
    work: int

    def forget(self) -> None:
        """End it: nobody waits for it."""
        processes.kill(self.pidfd)
        os.close(self.pidfd)
        os.close(self.work)


class Uncopied(NamedTuple):
    """An announcement that came to nothing; `reason` names the step. The process that was to be copied has been ended."""

    announcement: int
    reason: str


class Warden:
    """A session's warden, by its control socket. One caller at a time, but for `hang_up`."""

    FIRST: Final = 2  # the number of a session's first guest, in the warden's PID namespace

    def __init__(self, control: int) -> None:
        self._control = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET, 0, fileno=control)

    def announce(self, announcement: int, parent: int, number: int) -> None:
        """So many copies of process `parent` are to come. `OSError` when the warden has gone."""
        self._control.send(b"A" + _ANNOUNCE.pack(announcement, parent, number))

    def call_off(self) -> None:
        """End the process that was announced, and what there is of its copies."""
        try:
            self._control.send(b"C")
        except OSError:
            pass  # it has gone, and they with it

    def receive(self, patience: float) -> Branch | Uncopied | Ended | None:
        """Its next word; None when it has gone, or says nothing for `patience` seconds."""
        self._control.settimeout(patience)
        try:
            data, ancillary, _, _ = self._control.recvmsg(_MAX_MESSAGE, _RIGHTS_SPACE, socket.MSG_CMSG_CLOEXEC)
        except OSError:
            return None
        match data[:1]:
            case b"B":
                announcement, inner, place = _BORN.unpack_from(data, 1)
                return _branch(announcement, inner, place, received(ancillary))
            case b"X":
                return Ended(*_EXIT.unpack_from(data, 1))
            case b"E":
                (announcement,) = _FAILED.unpack_from(data, 1)
                return Uncopied(announcement, data[1 + _FAILED.size :].decode("utf-8", "replace"))
        return None

    def how_ended(self, inner: int, patience: float) -> Ended | None:
        """How process `inner` ended; None when it lives on for `patience` seconds, or the warden has gone."""
        try:
            self._control.send(b"W" + _SERIAL.pack(inner))
        except OSError:
            return None
        while (word := self.receive(patience)) is not None:
            if isinstance(word, Ended) and word.serial == inner:
                return word
            if isinstance(word, Branch):
                word.forget()
        return None

    def hang_up(self) -> None:
        """End the warden, and with it every process of the session; whoever waits for its words hears that."""
        try:
            self._control.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass  # it has gone

    def close(self) -> None:
        """`hang_up`, and let go of the socket."""
        self._control.close()

    abandon = close


def _branch(announcement: int, inner: int, place: int, descriptors: list[int]) -> Branch | Uncopied:
    if len(descriptors) == 2:
        return Branch(announcement, inner, place, *descriptors)
    for descriptor in descriptors:
        os.close(descriptor)
    return Uncopied(announcement, "this process has too many files open to take in another branch (see ulimit -n)")


class Zygote:
    """A zygote that was exec'd, or forked from another, and its control socket."""

    def __init__(self, control: socket.socket, origin: _Launcher | _Sprout) -> None:
        self._control = control
        self._origin = origin

    @classmethod
    def start(cls, charter: dict[str, object], argv: tuple[str, ...]) -> Zygote:
        """Exec a zygote; it has said nothing yet. Call from a thread that lives as long as the zygote shall.

        Raises `SandboxStartError` when the interpreter cannot be started.
        """
        failure: OSError | None = None
        for begin in (_taken, _spawned):
            begun = begin(argv)
            if begun is None:
                continue
            ours, launcher = begun
            try:
                ours.send(json.dumps(charter).encode())
                return cls(ours, launcher)
            except OSError as error:
                ours.close()
                launcher.end_within(_PATIENCE)
                failure = error
        raise SandboxStartError(f"the zygote ended as soon as {argv[0]} was started: {failure}") from failure

    def fileno(self) -> int:
        """The control socket's descriptor, to wait on."""
        return self._control.fileno()

    def sprout(self, changes: dict[str, object]) -> Zygote:
        """Have it fork a zygote whose charter is the same but for `changes`; that one has not preloaded anything more yet.

        It ends with this one. `OSError` when this one has gone, or cannot.
        """
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            with theirs:
                rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [theirs.fileno()]))]
                self._control.sendmsg([b"Z" + json.dumps(changes).encode()], rights, socket.MSG_DONTWAIT)
            ours.settimeout(_HASTE)
            _, ancillary, _, _ = ours.recvmsg(1, _RIGHTS_SPACE, socket.MSG_CMSG_CLOEXEC)
            (pidfd,) = received(ancillary) or (-1,)
            if pidfd < 0:
                raise OSError(errno.ECHILD, "the zygote did not fork")
            ours.settimeout(None)
        except BaseException:
            ours.close()
            raise
        return Zygote(ours, _Sprout(pidfd))

    def fork(self, serial: int, *, session: bool = False) -> bool:
        """Ask for one more guest; its hello comes later. False when the zygote has too much to do already.

        With `session` it is one that can be branched. A zygote that has gone is found out by its reader.
        """
        try:
            self._control.send((b"S" if session else b"F") + _SERIAL.pack(serial), socket.MSG_DONTWAIT)
        except BlockingIOError:
            return False
        except OSError:
            pass
        return True

    def wonder(self, serial: int) -> None:
        """Ask how a guest ended whose leave nobody gave; the answer comes like any other word of an end."""
        try:
            self._control.send(b"W" + _SERIAL.pack(serial), socket.MSG_DONTWAIT)
        except OSError:
            pass

    def receive(self) -> Ready | Refused | Unprepared | Ended | Stillborn | Gone | Guest:
        """The next message; blocks unless the control socket is readable."""
        try:
            data, ancillary, _, _ = self._control.recvmsg(_MAX_MESSAGE, _RIGHTS_SPACE, socket.MSG_CMSG_CLOEXEC)
        except OSError:
            return Gone()
        match data[:1]:
            case b"H":
                return _born(_SERIAL.unpack_from(data, 1)[0], received(ancillary), *data[-2:])
            case b"X":
                return Ended(*_EXIT.unpack_from(data, 1))
            case b"E":
                (serial,) = _SERIAL.unpack_from(data, 1)
                return Stillborn(serial, data[1 + _SERIAL.size :].decode("utf-8", "replace"))
            case b"N":
                return Refused(data[1:].decode("utf-8", "replace"))
            case b"P":
                return Unprepared(data[1:].decode("utf-8", "replace"))
            case b"R":
                return Ready()
        return Gone()

    def close(self) -> None:
        """End the zygote and every guest of it, and wait until they are gone.

        At the end of its control socket the zygote exits; as PID 1 it takes every guest along before the launcher,
        which waits for it, exits too. One that does not is killed.
        """
        if self._control.fileno() < 0:
            return
        self._control.close()
        self._origin.end_within(_PATIENCE)

    def abandon(self) -> None:
        """Let go of the descriptors only: the processes belong to the process that this one was forked from."""
        self._control.close()
        self._origin.abandon()


def _born(serial: int, descriptors: list[int], wardens: int, listeners: int) -> Guest | Stillborn:
    """The guest that said hello; the kernel drops descriptors for which this process has no room."""
    if len(descriptors) == _OWN + wardens + listeners:
        guest = Guest(serial, Ends(*descriptors[:_OWN]))
        if wardens:
            guest.warden = Warden(descriptors[_OWN])
        guest.listeners = descriptors[_OWN + wardens :]
        return guest
    for descriptor in descriptors:
        os.close(descriptor)
    return Stillborn(serial, "this process has too many files open to take in another guest (see ulimit -n)")


def received(ancillary: list[tuple[int, int, bytes]]) -> list[int]:
    """The descriptors that came beside a message."""
    descriptors = array.array("i")
    for _, _, data in ancillary:
        descriptors.frombytes(data[: len(data) - len(data) % descriptors.itemsize])
    return list(descriptors)


def _taken(argv: tuple[str, ...]) -> tuple[socket.socket, _Launcher] | None:
    """The control socket of a launcher that was started ahead by these words, and that launcher."""
    if (taken := ahead.take(argv)) is None:
        return None
    control, process = taken
    return socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET, 0, fileno=control), _Launcher(process)


def _spawned(argv: tuple[str, ...]) -> tuple[socket.socket, _Launcher]:
    """A new one."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    try:
        return ours, _Launcher(ahead.spawn(argv, theirs.fileno()))
    except OSError as error:
        ours.close()
        raise SandboxStartError(f"the interpreter {argv[0]} could not be started: {error}") from error
    finally:
        theirs.close()


class _Launcher:
    """The process that was exec'd."""

    def __init__(self, process: int) -> None:
        self._pid = process
        self._pidfd = os.pidfd_open(process)

    def end_within(self, seconds: float) -> None:
        """Wait for its end, at most so long; then kill it, and reap it."""
        poll = select.poll()
        poll.register(self._pidfd, select.POLLIN)
        if not poll.poll(seconds * 1000):
            processes.kill(self._pidfd)
        try:
            os.waitpid(self._pid, 0)
        except ChildProcessError:
            pass  # the host ignores SIGCHLD, or reaps whatever it finds: somebody was faster
        self.abandon()

    def abandon(self) -> None:
        """Let go of the handle."""
        os.close(self._pidfd)


class _Sprout:
    """A zygote that another one has forked, and reaps."""

    def __init__(self, pidfd: int) -> None:
        self._pidfd = pidfd

    def end_within(self, seconds: float) -> None:
        """Wait for its end, at most so long; then kill it."""
        poll = select.poll()
        poll.register(self._pidfd, select.POLLIN)
        if not poll.poll(seconds * 1000):
            processes.kill(self._pidfd)
            poll.poll(seconds * 1000)
        self.abandon()

    def abandon(self) -> None:
        """Let go of the handle."""
        os.close(self._pidfd)


# Without these there is no view to give, and without the others nothing that keeps branches apart.
_BRANCHING_TAKES: Final = frozenset(("user", "pid", "root", "seccomp"))


def can_branch(level: str, without: frozenset[str], subprocesses: bool, runtime: Runtime) -> bool:
    """True where a session's guest can be copied: with all namespaces, and without children, which could not follow."""
    return runtime.branches and level == "namespaces" and not subprocesses and not without & _BRANCHING_TAKES


def charter(
    plan: Plan,
    limits: ResourceLimits,
    *,
    level: str,
    without: frozenset[str],
    subprocesses: bool,
    directory: str,
    ports: tuple[int, ...] = (),
) -> dict[str, object]:
    """The first message to a zygote: everything that it must know, as plain data."""
    return {
        "level": level,
        "without": sorted(without),
        "mounts": [list(mount) for mount in plan.tree.mounts],
        "links": [list(link) for link in plan.tree.links],
        "files": [list(file) for file in plan.tree.files],
        "readable": plan.readable,
        "writable": plan.writable,
        "environment": plan.environment,
        "sys_path": plan.sys_path,
        "preload": plan.preload,
        "guest": plan.guest,
        "profile": plan.profile,
        "subprocesses": subprocesses,
        "branches": limits.branches if can_branch(level, without, subprocesses, plan.runtime) else 0,
        "runtime": plan.runtime._asdict(),
        "directory": directory,
        "ports": list(ports),
        "limits": {
            "heap": heap(limits),
            # What a runtime takes to start is not the program's: the keeper looks at that time more closely.
            "cpu": int(limits.cpu + 0.999) + plan.runtime.announces,
            "processes": limits.processes + plan.runtime.threads,
            "open_files": limits.open_files + plan.runtime.open_files,
            "disk": limits.disk,
            "output": limits.output,
        },
    }


def heap(limits: ResourceLimits) -> int:
    """Bytes of address space, or of private memory, for a program: its memory less what else may take some, at least half.

    That is files, output and socket buffers.
    """
    beside = limits.disk + 2 * limits.output + limits.open_files * _PER_DESCRIPTOR
    return max(limits.memory // 2, limits.memory - beside)
