"""Problems in other languages than Python, in the same file format."""

import json

import pytest

from dspex.errors import UsageError
from dspex.evaluation import evaluate

PROBLEMS = [
    {
        "task_id": "JavaScript/0",
        "language": "javascript",
        "prompt": "// Twice as much.\nconst double = (n) => {\n",
        "entry_point": "double",
        "canonical_solution": "  return 2 * n\n}",
        "test": "const check = (f) => {\n  console.assert(f(2) === 4, 'two')\n  console.assert(f(-1) === -2, 'minus one')\n}",
    },
    {
        "task_id": "Elixir/0",
        "language": "elixir",
        "prompt": "defmodule Numbers do\n  def double(n) do\n",
        "entry_point": "&Numbers.double/1",
        "canonical_solution": "    2 * n\n  end\nend",
        "test": "check = fn f ->\n  true = f.(2) == 4\n  true = f.(-1) == -2\nend",
    },
    {
        "task_id": "Rust/0",
        "language": "rust",
        "prompt": "fn double(n: i64) -> i64 {\n",
        "entry_point": "double",
        "canonical_solution": "    2 * n\n}",
        "test": "fn check(f: fn(i64) -> i64) {\n    assert_eq!(f(2), 4);\n    assert_eq!(f(-1), -2);\n}",
    },
]
WRONG = {
    "JavaScript/0": "  return n + 2\n}",
    "Elixir/0": "    n + 2\n  end\nend",
    "Rust/0": "    n + 2\n}",
}


def write(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.fixture
def problems(tmp_path):
    return write(tmp_path / "problems.jsonl", PROBLEMS)


def test_reference_solutions_pass(problems):
    """In every language, in one file."""
    report = evaluate(None, problems, k=[1], timeout=20.0)
    assert (report.samples, report.passed, report.failures) == (3, 3, ())


def test_wrong_ones_and_endless_ones_do_not(problems, tmp_path):
    """An assertion that fails is a failure, a loop a timeout."""
    rows = [{"task_id": task, "completion": completion} for task, completion in WRONG.items()]
    rows.append({"task_id": "JavaScript/0", "completion": "  for (;;) {}\n}"})
    report = evaluate(write(tmp_path / "samples.jsonl", rows), problems, k=[1], timeout=5.0)
    assert (report.passed, report.failed, report.timed_out) == (0, 3, 1)


def test_unknown_languages_are_refused(tmp_path):
    """Before anything runs, with the line."""
    path = write(tmp_path / "problems.jsonl", [{**PROBLEMS[0], "language": "cobol"}])
    with pytest.raises(UsageError, match=":1: language is 'cobol'; known are python"):
        evaluate(None, path, k=[1])
