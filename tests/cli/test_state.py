"""`dspex state`: looking at what a store holds, on real stores."""

import json
import re
import subprocess

import pytest

from command import DSPEX, ENVIRONMENT, dspex
from dspex.state import decode, read_file
from dspex.versions import StateManager

STATES = [
    {"instructions": "Answer.", "demos": []},
    {"instructions": "Answer.", "demos": [{"q": "2+2", "a": "4"}]},
    {"instructions": "Think, then answer.", "demos": [{"q": "2+2", "a": "4"}]},
    {"instructions": "Answer.", "demos": [{"q": "2+2", "a": "4"}], "temperature": 0.2},
]


@pytest.fixture(params=["sqlite", "file"])
def store(request, tmp_path):
    """The URL of a store: a module with a branch that was merged, and another one."""
    url = f"{request.param}:///{tmp_path}/store"
    with StateManager(url) as states:
        states.save_state("shop/answer", STATES[0], metadata={"score": 0.61})
        states.save_state("shop/answer", STATES[1], tags=["production"])
        states.branch("shop/answer", "trial")
        states.save_state("shop/answer", STATES[2], branch="trial", metadata={"score": 0.81})
        states.save_state("shop/answer", STATES[3])
        states.merge("shop/answer", "trial")
        states.save_state("rank", {"weights": b"\x00\xff", "shape": (1, 2), "seen": {3}, 5: None})
    return url


def state(store, *arguments, **options):
    """`dspex state --store STORE ARGUMENTS`."""
    return dspex("state", "--store", store, *arguments, **options)


def as_json(store, *arguments):
    """What `dspex state ... --json` prints, parsed."""
    done = state(store, *arguments, "--json")
    assert (done.returncode, done.stderr) == (0, "")
    return json.loads(done.stdout)


def test_ls(store):
    """Each module with its newest version's id, time, size and tags."""
    done = state(store, "ls")
    header, *lines = done.stdout.splitlines()
    assert header.split() == ["module", "newest", "time", "size", "tags"]
    assert [line.split()[:2] for line in lines] == [["rank", "1"], ["shop/answer", "5"]]
    assert re.search(r"5 +\d{4}-\d\d-\d\d \d\d:\d\d:\d\d +\d+ B$", lines[1].rstrip())


def test_ls_as_json(store):
    """The same as data, of those that match a pattern."""
    [module] = as_json(store, "ls", "shop/*")
    assert module["module_id"] == "shop/answer"
    assert (module["newest"]["id"], module["newest"]["parents"]) == ("5", ["4", "3"])


def test_ls_of_nothing(store):
    """That nothing matches is said, with the pattern."""
    assert state(store, "ls", "none*").stdout.startswith("no module that matches 'none*' in ")
    assert as_json(store, "ls", "none*") == []


def test_log(store):
    """The graph with branches, tags and metadata."""
    lines = state(store, "log", "shop/answer").stdout.splitlines()
    assert [re.sub(r"  \d{4}-.* k?B", "", line).rstrip() for line in lines] == [
        "●    5 (main)",
        "├─╮",
        "● │  4",
        "│ ●  3 (trial)  score=0.81",
        "├─╯",
        "●    2 (tag: production)",
        "●    1  score=0.61",
    ]


def test_log_where_the_terminal_knows_ascii_only(store):
    """The same in ASCII."""
    done = state(store, "log", "shop/answer", variables={"PYTHONIOENCODING": "ascii"})
    assert [line.split("  ")[0].rstrip() for line in done.stdout.splitlines()] == [
        "*",
        "+-.",
        "* |",
        "| *",
        "+-'",
        "*",
        "*",
    ]


def test_log_of_the_newest(store):
    """A limit says what it left out."""
    lines = state(store, "log", "shop/answer", "-n", "2").stdout.splitlines()
    assert [lines[2][0], lines[-1]] == ["●", "... and 3 more; --limit shows them"]
    assert [version["id"] for version in as_json(store, "log", "shop/answer", "-n", "2")["versions"]] == ["5", "4"]


def test_log_as_json(store):
    """Versions, newest first, and heads."""
    log = as_json(store, "log", "shop/answer")
    assert [version["id"] for version in log["versions"]] == ["5", "4", "3", "2", "1"]
    assert log["versions"][3]["tags"] == ["production"]
    assert log["heads"] == {"main": "5", "trial": "3"}


@pytest.mark.parametrize(("at", "expected"), [("1", 0), ("production", 1), ("3", 2), ("trial", 2)])
def test_show(store, at, expected):
    """A state is printed as JSON, of an id, a tag or a branch."""
    assert json.loads(state(store, "show", "shop/answer", "--at", at).stdout) == STATES[expected]


def test_show_at_a_moment(store):
    """A moment means what was newest on main then."""
    versions = {version["id"]: version for version in as_json(store, "log", "shop/answer")["versions"]}
    assert json.loads(state(store, "show", "shop/answer", "--at", versions["3"]["time"]).stdout) == STATES[1]


