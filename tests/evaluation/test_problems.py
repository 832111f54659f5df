import json

import pytest

from command import PROBLEMS
from dspex.errors import UsageError
from dspex.evaluation import canonical_samples, read_problems

_PROBLEM = {"task_id": "T/0", "prompt": "def f():\n", "entry_point": "f", "test": "def check(f): pass"}


def _write(path, *objects):
    path.write_text("".join(json.dumps(fields) + "\n" for fields in objects))
    return path


def test_the_examples():
    """The example problems are 20, in their order."""
    problems = read_problems(PROBLEMS)
    assert list(problems.by_task) == [f"Example/{n}" for n in range(20)]
    assert len(problems.digest) == 64


def test_the_program(tmp_path):
    """A program is prompt, completion, test and the call of check, as HumanEval's tool puts them together."""
    problem = read_problems(_write(tmp_path / "p", _PROBLEM)).by_task["T/0"]
    assert problem.program("    return 1\n") == "def f():\n    return 1\n\ndef check(f): pass\ncheck(f)"


def test_a_task_that_is_there_twice(tmp_path):
    """A repeated task is refused with the place."""
    with pytest.raises(UsageError, match=r"p:2: the task 'T/0' is in this file twice"):
        read_problems(_write(tmp_path / "p", _PROBLEM, _PROBLEM))


def test_no_problem(tmp_path):
    """An empty file of problems is refused."""
    with pytest.raises(UsageError, match="there is no problem"):
        read_problems(_write(tmp_path / "p"))


def test_a_problem_without_a_solution(tmp_path):
    """A reference solution is only needed where the reference solutions are judged."""
    problems = read_problems(_write(tmp_path / "p", _PROBLEM))
    assert problems.by_task["T/0"].canonical_solution is None
    with pytest.raises(UsageError, match="'T/0' has no canonical_solution"):
        list(canonical_samples(problems))
