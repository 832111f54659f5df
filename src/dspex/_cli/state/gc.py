"""`dspex state gc`: versions that need not be kept, and what nothing needs any more."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

from dspex._cli.state._moments import length_of
from dspex._cli.state._output import counted, print_json, say
from dspex._cli.state._progress import progress
from dspex.versions import Retention

if TYPE_CHECKING:
    from dspex.versions import StateManager


def retention(keep_last: int | None, keep_for: str | None) -> Retention:
    """What the options say is kept. Raises UsageError."""
    return Retention(keep_last, length_of("--keep-for", keep_for) if keep_for is not None else None)


def gc(states: StateManager, *, forget_before: int | None, as_json: bool) -> int:
    """Delete versions as the manager's retention says, drop chunks that no version needs."""
    with progress("collecting", "versions and chunks") as watched:
        done = states.compact(forget_before=forget_before, progress=watched)
    if as_json:
        print_json(asdict(done))
    else:
        say(f"{counted(done.versions, 'version')} deleted, {counted(done.chunks, 'chunk')} dropped")
    return 0
