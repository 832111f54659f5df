"""`dspex state snapshot create|ls|restore|rm`: versions of many modules under one name."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from dspex._cli.state._output import console, counted, print_json, say, shown, table, time_shown
from dspex._cli.state.restore import show
from dspex.errors import NotFoundError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from dspex.versions import Snapshot, StateManager


def create(states: StateManager, name: str, patterns: Sequence[str], *, as_json: bool) -> int:
    """Name the newest versions of the modules that match."""
    found = {pattern: states.modules(pattern) for pattern in patterns}
    for pattern, module_ids in found.items():
        if not module_ids:
            raise NotFoundError(f"no module in {states.store!r} matches {pattern!r}")
    snapshot = states.create_snapshot(name, sorted({module_id for ids in found.values() for module_id in ids}))
    if as_json:
        print_json(_plain(snapshot))
    else:
        say(f"the snapshot {name} holds {counted(len(snapshot.members), 'module')}")
    return 0


def ls(states: StateManager, *, as_json: bool) -> int:
    """Show all snapshots."""
    snapshots = states.snapshots()
    if as_json:
        print_json([_plain(snapshot) for snapshot in snapshots])
        return 0
    from rich.text import Text

    lines = table("snapshot", "time", "versions")
    for snapshot in snapshots:
        members = ", ".join(f"{module_id}@{id}" for module_id, id in sorted(snapshot.members.items()))
        lines.add_row(Text(shown(snapshot.name), "bold"), Text(time_shown(snapshot.time)), Text(shown(members)))
    console().print(lines if snapshots else f"no snapshot in {states.store!r}", markup=False, soft_wrap=not snapshots)
    return 0


def restore(states: StateManager, name: str, *, as_json: bool) -> int:
    """Make the versions of a snapshot the newest again."""
    return show(states.restore_snapshot(name), as_json=as_json)


def rm(states: StateManager, name: str, *, as_json: bool) -> int:
    """Forget a snapshot; the versions stay."""
    states.delete_snapshot(name)
    if as_json:
        print_json({"removed": name})
    else:
        say(f"the snapshot {name} is forgotten; its versions stay")
    return 0


def _plain(snapshot: Snapshot) -> dict[str, Any]:
    return {"name": snapshot.name, "time": snapshot.time, "members": dict(sorted(snapshot.members.items()))}
