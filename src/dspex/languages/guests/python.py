"""The Python guest: takes requests on its channel, runs them, answers. Everything here may be overwritten by the guest.

Theory of operation. `main` never returns. It waits for an EXECUTE frame, runs the program in the module `__main__`, and
sends one ANSWER; at the end of the file it exits without ceremony (no atexit, no `__del__`). A fresh guest sees one
request, a session many. The program's last expression is its value, as in a notebook. Every other frame of the host's goes
through `_dispatch`, whether it comes between two programs or while one waits (see `python_tools`).

There are two deadlines. The soft one is a timer signal in here (see `python_interrupts`): it raises in the running code, so
the error can say in which line the program was. The hard one is the host's SIGKILL some milliseconds later, for code that a
Python signal handler cannot interrupt, or that swallows it. The same holds for CPU time (SIGXCPU, then the keeper's SIGKILL).

Nothing in this file is a wall: a program may patch, forge or break all of it, and harms its own run only.
"""

from __future__ import annotations

import _signal
import _sitebuiltins
import _socket
import _thread
import ast
import builtins
import itertools
import json
import linecache
import marshal
import mmap
import os
import random
import struct
import sys
import traceback
import types
from typing import Any, Final, NoReturn, TypeGuard, TypeVar

from . import (
    python_async,
    python_branches,
    python_check,
    python_displays,
    python_dump,
    python_interrupts,
    python_network,
    python_tools,
    python_values,
)
from .python_interrupts import CpuLimit, Deadline

_HEADER: Final = struct.Struct("<2sBBIQ")
_LENGTH: Final = struct.Struct("<I")
_EXECUTE, _LENT, _RETURN, _FORK, _TUNE, _ANSWER, _BORROW = 1, 2, 3, 4, 5, 16, 17
_TAGGED, _IN_LOAN, _IN_MEMORY_FILE = 1, 2, 1
_RIGHTS_SPACE: Final = _socket.CMSG_SPACE(4 * 252)  # the most that the kernel sends at once, in threes
_INLINE: Final = 1 << 18  # buffers beyond this many bytes cross in a memory file
_AWAIT: Final = ast.PyCF_ALLOW_TOP_LEVEL_AWAIT
_ENOSPC, _EDQUOT, _EFBIG, _EAGAIN = 28, 122, 27, 11

# Let go when memory runs out, so that the error can still be told. Made in the zygote: a guest would have to touch it.
_BALLAST: Final = bytearray(1 << 18)


_Error = TypeVar("_Error", bound=BaseException)

_guest: Guest  # made by `prepare`, in the zygote


# What programs import most. The zygote imports it when it has nothing else to do, so that guests find it done. Not asyncio, which
# would cost every guest 40 pages and the whole 5 MB: who awaits preloads it by imports=["asyncio"], or waits once.
COMMON: Final = (
    *("dataclasses", "decimal", "fractions", "statistics", "heapq", "bisect", "string", "textwrap", "copy", "uuid"),
    *("hashlib", "base64", "csv", "inspect", "abc", "contextlib", "calendar", "zoneinfo"),
)


def prepare(profile: dict[str, Any]) -> None:
    """In the zygote: make all that guests have in common, and run two programs through it.

    What is made or done for the first time here is not done again in every guest, on pages copied for it.
    """
    global _guest
    ours, theirs = _socket.socketpair()
    _guest = Guest(profile)
    if profile["network"]:
        python_network.prepare()
    _guest.open(theirs)
    for code in ("x = 1\nx + 1", "1 / 0"):
        envelope = marshal.dumps((code, [], {}, None, 60.0, [], ()))
        body = _LENGTH.pack(len(envelope)) + envelope
        ours.sendall(_HEADER.pack(b"dx", _EXECUTE, 0, len(body), 0) + body)
        _guest.serve_one()
        ours.recv(1 << 16)
    _guest.forget()
    ours.close()
    theirs.close()


def main(channel: int) -> NoReturn:
    """In a guest: serve the channel until the host closes it."""
    reseed()
    python_interrupts.at_home()
    _guest.open(_socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM, 0, fileno=channel))
    while True:
        _guest.serve_one()


