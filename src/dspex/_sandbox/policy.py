"""What a guest may do: `SecurityPolicy`, frozen data, deny by default; and the files that policies are kept in.

A policy file is TOML or JSON with up to two tables, `policy` and `limits`. On the path of `dspex run`: this file
imports no more than it must, the readers of either format only when a file is read.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, Final

from dspex._sandbox.frozen import Frozen
from dspex._sandbox.limits import ResourceLimits
from dspex.errors import LimitsError, PolicyError

if TYPE_CHECKING:
    from collections.abc import Callable

    from dspex._sandbox.network import Host, NetworkRules, Secret
    from dspex._sandbox.rootfs import Mount

_OWNED: Final = ("/proc", "/dev", "/sys", "/run/sandbox", "/kernel")  # inside, these are made by the engine
_HOLDING: Final = ("/", "/run", "/etc", "/tmp")  # and these hold something that is
_HOST_ONLY: Final = ("/proc", "/dev", "/sys")  # of the host, these reach beyond files
_DATA_SCIENCE: Final = ("numpy", "pandas", "polars", "scipy", "sklearn", "matplotlib")
_STRICT_MODULES: Final = ("ctypes", "_ctypes", "multiprocessing", "pty", "socket", "subprocess")
_STRICT_CALLS: Final = ("os.execv", "os.execve", "os.fork", "os.forkpty", "os.popen", "os.posix_spawn", "os.system")
_VARIABLE: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_PACKAGE: Final = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9._-]*[A-Za-z0-9_])?|\*")
_MOST_PORTS: Final = 64  # each is a descriptor of the host's for every guest
_DOTTED: Final = re.compile(r"[^\s.]+(?:\.[^\s.]+)*")


class SecurityPolicy(Frozen):
    """What one guest may do. All that is not named is denied.

    Every list may be given as any iterable of text (paths also as `Path`) and is held as a tuple. Raises
    `PolicyError`, which names the field and the entry.
    """

    readable: tuple[str, ...] = ()
    """Paths of the host that the guest may read, absolute or with `~`; `"source:target"` shows it at another place."""
    writable: tuple[str, ...] = ()
    """Paths of the host that the guest may read and write, in the same form."""
    network: tuple[Host, ...] = ()
    """Places that the guest may connect to, as `"api.example.com:443"`, `"*.example.com"` or a `Host`."""
    secrets: tuple[Secret, ...] = ()
    """Values that stay outside: `{"API_KEY": (value, ["api.example.com"])}`. The guest gets a placeholder in its variable
    `API_KEY`, which becomes the value on the way to those hosts. No text shows the values: not `repr`, `explain`, nor a
    policy file, which names the hosts only; there the value is that of the host's own variable when the file is read."""
    secrets_in_body: bool = False
    """Whether placeholders become values in the bodies of requests too, not in their headers only."""
    environment: tuple[str, ...] = ()
    """Names of variables of the host's environment that the guest gets with their values."""
    subprocesses: bool = False
    """Whether the guest may start other programs."""
    packages: tuple[str, ...] = ()
    """Packages of the caller's environment that the guest sees, by import or distribution name; `"*"` is all."""
    virtual_environment: str = ""
    """Directory of a virtual environment that `packages` are taken from instead; of the same minor version of Python."""
    forbidden_modules: tuple[str, ...] = ()
    """Modules whose import is told early as forbidden. A kindness, no wall: the wall is the kernel."""
    forbidden_calls: tuple[str, ...] = ()
    """Dotted names whose call is told early as forbidden, as `"os.system"` or `"eval"`. No wall either."""

    if TYPE_CHECKING:  # what may be given is wider than what is held

        def __init__(
            self,
            *,
            readable: Iterable[str | os.PathLike[str]] = ...,
            writable: Iterable[str | os.PathLike[str]] = ...,
            network: Iterable[str | Host | Mapping[str, object]] = ...,
            secrets: Mapping[str, tuple[str, Iterable[str]] | Mapping[str, object]] = ...,
            secrets_in_body: bool = ...,
            environment: Iterable[str] = ...,
            subprocesses: bool = ...,
            packages: Iterable[str] = ...,
            virtual_environment: str | os.PathLike[str] = ...,
            forbidden_modules: Iterable[str] = ...,
            forbidden_calls: Iterable[str] = ...,
        ) -> None: ...

    def __post_init__(self) -> None:
        for name in ("subprocesses", "secrets_in_body"):
            if not isinstance(getattr(self, name), bool):
                raise PolicyError(f"{name}: must be true or false, not a {type(getattr(self, name)).__name__}")
        for name, check in _ENTRY_CHECKS.items():
            entries = _texts(name, getattr(self, name))
            for index, entry in enumerate(entries):
                check(f"{name}[{index}]", entry)
            object.__setattr__(self, name, entries)
        object.__setattr__(self, "virtual_environment", _directory(self.virtual_environment))
        if self.network != () or self.secrets != ():
            self._settle_network()

    def _settle_network(self) -> None:
        from dspex._sandbox.network import hosts_of, secrets_of

        object.__setattr__(self, "network", hosts_of(self.network))
        object.__setattr__(self, "secrets", secrets_of(self.secrets))
        rules = self.network_rules()
        if len(rules.ports()) > _MOST_PORTS:
            raise PolicyError(f"network: names {len(rules.ports())} ports; a guest has at most {_MOST_PORTS}")
        for secret in self.secrets:
            if secret.name in self.environment:
                place = f"environment[{self.environment.index(secret.name)}]"
                raise PolicyError(f"{place}: {secret.name} is one of secrets too; the guest would get its value")

    @classmethod
    def default(cls) -> SecurityPolicy:
        """Everything denied; nothing told early."""
        return cls()

    @classmethod
    def strict(cls) -> SecurityPolicy:
        """Everything denied, and programs that would start others or open sockets are told so before they run."""
        return cls(forbidden_modules=_STRICT_MODULES, forbidden_calls=_STRICT_CALLS)

    @classmethod
    def data_science(cls) -> SecurityPolicy:
        """The default with numpy, pandas, polars, scipy, sklearn and matplotlib, as far as they are installed."""
        return cls(packages=filter(_installed, _DATA_SCIENCE))

    @classmethod
    def trusted(cls) -> SecurityPolicy:
        """For code of your own: all packages, and it may start other programs. Still no files and no network."""
        return cls(packages=("*",), subprocesses=True)

    def replace(self, **changes: object) -> SecurityPolicy:
        """A copy with some fields changed."""
        return SecurityPolicy.from_dict({**self.to_fields(), **changes})

    def check(self) -> None:
        """Hold the policy against this host. Raises `PolicyError` for a missing path."""
        self.mounts()

    def network_rules(self) -> NetworkRules:
        """What decides on the network of a guest."""
        from dspex._sandbox.network import NetworkRules

        return NetworkRules(allowed=self.network, secrets=self.secrets, secrets_in_body=self.secrets_in_body)

    def mounts(self) -> tuple[Mount, ...]:
        """What of the host is visible inside, symbolic links of the source resolved, by target. Raises `PolicyError`.

        A place that is readable and writable is writable.
        """
        from dspex._sandbox.rootfs import Mount

        placed: dict[str, Mount] = {}
        for name, writable in (("readable", False), ("writable", True)):
            for index, entry in enumerate(getattr(self, name)):
                place = f"{name}[{index}]"
                source, target = _source_and_target(place, entry)
                source = _resolved(place, source)
                if target in placed and placed[target].source != source:
                    raise PolicyError(f"{place}: {target} already shows {placed[target].source}; give another target")
                placed[target] = Mount(source, target, writable)
        return tuple(placed[target] for target in sorted(placed))

    def handed_environment(self, environ: Mapping[str, str] | None = None) -> dict[str, str]:
        """The variables that the guest gets, with their values; one that the host does not have is left out."""
        host = os.environ if environ is None else environ
        return {name: host[name] for name in self.environment if name in host}

    def explain(self) -> str:
        """The policy in words, one line for each thing that is allowed or denied."""
        return "\n".join(
            (
                _sentence(self.readable, "May read of the host: {}.", "May read no file of the host."),
                _sentence(self.writable, "May write on the host: {}.", "May write no file of the host."),
                _sentence(tuple(map(_explained, self.network)), "May connect to: {}.", "May not use the network."),
                *([_explain_secrets(self.secrets, self.secrets_in_body)] if self.secrets else ()),
                _sentence(self.environment, "Gets from the environment: {}.", "Gets no variable of the environment."),
                "May start other programs." if self.subprocesses else "May not start other programs.",
                _explain_packages(self.packages, self.virtual_environment),
                _sentence(self.forbidden_modules, "Is told early not to import: {}.", "No import is told early."),
                _sentence(self.forbidden_calls, "Is told early not to call: {}.", "No call is told early."),
            )
        )

    def to_dict(self) -> dict[str, Any]:
        """The fields by name, as plain data; of secrets the hosts, never the values."""
        return {
            **{
                name: value if isinstance(value, (bool, str)) else list(value)
                for name, value in self.to_fields().items()
            },
            "network": [{"host": str(host), "private": True} if host.private else str(host) for host in self.network],
            "secrets": {secret.name: {"hosts": list(secret.hosts)} for secret in self.secrets},
        }

    @classmethod
    def from_dict(cls, table: Mapping[str, object]) -> SecurityPolicy:
        """A policy from fields by name; a missing one is denied. Raises `PolicyError`, also for an unknown one."""
        known = list(cls.fields())
        for name in map(str, table):
            if name not in known:
                raise PolicyError(f"{name:.80}: a policy has no such field{_meant(name, known)}")
        return cls(**table)  # type: ignore[arg-type]  # checked in __post_init__

    def to_toml(self, limits: ResourceLimits | None = None) -> str:
        """A policy file in TOML, with the limits if they are given."""
        return "\n".join(
            f"[{title}]\n" + "".join(f"{name} = {_toml(value)}\n" for name, value in table.items())
            for title, table in self._tables(limits).items()
        )

    def to_json(self, limits: ResourceLimits | None = None) -> str:
        """A policy file in JSON, with the limits if they are given."""
        import json

        return json.dumps(self._tables(limits), indent=2, ensure_ascii=False) + "\n"

    def _tables(self, limits: ResourceLimits | None) -> dict[str, dict[str, Any]]:
        return {"policy": self.to_dict()} | ({"limits": limits.to_dict()} if limits else {})

    @classmethod
    def from_toml(cls, text: str) -> SecurityPolicy:
        """The policy in the text of a TOML policy file. Raises `PolicyError`, with the line where there is one."""
        return _from_tables(_parse_toml(text))[0]

    @classmethod
    def from_json(cls, text: str) -> SecurityPolicy:
        """The policy in the text of a JSON policy file. Raises `PolicyError`, with the line where there is one."""
        return _from_tables(_parse_json(text))[0]

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> SecurityPolicy:
        """The policy in a file; its limits are checked but not returned (`load_policy_file` returns both)."""
        return load_policy_file(path)[0]


