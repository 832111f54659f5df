"""`dspex state`: names, going back, schemas, and the store as a whole, on real stores."""

import json
import os
import pty
import subprocess

import pytest

from command import DSPEX, ENVIRONMENT, dspex
from dspex.versions import StateManager

MIGRATIONS = """
from dspex.versions import Migrations

migrations = Migrations()
number = 5


@migrations.step("1", "1.1")
def rename(state):
    return {"demos": state["examples"]}


@migrations.step("1.1", "2")
def count(state):
    return {**state, "count": len(state["demos"])}


@migrations.step("2", "broken")
def broken(state):
    raise KeyError("no such thing")
"""


@pytest.fixture(params=["sqlite", "file"])
def store(request, tmp_path):
    """The URL of a store with two modules of two and one versions."""
    url = f"{request.param}:///{tmp_path}/store"
    with StateManager(url) as states:
        states.save_state("a/m", {"x": 1, "y": 1}, tags=["good"])
        states.save_state("a/m", {"x": 2, "y": 1})
        states.save_state("a/n", {"z": "needle"}, tags=["good"])
    return url


def state(store, *arguments, **options):
    """`dspex state --store STORE ARGUMENTS`."""
    return dspex("state", "--store", store, *arguments, **options)


def as_json(store, *arguments, status=0, **options):
    """What `dspex state ... --json` prints, parsed."""
    done = state(store, *arguments, "--json", **options)
    assert (done.returncode, done.stderr) == (status, "")
    return json.loads(done.stdout)


def loaded(store, module_id="a/m", at="latest"):
    """A state, as the library has it."""
    with StateManager(store) as states:
        return states.load_state(module_id, at)


# --- names ------------------------------------------------------------------------------------------------------------


def test_tag_and_untag(store):
    """A tag is given, moved, kept from moving, and taken away."""
    assert as_json(store, "tag", "a/m", "best", "--at", "1")["tags"] == ["best", "good"]
    assert state(store, "tag", "a/m", "best").stdout == "a/m@2 is tagged best\n"
    assert loaded(store, at="best") == {"x": 2, "y": 1}
    kept = state(store, "tag", "a/m", "best", "--at", "1", "--no-move")
    assert (kept.returncode, kept.stderr.startswith("dspex: ")) == (2, True)
    assert as_json(store, "untag", "a/m", "best") == {"module_id": "a/m", "untagged": "best"}
    assert "best" in state(store, "untag", "a/m", "best").stderr


def test_branch_and_merge(store):
    """A branch begins at a version, is listed, and is merged by path."""
    assert as_json(store, "branch", "a/m", "trial", "--at", "1")["version"]["id"] == "1"
    with StateManager(store) as states:
        states.save_state("a/m", {"x": 1, "y": 5}, branch="trial")
    assert as_json(store, "branch", "a/m") == {"module_id": "a/m", "heads": {"main": "2", "trial": "3"}}
    merged = as_json(store, "merge", "a/m", "trial")
    assert (merged["merged"], merged["version"]["parents"]) == (True, ["2", "3"])
    assert loaded(store) == {"x": 2, "y": 5}


def test_a_merge_that_cannot_be(store):
    """Status 1 and the paths that both changed; nothing is saved."""
    state(store, "branch", "a/m", "trial", "--at", "1")
    with StateManager(store) as states:
        states.save_state("a/m", {"x": 9, "y": 1}, branch="trial")
    refused = as_json(store, "merge", "a/m", "trial", status=1)
    assert (refused["merged"], refused["paths"]) == (False, ["x"])
    told = state(store, "merge", "a/m", "trial")
    assert (told.returncode, told.stdout) == (1, "not merged: 'trial' and 'main' both changed x\n")
    assert loaded(store) == {"x": 2, "y": 1}


def test_versions_are_called_as_asked(store):
    """A command that saves takes the strategy of the store's other users."""
    state(store, "branch", "a/m", "trial", "--at", "1")
    with StateManager(store) as states:
        states.save_state("a/m", {"x": 1, "y": 5}, branch="trial")
    assert as_json(store, "merge", "a/m", "trial", "--versioning", "semantic")["version"]["id"] == "1.0.0"


# --- going back -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("at", ["1", "good"])
def test_restore_a_version(store, at):
    """An id or a tag becomes the newest again, as a new version."""
    [version] = as_json(store, "restore", "a/m", "--at", at)["restored"]
    assert (version["id"], version["parents"], version["metadata"]["restored_from"]) == ("3", ["2"], "1")
    assert loaded(store) == {"x": 1, "y": 1}


def test_restore_many(store):
    """All modules that match go back to their tag; one that has none keeps all from it."""
    done = state(store, "restore", "a/*", "--at", "good")
    assert (done.returncode, done.stdout) == (0, "a/m@3 is what 1 was\n")
    state(store, "tag", "a/m", "only")
    refused = state(store, "restore", "a/*", "--at", "only")
    assert refused.returncode == 2
    assert "'a/n' has no version, tag or moment 'only'" in refused.stderr


