"""What stays of `dspex eval` when it is stopped, and what its users see meanwhile."""

import gzip
import json
import os
import pty
import subprocess
import time

import pytest

from command import DSPEX, ENVIRONMENT, PROBLEMS, dspex

_RIGHT = "    import time\n    time.sleep({})\n    return sum(c in 'aeiou' for c in text.lower())\n"


def _samples(count, seconds=0):
    """Samples of one task, every third of them wrong; each is told by its number."""
    wrong = "    return -1\n"
    completions = [wrong if n % 3 == 2 else _RIGHT.format(seconds) for n in range(count)]
    lines = [{"task_id": "Example/1", "completion": text, "n": n} for n, text in enumerate(completions)]
    return "".join(json.dumps(line) + "\n" for line in lines)


def _command(samples, *more):
    return ("eval", samples, "--problems", PROBLEMS, "--ignore-incomplete", "-k", "1", "--jobs", "2", *more)


@pytest.fixture
def samples(tmp_path):
    path = tmp_path / "samples.jsonl"
    path.write_text(_samples(12))
    return path


@pytest.fixture
def results(samples):
    """The results file of an uninterrupted call."""
    assert dspex(*_command(samples)).returncode == 0
    return samples.with_name("samples.jsonl_results.jsonl")


def test_a_finished_call_is_only_reported_again(samples, results):
    """The same command again says the same of all verdicts, takes them from the file and leaves it alone."""
    whole = results.read_bytes()
    report = json.loads(dspex(*_command(samples, "--json")).stdout)
    assert (report["samples"], report["passed"], report["resumed"]) == (12, 8, 12)
    assert results.read_bytes() == whole
    assert ", 12 lines of it from an earlier call" in dspex(*_command(samples)).stdout


@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 0.999])
def test_a_cut_file_becomes_what_it_would_have_been(samples, results, share):
    """After a cut anywhere in the results file the same command gives the same bytes as a call never stopped."""
    whole = results.read_bytes()
    results.write_bytes(whole[: int(len(whole) * share)])
    assert dspex(*_command(samples)).returncode == 0
    assert results.read_bytes() == whole


def test_a_killed_call_is_gone_on_with(tmp_path):
    """After kill -9 in the middle the same command comes to the verdicts of a call never stopped."""
    samples, whole = tmp_path / "slow.jsonl", tmp_path / "whole.jsonl"
    samples.write_text(_samples(24, 0.03))
    assert dspex(*_command(samples, "--out", whole)).returncode == 0
    results = tmp_path / "slow.jsonl_results.jsonl"
    process = subprocess.Popen([*DSPEX, *map(str, _command(samples))], env=ENVIRONMENT, stderr=subprocess.DEVNULL)
    while not results.exists() or results.read_bytes().count(b"\n") < 3:
        assert process.poll() is None
        time.sleep(0.02)
    process.kill()
    process.wait()
    kept = results.read_bytes().count(b"\n")
    assert kept < 24
    assert json.loads(dspex(*_command(samples, "--json")).stdout)["resumed"] == kept
    assert results.read_bytes() == whole.read_bytes()


def test_other_options_are_refused_until_it_is_begun_anew(samples, results):
    """Another timeout or memory is refused by name and changes nothing; --no-resume judges all anew."""
    whole = results.read_bytes()
    for option, value, words in [("--timeout", "4", "timeout 3.0, not 4.0"), ("--memory", "512MB", "memory")]:
        refused = dspex(*_command(samples, option, value))
        assert refused.returncode == 2
        assert words in refused.stderr
        assert results.read_bytes() == whole
    anew = dspex(*_command(samples, "--timeout", "4", "--no-resume", "--json"))
    assert json.loads(anew.stdout)["resumed"] == 0
    assert results.read_bytes() == whole


def test_packed_samples_have_the_results_of_plain_ones(samples, results):
    """Samples may be gzip under any name: the verdicts are the same, and count as those of the same samples."""
    packed = samples.with_name("packed")
    packed.write_bytes(gzip.compress(samples.read_bytes()))
    report = json.loads(dspex(*_command(packed, "--out", results, "--json")).stdout)
    assert report["resumed"] == 12


def test_the_reference_solutions_as_json():
    """--canonical --json has no results file, no failures, and pass@1 of 1."""
    report = json.loads(dspex("eval", "--canonical", "--problems", PROBLEMS, "-k", "1", "--json").stdout)
    assert (report["passed"], report["failures"], report["results"]) == (20, [], None)
    assert report["pass@k"] == {"pass@1": 1.0}


def test_progress_where_nobody_watches(samples):
    """Without a terminal progress is plain lines on stderr, apart from the report."""
    done = dspex(*_command(samples))
    assert done.stderr.startswith("dspex: 0 of 12 programs judged, 0 passed\n")
    assert "judged" not in done.stdout


def test_progress_at_a_terminal(samples):
    """At a terminal a bar shows how many were judged; the report goes to stdout whole."""
    host, terminal = pty.openpty()
    environment = ENVIRONMENT | {"TERM": "xterm"}
    command = [*DSPEX, *map(str, _command(samples))]
    process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=terminal)
    os.close(terminal)
    shown = b""
    try:
        while data := os.read(host, 4096):
            shown += data
    except OSError:  # Linux says so when the other end of a terminal is closed
        pass
    os.close(host)
    report, _ = process.communicate(timeout=60)
    assert process.returncode == 0
    assert b"judging" in shown
    assert b"12/12" in shown
    assert report.startswith(b"12 samples of 1 problems: 8 passed, 4 failed\n")
