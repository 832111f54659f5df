"""`dspex state restore`: modules as they were, as new versions."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dspex._cli.state._moments import moment_of
from dspex._cli.state._output import print_json, say, version_as_dict
from dspex.errors import NotFoundError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from dspex.versions import StateManager, Version


def restore(states: StateManager, pattern: str, at: str, *, as_json: bool) -> int:
    """Make the newest of all modules that match what `at` names, an id, a tag or a moment; of all, or of none."""
    before = [module_id for module_id in states.modules(pattern) if states.head(module_id)]
    if not states.modules(pattern):
        raise NotFoundError(f"no module in {states.store!r} matches {pattern!r}")
    versions = _restored(states, pattern, at)
    gone = [module_id for module_id in before if states.head(module_id) is None]
    return show(versions, gone, as_json=as_json)


def _restored(states: StateManager, pattern: str, at: str) -> list[Version]:
    try:
        return states.restore(at=at, pattern=pattern)
    except NotFoundError:
        moment = moment_of(at)
        if moment is None:
            raise
    return states.restore(at=moment, pattern=pattern)


def show(versions: list[Version], gone: Sequence[str] = (), *, as_json: bool) -> int:
    """Show the versions that restoring made, and the modules that have no newest one any more."""
    if as_json:
        print_json({"restored": [version_as_dict(version) for version in versions], "emptied": gone})
        return 0
    for version in versions:
        say(f"{version} is what {version.metadata['restored_from']} was")
    for module_id in gone:
        say(f"{module_id} did not exist then: it has no newest version, and its versions stay")
    if not versions and not gone:
        say("nothing to restore: all is as it was")
    return 0
