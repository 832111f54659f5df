"""Rust, compiled and run in the sandbox; binaries are kept by content."""

from __future__ import annotations

import functools
import hashlib
import json
import os
import re
import shutil
import struct
import subprocess
import weakref
from typing import TYPE_CHECKING, Final, NamedTuple

from dspex._kernel import seccomp, syscalls
from dspex._sandbox.rootfs import Mount
from dspex.errors import SandboxStartError, UnknownLanguageError, UsageError
from dspex.languages import _cache, _rust_crates, _rust_source, _rust_types
from dspex.languages._base import Found, Runtime
from dspex.languages._foreign import Foreign, Start
from dspex.languages._programs import Programs

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from dspex._sandbox.limits import ResourceLimits
    from dspex._sandbox.policy import SecurityPolicy
    from dspex.languages._base import Build, Request

_MIB: Final = 1 << 20
_PRELUDE: Final = os.path.join(os.path.dirname(os.path.abspath(__file__)), "guests", "rust")
_INSTALL: Final = "apt-get install rustc-web gcc"
_INSTALL_CARGO: Final = "apt-get install cargo-web"
_LENGTH: Final = struct.Struct("<I")
_OLDEST: Final = (1, 85)
_EDITION: Final = "2024"
_PATIENCE: Final = 30.0  # seconds that a program may take to compile
_PROFILES: Final = {"debug": ("-C", "opt-level=0"), "release": ("-C", "opt-level=2")}
_LINKS: Final = ("cc", "ld", "ld.lld", "as")  # what the linker's driver is made of, where it is there
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
    def mounts(self) -> tuple[str, ...]:
        """What guests must see of it. A toolchain of the system's own lies among all else that the system has."""
        if self.sysroot == "/usr":
            return self.compiler, "/usr/lib"
        return (self.sysroot,)


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
    """Rust of the toolchain that is installed. `profile` is "debug", which compiles faster, or "release".

    `crates` is a directory of crates that the same compiler has compiled (`libNAME.rlib`, `libNAME-HASH.rlib`; procedural macros
    as `.so`), and of what they depend on: programs name them by `use`. `vendor` is a directory of sources, as `cargo vendor` lays
    them out; of these, and of what they depend on, `dependencies` ("itoa", "serde@1.0/derive") are compiled once, in a sandbox.
    Raises `UnknownLanguageError`, `UsageError`.
    """

    name = "rust"
    keywords = _KEYWORDS
    largest = (1 << 63) - 1
    carried = Foreign.carried - {"str"}  # half a surrogate pair is no text here
    runtime = Runtime(
        announces=True,
        programs=True,
        executes=True,
        children=True,
        narrows=True,
        keeps=64 * _MIB,
        data=1024 * _MIB,
        threads=32,
        open_files=64,
        last_words=(("memory allocation of", "memory_limit"),),
    )

    def __init__(
        self,
        profile: str = "debug",
        crates: str | os.PathLike[str] | None = None,
        vendor: str | os.PathLike[str] | None = None,
        dependencies: Sequence[str] = (),
    ) -> None:
        if profile not in _PROFILES:
            raise UsageError(f"profile is {profile!r}; it must be 'debug' or 'release'")
        found = _toolchain()
        if found is None or found.release < _OLDEST:
            oldest = ".".join(map(str, _OLDEST))
            raise UnknownLanguageError(
                f"no rustc {oldest} or later with a cc to link by is on the path; install them: {_INSTALL}"
            )
        self._toolchain = found
        self._flags = _PROFILES[profile]
        self._programs = Programs(os.path.join(_cache.root(), "rust"))
        self._crates = _crates(crates) if crates is not None else {}
        self._vendored = _vendored(found, profile, vendor, dependencies)
        self._walls = ""

    @functools.cached_property
    def _made_of(self) -> str:
        """What goes into every binary beside its program."""
        parts: list[bytes | str] = [self._toolchain.version, *self._flags, *(text for _, text in _prelude())]
        return _cache.key([*parts, *(part for name, path in self._crates.items() for part in (name, _digest(path)))])

    def build(self, run: Callable[[Build], object], walls: str) -> None:
        """See `Builds.build`: the vendored crates, where nobody has compiled them yet."""
        self._walls = walls
        if self._vendored is not None:
            found, holding = self._vendored.held(run, walls)
            weakref.finalize(self, os.close, holding)
            self._crates |= found
            self._vendored = None

    @staticmethod
    def runtimes() -> list[Found]:
        """What there is of Rust on this machine."""
        found = _toolchain()
        if found is None or found.release < _OLDEST:
            return [Found("rustc", "", "", _INSTALL)]
        return [Found("rustc", ".".join(map(str, found.release)), found.compiler, _INSTALL)]

    def start(self, policy: SecurityPolicy, limits: ResourceLimits, level: str) -> Start:
        """See `Foreign.start`."""
        library, chain, linker = self._library(), self._toolchain, _linker()
        compiler = [
            *(chain.compiler, "--sysroot", chain.sysroot, "--crate-name", "program", "--edition", _EDITION),
            *("--error-format=json", "-Awarnings", "-C", f"linker={linker[0].target}", "-C", "codegen-units=1"),
            *("-C", "debuginfo=0", "-C", "strip=symbols", "--extern", f"dspex={library}/libdspex.rlib"),
            *(word for name, path in self._crates.items() for word in ("--extern", f"{name}={path}")),
        ]
        directories = sorted({os.path.dirname(path) for path in self._crates.values()})
        compiler += [word for directory in directories for word in ("-L", f"dependency={directory}")]
        return Start(
            guest="dspex.languages.guests.rust",
            mounts=(*chain.mounts, library, *directories, *linker),
            profile={
                "compiler": compiler,
                "patience": _PATIENCE,
                "keeps": self.runtime.keeps - 1024,
                "shared": not policy.mounts(),  # else what these show may have been compiled in
                "filter": seccomp.narrowing().hex(),
                "seccomp": syscalls.NUMBERS["seccomp"],
            },
        )

    def encode(self, request: Request) -> tuple[bytes, list[memoryview]]:
        """See `Language.encode`. The first of the buffers is the program, if it has been compiled before."""
        if request.session or isinstance(request.code, tuple):
            raise UsageError("rust has no sessions: a program is compiled as a whole; use execute")
        self.check_names(request)
        types = {name: _rust_types.type_of(value) for name, value in request.variables.items()}
        source = _rust_source.wrapped(request.code, types, [tool.name for tool in request.tools])
        key = _cache.key([self._made_of, source.text])
        program = self._programs.find(key)
        if program is None and self._walls:  # what is compiled where a wall is missing is not for those who have it
            key = _cache.key([key, self._walls])
            program = self._programs.find(key)
        told = {**self.envelope(request), "key": key, "inserted": source.inserted}
        if program is None:
            told |= {
                "code": request.code,
                "source": source.text,
                "flags": [*self._flags, *(("--test",) if source.tests else ())],
            }
        body, buffers = self.framed(told, dict(request.variables))
        return body, [memoryview(program or b""), *buffers]

    def made(self, request: bytes, program: bytes, *, shared: bool) -> None:
        """See `Language.made`: under the name that this language gave the request, whatever the guest says."""
        (length,) = _LENGTH.unpack_from(request)
        envelope = json.loads(request[_LENGTH.size : _LENGTH.size + length])
        self._programs.keep(envelope["key"], program, shared=shared)

    def _library(self) -> str:
        """The directory of the prelude, compiled once for this toolchain."""
        parts = (text for _, text in (("version", self._toolchain.version.encode()), *_prelude()))
        return _cache.directory("rust-prelude", _cache.key(parts), self._compile)

    def _compile(self, place: str) -> None:
        chain = self._toolchain
        command = [
            *(chain.compiler, "--sysroot", chain.sysroot, "--crate-name", "dspex", "--crate-type", "rlib"),
            *("--edition", _EDITION, "-C", "opt-level=2", "-C", "debuginfo=0"),
            *("-o", os.path.join(place, "libdspex.rlib"), os.path.join(_PRELUDE, "prelude.rs")),
        ]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
        if done.returncode:
            raise SandboxStartError(f"the prelude for rust cannot be compiled: {done.stderr[-2000:]}")


