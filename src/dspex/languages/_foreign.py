"""`Foreign`: what all languages other than Python have in common, from the shape of a request to the tree that guests see.

Theory of operation. A guest in another language is either a runtime of its own (node, the BEAM), which a confined process
becomes by execve (`guests/runtime.py`), or a Python guest that holds an engine for the language (on `guests/speech.py`).
Both hear JSON: an EXECUTE or RETURN frame has a body of

    u32 length of the envelope, the envelope (a JSON object), the values (JSON with the tags of `python_values`)

and behind it the raw bytes that the values name by `{"~bytes": [offset, length]}`, always in the frame itself. Their answers,
calls and displays are those of every guest. docs/languages.md has the whole protocol, for whoever adds a language.
"""

from __future__ import annotations

import json
import os
import re
import struct
from contextlib import nullcontext
from typing import TYPE_CHECKING, ClassVar, Final

import msgspec

from dspex._collection import no_collection
from dspex._sandbox import ahead
from dspex._sandbox.rootfs import DEVICES, Mount, Tree
from dspex.errors import IsolationError, PolicyError, UsageError, VariableError
from dspex.languages import _values
from dspex.languages._base import Plan, Runtime
from dspex.languages._python import interpreter_mounts, mounts_of
from dspex.languages.guests import python_values

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from dspex._sandbox.limits import ResourceLimits
    from dspex._sandbox.policy import SecurityPolicy
    from dspex.languages._base import Request, ToolSpec

_LENGTH: Final = struct.Struct("<I")
_TAGS: Final = re.compile(
    r'\{"~([a-z]+)":'
)  # in JSON nothing else reads so: a quote within a text has a backslash before it
_LARGE: Final = 1 << 18  # bytes of text that make so many objects that the collector is better off meanwhile
_MOST: Final = 1 << 40  # bytes; what may cross is bounded by memory alone
_ENVIRONMENT: Final = {
    "HOME": "/run/sandbox/work",
    "TMPDIR": "/run/sandbox/tmp",
    "PATH": "/usr/bin:/bin",
    "LANG": "C.UTF-8",
    "USER": "guest",
}


class Start:
    """How guests of a language come to life, for `Foreign.plan`; `mounts` are of the host, paths at the same place inside."""

    def __init__(
        self,
        *,
        guest: str = "dspex.languages.guests.runtime",
        mounts: Sequence[str | Mount] = (),
        environment: Mapping[str, str] | None = None,
        sys_path: Sequence[str] = (),
        preload: Sequence[str] = (),
        profile: Mapping[str, object] | None = None,
    ) -> None:
        self.guest, self.mounts, self.environment = guest, tuple(map(_mount, mounts)), dict(environment or {})
        self.sys_path, self.preload, self.profile = tuple(sys_path), tuple(preload), dict(profile or {})

    @classmethod
    def of_program(cls, argv: Sequence[str], mounts: Sequence[str], environment: Mapping[str, str]) -> Start:
        """A runtime of its own: `argv` is what a confined process becomes, its channel being descriptor 3."""
        return cls(mounts=mounts, environment=environment, profile={"argv": list(argv)})


def _mount(given: str | Mount) -> Mount:
    return Mount(given, given) if isinstance(given, str) else given


class Foreign:
    """Base of the other languages: derive, give `name`, `runtime`, `keywords` and `carried`, and write `start`."""

    name: str
    runtime: Runtime
    sources: ClassVar[tuple[type, ...]] = (str,)  # what a program may be given as
    largest: int = (1 << 53) - 1  # integers beyond it, either way, cross as `~int`
    carried: ClassVar[frozenset[str]] = frozenset(("bytes", "dict", "float", "frozenset", "int", "set", "str", "tuple"))
    keywords: ClassVar[frozenset[str]] = frozenset()  # words that are no names of variables
    checks: ClassVar[bool] = False  # its guests look for what a policy forbids by name

    def start(self, policy: SecurityPolicy, limits: ResourceLimits, level: str) -> Start:
        """How guests come to life here. Raises `UnknownLanguageError` where the runtime is not installed."""
        raise NotImplementedError

    def plan(self, policy: SecurityPolicy, limits: ResourceLimits, imports: tuple[str, ...], level: str) -> Plan:
        """See `Language.plan`."""
        self._check(policy, imports, level)
        start = self.start(policy, limits, level)
        stdlib, binds = interpreter_mounts(policy.subprocesses)
        binds += [mount for mount in start.mounts if not _within(mount.target, [m.target for m in binds])]
        binds += mounts_of(policy, level)
        tree = Tree(tuple(binds), _links(policy.subprocesses))
        readable = [mount.source if level != "namespaces" else mount.target for mount in binds]
        readable += ["/etc", "/dev"] if level == "namespaces" else [f"/dev/{name}" for name in DEVICES]
        return Plan(
            argv=ahead.command(start.guest),
            guest=start.guest,
            tree=tree,
            readable=tuple(readable),
            writable=("/dev/null", "/dev/zero", "/dev/full", *(mount.target for mount in binds if mount.writable)),
            environment=_ENVIRONMENT | start.environment | policy.handed_environment(),
            sys_path=(stdlib, os.path.join(stdlib, "lib-dynload"), *start.sys_path),
            preload=start.preload,
            profile={
                "value": limits.value,
                "memory": limits.memory,
                "forbidden_modules": list(policy.forbidden_modules),
                "forbidden_calls": list(policy.forbidden_calls),
                **start.profile,
            },
            runtime=self.runtime,
        )

    def _check(self, policy: SecurityPolicy, imports: tuple[str, ...], level: str) -> None:
        if self.runtime.children and level != "namespaces":
            raise IsolationError(
                f"{self.name} takes isolation level 'namespaces': its runtime starts processes, which level {level!r} "
                "cannot end (`dspex doctor` shows what this host offers)"
            )
        if not self.checks and (policy.forbidden_modules or policy.forbidden_calls):
            raise PolicyError(
                f"forbidden_modules, forbidden_calls: nothing looks for them in {self.name} here; the sandbox stands without"
            )
        if imports:
            raise PolicyError(f"imports names {imports[0]!r}; in {self.name} write the import in the program")
        if policy.network:
            raise PolicyError(f"network: programs in {self.name} have none yet; give them a tool that asks for them")
        if policy.packages:
            raise PolicyError(f"packages names Python's; for {self.name} name their directory in readable=")

    def name_fault(self, name: object) -> str:
        """Why a program could not use this name; empty when it may."""
        if not isinstance(name, str):
            return f"has a name of type {python_values.type_name(name)}: names are str"
        if not re.fullmatch(r"[^\W\d]\w*", name):
            return f"is not a name in {self.name}: use letters, digits and _, with no digit first"
        return f"is a keyword of {self.name}: call it {name + '_'!r}" if name in self.keywords else ""

    def encode(self, request: Request) -> tuple[bytes, list[memoryview]]:
        """See `Language.encode`."""
        if isinstance(request.code, tuple):
            raise UsageError(f"a session in {self.name} cannot be dumped or restored; only one in Python can")
        self.check_names(request)
        return self.framed({**self.envelope(request), "code": _sayable(request.code)}, dict(request.variables))

    def check_names(self, request: Request) -> None:
        """Raise `VariableError` for a name that the program could not use."""
        for name in request.variables:
            if fault := self.name_fault(name):
                raise VariableError(f"variable {name!r} {fault}", path=str(name))

    def envelope(self, request: Request) -> dict[str, object]:
        """What guests are told of a request beside its code and variables."""
        return {
            "environment": dict(request.environment),
            "directory": request.working_directory,
            "timeout": request.timeout,
            "tools": [_told(tool) for tool in request.tools],
            **self.extras(request),
        }

    def extras(self, request: Request) -> dict[str, object]:
        """What else this language's guests are told of a request."""
        return {}

    def keep(self, token: str, data: bytes) -> None:
        """See `Language.keep`: nothing is compiled for others."""
        raise ValueError("a guest sent what nobody keeps")

    def made(self, request: bytes, program: bytes, *, shared: bool) -> None:
        """See `Language.made`: no guest here makes programs."""
        raise ValueError("a guest sent what nobody keeps")

    def encode_return(self, number: int, failed: bool, content: object) -> tuple[bytes, list[memoryview]]:
        """See `Language.encode_return`."""
        envelope: dict[str, object] = {"number": number, "failed": failed}
        if failed and isinstance(content, tuple):
            envelope |= {"type": _sayable(content[0]), "message": _sayable(content[1])}
            content = None
        return self.framed(envelope, {"result": content})

    def framed(self, envelope: Mapping[str, object], values: dict[str, object]) -> tuple[bytes, list[memoryview]]:
        """A body, and the buffers behind it. Raises `VariableError` for what this language has nothing for."""
        text, buffers = b"", list[memoryview]()
        if values:
            envelope = {**envelope, "tagged": False}
            text = self._plain(values)
            if not text:
                encoded = self._encoded(values)
                text, buffers = encoded.text.encode(), [memoryview(buffer).cast("B") for buffer in encoded.buffers]
                envelope["tagged"] = encoded.tagged
        head = _said(envelope)
        return b"".join((_LENGTH.pack(len(head)), head, text)), buffers

    def framed_with(
        self, envelope: Mapping[str, object], values: dict[str, object], name: str, data: bytes
    ) -> tuple[bytes, list[memoryview]]:
        """As `framed`, with one more value, `data` by this name. Where the others are plain nothing is walked and tagged."""
        text = self._plain(values)
        if not text or not values:
            return self.framed(envelope, {**values, name: data})
        head = _said({**envelope, "tagged": True})
        body = b'%s,"%s":{"~bytes":[0,%d]}}' % (text[:-1], name.encode(), len(data))
        return b"".join((_LENGTH.pack(len(head)), head, body)), [memoryview(data)]

    def _plain(self, values: dict[str, object]) -> bytes:
        """The values where JSON says them exactly, by the fastest encoder there is; else nothing."""
        if not python_values.is_plain(values, _MOST, -self.largest, self.largest, finite=True):
            return b""
        try:
            return msgspec.json.encode(values)
        except (UnicodeEncodeError, RecursionError):  # half a surrogate pair
            return b""

    def _encoded(self, values: dict[str, object]) -> python_values.Encoded:
        try:
            encoded = python_values.encode(values, _MOST, self.largest)
        except python_values.NotCarried as reason:
            raise _values.first_fault(values) or VariableError(f"the variables cannot cross: {reason}") from None
        if encoded.tagged and (strange := {*_TAGS.findall(encoded.text)} - self.carried):
            path = next((name for name, value in values.items() if self._holds(value, strange)), "")
            kinds = ", ".join(sorted(strange))
            raise VariableError(f"{path} holds what {self.name} has nothing for ({kinds}); convert it first", path=path)
        return encoded

    def _holds(self, value: object, kinds: set[str]) -> bool:
        return not kinds.isdisjoint(_TAGS.findall(python_values.encode(value, _MOST, self.largest).text))

    def decode(self, text: bytes, buffers: bytes | memoryview, tagged: bool, limit: int) -> object:
        """See `Language.decode`."""
        if not tagged and not buffers:
            try:
                with no_collection() if len(text) > _LARGE else nullcontext():
                    return msgspec.json.decode(text)
            except msgspec.DecodeError as error:
                raise _values.MalformedValue(f"the value is no JSON: {error}") from None
        return _values.decode(text, buffers, tagged=tagged, limit=limit)


def _said(envelope: Mapping[str, object]) -> bytes:
    try:
        return msgspec.json.encode(envelope)
    except UnicodeEncodeError:  # half a surrogate pair, in the environment say
        return json.dumps(envelope).encode()


def _sayable(text: str) -> str:
    """The text; half a surrogate pair, which no other language has, as a question mark."""
    return text.encode("utf-8", "replace").decode()


def _told(tool: ToolSpec) -> dict[str, object]:
    names = None if tool.parameters is None else [parameter.name for parameter in tool.parameters]
    return {"name": tool.name, "description": tool.description, "parameters": names}


def _within(path: str, parents: list[str]) -> bool:
    return any(path == parent or path.startswith(parent.rstrip("/") + "/") for parent in parents)


def _links(subprocesses: bool) -> tuple[tuple[str, str], ...]:
    names = ("/lib", "/lib64", *(("/bin",) if subprocesses else ()))
    return tuple((name, os.readlink(name)) for name in names if os.path.islink(name))
