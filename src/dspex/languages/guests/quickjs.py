"""The QuickJS guest: JavaScript in an interpreter small enough to be forked with every guest.

Theory of operation. The zygote makes one context and evaluates `javascript/quickjs.js` in it; each guest is a copy of that, so a
fresh isolate costs what a fresh Python guest does. A fresh program is evaluated by the prelude, which sees its completion
value, or what was thrown, whatever that is; a session's is a script, whose names persist, and whose errors the binding gives as
text. The prelude begins on a line that no program has, which tells its frames from the program's. Nothing in here ends a loop:
the host does, at the deadline.
"""

from __future__ import annotations

import errno
import json
import os
import re
import resource
from typing import Any, Final, NoReturn

from . import python_values, quickjs_native, quickjs_wasm
from .speech import Asked, Failure, Speech, ToolFailed, untagged

COMMON: Final = ()
_PLACE: Final = re.compile(r"(?:<(?:input|eval)>|eval_script):(\d+)(?::(\d+))?")
_WORDLESS: Final = (
    "(Failed obtaining QuickJS error string"  # the binding's, of an error that it could not make a text of
)
_UNREAD: Final = re.compile(r"\s*at (?:<input>|eval_script):")
_FULL: Final = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)

_guest: Guest


def prepare(profile: dict[str, Any]) -> None:
    """In the zygote: the context that every guest is a copy of."""
    global _guest
    _guest = Guest(profile)


def reseed() -> None:
    """Nothing here: a context takes its random numbers' seed when it is made, so `main` gives each guest another one."""


def main(channel: int) -> NoReturn:
    """In a guest: serve requests until the host closes the channel."""
    _guest.open(channel)
    while True:
        _guest.serve()


class Guest:
    """One context, and the channel that its program's calls go through."""

    def __init__(self, profile: dict[str, Any]) -> None:
        self._limit: int = profile["value"]
        self._memory: int = profile["memory"]
        self._bounded: bool = profile["webassembly"]
        self._home = ""
        engine = quickjs_wasm.Engine if profile["webassembly"] else quickjs_native.Engine
        self._engine = engine(profile["prelude"], self._memory, self._host)
        self._engine.call("run", "1 + 1")
        _worded(b"codecs load when they are first used, and guests may not find them")
        self._printed = 0
        self._full = False

    def open(self, channel: int) -> None:
        """Serve this channel, with random numbers of this guest's own."""
        self._speech = Speech(channel, self._limit)
        self._home = os.path.realpath(os.getcwd()) if self._bounded else ""
        seed = int.from_bytes(os.urandom(8), "little")
        self._engine.evaluate(_RANDOM.replace("SEED", str(seed)))

    def serve(self) -> None:
        """Take one request, run it, answer."""
        asked = self._speech.receive()
        try:
            told = json.loads(self._run(asked))
        except Failure as failure:
            self._speech.fail(failure)
        except self._engine.error as error:
            self._uncaught(str(error))
        except MemoryError:
            self._speech.fail(_memory())
        else:
            self._failed(*told[1:]) if told[0] == "!" else self._tell(*told)
        if self._engine.lost:
            os._exit(0)

    def _run(self, asked: Asked) -> str:
        told = asked.envelope
        self._speech.enter(told)
        self._session = told["session"]
        if asked.variables:
            encoded = python_values.encode(asked.variables, 1 << 40, (1 << 53) - 1)
            self._engine.call("give", _inlined(encoded), encoded.tagged)
        if told["tools"]:
            self._engine.call("offer", json.dumps([tool["name"] for tool in told["tools"]]))
        if not told["session"]:
            return self._settled(str(self._engine.call("run", told["code"])))
        said = self._engine.told(told["code"])
        if said is None:
            return json.dumps(
                ["bigint", None, "a bigint or symbol, which crosses from a fresh run, or within an object"]
            )
        return self._settled(said)

    def _settled(self, told: str) -> str:
        """Run what promises have left to do."""
        self._engine.settle()
        return told or str(self._engine.call("settled"))

    def _tell(self, kind: str, said: str | None, words: str = "") -> None:
        if said is None:
            self._speech.describe(kind, words)
            return
        text, parts = json.loads(said)
        if kind == "undefined":
            self._speech.tell("", [], {})
            return
        buffers, text = _outlined(text, parts)
        if len(text) + sum(map(len, buffers)) > self._limit:
            self._speech.fail(Failure("value_limit", "RangeError", f"the value takes more than {self._limit:,} bytes"))
        else:
            self._speech.tell(text, buffers, {"type": kind})

    def _uncaught(self, said: str) -> None:
        """An error of a session's, as the text that the binding makes of it."""
        head, _, stack = said.partition("\n")
        kind, _, message = head.partition(": ")
        if head.startswith(_WORDLESS):
            kind, message = "Error", "what cannot be shown"
        elif stack in ("", "undefined"):
            kind, message = "Error", f"Uncaught {head}"
        if head in ("SystemExit: 0", "null"):
            self._ended(kind, head)
        else:
            self._failed(kind, message or head, stack, kind)

    def _ended(self, kind: str, head: str) -> None:
        if head == "null":
            self._failed("null", "Uncaught null", "", "")
        else:
            self._speech.left(kind)

    def _failed(self, kind: str, message: str, stack: str, made: str) -> None:
        """`made` is the class of the error, whose constructor is not where it was thrown."""
        frames = _frames(stack, made)
        place = _PLACE.search(frames[0]) if frames else None
        line, column = (int(place[1]), int(place[2] or 0) or None) if place else (None, None)
        trace = "\n".join([f"{kind}: {message}", *(_PLACE.sub(r"<program>:\1:\2", frame) for frame in frames)])
        told = self._kind(kind, message, frames)
        self._speech.fail(Failure(told, kind, message, line=line, column=column, trace=trace))

    def _kind(self, kind: str, message: str, frames: list[str]) -> str:
        if (kind == "InternalError" and "out of memory" in message) or (kind == "null" and self._is_exhausted()):
            return "memory_limit"
        if self._full:
            return "disk_limit"
        unread = kind == "SyntaxError" and len(frames) == 1 and _UNREAD.match(frames[0])
        return "syntax" if unread else "runtime"

    def _is_exhausted(self) -> bool:
        """Whether null was thrown by the engine, which throws it where memory does not even do for an error."""
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 > self._memory // 2

    # --- What the prelude asks for ----------------------------------------------------------------------------------------

    def _host(self, verb: str, *words: Any) -> Any:
        return getattr(self, f"_do_{verb}")(*words)

    def _do_write(self, descriptor: float, text: str) -> None:
        data = memoryview(text.encode("utf-8", "replace"))
        self._printed += len(data) if descriptor == 1 else 0
        while data:
            data = data[os.write(int(descriptor), data) :]

    def _do_display(self, bundle: str) -> None:
        self._speech.display({str(mime): str(content) for mime, content in json.loads(bundle).items()}, self._printed)

    def _allowed(self, path: str) -> str:
        """The path; in WebAssembly one beneath the working directory, for there it is this process that opens it."""
        if self._home and os.path.commonpath((self._home, os.path.realpath(path))) != self._home:
            raise PermissionError(errno.EACCES, "not beneath the working directory", path)
        return path

    def _do_exit(self, code: float) -> None:
        """Of a fresh program nothing comes behind this; a session's hears of it as an error."""
        if self._session:
            return
        if code == 0:
            self._speech.left("SystemExit")
        else:
            self._failed("SystemExit", f"{code:g}", "", "")
        self._speech.receive()  # which ends with the channel

    def _do_read(self, path: str) -> str:
        try:
            with open(self._allowed(path), encoding="utf-8") as file:
                return "=" + file.read()
        except (OSError, ValueError) as error:  # one that is no UTF-8, or a name that no file has
            return "!" + json.dumps([True, "Error", str(error)])

    def _do_save(self, path: str, content: str) -> str:
        try:
            with open(self._allowed(path), "w", encoding="utf-8") as file:
                file.write(content)
        except (OSError, ValueError) as error:
            self._full = getattr(error, "errno", None) in _FULL
            return json.dumps([True, "Error", str(error)])
        return ""

    def _do_exists(self, path: str) -> int:
        try:
            return int(os.path.exists(self._allowed(path)))
        except (OSError, ValueError):
            return 0

    def _do_call(self, name: str, said: str) -> str:
        text, parts = json.loads(said)
        try:
            args, kwargs = _values(text, parts)
            value = self._speech.call(name, args, kwargs)
        except ToolFailed as failed:
            return json.dumps({"failed": True, "type": failed.kind, "message": str(failed)})
        encoded = python_values.encode({"result": value}, 1 << 40, (1 << 53) - 1)
        return json.dumps({"failed": False, "value": _inlined(encoded)})


