"""The warden: the process outside a session's guest that lets it be copied. Runs inside, beside it, as PID 1.

Theory of operation. Only a process itself can copy its memory (fork), and a guest that is confined may neither fork nor mount.
So a session's guest has a parent that is not confined as it is: the first process of their PID namespace, which took the namespaces
and then forked the guest. It runs no code of a program, holds the listener of the guest's gates (`_kernel.gates`), and decides:

  clone       while the host has announced copies, from the process that the host named, and no more than it named
  setns       of a process so copied, once, by its main thread: with this comes its view, a mount namespace of its own in which
              the working files have been copied. The first word is the number that it wants to find it under, the third
              says which of the announced copies it is
  setpgid     of that process then, to lead a group of its own; nobody else leaves the group that it is in
  capset      around that setns, for the two capabilities that it takes; they sleep at all other times
  signals     to the caller's own process only; the branches share a PID namespace and are not to end each other

A view is made by entering the parent's mount namespace, copying it, and putting a new tmpfs in place of the parent's. All views
belong to the user namespace that all branches share, and lie side by side: nothing nests, so a chain of branches may be as
long as one likes. What the warden lends is a descriptor of the finished view. It never touches a guest's memory.

A copy is known by having no view: every other process has one. So none may be left over when an announcement comes to
nothing, or it could take the view of a copy that is announced later. Every branch leads a process group, which its copies are in
until they have their view and lead one of their own; the kernel ends a group as a whole, forks under way included.

What is given up for it: a guest of a session has two capabilities asleep, over its own user namespace, which owns nothing but
views; raising them and using them takes the warden's consent, mounting anything is refused by seccomp and by Landlock still.

Messages, host to warden: `A` + announcement, process, number (so many copies of this process are to come), `C` (no more: end
what there is of them), `W` + process (how did it end?). Warden to host: `B` + announcement, process, index, with its pidfd and
working directory (a branch has its view), `E` + announcement, text (it came to nothing, and why), `X` + process, status, CPU
seconds, peak memory (as asked). Processes by their number in this namespace; announcements by a number of the host's.
"""

from __future__ import annotations

import _signal
import _socket
import os
import select
import signal
import struct
import time
from typing import TYPE_CHECKING, NoReturn

from dspex._kernel import gates, namespaces, processes, resources, trees
from dspex._kernel.syscalls import NUMBERS, libc
from dspex._sandbox.confine import SANDBOX_ROOT, mount_disk

if TYPE_CHECKING:
    from dspex._sandbox.confine import Walls

ANNOUNCE = struct.Struct("<IQI")
PROCESS = struct.Struct("<Q")
BORN = struct.Struct("<IQI")
FAILED = struct.Struct("<I")
END = struct.Struct("<QidQ")
UNKNOWN = -1  # for a status: the process was another's child
_SCM_RIGHTS = struct.Struct("2i")
NOT_COPIED = 1 << 31  # in that third word: the copy could not be made; the fourth says why
_LAST_BREATHS = 500  # milliseconds
_MOST_LEVELS = 100  # directories within directories that are copied
_TGKILL = NUMBERS["tgkill"]
_syscall = libc().syscall


