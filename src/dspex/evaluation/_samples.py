"""Samples: completions that were generated for problems. They are streamed, for there may be millions."""

from __future__ import annotations

import hashlib
import os
import stat
from typing import TYPE_CHECKING, Any, NamedTuple

from dspex.errors import UsageError
from dspex.evaluation._lines import read_lines

if TYPE_CHECKING:
    from collections.abc import Iterator

    from dspex.evaluation._lines import Digest
    from dspex.evaluation._problems import Problems


class Sample(NamedTuple):
    """One completion; `fields` is the whole object as it was given, `place` where it stands."""

    task_id: str
    completion: str
    fields: dict[str, Any]
    place: str


class Survey(NamedTuple):
    """What a file of samples holds: how many, and the SHA-256 of its content in hexadecimal."""

    samples: int
    digest: str


def read_samples(path: str | os.PathLike[str], problems: Problems, digest: Digest | None = None) -> Iterator[Sample]:
    """The samples of a file, one at a time. Raises `UsageError` that names the file and line."""
    for line in read_lines(path, digest):
        task_id, completion = line.texts("task_id", "completion")
        if task_id not in problems.by_task:
            raise UsageError(f"{line.place}: the task {task_id!r} is not among the {len(problems.by_task)} problems")
        yield Sample(task_id, completion, line.fields, line.place)


def canonical_samples(problems: Problems) -> Iterator[Sample]:
    """The reference solution of each problem, as a sample.

    Raises `UsageError` for a problem without one, before the first solution is given.
    """
    solutions: dict[str, str] = {}
    for task_id, problem in problems.by_task.items():
        if problem.canonical_solution is None:
            raise UsageError(f"the problem {task_id!r} has no canonical_solution")
        solutions[task_id] = problem.canonical_solution
    for task_id, solution in solutions.items():
        yield Sample(task_id, solution, {"task_id": task_id, "completion": solution}, task_id)


def survey(path: str | os.PathLike[str], problems: Problems, *, ignore_incomplete: bool) -> Survey:
    """Read the whole file once, so that nothing is wrong with it any more when the first program runs.

    Raises `UsageError`; for a problem without a sample too, unless that is to be ignored.
    """
    _check_regular(path)
    digest, count, missing = hashlib.sha256(), 0, dict.fromkeys(problems.by_task)
    for sample in read_samples(path, problems, digest):
        count += 1
        missing.pop(sample.task_id, None)
    if not count:
        raise UsageError(f"{os.fspath(path)}: there is no sample in this file")
    if missing and not ignore_incomplete:
        raise UsageError(
            f"{os.fspath(path)}: {len(missing)} of {len(problems.by_task)} problems have no sample, the first is "
            f"{next(iter(missing))!r}; pass@k of the others alone is had with --ignore-incomplete"
        )
    return Survey(count, digest.hexdigest())


def _check_regular(path: str | os.PathLike[str]) -> None:
    try:
        mode = os.stat(path).st_mode
    except OSError as error:
        raise UsageError(f"{os.fspath(path)}: {error.strerror}") from None
    if not stat.S_ISREG(mode):
        raise UsageError(f"{os.fspath(path)}: samples must be in a regular file, for it is read twice")
