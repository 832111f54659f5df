"""One request and its answer, without any I/O: what to send next, what the bytes that came mean.

Theory of operation. A driver (blocking, asyncio, or `map`'s poll loop) sends what `opening` or `lend` give, and feeds
what it reads. Calls of tools go to `Calls` as they come. The exchange is over when `reply` is set; a guest that breaks the
protocol has made the reply a `Breach`, never an exception that could be taken for the engine's. All bounds are checked here,
on the host's side of the wall.
"""

from __future__ import annotations

import json
import mmap
import os
import struct
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from dspex._kernel import memory
from dspex._sandbox import wire
from dspex.execution._result import KINDS, Failure

if TYPE_CHECKING:
    from dspex.execution._calls import Calls
    from dspex.execution._displays import Displays
    from dspex.languages._base import Language

_LENGTH: Final = struct.Struct("<I")
_INLINE: Final = 1 << 18  # buffers beyond this many bytes cross in a memory file
_ON_THE_WAY: Final = (wire.CALL, wire.DISPLAY, wire.READY, wire.KEEP)  # frames behind which the answer is still to come
_ENVELOPE: Final = 1 << 20  # room for repr, message and traceback beside the value


class Answer(NamedTuple):
    """A well-formed answer."""

    value: Any
    value_type: str | None
    value_repr: str | None
    failure: Failure | None


class Breach(NamedTuple):
    """The guest sent something that no guest program of ours sends."""

    reason: str


class Message(NamedTuple):
    """Bytes to send, and a descriptor to send beside the first of them (closed by the driver once sent)."""

    data: list[bytes | memoryview]
    descriptor: int = -1

    def close(self) -> None:
        """Let go of the descriptor of a message that was never sent."""
        if self.descriptor >= 0:
            os.close(self.descriptor)


def framed(kind: int, body: bytes, buffers: list[memoryview], *, files: bool = True) -> Message:
    """A frame of the host's, its buffers in a memory file if they are large and the guest takes `files`."""
    size = sum(buffer.nbytes for buffer in buffers)
    if size > _INLINE and files:
        return Message([wire.header(kind, wire.IN_MEMORY_FILE, len(body), size), body], _sealed(buffers, size))
    return Message([b"".join((wire.header(kind, 0, len(body), size), body, *buffers))])


def _with_program(body: bytes, buffers: list[memoryview], program: memoryview) -> Message:
    """An EXECUTE with the program beside it: a memory file of this run's own, through which no two runs can meet."""
    size = sum(buffer.nbytes for buffer in buffers)
    head = wire.header(wire.EXECUTE, wire.WITH_PROGRAM, len(body), size)
    return Message([b"".join((head, body, *buffers))], _sealed([program], program.nbytes))