def test_restore_a_moment(store):
    """All modules become what they were; what did not exist has no newest version, which is told."""
    first = as_json(store, "log", "a/m")["versions"][1]["time"]
    done = as_json(store, "restore", "*", "--at", first)
    assert [version["module_id"] for version in done["restored"]] == ["a/m"]
    assert done["emptied"] == ["a/n"]
    assert "a/n" in state(store, "ls").stdout
    assert state(store, "restore", "a/m", "--at", "3").stdout == "nothing to restore: all is as it was\n"
    emptied = state(store, "restore", "*", "--at", "1999-12-31T23:59")
    assert emptied.stdout == "a/m did not exist then: it has no newest version, and its versions stay\n"


def test_snapshots(store):
    """Made of what matches, listed, restored, forgotten."""
    made = as_json(store, "snapshot", "create", "monday", "a/*")
    assert made["members"] == {"a/m": "2", "a/n": "1"}
    assert as_json(store, "snapshot", "ls") == [made]
    assert "a/m@2, a/n@1" in state(store, "snapshot", "ls").stdout
    with StateManager(store) as states:
        states.save_state("a/m", {"x": 3})
    assert [version["id"] for version in as_json(store, "snapshot", "restore", "monday")["restored"]] == ["4"]
    assert loaded(store) == {"x": 2, "y": 1}
    assert as_json(store, "snapshot", "rm", "monday") == {"removed": "monday"}
    assert state(store, "snapshot", "ls").stdout.startswith("no snapshot in ")


# --- schemas ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path):
    """A folder with a store and a file of migrations."""
    (tmp_path / "steps.py").write_text(MIGRATIONS)
    with StateManager(f"sqlite:///{tmp_path}/states.db") as states:
        states.save_state("m", {"examples": [1, 2]})
    return tmp_path


@pytest.mark.parametrize("module", ["steps.py:migrations", "steps:migrations"])
def test_migrate(folder, module):
    """The steps of a file, or of a module that can be imported, are shown, then taken."""
    url = "sqlite:///states.db"
    plan = as_json(url, "migrate", "m", "2", "--module", module, "--plan", cwd=folder)
    assert plan["steps"] == [{"from": "1", "to": "1.1"}, {"from": "1.1", "to": "2"}]
    told = state(url, "migrate", "m", "2", "--module", module, "--plan", cwd=folder)
    assert told.stdout == "m@1: 1 -> 1.1 -> 2\n"
    made = as_json(url, "migrate", "m", "2", "--module", module, cwd=folder)
    assert (made["id"], made["schema"], made["parents"]) == ("2", "2", ["1"])
    assert loaded(f"sqlite:///{folder}/states.db", "m") == {"demos": [1, 2], "count": 2}
    again = state(url, "migrate", "m", "2", "--module", module, cwd=folder)
    assert again.stdout == "m@2 has that schema already: 2\n"


@pytest.mark.parametrize(
    ("schema", "module", "said"),
    [
        ("9", "steps.py:migrations", "no steps lead from schema '1' to '9'; from there, 1.1, 2, broken"),
        ("broken", "steps.py:migrations", "the step 2 -> broken failed: KeyError: 'no such thing'"),
        ("2", "steps.py:number", "steps.py:number is of type int, and no dspex.versions.Migrations"),
        ("2", "steps.py:missing", "steps.py:missing: AttributeError"),
        ("2", "missing.py:migrations", "missing.py:migrations: FileNotFoundError"),
        ("2", "no_such_module:migrations", "no_such_module:migrations: ModuleNotFoundError"),
        ("2", "steps.py", "'steps.py' names no object"),
    ],
)
def test_a_migration_that_cannot_be(folder, schema, module, said):
    """What is wrong is named, and nothing is saved."""
    done = state("sqlite:///states.db", "migrate", "m", schema, "--module", module, cwd=folder)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("dspex: ")
    assert said in done.stderr
    assert "Traceback" not in done.stderr
    with StateManager(f"sqlite:///{folder}/states.db") as states:
        assert states.head("m").id == "1"


# --- the store as a whole ---------------------------------------------------------------------------------------------


def test_verify_of_a_good_store(store):
    """What was read is counted; status 0."""
    report = as_json(store, "verify")
    assert (report["ok"], report["versions"], report["problems"]) == (True, 3, [])
    assert state(store, "verify").stdout.startswith("all is well: 3 versions, ")


def _damage(place):
    """Change one letter of a state, wherever a store has it."""
    for path in filter(os.path.isfile, place.rglob("*")):
        data = path.read_bytes()
        if b"needle" in data:
            path.write_bytes(data.replace(b"needle", b"noodle"))


