"""The portable tier: Python and JavaScript in WebAssembly, for hosts whose kernel offers neither level of isolation.

The wall is WebAssembly's: a program reaches what is mapped into its memory and its few directories, and the process that holds
it is confined by whatever the kernel does offer.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
from typing import TYPE_CHECKING, Final

from dspex._sandbox import ahead
from dspex._sandbox.rootfs import DEVICES, Tree
from dspex.errors import PolicyError, UnknownLanguageError, UsageError
from dspex.languages._base import Found, Plan, Runtime
from dspex.languages._foreign import Start
from dspex.languages._javascript import QuickJS, prelude
from dspex.languages._python import Python, interpreter_mounts
from dspex.languages._wasm import library

if TYPE_CHECKING:
    from dspex._sandbox.limits import ResourceLimits
    from dspex._sandbox.policy import SecurityPolicy
    from dspex.languages._base import Language, Request

_MIB: Final = 1 << 20
_INSTALL: Final = "pip install 'dspex[portable]'"
_ENVIRONMENT: Final = {"HOME": "/work", "TMPDIR": "/tmp", "LANG": "C.UTF-8", "USER": "guest"}
_HERE: Final = os.path.dirname(os.path.abspath(__file__))


def _package(name: str) -> str:
    """The directory of a package; empty where it is not installed."""
    spec = importlib.util.find_spec(name)
    return next(iter(spec.submodule_search_locations or ()), "") if spec else ""


def runtimes() -> list[tuple[str, Found]]:
    """What there is of the portable tier on this machine, by language."""
    return [
        (language, Found(f"{shown} (isolation wasm)", _version(package), _package(name), _INSTALL))
        for language, shown, name, package in (
            ("python", "eryx", "eryx", "pyeryx"),
            ("javascript", "quickjs", "quickjs_rs", "quickjs-rs"),
        )
    ]


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return ""


class PortablePython(Python):
    """CPython in WebAssembly, as the package pyeryx has it: its own version, with the standard library and nothing else.

    What it lacks beside `Python`: packages, imports ahead, the soft deadline and interruption (a program that runs too long
    is ended, and its session with it), threads, processes, branches, dumps, a network.
    """

    runtime = Runtime(announces=True, data=512 * _MIB, threads=16, open_files=32)

    def __init__(self) -> None:
        self._library = _package("eryx")
        if not self._library:
            raise UnknownLanguageError(
                f"isolation 'wasm' runs Python by the package pyeryx, which is not installed here: {_INSTALL} "
                "(it takes Python 3.12 or later)"
            )

    def plan(self, policy: SecurityPolicy, limits: ResourceLimits, imports: tuple[str, ...], level: str) -> Plan:
        """See `Language.plan`."""
        if policy.packages or imports:
            raise PolicyError(
                f"{'packages' if policy.packages else 'imports'}: Python in WebAssembly has its standard library only"
            )
        if directories := [mount.source for mount in policy.mounts()]:
            raise PolicyError(f"{directories[0]}: a program in WebAssembly is shown no path of the host; use files=")
        stdlib, binds = interpreter_mounts(policy.subprocesses)
        readable = [*(mount.source for mount in binds), self._library]
        return Plan(
            argv=ahead.command(_GUEST),
            guest=_GUEST,
            tree=Tree((), ()),
            readable=(*readable, *(f"/dev/{name}" for name in DEVICES)),
            writable=("/dev/null", "/dev/zero", "/dev/full"),
            environment={},
            sys_path=(stdlib, os.path.join(stdlib, "lib-dynload"), os.path.dirname(self._library)),
            preload=(),
            profile={
                "value": limits.value,
                "disk": limits.disk,
                "forbidden_modules": list(policy.forbidden_modules),
                "forbidden_calls": list(policy.forbidden_calls),
                "network": [],
                "environment": _ENVIRONMENT | policy.handed_environment(),
                "guests": os.path.join(_HERE, "guests"),
            },
            runtime=self.runtime,
        )

    def encode(self, request: Request) -> tuple[bytes, list[memoryview]]:
        """See `Language.encode`."""
        if isinstance(request.code, tuple):
            raise UsageError("a session in WebAssembly cannot be dumped or restored")
        return super().encode(request)


_GUEST: Final = "dspex.languages.guests.python_wasm"


class PortableJavaScript(QuickJS):
    """QuickJS in WebAssembly, as the package quickjs-rs has it, under wasmtime."""

    runtime = Runtime(data=1, threads=8)

    def __init__(self) -> None:
        self._engines = (_package("quickjs_rs"), library())
        if not all(self._engines):
            raise UnknownLanguageError(
                f"isolation 'wasm' runs JavaScript by the package quickjs-rs, which is not installed here: {_INSTALL}"
            )

    def start(self, policy: SecurityPolicy, limits: ResourceLimits, level: str) -> Start:
        """See `Foreign.start`."""
        return Start(
            guest="dspex.languages.guests.quickjs",
            mounts=self._engines,
            sys_path=tuple({os.path.dirname(path): None for path in self._engines}),
            profile={"prelude": prelude(), "webassembly": True},
        )


def javascript(runtime: str | None = None) -> Language:
    """JavaScript in WebAssembly; the only runtime is "quickjs"."""
    if runtime not in (None, "quickjs"):
        raise UsageError(f"runtime is {runtime!r}; with isolation 'wasm' JavaScript runs on 'quickjs'")
    return PortableJavaScript()
