"""The graph of versions as lines of text."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dspex.versions import StateManager
from dspex.versions._drawing import draw, plain, rows


def drawn(parents):
    """The rows as text, each with its id."""
    return [f"{row.graph:<6}{row.id or ''}".rstrip() for row in rows(parents)]


@pytest.mark.parametrize(
    ("parents", "expected"),
    [
        ({}, []),
        ({"1": []}, ["●     1"]),
        ({"3": ["2"], "2": ["1"], "1": []}, ["●     3", "●     2", "●     1"]),
        ({"2": [], "1": []}, ["●     2", "  ●   1"]),
        (
            {"3": ["1"], "2": ["1"], "1": []},
            ["●     3", "│ ●   2", "├─╯", "●     1"],
        ),
        (
            {"4": ["3", "2"], "3": ["1"], "2": ["1"], "1": []},
            ["●     4", "├─╮", "● │   3", "│ ●   2", "├─╯", "●     1"],
        ),
    ],
)
def test_small_graphs(parents, expected):
    """A line, two roots (apart, as neither came from the other), a fork, a merge."""
    assert drawn(parents) == expected


def test_lines_cross_and_join_at_any_distance():
    """One row joins many lanes, across others that have no part in it."""
    parents = {"9": ["5"], "8": ["3"], "7": ["5", "4"], "6": ["4"], "5": ["1"], "4": ["1"], "3": ["2", "1"]}
    assert drawn(parents | {"2": ["1"], "1": []}) == [
        "●     9",
        "│ ●   8",
        "│ │ ● 7",
        "│ │ ├─╮",
        "│ │ │ │ ●6",
        "├─┼─╯ │ │",
        "● │   │ │5",
        "│ │   ├─╯",
        "│ │   ●4",
        "│ ●   │3",
        "├─┤   │",
        "│ ●   │2",
        "├─┴───╯",
        "●     1",
    ]


UP, DOWN, LEFT, RIGHT = 1, 2, 4, 8
LEADS = dict(zip(" ╵╷│╴╯╮┤╶╰╭├─┴┬┼", range(16), strict=True))


@st.composite
def graphs(draw):
    """Any graph of versions, newest first."""
    count = draw(st.integers(1, 25))
    numbers = range(count, 0, -1)
    older = {n: st.lists(st.integers(1, n - 1), max_size=3, unique=True) if n > 1 else st.just([]) for n in numbers}
    return {str(n): [str(parent) for parent in draw(older[n])] for n in numbers}


@given(graphs())
def test_every_line_leads_on(parents):
    """Of any graph, each version stands on one row in order, and no line ends or begins but at a version."""
    made = list(rows(parents))
    assert [row.id for row in made if row.id] == list(parents)
    assert all(row.graph.count("●") == (row.id is not None) for row in made)
    width = max(len(row.graph) for row in made)
    table = ["", *(row.graph for row in made), ""]
    table = [line.ljust(width + 1) for line in table]
    for upper, lower in itertools.pairwise(table):
        for above, below in zip(upper, lower, strict=True):
            if above != "●" and below != "●":
                assert bool(LEADS[above] & DOWN) == bool(LEADS[below] & UP)
        for left, right in itertools.pairwise(lower):
            if "●" not in left + right:
                assert bool(LEADS[left] & RIGHT) == bool(LEADS[right] & LEFT)
    assert not any(LEADS.get(cell, 0) & UP for cell in table[1])


@given(graphs())
def test_a_node_has_lines_to_its_parents(parents):
    """Below a version with parents a line goes on; below one without there is none."""
    made = [*(row.graph for row in rows(parents)), ""]
    for row, below in zip(rows(parents), made[1:], strict=True):
        if row.id:
            place = row.graph.index("●")
            cell = below.ljust(place + 1)[place]
            assert (cell == "●" or bool(LEADS[cell] & UP)) == bool(parents[row.id])


@given(graphs())
def test_plain_is_ascii(parents):
    """In ASCII every glyph has its counterpart."""
    for row in rows(parents):
        assert plain(row.graph).isascii()
        assert len(plain(row.graph)) == len(row.graph)


def test_a_module_is_drawn_from_its_history():
    """Branches that went apart and were merged."""
    with StateManager("memory://") as states:
        states.save_state("m", {"a": 1, "b": 1})
        states.branch("m", "trial")
        states.save_state("m", {"a": 2, "b": 1}, branch="trial")
        states.save_state("m", {"a": 1, "b": 2})
        states.merge("m", "trial")
        assert [tuple(row) for row in draw(states.history("m"))] == [
            ("●", "4"),
            ("├─╮", None),
            ("● │", "3"),
            ("│ ●", "2"),
            ("├─╯", None),
            ("●", "1"),
        ]


def test_deleted_versions_are_left_out():
    """What a deleted version joined is joined."""
    with StateManager("memory://") as states:
        for n in range(4):
            states.save_state("m", {"n": n})
        states.delete("m", "2")
        states.delete("m", "3")
        assert [tuple(row) for row in draw(states.history("m"))] == [("●", "4"), ("●", "1")]
