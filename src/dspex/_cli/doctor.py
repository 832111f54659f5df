"""`dspex doctor`: what this host can enforce, what is missing, and the command that mends it."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from dspex._kernel.probe import Finding, probe
from dspex.errors import SandboxError
from dspex.languages import survey

if TYPE_CHECKING:
    from dspex._kernel.probe import HostFeatures
    from dspex.languages._base import Found


def doctor(*, as_json: bool = False) -> int:
    """Show the findings; 0 when programs can be run here, 2 when not. Raises `SandboxError` when it cannot look."""
    try:
        features = probe()
    except OSError as error:
        raise SandboxError(f"the host cannot be examined: {error}") from error
    findings = [*features.findings(), _tried(features.level())]
    ok = features.level() is not None and findings[-1].ok
    languages = [_spoken(name, found) for name, found in survey()]
    if as_json:
        import json

        print(json.dumps(_plain(features, findings, ok) | {"languages": _findings(languages)}, indent=2))
    else:
        _show(features, [*findings, *languages])
    return 0 if ok else 2


def _tried(level: str | None) -> Finding:
    """The proof: a program that runs. What was found before only says that it should."""
    if level is None:
        return Finding("a program", False, "not tried: no level of isolation can be had here")
    from dspex import CodeExecutor

    try:
        with CodeExecutor(max_concurrency=1) as executor:
            executor.execute("1 + 1")
            result = executor.execute("1 + 1")
    except SandboxError as error:
        return Finding("a program", False, str(error), "\n".join(getattr(error, "mend", ())))
    if result.value != 2:
        return Finding("a program", False, f"1 + 1 gave {result!r}")
    return Finding("a program", True, f"ran at level {result.isolation.level} in {result.usage.wall * 1000:.1f} ms")


def _plain(features: HostFeatures, findings: list[Finding], ok: bool) -> dict[str, Any]:
    return {
        "ok": ok,
        "level": features.level(),
        "kernel": features.kernel,
        "machine": features.machine,
        "python": features.python,
        "root": features.is_root,
        "container": features.in_container,
        "findings": _findings(findings),
    }


def _findings(findings: list[Finding]) -> list[dict[str, Any]]:
    return [{"name": f.name, "ok": f.ok, "detail": f.detail, "mend": f.mend} for f in findings]


def _spoken(language: str, found: Found) -> Finding:
    """A runtime of a language; that one is missing is no fault of the host's."""
    if found.version:
        return Finding(f"{language}, {found.runtime}", True, f"{found.version}, {found.path}")
    return Finding(f"{language}, {found.runtime}", False, "not installed", found.install)


def _show(features: HostFeatures, findings: list[Finding]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    place = "in a container" if features.in_container else "on the host"
    user = "root" if features.is_root else "an ordinary user"
    title = f"Linux {features.kernel}, {features.machine}, Python {features.python}, as {user}, {place}"
    table = Table(title=title, title_justify="left")
    for heading in ("feature", "works", "what was found"):
        table.add_column(heading, overflow="fold")
    for finding in findings:
        mark = Text("yes", "green") if finding.ok else Text("no", "bold red")
        table.add_row(Text(finding.name), mark, Text(finding.detail))
    console = Console()
    console.print(table)
    for finding in findings:
        if finding.mend and not finding.ok:  # outside of the table, where a command can be copied whole
            sys.stdout.flush()
            console.print(Text.assemble(("to mend ", "bold"), f"{finding.name}: {finding.mend}"), soft_wrap=True)
    level = features.level()
    verdict = (
        f"Programs run at isolation level {level}."
        if level
        else "No level of isolation can be had: dspex refuses, but for isolation='wasm' on request (docs/portable.md)."
    )
    console.print(Text(verdict, "bold green" if level else "bold red"), soft_wrap=True)
