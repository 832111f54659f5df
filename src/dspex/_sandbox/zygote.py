"""The zygote: a preloaded process that forks confined guests on request. Started by `launch`, never imported by the host.

Theory of operation. The host execs `launch.py` with an empty environment and one descriptor, the control socket
(SOCK_SEQPACKET, one message a datagram). The first message is the `Charter`. Then

    launcher ──fork──► middle ──unshare──► (the launcher writes its id maps) ──fork──► zygote, PID 1

and the middle one exits, so the zygote becomes the child of the launcher, a subreaper. Three processes are needed
because a PID namespace begins with the next child, and because id maps for another user are written from outside.
The host that is root assembles the tree in the middle process, before it gives up being root (see `rootfs`); an ordinary
user assembles it in the zygote, whose user namespace grants the right to. At level `landlock` there is nothing to
unshare: the launcher itself becomes the zygote.

A guest needs a PID namespace of its own without a second fork: `unshare(PID)`, `fork()`, then setns back into the
zygote's own PID namespace, so that the next unshare is allowed again.

Zygotes form a tree: one that has more preloaded is forked from one that has less, with a control socket of its own, and shares the
pages of what both have. It lives in a PID namespace inside its parent's, so it ends with it.

Messages, host to zygote: `F` + serial (fork a guest), `S` + serial (fork a warden, and by it a session's guest), `W` + serial
(how did this guest end?), `Z` + changes of the charter, with a control socket (fork a zygote; the first word there is `O`, with its
pidfd). Zygote to host: `R` (ready), `N` + text (the kernel refuses these walls), `P` + text (a preload failed), `X` + serial,
wait status, CPU seconds, peak memory (a guest ended otherwise than by our leave, or was asked about), `E` + serial + text (a
guest could not be confined). A guest sends one: `H` + serial with its descriptors, before any user code; a session's guest
sends its warden's control socket too, a guest with a network its listeners; two bytes tell how many of each.
"""

from __future__ import annotations

import _signal
import _socket
import errno
import gc
import importlib
import json
import os
import select
import signal
import struct
import sys
from typing import TYPE_CHECKING, Any, NoReturn

from dspex._kernel import memory, mounts, namespaces, processes, seccomp, trees
from dspex._sandbox import rootfs, warden
from dspex._sandbox.confine import (
    SANDBOX_ROOT,
    SESSION_STEPS,
    WARDEN_STEPS,
    Birth,
    FileRules,
    Walls,
    confine,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import ModuleType

SERIAL = struct.Struct("<Q")
EXIT = struct.Struct("<QidQ")
_MAX_MESSAGE = 1 << 20
_OVERFLOW_ID = 65534
_IDLE = 20  # milliseconds without a request
_REFUSALS = (errno.EPERM, errno.EACCES, errno.ENOSYS, errno.EINVAL, errno.ENOSPC, errno.EUSERS)


def main(descriptor: int, guest: str) -> NoReturn:
    """Become a zygote on the control socket `descriptor`, for the module `guest`, and serve until the host is gone."""
    control = _socket.socket(_socket.AF_UNIX, _socket.SOCK_SEQPACKET, 0, fileno=descriptor)
    gc.disable()  # until all is loaded: there is nothing to collect yet
    processes.die_with_parent()
    processes.close_descriptors((0, 1, 2, control.fileno()))
    os.chdir("/")
    importlib.import_module(guest)  # while its file can still be seen, and before anybody waits for it
    message = control.recv(_MAX_MESSAGE)
    if not message:
        os._exit(0)  # it was started ahead, and nobody needed it
    charter = json.loads(message)
    # A Ctrl-C is for the host to act on; children are heard of through a descriptor. Guests unblock both.
    signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGINT, signal.SIGCHLD))
    try:
        if charter["level"] == "namespaces":
            _enter_namespaces(control, charter)
    except OSError as error:
        _give_up(control, error)
    try:
        zygote = Zygote(control, charter)
        if charter["level"] != "namespaces":
            _become_nobody(charter["directory"])
    except BaseException as error:  # a package may raise anything when it is imported, and the host waits
        control.send(b"P" + _describe(error))
        os._exit(1)
    zygote.serve()


