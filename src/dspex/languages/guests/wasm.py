"""The WebAssembly guest: modules, as text or binary, instantiated and called by wasmtime inside the sandbox.

Theory of operation. The zygote makes the engine and rehearses with a module of ours; no program's is compiled, let alone run,
before the fork. While a guest waits for its request it rehearses once more, for its first run would otherwise copy some 800
pages. A fresh guest compiles its module, or maps what an earlier guest compiled of the same bytes (the host keeps that, as
bytes that mean nothing to it, and hands it out for that module alone). Calls run on the main thread with the interpreter's lock
released; in a session a thread beside it waits for the deadline and for SIGINT, and then moves the engine's epoch on, which
traps.

A module that breaks out of wasmtime is where every other program is: in this process, behind the kernel's walls.
"""

from __future__ import annotations

import _socket
import functools
import json
import os
import re
import resource
import select
import signal
import struct
import threading
from typing import TYPE_CHECKING, Any, Final, NoReturn

from . import wasm_components
from .speech import Asked, Failure, Speech, ToolFailed, framed

if TYPE_CHECKING:
    from collections.abc import Callable

COMMON: Final = ()
_PLACE: Final = re.compile(r"<anon>:(\d+):(\d+)")
_FRAME: Final = re.compile(r"^\s+\d+:\s.*$", re.MULTILINE)
_WASI: Final = "wasi_snapshot_preview1"
_REHEARSED: Final = """(module (func (export "main") (param i32 i64) (result i32) local.get 0))"""
_NEAR: Final = 4 << 20  # bytes below its limit where a process counts as out of memory
_RANGES: Final = {"i32": (-(1 << 31), (1 << 32) - 1), "i64": (-(1 << 63), (1 << 64) - 1)}

_TRAPS: Final = {
    "unreachable": "UNREACHABLE",
    "call stack exhausted": "STACK_OVERFLOW",
    "out of bounds memory": "MEMORY_OUT_OF_BOUNDS",
    "out of bounds table": "TABLE_OUT_OF_BOUNDS",
    "uninitialized element": "INDIRECT_CALL_TO_NULL",
    "indirect call type mismatch": "BAD_SIGNATURE",
    "integer overflow": "INTEGER_OVERFLOW",
    "integer divide by zero": "INTEGER_DIVISION_BY_ZERO",
    "invalid conversion to integer": "BAD_CONVERSION_TO_INTEGER",
}

_engine: Any = None
_settings: dict[str, Any] = {}
_rehearsal = bytearray()  # the request for it


def prepare(profile: dict[str, Any]) -> None:
    """In the zygote: load the library and make its engine."""
    global _engine
    import wasmtime

    config = wasmtime.Config()
    config.parallel_compilation = False  # its threads would not follow a fork
    config.epoch_interruption = True
    config.consume_fuel = profile["fuel"] is not None
    config.memory_init_cow = False  # memory files are refused to guests
    _engine = wasmtime.Engine(config)
    _settings.update(profile)
    _rehearsal.extend(_framed(bytes(wasmtime.Module(_engine, _REHEARSED).serialize())))
    _rehearse()


def _framed(compiled: bytes) -> bytes:
    """A request of ours, for the module that is rehearsed."""
    told = {
        "timeout": 60.0,
        "tools": [],
        "keep": "",
        "session": False,
        "environment": {},
        "directory": None,
        "tagged": True,
    }
    given = {"module": _REHEARSED, "call": "", "args": [1, 2], "write": [], "read": None}
    envelope = json.dumps(told).encode()
    values = json.dumps({**given, "compiled": {"~bytes": [0, len(compiled)]}}).encode()
    return framed(envelope, values, compiled)


def _rehearse() -> None:
    """Serve a request of ours: in the zygote, so that guests find done what is done once; in a guest, while it waits for its own,
    so that the pages which that takes are its own by then. Never WASI: it has threads.
    """
    ours, theirs = _socket.socketpair()
    ours.sendall(_rehearsal)
    speech = Speech(theirs.fileno(), _settings["value"])
    _serve(speech, Guest(speech))
    ours.close()
    theirs.close()


def reseed() -> None:
    """Nothing: a module has no random numbers but those that WASI asks of the kernel."""


