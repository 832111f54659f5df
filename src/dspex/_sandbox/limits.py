"""How much a guest may use: `ResourceLimits`, frozen data, checked and normalised when it is made.

On the path of `dspex run`: this file imports no more than it must.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final, NamedTuple, cast

from dspex._sandbox.frozen import Frozen
from dspex.errors import LimitsError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

KIB: Final = 1 << 10
MIB: Final = 1 << 20
GIB: Final = 1 << 30
TIB: Final = 1 << 40
_DISK: Final = 64 * MIB
_SIZE_UNITS: Final = (
    {"": 1, "b": 1}
    | {"k": KIB, "m": MIB, "g": GIB, "t": TIB}
    | {"kib": KIB, "mib": MIB, "gib": GIB, "tib": TIB}
    | {"kb": 10**3, "mb": 10**6, "gb": 10**9, "tb": 10**12}
)
# In milliseconds, so that all of them are whole.
_TIME_UNITS: Final = {"": 1000, "ms": 1, "s": 1000, "m": 60_000, "min": 60_000, "h": 3_600_000, "d": 86_400_000}
_QUANTITY: Final = re.compile(r"\s*([0-9]{1,18})(?:\.([0-9]{1,9}))?\s*([A-Za-z]{0,3})\s*")


class ResourceLimits(Frozen):
    """How much one guest may use.

    Sizes are bytes, given as int or as text: `"512MB"` (decimal), `"64 MiB"`, `"10k"` (a lone letter is binary). Times
    are seconds, given as numbers or as text: `"250ms"`, `"2s"`, `"1m"`. `wall` and `cpu` count for each `execute`,
    all others for the guest. Raises `LimitsError`, which names the field, the value and the allowed range.
    """

    wall: float = 30.0
    """Seconds by the clock, for each `execute`."""
    cpu: float = 30.0
    """Seconds of processor time, for each `execute`."""
    memory: int = 512 * MIB
    """Bytes of everything the guest holds: heap, tmpfs, kernel buffers."""
    processes: int = 64
    """Processes and threads together."""
    open_files: int = 256
    """Open descriptors of one process."""
    disk: int = cast(int, None)
    """Bytes of the working directory's tmpfs; they count into `memory`. 64 MiB, or half of a smaller memory."""
    output: int = MIB
    """Bytes of stdout, and as many of stderr."""
    value: int = 64 * MIB
    """Bytes of the value that crosses back, its buffers included."""
    branches: int = 1024
    """Living processes of one session: the session itself, its forks and its checkpoints."""

    if TYPE_CHECKING:  # what may be given is wider than what is held

        def __init__(
            self,
            *,
            wall: float | str = ...,
            cpu: float | str = ...,
            memory: int | str = ...,
            processes: int = ...,
            open_files: int = ...,
            disk: int | str | None = ...,
            output: int | str = ...,
            value: int | str = ...,
            branches: int = ...,
        ) -> None: ...

    def __post_init__(self) -> None:
        for name, allowed in _ALLOWED.items():
            if name != "disk":
                object.__setattr__(self, name, allowed.checked(name, getattr(self, name)))
        object.__setattr__(self, "disk", self._checked_disk())

    def _checked_disk(self) -> int:
        if cast(object, self.disk) is None:
            return _default_disk(self.memory)
        disk = _DISK_ALLOWED.checked("disk", self.disk)
        if disk > self.memory // 2:
            raise LimitsError(
                f"disk: {format_size(disk)} is more than half of memory ({format_size(self.memory)}), into which it "
                f"counts; allowed is {format_size(_DISK_ALLOWED.lowest)} to {format_size(self.memory // 2)}"
            )
        return int(disk)

    def replace(self, **changes: object) -> ResourceLimits:
        """A copy with some fields changed. A `disk` that was left at its default follows a new `memory`."""
        kept = self.to_dict()
        if self.disk == _default_disk(self.memory):
            del kept["disk"]
        return ResourceLimits.from_dict({**kept, **changes})

    def to_dict(self) -> dict[str, int | float]:
        """The fields by name, as plain numbers: seconds and bytes."""
        return self.to_fields()

    @classmethod
    def from_dict(cls, fields: Mapping[str, object]) -> ResourceLimits:
        """Limits from fields by name; a missing one has its default. Raises `LimitsError`, also for an unknown one."""
        for name in map(str, fields):
            if name not in _ALLOWED:
                raise LimitsError(f"{name:.80}: there is no such limit; there are {', '.join(_ALLOWED)}")
        return cls(**fields)  # type: ignore[arg-type]  # checked in __post_init__

    def explain(self) -> str:
        """The limits in words, one line for each."""
        return "\n".join(
            (
                f"Runs for at most {format_seconds(self.wall)} by the clock, each time.",
                f"Uses at most {format_seconds(self.cpu)} of processor time, each time.",
                f"Holds at most {format_size(self.memory)} of memory, files and kernel buffers included.",
                f"Has at most {self.processes} processes and threads at once.",
                f"Has at most {self.open_files} descriptors open at once in one process.",
                f"Keeps at most {format_size(self.disk)} of files of its own.",
                f"Prints at most {format_size(self.output)} to stdout and as much to stderr.",
                f"Answers with a value of at most {format_size(self.value)}.",
                f"Has at most {self.branches:,} branches and checkpoints as a session, each with limits of its own.",
            )
        )


