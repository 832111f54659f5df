"""`dspex state migrate`: a version taken to another schema."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dspex._cli._importing import imported
from dspex._cli.state._moments import version_at
from dspex._cli.state._output import print_json, say, version_as_dict
from dspex.errors import UsageError
from dspex.versions import Migrations

if TYPE_CHECKING:
    from dspex.versions import StateManager, Step, Version


def migrations_of(what: str) -> Migrations:
    """The `Migrations` of an import path; importing runs the user's code. Raises UsageError."""
    found = imported(what)
    if not isinstance(found, Migrations):
        raise UsageError(f"{what} is of type {type(found).__name__}, and no dspex.versions.Migrations")
    return found


def migrate(states: StateManager, module_id: str, to_schema: str, at: str, *, plan: bool, as_json: bool) -> int:
    """Take a version to a schema and save that as its child; with `plan` only show the steps."""
    version = version_at(states, module_id, at)
    steps = states.plan_migration(module_id, to_schema, at=version)
    if plan:
        return _show_plan(version, to_schema, steps, as_json)
    made = states.migrate_state(module_id, to_schema, at=version)
    if as_json:
        print_json(version_as_dict(made))
    elif not steps:
        say(f"{made} has that schema already: {to_schema}")
    else:
        say(f"{made} has schema {made.schema}, of {version.id} by {_path(version, steps)}")
    return 0


def _show_plan(version: Version, to_schema: str, steps: tuple[Step, ...], as_json: bool) -> int:
    if as_json:
        made = [{"from": step.from_schema, "to": step.to_schema} for step in steps]
        print_json({"version": version_as_dict(version), "to_schema": to_schema, "steps": made})
    else:
        say(f"{version}: {_path(version, steps)}")
    return 0


def _path(version: Version, steps: tuple[Step, ...]) -> str:
    return (
        " -> ".join([version.schema, *(step.to_schema for step in steps)]) if steps else "no step: it has that schema"
    )
