"""`dspex state restore`: modules as they were, as new versions."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dspex._cli.state._moments import moment_of
from dspex._cli.state._output import print_json, say, version_as_dict
from dspex.errors import NotFoundError

if TYPE_CHECKING:
    from dspex.versions import StateManager, Version


def restore(states: StateManager, pattern: str, at: str, *, as_json: bool) -> int:
    """Make the newest of all modules that match what `at` names, an id, a tag or a moment; of all, or of none."""
    if not states.modules(pattern):
        raise NotFoundError(f"no module in {states.store!r} matches {pattern!r}")
    return restored(_restored(states, pattern, at), as_json=as_json)


def _restored(states: StateManager, pattern: str, at: str) -> list[Version]:
    try:
        return states.restore(at=at, pattern=pattern)
    except NotFoundError:
        moment = moment_of(at)
        if moment is None:
            raise
    return states.restore(at=moment, pattern=pattern)


def restored(versions: list[Version], *, as_json: bool) -> int:
    """Show the versions that restoring made."""
    if as_json:
        print_json([version_as_dict(version) for version in versions])
        return 0
    for version in versions:
        say(f"{version} is what {version.metadata['restored_from']} was")
    if not versions:
        say("nothing to restore: all is as it was")
    return 0
