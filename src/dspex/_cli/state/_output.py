"""What commands print: JSON, tables, and texts of other people made harmless."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import msgspec

if TYPE_CHECKING:
    from datetime import datetime

    from rich.console import Console
    from rich.table import Table

    from dspex.versions import Version


def print_json(value: Any) -> None:
    """One value as indented JSON."""
    _write(msgspec.json.format(msgspec.json.encode(value), indent=2) + b"\n")


def print_json_line(value: Any) -> None:
    """One value as one line of JSON, at once."""
    _write(msgspec.json.encode(value) + b"\n")


def _write(data: bytes) -> None:
    sys.stdout.flush()
    sys.stdout.buffer.write(data)
    sys.stdout.buffer.flush()


def version_as_dict(version: Version) -> dict[str, Any]:
    """A version as JSON has it."""
    made: dict[str, Any] = msgspec.to_builtins(version)
    return made


def shown(text: str) -> str:
    """A text without what a terminal would obey: control characters are written as escapes."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape", "surrogatepass").decode() for c in text)


def time_shown(time: datetime) -> str:
    """A moment in local time, to the second."""
    return time.astimezone().strftime("%Y-%m-%d %H:%M:%S")


def size_shown(size: int) -> str:
    """A number of bytes in the unit that suits it."""
    amount = float(size)
    for unit in ("B", "kB", "MB", "GB"):
        if amount < 1000 or unit == "GB":
            break
        amount /= 1000
    return f"{size} B" if unit == "B" else f"{amount:.1f} {unit}"


def counted(count: int, noun: str) -> str:
    """A number of things, as `1 version`, `2 versions`."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def names_shown(version: Version, heads: tuple[str, ...] = ()) -> str:
    """The branches whose head a version is, and its tags."""
    names = [*heads, *(f"tag: {tag}" for tag in version.tags)]
    return f"({', '.join(map(shown, names))})" if names else ""


def console() -> Console:
    """A console for what is shown to people; what the encoding cannot hold is escaped."""
    from rich.console import Console

    sys.stdout.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    return Console(highlight=False)


def say(text: str, style: str = "") -> None:
    """One line for people, at once."""
    from rich.text import Text

    console().print(Text(shown(text), style), soft_wrap=True)
    sys.stdout.flush()


def table(*columns: str) -> Table:
    """A table without a frame; long texts are folded, never cut."""
    from rich.table import Table

    made = Table(box=None, pad_edge=False, header_style="bold")
    for name in columns:
        made.add_column(name, overflow="fold")
    return made
