"""WebAssembly, by wasmtime inside the sandbox."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import secrets
import threading
from collections import OrderedDict
from typing import TYPE_CHECKING, Any, Final

from dspex.errors import UnknownLanguageError, UsageError, VariableError
from dspex.languages import _cache
from dspex.languages._base import Found, Runtime
from dspex.languages._foreign import Foreign, Start
from dspex.languages.guests.wasm_components import is_component

if TYPE_CHECKING:
    from collections.abc import Mapping

    from dspex._sandbox.limits import ResourceLimits
    from dspex._sandbox.policy import SecurityPolicy
    from dspex.languages._base import Request

_INSTALL: Final = "pip install 'dspex[wasm]'"
_KEPT: Final = 256 << 20  # bytes of compiled modules; an interpreter compiled to a component takes 60 MiB
# Variables that say what is to be done; all others are arguments of the function, in their order.
_RESERVED: Final = ("call", "args", "argv", "stdin", "write", "read")


def library() -> str:
    """The directory of the library; empty where it is not installed."""
    spec = importlib.util.find_spec("wasmtime")
    return next(iter(spec.submodule_search_locations or ()), "") if spec else ""


class Wasm(Foreign):
    """WebAssembly modules, as text or as bytes. `fuel`, if given, is how many instructions or so a program may execute."""

    name = "wasm"
    sources = (str, bytes)
    runtime = Runtime(data=1, threads=8, keeps=_KEPT)

    def __init__(self, fuel: int | None = None) -> None:
        if fuel is not None and (not isinstance(fuel, int) or isinstance(fuel, bool) or fuel < 1):
            raise UsageError(f"fuel is {fuel!r}; it must be a whole number of at least 1")
        self._library = library()
        if not self._library:
            raise UnknownLanguageError(f"the package wasmtime is not installed here: {_INSTALL}")
        self._fuel = fuel
        self._compiled = _Compiled()

    @staticmethod
    def runtimes() -> list[Found]:
        """What there is of WebAssembly on this machine."""
        path = library()
        return [Found("wasmtime", importlib.metadata.version("wasmtime") if path else "", path, _INSTALL)]

    def start(self, policy: SecurityPolicy, limits: ResourceLimits, level: str) -> Start:
        """See `Foreign.start`."""
        directories = [(mount.target, mount.writable) for mount in policy.mounts() if os.path.isdir(mount.source)]
        return Start(
            guest="dspex.languages.guests.wasm",
            mounts=(self._library,),
            sys_path=(os.path.dirname(self._library),),
            profile={"fuel": self._fuel, "directories": directories, "keeps": _KEPT // 2},
        )

    def encode(self, request: Request) -> tuple[bytes, list[memoryview]]:
        """See `Language.encode`."""
        if isinstance(request.code, tuple):
            raise UsageError("a session in wasm cannot be dumped or restored; only one in Python can")
        self.check_names(request)
        source: str | bytes = request.code
        key = _cache.key([source, (self._fuel is None and "epochs") or "fuel"])
        compiled = self._compiled.get(key) if source else b""
        keep = self._compiled.expect(key) if source and not compiled else ""
        typed = not source or is_component(source)  # in a session the guest knows which it is
        given = {**_arguments(request.variables, typed=typed), "module": source}
        told = {**self.envelope(request), "keep": keep, "session": request.session}
        return self.framed_with(told, given, "compiled", compiled)

    def keep(self, token: str, data: bytes) -> None:
        """See `Language.keep`. What a guest compiled is for the module that it was given, and for no other."""
        self._compiled.keep(token, data)


def _arguments(variables: Mapping[str, object], *, typed: bool) -> dict[str, Any]:
    """What is to be done, checked: values of any kind for functions with types, else numbers. Raises `VariableError`."""
    given: dict[str, Any] = {name: variables[name] for name in _RESERVED if name in variables}
    rest = {name: value for name, value in variables.items() if name not in _RESERVED}
    if rest and "args" in given:
        raise VariableError(
            f"variable {min(rest)!r}: give the arguments in `args` or as variables, not both", path=min(rest)
        )
    args = given.get("args", [*rest.values()])
    for name, value in zip(rest or [f"args[{place}]" for place in range(len(args))], args, strict=False):
        if not typed and (isinstance(value, bool) or not isinstance(value, (int, float))):
            kind = type(value).__name__
            raise VariableError(
                f"variable {name!r} is a {kind}; functions of wasm take whole numbers and floats", path=name
            )
    return {
        "call": _typed(given, "call", str, ""),
        "args": list(args),
        "argv": [str(word) for word in given.get("argv", ())],
        "stdin": _bytes(given["stdin"]) if "stdin" in given else "",
        "write": [[offset, _bytes(data)] for offset, data in dict(given.get("write", {})).items()],
        "read": list(given["read"]) if given.get("read") is not None else None,
    }


def _typed(given: Mapping[str, Any], name: str, kind: type, default: object) -> Any:
    value = given.get(name, default)
    if not isinstance(value, kind):
        raise VariableError(f"variable {name!r} is a {type(value).__name__}; it must be a {kind.__name__}", path=name)
    return value


def _bytes(value: object) -> bytes:
    if isinstance(value, str):
        return value.encode()
    if isinstance(value, (bytes, bytearray, memoryview)):
        return bytes(value)
    raise VariableError(f"a {type(value).__name__} was given where bytes or text are needed", path="")


class _Compiled:
    """What guests compiled, by the module that they had been given; the latest used are kept, up to a size.

    It is native code of a guest's making, which only ever runs in guests. A guest is told a token for its own module and no
    other's, so it cannot leave anything under another module's name.
    """

    def __init__(self) -> None:
        self._kept: OrderedDict[str, bytes] = OrderedDict()
        self._expected: OrderedDict[str, str] = OrderedDict()
        self._size = 0
        self._lock = threading.Lock()

    def get(self, key: str) -> bytes:
        """What there is for a module; nothing if there is not."""
        with self._lock:
            found = self._kept.get(key, b"")
            if found:
                self._kept.move_to_end(key)
            return found

    def expect(self, key: str) -> str:
        """A token for a guest that is going to compile this module."""
        token = secrets.token_hex(16)
        with self._lock:
            self._expected[token] = key
            while len(self._expected) > 10_000:
                self._expected.popitem(last=False)
        return token

    def keep(self, token: str, compiled: bytes) -> None:
        """What a guest with this token compiled; anything else is forgotten."""
        with self._lock:
            key = self._expected.pop(token, None)
            if key is None or not compiled or len(compiled) > _KEPT:
                return
            self._size += len(compiled) - len(self._kept.pop(key, b""))
            self._kept[key] = compiled
            while self._size > _KEPT:
                self._size -= len(self._kept.popitem(last=False)[1])