def _give_up(control: _socket.socket, error: OSError) -> NoReturn:
    """Say whether the kernel refuses these walls, in which case weaker ones may be had, or something else is wrong."""
    control.send((b"N" if error.errno in _REFUSALS else b"P") + _describe(error))
    os._exit(1)


def _describe(error: BaseException) -> bytes:
    text = f"{type(error).__name__}: {error}" if not isinstance(error, OSError) else str(error)
    return text.encode("utf-8", "replace")[:4000]


# --- Into the namespaces ---------------------------------------------------------------------------------------------


def _enter_namespaces(control: _socket.socket, charter: dict[str, Any]) -> None:
    """Return in the zygote, PID 1 of its namespaces; the launcher stays behind and never returns."""
    root = os.geteuid() == 0
    processes.adopt_orphans()
    ours, theirs = _socket.socketpair()
    middle = os.fork()
    if middle:
        theirs.close()
        _stay_outside(control, ours, middle, root)
    ours.close()
    _leave(theirs, charter, root)
    if os.fork():
        os._exit(0)
    theirs.recv(1)  # until the launcher has adopted us: a parent's death before that would look like the host's
    theirs.close()
    processes.die_with_parent()
    _settle(charter, root)


def _stay_outside(control: _socket.socket, middle: _socket.socket, pid: int, root: bool) -> NoReturn:
    """The launcher: write the maps, adopt the zygote, wait for it, report what went wrong."""
    try:
        if message := middle.recv(4000):
            if message != b"unshared":
                number, _, text = message.decode("utf-8", "replace").partition(" ")
                raise OSError(int(number), text)
            outer_uid, outer_gid = (_OVERFLOW_ID, _OVERFLOW_ID) if root else (os.geteuid(), os.getegid())
            namespaces.write_maps(f"0 {outer_uid} 1", f"0 {outer_gid} 1", pid=pid)
            middle.send(b"mapped")
        os.waitpid(pid, 0)
        middle.send(b"!")
    except OSError as error:
        _give_up(control, error)
    control.close()
    middle.close()
    _wait_for_children()


def _wait_for_children() -> NoReturn:
    while True:
        try:
            os.waitpid(-1, 0)
        except ChildProcessError:
            os._exit(0)


def _leave(launcher: _socket.socket, charter: dict[str, Any], root: bool) -> None:
    try:
        if root:
            os.setgroups([])
            namespaces.unshare(namespaces.MOUNT)
            mounts.make_private()
            _build(charter, outside=True)
            if "root" not in charter["without"]:
                mounts.proc("/proc")
        wanted = namespaces.USER | namespaces.MOUNT | namespaces.UTS | namespaces.IPC
        wanted |= 0 if "pid" in charter["without"] else namespaces.PID
        wanted |= 0 if "network" in charter["without"] else namespaces.NETWORK
        namespaces.unshare(wanted)
        launcher.send(b"unshared")
        if launcher.recv(16) != b"mapped":
            os._exit(1)
        os.setresgid(0, 0, 0)
        os.setresuid(0, 0, 0)
        # Changing ids made this process undumpable, and its files in /proc root's; guests write their own maps there.
        processes.show_memory()
    except OSError as error:
        launcher.send(b"%d " % (error.errno or 0) + _describe(error))
        os._exit(1)


def _settle(charter: dict[str, Any], root: bool) -> None:
    if not root:
        mounts.make_private()
        _build(charter, outside=False)
    elif "pid" not in charter["without"]:
        mounts.proc("/proc")
    namespaces.sethostname("sandbox")