def presets() -> Mapping[str, Callable[[], SecurityPolicy]]:
    """The policies that have names."""
    return {
        "default": SecurityPolicy.default,
        "strict": SecurityPolicy.strict,
        "data_science": SecurityPolicy.data_science,
        "trusted": SecurityPolicy.trusted,
    }


def load_policy_file(path: str | os.PathLike[str]) -> tuple[SecurityPolicy, ResourceLimits]:
    """The policy and the limits in a `.toml` or `.json` file; a missing table means the default.

    Raises `PolicyError` or `LimitsError`, which name the file, the line where it is known, the field and the value.
    """
    shown = os.fspath(path)
    parse = {".toml": _parse_toml, ".json": _parse_json}.get(os.path.splitext(shown)[1].lower())
    if parse is None:
        raise PolicyError(f"{shown}: a policy file ends in .toml or .json")
    try:
        return _from_tables(parse(_read(shown)))
    except (PolicyError, LimitsError) as error:
        raise type(error)(f"{shown}: {error}") from None


# --- Policy files ------------------------------------------------------------------------------------------------


def _read(path: str) -> str:
    try:
        with open(path, "rb") as file:
            content = file.read()
    except OSError as error:
        raise PolicyError(f"cannot be read: {error.strerror}") from None
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise PolicyError(
            f"is not UTF-8: byte 0x{content[error.start]:02x} at offset {error.start} (line {line})"
        ) from None


