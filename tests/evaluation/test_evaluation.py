import gzip
import itertools
import json
import math
import os
import resource
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from command import PROBLEMS, SAMPLES
from dspex import CodeExecutor, ResourceLimits
from dspex.errors import UsageError
from dspex.evaluation import (
    Problem,
    Problems,
    Sample,
    Score,
    Verdict,
    canonical_samples,
    evaluate,
    judge,
    pass_at_k,
    read_problems,
    read_samples,
)
from dspex.evaluation._results import ResultsFile

PROBLEM = {
    "task_id": "T/0",
    "prompt": "def double(n):\n",
    "entry_point": "double",
    "canonical_solution": "    return n * 2\n",
    "test": "def check(candidate):\n    assert candidate(2) == 4, 'two'\n",
}
SAMPLE = {"task_id": "T/0", "completion": "    return n + n\n"}
KNOWN = Problems({"T/0": Problem("T/0", PROBLEM["prompt"], "double", PROBLEM["test"])}, "digest")


def _lines(*objects):
    return b"".join(json.dumps(each).encode() + b"\n" for each in objects)


def _without(fields, name):
    return {key: value for key, value in fields.items() if key != name}


@pytest.fixture
def file(tmp_path):
    """A file of these bytes."""

    def write(data, name="input.jsonl"):
        path = tmp_path / name
        path.write_bytes(data)
        return path

    return write


@pytest.fixture(scope="module")
def executor():
    with CodeExecutor(limits=ResourceLimits(wall="1s", cpu="1s", memory="1GiB"), max_concurrency=2) as executor:
        yield executor


# --- Reading ----------------------------------------------------------------------------------------------------------


def test_a_problem_needs_no_reference_solution(file):
    """Without canonical_solution, or with null, a problem has none; further fields are ignored."""
    bare = _without(PROBLEM, "canonical_solution") | {"extra": [1]}
    nulled = PROBLEM | {"task_id": "T/1", "canonical_solution": None}
    problems = read_problems(file(_lines(bare, nulled))).by_task
    assert [problem.canonical_solution for problem in problems.values()] == [None, None]


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"\n  \n", ": there is no problem"),
        (_lines(PROBLEM) + b"{torn\n", ":2: this line is no JSON"),
        (b'\n{"task_id": "caf\xe9"}\n', ":2: byte 17 (0xe9) is not UTF-8"),
        (_lines(PROBLEM | {"prompt": 3}), ":1: the field 'prompt' is a int; it must be a text"),
        (_lines(PROBLEM | {"canonical_solution": []}), ":1: the field 'canonical_solution' is a list"),
        *((_lines(_without(PROBLEM, name)), f":1: the field {name!r} is missing")
          for name in ("task_id", "prompt", "entry_point", "test")),
        (gzip.compress(_lines(PROBLEM))[:-9], ": the gzip file ends too early"),
        (b"\x1f\x8bthis is no gzip", ": Unknown compression method"),
    ],
)  # fmt: skip
def test_a_wrong_file_of_problems_is_named_with_its_line(file, data, words):
    """Whatever is wrong with a file of problems is a `UsageError` with file, line and reason."""
    path = file(data)
    with pytest.raises(UsageError) as caught:
        read_problems(path)
    assert str(caught.value).startswith(f"{path}{words}")


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (_lines(SAMPLE) + b"nonsense\n", ":2: this line is no JSON"),
        (_lines(SAMPLE, SAMPLE, {"task_id": "T/0"}), ":3: the field 'completion' is missing"),
        (_lines({"completion": ""}), ":1: the field 'task_id' is missing"),
        (_lines(SAMPLE | {"completion": None}), ":1: the field 'completion' is a NoneType"),
        (_lines(SAMPLE | {"task_id": "T/9"}), ":1: the task 'T/9' is not among the 1 problems"),
        (_lines(SAMPLE)[:-2] + b"\xff}\n", ":1: byte "),
        (gzip.compress(_lines(SAMPLE))[:-9], ": the gzip file ends too early"),
    ],
)
def test_a_wrong_file_of_samples_is_named_with_its_line(file, data, words):
    """Whatever is wrong with a file of samples is a `UsageError` with file, line and reason."""
    path = file(data)
    with pytest.raises(UsageError) as caught:
        list(read_samples(path, KNOWN))
    assert str(caught.value).startswith(f"{path}{words}")