def reseed() -> None:
    """Give this process random numbers of its own: a fork would otherwise repeat its siblings'.

    OpenSSL notices a fork by the process number, and every guest is number 1 of its namespace, as the zygote is.
    """
    random.seed()
    modules = sys.modules
    if "ssl" in modules:
        modules["ssl"].RAND_add(os.urandom(32), 32.0)
    if "numpy.random" in modules:
        modules["numpy.random"].seed()
    if "uuid" in modules:
        vars(modules["uuid"])["_last_timestamp"] = None


def _stream(descriptor: int) -> Any:
    return open(descriptor, "w", encoding="utf-8", errors="backslashreplace", buffering=1, closefd=False)


class Request:
    """One EXECUTE, taken apart; the variables are read when they are needed, for reading them may fail."""

    __slots__ = ("_joined", "_pickled", "_places", "code", "directory", "environment", "imports", "timeout", "tools")

    def __init__(self, body: bytes, joined: memoryview) -> None:
        envelope, self._pickled = _opened(body)
        self.code, self.imports, self.environment, self.directory, self.timeout, self._places, self.tools = envelope
        self._joined = joined

    def variables(self) -> dict[str, Any]:
        """The variables by name."""
        return _read(self._pickled, self._joined, self._places) if self._pickled else {}


def _opened(body: bytes) -> tuple[Any, memoryview]:
    """The envelope in a body of the host's, and the pickle behind it."""
    (length,) = _LENGTH.unpack_from(body)
    end = _LENGTH.size + length
    return marshal.loads(memoryview(body)[_LENGTH.size : end]), memoryview(body)[end:]


def _read(pickled: memoryview, joined: memoryview, places: list[tuple[int, int]]) -> dict[str, Any]:
    found: dict[str, Any] = python_values.decode(pickled, [joined[start:end] for start, end in places])
    return found


