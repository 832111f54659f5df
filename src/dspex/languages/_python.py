"""Python: the caller's own interpreter, without the caller's packages unless the policy names them."""

from __future__ import annotations

import json
import marshal
import os
import struct
import sys
from typing import TYPE_CHECKING, Final

from dspex._sandbox import ahead
from dspex._sandbox.rootfs import CERTIFICATES, DEVICES, RESOLVING, Mount, Tree
from dspex.errors import PolicyError
from dspex.languages._base import Found, Plan, Runtime

if TYPE_CHECKING:
    from collections.abc import Iterable
    from importlib.metadata import Distribution

    from dspex._sandbox.limits import ResourceLimits
    from dspex._sandbox.policy import SecurityPolicy
    from dspex.languages._base import Request, ToolSpec

_LENGTH: Final = struct.Struct("<I")
_LARGE: Final = 1 << 12
_SCALARS: Final = (type(None), bool, int, float, str)
_LINE: Final = 64  # bytes of a cache line: arrays that begin on one are used where they lie
_GUEST: Final = "dspex.languages.guests.python"
_SYSTEM: Final = ("/usr/lib", "/usr/lib64", "/lib", "/lib64", "/usr/share/zoneinfo", "/etc/ld.so.cache")
_PROGRAMS: Final = ("/usr/bin", "/bin")
# One thread in the zygote, for only one survives a fork; and in guests, which share the cores with their siblings.
_ENVIRONMENT: Final = {
    "HOME": "/run/sandbox/work",
    "TMPDIR": "/run/sandbox/tmp",
    "PATH": "/usr/bin:/bin",
    "LANG": "C.UTF-8",
    "USER": "guest",
    "MPLBACKEND": "module://dspex_figures",
    "MPLCONFIGDIR": "/run/sandbox/tmp",  # else caches would be among the files that the program leaves
    "OPENBLAS_NUM_THREADS": "1",
    "OMP_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "NUMEXPR_NUM_THREADS": "1",
    "POLARS_MAX_THREADS": "1",
    "RAYON_NUM_THREADS": "1",
}
# Where clients look for certificates to trust: OpenSSL (and so urllib and httpx), requests, curl.
_TRUSTING: Final = ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")
# Say which kernels OpenBLAS may use on this processor: a matter of right results, not of taste.
_HARDWARE: Final = ("OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE")


class Python:
    """The language `python`, CPython of the version that the caller runs."""

    name = "python"
    runtime = Runtime(branches=True, files=True)
    sources = (str,)

    @staticmethod
    def runtimes() -> list[Found]:
        """The caller's own interpreter."""
        return [Found("cpython", "{}.{}.{}".format(*sys.version_info), sys.executable, "")]

    def plan(self, policy: SecurityPolicy, limits: ResourceLimits, imports: tuple[str, ...], level: str) -> Plan:
        """See `Language.plan`."""
        stdlib = os.path.dirname(os.path.abspath(os.__file__))
        packages = _Packages(policy.packages, policy.virtual_environment)
        binds = [*_interpreter(stdlib, policy.subprocesses), *packages.mounts(), *mounts_of(policy, level)]
        binds += [Mount(_certificates(), CERTIFICATES)] if policy.network else []
        files = RESOLVING if policy.network else ()
        tree = Tree((*binds, *_hidden(binds, stdlib, packages.whole)), _links(policy.subprocesses), files)
        readable = [m.source if level != "namespaces" else m.target for m in tree.mounts if m.source]
        readable += ["/etc", "/dev"] if level == "namespaces" else [f"/dev/{name}" for name in DEVICES]
        writable = ["/dev/null", "/dev/zero", "/dev/full", *(m.target for m in binds if m.writable)]
        return Plan(
            argv=ahead.command(_GUEST),
            guest=_GUEST,
            tree=tree,
            readable=tuple(readable),
            writable=tuple(writable),
            environment=_environment(policy),
            sys_path=(stdlib, os.path.join(stdlib, "lib-dynload"), *packages.sys_path),
            preload=(*packages.importable(), *packages.checked(imports)),
            profile={
                "value": limits.value,
                "forbidden_modules": list(policy.forbidden_modules),
                "forbidden_calls": list(policy.forbidden_calls),
                "network": list(map(str, policy.network)),
            },
            runtime=self.runtime,
        )

    def encode(self, request: Request) -> tuple[bytes, list[memoryview]]:
        """See `Language.encode`. The envelope is marshal, the variables a pickle of plain data: both go inwards only."""
        pickled: bytes = b""
        buffers: list[memoryview] = []
        if request.variables:
            from dspex.languages import _values

            _values.check_names(request.variables)
            pickled, buffers = _values.encode(request.variables)
        places, laid = _lay_out(buffers)
        envelope = marshal.dumps(
            (
                request.code,
                list(request.imports),
                dict(request.environment),
                request.working_directory,
                request.timeout,
                places,
                [_told(tool) for tool in request.tools] if request.tools else (),
            )
        )
        return b"".join((_LENGTH.pack(len(envelope)), envelope, pickled)), laid

    def keep(self, token: str, data: bytes) -> None:
        """See `Language.keep`: nothing is compiled for others."""
        raise ValueError("a guest sent what nobody keeps")

    def made(self, request: bytes, program: bytes, *, shared: bool) -> None:
        """See `Language.made`: no guest here makes programs."""
        raise ValueError("a guest sent what nobody keeps")

    def encode_return(self, number: int, failed: bool, content: object) -> tuple[bytes, list[memoryview]]:
        """See `Language.encode_return`. Laid out as a request is."""
        if type(content) in _SCALARS:  # what tools most often return needs no pickle
            envelope = marshal.dumps((number, failed, (), content))  # type: ignore[arg-type]
            return _LENGTH.pack(len(envelope)) + envelope, []
        from dspex.languages import _values

        pickled, buffers = _values.encode({"result": content})
        places, laid = _lay_out(buffers)
        envelope = marshal.dumps((number, failed, places, None))
        return b"".join((_LENGTH.pack(len(envelope)), envelope, pickled)), laid

    def decode(self, text: bytes, buffers: bytes | memoryview, tagged: bool, limit: int) -> object:
        """See `Language.decode`."""
        if not tagged and not buffers:
            return json.loads(str(text, "utf-8"))
        from dspex.languages import _values

        return _values.decode(text, buffers, tagged=tagged, limit=limit)


