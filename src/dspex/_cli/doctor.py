"""`dspex doctor`: what this host can enforce, as a table."""

from __future__ import annotations

import json
from dataclasses import asdict

from dspex._kernel.probe import probe


def doctor(as_json: bool) -> int:
    """Print the findings; 0 when the minimum level of isolation holds, 2 when it does not."""
    features = probe()
    level = features.level()
    if as_json:
        findings = [asdict(finding) for finding in features.findings()]
        print(json.dumps({"level": level, "findings": findings}, indent=2))
    else:
        _show(features.findings(), level)
    return 0 if level else 2


def _show(findings: object, level: str | None) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(title="What this host can enforce")
    for heading in ("feature", "", "found", "to mend it"):
        table.add_column(heading, overflow="fold")
    for finding in findings:  # type: ignore[attr-defined]
        mark = "[green]yes[/]" if finding.ok else "[red]no[/]"
        table.add_row(finding.name, mark, finding.detail, "" if finding.ok else finding.mend)
    console = Console()
    console.print(table)
    if level:
        console.print(f"Programs run at isolation level [bold]{level}[/].")
    else:
        console.print("[red]No level of isolation can be had here[/]; dspex refuses to run programs.")