@pytest.mark.parametrize("name", ["problems.jsonl", "problems.jsonl.gz", "problems"])
def test_gzip_is_known_by_its_content(file, name):
    """Packed or not, whatever its name, a file is read alike and has the same digest."""
    data = _lines(PROBLEM)
    packed, plain = file(gzip.compress(data), name), file(data, f"plain-{name}")
    assert read_problems(packed) == read_problems(plain)


def test_samples_keep_all_their_fields(file):
    """A sample remembers its whole object and its place; blank lines count as lines and nothing else."""
    given = SAMPLE | {"model": "m", "score": [1.5, None]}
    path = file(b"\n" + _lines(given))
    assert list(read_samples(path, KNOWN)) == [Sample("T/0", SAMPLE["completion"], given, f"{path}:2")]


def test_samples_are_read_one_at_a_time(file):
    """Samples before a wrong line are had before the line is looked at."""
    stream = read_samples(file(_lines(SAMPLE, SAMPLE) + b"wrong\n"), KNOWN)
    assert [next(stream).task_id, next(stream).task_id] == ["T/0", "T/0"]
    with pytest.raises(UsageError, match=r":3: "):
        next(stream)


def test_reference_solutions_are_missed_before_the_first_is_given(file):
    """A problem without a reference solution is told of before any other solution is judged."""
    problems = read_problems(file(_lines(PROBLEM, _without(PROBLEM, "canonical_solution") | {"task_id": "T/1"})))
    with pytest.raises(UsageError, match=r"'T/1' has no canonical_solution"):
        next(canonical_samples(problems))


# --- pass@k -----------------------------------------------------------------------------------------------------------


def _exact(samples, correct, k):
    return 1 - Fraction(math.comb(samples - correct, k), math.comb(samples, k))


def test_pass_at_k_is_the_exact_fraction_rounded_once():
    """For all n up to 24, all c and k, pass@k is the float nearest to the exact value."""
    for samples in range(1, 25):
        for correct, k in itertools.product(range(samples + 1), range(1, samples + 1)):
            assert pass_at_k(samples, correct, k) == float(_exact(samples, correct, k)), (samples, correct, k)


@given(st.data())
def test_pass_at_k_of_any_size(data):
    """With thousands of samples it stays exact, lies in 0 to 1, and grows with c."""
    samples = data.draw(st.integers(1, 3000))
    correct, k = data.draw(st.integers(0, samples)), data.draw(st.integers(1, samples))
    found = pass_at_k(samples, correct, k)
    assert found == float(_exact(samples, correct, k))
    assert 0.0 <= found <= 1.0
    assert correct == samples or found <= pass_at_k(samples, correct + 1, k)


def test_a_score_of_nothing():
    """Without verdicts there is no estimate."""
    with pytest.raises(UsageError, match="no samples"):
        Score().pass_at(1)


# --- Judging ----------------------------------------------------------------------------------------------------------


def _judged(executor, *completions, problems=KNOWN):
    samples = [Sample("T/0", text, {"task_id": "T/0", "completion": text}, "") for text in completions]
    return [verdict.result for verdict in judge(executor, problems, samples)]


def test_the_shipped_samples(executor):
    """25 of the 40 shipped samples pass, one is endless, the one that leaves early has failed."""
    problems = read_problems(PROBLEMS)
    assert len(problems.by_task) == 20
    verdicts = list(judge(executor, problems, read_samples(SAMPLES, problems)))
    results = [verdict.result for verdict in verdicts]
    assert (len(results), results.count("passed"), results.count("timed out")) == (40, 25, 1)
    early = [verdict for verdict in verdicts if "sys.exit(0)" in verdict.sample.completion]
    assert [verdict.result for verdict in early] == ["failed: the program ended before its tests did"]


