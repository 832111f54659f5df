"""Rust, compiled and run in the sandbox; binaries are kept by content."""

from __future__ import annotations

import functools
import os
import re
import secrets
import shutil
import subprocess
import threading
from collections import OrderedDict
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from dspex._kernel import seccomp, syscalls
from dspex._sandbox.rootfs import Mount
from dspex.errors import SandboxStartError, UnknownLanguageError, UsageError, VariableError
from dspex.languages import _cache
from dspex.languages._base import Found, Runtime
from dspex.languages._foreign import Foreign, Start

if TYPE_CHECKING:
    from collections.abc import Mapping

    from dspex._sandbox.limits import ResourceLimits
    from dspex._sandbox.policy import SecurityPolicy
    from dspex.languages._base import Request

_MIB: Final = 1 << 20
_PRELUDE: Final = os.path.join(os.path.dirname(os.path.abspath(__file__)), "guests", "rust", "prelude.rs")
_INSTALL: Final = "apt-get install rustc-web gcc"
_KEPT: Final = 1 << 30  # bytes of binaries
_PROFILES: Final = {"debug": ("-C", "opt-level=0"), "release": ("-C", "opt-level=2")}
_LINKS: Final = ("cc", "ld", "ld.lld", "as")  # what the linker's driver is made of, where it is there
_OPENING: Final = "#![allow(warnings)] use dspex::*; fn main() { dspex::begin(); dspex::guarded(|| {"
_KEYWORDS: Final = frozenset(
    (
        *(
            "as",
            "async",
            "await",
            "break",
            "const",
            "continue",
            "crate",
            "dyn",
            "else",
            "enum",
            "extern",
            "false",
            "fn",
            "for",
        ),
        *(
            "gen",
            "if",
            "impl",
            "in",
            "let",
            "loop",
            "match",
            "mod",
            "move",
            "mut",
            "pub",
            "ref",
            "return",
            "self",
            "Self",
        ),
        *("static", "struct", "super", "trait", "true", "try", "type", "unsafe", "use", "where", "while", "yield"),
    )
)


class _Toolchain(NamedTuple):
    """A compiler, and where it keeps its libraries."""

    compiler: str
    sysroot: str
    version: str  # all that `rustc -vV` says
    release: tuple[int, ...]

    @property
    def libraries(self) -> tuple[str, ...]:
        """What of it guests see besides; a distribution's own lies where every guest's libraries do."""
        return () if self.sysroot in ("/", "/usr") else (self.sysroot,)

    @property
    def edition(self) -> str:
        """The newest that it knows."""
        return "2024" if self.release >= (1, 85) else "2021"


@functools.cache
def _toolchain() -> _Toolchain | None:
    """The compiler on the path: the toolchain's own, past what chooses among toolchains."""
    found = shutil.which("rustc")
    if found is None or shutil.which("cc") is None:
        return None
    try:
        sysroot = _said(found, "--print", "sysroot").strip()
        own = os.path.join(sysroot, "bin", "rustc")
        compiler = os.path.realpath(own if os.access(own, os.X_OK) else found)
        version = _said(compiler, "-vV")
    except (OSError, subprocess.SubprocessError):
        return None
    release = re.search(r"release: (\d+)\.(\d+)", version)
    return _Toolchain(compiler, sysroot, version, tuple(map(int, release.groups())) if release else (0,))