def test_verify_of_a_damaged_store(store, tmp_path):
    """Status 1, and a line for each problem with the versions that it hits."""
    _damage(tmp_path)
    report = as_json(store, "verify", status=1)
    assert report["ok"] is False
    assert {"module_id": "a/n", "version": "1"} in [
        hit for problem in report["problems"] for hit in problem["affected"]
    ]
    told = state(store, "verify")
    assert told.returncode == 1
    assert "a/n@1" in told.stdout
    assert "damaged" in told.stdout
    shown = state(store, "show", "a/n")
    assert (shown.returncode, shown.stdout) == (2, "")


def test_gc(store):
    """Versions that need not be kept are deleted, then their chunks; others stay."""
    with StateManager(store) as states:
        for x in range(5):
            states.save_state("a/m", {"x": x, "more": "x" * 1000})
    assert as_json(store, "gc") == {"versions": 0, "chunks": 0}
    assert as_json(store, "gc", "--keep-last", "1", "--keep-for", "30d") == {"versions": 0, "chunks": 0}
    done = as_json(store, "gc", "--keep-last", "2")
    assert done["versions"] == 4
    assert done["chunks"] > 0
    assert [version["id"] for version in as_json(store, "log", "a/m")["versions"]] == ["7", "6", "1"]
    assert as_json(store, "verify")["ok"]


def test_gc_forgets_events(store):
    """Events up to a revision are forgotten: watching from before is refused."""
    newest = as_json(store, "ls", "a/n")[0]["newest"]["revision"]
    assert state(store, "gc", "--forget-before", newest).returncode == 0
    refused = state(store, "watch", "--since", "0", "--timeout", "0")
    assert refused.returncode == 2
    assert "are forgotten" in refused.stderr


def test_sync(store, tmp_path):
    """Versions are pushed to a new store, pulled from it, and both."""
    other = f"sqlite:///{tmp_path}/other.db"
    pushed = as_json(store, "sync", other, "--pattern", "a/m")
    assert pushed == {"versions": 2, "moved": [{"module_id": "a/m", "branch": "main"}], "merged": []}
    with StateManager(other) as states:
        states.save_state("a/m", {"x": 3, "y": 1})
    assert as_json(store, "sync", other, "--direction", "pull")["versions"] == 1
    assert loaded(store) == {"x": 3, "y": 1}
    told = state(store, "sync", other, "--direction", "both")
    assert told.stdout == "1 version brought, 1 head moved on\n"
    assert loaded(other, "a/n") == {"z": "needle"}


def test_sync_of_heads_that_went_apart(store, tmp_path):
    """Status 1 unless a resolver is named that joins them."""
    other = f"sqlite:///{tmp_path}/other.db"
    state(store, "sync", other)
    with StateManager(store) as here, StateManager(other) as there:
        here.save_state("a/m", {"x": 3, "y": 1})
        there.save_state("a/m", {"x": 2, "y": 4})
    refused = as_json(store, "sync", other, status=1)
    assert refused["merged"] is False
    assert "a/m" in refused["conflict"]
    joined = as_json(store, "sync", other, "--resolver", "merge")
    assert joined["merged"] == [{"module_id": "a/m", "branch": "main"}]
    assert loaded(other) == {"x": 3, "y": 4}


def test_export_and_import(store, tmp_path):
    """A file carries modules into a store that is made for it."""
    exported = as_json(store, "export", tmp_path / "bundle", "a/m")
    assert exported["modules"] == ["a/m"]
    assert exported["bytes"] == (tmp_path / "bundle").stat().st_size
    new = f"file:///{tmp_path}/new"
    assert as_json(new, "import", tmp_path / "bundle")["versions"] == 2
    assert loaded(new) == {"x": 2, "y": 1}
    assert state(new, "import", tmp_path / "bundle").stdout == "0 versions brought, 0 heads moved on\n"


@pytest.mark.parametrize("store", ["sqlite"], indirect=True)
@pytest.mark.parametrize(
    ("command", "shown"),
    [
        (["verify"], [b"verifying", b"records and chunks"]),
        (["gc"], [b"collecting", b"3 versions and chunks"]),
        (["sync", "memory://"], [b"syncing", b"3 versions"]),
        (["export", "bundle"], [b"exporting", b"3 versions"]),
    ],
)
def test_progress_at_a_terminal(store, tmp_path, command, shown):
    """At a terminal a bar counts what was done; the report goes to stdout whole."""
    host, terminal = pty.openpty()
    environment = ENVIRONMENT | {"TERM": "xterm"}
    process = subprocess.Popen(
        [*DSPEX, "state", "--store", store, *command, "--json"],
        env=environment,
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=terminal,
    )
    os.close(terminal)
    drawn = b""
    try:
        while data := os.read(host, 4096):
            drawn += data
    except OSError:  # Linux says so when the other end of a terminal is closed
        pass
    os.close(host)
    report, _ = process.communicate(timeout=60)
    assert process.returncode == 0
    assert all(words in drawn for words in shown)
    assert json.loads(report)
