"""The examples of the README and the docs run as they are."""

from __future__ import annotations

import pathlib
import subprocess
import sys

import pytest

EXAMPLES = pathlib.Path(__file__).parent.parent / "examples"
SAID = {
    "tree_search.py": "64 branches",
    "approvals.py": "and no more",
    "preloaded.py": "a fresh program with pandas",
    "analyse_csv.py": "",
    "dspy_program_of_thought.py": "the wettest city is Bergen",
    "dspy_rlm.py": "the password is swordfish, in 1 line of 9,",
    "dspy_code_act.py": "to pay: 4.41",
    "dspy_versions.py": "restored: 0 demos",
    "dspy_evaluate.py": "score 80 of 100; 100 examples",
}


def test_every_example_is_run_here():
    """report.py is a program for `dspex run`, with a test of its own."""
    assert {path.name for path in EXAMPLES.glob("*.py")} == {*SAID, "report.py"}


@pytest.mark.parametrize("name", SAID)
def test_example(name, tmp_path):
    """It ends well and says what it shall."""
    if name.startswith("dspy_"):
        pytest.importorskip("dspy")
    done = subprocess.run(
        [sys.executable, EXAMPLES / name], capture_output=True, text=True, check=False, cwd=tmp_path, timeout=100
    )
    assert done.returncode == 0, done.stderr
    assert SAID[name] in done.stdout
