"""`dspex state branch` and `merge`: lines of versions beside main."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dspex._cli.state._moments import version_at
from dspex._cli.state._output import console, print_json, say, shown, table, version_as_dict
from dspex.errors import ConflictError

if TYPE_CHECKING:
    from dspex.versions import StateManager


def branch(states: StateManager, module_id: str, name: str, at: str, *, as_json: bool) -> int:
    """Begin a branch at a version."""
    version = states.branch(module_id, name, version_at(states, module_id, at))
    if as_json:
        print_json({"branch": name, "version": version_as_dict(version)})
    else:
        say(f"the branch {name} begins at {version}")
    return 0


def branches(states: StateManager, module_id: str, *, as_json: bool) -> int:
    """Show the branches of a module, each with its head."""
    heads = dict(sorted(states.history(module_id).heads.items()))
    if as_json:
        print_json({"module_id": module_id, "heads": heads})
        return 0
    from rich.text import Text

    lines = table("branch", "head")
    for name, id in heads.items():
        lines.add_row(Text(shown(name), "bold"), Text(shown(id)))
    console().print(lines)
    return 0


def merge(states: StateManager, module_id: str, name: str, into: str, *, as_json: bool) -> int:
    """Merge a branch into another; 1 when both changed the same paths, which are named: nothing is saved then."""
    try:
        version = states.merge(module_id, name, into=into)
    except ConflictError as error:
        if not error.paths:
            raise
        return conflict(error, as_json=as_json)
    if as_json:
        print_json({"merged": True, "version": version_as_dict(version)})
    else:
        say(f"{name} is merged into {into}: {version}")
    return 0


def conflict(error: ConflictError, *, as_json: bool) -> int:
    """Show what could not be merged, as the answer that it is; 1."""
    if as_json:
        print_json({"merged": False, "conflict": str(error), "paths": error.paths})
    else:
        say(f"not merged: {error}")
    return 1