def main(channel: int) -> NoReturn:
    """In a guest: serve requests until the host closes the channel."""
    _rehearse()
    speech = Speech(channel, _settings["value"])
    guest = Guest(speech)
    while True:
        _serve(speech, guest)


def _serve(speech: Speech, guest: Guest) -> None:
    asked = speech.receive()
    try:
        value, type = guest.run(asked)
    except Failure as failure:
        speech.fail(failure)
    except MemoryError:
        speech.fail(Failure("memory_limit", "MemoryError", "the program needed more memory than its limit"))
    except OverflowError as error:
        speech.fail(Failure("runtime", "TypeError", str(error)))
    except Left:
        speech.left("SystemExit")
    else:
        speech.answer(value, type)


class Left(Exception):  # noqa: N818  (no error: the program ended with status 0)
    """A WASI program ended of its own will."""


class Guest:
    """One store, and the instance of the latest module."""

    def __init__(self, speech: Speech) -> None:
        self._speech = speech
        self._instance: Any = None
        self._store: Any = None

    def run(self, asked: Asked) -> tuple[Any, str | None]:
        """The value of one request, and its type; raises `Failure`, `Left`."""
        import wasmtime

        told, given = asked.envelope, asked.variables
        self._speech.enter(told)
        watch = Watch(told["timeout"]) if told["session"] else Unwatched()
        try:
            before = self._store, self._instance
            try:
                if given["module"]:
                    self._instantiate(asked)
                if self._instance is None:
                    raise Failure(
                        "syntax", "LinkError", "there is no module yet: the first program of a session is one"
                    )
                value = self._called(given["call"], given["args"], given["write"], given["read"])
            except BaseException:
                self._store, self._instance = before  # a module that failed does not take the place of one that did not
                raise
            return value, None if value is None else _kind_of(value)
        except wasmtime.ExitTrap as leave:
            if leave.code == 0:
                raise Left from None
            raise Failure("runtime", "SystemExit", str(leave.code)) from None
        except wasmtime.Trap as trap:
            raise _trapped(trap, watch) from None
        except wasmtime.WasmtimeError as error:
            raise _failed(error, watch) from None
        except (
            TypeError,
            ValueError,
            AssertionError,
            NotImplementedError,
        ) as error:  # what the library has nothing for
            raise Failure("runtime", type(error).__name__, str(error)) from None
        finally:
            watch.close()

    # --- A module -------------------------------------------------------------------------------------------------------

    def _instantiate(self, asked: Asked) -> None:
        import wasmtime

        given = asked.variables
        whole = wasm_components.is_component(given["module"])
        module = self._module(given["module"], given["compiled"], _components() if whole else wasmtime.Module)
        if asked.envelope["keep"] and len(compiled := bytes(module.serialize())) <= _settings["keeps"]:
            self._speech.keep(asked.envelope["keep"], compiled)
        self._store = store = wasmtime.Store(_engine)
        store.set_epoch_deadline(1)
        if _settings["fuel"] is not None:
            store.set_fuel(_settings["fuel"])
        if whole:
            offer = functools.partial(self._offered, tools=asked.envelope["tools"])
            self._instance = wasm_components.Instance(store, _engine, module, offer, lambda: self._wasi(given))
            return
        imports = module.imports
        self._instance = self._linked(module, imports, asked) if imports else wasmtime.Instance(store, module, [])

    def _linked(self, module: Any, imports: list[Any], asked: Asked) -> Any:
        import wasmtime

        linker = wasmtime.Linker(_engine)
        if any(each.module == _WASI for each in imports):
            linker.define_wasi()
            self._store.set_wasi(self._wasi(asked.variables))
        for each in imports:
            if each.module != _WASI:
                linker.define(self._store, each.module, each.name, self._import(each, asked.envelope["tools"]))
        return linker.instantiate(self._store, module)

    def _module(self, source: str | bytes, compiled: bytes, kind: Any) -> Any:
        import wasmtime

        if compiled:
            return kind.deserialize(_engine, compiled)
        try:
            return kind(_engine, source)
        except wasmtime.WasmtimeError as error:
            place = _PLACE.search(str(error))
            line, column = (int(place[1]), int(place[2])) if place else (None, None)
            text = str(error)
            raise Failure(
                "syntax", "CompileError", text.split("\n", maxsplit=1)[0], line=line, column=column, trace=text
            ) from None

    def _wasi(self, given: dict[str, Any]) -> Any:
        import wasmtime

        wasi = wasmtime.WasiConfig()
        wasi.argv = ["program", *given["argv"]]
        wasi.env = list(os.environ.items())
        wasi.inherit_stdout()
        wasi.inherit_stderr()
        if given["stdin"]:
            with open(f"{self._speech.temporary}/stdin", "wb") as file:
                file.write(given["stdin"])
            wasi.stdin_file = file.name
        wasi.preopen_dir(".", ".")
        for path, writable in _settings["directories"]:
            wasi.preopen_dir(path, path, writable)
        return wasi

    def _import(self, each: Any, tools: list[dict[str, Any]]) -> Any:
        import wasmtime

        name = each.name if isinstance(each.type, wasmtime.FuncType) else ""
        tool = self._offered(name, tools, f"{each.module}.{each.name}")
        results = len(each.type.results)
        return wasmtime.Func(self._store, each.type, lambda *args: tool(*args) if results else (tool(*args), None)[1])

    def _offered(self, name: str, tools: list[dict[str, Any]], shown: str = "") -> Callable[..., Any]:
        """The tool that an import names. Raises `Failure` where there is none."""
        offered = {tool["name"] for tool in tools}
        if name not in offered:
            known = ", ".join(sorted(offered)) or "none"
            raise Failure("syntax", "LinkError", f"the module imports {shown or name}; the tools offered are: {known}")
        return self._tool(name)

    def _tool(self, name: str) -> Callable[..., Any]:
        def tool(*args: Any) -> Any:
            try:
                return self._speech.call(name, list(args), {})
            except ToolFailed as failed:
                raise Failure("runtime", failed.kind, str(failed)) from None

        return tool

    # --- A call ---------------------------------------------------------------------------------------------------------

    def _called(self, name: str, args: list[Any], write: list[Any], read: list[int] | None) -> Any:
        import wasmtime

        self._store.set_epoch_deadline(1)  # from now, whatever the engine has been through
        if isinstance(self._instance, wasm_components.Instance):
            if write or read is not None:
                raise Failure("runtime", "NameError", "a component exports no memory: give values, and take them")
            return self._instance.call(name, args)
        exports = self._instance.exports(self._store)
        for offset, data in write:
            self._memory(exports).write(self._store, data, offset)
        function = exports.get(name or _entry(exports))
        if not isinstance(function, wasmtime.Func):
            raise Failure("runtime", "NameError", f"the module exports no function {name or 'main or _start'!r}")
        parameters = [str(kind) for kind in function.type(self._store).params]
        value = function(self._store, *_fitting(parameters, args))
        if read is None:
            return value
        return [value, bytes(self._memory(exports).read(self._store, read[0], read[0] + read[1]))]

    def _memory(self, exports: Any) -> Any:
        found = exports.get("memory")
        if found is None:
            raise Failure("runtime", "NameError", "the module exports no memory")
        return found