def test_verdicts_in_order_with_their_reason(executor):
    """A verdict is "passed", "timed out", or "failed: " with the message of what was raised, in the samples' order."""
    assert _judged(
        executor,
        "    return n * 2\n",
        "    return n\n",
        "    raise KeyError('k')\n",
        "    while True: pass\n",
        "    return (\n",
        "    return n * 2\n",
    )[:4] == ["passed", "failed: two", "failed: 'k'", "timed out"]


@pytest.mark.parametrize(
    "completion",
    [
        "    import sys; sys.exit(0)\n",
        "    import os; os._exit(0)\n",
        "    raise SystemExit\n",
        "    import os, signal; os.kill(os.getpid(), signal.SIGKILL)\n",
        "    raise KeyboardInterrupt\n",
        "    return n * 2\nimport sys; sys.exit()\n",
        "    return n * 2\ndef check(: pass\n",
        "    '\x00'\n",
        "    '\ud800'; 1/0\n",
        "    return [0] * 10**12\n",
    ],
)
def test_a_program_that_does_not_reach_its_end_has_failed(executor, completion):
    """However a program ends before its tests do, it has failed, and the next one is judged rightly."""
    failed, passed = _judged(executor, completion, "    return n * 2\n")
    assert failed.startswith("failed: ")
    assert passed == "passed"


def test_output_is_no_failure(executor):
    """A completion may print, on both streams."""
    assert _judged(executor, "    import sys; print(n); print(n, file=sys.stderr)\n    return n * 2\n") == ["passed"]


def test_programs_do_not_see_each_other(executor):
    """Nothing that one sample leaves behind is there for the next."""
    leave = "    import builtins, math; builtins.left = math.left = 1\n    return 0\n"
    look = "    import builtins, math\n    return 0 if hasattr(builtins, 'left') or hasattr(math, 'left') else 4\n"
    assert _judged(executor, *[leave, look] * 4)[1::2] == ["passed"] * 4


def test_judging_streams(executor):
    """Samples are drawn as they are needed: an endless supply of them gives verdicts at once."""
    drawn = itertools.count()
    supply = (Sample("T/0", "    return n * 2\n", {}, str(next(drawn))) for _ in itertools.repeat(None))
    verdicts = judge(executor, KNOWN, supply)
    assert [next(verdicts).sample.place for _ in range(5)] == ["0", "1", "2", "3", "4"]
    verdicts.close()
    assert next(drawn) < 200


def test_a_wrong_sample_is_raised_where_it_stands(executor, file):
    """An error of the samples' reader comes out of `judge`, and the executor lives on."""
    samples = read_samples(file(_lines(SAMPLE) + b"wrong\n"), KNOWN)
    with pytest.raises(UsageError, match=r":2: "):
        list(judge(executor, KNOWN, samples))
    assert executor.execute("1 + 1").value == 2


def test_a_timeout_of_its_own(executor):
    """`timeout` is in seconds, for each program."""
    sample = Sample("T/0", "    import time; time.sleep(30)\n", {}, "")
    assert [verdict.result for verdict in judge(executor, KNOWN, [sample], timeout=0.2)] == ["timed out"]


def test_a_line_of_the_results_file():
    """A verdict as data is the sample's object with result and passed behind it."""
    verdict = Verdict(Sample("T/0", "x", {"task_id": "T/0", "completion": "x", "n": 1}, ""), "failed: no")
    assert list(verdict.to_dict().items()) == [
        ("task_id", "T/0"),
        ("completion", "x"),
        ("n", 1),
        ("result", "failed: no"),
        ("passed", False),
    ]


# --- Whole files ------------------------------------------------------------------------------------------------------


