"""`dspex languages`: what programs can be written in here, and the command that installs what is missing."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dspex.languages import survey

if TYPE_CHECKING:
    from dspex.languages._base import Found


def languages(*, as_json: bool = False) -> int:
    """Show them; always 0."""
    found = survey()
    if as_json:
        import json

        print(json.dumps([{"language": name, **runtime._asdict()} for name, runtime in found], indent=2))
    else:
        _show(found)
    return 0


def _show(found: list[tuple[str, Found]]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table()
    for heading in ("language", "runtime", "version", "path, or how to install it"):
        table.add_column(heading, overflow="fold")
    for name, runtime in found:
        version = Text(runtime.version) if runtime.version else Text("missing", "bold red")
        table.add_row(
            Text(name), Text(runtime.runtime), version, Text(runtime.path if runtime.version else runtime.install)
        )
    Console().print(table)
