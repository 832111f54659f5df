"""Judging generated programs in HumanEval's formats: problems and samples in, verdicts and pass@k out.

A problem is an object with `task_id`, `prompt`, `entry_point`, `canonical_solution` and `test`; a sample one with `task_id` and
`completion`. A program is the prompt, the completion, the test and a call of its `check`, run in a fresh sandbox. Formats and
estimator: Chen et al., "Evaluating Large Language Models Trained on Code", 2021 (arXiv 2107.03374).
"""

from __future__ import annotations

import gzip
import json
import os
import secrets
from typing import IO, TYPE_CHECKING, Any, NamedTuple

from dspex.errors import UsageError
from dspex.execution._job import Job

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from dspex.execution._executor import CodeExecutor
    from dspex.execution._result import ExecutionResult

_GZIP = b"\x1f\x8b"
_PROBLEM_FIELDS = ("task_id", "prompt", "entry_point", "canonical_solution", "test")
_SAMPLE_FIELDS = ("task_id", "completion")


class Problem(NamedTuple):
    """One task."""

    task_id: str
    prompt: str
    entry_point: str
    canonical_solution: str
    test: str


class Verdict(NamedTuple):
    """One sample, judged: the sample as it was given, and what became of it."""

    sample: dict[str, Any]
    result: str  # "passed", "timed out", "failed: ..."

    @property
    def passed(self) -> bool:
        """True when the program ran through its tests to the end."""
        return self.result == "passed"

    def to_dict(self) -> dict[str, Any]:
        """A line of the results file."""
        return {**self.sample, "result": self.result, "passed": self.passed}


# --- Reading ----------------------------------------------------------------------------------------------------------


def read_problems(path: str | os.PathLike[str]) -> dict[str, Problem]:
    """The problems of a file, by task. Raises `UsageError` naming file and line."""
    problems: dict[str, Problem] = {}
    for place, line in _read_lines(path):
        problem = Problem(*_texts(place, line, _PROBLEM_FIELDS))
        if problem.task_id in problems:
            raise UsageError(f"{place}: the task {problem.task_id!r} is there twice")
        problems[problem.task_id] = problem
    if not problems:
        raise UsageError(f"{os.fspath(path)}: there is no problem in this file")
    return problems


def read_samples(path: str | os.PathLike[str], problems: dict[str, Problem]) -> Iterator[dict[str, Any]]:
    """The samples of a file, one by one. Raises `UsageError` naming file and line."""
    for place, line in _read_lines(path):
        task, _ = _texts(place, line, _SAMPLE_FIELDS)
        if task not in problems:
            raise UsageError(f"{place}: the task {task!r} is not among the {len(problems)} problems")
        yield line


def canonical_samples(problems: dict[str, Problem]) -> Iterator[dict[str, Any]]:
    """The reference solution of each problem, as a sample."""
    for problem in problems.values():
        yield {"task_id": problem.task_id, "completion": problem.canonical_solution}


def _read_lines(path: str | os.PathLike[str]) -> Iterator[tuple[str, dict[str, Any]]]:
    name = os.fspath(path)
    try:
        with _opened(name) as file:
            for number, data in enumerate(file, 1):
                if data.strip():
                    place = f"{name}:{number}"
                    yield place, _object(place, data)
    except gzip.BadGzipFile as error:
        raise UsageError(f"{name}: {error}") from None
    except EOFError:
        raise UsageError(f"{name}: the gzip file ends too early; it is truncated") from None
    except OSError as error:
        raise UsageError(f"{name}: {os.strerror(error.errno or 0)}") from None


def _opened(name: str) -> IO[bytes]:
    """The file, unpacked if it is gzip by its content, whatever its name."""
    with open(name, "rb") as file:
        packed = file.read(2) == _GZIP
    return gzip.open(name) if packed else open(name, "rb")  # type: ignore[return-value]  # a GzipFile is read alike