def _parse_size(name: str, value: object) -> int:
    """Bytes from an int or text such as "64 MiB"; `name` is for the message. Raises `LimitsError`."""
    if isinstance(value, str):
        digits, scale = _scaled(name, value, _SIZE_UNITS, "'512MB', '64 MiB' or '10k'")
        return digits // scale
    return _whole(name, value, "bytes as an integer, or text such as '512MB', '64 MiB' or '10k'")


def _parse_seconds(name: str, value: object) -> float:
    """Seconds from a number or text such as "250ms"; `name` is for the message. Raises `LimitsError`."""
    if isinstance(value, str):
        digits, scale = _scaled(name, value, _TIME_UNITS, "'250ms', '2s' or '1m'")
        return digits / (scale * 1000)
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return value  # not yet a float: a giant integer must meet its range first
    raise _wrong_type(name, value, "seconds as a number, or text such as '250ms', '2s' or '1m'")


def checked_seconds(name: str, value: object) -> float:
    """Seconds as `wall` allows them, for a deadline given elsewhere. Raises `LimitsError`."""
    return _TIME_ALLOWED.checked(name, value)


def format_size(size: float) -> str:
    """A number of bytes as people read it: exact where a unit divides it, else to one decimal."""
    for unit, name in ((TIB, "TiB"), (GIB, "GiB"), (MIB, "MiB"), (KIB, "KiB")):
        if size >= unit:
            return f"{size // unit:.0f} {name}" if size % unit == 0 else f"{size / unit:.1f} {name}"
    return f"{size:.0f} bytes"


def format_seconds(seconds: float) -> str:
    """A duration as people read it."""
    if seconds < 1:
        return f"{seconds * 1000:g} ms"
    if seconds >= 86_400 and seconds % 86_400 == 0:
        return f"{seconds / 86_400:g} days"
    return f"{seconds:g} s"


def _parse_count(name: str, value: object) -> int:
    """A count from an int. Raises `LimitsError`."""
    return _whole(name, value, "an integer")


class _Allowed(NamedTuple):
    """What a limit may be."""

    lowest: float
    highest: float
    parse: Callable[[str, object], float]
    show: Callable[[float], str]

    def checked(self, name: str, value: object) -> float:
        """The value in its plain unit. Raises `LimitsError` outside of the range, for nan too."""
        number = self.parse(name, value)
        if not self.lowest <= number <= self.highest:
            raise LimitsError(
                f"{name}: {_shown(value)} is out of range; "
                f"allowed is {self.show(self.lowest)} to {self.show(self.highest)}"
            )
        return float(number) if self.parse is _parse_seconds else int(number)


_TIME_ALLOWED: Final = _Allowed(0.001, 7 * 86_400.0, _parse_seconds, format_seconds)
_DISK_ALLOWED: Final = _Allowed(4 * KIB, 8 * TIB, _parse_size, format_size)
_ALLOWED: Final = {
    "wall": _TIME_ALLOWED,
    "cpu": _TIME_ALLOWED,
    "memory": _Allowed(16 * MIB, 16 * TIB, _parse_size, format_size),  # below it no interpreter starts
    "processes": _Allowed(1, 32_768, _parse_count, "{:,.0f}".format),
    "open_files": _Allowed(16, 1 << 20, _parse_count, "{:,.0f}".format),
    "disk": _DISK_ALLOWED,
    "output": _Allowed(1, GIB, _parse_size, format_size),
    "value": _Allowed(1, 64 * GIB, _parse_size, format_size),
    "branches": _Allowed(1, 30_000, _parse_count, "{:,.0f}".format),
}


def _default_disk(memory: int) -> int:
    return min(_DISK, memory // 2)


def _scaled(name: str, text: str, units: Mapping[str, int], examples: str) -> tuple[int, int]:
    """The number in `text` times its unit, as an exact fraction."""
    match = _QUANTITY.fullmatch(text)
    unit = units.get(match[3].lower()) if match else None
    if match is None or unit is None:
        raise LimitsError(f"{name}: {_shown(text)} is not understood; write it as {examples}")
    decimals = match[2] or ""
    return int(match[1] + decimals) * unit, 10 ** len(decimals)


def _whole(name: str, value: object, wanted: str) -> int:
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    raise _wrong_type(name, value, wanted)


def _wrong_type(name: str, value: object, wanted: str) -> LimitsError:
    return LimitsError(f"{name}: {_shown(value)} is a {type(value).__name__}; allowed is {wanted}")


def _shown(value: object) -> str:
    """The value for a message, of bounded length; Python refuses to print a giant integer."""
    if isinstance(value, int) and value.bit_length() > 128:
        return f"an integer of {value.bit_length()} bits"
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."