def _said(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout


class Rust(Foreign):
    """Rust of the toolchain that is installed. `profile` is "debug", which compiles faster, or "release"."""

    name = "rust"
    keywords = _KEYWORDS
    largest = (1 << 63) - 1
    carried = Foreign.carried - {"int"}
    runtime = Runtime(
        executes=True,
        children=True,
        narrows=True,
        keeps=64 * _MIB,
        data=1024 * _MIB,
        threads=32,
        open_files=64,
        last_words=(("memory allocation of", "memory_limit"),),
    )

    def __init__(self, profile: str = "debug") -> None:
        if profile not in _PROFILES:
            raise UsageError(f"profile is {profile!r}; it must be 'debug' or 'release'")
        found = _toolchain()
        if found is None:
            raise UnknownLanguageError(f"no rustc with a cc to link by is on the path; install them: {_INSTALL}")
        self._toolchain = found
        self._profile = profile
        with open(_PRELUDE, "rb") as file:
            self._made_from = _cache.key([found.version, file.read()])
        self._binaries = _Binaries(os.path.join(_cache.root(), "rust", self._made_from))

    @staticmethod
    def runtimes() -> list[Found]:
        """What there is of Rust on this machine."""
        found = _toolchain()
        if found is None:
            return [Found("rustc", "", "", _INSTALL)]
        return [Found("rustc", ".".join(map(str, found.release)), found.compiler, _INSTALL)]

    def start(self, policy: SecurityPolicy, limits: ResourceLimits, level: str) -> Start:
        """See `Foreign.start`."""
        library = self._library()
        chain = self._toolchain
        compiler = [
            *(
                chain.compiler,
                "--crate-name",
                "main",
                "--edition",
                chain.edition,
                "--error-format=json",
                "-C",
                "debuginfo=0",
            ),
            *("-C", "strip=symbols", "-C", "codegen-units=1", "--extern", f"dspex={library}/libdspex.rlib"),
            *("--remap-path-prefix", "/run/sandbox/tmp/program.rs=<program>", "--sysroot", chain.sysroot),
        ]
        second = seccomp.assemble(seccomp.Rules(executes=True))
        return Start(
            guest="dspex.languages.guests.rust",
            mounts=(chain.compiler, *chain.libraries, library, self._binaries.directory, *_linker()),
            environment={"DSPEX_VALUE": str(limits.value)},
            profile={
                "compiler": compiler,
                "filter": second.hex(),
                "seccomp": syscalls.NUMBERS["seccomp"],
                "opening": _OPENING,
                "keeps": self.runtime.keeps - 1024,
            },
        )

    def encode(self, request: Request) -> tuple[bytes, list[memoryview]]:
        """See `Language.encode`."""
        if request.session or isinstance(request.code, tuple):
            raise UsageError("rust has no sessions: a program is compiled as a whole; use execute")
        self.check_names(request)
        types = {name: _type_of(name, value) for name, value in request.variables.items()}
        prefix = _opening(types, [tool.name for tool in request.tools])
        source = f"{prefix}{_body(request.code)}{_CLOSING}"
        flags = _PROFILES[self._profile]
        once = [secrets.token_hex(16)] if _READS.search(request.code) else []
        binary, keep = self._binaries.find([source, *flags, *once])
        told = {
            **self.envelope(request),
            "source": source,
            "prefix": len(prefix),
            "flags": flags,
            "binary": binary,
            "keep": keep,
        }
        return self.framed(told, dict(request.variables))

    def keep(self, token: str, data: bytes) -> None:
        """See `Language.keep`."""
        self._binaries.keep(token, data)

    def _library(self) -> str:
        """The directory of the prelude, compiled once for this toolchain."""
        return _cache.directory("rust-prelude", self._made_from, self._compile)

    def _compile(self, place: str) -> None:
        chain = self._toolchain
        command = [
            *(
                chain.compiler,
                "--crate-name",
                "dspex",
                "--crate-type",
                "rlib",
                "--edition",
                "2021",
                "-C",
                "opt-level=2",
            ),
            *("-C", "debuginfo=0", "--sysroot", chain.sysroot, "-o", os.path.join(place, "libdspex.rlib"), _PRELUDE),
        ]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
        if done.returncode:
            raise SandboxStartError(f"the prelude for rust cannot be compiled: {done.stderr[-2000:]}")


def _linker() -> list[Mount]:
    """The programs that link, under their own names, whatever they are links to."""
    found = [(name, shutil.which(name)) for name in _LINKS]
    return [Mount(os.path.realpath(path), f"/usr/bin/{name}") for name, path in found if path]


# --- A program as the compiler sees it -----------------------------------------------------------------------------------------

# Behind the program: its value on the way out, or the error that reached the top.
_CLOSING: Final = """
})() { Ok(value) => { let name = dspex::name_of(&value); dspex::told(name, (&&&dspex::Probe(&value)).told()) }
Err(error) => dspex::erred(&*error) } }) }
"""
# What compiles files of the working directory in, which may be others the next time: such a binary is for one run.
_READS: Final = re.compile(r"\binclude\w*\s*!|\bmod\s+\w+\s*;|\bpath\s*=")
_MAIN: Final = re.compile(r"^\s*(?:pub\s+)?fn\s+main\s*\(", re.MULTILINE)


def _opening(types: Mapping[str, str], tools: list[str]) -> str:
    """All in front of the program, on its first line, so that its lines keep their numbers."""
    variables = "".join(f" let mut {name}: {kind} = dspex::take({name!r});" for name, kind in types.items()).replace(
        "'", '"'
    )
    macros = "".join(
        f' macro_rules! {name} {{ ($($a:expr),* $(,)?) => {{ dspex::call("{name}", &[$(dspex::json(&$a)),*]) }} }}'
        for name in tools
    )
    result = "Result<_, Box<dyn std::error::Error>>"
    return f"{_OPENING}{variables}{macros} match (|| -> {result} {{ Ok({{ "


def _body(code: str) -> str:
    """The program within; one that has a `main` of its own has that called."""
    return f"{code}\n; main() }})" if _MAIN.search(code) else f"{code}\n}})"


def _type_of(name: str, value: object) -> str:
    """The type that a variable has. Raises `VariableError` for what Rust has nothing for."""
    match value:
        case bool():
            return "bool"
        case int():
            if not -(1 << 63) < value < 1 << 63:
                raise VariableError(f"variable {name!r} is beyond the 64 bits that an i64 has", path=name)
            return "i64"
        case float():
            return "f64"
        case str():
            return "String"
        case bytes() | bytearray():
            return "Bytes"
        case None:
            return "()"
        case list() if value and (kind := _common(value)):
            return f"Vec<{kind}>"
        case dict() if value and all(type(key) is str and not key.startswith("~") for key in value):
            if kind := _common([*value.values()]):
                return f"std::collections::HashMap<String, {kind}>"
    return "Json"


def _common(items: list[Any]) -> str:
    """The one type that all have, if it is a simple one."""
    kinds = {type(item) for item in items}
    if len(kinds) != 1:
        return ""
    if kinds == {int} and not all(-(1 << 63) < item < 1 << 63 for item in items):
        return ""
    return {bool: "bool", int: "i64", float: "f64", str: "String"}.get(kinds.pop(), "")


class _Binaries:
    """Compiled programs, in a directory of this user's that guests see and cannot list.

    An entry's name is a hash of all that it was made from, with a secret, so nobody finds another's program by guessing its text.
    A guest is told a token for its own program and no other's. The oldest go when there are too many.
    """

    def __init__(self, directory: str) -> None:
        self.directory = directory
        os.makedirs(directory, mode=0o711, exist_ok=True)
        os.chmod(directory, 0o711)
        self._secret = _secret(os.path.dirname(directory))
        self._expected: OrderedDict[str, str] = OrderedDict()
        self._lock = threading.Lock()

    def find(self, parts: list[str]) -> tuple[str, str]:
        """The path of a binary, and a token for whoever compiles it if it is not there."""
        path = os.path.join(self.directory, _cache.key([self._secret, *parts]))
        if os.path.exists(path):
            os.utime(path)
            return path, ""
        token = secrets.token_hex(16)
        with self._lock:
            self._expected[token] = path
            while len(self._expected) > 10_000:
                self._expected.popitem(last=False)
        return path, token

    def keep(self, token: str, data: bytes) -> None:
        """What a guest with this token compiled; anything else is forgotten."""
        with self._lock:
            path = self._expected.pop(token, None)
        if path is None or not data or os.path.exists(path):
            return
        making = f"{path}.{secrets.token_hex(4)}"
        try:
            with open(making, "wb") as file:
                file.write(data)
            os.chmod(making, 0o755)
            os.rename(making, path)
            self._shrink()
        except OSError:  # a full disk: then it is compiled again
            if os.path.exists(making):
                os.unlink(making)

    def _shrink(self) -> None:
        entries = []
        for entry in os.scandir(self.directory):
            try:
                found = entry.stat()
            except FileNotFoundError:  # another process has been faster
                continue
            entries.append((found.st_mtime, found.st_size, entry.path))
        size = sum(each[1] for each in entries)
        for _, length, path in sorted(entries):
            if size <= _KEPT:
                return
            size -= length
            try:
                os.unlink(path)
            except FileNotFoundError:
                continue


def _secret(directory: str) -> bytes:
    """A number of this user's own, made once."""
    path = os.path.join(directory, ".secret")
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        with open(path, "rb") as file:
            return file.read()
    with open(descriptor, "wb") as file:
        made = secrets.token_bytes(32)
        file.write(made)
    return made