def _build(charter: dict[str, Any], *, outside: bool) -> None:
    """Put the root file system together and enter it; `outside` when still in the host's user namespace."""
    if "root" in charter["without"]:
        mounts.tmpfs("/run", size=1 << 20)
        os.mkdir(SANDBOX_ROOT)
        return
    placed = tuple(rootfs.Mount(*m) for m in charter["mounts"])
    tree = rootfs.Tree(placed, tuple(charter["links"]), tuple(charter["files"]))
    at = rootfs.stage(tree)
    rootfs.assemble(tree, at)
    if not outside and "pid" not in charter["without"]:
        mounts.proc(at + "/kernel/proc")
    elif not outside:  # nobody may mount the /proc of a PID namespace that is another's; the host's is what there is
        mounts.bind("/proc", at + "/kernel/proc", writable=True)  # guests write their id maps there
    rootfs.enter(at)


def _become_nobody(directory: str) -> None:
    """Without namespaces, a host that is root and may change its ids does not let guests be root.

    Only now, for what was to be imported may lie where nobody else may enter.
    """
    if os.geteuid() == 0:
        try:
            for at, below, files in os.walk(directory):
                for name in (*below, *files):
                    os.chown(os.path.join(at, name), _OVERFLOW_ID, _OVERFLOW_ID, follow_symlinks=False)
            os.setgroups([])
            os.setresgid(_OVERFLOW_ID, _OVERFLOW_ID, _OVERFLOW_ID)
            os.setresuid(_OVERFLOW_ID, _OVERFLOW_ID, _OVERFLOW_ID)
        except PermissionError:
            return  # no capability to do so: then uid 0 carries none that Landlock would have to stop
        processes.die_with_parent()
        processes.show_memory()


# --- The fork server -------------------------------------------------------------------------------------------------


