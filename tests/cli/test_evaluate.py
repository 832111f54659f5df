import gzip
import json
import os
import shutil
import signal
import subprocess
import time

import pytest

from command import DSPEX, ENVIRONMENT, PROBLEMS, SAMPLES, dspex
from dspex.evaluation import read_problems


def _lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.fixture
def samples(tmp_path):
    return shutil.copy(SAMPLES, tmp_path / "samples.jsonl")


def test_the_examples(samples):
    """The example samples come to 25 of 40, one of them endless, pass@1 0.625 and pass@2 0.8."""
    done = dspex("eval", samples, "--problems", PROBLEMS, "-k", "1,2,10", "--timeout", "2")
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        "40 samples of 20 problems: 25 passed, 14 failed, 1 timed out",
        "  pass@1    0.6250",
        "  pass@2    0.8000",
        "  pass@10   left out: Example/0 has 2 samples",
        f"results: {samples}_results.jsonl",
    ]


def test_the_results_file(samples):
    """Every sample has its line, in order, with all its fields and result and passed behind them."""
    assert dspex("eval", samples, "--problems", PROBLEMS, "--timeout", "2").returncode == 0
    given, found = _lines(samples), _lines(samples.with_name("samples.jsonl_results.jsonl"))
    assert [
        {**line, "result": r["result"], "passed": r["passed"]} for line, r in zip(given, found, strict=True)
    ] == found
    assert list(found[0]) == ["task_id", "completion", "result", "passed"]
    assert {r["task_id"]: r["result"] for r in found if not r["passed"]}["Example/2"] == "timed out"
    assert {r["result"] for r in found if r["passed"]} == {"passed"}
    assert "failed: division by zero" in {r["result"] for r in found}


def test_json(samples, tmp_path):
    """--json prints the report as data, and nothing else on stdout; --out names the results file."""
    out = tmp_path / "out.jsonl"
    done = dspex("eval", samples, "--problems", PROBLEMS, "-k", "1,100", "--timeout", "2", "--json", "--out", out)
    report = json.loads(done.stdout)
    assert report["pass@k"] == {"pass@1": 0.625}
    assert report["left_out"] == {"pass@100": "Example/0 has 2 samples"}
    assert (report["passed"], report["failed"], report["timed_out"], report["resumed"]) == (25, 14, 1, 0)
    assert report["results"] == str(out)
    assert len(_lines(out)) == 40


def test_the_reference_solutions(tmp_path):
    """--canonical passes all 20 reference solutions, from gzip under any name, and leaves no file behind."""
    packed = tmp_path / "problems.data"
    packed.write_bytes(gzip.compress(PROBLEMS.read_bytes()))
    done = dspex("eval", "--canonical", "--problems", packed, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (0, "20 reference solutions of 20 problems: 20 passed\n")
    assert os.listdir(tmp_path) == ["problems.data"]


def test_a_reference_solution_that_fails(tmp_path):
    """--canonical names the ones that fail and exits with 1."""
    lines = _lines(PROBLEMS)
    lines[3]["canonical_solution"] = "    return None\n"
    wrong = tmp_path / "problems.jsonl"
    wrong.write_text("".join(json.dumps(line) + "\n" for line in lines))
    done = dspex("eval", "--canonical", "--problems", wrong)
    assert done.returncode == 1
    assert done.stdout.splitlines()[1:] == ["  Example/3: failed: "]


def test_stopped_and_gone_on_with(tmp_path):
    """Ctrl-C leaves whole lines and status 130; the same command goes on; other samples are refused."""
    task = next(iter(read_problems(PROBLEMS).by_task))
    slow = "    import time\n    time.sleep(0.2)\n    return 0\n"
    samples = tmp_path / "slow.jsonl"
    lines = [json.dumps({"task_id": task, "completion": slow, "n": n}) + "\n" for n in range(30)]
    samples.write_text("".join(lines))
    command = ("eval", samples, "--problems", PROBLEMS, "--ignore-incomplete", "-k", "1", "--jobs", "2")
    results = tmp_path / "slow.jsonl_results.jsonl"
    process = subprocess.Popen(
        [*DSPEX, *map(str, command)], env=ENVIRONMENT, stderr=subprocess.PIPE, start_new_session=True
    )
    while not results.exists() or results.read_bytes().count(b"\n") < 3:
        assert process.poll() is None
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does: to all of its processes
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert b"the same command goes on from there" in errors
    kept = len(_lines(results))
    assert 3 <= kept < 30

    with results.open("ab") as file:
        file.write(b'{"task_id": "Exam')  # torn, as by a kill in the middle of a write
    done = dspex(*command, "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["resumed"] == kept
    assert [line["n"] for line in _lines(results)] == list(range(30))

    samples.write_text("".join(lines[:-1]))
    refused = dspex(*command)
    assert refused.returncode == 2
    assert "of other samples" in refused.stderr
    assert "--no-resume" in refused.stderr
    assert len(_lines(results)) == 30


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((), "--problems is missing"),
        (("--problems", PROBLEMS), "either a file of SAMPLES, or --canonical"),
        ((SAMPLES, "--canonical", "--problems", PROBLEMS), "either a file of SAMPLES, or --canonical"),
        (("missing.jsonl", "--problems", PROBLEMS), "missing.jsonl: No such file"),
        (("--canonical", "--problems", "missing.jsonl"), "missing.jsonl: No such file"),
        ((SAMPLES, "--problems", PROBLEMS, "-k", "1,x"), "-k: 'x' is no whole number"),
        ((SAMPLES, "--problems", PROBLEMS, "-k", "0"), "-k: '0' is no whole number"),
        ((SAMPLES, "--problems", PROBLEMS, "--jobs", "-1"), "--jobs: '-1' is no whole number"),
        ((SAMPLES, "--problems", PROBLEMS, "--timeout", "never"), "--timeout: 'never' is not understood"),
        ((SAMPLES, "--problems", PROBLEMS, "--out", "/nowhere/out"), "/nowhere/out: No such file"),
        ((SAMPLES, "--problems", SAMPLES), "the field 'prompt' is missing"),
        ((SAMPLES, "--nonsense"), "--nonsense"),
    ],
)
def test_wrong_usage_exits_with_2(arguments, words, tmp_path):
    """Wrong usage is told in words that name it, without a traceback, and status 2; nothing is written."""
    done = dspex("eval", *arguments, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert words in done.stderr
    assert "Traceback" not in done.stderr
    assert not os.listdir(tmp_path)
