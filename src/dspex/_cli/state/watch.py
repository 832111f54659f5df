"""`dspex state watch`: what happens in a store, as it happens."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from dspex._cli.state._output import print_json_line, say, time_shown
from dspex.versions._ids import datetime_of

if TYPE_CHECKING:
    from dspex.versions import Event, StateManager


def watch(states: StateManager, pattern: str, since: int | None, timeout: float | None, *, as_json: bool) -> int:
    """Show a line for each event until none came for `timeout` seconds, or for ever."""
    for event in states.watch(pattern, since, timeout=timeout):
        if as_json:
            print_json_line(_plain(event))
        else:
            _show(event)
    return 0


def _plain(event: Event) -> dict[str, Any]:
    made: dict[str, Any] = {name: getattr(event, name) for name in event.__struct_fields__}
    return made | {"time": datetime_of(event.time)}


def _show(event: Event) -> None:
    what = f"{event.module_id}@{event.version_id}" if event.version_id else event.module_id
    words = [f"{event.revision:>6}", time_shown(datetime_of(event.time)), f"{event.kind:<8}", what, event.name]
    say("  ".join(word for word in words if word))