def _object(place: str, data: bytes) -> dict[str, Any]:
    try:
        line = json.loads(data.decode("utf-8"))
    except UnicodeDecodeError as error:
        raise UsageError(f"{place}: byte {error.start} is no UTF-8") from None
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{place}: this line is no JSON: {error}") from None
    if not isinstance(line, dict):
        raise UsageError(f"{place}: this line is no JSON object")
    return line


def _texts(place: str, line: dict[str, Any], fields: tuple[str, ...]) -> list[str]:
    for field in fields:
        if field not in line:
            raise UsageError(f"{place}: the field {field!r} is missing; a line has {', '.join(fields)}")
        if not isinstance(line[field], str):
            raise UsageError(f"{place}: the field {field!r} is a {type(line[field]).__name__}; it must be a text")
    return [line[field] for field in fields]


# --- Judging ----------------------------------------------------------------------------------------------------------


def judge(
    executor: CodeExecutor,
    problems: dict[str, Problem],
    samples: Iterable[dict[str, Any]],
    *,
    timeout: float,
    concurrency: int | None = None,
) -> Iterator[Verdict]:
    """Judge samples in order, streaming: neither all samples nor all verdicts are ever held."""
    waiting: list[tuple[dict[str, Any], str]] = []

    def jobs() -> Iterator[Job]:
        for sample in samples:
            # Only a program that has run to its end has this value: one that leaves early by sys.exit(0) has not.
            seal = secrets.token_hex(8)
            waiting.append((sample, seal))
            yield Job(_program(problems[sample["task_id"]], sample["completion"], seal), timeout=timeout)

    for result in executor.map(jobs(), concurrency=concurrency):
        sample, seal = waiting.pop(0)
        yield Verdict(sample, _outcome(result, seal))


def _program(problem: Problem, completion: str, seal: str) -> str:
    return f"{problem.prompt}{completion}\n{problem.test}\ncheck({problem.entry_point})\n{seal!r}\n"


def _outcome(result: ExecutionResult, seal: str) -> str:
    failure = result.error
    if failure is None:
        return "passed" if result.value == seal else "failed: the program ended before its tests did"
    if failure.kind in ("timeout", "cpu_limit"):
        return "timed out"
    if failure.kind == "runtime":
        return f"failed: {failure.message}" if failure.message else f"failed: {failure.type}"
    return f"failed: {failure.kind}: {failure.message}"


# --- Estimating -------------------------------------------------------------------------------------------------------


def pass_at_k(samples: int, correct: int, k: int) -> float:
    """The unbiased estimate of the chance that one of `k` samples is right, from `correct` of `samples`.

    1 - C(n - c, k) / C(n, k), as a product that neither overflows nor loses digits. Raises `UsageError` for k > n.
    """
    if not 0 <= correct <= samples or k < 1 or k > samples:
        raise UsageError(f"pass@{k} cannot be estimated from {correct} of {samples} samples")
    if samples - correct < k:
        return 1.0
    wrong = 1.0
    for i in range(samples - correct + 1, samples + 1):
        wrong *= 1.0 - k / i
    return 1.0 - wrong


class Score:
    """How many samples of each task there were, and how many passed."""

    def __init__(self) -> None:
        self._tasks: dict[str, tuple[int, int]] = {}

    def add(self, task: str, passed: bool) -> None:
        """Count one verdict."""
        samples, correct = self._tasks.get(task, (0, 0))
        self._tasks[task] = (samples + 1, correct + passed)

    @property
    def samples(self) -> int:
        """All samples."""
        return sum(samples for samples, _ in self._tasks.values())

    @property
    def passed(self) -> int:
        """All samples that passed."""
        return sum(correct for _, correct in self._tasks.values())

    @property
    def fewest(self) -> int:
        """The samples of the task that has the fewest: no larger k can be estimated."""
        return min((samples for samples, _ in self._tasks.values()), default=0)

    def pass_at(self, k: int) -> float:
        """pass@k over all tasks, the mean of their estimates. Raises `UsageError` for k > `fewest`."""
        estimates = [pass_at_k(samples, correct, k) for samples, correct in self._tasks.values()]
        if not estimates:
            raise UsageError("there are no samples to estimate pass@k from")
        return sum(estimates) / len(estimates)
