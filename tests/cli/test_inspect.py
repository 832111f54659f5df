"""`dspex inspect`: state files and importable programs."""

import json

import pytest

from command import dspex
from programs import Answer, with_demos

PROGRAM = """
import dspex

class Program(dspex.Module):
    def __init__(self):
        self.search = dspex.Predictor("question -> query")
        self.again = {"same": self.search}

program = Program()
number = 5
"""


@pytest.fixture
def folder(tmp_path):
    """A folder with a program and its state."""
    (tmp_path / "shop.py").write_text(PROGRAM)
    with_demos(Answer()).save(tmp_path / "state.msgpack.gz")
    with_demos(Answer()).save(tmp_path / "dspys.json", format="dspy")
    return tmp_path


@pytest.mark.parametrize("name", ["state.msgpack.gz", "dspys.json"])
def test_a_state_file_is_shown(folder, name):
    """Its parameters by path, whatever its format."""
    done = dspex("inspect", folder / name)
    assert done.returncode == 0, done.stderr
    assert "steps['main'][0]" in done.stdout
    assert "demos: list of 2" in done.stdout


def test_a_state_file_as_json(folder):
    """The same as data, with what is said about the state."""
    done = dspex("inspect", folder / "state.msgpack.gz", "--json")
    shown = json.loads(done.stdout)
    assert shown["about"]["module"] == "programs:Answer"
    assert [parameter["path"] for parameter in shown["parameters"]] == ["search", "steps['main'][0]"]


@pytest.mark.parametrize("name", ["shop:program", "shop:Program"])
def test_a_program_is_drawn(folder, name):
    """An object, or a class that is made without arguments."""
    done = dspex("inspect", name, cwd=folder)
    assert done.stdout.splitlines()[0] == "self: Program"
    assert "search: Predictor (question -> query, 0 demos)" in done.stdout
    assert "shared: search" in done.stdout


def test_a_program_as_json(folder):
    """Line by line, as data."""
    lines = json.loads(dspex("inspect", "shop:program", "--json", cwd=folder).stdout)["tree"]
    assert [(line["path"], line["kind"]) for line in lines] == [
        ("self", "module"),
        ("search", "parameter"),
        ("again", "container"),
        ("again['same']", "parameter"),
    ]


@pytest.mark.parametrize("what", ["missing.json", "shop.py", "no_such:thing", "shop:missing", "shop:number", "."])
def test_what_cannot_be_shown_is_named(folder, what):
    """Exit code 2 and one line that says why."""
    done = dspex("inspect", what, cwd=folder)
    assert done.returncode == 2
    assert done.stderr.startswith("dspex: ")
    assert what.partition(":")[0] in done.stderr
    assert "Traceback" not in done.stderr