class Guest:
    """One living program: its namespace, its channel, the number of its cells."""

    def __init__(self, profile: dict[str, Any]) -> None:
        self._limit: int = profile["value"]
        self._modules = frozenset(profile["forbidden_modules"])
        self._calls = frozenset(profile["forbidden_calls"])
        self._reached: list[str] = profile["network"]
        sys.setrecursionlimit(1000)
        python_interrupts.install()
        builtins.help = _sitebuiltins._Helper()  # which `site` would have made
        sys.stdout = sys.__stdout__ = _stream(1)  # type: ignore[misc]
        sys.stderr = sys.__stderr__ = _stream(2)  # type: ignore[misc]
        self.sending = _thread.allocate_lock()
        self._screen = python_displays.prepare(self._limit, self._show)
        self.forget()

    def forget(self) -> None:
        """Begin anew, with an empty `__main__`."""
        self._cells = 0
        self._tools: python_tools.Tools | None = None
        self._offered: Any = ()  # the tools of the latest run
        linecache.clearcache()
        module = types.ModuleType("__main__")
        module.__dict__["__builtins__"] = __builtins__
        sys.modules["__main__"] = module
        self._names = module.__dict__

    def open(self, channel: _socket.socket) -> None:
        """Serve this channel from here on."""
        self.channel = channel
        self._rest = b""  # what came behind the latest frame
        self._rights: list[int] = []  # descriptors that came, for the frames that name them
        self._lent = -1
        self._home = os.getcwd()

    def serve_one(self) -> None:
        """Take one request, run it, answer."""
        request = self._receive()
        text, flags, buffers = "", 0, []
        envelope: dict[str, Any] = {}
        self._left = ""
        try:
            try:
                python_interrupts.due = None
                python_interrupts.running = True
                self._screen.begin()
                value = self._run(request)
                python_displays.end()
                if self._left:  # of its own will, before its end: no failure, and no value
                    envelope["type"] = self._left
                elif value is not None:
                    envelope["type"] = python_values.type_name(value)
                    encoded = python_values.encode(value, self._limit)
                    text, buffers = encoded.text, encoded.buffers
                    flags = _TAGGED if encoded.tagged else 0
            finally:
                python_interrupts.running = False
                _signal.setitimer(_signal.ITIMER_REAL, 0)
        except python_values.NotCarried:
            envelope["repr"] = python_values.describe(value)
        except python_values.TooLarge:
            envelope["error"] = _plain("value_limit", "ValueError", f"the value takes more than {self._limit:,} bytes")
        except BaseException as error:
            if _is(error, MemoryError):
                _BALLAST.clear()
            envelope["error"] = _explain(_meant(error), self._reached)
        if self._tools is not None:
            self._tools.end()
        self._screen.end()
        _flush()
        self._answer(text, flags, buffers, envelope)

    # --- Running -----------------------------------------------------------------------------------------------------

    def _run(self, request: Request) -> object:
        names = self._names
        if request.environment:
            os.environ.update(request.environment)
        if request.directory is not None:
            self._change_directory(request.directory)
        for name in request.imports:
            self._import(name)
        given = request.variables()
        if request.tools != self._offered:
            self._offer(request.tools)
        if self._tools is not None:
            self._tools.begin()
        if type(request.code) is tuple:  # the host's own word: no program
            _signal.setitimer(_signal.ITIMER_REAL, request.timeout)
            return self._carry(*request.code, **given)
        names.update(given)
        body, last = self._compile(request.code)
        _signal.setitimer(_signal.ITIMER_REAL, request.timeout)
        try:
            if _awaits(body) or _awaits(last):
                return python_async.run(body, last, names)
            if body is not None:
                exec(body, names)
            return None if last is None else eval(last, names)
        except SystemExit as leave:
            if leave.code is None or leave.code == 0:
                self._left = python_values.type_name(leave)
                return None
            raise

    def _carry(self, verb: str, *without: str, data: Any) -> bytes | None:
        """Give the names of this session as bytes, or take them from there."""
        if verb == "load":
            self._cells = python_dump.load(self._names, data, self._home)
            return None
        left = {*without, *(self._tools.bound(self._names) if self._tools is not None else ())}
        return python_dump.dump(self._names, data, frozenset(left), self._cells, self._home)

    def _offer(self, tools: Any) -> None:
        if self._tools is None:
            self._tools = python_tools.Tools(self, self._limit)
        self._tools.offer(tools, self._names)
        self._offered = tools

    def _compile(self, code: str) -> tuple[types.CodeType | None, types.CodeType | None]:
        self._cells += 1
        filename = "<program>" if self._cells == 1 else f"<program {self._cells}>"
        linecache.cache[filename] = (len(code), None, code.splitlines(True), filename)
        if not self._modules and not self._calls and "\n" not in code and not code[:1].isspace():
            try:  # one expression, as most of a session's calls are: no tree is needed to find its value
                return None, compile(code, filename, "eval", _AWAIT, True)
            except (SyntaxError, ValueError, MemoryError, RecursionError, OverflowError):
                pass  # statements, or wrong: the way below says how
        try:
            tree = ast.parse(code, filename)
        except SyntaxError as error:
            raise error.with_traceback(
                None
            ) from None  # from here, which is what tells it from one of the program's making
        except (ValueError, MemoryError, RecursionError, OverflowError) as error:
            raise SyntaxError(str(error) or "the program is too deeply nested to be parsed") from None
        if violation := python_check.first_violation(tree, self._modules, self._calls):
            raise _Forbidden(violation)
        last = None
        if tree.body and isinstance(tree.body[-1], ast.Expr):
            expression = tree.body.pop().value  # type: ignore[attr-defined]  # of an Expr, as just seen
            last = compile(ast.Expression(expression), filename, "eval", _AWAIT, True)
        body = compile(tree, filename, "exec", _AWAIT, True) if tree.body else None
        return body, last

    def _import(self, spec: str) -> None:
        module, _, name = spec.partition(" as ")
        module, name = module.strip(), name.strip()
        found = __import__(module)
        if name:
            self._names[name] = sys.modules[module]
        else:
            self._names[module.partition(".")[0]] = found

    def _change_directory(self, directory: str) -> None:
        path = os.path.join(self._home, directory)
        if os.path.commonpath((self._home, os.path.normpath(path))) == self._home:
            os.makedirs(path, exist_ok=True)
        os.chdir(path)

    def _show(self, frame: bytes) -> None:
        with python_interrupts.sheltered, self.sending:
            self.channel.sendall(frame)

    # --- Speaking ----------------------------------------------------------------------------------------------------

    def _receive(self) -> Request:
        while True:
            kind, flags, data, size = self._receive_frame()
            if kind == _EXECUTE:
                return Request(*self._joined(flags, data, size))
            self._dispatch(kind, flags, data, size)

    def take_in(self) -> None:
        """Read one frame while a program runs, and act on it."""
        self._dispatch(*self._receive_frame())
        while self._rest:  # nobody will be told that it has come
            self._dispatch(*self._receive_frame())

    def _dispatch(self, kind: int, flags: int, data: bytes, size: int) -> None:
        """Act on a frame that is no request; one that no host of ours sends ends this process."""
        if kind == _RETURN and self._tools is not None:
            self._settle(*self._joined(flags, data, size))
        elif kind == _LENT:
            self._lent = self._rights.pop(0)
        elif kind == _FORK:
            self._branch(data)
        elif kind == _TUNE:
            settings = marshal.loads(data)
            _tune(settings)
            if "known" in settings and self._tools is not None:
                self._tools.repeat(frozenset(settings["known"]))
        else:
            os._exit(71)

    def _branch(self, body: bytes) -> None:
        """Copy this process; the copies go on from here as it does."""
        first, seeds = marshal.loads(body)
        rights, self._rights = self._rights, []
        seed = python_branches.fork(self.channel.fileno(), first, rights, seeds)
        if seed is not None:
            # Another thread may have been sending, which did not follow.
            self.sending._at_fork_reinit()  # type: ignore[attr-defined]  # locks of all supported versions have it
            python_async.part()
            reseed() if seed < 0 else python_branches.seeded(seed)

    def _settle(self, body: bytes, joined: memoryview) -> None:
        (number, failed, places, content), pickled = _opened(body)
        try:
            if pickled:
                content = _read(pickled, joined, places)["result"]
        except Exception as error:  # a package that is not here, or no memory for it: that call's error
            failed, content = True, error
        assert self._tools is not None  # `_dispatch` has looked
        self._tools.settle(number, failed, content)

    def _joined(self, flags: int, data: bytes, size: int) -> tuple[bytes, memoryview]:
        """The body of a frame, and its buffers."""
        if flags & _IN_MEMORY_FILE:
            descriptor = self._rights.pop(0)
            joined = memoryview(mmap.mmap(descriptor, size, access=mmap.ACCESS_COPY))
            os.close(descriptor)
            return data, joined
        end = len(data) - size
        return data[:end], memoryview(data)[end:]

    def _receive_frame(self) -> tuple[int, int, bytes, int]:
        """Kind and flags of the next frame, its body with what buffers follow it here, and the buffers' size."""
        data = self._rest or self._more()
        while len(data) < _HEADER.size:
            data += self._more()
        _, kind, flags, length, size = _HEADER.unpack_from(data)
        total = _HEADER.size + length + (0 if flags & _IN_MEMORY_FILE else size)
        if len(data) < total:
            data = self._whole(data, total)
        self._rest = data[total:]
        return kind, flags, data[_HEADER.size : total], size

    def _whole(self, data: bytes, total: int) -> bytes:
        whole = bytearray(total)
        view = memoryview(whole)
        view[: len(data)] = data
        filled = len(data)
        while filled < total:
            got = self.channel.recv_into(view[filled:])
            if not got:
                os._exit(0)
            filled += got
        return bytes(whole)

    def _more(self) -> bytes:
        data, ancillary, _, _ = self.channel.recvmsg(1 << 16, _RIGHTS_SPACE)
        if not data:
            os._exit(0)
        for _, kind, rights in ancillary:
            if kind == _socket.SCM_RIGHTS:
                self._rights += struct.unpack(f"{len(rights) // 4}i", rights)
        return data

    def _answer(self, text: str, flags: int, buffers: list[Any], envelope: dict[str, Any]) -> None:
        value = text.encode()
        body = _LENGTH.pack(len(value)) + value + _packed(envelope)
        size = sum(memoryview(b).nbytes for b in buffers)
        if size > _INLINE:
            self._fill_loan(size, buffers)
            self.channel.sendall(_HEADER.pack(b"dx", _ANSWER, flags | _IN_LOAN, len(body), 0) + body)
            return
        self.channel.sendall(b"".join([_HEADER.pack(b"dx", _ANSWER, flags, len(body), size), body, *buffers]))

    def _fill_loan(self, size: int, buffers: list[Any]) -> None:
        self.channel.sendall(_HEADER.pack(b"dx", _BORROW, 0, 8, 0) + struct.pack("<Q", size))
        while self._lent < 0:
            self._dispatch(*self._receive_frame())
        descriptor, self._lent = self._lent, -1
        try:
            _fill(descriptor, size, [memoryview(buffer).cast("B") for buffer in buffers])
        finally:
            os.close(descriptor)


