import os

import pytest

from command import PROBLEMS, SAMPLES
from dspex.errors import UsageError
from dspex.evaluation import read_problems, read_samples
from dspex.evaluation._samples import survey

_LINE = '{"task_id": "Example/%d", "completion": "x", "extra": [1]}\n'


@pytest.fixture(scope="module")
def problems():
    return read_problems(PROBLEMS)


def test_samples_are_streamed(tmp_path, problems):
    """A sample comes before the next line is looked at, with all of its fields."""
    (tmp_path / "s").write_text(_LINE % 0 + "this is no sample\n")
    samples = read_samples(tmp_path / "s", problems)
    assert next(samples).fields == {"task_id": "Example/0", "completion": "x", "extra": [1]}
    with pytest.raises(UsageError, match="s:2: this line is no JSON"):
        next(samples)


def test_an_unknown_task(tmp_path, problems):
    """A sample for a task that is not among the problems is refused with the place."""
    (tmp_path / "s").write_text(_LINE % 0 + _LINE % 99)
    with pytest.raises(UsageError, match=r"s:2: the task 'Example/99' is not among the 20 problems"):
        list(read_samples(tmp_path / "s", problems))


def test_a_survey(problems):
    """A survey counts the samples, and its digest is of the content."""
    found = survey(SAMPLES, problems, ignore_incomplete=False)
    assert found.samples == 40
    assert found == survey(SAMPLES, problems, ignore_incomplete=True)


def test_problems_without_samples(tmp_path, problems):
    """Problems that have no sample are told, unless they are to be ignored."""
    (tmp_path / "s").write_text(_LINE % 0 + _LINE % 2)
    with pytest.raises(UsageError, match="18 of 20 problems have no sample, the first is 'Example/1'"):
        survey(tmp_path / "s", problems, ignore_incomplete=False)
    assert survey(tmp_path / "s", problems, ignore_incomplete=True).samples == 2


def test_no_sample(tmp_path, problems):
    """An empty file of samples is refused."""
    (tmp_path / "s").write_text("\n")
    with pytest.raises(UsageError, match="there is no sample"):
        survey(tmp_path / "s", problems, ignore_incomplete=True)


def test_a_pipe_is_refused(tmp_path, problems):
    """Samples are read twice, so a pipe is refused at once instead of being waited for."""
    os.mkfifo(tmp_path / "s")
    with pytest.raises(UsageError, match="must be in a regular file"):
        survey(tmp_path / "s", problems, ignore_incomplete=False)