# xorshift128+, as engines have it, from a seed of this guest's own: the one of the zygote's context is everybody's.
_RANDOM: Final = """{ let a = SEEDn | 1n, b = (SEEDn * 0x9E3779B97F4A7C15n) & 0xFFFFFFFFFFFFFFFFn
Math.random = function random () {
  let s = a; const t = b; a = t; s ^= (s << 23n) & 0xFFFFFFFFFFFFFFFFn; s ^= s >> 17n; s ^= t ^ (t >> 26n); b = s
  return Number(((a + b) & 0xFFFFFFFFFFFFFFFFn) >> 11n) / 2 ** 53
} }"""


def _frames(stack: str, made: str) -> list[str]:
    """The program's own frames: without those of the prelude, of a text that a native function could not read, and of the
    constructor of the error itself.
    """
    frames = [
        row for row in stack.splitlines() if (place := _PLACE.search(row)) and int(place[1]) < quickjs_native.BELOW
    ]
    while len(frames) > 1 and frames[0].strip().startswith(("at <input>:", f"at {made} (")):
        frames = frames[1:]
    return frames


def _memory() -> Failure:
    return Failure("memory_limit", "MemoryError", "the program needed more memory than its limit")


def _inlined(encoded: python_values.Encoded) -> str:
    """The text with its bytes in it, a character each: U+0100 and what the byte says."""
    if not encoded.buffers:
        return encoded.text
    joined = b"".join(bytes(buffer) for buffer in encoded.buffers)

    def inline(match: re.Match[str]) -> str:
        start, length = int(match[1]), int(match[2])
        return '{"~bytes":' + f'"{_worded(joined[start : start + length])}"' + "}"

    return re.sub(r'\{"~bytes":\[(\d+),(\d+)\]\}', inline, encoded.text)


def _worded(data: bytes) -> str:
    pairs = bytearray(b"\x00\x01" * len(data))
    pairs[::2] = data
    return pairs.decode("utf-16-le")


def _outlined(text: str, parts: list[str]) -> tuple[list[bytes], str]:
    """The bytes that a text names by number, and the text that names them by place."""
    buffers = [part.encode("utf-16-le")[::2] for part in parts]
    ends = [0]
    for buffer in buffers:
        ends.append(ends[-1] + len(buffer))

    def outline(match: re.Match[str]) -> str:
        number = int(match[1])
        return f'{{"~bytes":[{ends[number]},{len(buffers[number])}]}}'

    return buffers, re.sub(r'\{"~bytes":(\d+)\}', outline, text) if buffers else text


def _values(text: str, parts: list[str]) -> Any:
    buffers, said = _outlined(text, parts)
    return untagged(said, memoryview(b"".join(buffers)))