def _entry(exports: Any) -> str:
    return "main" if exports.get("main") is not None else "_start"


def _fitting(parameters: list[str], args: list[Any]) -> list[Any]:
    """Arguments of the types that a function takes. Raises `Failure`."""
    if len(parameters) != len(args):
        raise Failure("runtime", "TypeError", f"the function takes {len(parameters)} arguments, {len(args)} are given")
    return [_number(kind, value, place) for place, (kind, value) in enumerate(zip(parameters, args, strict=True))]


def _number(kind: str, value: Any, place: int) -> Any:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise Failure("runtime", "TypeError", f"argument {place} is a {type(value).__name__}; {kind} takes numbers")
    if kind in ("f32", "f64"):
        return float(value)
    lowest, highest = _RANGES.get(kind, (1, 0))
    if kind not in _RANGES:
        raise Failure("runtime", "TypeError", f"argument {place} is a {kind}, which the host has nothing for")
    if not isinstance(value, int) or not lowest <= value <= highest:
        raise Failure("runtime", "TypeError", f"argument {place} is {value!r}; {kind} takes whole numbers of its size")
    size = highest + 1
    return value - size if value > size // 2 - 1 else value  # as the bits are, which have no sign of their own


def _kind_of(value: Any) -> str:
    return {int: "i64", float: "f64"}.get(type(value), type(value).__name__)


