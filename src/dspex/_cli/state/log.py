"""`dspex state log`: the graph of a module's versions, drawn."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from dspex._cli.state._output import (
    console,
    names_shown,
    print_json,
    shown,
    size_shown,
    time_shown,
    version_as_dict,
)
from dspex.errors import UsageError
from dspex.versions._drawing import draw, plain

if TYPE_CHECKING:
    from rich.text import Text

    from dspex.versions import History, StateManager, Version
    from dspex.versions._drawing import Row

_WIDTH = 24  # of a graph, beyond which the texts beside it are no longer kept in one column
_METADATA = 60


def log(states: StateManager, module_id: str, *, limit: int | None, as_json: bool) -> int:
    """Show at most `limit` versions, newest first, with what joins them."""
    if limit is not None and limit < 1:
        raise UsageError(f"--limit must be at least 1, not {limit}")
    history = states.history(module_id)
    if as_json:
        versions = list(history.versions.values())[:limit]
        print_json(
            {
                "module_id": module_id,
                "heads": history.heads,
                "versions": [version_as_dict(version) for version in versions],
            }
        )
    else:
        _show(history, limit)
    return 0


def _show(history: History, limit: int | None) -> None:
    made = _first(draw(history), limit)
    heads: dict[str, tuple[str, ...]] = {}
    for branch, id in history.heads.items():
        heads[id] = (*heads.get(id, ()), branch)
    out = console()
    ascii_only = out.options.ascii_only
    width = min(_WIDTH, max((len(row.graph) for row in made), default=0))
    for row in made:
        line = _line(row, width, history.versions.get(row.id or ""), heads.get(row.id or "", ()), ascii_only)
        out.print(line, soft_wrap=True)
    left = len(history.versions) - sum(row.id is not None for row in made)
    if left:
        out.print(f"... and {left:,} more; --limit shows them", style="dim", soft_wrap=True)


def _first(rows: list[Row], limit: int | None) -> list[Row]:
    """The rows down to the one of the last version that is wanted."""
    places = [place for place, row in enumerate(rows) if row.id is not None]
    return rows if limit is None or limit >= len(places) else rows[: places[limit - 1] + 1]


def _line(row: Row, width: int, version: Version | None, heads: tuple[str, ...], ascii_only: bool) -> Text:
    from rich.text import Text

    graph = plain(row.graph) if ascii_only else row.graph
    if version is None:
        return Text(graph, "cyan")
    parts: list[Any] = [(f"{graph:<{width}}", "cyan"), "  ", (shown(version.id), "bold")]
    names = names_shown(version, heads)
    parts += [" ", (names, "yellow")] if names else []
    parts += [f"  {time_shown(version.time)}  {size_shown(version.size)}"]
    parts += [(f"  {_about(version)}", "dim")]
    line = Text.assemble(*parts)
    line.rstrip()
    return line


def _about(version: Version) -> str:
    """Schema and metadata, in a few words."""
    schema = f"schema {version.schema}" if version.schema != "1" else ""
    about = " ".join([schema, *(f"{key}={value}" for key, value in version.metadata.items())]).strip()
    return shown(about if len(about) <= _METADATA else about[: _METADATA - 3] + "...")
