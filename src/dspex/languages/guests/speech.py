"""What Python guests that hold another language's engine say and hear: requests in, answers, calls and displays out.

The host trusts nothing of it, and a program that gets hold of it harms its own run only. See `dspex.languages._foreign` for
the shape of a request.
"""

from __future__ import annotations

import _socket
import json
import os
import struct
import sys
from typing import Any, Final, NamedTuple

from . import python_values

HEADER: Final = struct.Struct("<2sBBIQ")
_LENGTH: Final = struct.Struct("<I")
_CALL_HEAD: Final = struct.Struct("<IH")
_EXECUTE, _RETURN, _ANSWER, _CALL, _DISPLAY, _READY, _KEEP = 1, 3, 16, 18, 19, 20, 21
_TAGGED: Final = 1
_FLOATS: Final = {"nan": float("nan"), "inf": float("inf"), "-inf": float("-inf")}


class Asked(NamedTuple):
    """One request: what is to be run, and with what."""

    envelope: dict[str, Any]  # code, environment, directory, timeout, tools, and what the language added
    variables: dict[str, Any]


class ToolFailed(Exception):  # noqa: N818  (it becomes an error of the program's language)
    """A tool raised: the class of its exception by name, and its message."""

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind


class Failure(Exception):  # noqa: N818  (it is told to the host as what the program did)
    """A program failed: raise it with what the result shall say."""

    def __init__(
        self, kind: str, type: str, message: str, *, line: int | None = None, column: int | None = None, trace: str = ""
    ) -> None:
        super().__init__(message)
        self.told = {
            "kind": kind,
            "type": type,
            "message": message[:10_000],
            "line": line,
            "column": column,
            "traceback": trace[-20_000:],
        }