def _components() -> Any:
    from wasmtime.component import Component

    return Component


# --- What goes wrong ------------------------------------------------------------------------------------------------------


def _trapped(trap: Any, watch: Watch | Unwatched) -> Failure:
    code = trap.trap_code.name if trap.trap_code is not None else "TRAP"
    if code == "INTERRUPT":
        return watch.verdict()
    if code == "OUT_OF_FUEL":
        return Failure("cpu_limit", "OutOfFuel", f"the program used more than its {_settings['fuel']:,} units of fuel")
    text = str(trap)
    cause = re.search(r"wasm trap: (.*)", text)
    if _is_short_of_memory():
        return Failure(
            "memory_limit", "MemoryError", "the program needed more memory than its limit", trace=_trace(text)
        )
    return Failure("runtime", code, cause[1] if cause else text.split("\n", maxsplit=1)[0], trace=_trace(text))


def _failed(error: Any, watch: Watch | Unwatched) -> Failure:
    text = str(error)
    if leave := re.search(r"Exited with i32 exit status (\d+)", text):
        if leave[1] == "0":
            raise Left
        return Failure("runtime", "SystemExit", leave[1])
    if "all fuel consumed" in text:
        return Failure("cpu_limit", "OutOfFuel", f"the program used more than its {_settings['fuel']:,} units of fuel")
    if "interrupt" in text:
        return watch.verdict()
    if _is_short_of_memory() or "mmap failed" in text or "Cannot allocate" in text:
        return Failure("memory_limit", "MemoryError", "the program needed more memory than its limit")
    cause = re.search(r"wasm trap: (.*)", text)
    if cause:  # a component's, which the library tells by its words only
        name = next((name for words, name in _TRAPS.items() if words in cause[1]), "TRAP")
        return Failure("runtime", name, cause[1], trace=_trace(text))
    return Failure("runtime", "WasmtimeError", text.split("\n", maxsplit=1)[0], trace=text)


def _trace(text: str) -> str:
    return "\n".join(["wasm backtrace:", *_FRAME.findall(text)])


def _is_short_of_memory() -> bool:
    limit, _ = resource.getrlimit(resource.RLIMIT_DATA)
    with open("/proc/self/statm", "rb") as file:
        used = int(file.read().split()[5]) * resource.getpagesize()
    return limit != resource.RLIM_INFINITY and used > limit - _NEAR


class Unwatched:
    """What stands for a `Watch` in a fresh guest, which the host ends at its deadline: it has no session to save."""

    def verdict(self) -> Failure:
        """Nobody moves the epoch on."""
        return Failure("timeout", "Deadline", "the program ran longer than its wall time limit")

    def close(self) -> None:
        """The call is over."""


class Watch:
    """A thread that ends the call under way, at its deadline or when SIGINT comes."""

    def __init__(self, seconds: float) -> None:
        self._interrupted = False
        self._woken, wake = os.pipe()
        os.set_blocking(wake, False)
        self._wake = wake
        signal.signal(signal.SIGINT, _heard)
        signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
        self._thread = threading.Thread(target=self._wait, args=(seconds,), daemon=True)
        self._thread.start()

    def _wait(self, seconds: float) -> None:
        if select.select([self._woken], [], [], seconds)[0]:
            said = os.read(self._woken, 1)
            if said != struct.pack("B", signal.SIGINT):
                return
            self._interrupted = True
        _engine.increment_epoch()

    def verdict(self) -> Failure:
        """What a call that was ended is told."""
        if self._interrupted:
            return Failure("runtime", "KeyboardInterrupt", "the run was interrupted")
        return Failure("timeout", "Deadline", "the program ran longer than its wall time limit")

    def close(self) -> None:
        """The call is over."""
        signal.set_wakeup_fd(-1)
        os.write(self._wake, b"\0")
        self._thread.join()
        os.close(self._woken)
        os.close(self._wake)


def _heard(number: int, frame: object) -> None:
    """SIGINT has been heard by the thread."""