def _fill(descriptor: int, size: int, buffers: list[memoryview]) -> None:
    """Write the buffers one behind the other; through a mapping, which takes twice the time, what is beyond `limits.disk`."""
    offset = 0
    try:
        for buffer in buffers:
            rest = buffer
            while rest:
                written = os.pwrite(descriptor, rest, offset)
                rest, offset = rest[written:], offset + written
    except OSError as error:
        if error.errno != _EFBIG:
            raise
        with mmap.mmap(descriptor, size) as target:
            offset = 0
            for buffer in buffers:
                target[offset : offset + buffer.nbytes] = buffer
                offset += buffer.nbytes


def _tune(settings: dict[str, Any]) -> None:
    """What the host sets between two programs, or before one that stood still goes on."""
    if "seed" in settings:
        python_branches.seeded(settings["seed"])
    if "authority" in settings:
        python_network.connect(settings["placeholders"], settings["authority"])
    if "seconds" in settings and python_interrupts.running:
        _signal.setitimer(_signal.ITIMER_REAL, settings["seconds"])


_to_json: Final = json.JSONEncoder().encode  # whatever a program makes of json.dumps
_TYPES: Final[dict[str, bytes]] = {}  # the envelopes of values that crossed whole, by type: most answers are alike


def _packed(envelope: dict[str, Any]) -> bytes:
    if len(envelope) == 1 and "type" in envelope:
        name = envelope["type"]
        if name not in _TYPES and len(_TYPES) < 1000:
            _TYPES[name] = _to_json(envelope).encode()
        return _TYPES.get(name) or _to_json(envelope).encode()
    return _to_json(envelope).encode()


