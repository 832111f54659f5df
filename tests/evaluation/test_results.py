import json

import pytest

from dspex.errors import UsageError
from dspex.evaluation import Sample, Verdict
from dspex.evaluation._results import ResultsFile

_INPUTS = {"samples": "s1", "problems": "p1", "timeout": 3.0}


def _verdict(n, result="passed"):
    return Verdict(Sample(f"T/{n}", "x", {"task_id": f"T/{n}", "completion": "x"}, "s:1"), result)


def _write(path, count):
    with ResultsFile(path, _INPUTS) as results:
        for n in range(count):
            results.add(_verdict(n))


def test_a_verdict_is_in_the_file_at_once(tmp_path):
    """After `add` the whole line can be read by others."""
    with ResultsFile(tmp_path / "r", _INPUTS) as results:
        results.add(_verdict(0, "failed: é\ud800"))
        (line,) = (tmp_path / "r").read_text().splitlines()
    assert json.loads(line) == {
        "task_id": "T/0",
        "completion": "x",
        "result": "failed: é\ud800",
        "passed": False,
    }


@pytest.mark.parametrize("torn", ["", '{"task_id": "T/3"', '{"task_id": "T/3", "result": "passed"}', "\0\0\0\n", "7\n"])
def test_a_torn_last_line_is_cut_off(tmp_path, torn):
    """Whole lines are kept, what was torn is cut off, and the next verdict takes its place."""
    path = tmp_path / "r"
    _write(path, 3)
    with path.open("a") as file:
        file.write(torn)
    with ResultsFile(path, _INPUTS) as results:
        assert [fields["task_id"] for fields in results.kept()] == ["T/0", "T/1", "T/2"]
        results.add(_verdict(3))
    assert [json.loads(line)["task_id"] for line in path.read_text().splitlines()] == ["T/0", "T/1", "T/2", "T/3"]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"samples": "s2"}, "of other samples"),
        ({"problems": "p2"}, "of other problems"),
        ({"timeout": 5.0}, "of timeout 3.0, not 5.0"),
        ({"samples": "s2", "timeout": 5.0}, "of other samples and timeout 3.0, not 5.0"),
    ],
)
def test_other_inputs_are_refused(tmp_path, change, words):
    """Results of other inputs are never mixed in: the message names what differs and the ways out."""
    _write(tmp_path / "r", 2)
    with pytest.raises(UsageError, match=f"{words}; name another file with --out, or write it anew with --no-resume"):
        ResultsFile(tmp_path / "r", _INPUTS | change)
    assert len((tmp_path / "r").read_text().splitlines()) == 2


def test_results_of_nobody_knows_what_are_refused(tmp_path):
    """A results file without its progress file is not overwritten."""
    (tmp_path / "r").write_text("precious\n")
    with pytest.raises(UsageError, match="does not say of what"):
        ResultsFile(tmp_path / "r", _INPUTS)
    assert (tmp_path / "r").read_text() == "precious\n"


def test_anew(tmp_path):
    """Without `resume` the file is written anew, and belongs to the new inputs."""
    _write(tmp_path / "r", 3)
    with ResultsFile(tmp_path / "r", _INPUTS | {"samples": "s2"}, resume=False) as results:
        assert list(results.kept()) == []
    with ResultsFile(tmp_path / "r", _INPUTS):
        pass  # nothing is in it, so it may belong to any


def test_two_writers_never_meet(tmp_path):
    """While one has the file open another is refused."""
    with (
        ResultsFile(tmp_path / "r", _INPUTS),
        pytest.raises(UsageError, match="another process is writing"),
    ):
        ResultsFile(tmp_path / "r", _INPUTS)


def test_a_directory_that_is_not_there(tmp_path):
    """A path that cannot be written is told in words."""
    with pytest.raises(UsageError, match="No such file or directory"):
        ResultsFile(tmp_path / "missing" / "r", _INPUTS)