def _told(tool: ToolSpec) -> tuple[object, ...]:
    """A tool as marshal takes it."""
    parameters = None if tool.parameters is None else [tuple(parameter) for parameter in tool.parameters]
    return tool.name, tool.description, parameters, tool.returns


def _lay_out(buffers: list[memoryview]) -> tuple[list[tuple[int, int]], list[memoryview]]:
    """Where each buffer begins and ends, one behind the other, large ones on cache lines; and what fills the gaps."""
    places, laid, end = [], [], 0
    for buffer in buffers:
        if buffer.nbytes >= _LARGE and (gap := -end % _LINE):
            laid.append(memoryview(bytes(gap)))
            end += gap
        places.append((end, end + buffer.nbytes))
        laid.append(buffer)
        end += buffer.nbytes
    return places, laid


def _environment(policy: SecurityPolicy) -> dict[str, str]:
    hardware = {name: os.environ[name] for name in _HARDWARE if name in os.environ}
    trusting = dict.fromkeys(_TRUSTING, CERTIFICATES) if policy.network else {}
    return _ENVIRONMENT | trusting | hardware | policy.handed_environment()


def _certificates() -> str:
    """The file with the certificates that this host trusts."""
    import ssl

    found = ssl.get_default_verify_paths().cafile or ""
    if not found:
        import certifi

        found = certifi.where()
    return os.path.realpath(found)


def interpreter_mounts(subprocesses: bool) -> tuple[str, list[Mount]]:
    """The standard library's directory, and all that an interpreter without packages needs, which every zygote is."""
    stdlib = os.path.dirname(os.path.abspath(os.__file__))
    binds = _interpreter(stdlib, subprocesses)
    return stdlib, [*binds, *_hidden(binds, stdlib, whole=False)]


def _interpreter(stdlib: str, subprocesses: bool) -> list[Mount]:
    wanted = [*_SYSTEM, *(_PROGRAMS if subprocesses else ())]
    found = [path for path in wanted if os.path.exists(path) and not os.path.islink(path)]
    if subprocesses and not _beneath(sys.base_prefix, found) and sys.base_prefix != "/usr":
        found.append(sys.base_prefix)
    if not _beneath(stdlib, found):
        found.append(stdlib)
    return [Mount(path, path) for path in found]


def _links(subprocesses: bool) -> tuple[tuple[str, str], ...]:
    """The symbolic links that a merged /usr has at the root."""
    names = ("/lib", "/lib64", *(("/bin",) if subprocesses else ()))
    return tuple((name, os.readlink(name)) for name in names if os.path.islink(name))


def _hidden(binds: list[Mount], stdlib: str, whole: bool) -> list[Mount]:
    """Empty directories over the package directories that would come along with the interpreter."""
    if whole:
        return []
    base = [os.path.join(stdlib, "site-packages"), "/usr/lib/python3/dist-packages"]
    taken = [mount.target for mount in binds]
    return [Mount("", path) for path in base if os.path.isdir(path) and _beneath(path, taken)]


def mounts_of(policy: SecurityPolicy, level: str) -> list[Mount]:
    """What the policy mounts. Raises `PolicyError` for what this level cannot."""
    found = list(policy.mounts())
    for mount in found if level != "namespaces" else ():
        if os.path.realpath(mount.target) != mount.source:
            raise PolicyError(
                f"{mount.source}:{mount.target}: nothing can be shown at another place here, for this host allows no "
                f"mounts (isolation level {level!r}); name the path alone"
            )
    return found