def _parse_toml(text: str) -> object:
    import tomllib

    try:
        return tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        raise PolicyError(f"is not TOML: {error}") from None


def _parse_json(text: str) -> object:
    import json

    try:
        return json.loads(text, object_pairs_hook=_without_repetition)
    except PolicyError:
        raise
    except (ValueError, RecursionError) as error:
        raise PolicyError(f"is not JSON: {error}") from None


def _without_repetition(pairs: list[tuple[str, object]]) -> dict[str, object]:
    """A JSON object in which no later key silently takes the place of an earlier one."""
    table: dict[str, object] = {}
    for name, value in pairs:
        if name in table:
            raise PolicyError(f"{name:.80}: is given twice")
        table[name] = value
    return table


def _from_tables(tables: object) -> tuple[SecurityPolicy, ResourceLimits]:
    if not isinstance(tables, dict):
        raise PolicyError(f"must hold the tables policy and limits, not a {type(tables).__name__}")
    for name, table in tables.items():
        _check_table(name, table)
    try:
        policy = SecurityPolicy.from_dict(tables.get("policy", {}))
    except PolicyError as error:
        raise PolicyError(f"policy.{error}") from None
    try:
        return policy, ResourceLimits.from_dict(tables.get("limits", {}))
    except LimitsError as error:
        raise LimitsError(f"limits.{error}") from None


