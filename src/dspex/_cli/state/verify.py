"""`dspex state verify`: every byte of a store read and checked."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from dspex._cli.state._output import console, counted, print_json, say, shown, size_shown, table
from dspex._cli.state._progress import progress

if TYPE_CHECKING:
    from dspex.versions import Problem, Report, StateManager


def verify(states: StateManager, *, as_json: bool) -> int:
    """Show what is wrong, and which versions it hits; 1 when anything is."""
    with progress("verifying", "records and chunks") as watched:
        report = states.verify(progress=watched)
    if as_json:
        print_json(_plain(report))
    else:
        _show(report)
    return 0 if report.ok else 1


def _plain(report: Report) -> dict[str, Any]:
    return {
        "ok": report.ok,
        "records": report.records,
        "versions": report.versions,
        "chunks": report.chunks,
        "bytes": report.bytes,
        "spare": report.spare,
        "problems": [
            {
                "thing": problem.thing,
                "cause": problem.cause,
                "affected": [{"module_id": module_id, "version": id} for module_id, id in problem.affected],
            }
            for problem in report.problems
        ],
    }


def _show(report: Report) -> None:
    if report.problems:
        _show_problems(report.problems)
    read = f"{counted(report.records, 'record')}, {counted(report.chunks, 'chunk')}, {size_shown(report.bytes)}"
    spare = f"; {counted(report.spare, 'chunk')} that no version needs: gc removes them" if report.spare else ""
    verdict = "all is well" if report.ok else counted(len(report.problems), "problem")
    say(f"{verdict}: {counted(report.versions, 'version')}, {read} read{spare}", "green" if report.ok else "bold red")


def _show_problems(problems: tuple[Problem, ...]) -> None:
    from rich.text import Text

    lines = table("thing", "what is wrong", "versions hit")
    for problem in problems:
        hit = ", ".join(f"{module_id}@{id}" for module_id, id in problem.affected) or "none"
        lines.add_row(Text(shown(problem.thing)), Text(shown(problem.cause), "red"), Text(shown(hit), "bold"))
    console().print(lines)