def _beneath(path: str, parents: list[str]) -> bool:
    return any(path == parent or path.startswith(parent.rstrip("/") + "/") for parent in parents)


class _Packages:
    """The packages that a policy names, of the caller's environment or another one, and what they need."""

    def __init__(self, names: tuple[str, ...], environment: str) -> None:
        self.whole = "*" in names
        self._names = tuple(name for name in names if name != "*")
        self._directories = _directories_of(environment) if environment else _own_directories()
        self._entries = {} if self.whole or not names else _Installed(self._directories).entries(self._names)
        roots = dict.fromkeys(os.path.dirname(path) for path in self._entries)
        self.sys_path = tuple(self._directories if self.whole else roots)

    def mounts(self) -> list[Mount]:
        """Binds of every directory or file that belongs to the packages."""
        paths = self._directories if self.whole else list(self._entries)
        return [Mount(path, path) for path in paths if os.path.exists(path)]

    def importable(self) -> tuple[str, ...]:
        """The named packages that can be imported under their own name."""
        tops = _tops(self._entries)
        return tuple(name for name in (n.replace("-", "_") for n in self._names) if name in tops)

    def checked(self, imports: tuple[str, ...]) -> tuple[str, ...]:
        """The modules of `imports`, all of which guests can see. Raises `PolicyError` for one that they cannot."""
        modules = tuple(spec.partition(" as ")[0].strip() for spec in imports)
        tops = _tops(self._entries)
        for module in modules:
            top = module.partition(".")[0]
            if not self.whole and top not in tops and top not in sys.stdlib_module_names:
                raise PolicyError(
                    f"imports names {module!r}, which the guest cannot see; "
                    f"allow it with SecurityPolicy(packages=({top!r},))"
                )
        return modules


def _tops(entries: Iterable[str]) -> set[str]:
    """The names under which these files and directories can be imported; `pillow.libs` is no module `pillow`."""
    names = (os.path.basename(path) for path in entries)
    return {name.partition(".")[0] for name in names if not name.endswith((".libs", ".dist-info"))}


def _own_directories() -> list[str]:
    return [path for path in sys.path if os.path.basename(path) in ("site-packages", "dist-packages")]


def _directories_of(environment: str) -> list[str]:
    """Where a virtual environment keeps its packages. Raises `PolicyError` for one of another version of Python."""
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    library = os.path.join(environment, "lib")
    path = os.path.join(library, version, "site-packages")
    if os.path.isdir(path):
        return [os.path.realpath(path)]
    others = [name for name in (os.listdir(library) if os.path.isdir(library) else ()) if name.startswith("python")]
    found = f"holds packages for {', '.join(sorted(others))}" if others else "is no virtual environment"
    raise PolicyError(f"virtual_environment: {environment} {found}; guests run {version}, as the caller does")


class _Installed:
    """The distributions in some directories, and which files and directories there belong to them."""

    def __init__(self, directories: list[str]) -> None:
        self._directories = directories
        self._by_import: dict[str, list[str]] | None = None

    def entries(self, names: tuple[str, ...]) -> dict[str, None]:
        """All that belongs to `names` and their requirements. Raises `PolicyError` for one that is not there."""
        import re

        entries: dict[str, None] = {}
        pending, seen = list(names), set()
        while pending:
            name = pending.pop()
            key = name.lower().replace("_", "-")
            if key in seen:
                continue
            seen.add(key)
            found = self._distribution(name)
            if found is None:
                pending += self._importable_as(name, needed=name in names)
                continue
            root = str(found.locate_file(""))
            tops = {file.parts[0] for file in found.files or () if file.parts[0] not in ("..", "__pycache__")}
            entries.update((os.path.join(root, top), None) for top in sorted(tops))
            needs = (need for need in found.requires or () if "extra ==" not in need)
            pending.extend(re.split(r"[^A-Za-z0-9._-]", need, maxsplit=1)[0] for need in needs)
        return entries

    def _distribution(self, name: str) -> Distribution | None:
        from importlib import metadata

        return next(iter(metadata.distributions(name=name, path=self._directories)), None)

    def _importable_as(self, name: str, *, needed: bool) -> list[str]:
        """The distributions that bring a module of this name."""
        from importlib import metadata

        if self._by_import is None:
            self._by_import = {}
            for found in metadata.distributions(path=self._directories):
                for top in _tops(str(file) for file in {file.parts[0] for file in found.files or ()}):
                    self._by_import.setdefault(top, []).append(found.metadata["Name"])
        if needed and name not in self._by_import:
            raise PolicyError(f"packages names {name!r}, which is not installed here; pip install {name}")
        return self._by_import.get(name, [])