class Warden:
    """See the head of this file."""

    def __init__(self, walls: Walls, control: _socket.socket, listener: int, guest: int) -> None:
        self._walls = walls
        self._control = control
        self._listener = listener
        self._views = {guest: _this_view()}  # by process
        self._ended: dict[int, tuple[int, float, int]] = {}
        self._wondered: set[int] = set()
        self._announcement = 0
        self._parent = 0  # whose copies are announced
        self._copies = 0  # how many of them may still be forked
        self._births: set[int] = set()  # indices of copies that have no view yet
        self._born: list[int] = []  # of this announcement, the whole ones
        self._dressed: dict[int, tuple[int, int]] = {}  # of those that enter their view: index, working directory
        self._strangers: dict[int, int] = {}  # processes that are not this one's children, by their pidfds
        self._poll = select.poll()
        self._reaped = processes.signal_descriptor(signal.SIGCHLD)

    def serve(self) -> NoReturn:
        """Decide until the host closes the control socket; every branch ends with this process."""
        poll = self._poll
        doings = {self._control.fileno(): self._obey, self._listener: self._decide, self._reaped: self._reap}
        for descriptor in doings:
            poll.register(descriptor, select.POLLIN)
        while True:
            for descriptor, event in poll.poll():
                if descriptor in self._strangers:
                    poll.unregister(descriptor)
                    self._bury(self._strangers.pop(descriptor), UNKNOWN, 0.0, 0)
                    os.close(descriptor)
                elif event & select.POLLIN:
                    doings[descriptor]()
                elif descriptor == self._control.fileno():
                    os._exit(0)
                else:  # nobody is left under the gates: no guest lives any more
                    poll.unregister(descriptor)

    # --- The host's words ------------------------------------------------------------------------------------------------

    def _obey(self) -> None:
        """Act on every word that has come: what is asked at the gates may be the answer to the last of them."""
        while True:
            try:
                message = self._control.recv(64, _socket.MSG_DONTWAIT)
            except BlockingIOError:
                return
            except ConnectionResetError:
                message = b""
            if message[:1] == b"A":
                self._announce(*ANNOUNCE.unpack_from(message, 1))
            elif message[:1] == b"C":
                self._call_off("the host called it off")
            elif message[:1] == b"W":
                self._tell(*PROCESS.unpack_from(message, 1))
            else:
                os._exit(0)

    def _announce(self, announcement: int, parent: int, number: int) -> None:
        self._uncopied("another was announced")
        self._announcement, self._parent, self._copies = announcement, parent, number
        self._births = set(range(number))
        self._born.clear()
        if parent not in self._views:
            self._uncopied("the process had ended")
            return
        for process in self._views:  # each finds all branches when it counts, its own threads among them
            try:
                resources.allow_processes(process, self._walls.processes + 1 + len(self._views) + number)
            except ProcessLookupError:
                pass  # it has just ended

    def _tell(self, process: int) -> None:
        if process in self._ended:
            status, cpu, peak = self._ended.pop(process)
            self._say(b"X" + END.pack(process, status, cpu, peak))
        elif process in self._views:
            self._wondered.add(process)
        else:
            self._say(b"X" + END.pack(process, 0, 0.0, 0))

    def _say(self, message: bytes, descriptors: tuple[int, ...] = ()) -> None:
        rights = [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, _SCM_RIGHTS.pack(*descriptors))] if descriptors else []
        try:
            self._control.sendmsg([message], rights)
        except OSError:
            os._exit(0)  # the host has gone

    # --- The gates --------------------------------------------------------------------------------------------------------

    def _decide(self) -> None:
        asked = gates.receive(self._listener)
        if asked is None:
            return
        self._obey()  # a copy was announced before it was asked for
        if self._allows(asked):
            gates.go_on(self._listener, asked)
        else:
            gates.refuse(self._listener, asked)

    def _allows(self, asked: gates.Asked) -> bool:
        match asked.call:
            case "clone":
                return self._copy(asked)
            case "setns":
                return self._dress(asked)
            case "setpgid":
                return asked.thread in self._dressed and asked.words[0] == asked.words[1] == 0
            case "capset":
                return self._around_setns(asked)
            case "kill" | "tgkill" | "rt_sigqueueinfo" | "rt_tgsigqueueinfo":
                return _is_own(asked.words[0], asked.thread)
        return False

    def _copy(self, asked: gates.Asked) -> bool:
        if self._copies <= 0 or not _is_own(self._parent, asked.thread):
            return False
        self._copies -= 1
        return True

    def _dress(self, asked: gates.Asked) -> bool:
        """Give a copy its view, if it is one that was announced and has none."""
        index = asked.words[2] & 0xFFFFFFFF
        if index & NOT_COPIED:
            if _is_own(self._parent, asked.thread):
                self._uncopied(f"the process could not be copied: {os.strerror(asked.words[3] & 0xFFFF)}")
            return False
        taken = {index for index, _ in self._dressed.values()}
        if not self._is_copy(asked.thread) or index not in self._births - taken:
            return False
        try:
            view, work = self._make_view(self._views[self._parent])
        except OSError as error:
            self._uncopied(f"the working files could not be copied: {error}")
            return False
        try:
            gates.lend(self._listener, asked, view, asked.words[0] & 0xFFFFFFFF)
        except OSError as error:  # it has died meanwhile, or named a number that it may not have
            os.close(view)
            os.close(work)
            self._uncopied(f"the copy did not take its view: {error}")
            return False
        self._ended.pop(asked.thread, None)  # of a process that had this number before
        self._views[asked.thread] = view
        self._dressed[asked.thread] = index, work
        return True

    def _is_copy(self, thread: int) -> bool:
        """True for the main thread of a process that has no view: only a copy is that."""
        return thread not in self._views and _is_own(thread, thread)

    def _around_setns(self, asked: gates.Asked) -> bool:
        """Before it: while copies are to come. After it: the branch is complete."""
        dressed = self._dressed.pop(asked.thread, None)
        if dressed is None:
            return bool(self._births) and self._is_copy(asked.thread)
        index, work = dressed
        try:
            pidfd = self._grown(asked.thread)
            self._births.discard(index)
            self._born.append(asked.thread)
            self._say(b"B" + BORN.pack(self._announcement, asked.thread, index), (pidfd, work))
        except OSError as error:
            self._uncopied(f"the copy did not become a branch: {error}")
            return False
        finally:
            os.close(work)
        self._look_after(asked.thread, pidfd)
        return True

    def _grown(self, process: int) -> int:
        """A descriptor of a process that leads its group. `OSError` when it does not, or was killed while it waited here."""
        if os.getpgid(process) != process:
            raise PermissionError("it does not lead a process group")
        return os.pidfd_open(process)

    def _uncopied(self, reason: str) -> None:
        """The announcement comes to nothing, if there is one."""
        if self._births:
            self._call_off(reason)

    def _call_off(self, reason: str) -> None:
        """End the process that was to be copied, and what there is of its copies."""
        self._births.clear()
        self._copies = 0
        for process, (_, work) in self._dressed.items():
            os.close(work)
            os.close(self._views.pop(process))
        self._dressed.clear()
        for process in self._born:
            _end(process)
        self._born.clear()
        self._end_group(self._parent)
        self._say(b"E" + FAILED.pack(self._announcement) + reason.encode("utf-8", "replace")[:1000])

    def _look_after(self, process: int, pidfd: int) -> None:
        """Hear of its end. The copy of a process with threads is that one's child, and only its death can be seen."""
        try:
            os.waitid(os.P_PID, process, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            os.close(pidfd)
        except ChildProcessError:
            self._strangers[pidfd] = process
            self._poll.register(pidfd, select.POLLIN)

    def _make_view(self, parent: int) -> tuple[int, int]:
        """A mount namespace like `parent`, with a tmpfs of its own that holds a copy of the parent's files; its `work`."""
        namespaces.enter(parent, namespaces.MOUNT)
        source = os.open(SANDBOX_ROOT, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            namespaces.unshare(namespaces.MOUNT)
            mount_disk(self._walls, instead=True)
            target = os.open(SANDBOX_ROOT, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                trees.copy(source, target, _MOST_LEVELS)
                work = os.open("work", os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=target)
            finally:
                os.close(target)
            return _this_view(), work
        finally:
            os.close(source)

    def _end_group(self, leader: int) -> None:
        """End the process and what it has forked; return when nothing is left of them but what a stranger does not bury."""
        for _ in range(_LAST_BREATHS):
            try:
                os.kill(-leader, signal.SIGKILL)
            except ProcessLookupError:
                return
            self._collect()
            time.sleep(0.001)

    # --- Ends -------------------------------------------------------------------------------------------------------------

    def _reap(self) -> None:
        os.read(self._reaped, 4096)
        self._collect()

    def _collect(self) -> None:
        while True:
            try:
                process, status, usage = os.wait4(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if process == 0:
                return
            self._bury(process, status, usage.ru_utime + usage.ru_stime, usage.ru_maxrss * 1024)

    def _bury(self, process: int, status: int, cpu: float, peak: int) -> None:
        view = self._views.pop(process, None)
        if view is not None:
            os.close(view)
            self._ended[process] = status, cpu, peak
        if process == self._parent:
            self._uncopied("the process ended while it was copied")
        elif view is None or process in self._dressed:
            self._uncopied("a copy ended before it was whole")
        if process in self._wondered:
            self._wondered.discard(process)
            self._tell(process)


def _is_own(process: int, thread: int) -> bool:
    """True when `thread` is one of the process `process`; asked of the kernel with the signal that is none."""
    return 0 < process < 1 << 31 and _syscall(_TGKILL, process, thread, 0) == 0


def _end(process: int) -> None:
    """Kill it, and wait until it is dead; by a descriptor, for it need not be this process's child."""
    try:
        pidfd = os.pidfd_open(process)
    except OSError:
        return  # it has ended
    processes.kill(pidfd)
    select.select([pidfd], [], [])
    os.close(pidfd)


def _this_view() -> int:
    return os.open("/proc/self/ns/mnt", os.O_RDONLY | os.O_CLOEXEC)


def watch_over(walls: Walls, control: _socket.socket, leash: _socket.socket, guest: int) -> NoReturn:
    """Take the listener that the guest sends on `leash`, and be its warden."""
    _signal.signal(_signal.SIGINT, _signal.SIG_IGN)
    processes.close_descriptors((control.fileno(), leash.fileno()))
    _, ancillary, _, _ = leash.recvmsg(1, _socket.CMSG_SPACE(4))
    for _, _, data in ancillary:
        leash.close()
        (listener,) = struct.unpack("i", data[:4])
        Warden(walls, control, listener, guest).serve()
    os._exit(1)  # it could not be confined, and has told the host why