def _check_table(name: str, table: object) -> None:
    if name not in ("policy", "limits"):
        known = dict.fromkeys(SecurityPolicy.fields(), "policy")
        known |= dict.fromkeys(ResourceLimits.fields(), "limits")
        hint = f"; it belongs into the table {known[name]}" if name in known else _meant(name, ["policy", "limits"])
        raise PolicyError(f"{name:.80}: a policy file has the tables policy and limits{hint}")
    if not isinstance(table, dict):
        raise PolicyError(f"{name}: must be a table, not a {type(table).__name__}")


def _toml(value: object) -> str:
    if isinstance(value, list):
        return "[" + ", ".join(map(_toml, value)) + "]"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{name} = {_toml(inner)}" for name, inner in value.items()) + "}"
    return _toml_text(value) if isinstance(value, str) else str(value).lower()


def _toml_text(text: str) -> str:
    """A basic string of TOML: that of JSON, but for the one control character that JSON leaves bare."""
    import json

    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


def _meant(name: str, known: list[str]) -> str:
    import difflib

    close = difflib.get_close_matches(name, known, n=1)
    return f"; did you mean {close[0]}?" if close else f"; there are {', '.join(known)}"


# --- Entries -----------------------------------------------------------------------------------------------------


def _texts(name: str, given: object) -> tuple[str, ...]:
    """The entries of a list as text; those of a set in order, so that equal policies are equal."""
    if isinstance(given, (str, bytes, os.PathLike)):
        raise PolicyError(f"{name}: must be a list; for a single entry write [{os.fspath(given)!r:.80}]")
    if isinstance(given, dict) or not isinstance(given, Iterable):
        raise PolicyError(f"{name}: must be a list of text, not a {type(given).__name__}")
    texts = tuple(_text(f"{name}[{index}]", entry) for index, entry in enumerate(given))
    return tuple(sorted(texts)) if isinstance(given, (set, frozenset)) else texts


def _text(place: str, entry: object) -> str:
    text = os.fspath(entry) if isinstance(entry, os.PathLike) else entry
    if not isinstance(text, str):
        raise PolicyError(f"{place}: must be text, not a {type(entry).__name__}")
    if not text or "\0" in text or _has_surrogate(text):
        raise PolicyError(f"{place}: {text!r:.80} is empty, or holds what a policy file cannot")
    return text


def _has_surrogate(text: str) -> bool:
    return not text.isascii() and any("\ud800" <= character <= "\udfff" for character in text)


def _check_path(place: str, entry: str) -> None:
    _source_and_target(place, entry)