# --- Errors, as the program's author would see them ---------------------------------------------------------------------


class _Forbidden(Exception):  # noqa: N818  (never seen outside: it becomes a result)
    """The static check found something that the policy forbids."""


def _awaits(code: types.CodeType | None) -> bool:
    return code is not None and bool(code.co_flags & python_async.COROUTINE)


def _meant(error: BaseException) -> BaseException:
    """A loop of the program's own, stopped because a limit passed, complains about that: tell of the limit."""
    kind = python_interrupts.due
    if kind is None or not _is(error, RuntimeError) or not str(error).startswith("Event loop stopped"):
        return error
    return kind().with_traceback(error.__traceback__)


def _plain(
    kind: str, name: str, message: str, place: tuple[int | None, int | None] = (None, None), trace: str = ""
) -> dict[str, Any]:
    line, column = place
    return {"kind": kind, "type": name, "message": message, "line": line, "column": column, "traceback": trace}


def _explain(error: BaseException, reached: list[str]) -> dict[str, Any]:
    try:
        if _is(error, _Forbidden):
            violation = error.args[0]
            return _plain("policy", "PolicyViolation", violation.message, (violation.line, None))
        name = python_values.type_name(error)
        if _is(error, SyntaxError) and _is_own_syntax(error):
            trace = "".join(traceback.format_exception_only(error))
            return _plain("syntax", type(error).__name__, error.msg or str(error), (error.lineno, error.offset), trace)
        message = _message(error)
        if hint := python_network.hint(error, reached):
            BaseException.add_note(error, hint)
            message += f"; {hint}"
        return _plain(_kind(error), name, message, _place(error), _trace(error))
    except BaseException as failure:
        reason = f"the error could not be described: {python_values.type_name(failure)}"
        return _plain("runtime", python_values.type_name(error), reason)


