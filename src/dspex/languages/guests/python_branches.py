"""Copies of this guest: the part that only the process itself can do. Runs inside; see the warden for the part outside.

Theory of operation. The host announces copies to the warden and sends FORK with a channel and two output files for each. `fork`
copies this process that often. A copy then asks for its view of the files (the warden puts the descriptor under a number
that the copy names, and takes the capabilities' going to sleep again as the sign that all is done), moves to the new channel
under the number of the old one, opens again in its own view the files that it has open in its parent's, and goes on where
its parent stood: waiting for a request, or for the answer of a tool.

A copy is its warden's child, not its parent's, for the warden is who tells how it ended. `os.fork` cannot do that, so the call is
made here, between the same steps of the interpreter's (PyOS_BeforeFork and so on), and, as the C library does, with the place where
the thread's number is kept. A process with threads is copied by `os.fork`, which knows of the locks that they may hold.

What does not follow: threads (a copy has the one that forked), connections over the network (a copy finds them ended, or two
processes would speak on one), and what was shared between processes before: pipes, socket
pairs and shared mappings (`mmap.mmap(-1, n)`) made before a copy are common to it and its parent.
"""

from __future__ import annotations

import _signal
import _socket
import ctypes
import fcntl
import gc
import os
import stat
import struct
import sys
import warnings
from typing import Any, Final, NoReturn

_HOME: Final = "/run/sandbox/"
_NEW_MOUNTS: Final = 0x00020000
_NOT_COPIED: Final = 1 << 31  # in the third word of setns: the copy of this index could not be made
_VERSION_3: Final = 0x20080522
_TWO: Final = 1 << 18 | 1 << 21  # CAP_SYS_CHROOT, CAP_SYS_ADMIN
_KEPT: Final = os.O_ACCMODE | os.O_APPEND | os.O_NONBLOCK | os.O_SYNC | os.O_DIRECTORY | os.O_PATH

# Looked up and made in the zygote: a copy would touch pages for each.
_Place = tuple[str, list[tuple[int, str]]]  # working directory; files that are open in the view, by number
_libc: Final = ctypes.CDLL(None, use_errno=True)
_capset: Final = _libc.capset
_setns: Final = _libc.syscall
_SETNS: Final = 268 if os.uname().machine == "aarch64" else 308
_python: Final = ctypes.pythonapi  # keeps the interpreter's lock, as a fork must
_clone: Final = ctypes.PyDLL(None, use_errno=True).syscall
_CLONE: Final = 220 if os.uname().machine == "aarch64" else 56
_PR_GET_TID_ADDRESS: Final = 40
_SIGNALS: Final = _signal.valid_signals()


def _tid_place() -> tuple[int, tuple[Any, ...]]:
    """Flags of clone and its last words: where the C library keeps the main thread's number, if the kernel tells."""
    flags = 0x00008000 | _signal.SIGCHLD  # CLONE_PARENT
    place = ctypes.c_void_p()
    if _libc.prctl(_PR_GET_TID_ADDRESS, ctypes.byref(place), 0, 0, 0) or not place.value:
        return flags, (0, 0)
    words = (0, place) if os.uname().machine == "aarch64" else (place, 0)  # tls and child_tid change places
    return flags | 0x01000000 | 0x00200000, words  # CLONE_CHILD_SETTID, CLONE_CHILD_CLEARTID


_FLAGS, _TID_PLACE = _tid_place()
_HEADER: Final = ctypes.create_string_buffer(struct.pack("=Ii", _VERSION_3, 0), 8)
_AWAKE: Final = ctypes.create_string_buffer(struct.pack("=6I", _TWO, _TWO, 0, 0, 0, 0), 24)
_ASLEEP: Final = ctypes.create_string_buffer(struct.pack("=6I", 0, _TWO, 0, 0, 0, 0), 24)