def _source_and_target(place: str, entry: str) -> tuple[str, str]:
    """The two halves of a path entry, absolute and normal; the same twice if one is given."""
    source, colon, target = entry.rpartition(":/")
    if colon:
        target = "/" + target
    else:
        source = target = entry
    source, target = os.path.expanduser(source), os.path.expanduser(target)
    for path in (source, target):
        if not path.startswith("/") or ".." in path.split("/"):
            raise PolicyError(f"{place}: {entry!r}: a path must be absolute or begin with ~, and hold no '..'")
    target = os.path.normpath("/" + target.lstrip("/"))
    _refuse_owned(place, target)
    return os.path.normpath("/" + source.lstrip("/")), target


def _refuse_owned(place: str, target: str) -> None:
    for owned in _OWNED:
        if _within(target, owned):
            raise PolicyError(
                f"{place}: {target}: inside, {owned} is the engine's own; show it elsewhere, as {target}:/data"
            )
    if target in _HOLDING:
        raise PolicyError(f"{place}: {target} holds places that inside are the engine's own; name what is below it")


def _resolved(place: str, source: str) -> str:
    """The path that `source` leads to: a file or a directory that is there, and none that reaches beyond files."""
    try:
        path = os.path.realpath(source, strict=True)
        mode = os.stat(path).st_mode
    except OSError as error:
        raise PolicyError(f"{place}: {source} cannot be shown to the guest: {error.strerror}") from None
    if path == "/" or any(_within(path, beyond) for beyond in _HOST_ONLY):
        raise PolicyError(f"{place}: {source} leads to {path}, which gives the guest more than files")
    if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
        raise PolicyError(f"{place}: {source} is neither a file nor a directory")
    return path


def _within(path: str, directory: str) -> bool:
    return path == directory or path.startswith(directory + "/")


def _pattern_check(pattern: re.Pattern[str], wanted: str) -> Callable[[str, str], None]:
    def check(place: str, entry: str) -> None:
        if not pattern.fullmatch(entry):
            raise PolicyError(f"{place}: {entry!r:.80} must be {wanted}")

    return check


_ENTRY_CHECKS: Final[Mapping[str, Callable[[str, str], None]]] = {
    "readable": _check_path,
    "writable": _check_path,
    "environment": _pattern_check(_VARIABLE, "the name of a variable: letters, digits and _"),
    "packages": _pattern_check(_PACKAGE, "the name of a package, or '*' for all"),
    "forbidden_modules": _pattern_check(_DOTTED, "a dotted name, as 'os.path'"),
    "forbidden_calls": _pattern_check(_DOTTED, "a dotted name, as 'os.system'"),
}


# --- Words and presets -------------------------------------------------------------------------------------------


def _sentence(entries: tuple[str, ...], some: str, none: str) -> str:
    return some.format(", ".join(entries)) if entries else none


def _explained(host: Host) -> str:
    return f"{host} (also in a private network)" if host.private else str(host)


def _explain_secrets(held: tuple[Secret, ...], in_body: bool) -> str:
    placed = "; ".join(f"{secret.name} for {', '.join(secret.hosts)}" for secret in held)
    where = "the headers and bodies" if in_body else "the headers"
    return f"Has placeholders that become secrets in {where} of its requests: {placed}."


def _explain_packages(packages: tuple[str, ...], environment: str) -> str:
    source = f"of {environment}" if environment else "of the caller's environment"
    if "*" in packages:
        return f"May import every package {source}."
    allowed = f"May import besides the standard library{f', {source}' if environment else ''}: {{}}."
    return _sentence(packages, allowed, "May import the standard library only.")


def _directory(given: object) -> str:
    if not isinstance(given, (str, os.PathLike)) or isinstance(os.fspath(given), bytes):
        raise PolicyError(f"virtual_environment: must be a path, not a {type(given).__name__}")
    path = os.path.expanduser(os.fspath(given))
    if path and (not path.startswith("/") or "\0" in path):
        raise PolicyError(f"virtual_environment: {path!r}: a path must be absolute or begin with ~")
    return path


def _installed(module: str) -> bool:
    import importlib.util
    import sys

    return module in sys.modules or importlib.util.find_spec(module) is not None
