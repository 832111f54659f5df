"""`dspex state sync`, `export` and `import`: versions brought from one store to another, or by a file."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from dspex._cli.state._opening import check_there
from dspex._cli.state._output import counted, print_json, say, size_shown
from dspex._cli.state._progress import progress
from dspex._cli.state.branch import conflict
from dspex.errors import ConflictError, NotFoundError, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable

    from dspex.versions import StateManager, Synced
    from dspex.versions._manager import Direction


def sync(states: StateManager, other: str, direction: str, pattern: str, *, as_json: bool) -> int:
    """Bring versions to another store, from it, or both; 1 when the resolver refused a merge."""
    if direction == "pull":
        check_there(other)
    return _brought(
        lambda watched: states.sync(other, cast("Direction", direction), pattern=pattern, progress=watched),
        "syncing",
        as_json,
    )


def export(states: StateManager, path: str, pattern: str, *, as_json: bool) -> int:
    """Write all versions of modules that match into one file."""
    module_ids = states.modules(pattern)
    if not module_ids:
        raise NotFoundError(f"no module in {states.store!r} matches {pattern!r}")
    try:
        with progress("exporting", "versions") as watched:
            size = states.export(path, pattern, progress=watched)
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror}") from None
    if as_json:
        print_json({"file": path, "bytes": size, "modules": module_ids})
    else:
        say(f"{counted(len(module_ids), 'module')} in {path}, {size_shown(size)}")
    return 0


def import_(states: StateManager, path: str, *, as_json: bool) -> int:
    """Bring the versions of a file that `export` wrote; 1 when the resolver refused a merge."""
    try:
        return _brought(lambda watched: states.import_(path, progress=watched), "importing", as_json)
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror}") from None


def _brought(bring: Callable[[Any], Synced], doing: str, as_json: bool) -> int:
    try:
        with progress(doing, "versions") as watched:
            done = bring(watched)
    except ConflictError as error:
        return conflict(error, as_json=as_json)
    if as_json:
        print_json({"versions": done.versions, "moved": _places(done.moved), "merged": _places(done.merged)})
    else:
        merged = f", {counted(len(done.merged), 'merge')}" if done.merged else ""
        say(f"{counted(done.versions, 'version')} brought, {counted(len(done.moved), 'head')} moved on{merged}")
    return 0


def _places(places: tuple[tuple[str, str], ...]) -> list[dict[str, str]]:
    return [{"module_id": module_id, "branch": branch} for module_id, branch in places]