def test_show_of_what_json_lacks(store):
    """Bytes, tuples, sets and other keys are tagged, as in state files; --json adds the version."""
    shown = as_json(store, "show", "rank")
    pairs = dict(shown["state"]["$dict"])
    assert pairs == {"weights": {"$bytes": "AP8="}, "shape": {"$tuple": [1, 2]}, "seen": {"$set": [3]}, 5: None}
    assert shown["version"]["module_id"] == "rank"


@pytest.mark.parametrize("format", ["json", "msgpack", "etf"])
def test_show_raw(store, format):
    """--raw writes a state file to standard output."""
    command = [*DSPEX, "state", "--store", store, "show", "rank", "--raw", "--format", format]
    data = subprocess.run(command, capture_output=True, env=ENVIRONMENT, check=True, timeout=60).stdout
    assert decode(data) == {"weights": b"\x00\xff", "shape": (1, 2), "seen": {3}, 5: None}


def test_show_into_a_file(store, tmp_path):
    """--out writes a state file, whose form is that of its name."""
    done = state(store, "show", "shop/answer", "--at", "1", "--out", tmp_path / "state.msgpack.gz")
    assert (done.returncode, done.stdout) == (0, "")
    assert read_file(tmp_path / "state.msgpack.gz") == STATES[0]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--raw", "--json"], "--json prints"),
        (["--format", "json"], "add --raw or --out"),
        (["--raw", "--format", "yaml"], "yaml"),
        (["--out", "/proc/no/such"], "--out /proc/no/such"),
    ],
)
def test_show_options_that_do_not_fit(store, options, said):
    """Wrong usage, which is named."""
    done = state(store, "show", "rank", *options)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("dspex: ")
    assert said in done.stderr


def test_diff(store):
    """What was added, removed and changed, by path; the second is the newest where none is named."""
    assert state(store, "diff", "shop/answer", "1", "3").stdout.splitlines() == [
        "+ demos[0]: {'a': '4', 'q': '2+2'}",
        "~ instructions: 'Answer.' -> 'Think, then answer.'",
    ]
    assert state(store, "diff", "shop/answer", "3").stdout == "+ temperature: 0.2\n"
    assert state(store, "diff", "shop/answer", "production", "2").stdout == "2 and 2 are the same\n"


def test_diff_in_colours(store):
    """At a terminal that has colours, what was added is green."""
    colours = {"FORCE_COLOR": "1", "NO_COLOR": "", "TERM": "xterm"}
    assert "\x1b[32m+ temperature: 0.2" in state(store, "diff", "shop/answer", "3", variables=colours).stdout


def test_diff_as_json(store):
    """Each difference with its path, and what there was before and after."""
    found = as_json(store, "diff", "shop/answer", "4", "2")
    assert found == {
        "module_id": "shop/answer",
        "a": "4",
        "b": "2",
        "differences": [{"path": "temperature", "change": "removed", "before": 0.2, "after": None}],
    }


def test_watch(store):
    """What happened after a revision, a line each, until nothing happens for a while."""
    done = state(store, "watch", "shop/*", "--since", "0", "--timeout", "0.01", "--json")
    events = [json.loads(line) for line in done.stdout.splitlines()]
    assert [event["kind"] for event in events] == ["save", "save", "tag", "branch", "save", "save", "save"]
    since = events[-2]["revision"]
    later = state(store, "watch", "shop/*", "--since", since, "--timeout", "0.01")
    assert [line.split()[0] for line in later.stdout.splitlines()] == [str(events[-1]["revision"])]
    assert later.stdout.split()[-2:] == ["shop/answer@5", "main"]


def test_watch_tells_at_once(store):
    """An event is printed when it happens."""
    command = [*DSPEX, "state", "--store", store, "watch", "--since", "0", "--json"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=ENVIRONMENT) as watching:
        told = [json.loads(watching.stdout.readline()) for _ in range(8)]
        assert told[-1]["module_id"] == "rank"
        state(store, "tag", "rank", "good")
        assert json.loads(watching.stdout.readline())["name"] == "good"
        watching.kill()


def test_names_cannot_command_a_terminal(tmp_path):
    """Escape sequences in the names of modules and branches, and in states, are shown as text."""
    url = f"sqlite:///{tmp_path}/states.db"
    with StateManager(url) as states:
        states.save_state("evil\x1b[2J\u202e", {"text\x1b[2J": "\x1b]0;title\x07"}, tags=["tag\x1b[2J"])
        states.save_state("evil\x1b[2J\u202e", {})
    for command in (
        ["ls"],
        ["log", "evil\x1b[2J\u202e"],
        ["diff", "evil\x1b[2J\u202e", "1"],
        ["watch", "--since", "0", "--timeout", "0"],
    ):
        done = state(url, *command)
        assert done.returncode == 0
        assert "\\x1b" in done.stdout
        assert "\x1b" not in done.stdout
        assert "\u202e" not in done.stdout