def test_evaluate_reports(file, tmp_path):
    """One call judges a file, counts, estimates, and tells its progress up to the end."""
    samples = file(_lines(SAMPLE, SAMPLE | {"completion": "    return 0\n"}), "samples.jsonl")
    seen = []
    report = evaluate(samples, file(_lines(PROBLEM)), k=[1, 2, 3], progress=lambda *numbers: seen.append(numbers))
    assert (report.tasks, report.samples, report.passed, report.failed, report.timed_out) == (1, 2, 1, 1, 0)
    assert (report.pass_at, report.left_out) == ({1: 0.5, 2: 1.0}, {3: "T/0 has 2 samples"})
    assert (report.results, report.resumed) == (f"{samples}_results.jsonl", 0)
    assert seen == [(0, 0, 2), (1, 1, 2), (2, 1, 2)]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"k": []}, "k is"),
        ({"k": [0]}, "k is"),
        ({"timeout": 0}, "out of range"),
        ({"timeout": -1}, "out of range"),
        ({"timeout": math.nan}, "wall"),
        ({"concurrency": 0}, "concurrency"),
    ],
)
def test_wrong_arguments_write_nothing(file, tmp_path, arguments, words):
    """Arguments that cannot be are refused before a results file is begun."""
    samples, problems = file(_lines(SAMPLE), "samples.jsonl"), file(_lines(PROBLEM))
    with pytest.raises(UsageError, match=words):
        evaluate(samples, problems, **arguments)
    assert sorted(os.listdir(tmp_path)) == ["input.jsonl", "samples.jsonl"]


@pytest.mark.parametrize("which", ["samples.jsonl", "input.jsonl"])
def test_results_never_overwrite_an_input(file, which, tmp_path):
    """An `out` that is one of the inputs, by whatever name, is refused."""
    samples, problems = file(_lines(SAMPLE), "samples.jsonl"), file(_lines(PROBLEM))
    (tmp_path / "link").symlink_to(tmp_path / which)
    with pytest.raises(UsageError, match="would overwrite an input"):
        evaluate(samples, problems, out=tmp_path / "link")
    assert (samples.read_bytes(), problems.read_bytes()) == (_lines(SAMPLE), _lines(PROBLEM))


@settings(deadline=None)
@given(st.integers(0, 400))
def test_a_file_cut_anywhere_keeps_its_whole_lines(tmp_path_factory, cut):
    """After a cut at any byte all whole lines are kept, and what is behind them is gone."""
    path = tmp_path_factory.mktemp("results") / "results"
    lines = [_lines({"task_id": f"T/{n}", "completion": "\n", "result": "passed", "passed": True}) for n in range(5)]
    with ResultsFile(path, {}):
        path.write_bytes(b"".join(lines)[:cut])
    with ResultsFile(path, {}) as results:
        kept = list(results.kept())
    whole = [line for n, line in enumerate(lines) if len(b"".join(lines[: n + 1])) <= cut]
    assert _lines(*kept) == b"".join(whole) == path.read_bytes()


def test_results_of_an_input_that_is_no_more(tmp_path):
    """Results made under an input that is not known any more are refused with its name."""
    with ResultsFile(tmp_path / "results", {"samples": "a", "old": 1}) as results:
        results.add(Verdict(Sample("T/0", "", {"task_id": "T/0"}, ""), "passed"))
    with pytest.raises(UsageError, match="are of old 1, not None; name another file"):
        ResultsFile(tmp_path / "results", {"samples": "a"})


def test_a_full_disk_is_told_and_gone_on_from(tmp_path):
    """A verdict that finds no room is an error that names the file; with room again, the whole lines are there."""
    path = tmp_path / "results"
    verdicts = [
        Verdict(Sample(f"T/{n}", "", {"task_id": f"T/{n}", "completion": "x" * 600}, ""), "passed") for n in (0, 1)
    ]
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    with ResultsFile(path, {}) as results:
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
        try:
            results.add(verdicts[0])
            with pytest.raises(UsageError, match=r"results: File too large; the same call goes on"):
                results.add(verdicts[1])
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert path.stat().st_size == 1000
    with ResultsFile(path, {}) as results:
        assert [fields["task_id"] for fields in results.kept()] == ["T/0"]
        results.add(verdicts[1])
    assert path.read_bytes() == _lines(*(verdict.to_dict() for verdict in verdicts))
