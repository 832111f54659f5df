"""The guest that holds a Python in WebAssembly: between the host's channel and `python_inside`, which runs in there.

Theory of operation. The interpreter is eryx's: CPython as a component of WebAssembly, which reaches what is mapped into it and
nothing else. Here that is the program's working directory, this package and a directory of frames, the last two read-only. It
starts after the fork, since its engine has threads. One thread reads the channel and lays each frame of the host's into
the directory; each request is one call into the interpreter, by the main thread. What is written to stdout in there are
frames of our own: one letter (c: for the channel, o and e: printed, z: the end of a call), the length in bytes as
eight hexadecimal digits, the bytes. A program may forge them: it has no more of this than of its own channel and output.
"""

from __future__ import annotations

import importlib
import os
import queue
import shutil
import threading
from typing import Any, Final, NoReturn

from .speech import HEADER, Failure, Speech

COMMON: Final = ()
_HEAD: Final = 9
_EXECUTE: Final = 1
_IMPORT: Final = """
import sys
sys.path.insert(0, "/engine")
from guests import python_inside as _inside
_inside.load()
"""
_BEGIN: Final = _IMPORT + "_inside.begin({profile!r})"
_SERVE: Final = "_inside.serve()"
_DRAIN: Final = 5.0  # seconds for what was written to come

_settings: dict[str, Any] = {}


def prepare(profile: dict[str, Any]) -> None:
    """In the zygote: let a child of it unpack the engine, where no other user can lay hands on it.

    Not the zygote itself: the engine's threads would not follow a fork.
    """
    _settings.update(profile)
    os.environ |= {"ERYX_ALLOCATOR": "on-demand", "ERYX_WARM_INSTANCES": "0", "TMPDIR": profile["directory"]}
    pid = os.fork()
    if not pid:
        _unpack()
    _, status = os.waitpid(pid, 0)
    if status:
        raise ImportError(f"the package pyeryx cannot start here: {_complaint()}")
    importlib.import_module("eryx")  # the library alone, without threads yet


def _unpack() -> NoReturn:
    try:
        import eryx

        engine = os.path.join(_settings["directory"], "python")
        shutil.copytree(
            _settings["guests"], os.path.join(engine, "guests"), ignore=shutil.ignore_patterns("__pycache__")
        )
        # The one time that it may be written to: what is imported here every guest finds compiled.
        eryx.Session(volumes=[(engine, "/engine", False)]).execute(_IMPORT)
    except BaseException as error:
        with open(os.path.join(_settings["directory"], "complaint"), "w", encoding="utf-8") as file:
            file.write(f"{type(error).__name__}: {error}")
        os._exit(1)
    os._exit(0)


def _complaint() -> str:
    try:
        with open(os.path.join(_settings["directory"], "complaint"), encoding="utf-8") as file:
            return file.read()[:1000]
    except OSError:
        return "its process died"


def reseed() -> None:
    """Nothing: the interpreter is seeded when it starts."""


def main(channel: int) -> NoReturn:
    """In a guest: start the interpreter, then serve requests until the host closes the channel."""
    speech = Speech(channel, _settings["value"])
    try:
        guest = Guest(channel)
        guest.call(_BEGIN.format(profile=_settings))
    except Exception as error:  # the host asks what stderr says when a runtime does not start
        os.write(2, f"{type(error).__name__}: {error}".encode())
        os._exit(70)
    speech.ready()
    while True:
        guest.next_request()
        try:
            guest.call(_SERVE)
        except guest.trap as error:
            speech.fail(_failure(str(error)))
            os._exit(0)


class Guest:
    """One interpreter, and the thread that feeds it."""

    def __init__(self, channel: int) -> None:
        import eryx

        os.environ["TMPDIR"] = _settings["directory"]  # where the engine looks for what it has unpacked

        self.trap: type[Exception] = eryx.EryxError
        self._channel = channel
        self._requests: queue.SimpleQueue[None] = queue.SimpleQueue()
        self._ended = threading.Event()
        self._parts = bytearray()
        work = os.getcwd()
        home = os.path.dirname(work)
        self._feed = os.path.join(home, "feed")
        os.mkdir(self._feed, 0o700)
        volumes = [
            (work, "/work", False),
            (os.path.join(home, "tmp"), "/tmp", False),
            (os.path.join(_settings["directory"], "python"), "/engine", True),
            (self._feed, "/feed", True),
        ]
        self._session = eryx.Session(volumes=volumes, on_stdout=self._take)
        threading.Thread(target=self._pump, daemon=True).start()

    def next_request(self) -> None:
        """Wait for one."""
        self._requests.get()

    def call(self, code: str) -> None:
        """Run this in there; what it wrote has been passed on when this returns. Raises `trap`."""
        self._ended.clear()
        self._session.execute(code + "\n_inside.say('z')")
        if not self._ended.wait(_DRAIN):
            os._exit(71)

    def _take(self, chunk: bytes) -> None:
        parts = self._parts
        parts += chunk
        while len(parts) >= _HEAD:
            end = _HEAD + int(parts[1:_HEAD], 16)
            if len(parts) < end:
                return
            kind, content = chr(parts[0]), bytes(parts[_HEAD:end])
            del parts[:end]
            self._pass(kind, content)

    def _pass(self, kind: str, content: bytes) -> None:
        if kind == "z":
            self._ended.set()
            return
        descriptor = {"o": 1, "e": 2}.get(kind, self._channel)
        rest = memoryview(content)
        while rest:
            rest = rest[os.write(descriptor, rest) :]

    def _pump(self) -> None:
        for number in range(1 << 62):
            header = _exactly(self._channel, HEADER.size)
            _, kind, _, length, size = HEADER.unpack(header)
            self._lay(number, header + _exactly(self._channel, length + size))
            if kind == _EXECUTE:
                self._requests.put(None)

    def _lay(self, number: int, frame: bytes) -> None:
        """Whole frames only: under a name that nobody looks for, and then under its number."""
        with open(f"{self._feed}/new", "wb") as file:
            file.write(frame)
        os.rename(f"{self._feed}/new", f"{self._feed}/{number}")
        if number > 1:
            os.unlink(f"{self._feed}/{number - 2}")


def _exactly(channel: int, size: int) -> bytes:
    data = bytearray()
    while len(data) < size:
        got = os.read(channel, min(size - len(data), 1 << 20))
        if not got:
            os._exit(0)
        data += got
    return bytes(data)


def _failure(said: str) -> Failure:
    """What ended the interpreter, which is lost."""
    if "call stack exhausted" in said:
        return Failure(
            "runtime", "RecursionError", "the program nested its calls too deeply, and its interpreter is lost"
        )
    if "Exited" in said:
        return Failure("killed", "SystemExit", "the program ended its interpreter")
    return Failure("killed", "Trap", said.strip().splitlines()[0] if said.strip() else "the interpreter ended")
