"""What a run comes back with: `ExecutionResult` and its parts, all read-only."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar, final

from dspex.errors import ProgramError
from dspex.execution import _files

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Literal

    from dspex._network._log import Attempt
    from dspex.execution._displays import Display
    from dspex.execution._files import ResultFile
    from dspex.execution._tools import ToolReturn

    Kind = Literal[
        "syntax",
        "runtime",
        "timeout",
        "cpu_limit",
        "memory_limit",
        "process_limit",
        "disk_limit",
        "output_limit",
        "value_limit",
        "policy",
        "killed",
    ]

T = TypeVar("T")

KINDS = frozenset(
    (
        *("syntax", "runtime", "timeout", "policy", "killed"),
        *("cpu_limit", "memory_limit", "process_limit", "disk_limit", "output_limit", "value_limit"),
    )
)


class Failure(NamedTuple):
    """Why a program failed, in its own author's terms."""

    kind: Kind
    type: str  # the exception's class, as `ValueError`
    message: str
    line: int | None = None  # in the user's code, counted from 1
    traceback: str = ""  # the user's own frames only
    column: int | None = None  # on that line, counted from 1, where the language tells


class Usage(NamedTuple):
    """What one run used. The kernel's own figures, not the guest's."""

    wall: float = 0.0  # seconds from the request to the answer
    cpu: float = 0.0  # seconds of CPU, all threads
    peak_memory: int = 0  # bytes resident at the highest, the preloaded interpreter's shared pages included
    processes: int = 1
    waited: float = 0.0  # seconds in the queue before the run began; not part of `wall`


class IsolationReport(NamedTuple):
    """The walls that stood during a run."""

    level: str  # "namespaces", "landlock" or "wasm"
    layers: tuple[str, ...]


@final
class ExecutionResult:
    """The outcome of one run. A failed program is a value here, never an exception."""

    __slots__ = (
        "displays",
        "error",
        "files",
        "isolation",
        "network",
        "network_count",
        "stderr",
        "stdout",
        "tool_call_count",
        "tool_calls",
        "usage",
        "value",
        "value_repr",
        "value_type",
    )

    value: Any
    value_repr: str | None
    value_type: (
        str | None
    )  # the value's class; beside no value `SystemExit`, when the program left early, without a failure
    stdout: str
    stderr: str
    error: Failure | None
    usage: Usage
    isolation: IsolationReport
    files: Mapping[str, ResultFile]  # what is new or changed in the working directory, by name
    displays: tuple[Display, ...]  # what was shown, in order
    tool_calls: tuple[ToolReturn, ...]  # as they ended, the first thousand; arguments up to a megabyte
    tool_call_count: int  # all of them
    network: tuple[
        Attempt, ...
    ]  # what was tried on the network since the last result, the latest thousand (docs/network.md)
    network_count: int  # all of them

    def __init__(
        self,
        *,
        usage: Usage,
        isolation: IsolationReport,
        value: Any = None,
        value_repr: str | None = None,
        value_type: str | None = None,
        stdout: str = "",
        stderr: str = "",
        error: Failure | None = None,
        files: Mapping[str, ResultFile] = _files.NONE,
        displays: tuple[Display, ...] = (),
        tool_calls: tuple[ToolReturn, ...] = (),
        tool_call_count: int = 0,
        network: tuple[Attempt, ...] = (),
        network_count: int = 0,
    ) -> None:
        self.value = value
        self.value_repr = value_repr
        self.value_type = value_type
        self.stdout = stdout
        self.stderr = stderr
        self.error = error
        self.usage = usage
        self.isolation = isolation
        self.files = files
        self.displays = displays
        self.tool_calls = tool_calls
        self.tool_call_count = tool_call_count
        self.network = network
        self.network_count = network_count

    @property
    def ok(self) -> bool:
        """True when the program ran to its end."""
        return self.error is None

    def unwrap(self) -> Any:
        """The value. Raises `ProgramError`, with the failure's fields, when the program failed."""
        if self.error is None:
            return self.value
        failure = self.error
        raise ProgramError(
            f"{failure.kind}: {failure.type}: {failure.message}",
            kind=failure.kind,
            type=failure.type,
            line=failure.line,
            traceback=failure.traceback,
        )

    def value_as(self, type: type[T]) -> T:
        """The value validated and converted into `type` (a dataclass, an enum, `list[int]`, ...).

        Raises `ProgramError` when the program failed, `UsageError` naming the place when the value does not fit, or
        when `type` is nothing that values can be validated into.
        """
        import msgspec

        from dspex.errors import UsageError

        try:
            return msgspec.convert(self.unwrap(), type)
        except msgspec.ValidationError as error:
            raise UsageError(f"the value is no {getattr(type, '__name__', type)}: {error}") from None
        except TypeError as error:
            raise UsageError(f"values cannot be validated into {type!r}: {error}") from None

    def to_dict(self) -> dict[str, Any]:
        """Everything as plain data; the value as it is."""
        return {
            "ok": self.ok,
            "value": self.value,
            "value_repr": self.value_repr,
            "value_type": self.value_type,
            "stdout": self.stdout,
            "stderr": self.stderr,
            "error": self.error._asdict() if self.error else None,
            "usage": self.usage._asdict(),
            "isolation": {"level": self.isolation.level, "layers": list(self.isolation.layers)},
            "files": {name: file.size for name, file in self.files.items()},
            "displays": [sorted(shown.data) for shown in self.displays],
            "tool_calls": [{**call._asdict(), "ok": call.ok} for call in self.tool_calls],
            "network": [attempt.to_dict() for attempt in self.network],
        }

    def __repr__(self) -> str:
        if self.error is not None:
            return f"ExecutionResult(error={self.error.kind}: {self.error.type}: {self.error.message!r})"
        shown = self.value_repr if self.value_repr is not None else repr(self.value)
        return f"ExecutionResult(value={shown[:200]})"
