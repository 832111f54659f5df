"""`dspex state diff`: what two versions differ in, path by path."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dspex._cli.state._moments import version_at
from dspex._cli.state._output import console, print_json, shown
from dspex._cli.state.show import readable

if TYPE_CHECKING:
    from dspex.versions import StateManager

_STYLES = {"added": "green", "removed": "red", "changed": "yellow"}


def diff(states: StateManager, module_id: str, a: str, b: str, *, as_json: bool) -> int:
    """Show what the second version has otherwise than the first."""
    before, after = version_at(states, module_id, a), version_at(states, module_id, b)
    differences = states.diff(module_id, before, after)
    if as_json:
        made = [
            {"path": d.path, "change": d.change, "before": readable(d.before), "after": readable(d.after)}
            for d in differences
        ]
        print_json({"module_id": module_id, "a": before.id, "b": after.id, "differences": made})
        return 0
    from rich.text import Text

    out = console()
    for difference in differences:
        out.print(Text(shown(str(difference)), _STYLES[difference.change]), soft_wrap=True)
    if not differences:
        out.print(Text(f"{shown(before.id)} and {shown(after.id)} are the same"), soft_wrap=True)
    return 0