class Zygote:
    """Forks guests on request, reaps them, and says how each ended."""

    def __init__(self, control: _socket.socket, charter: dict[str, Any], guest: ModuleType | None = None) -> None:
        self._control = control
        self._charter = charter
        self._serials: dict[int, int] = {}
        self._wondered: set[int] = set()
        self._level: str = charter["level"]
        self._own_pids = "pid" not in charter["without"] and self._level == "namespaces"
        self._pid_namespace = os.open("/proc/self/ns/pid", os.O_RDONLY | os.O_CLOEXEC) if self._own_pids else -1
        self._guest: Any = guest or self._first_import()
        self._preload()
        self._engine = self._own_engine()
        self._walls = self._plan_walls()
        self._session_walls = self._walls
        if charter["branches"]:
            self._session_walls = self._plan_walls(branches=charter["branches"])
        self._listeners: list[_socket.socket] = []  # of the guest that this process becomes
        self._guest.prepare({**charter["profile"], "directory": self._engine} if self._engine else charter["profile"])
        self._guest.reseed()
        # What there is now stays for good: a collection in a guest must not touch, and so copy, the pages it lies on.
        gc.freeze()
        gc.enable()
        self._reaped = processes.signal_descriptor(signal.SIGCHLD)

    def serve(self) -> NoReturn:
        """Answer the host until it is gone; then exit, and every guest with us."""
        self._say(b"R")
        poll = select.poll()
        poll.register(self._control, select.POLLIN)
        poll.register(self._reaped, select.POLLIN)
        control = self._control.fileno()
        later = list(reversed(self._guest.COMMON))
        while True:
            events = poll.poll(_IDLE if later else None)
            for descriptor, _ in events:
                if descriptor == control:
                    self._obey()
                else:
                    self._reap()
            if later and not events:
                self._import_later(later)

    def _import_later(self, names: list[str]) -> None:
        """Nobody wants anything: import one more of what programs often import."""
        try:
            importlib.import_module(names.pop())
        except ImportError:
            names.clear()  # level landlock, and the library lies where nobody may enter: guests will say so themselves
        self._guest.reseed()  # what generators set up when they are first seeded, guests find done
        gc.freeze()
        if self._walls.reserves:
            return
        heap = self._charter["limits"]["heap"] + _address_space()
        self._walls = self._walls._replace(heap=heap)
        self._session_walls = self._session_walls._replace(heap=heap)

    def _first_import(self) -> ModuleType:
        """The guest program; nothing of dspex is left that a program could import."""
        guest = sys.modules[self._charter["guest"]]
        os.environ.update(self._charter["environment"])
        sys.path[:] = self._charter["sys_path"]
        sys.argv[:] = [""]
        for name in [name for name in sys.modules if name.partition(".")[0] == "dspex"]:
            del sys.modules[name]
        return guest

    def _preload(self) -> None:
        """Import what guests shall find imported."""
        if self._charter["preload"] and self._level == "namespaces":
            mounts.tmpfs(
                SANDBOX_ROOT, size=1 << 24
            )  # some packages want a place for caches; guests mount theirs over it
            os.mkdir(f"{SANDBOX_ROOT}/tmp")
        for name in self._charter["preload"]:
            importlib.import_module(name)

    def _own_engine(self) -> str:
        """At level wasm, a directory for what an engine unpacks, which guests may read; else nothing."""
        if self._level != "wasm":
            return ""
        directory = f"{self._charter['directory']}/engine"
        os.makedirs(directory, 0o700, exist_ok=True)
        return directory

    def _plan_walls(self, branches: int = 0) -> Walls:
        charter, limits = self._charter, self._charter["limits"]
        runtime = charter["runtime"]
        rules = seccomp.Rules(
            subprocesses=charter["subprocesses"] or runtime["children"],
            executes=runtime["executes"],
            narrows=runtime["narrows"],
            only_own_pid=self._level != "namespaces",
            metadata=self._level == "namespaces",
            branching=branches > 0,
            sockets=bool(charter["ports"]),
        )
        return Walls(
            branches=branches,
            ports=tuple(charter["ports"]),
            level=self._level,
            without=frozenset(charter["without"]),
            heap=limits["heap"] + self._base(runtime),
            reserves=runtime["data"] > 0,
            cpu=limits["cpu"],
            processes=limits["processes"],
            open_files=limits["open_files"],
            disk=limits["disk"],
            subprocesses=charter["subprocesses"],
            rules=self._file_rules(),
            filter=seccomp.Filter(seccomp.assemble(rules)),
        )

    @staticmethod
    def _base(runtime: dict[str, Any]) -> int:
        """What a ready guest takes by itself, of what will be bounded."""
        if not runtime["data"]:
            return _address_space()
        return int(runtime["data"]) + (0 if runtime["executes"] else _private_memory())

    def _file_rules(self) -> FileRules:
        if "landlock" in self._charter["without"]:
            return FileRules(None)
        charter = self._charter
        if self._level == "wasm":
            return FileRules.plan(self._level, [*charter["readable"], self._engine], charter["writable"])
        return FileRules.plan(self._level, charter["readable"], charter["writable"], tuple(charter["ports"]))

    def _obey(self) -> None:
        try:
            message, ancillary, _, _ = self._control.recvmsg(_MAX_MESSAGE, _socket.CMSG_SPACE(4))
        except ConnectionResetError:  # the host went away with a message of ours unread
            message, ancillary = b"", []
        if not message:
            self._end()
        if message[:1] == b"Z":
            for _, _, rights in ancillary:
                self._sprout(struct.unpack("i", rights[:4])[0], json.loads(message[1:]))
            return
        (serial,) = SERIAL.unpack_from(message, 1)
        if message[:1] == b"W":
            self._tell(serial)
            return
        try:
            self._fork(serial, session=message[:1] == b"S")
        except OSError as error:
            self._say(b"E" + SERIAL.pack(serial) + _describe(error))

    def _end(self) -> NoReturn:
        """The host is gone. With PID 1 of the namespaces everything ends; without, there is more to do."""
        if self._level != "namespaces":
            for pid in self._serials:
                os.kill(pid, signal.SIGKILL)
            while self._serials:
                self._serials.pop(os.wait()[0], None)
            trees.remove(self._charter["directory"])
        os._exit(0)

    def _say(self, message: bytes) -> None:
        try:
            self._control.send(message)
        except (BrokenPipeError, ConnectionResetError):
            self._end()

    def _tell(self, serial: int) -> None:
        """The host wonders how a guest ended: say so now, or once it does."""
        if serial in self._serials.values():
            self._wondered.add(serial)
        else:
            self._say(b"X" + EXIT.pack(serial, 0, 0.0, 0))  # any other status has been told already

    def _fork(self, serial: int, *, session: bool) -> None:
        pid = self._forked()
        if pid == 0 and session:
            self._be_warden(serial)
        if pid == 0:
            self._be_born(serial, self._confine)
        self._serials[pid] = serial

    def _forked(self) -> int:
        """Fork a child that begins a PID namespace of its own."""
        if not self._own_pids:
            return os.fork()
        namespaces.unshare(namespaces.PID)
        pid = -1
        try:
            pid = os.fork()
        finally:
            if pid:
                namespaces.enter(self._pid_namespace, namespaces.PID)
        return pid

    def _sprout(self, descriptor: int, changes: dict[str, Any]) -> None:
        """Fork a zygote that serves this control socket."""
        try:
            pid = self._forked()
            if pid == 0:
                self._grow(descriptor, changes)
            pidfd = processes.open_pidfd(pid)
            control = _socket.socket(_socket.AF_UNIX, _socket.SOCK_SEQPACKET, 0, fileno=descriptor)
            control.sendmsg([b"O"], [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, struct.pack("i", pidfd))])
            control.detach()
            os.close(pidfd)
        except OSError:
            pass  # the host sees the end of that socket
        finally:
            os.close(descriptor)

    def _grow(self, descriptor: int, changes: dict[str, Any]) -> NoReturn:
        """In the new zygote: take leave of what is the parent's, preload the rest, serve."""
        gc.disable()
        control = _socket.socket(_socket.AF_UNIX, _socket.SOCK_SEQPACKET, 0, fileno=descriptor)
        try:
            processes.die_with_parent()
            processes.close_descriptors((0, 1, 2, descriptor))
            if self._level == "namespaces":
                namespaces.unshare(namespaces.MOUNT)  # what a preload mounts is not for the parent's guests
            zygote = Zygote(control, {**self._charter, **changes}, self._guest)
        except BaseException as error:
            control.send(b"P" + _describe(error))
            os._exit(1)
        zygote.serve()

    def _reap(self) -> None:
        os.read(self._reaped, 4096)
        while True:
            try:
                pid, status, usage = os.wait4(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            serial = self._serials.pop(pid, None)
            if serial is not None and (status or serial in self._wondered):
                self._wondered.discard(serial)
                cpu = usage.ru_utime + usage.ru_stime
                self._say(b"X" + EXIT.pack(serial, status, cpu, usage.ru_maxrss * 1024))
            if serial is not None and self._level != "namespaces":
                trees.remove(f"{self._charter['directory']}/{serial}")

    # --- In the guest ------------------------------------------------------------------------------------------------

    def _be_born(self, serial: int, confined: Callable[[int], int]) -> NoReturn:
        """Be confined, say hello, run the guest program; never return into the zygote's code."""
        try:
            if not self._own_pids:
                processes.die_with_parent()
            channel = confined(serial)
            _signal.pthread_sigmask(_signal.SIG_SETMASK, ())
        except BaseException as error:  # the host waits for this guest: it must hear why there will be none
            self._stillborn(serial, error)
        try:
            self._guest.main(channel)
        finally:
            os._exit(70)

    def _stillborn(self, serial: int, error: BaseException) -> NoReturn:
        self._control.send(b"E" + SERIAL.pack(serial) + _describe(error))
        os._exit(1)

    def _confine(self, serial: int) -> int:
        directory = SANDBOX_ROOT
        if self._level != "namespaces":
            directory = f"{self._charter['directory']}/{serial}"
            os.mkdir(directory, 0o700)
            os.environ.update(HOME=f"{directory}/work", TMPDIR=f"{directory}/tmp")
        equipment = Equipment(self._charter["limits"]["output"])
        birth = Birth(
            self._walls,
            directory,
            equipment.kept,
            lambda: equipment.hand_over(self._control, serial, self._listeners),
            network=self._network(),
        )
        confine(birth)
        for closed in (self._control, *self._listeners):
            closed.detach()
        return equipment.own_channel()

    def _network(self) -> Callable[[list[_socket.socket]], None] | None:
        return self._listeners.extend if self._walls.ports else None

    # --- In a session's warden, and its guest ---------------------------------------------------------------------------

    def _be_warden(self, serial: int) -> NoReturn:
        """Take the namespaces, fork the guest, and watch over it."""
        walls = self._session_walls
        try:
            confine(Birth(walls, SANDBOX_ROOT, (), lambda: None, network=self._network()), WARDEN_STEPS)
            ours, hosts = _socket.socketpair(_socket.AF_UNIX, _socket.SOCK_SEQPACKET)
            leash, guests_end = _socket.socketpair()
            pid = os.fork()
            if pid == 0:
                ours.close()
                leash.close()
                self._be_born(serial, lambda serial: self._confine_in_session(serial, hosts, guests_end))
        except BaseException as error:
            self._stillborn(serial, error)
        try:
            warden.watch_over(walls, ours, leash, pid)
        finally:
            os._exit(70)

    def _confine_in_session(self, serial: int, warden: _socket.socket, leash: _socket.socket) -> int:
        equipment = Equipment(self._charter["limits"]["output"], warden)
        confine(
            Birth(
                self._session_walls,
                SANDBOX_ROOT,
                equipment.kept,
                lambda: equipment.hand_over(self._control, serial, self._listeners),
                lambda listener: _hand(leash, listener),
            ),
            SESSION_STEPS,
        )
        for closed in (self._control, warden, leash, *self._listeners):
            closed.detach()
        return equipment.own_channel()


class Equipment:
    """The descriptors that one guest has in common with the host."""

    def __init__(self, output: int, *more: _socket.socket) -> None:
        # The C module's own sockets: Python's class around them would touch a hundred more shared pages in every guest.
        self._theirs, self._channel = _socket.socketpair()
        size = _whole_pages(output) + 4096
        self._files = memory.output_file("stdout", size), memory.output_file("stderr", size)
        self._more = more
        for number, file in enumerate(self._files, 1):
            os.dup2(file, number)

    @property
    def kept(self) -> tuple[int, ...]:
        """What the guest keeps open of all that it inherited."""
        return 0, 1, 2, self._channel.fileno()

    def hand_over(self, control: _socket.socket, serial: int, listeners: list[_socket.socket]) -> None:
        """The hello: everything that the host needs, in one message."""
        pidfd = processes.open_pidfd(os.getpid())
        work = os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        more = (other.fileno() for other in (*self._more, *listeners))
        descriptors = (self._theirs.fileno(), pidfd, *self._files, work, *more)
        rights = struct.pack(f"{len(descriptors)}i", *descriptors)
        hello = b"H" + SERIAL.pack(serial) + bytes((len(self._more), len(listeners)))
        control.sendmsg([hello], [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, rights)])

    def own_channel(self) -> int:
        """The guest's end, when all else has been closed by number."""
        self._theirs.detach()  # its number may be another's by now
        return self._channel.detach()


def _hand(leash: _socket.socket, listener: int) -> None:
    leash.sendmsg([b"L"], [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, struct.pack("i", listener))])


def _address_space() -> int:
    with open("/proc/self/statm", "rb") as file:
        return int(file.read().split()[0]) * os.sysconf("SC_PAGE_SIZE")


def _private_memory() -> int:
    with open("/proc/self/statm", "rb") as file:
        return int(file.read().split()[5]) * os.sysconf("SC_PAGE_SIZE")


def _whole_pages(size: int) -> int:
    return (size + 4095) & ~4095
