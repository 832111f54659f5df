"""`dspex state tag` and `untag`: names of versions."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dspex._cli.state._moments import version_at
from dspex._cli.state._output import print_json, say, version_as_dict

if TYPE_CHECKING:
    from dspex.versions import StateManager


def tag(states: StateManager, module_id: str, name: str, at: str, *, move: bool, as_json: bool) -> int:
    """Give a version a name; it moves here from where it was, unless `move` is False."""
    version = states.tag(module_id, name, version_at(states, module_id, at), move=move)
    if as_json:
        print_json(version_as_dict(version))
    else:
        say(f"{version} is tagged {name}")
    return 0


def untag(states: StateManager, module_id: str, name: str, *, as_json: bool) -> int:
    """Take a name away."""
    states.untag(module_id, name)
    if as_json:
        print_json({"module_id": module_id, "untagged": name})
    else:
        say(f"{module_id} has no tag {name} any more")
    return 0
