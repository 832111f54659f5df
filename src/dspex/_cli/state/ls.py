"""`dspex state ls`: the modules of a store, each with its newest version."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dspex._cli.state._output import (
    console,
    names_shown,
    print_json,
    shown,
    size_shown,
    table,
    time_shown,
    version_as_dict,
)

if TYPE_CHECKING:
    from dspex.versions import StateManager, Version


def ls(states: StateManager, pattern: str, *, as_json: bool) -> int:
    """Show the modules that match."""
    newest = {module_id: states.head(module_id) for module_id in states.modules(pattern)}
    if as_json:
        made = {module_id: version and version_as_dict(version) for module_id, version in newest.items()}
        print_json([{"module_id": module_id, "newest": version} for module_id, version in made.items()])
    elif newest:
        _show(newest)
    else:
        which = "" if pattern == "*" else f" that matches {shown(pattern)!r}"
        console().print(f"no module{which} in {states.store!r}", markup=False, soft_wrap=True)
    return 0


def _show(newest: dict[str, Version | None]) -> None:
    from rich.text import Text

    lines = table("module", "newest", "time", "size", "tags")
    for module_id, version in newest.items():
        name = Text(shown(module_id), "bold")
        if version is None:
            lines.add_row(name, Text("none on main", "dim"))
        else:
            cells = (shown(version.id), time_shown(version.time), size_shown(version.size))
            lines.add_row(name, *map(Text, cells), Text(names_shown(version)[1:-1].replace("tag: ", ""), "yellow"))
    console().print(lines)
