"""The Python guest in WebAssembly, from within: what its interpreter lacks is put in place, and then `python` serves as ever.

Theory of operation. There are no sockets, signals, threads or memory files in here, and nothing to wait by but a clock. Frames
of the host's lie as files in a directory that is read-only in here, numbered in their order; frames to the host, and what is
printed, are written to stdout, each behind its kind and length (see `python_wasm`, which is outside). Who waits for a frame
looks for its file, ever less often. So a channel, a poll and a selector of our own take the places of the system's.
"""

from __future__ import annotations

import errno
import importlib
import os
import selectors
import sys
import time
import types
from asyncio import events
from typing import TYPE_CHECKING, Any, Final

import _eryx  # the interpreter's own

if TYPE_CHECKING:
    from collections.abc import Mapping

_FEED: Final = "/feed"
_CHANNEL: Final = 1 << 20  # a number that no file has
_SHORTEST, _LONGEST = 0.0002, 0.005  # seconds between two looks


def say(kind: str, data: bytes = b"") -> None:
    """One frame outwards."""
    _eryx._eryx_report_output(0, b"%s%08x%s" % (kind.encode(), len(data), data))


class _Channel:
    """Stands for the socket."""

    def __init__(self) -> None:
        self._next = 0

    def fileno(self) -> int:
        return _CHANNEL

    def sendall(self, data: bytes) -> None:
        say("c", data)

    def comes(self, seconds: float | None) -> bool:
        """Whether a frame is there, now or within so many seconds (None: it will be)."""
        end = None if seconds is None else time.monotonic() + seconds
        pause = _SHORTEST
        while not os.path.exists(f"{_FEED}/{self._next}"):
            left = pause if end is None else end - time.monotonic()
            if left <= 0:
                return False
            time.sleep(min(pause, left))
            pause = min(_LONGEST, pause * 1.5)
        return True

    def recvmsg(self, _size: int, _space: int) -> tuple[bytes, list[Any], int, None]:
        """One whole frame."""
        self.comes(None)
        with open(f"{_FEED}/{self._next}", "rb") as file:
            data = file.read()
        self._next += 1
        return data, [], 0, None


class _Poll:
    """Stands for `select.poll()`."""

    def register(self, *_: object) -> None:
        """There is one channel only."""

    def poll(self, milliseconds: float | None = None) -> list[tuple[int, int]]:
        """Whether it has a frame."""
        return [(_CHANNEL, 1)] if _channel.comes(milliseconds and milliseconds / 1000) else []


class _Selector(selectors.BaseSelector):
    """What an event loop waits by: of all that may be registered only the channel ever becomes readable."""

    def __init__(self) -> None:
        self._keys: dict[Any, selectors.SelectorKey] = {}

    def register(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:
        self._keys[fileobj] = key = selectors.SelectorKey(fileobj, _CHANNEL, events, data)
        return key

    def unregister(self, fileobj: Any) -> selectors.SelectorKey:
        return self._keys.pop(fileobj)

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        key = self._keys.get(_CHANNEL)
        if key is None:
            time.sleep(max(0.0, timeout or 0.0))
            return []
        return [(key, selectors.EVENT_READ)] if _channel.comes(timeout) else []

    def get_map(self) -> Mapping[Any, selectors.SelectorKey]:
        return self._keys


class _Stream:
    """Stands for the file of a descriptor: what is printed goes out at once."""

    encoding, errors, closed = "utf-8", "backslashreplace", False
    printed = 0  # bytes to stdout

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def write(self, text: str) -> int:
        if not isinstance(text, str):
            raise TypeError(f"write() argument must be str, not {type(text).__name__}")
        data = text.encode("utf-8", "backslashreplace")
        if self._descriptor == 1:
            _Stream.printed += len(data)
        say("o" if self._descriptor == 1 else "e", data)
        return len(text)

    def writelines(self, lines: Any) -> None:
        for line in lines:
            self.write(line)

    def flush(self) -> None:
        """Nothing is kept back."""

    def isatty(self) -> bool:
        return False

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        return self._descriptor


def _stand_in(name: str, **names: Any) -> Any:
    """A module of that name with nothing but these in it."""
    module = types.ModuleType(name)
    module.__dict__.update(names)
    sys.modules[name] = module
    return module


def _refuse(*_: object, **__: object) -> Any:
    raise NotImplementedError("there is no such thing in WebAssembly")


_channel: Final = _Channel()


def load() -> None:
    """Put everything in place that `python` takes to be imported, and import it."""
    _stand_in("mmap", mmap=_refuse, ACCESS_COPY=3)
    _stand_in(f"{__package__}.python_branches", fork=_refuse, seeded=_refuse)
    ours: Any = sys.modules["_signal"]
    ours.setitimer = ours.signal = lambda *_: None
    for name in ("ITIMER_REAL", "SIGALRM", "SIGXCPU", "SIGINT"):
        setattr(ours, name, 0)
    _socket: Any = importlib.import_module("_socket")
    _socket.CMSG_SPACE = lambda size: size
    importlib.import_module(f"{__package__}.python")


def begin(profile: dict[str, Any]) -> None:
    """Make the guest, on what there is in here."""
    global _guest, _streams
    python, tools, displays, interrupts = map(_ours, ("python", "python_tools", "python_displays", "python_interrupts"))
    python._stream = _Stream
    python._INLINE = 1 << 62  # bytes that cross in a frame: there are no memory files
    python._ENOSPC, python._EDQUOT, python._EFBIG, python._EAGAIN = (
        errno.ENOSPC,
        errno.EDQUOT,
        errno.EFBIG,
        errno.EAGAIN,
    )
    kind = python._kind
    python._kind = lambda error: "disk_limit" if _is_too_large(error, profile["disk"]) else kind(error)
    tools.select = types.SimpleNamespace(poll=_Poll, POLLIN=1)
    displays.os = types.SimpleNamespace(lseek=lambda *_: _Stream.printed, SEEK_CUR=1)
    setattr(selectors, "PollSelector", _Selector)  # noqa: B010  (mypy knows it for a class)
    interrupts.at_home()
    os.chdir("/work")
    os.environ.update(profile["environment"])
    _guest = python.Guest(profile)
    _streams = sys.stdout, sys.stderr
    _guest.open(_channel)
    python.reseed()


def _is_too_large(error: BaseException, limit: int) -> bool:
    """A file that grows beyond its limit is an I/O error in here, one of many."""
    if not issubclass(type(error), OSError) or getattr(error, "errno", None) != errno.EIO:
        return False
    files = [os.path.join(at, name) for at, _, names in os.walk("/work") for name in names]
    return any(os.path.isfile(path) and os.path.getsize(path) >= limit for path in files)


def _ours(name: str) -> Any:
    return importlib.import_module(f"{__package__}.{name}")


def serve() -> None:
    """Take one request, run it, answer."""
    global _streams
    sys.stdout, sys.stderr = _streams  # the interpreter has put its own in their places
    loop = events._get_running_loop()  # and runs a loop of its own, of which programs shall not know
    events._set_running_loop(None)
    try:
        _guest.serve_one()
    finally:
        events._set_running_loop(loop)
        _streams = sys.stdout, sys.stderr


_guest: Any = None
_streams: Any = None