def _is(error: BaseException, kind: type[_Error]) -> TypeGuard[_Error]:
    """`isinstance` by the true class: what an error says of its own class may be hostile."""
    return issubclass(type(error), kind)


def _is_own_syntax(error: SyntaxError) -> bool:
    """True for the program's own text; a SyntaxError from its `compile()` or `import` is a runtime error."""
    frame = error.__traceback__
    while frame is not None and frame.tb_next is not None:
        frame = frame.tb_next
    return frame is not None and frame.tb_frame.f_code.co_name == "_compile"


def _kind(error: BaseException) -> str:
    if _is(error, Deadline):
        return "timeout"
    if _is(error, CpuLimit):
        return "cpu_limit"
    if _is(error, MemoryError):
        return "memory_limit"
    if _is(error, OSError) and error.errno in (_ENOSPC, _EDQUOT, _EFBIG):
        return "disk_limit"
    if _is(error, BlockingIOError) and error.errno == _EAGAIN:
        return "process_limit"
    if _is(error, RuntimeError) and error.args == ("can't start new thread",):
        return "process_limit"
    return "runtime"


def _message(error: BaseException) -> str:
    if _is(error, Deadline):
        return "the program ran longer than its wall time limit"
    if _is(error, CpuLimit):
        return "the program used more CPU time than its limit"
    if _is(error, MemoryError) and not error.args:
        return "the program needed more memory than its limit"
    if _is(error, KeyboardInterrupt) and not error.args:
        return "the run was interrupted"
    return str(error)[:10_000]


def _frames(error: BaseException) -> Any:
    """The traceback from the program's own first frame on."""
    trace = error.__traceback__
    while trace is not None and not trace.tb_frame.f_code.co_filename.startswith("<program"):
        trace = trace.tb_next
    return trace


def _place(error: BaseException) -> tuple[int | None, int | None]:
    """Line and column, from 1, in the last of the program's own frames."""
    last, trace = None, _frames(error)
    while trace is not None:
        if trace.tb_frame.f_code.co_filename.startswith("<program"):
            last = trace
        trace = trace.tb_next
    return (None, None) if last is None else (last.tb_lineno, _column(last))


def _column(trace: types.TracebackType) -> int | None:
    code = trace.tb_frame.f_code
    *_, column, _ = next(itertools.islice(code.co_positions(), trace.tb_lasti // 2, None), (None, None))
    if column is None:
        return None
    line = linecache.getline(code.co_filename, trace.tb_lineno).encode()  # compilers count bytes
    return len(line[:column].decode("utf-8", "replace")) + 1


def _trace(error: BaseException) -> str:
    frames = _frames(error)
    if _is(error, Deadline) or _is(error, CpuLimit):
        text = "".join(traceback.format_list(_without_ours(traceback.extract_tb(frames))))
        return f"Traceback (most recent call last):\n{text}{_message(error)}\n"
    if frames is None:  # it was raised before the program began: its frames would be the engine's
        return "".join(traceback.format_exception_only(error))
    shown = traceback.TracebackException(type(error), error, frames, compact=True)
    shown.stack = traceback.StackSummary.from_list(_without_ours(shown.stack))
    return "".join(shown.format())[-20_000:]


_OURS: Final = frozenset(
    (__file__, *(m.__file__ for m in (python_async, python_displays, python_interrupts, python_tools)))
)


def _without_ours(frames: list[traceback.FrameSummary]) -> list[traceback.FrameSummary]:
    """Without the frames of the engine, which stand behind the program's own when a tool or a limit raised."""
    return [frame for frame in frames if frame.filename not in _OURS]


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr, sys.__stdout__, sys.__stderr__):
        try:
            stream.flush()  # type: ignore[union-attr]
        except BaseException:
            pass