def _vendored(
    chain: _Toolchain, profile: str, vendor: str | os.PathLike[str] | None, dependencies: Sequence[str]
) -> _rust_crates.Vendored | None:
    """What is to be compiled. Raises `UsageError`, and `UnknownLanguageError` where there is no cargo."""
    if vendor is None:
        if dependencies:
            raise UsageError(f"dependencies is {dependencies!r}: vendor= must name the directory of their sources")
        return None
    place = _rust_crates.vendored(vendor, dependencies)
    cargo = os.path.realpath(os.path.join(chain.sysroot, "bin", "cargo"))
    if not os.access(cargo, os.X_OK):
        raise UnknownLanguageError(f"no cargo lies beside {chain.compiler}; install it: {_INSTALL_CARGO}")
    linker = os.path.realpath(shutil.which("cc") or "cc")
    seen = tuple(path for path in chain.mounts if not path.startswith("/usr/"))  # what starts programs sees /usr
    asked = tuple(sorted(dependencies))
    return _rust_crates.Vendored(place, asked, profile, cargo, chain.compiler, chain.version, linker, seen)


def _crates(directory: str | os.PathLike[str]) -> dict[str, str]:
    """The compiled crates of a directory, by name. Raises `UsageError` where there are none."""
    place = os.path.realpath(directory)
    try:
        files = sorted(os.listdir(place))
    except OSError as error:
        raise UsageError(f"crates is {str(directory)!r}, which cannot be read: {error.strerror}") from None
    found = {named[1]: os.path.join(place, file) for file in files if (named := _rust_crates.LIBRARY.fullmatch(file))}
    if not found:
        raise UsageError(
            f"crates is {str(directory)!r}, which holds no libNAME.rlib; compile them with --crate-type rlib"
        )
    return found


def _digest(path: str) -> bytes:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").digest()


def _prelude() -> list[tuple[str, bytes]]:
    """Its files, by name."""
    found = []
    for name in sorted(os.listdir(_PRELUDE)):
        with open(os.path.join(_PRELUDE, name), "rb") as file:
            found.append((name, file.read()))
    return found


def _linker() -> list[Mount]:
    """The programs that link, under their own names, whatever they are links to; what drives them first."""
    found = [(name, shutil.which(name)) for name in _LINKS]
    return [Mount(os.path.realpath(path), f"/usr/bin/{name}") for name, path in found if path]