def fork(channel: int, first: int, rights: list[int], seeds: list[int]) -> int | None:
    """Make a copy of this process for every three descriptors; the copy's seed, or None in this process itself.

    `channel` is the number of this process's channel, `first` the index of the first copy.
    """
    _flush()
    place = os.getcwd(), _open_files(rights)  # once for all copies
    # A signal that is pending makes the kernel call clone a second time, and the warden counts the calls.
    mask = _signal.pthread_sigmask(_signal.SIG_BLOCK, _SIGNALS)
    try:
        for number in range(len(rights) // 3):
            try:
                process = _copied()
            except OSError as error:
                _setns(_SETNS, -1, _NEW_MOUNTS, (first + number) | _NOT_COPIED, error.errno)
                break
            if process == 0:
                try:
                    _become(channel, first + number, rights, rights[3 * number : 3 * number + 3], place)
                except BaseException as error:
                    _give_up(error)
                return seeds[number]
    finally:
        _signal.pthread_sigmask(_signal.SIG_SETMASK, mask)
    _close(rights)
    return None


def _copied() -> int:
    """Fork: 0 in the copy, its number here."""
    if len(os.listdir("/proc/self/task")) > 1:
        _signal.signal(_signal.SIGCHLD, _signal.SIG_IGN)  # nobody waits for it, and it leaves no zombie
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # that threads do not follow is documented
            return os.fork()
    _python.PyOS_BeforeFork()
    process: int = _clone(_CLONE, _FLAGS, 0, 0, *_TID_PLACE)
    if process == 0:
        _python.PyOS_AfterFork_Child()
        return 0
    error = ctypes.get_errno()
    _python.PyOS_AfterFork_Parent()
    if process < 0:
        raise OSError(error, os.strerror(error))
    return process


def _become(channel: int, index: int, rights: list[int], own: list[int], place: _Place) -> None:
    """Take the view, the channel and the output files of the copy `index`."""
    gc.freeze()  # what it has inherited is not looked at by its collector: looking would copy the page
    directory, files = place
    view = os.dup(0)  # a number that is free
    if _capset(_HEADER, _AWAKE) or _setns(_SETNS, view, _NEW_MOUNTS, index):
        raise OSError(ctypes.get_errno(), "the copy got no view of the files")
    os.setpgid(0, 0)
    if _capset(_HEADER, _ASLEEP):
        raise OSError(ctypes.get_errno(), "the copy could not become a branch")
    os.close(view)
    for descriptor, number in zip(own, (channel, 1, 2), strict=True):
        os.dup2(descriptor, number)
    _close(rights)
    os.chdir(directory)
    for descriptor, path in files:
        _follow(descriptor, path)


def _close(descriptors: list[int]) -> None:
    """As they came in one message, they mostly have numbers in a row."""
    first, last = descriptors[0], descriptors[-1]
    if descriptors == list(range(first, last + 1)):
        os.closerange(first, last + 1)
        return
    for descriptor in descriptors:
        os.close(descriptor)


def _give_up(error: BaseException) -> NoReturn:
    """This copy will never be used: the host hears of it by the end of its channel."""
    os.write(2, f"the copy failed: {error}\n".encode("utf-8", "replace"))
    os._exit(72)


def _open_files(but: list[int]) -> list[tuple[int, str]]:
    """Descriptors of files in the view that the copies will leave, with their paths; `but` are known to be none."""
    found = []
    for name in {*os.listdir("/proc/self/fd")} - {*map(str, but)}:
        try:
            path = os.readlink(f"/proc/self/fd/{name}")
        except OSError:
            continue
        if path.startswith(_HOME) or (path.startswith("socket:") and _is_connection(int(name))):
            found.append((int(name), path))
    return found


def _is_connection(descriptor: int) -> bool:
    found = _socket.socket(fileno=descriptor)
    family = found.family
    found.detach()
    return family in (_socket.AF_INET, _socket.AF_INET6)


def _follow(descriptor: int, path: str) -> None:
    """Let `descriptor` stand for this view's own file, at the same place in it; for a connection, one that has ended."""
    flags = fcntl.fcntl(descriptor, fcntl.F_GETFL)
    inheritable = os.get_inheritable(descriptor)
    if path.startswith("socket:"):
        own = _socket.socket(_socket.AF_INET, _socket.SOCK_STREAM).detach()
        fcntl.fcntl(own, fcntl.F_SETFL, flags)
    elif path.endswith(" (deleted)"):
        own = _nameless(descriptor)
    else:
        own = os.open(path, flags & _KEPT | os.O_NOFOLLOW)
    if not flags & os.O_PATH and stat.S_ISREG(os.fstat(own).st_mode):
        os.lseek(own, os.lseek(descriptor, 0, os.SEEK_CUR), os.SEEK_SET)
    os.dup2(own, descriptor, inheritable)
    os.close(own)


def _nameless(descriptor: int) -> int:
    """A copy of a file that has no name any more; it is open for reading and writing."""
    own = os.open("/run/sandbox/tmp", os.O_TMPFILE | os.O_RDWR, 0o600)
    again = os.open(f"/proc/self/fd/{descriptor}", os.O_RDONLY)
    try:
        offset = 0
        while data := os.pread(again, 1 << 20, offset):
            offset += os.pwrite(own, data, offset)
    finally:
        os.close(again)
    return own


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except Exception:
            pass  # a program's own stream; its text is in both then


def seeded(seed: int) -> None:
    """The generators of this process from one number, so that a run can be repeated; those of the kernel cannot."""
    import random

    random.seed(seed)
    modules: dict[str, Any] = sys.modules
    if "numpy.random" in modules:
        modules["numpy.random"].seed(seed & 0xFFFFFFFF)