class Exchange:
    """The state of one request on one channel."""

    __slots__ = ("_decoder", "_held", "_language", "_limit", "_loan", "calls", "displays", "ready", "reply")

    def __init__(self, language: Language, limit: int, calls: Calls | None = None) -> None:
        self.calls = calls
        self.displays: Displays | None = None  # once there is one
        self._language = language
        self._limit = limit
        self._decoder = wire.Decoder(2 * limit + _ENVELOPE, language.runtime.keeps)
        self._held: tuple[bytes, list[memoryview]] | None = None  # the request, while its program is being made
        self._loan: tuple[int, int] | None = None  # descriptor and size of the memory file that was lent
        self.ready = False  # the guest has said that its runtime has started
        self.reply: Answer | Breach | None = None

    @property
    def wanted(self) -> int:
        """A good size for the next read."""
        return max(65536, min(self._decoder.wanted, 1 << 22))

    def opening(self, body: bytes, buffers: list[memoryview]) -> Message:
        """The request itself; of one whose program must be made first, what that takes and no more."""
        if not self._language.runtime.programs:
            return framed(wire.EXECUTE, body, buffers, files=self._language.runtime.files)
        program, *given = buffers
        if program.nbytes:
            return _with_program(body, given, program)
        self._held = body, given
        (length,) = _LENGTH.unpack_from(body)
        return framed(wire.EXECUTE, body[: _LENGTH.size + length], [])

    def feed(self, data: bytes) -> Message | None:
        """Take bytes of the guest; what to send back at once, if anything."""
        try:
            frame = self._decoder.feed(data)
            while frame is not None and frame.kind in _ON_THE_WAY:
                if frame.kind == wire.KEEP and (message := self._keep(frame)):
                    return message
                self._take(frame)
                frame = self._decoder.feed(b"")
            if frame is None:
                return None
            if frame.kind == wire.BORROW:
                return self._lend(frame)
            self.reply = self._read(frame)
        except ValueError as error:
            self.reply = Breach(str(error))
        return None

    def close(self) -> None:
        """Let go of a memory file that is still out on loan."""
        if self._loan is not None:
            os.close(self._loan[0])
            self._loan = None

    def _take(self, frame: wire.Frame) -> None:
        if frame.kind == wire.READY:
            self.ready = True
            return
        if frame.kind == wire.DISPLAY:
            self._see(frame)
            return
        if frame.kind == wire.KEEP:
            return
        if self.calls is None:
            raise ValueError("a tool was called in a run that has none")
        try:
            self.calls.take(frame)
        except RecursionError:
            raise ValueError("a call's arguments are nested too deeply") from None

    def _see(self, frame: wire.Frame) -> None:
        if self.displays is None:
            from dspex.execution._displays import Displays

            self.displays = Displays(self._limit)
        self.displays.take(frame)

    def _lend(self, frame: wire.Frame) -> Message | None:
        if len(frame.body) != 8 or frame.buffers or self._loan is not None:
            raise ValueError("a request for a memory file is malformed, or the second one")
        size = int.from_bytes(frame.body, "little")
        if not 0 < size <= self._limit:
            raise ValueError(f"a memory file of {size:,} bytes was asked for, {self._limit:,} are allowed")
        descriptor = memory.fixed_size("loan", size)
        self._loan = (descriptor, size)
        return Message([wire.header(wire.LENT, 0, 0, 0)], os.dup(descriptor))

    def _keep(self, frame: wire.Frame) -> Message | None:
        """Something was compiled, once for each request; a program that was made, of which nothing has run yet, is handed back."""
        self._decoder.kept = 0
        if not self._language.runtime.programs:
            self._language.keep(str(frame.body, "utf-8"), frame.buffers)
            return None
        if self._held is None or not frame.buffers:
            raise ValueError("a program was sent that nobody waits for")
        (body, given), self._held = self._held, None
        self._language.made(body, frame.buffers, shared=not frame.body)
        return _with_program(body, given, memoryview(frame.buffers))

    def _read(self, frame: wire.Frame) -> Answer:
        if len(frame.body) < _LENGTH.size:
            raise ValueError("an answer is too short")
        (length,) = _LENGTH.unpack_from(frame.body)
        end = _LENGTH.size + length
        if end > len(frame.body):
            raise ValueError("an answer is shorter than the value that it announces")
        if len(frame.body) - end > _ENVELOPE:  # JSON of nothing but empty lists grows twentyfold when it is read
            raise ValueError(f"an answer's envelope takes {len(frame.body) - end:,} bytes, {_ENVELOPE:,} are allowed")
        envelope = _envelope(frame.body[end:])
        value = None
        if length:
            if length + len(frame.buffers) > self._limit:
                size, limit = length + len(frame.buffers), self._limit
                return _too_large(f"the value takes {size:,} bytes, {limit:,} are allowed")
            buffers = self._called_in() if frame.flags & wire.IN_LOAN else frame.buffers
            try:
                text = frame.body[_LENGTH.size : end]
                value = self._language.decode(text, buffers, bool(frame.flags & wire.TAGGED), self._limit)
            except RecursionError:
                raise ValueError("the value is nested too deeply") from None
        return Answer(value, envelope.text("type"), envelope.text("repr"), envelope.failure())

    def _called_in(self) -> memoryview:
        """The loan's content, final: nobody can write to it any more, or this raises."""
        if self._loan is None:
            raise ValueError("an answer lies in a memory file that was never lent")
        descriptor, size = self._loan
        try:
            memory.seal(descriptor)
        except OSError:
            raise ValueError("the memory file that was lent is still mapped writable by the guest") from None
        return memoryview(mmap.mmap(descriptor, size, access=mmap.ACCESS_COPY))


_KNOWN: Final[dict[bytes, _Envelope]] = {}  # short envelopes that were read before: most answers have one of a few


def _envelope(data: bytes) -> _Envelope:
    found = _KNOWN.get(data)
    if found is None:
        found = _Envelope(data)
        if len(data) < 64 and len(_KNOWN) < 256:
            _KNOWN[data] = found
    return found


class _Envelope:
    """What an answer says beside its value; every field is checked, for a hostile program may have written it."""

    def __init__(self, data: bytes) -> None:
        try:
            content = json.loads(data)
        except (ValueError, RecursionError) as error:
            raise ValueError(f"an answer's envelope is no JSON: {error}") from None
        if not isinstance(content, dict):
            raise ValueError("an answer's envelope is no object")
        self._content = content

    def text(self, key: str) -> str | None:
        value = self._content.get(key)
        if value is not None and not isinstance(value, str):
            raise ValueError(f"{key!r} of an answer is no text")
        return value

    def failure(self) -> Failure | None:
        error = self._content.get("error")
        if error is None:
            return None
        if not isinstance(error, dict) or not isinstance(error.get("kind"), str) or error["kind"] not in KINDS:
            raise ValueError("an answer's error has no known kind")
        line, column = error.get("line"), error.get("column")
        texts = [error.get(key) for key in ("type", "message", "traceback")]
        if not all(isinstance(text, str) for text in texts):
            raise ValueError("an answer's error is malformed")
        if any(place is not None and type(place) is not int for place in (line, column)):
            raise ValueError("an answer's error has a line or column that is no number")
        return Failure(error["kind"], error["type"], error["message"], line, error["traceback"], column)


def _too_large(message: str) -> Answer:
    return Answer(None, None, None, Failure("value_limit", "ValueError", message))


def _sealed(buffers: list[memoryview], size: int) -> int:
    """A memory file that holds the buffers one behind the other, final."""
    descriptor = memory.fixed_size("request", size)
    try:
        memory.fill(descriptor, buffers)
        memory.seal(descriptor)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor
