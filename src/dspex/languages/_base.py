"""The protocol that a language satisfies, and the plan that it makes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, Protocol, runtime_checkable

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from dspex._sandbox.limits import ResourceLimits
    from dspex._sandbox.policy import SecurityPolicy
    from dspex._sandbox.rootfs import Tree


class Runtime(NamedTuple):
    """What confinement grants the runtime of a language beside what every program is granted, and what its guests can do."""

    branches: bool = False  # its guests can be copied while they live
    files: bool = False  # its guests take large buffers as memory files
    announces: bool = False  # it takes time to start: its guests say READY, and a program's time counts from there
    executes: bool = False  # a guest becomes another program (execve) once it is confined
    # A guest becomes the program that the host hands it, the first of a request's buffers. Where that is empty it makes it
    # first, from the envelope alone, and the host keeps what it made before the variables are sent.
    programs: bool = False
    keeps: int = 0  # bytes of what a guest compiles that the host takes, to give it to guests to come
    narrows: bool = False  # a guest puts a second filter over the first, which can only refuse more
    children: bool = False  # the runtime starts processes of its own
    # Not 0: it reserves address space, so RLIMIT_DATA bounds it. Bytes of private memory that it may take for itself; of one that
    # announces itself the host sees what it took, and holds the program to `limits.memory` beyond that.
    data: int = 0
    threads: int = 0  # of its own, beside `limits.processes`
    open_files: int = 0  # of its own, beside `limits.open_files`
    interrupt: int = 2  # the signal that interrupts a program: SIGINT, where the runtime can hear it
    # What it writes to stderr when it dies of something that has a kind of error of its own, and which.
    last_words: tuple[tuple[str, str], ...] = ()


class Plan(NamedTuple):
    """What a zygote for this language needs: how to start it, what its guests see, what it preloads."""

    argv: tuple[str, ...]
    guest: str  # the module of the guest program
    tree: Tree  # the root file system of level `namespaces`
    readable: tuple[str, ...]  # paths inside that Landlock opens for reading and executing
    writable: tuple[str, ...]  # and for writing
    environment: dict[str, str]
    sys_path: tuple[str, ...]
    preload: tuple[str, ...]
    profile: dict[str, object]  # what the guest program itself is told
    runtime: Runtime


class Parameter(NamedTuple):
    """One parameter of a tool, as the program shall see it."""

    name: str
    kind: int  # as of `inspect.Parameter`
    annotation: str | None
    default: tuple[bool, object] | None  # (True, the value) where that is plain data, else (False, its repr)


class ToolSpec(NamedTuple):
    """What a program is told of a function of the host's that it may call."""

    name: str
    description: str | None
    parameters: tuple[Parameter, ...] | None  # None: nothing is known of them
    returns: str | None  # the annotation


class Request(NamedTuple):
    """A program and everything that goes with it, as the caller gave it."""

    code: Any  # a program, of the language's `sources`; or what the host itself asks for: ("dump", *names to leave out), ("load",)
    variables: Mapping[str, object]
    imports: Sequence[str]
    environment: Mapping[str, str]
    working_directory: str | None
    timeout: float
    tools: Sequence[ToolSpec] = ()
    session: bool = False  # names persist, and may be declared again


class Found(NamedTuple):
    """One runtime of a language, as `dspex languages` tells of it."""

    runtime: str  # "node"
    version: str  # empty where it is not installed
    path: str
    install: str  # the command that installs it


class Language(Protocol):
    """One language: plans its zygotes, encodes requests, decodes values.

    What makes it (a class, say) should have `runtimes() -> list[Found]` besides, for `dspex languages`.
    """

    name: str
    runtime: Runtime
    sources: ClassVar[tuple[type, ...]]  # what a program may be given as: str, and bytes for some

    def plan(self, policy: SecurityPolicy, limits: ResourceLimits, imports: tuple[str, ...], level: str) -> Plan:
        """How to start a zygote that has `imports` preloaded. Raises `PolicyError`."""
        ...

    def encode(self, request: Request) -> tuple[bytes, list[memoryview]]:
        """The body of an EXECUTE frame and its raw buffers. Raises `VariableError`."""
        ...

    def decode(self, text: bytes, buffers: bytes | memoryview, tagged: bool, limit: int) -> object:
        """The value in an ANSWER. Raises `MalformedValue` for anything that is not one."""
        ...

    def keep(self, token: str, data: bytes) -> None:
        """What a guest compiled, for guests to come; `token` is what this language told it. Raises `ValueError`."""
        ...

    def made(self, request: bytes, program: bytes, *, shared: bool) -> None:
        """The program that a guest made of a request (its body, as this language encoded it), for guests to come: of any
        policy if `shared`, else of this language object's alone.
        """
        ...

    def encode_return(self, number: int, failed: bool, content: object) -> tuple[bytes, list[memoryview]]:
        """The body of a RETURN frame and its raw buffers.

        `content` is the result of the call with this number; if it `failed`, (class, message, arguments or None) of its
        exception. Raises `VariableError`.
        """
        ...


class Build(NamedTuple):
    """A program that makes what a language's guests shall have: run to its end before the first of them is started."""

    language: Any  # of the program: a `Language`
    program: str
    variables: Mapping[str, object]
    readable: tuple[str, ...]  # what of the host it may read; it may start programs, and has no network
    patience: float  # seconds


@runtime_checkable
class Builds(Protocol):
    """What a language has besides, when something must be made in a sandbox before its first guest."""

    def build(self, run: Callable[[Build], object], walls: str) -> None:
        """Make it; `run` gives the value of such a program. What is kept is for guests behind the same `walls`, whatever they are.

        Raises `UsageError`, `ProgramError`.
        """
        ...
