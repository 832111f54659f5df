import json

import pytest

from command import PROBLEMS, SAMPLES
from dspex.errors import UsageError
from dspex.evaluation import evaluate

_LINE = '{"task_id": "Example/0", "completion": "    return numbers\\n"}\n'


@pytest.fixture
def samples(tmp_path):
    path = tmp_path / "samples.jsonl"
    path.write_text(_LINE * 3)
    return path


def test_the_report():
    """Reference solutions are judged without a results file, and every step is told."""
    steps = []
    report = evaluate(None, PROBLEMS, k=[1], progress=lambda *step: steps.append(step))
    assert (report.samples, report.passed, report.pass_at, report.results) == (20, 20, {1: 1.0}, None)
    assert steps == [(n, n, 20) for n in range(21)]


def test_a_finished_call_judges_nothing_again(samples):
    """A second call with the same inputs takes all verdicts from the results file."""
    first = evaluate(samples, PROBLEMS, k=[1, 3], ignore_incomplete=True)
    written = (samples.parent / "samples.jsonl_results.jsonl").read_bytes()
    second = evaluate(samples, PROBLEMS, k=[1, 3], ignore_incomplete=True)
    assert (first.resumed, second.resumed) == (0, 3)
    assert first._replace(resumed=3) == second
    assert (samples.parent / "samples.jsonl_results.jsonl").read_bytes() == written


def test_failed_reference_solutions_are_remembered(tmp_path):
    """A reference solution that failed in an earlier, stopped call is still told of."""
    lines = [json.loads(line) for line in PROBLEMS.read_text().splitlines()[:2]]
    lines[0]["canonical_solution"] = "    pass\n"
    (tmp_path / "p").write_text("".join(json.dumps(line) + "\n" for line in lines))
    for resumed in (0, 2):
        report = evaluate(None, tmp_path / "p", out=tmp_path / "r")
        assert report.resumed == resumed
        assert [verdict.sample.task_id for verdict in report.failures] == ["Example/0"]


def test_lines_of_other_tasks_are_refused(samples):
    """A results file whose lines are not those of the samples is refused, whatever its progress file says."""
    evaluate(samples, PROBLEMS, ignore_incomplete=True)
    results = samples.parent / "samples.jsonl_results.jsonl"
    results.write_text(results.read_text().replace("Example/0", "Example/1"))
    with pytest.raises(UsageError, match="line 1 is not of these samples"):
        evaluate(samples, PROBLEMS, ignore_incomplete=True)


def test_another_timeout_is_another_result(samples):
    """Results with one timeout are not gone on with under another."""
    evaluate(samples, PROBLEMS, ignore_incomplete=True)
    with pytest.raises(UsageError, match=r"timeout 3\.0, not 4\.0"):
        evaluate(samples, PROBLEMS, ignore_incomplete=True, timeout=4)
    assert evaluate(samples, PROBLEMS, ignore_incomplete=True, timeout=4, resume=False).resumed == 0


def test_a_malformed_line_is_found_before_any_program_runs(samples):
    """The whole file is checked first: nothing is judged or written when its last line is wrong."""
    samples.write_text(_LINE + '{"task_id": "Example/0"}\n')
    with pytest.raises(UsageError, match=r"samples.jsonl:2: the field 'completion' is missing"):
        evaluate(samples, PROBLEMS, ignore_incomplete=True)
    assert [path.name for path in samples.parent.iterdir()] == ["samples.jsonl"]


def test_samples_that_change_meanwhile(samples):
    """A file that is shorter when it is judged than when it was checked is no result."""

    def shorten(judged, passed, total):
        samples.write_text("")

    samples.write_text(_LINE * 3 + " " * 300_000 + "\n" + _LINE)
    with pytest.raises(UsageError, match="changed while it was judged"):
        evaluate(samples, PROBLEMS, ignore_incomplete=True, progress=shorten)


def test_an_input_is_never_overwritten(samples):
    """The results file may be neither the samples nor the problems."""
    for path in (samples, PROBLEMS):
        with pytest.raises(UsageError, match="would overwrite an input"):
            evaluate(samples, PROBLEMS, ignore_incomplete=True, out=path, resume=False)
    assert samples.read_text() == _LINE * 3


@pytest.mark.parametrize("k", [(), (0,), ("1",)])
def test_a_k_that_makes_no_sense(k):
    """k is checked before anything is read."""
    with pytest.raises(UsageError, match="whole numbers of at least 1"):
        evaluate(SAMPLES, PROBLEMS, k=k)