class Speech:
    """One end of the channel."""

    def __init__(self, channel: int, limit: int) -> None:
        self._channel = channel
        self._limit = limit
        self._calls = 0
        self._home = os.path.realpath(os.getcwd())
        self.temporary = os.environ.get("TMPDIR", "")  # as it is before a request says otherwise

    def ready(self) -> None:
        """The engine has started, where it takes time to."""
        self._send(_READY, 0, b"")

    def receive(self) -> Asked:
        """The next request; this process ends with the channel."""
        kind, body, buffers = self._frame()
        if kind != _EXECUTE:
            os._exit(71)
        envelope, values = _opened(body, buffers)
        return Asked(envelope, values)

    def enter(self, told: dict[str, Any]) -> None:
        """Take a request's environment, and its directory, which must be beneath the working directory: where nothing else
        walls this process in, it is what the program may reach. Raises `Failure`.
        """
        os.environ.update(told["environment"])
        if told["directory"] is None:
            return
        path = os.path.realpath(os.path.join(self._home, told["directory"]))
        if os.path.commonpath((self._home, path)) != self._home:
            message = f"the directory {told['directory']!r} is not beneath the program's own"
            raise Failure("runtime", "PermissionError", message)
        os.makedirs(path, exist_ok=True)
        os.chdir(path)

    def receive_program(self) -> tuple[dict[str, Any], int, tuple[int, int]]:
        """The next request up to its envelope: that, the program as a descriptor (-1: it is to be made), and how many bytes of
        values and of buffers are still to be read.
        """
        header, program = self._header_with_descriptor()
        _, kind, _, length, size = HEADER.unpack(header)
        if kind != _EXECUTE:
            os._exit(71)
        (told,) = _LENGTH.unpack(self._read(_LENGTH.size))
        envelope: dict[str, Any] = json.loads(self._read(told))
        return envelope, program, (length - _LENGTH.size - told, size)

    def _header_with_descriptor(self) -> tuple[bytes, int]:
        channel = _socket.socket(fileno=self._channel)
        try:
            data, ancillary, _, _ = channel.recvmsg(HEADER.size, _socket.CMSG_SPACE(4), _socket.MSG_CMSG_CLOEXEC)
        finally:
            channel.detach()
        if not data:
            os._exit(0)
        program = int.from_bytes(ancillary[0][2], sys.byteorder) if ancillary else -1
        return data + self._read(HEADER.size - len(data)), program

    def keep(self, token: str, compiled: bytes) -> None:
        """Give the host what was compiled, to keep under the name that it has told a token for."""
        self._send(_KEEP, 0, token.encode(), [compiled])

    def answer(self, value: object, type: str | None = None) -> None:
        """The program's value; one that cannot cross is told by its type and repr."""
        envelope: dict[str, Any] = {"type": type or python_values.type_name(value)} if value is not None else {}
        try:
            encoded = python_values.encode(value, self._limit) if value is not None else None
        except python_values.NotCarried:
            self._answer("", 0, [], {**envelope, "repr": python_values.describe(value)})
        except python_values.TooLarge:
            self.fail(Failure("value_limit", "ValueError", f"the value takes more than {self._limit:,} bytes"))
        else:
            if encoded is None:
                self._answer("", 0, [], envelope)
            else:
                self._answer(encoded.text, _TAGGED if encoded.tagged else 0, encoded.buffers, envelope)

    def tell(self, text: str, buffers: list[bytes], envelope: dict[str, Any]) -> None:
        """A value that the language's own engine has encoded, with its tags."""
        self._answer(text, _TAGGED if '{"~' in text else 0, buffers, envelope)

    def left(self, type: str) -> None:
        """The program ended of its own will, before its end."""
        self._answer("", 0, [], {"type": type})

    def describe(self, type: str, text: str) -> None:
        """A value that cannot cross, in words."""
        self._answer("", 0, [], {"type": type, "repr": text[:2000]})

    def fail(self, failure: Failure) -> None:
        """The program failed."""
        self._answer("", 0, [], {"error": failure.told})

    def call(self, name: str, args: list[Any], kwargs: dict[str, Any]) -> Any:
        """Call a tool of the host's and wait for what it returns. Raises `ToolFailed`, `NotCarried`, `TooLarge`."""
        self._calls += 1
        encoded = python_values.encode([args, kwargs], self._limit)
        title = name.encode()
        body = _CALL_HEAD.pack(self._calls, len(title)) + title + encoded.text.encode()
        self._send(_CALL, _TAGGED if encoded.tagged else 0, body, encoded.buffers)
        kind, body, buffers = self._frame()
        if kind != _RETURN:
            os._exit(71)
        envelope, values = _opened(body, buffers)
        if envelope["failed"]:
            raise ToolFailed(envelope["type"], envelope["message"])
        return values["result"]

    def display(self, bundle: dict[str, str | bytes], offset: int) -> None:
        """Show one thing, by MIME type; `offset` is how much had been printed."""
        contents = [content.encode() if isinstance(content, str) else content for content in bundle.values()]
        entries = [
            [mime, isinstance(content, bytes), len(raw)]
            for (mime, content), raw in zip(bundle.items(), contents, strict=True)
        ]
        told = json.dumps({"entries": entries, "offset": offset, "metadata": {}}).encode()
        self._send(_DISPLAY, 0, told, contents)

    # --- Frames ---------------------------------------------------------------------------------------------------------

    def _answer(self, text: str, flags: int, buffers: list[Any], envelope: dict[str, Any]) -> None:
        value = text.encode()
        self._send(_ANSWER, flags, _LENGTH.pack(len(value)) + value + json.dumps(envelope).encode(), buffers)

    def _send(self, kind: int, flags: int, body: bytes, buffers: list[Any] | tuple[()] = ()) -> None:
        views = [memoryview(buffer).cast("B") for buffer in buffers]
        header = HEADER.pack(b"dx", kind, flags, len(body), sum(view.nbytes for view in views))
        rest = memoryview(b"".join((header, body, *views)))
        while rest:
            rest = rest[os.write(self._channel, rest) :]

    def _frame(self) -> tuple[int, bytes, memoryview]:
        _, kind, _, length, size = HEADER.unpack(self._read(HEADER.size))
        data = self._read(length + size)
        return kind, data[:length], memoryview(data)[length:]

    def _read(self, size: int) -> bytes:
        data = bytearray(size)
        view, filled = memoryview(data), 0
        while filled < size:
            got = os.readv(self._channel, [view[filled:]])
            if not got:
                os._exit(0)
            filled += got
        return bytes(data)


def framed(envelope: bytes, values: bytes, buffers: bytes) -> bytes:
    """A request as the host frames it, for rehearsals."""
    length = _LENGTH.size + len(envelope) + len(values)
    header = HEADER.pack(b"dx", _EXECUTE, 0, length, len(buffers))
    return b"".join((header, _LENGTH.pack(len(envelope)), envelope, values, buffers))


def _opened(body: bytes, buffers: memoryview) -> tuple[dict[str, Any], dict[str, Any]]:
    (length,) = _LENGTH.unpack_from(body)
    end = _LENGTH.size + length
    envelope: dict[str, Any] = json.loads(body[_LENGTH.size : end])
    if end == len(body):
        return envelope, {}
    hook = _untagger(buffers) if envelope["tagged"] else None
    values: dict[str, Any] = json.loads(body[end:], object_hook=hook)
    return envelope, values


def untagged(text: str, buffers: memoryview) -> Any:
    """A value with tags, as Python has it."""
    return json.loads(text, object_hook=_untagger(buffers))


def _untagger(buffers: memoryview) -> Any:
    def untag(found: dict[str, Any]) -> Any:
        if len(found) != 1:
            return found
        ((key, content),) = found.items()
        if not key.startswith("~"):
            return found
        match key:
            case "~bytes":
                return bytes(buffers[content[0] : content[0] + content[1]])
            case "~int":
                return int(content, 16)
            case "~float":
                return _FLOATS[content]
            case "~str":
                return "".join(content)
            case "~tuple":
                return tuple(content)
            case "~set":
                return set(content)
            case "~frozenset":
                return frozenset(content)
            case "~dict":
                return dict(content)
        return python_values.put_together(key[1:], content)

    return untag
