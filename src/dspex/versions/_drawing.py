"""The graph of a module's versions as lines of text, newest first: what `dspex state log` shows.

Theory of operation. A lane is a column that waits for one version: the parent of what was last drawn in it. Versions come
newest first, so every lane waits for something older. A version is drawn in the leftmost lane that waits for it, and in a free
one when nothing does; other lanes that wait for it end there (a fork, seen from its end). Its first parent takes its lane on;
each further parent (of a merge) is met in the lane that waits for it already, or in a free one. Lanes are joined by one row
in between, of cells that know in which directions they lead: so lines may cross, and any distance takes one row.

    ●    4    a merge of 3 and 2
    ├─╮
    ● │  3
    │ ●  2
    ├─╯
    ●    1
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from dspex.versions._history import History

_UP, _DOWN, _LEFT, _RIGHT = 1, 2, 4, 8
_THROUGH = _UP | _DOWN
_GLYPHS = " ╵╷│╴╯╮┤╶╰╭├─┴┬┼"  # at the place that the sum of its directions gives
_NODE = "●"
_PLAIN = str.maketrans(f"{_NODE}│─├┤┼┴┬╯╰╮╭", "*|-+++++''..")


class Row(NamedTuple):
    """One line: its graph, and the id of the version that stands there; None between versions."""

    graph: str
    id: str | None


def draw(history: History) -> list[Row]:
    """The rows of a module's graph. A deleted version is left out, and what it joined is joined."""
    return list(rows(_present_parents(history)))


def plain(graph: str) -> str:
    """The same in ASCII, for terminals that show nothing else."""
    return graph.translate(_PLAIN)


def rows(parents: Mapping[str, Sequence[str]]) -> Iterator[Row]:
    """The rows of a graph: its ids with the parents of each, every id before its parents."""
    lanes: list[str | None] = []
    root = -1  # the lane of a version just drawn that came from none: what came below it would look like its parent
    for id, above in parents.items():
        waiting = [place for place, awaited in enumerate(lanes) if awaited == id]
        place, *ending = waiting or [_free(lanes, root)]
        root = -1 if above else place
        if ending:
            yield Row(_joint(lanes, place, ends=ending), None)
        for end in ending:
            lanes[end] = None
        lanes[place] = id
        _shorten(lanes)
        yield Row(_line([_NODE if lane == place else _GLYPHS[cell] for lane, cell in enumerate(_cells(lanes))]), id)
        yield from _lead_on(lanes, place, above)
        _shorten(lanes)


def _lead_on(lanes: list[str | None], place: int, above: Sequence[str]) -> Iterator[Row]:
    """Let the lanes wait for the parents of what stands at `place`; the row that leads there from a merge."""
    lanes[place] = above[0] if above else None
    met = [lanes.index(parent) for parent in above[1:] if parent in lanes]
    begun = []
    for parent in above[1:]:
        if parent not in lanes:
            begun.append(_free(lanes))
            lanes[begun[-1]] = parent
    if met or begun:
        yield Row(_joint(lanes, place, meets=met, begins=begun), None)


def _joint(
    lanes: list[str | None],
    place: int,
    *,
    ends: Iterable[int] = (),
    meets: Iterable[int] = (),
    begins: Iterable[int] = (),
) -> str:
    """The row that joins lanes with the one at `place`: those that end, go on, or begin there."""
    cells = _cells(lanes)
    joined = {**dict.fromkeys(ends, _UP), **dict.fromkeys(meets, _THROUGH), **dict.fromkeys(begins, _DOWN)}
    for other, vertical in joined.items():
        cells[other] = vertical
    for other in joined:
        low, high = min(place, other), max(place, other)
        cells[low] |= _RIGHT
        cells[high] |= _LEFT
        for between in range(low + 1, high):
            cells[between] |= _LEFT | _RIGHT
    return _line([_GLYPHS[cell] for cell in cells], ["─" if cell & _RIGHT else " " for cell in cells])


def _line(glyphs: Sequence[str], gaps: Sequence[str] = ()) -> str:
    """Glyphs of lanes with what stands between them, blank if nothing is given."""
    return "".join(f"{glyph}{gap}" for glyph, gap in zip(glyphs, gaps or " " * len(glyphs), strict=True)).rstrip()


def _cells(lanes: Sequence[str | None]) -> list[int]:
    """A row in which every lane goes on."""
    return [0 if awaited is None else _THROUGH for awaited in lanes]


def _free(lanes: list[str | None], but: int = -1) -> int:
    """The leftmost lane that waits for nothing, except one."""
    place = next((place for place, awaited in enumerate(lanes) if awaited is None and place != but), len(lanes))
    if place == len(lanes):
        place += place == but
        lanes += [None] * (place + 1 - len(lanes))
    return place


def _shorten(lanes: list[str | None]) -> None:
    """Drop free lanes at the end."""
    while lanes and lanes[-1] is None:
        lanes.pop()


def _present_parents(history: History) -> dict[str, tuple[str, ...]]:
    """The versions that are there, newest first, each with the nearest that are there of those it came from."""
    above: dict[str, tuple[str, ...]] = {}
    for id in reversed(list(history.parents)):
        nearest = [
            one
            for parent in history.parents[id]
            for one in ((parent,) if parent in history.versions else above.get(parent, ()))
        ]
        above[id] = tuple(dict.fromkeys(nearest))
    return {id: above[id] for id in history.parents if id in history.versions}
