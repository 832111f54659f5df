"""Crates from vendored sources, as `cargo vendor` lays them out: compiled once, in a sandbox, and kept by content.

Theory of operation. cargo, offline, in a guest that may start programs and execute what it made: so build scripts and procedural
macros run, and see the sources, the toolchain and nothing else. The guest answers with files; the host takes names and bytes,
writes them into a directory of the cache, and guests of Rust programs have that directory read-only. Its name is a hash of all
sources, of what was asked for and of the compiler. Whoever uses one holds a lock on it: only what nobody uses is removed when
there is too much.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import stat
from typing import TYPE_CHECKING, Final, NamedTuple

from dspex.errors import UsageError
from dspex.languages import _cache
from dspex.languages._base import Build
from dspex.languages._python import Python

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from dspex._sandbox.limits import ResourceLimits
    from dspex._sandbox.policy import SecurityPolicy
    from dspex.languages._base import Plan

LIBRARY: Final = re.compile(r"lib(\w+?)(?:-[0-9a-f]+)?\.(?:rlib|so)")
_GUEST: Final = os.path.join(os.path.dirname(os.path.abspath(__file__)), "guests", "rust_crates.py")
_DEPENDENCY: Final = re.compile(r"([A-Za-z][\w-]*)(?:@([\w.*^~=<>, +-]+))?((?:/[\w+-]+)*)")
_NAME: Final = re.compile(r"[^\W\d]\w*")
_MOST: Final = 2 << 30  # bytes that all crates take in the cache
_PATIENCE: Final = 600.0  # seconds that they may take to compile
_PROFILES: Final = {"debug": "dev", "release": "release"}
_MANIFEST: Final = """[package]
name = "dependencies"
version = "0.0.0"
edition = "2021"
[profile.dev]
debug = false
[dependencies]
"""
_SETTINGS: Final = """[source.crates-io]
replace-with = "vendored"
[source.vendored]
directory = {}
"""


class _Making(Python):
    """Python whose guests may execute what they made."""

    def plan(self, policy: SecurityPolicy, limits: ResourceLimits, imports: tuple[str, ...], level: str) -> Plan:
        """See `Language.plan`."""
        plan = super().plan(policy, limits, imports, level)
        return plan._replace(readable=(*plan.readable, "/run"))


class Vendored(NamedTuple):
    """Which crates of a vendored directory programs may use, and what compiles them."""

    directory: str
    dependencies: tuple[str, ...]  # "name", "name@requirement", "name/feature/feature"
    profile: str
    cargo: str
    compiler: str
    version: str  # the compiler's
    linker: str
    readable: tuple[str, ...]  # what of the host that takes beside the sources

    def held(self, run: Callable[[Build], object], walls: str) -> tuple[dict[str, str], int]:
        """The libraries by the names that programs have for them, and a descriptor that keeps them there. Raises `UsageError`."""
        name = _cache.key([*self._asked(), self.version, self.profile, walls, _contents(self.directory)])
        place, holding = _cache.held("rust-crates", name, lambda made: self._compile(made, run), _MOST)
        with open(os.path.join(place, "externs.json"), encoding="utf-8") as file:
            return {extern: os.path.join(place, library) for extern, library in json.load(file).items()}, holding

    def _asked(self) -> list[str]:
        return [_MANIFEST, *map(_row, self.dependencies)]

    def _compile(self, place: str, run: Callable[[Build], object]) -> None:
        given = {
            "cargo": self.cargo,
            "settings": _SETTINGS.format(json.dumps(self.directory)),
            "manifest": "".join(self._asked()),
            "profile": _PROFILES[self.profile],
            "environment": {"RUSTC": self.compiler, "RUSTFLAGS": f"-C linker={self.linker}"},
        }
        with open(_GUEST, encoding="utf-8") as file:
            program = file.read() + "\ncrates(**given)\n"
        answer = run(Build(_Making(), program, {"given": given}, (self.directory, *self.readable), _PATIENCE))
        files, externs = _checked(answer, self.directory)
        for name, data in {**files, "externs.json": json.dumps(externs).encode()}.items():
            with open(os.path.join(place, name), "wb") as out:
                out.write(data)


def vendored(directory: str | os.PathLike[str], dependencies: Sequence[str]) -> str:
    """The directory's real path. Raises `UsageError` where it, or one of these, cannot be meant."""
    place = os.path.realpath(directory)
    if isinstance(dependencies, str) or not dependencies:
        raise UsageError(
            f"dependencies is {dependencies!r}; it must be a list of crates, like ['itoa', 'serde@1/derive']"
        )
    for asked in dependencies:
        if not isinstance(asked, str) or not _DEPENDENCY.fullmatch(asked):
            raise UsageError(f"dependencies holds {asked!r}; write a crate as 'name', 'name@1.2' or 'name/feature'")
    if not os.path.isdir(place) or not any(os.path.isfile(f"{place}/{name}/Cargo.toml") for name in os.listdir(place)):
        raise UsageError(f"vendor is {str(directory)!r}, which holds no CRATE/Cargo.toml; make it with `cargo vendor`")
    return place


def _row(dependency: str) -> str:
    """Its line of Cargo.toml. What stands in it was looked through by `vendored`."""
    found = _DEPENDENCY.fullmatch(dependency)
    assert found is not None
    name, requirement, features = found[1], found[2] or "*", found[3].split("/")[1:]
    return f"{name} = {{ version = {json.dumps(requirement)}, features = {json.dumps(features)} }}\n"


def _contents(directory: str) -> bytes:
    """A digest of all that lies in it."""
    digest = hashlib.sha256()
    for parent, names, files in os.walk(directory):
        names.sort()
        for path in (os.path.join(parent, name) for name in sorted(files)):
            if stat.S_ISREG(os.lstat(path).st_mode):
                with open(path, "rb") as file:
                    digest.update(_cache.key([os.path.relpath(path, directory), file.read()]).encode())
    return digest.digest()


def _checked(answer: object, directory: str) -> tuple[dict[str, bytes], dict[str, str]]:
    """What the guest says that it made. A build script could have said it: names and bytes are all that is believed."""
    match answer:
        case {"failed": str(why)}:
            raise UsageError(f"the crates of {directory!r} cannot be compiled: {why}")
        case {"files": dict(files), "externs": dict(externs)}:
            named = all(_NAME.fullmatch(str(name)) and library in files for name, library in externs.items())
            if named and all(LIBRARY.fullmatch(str(name)) and isinstance(data, bytes) for name, data in files.items()):
                return files, externs
    raise UsageError(f"the crates of {directory!r} cannot be compiled: what came out is no list of libraries")
