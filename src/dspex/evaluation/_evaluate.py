"""`evaluate`: judge a whole file of samples, or the reference solutions; stop and go on; report pass@k."""

from __future__ import annotations

import itertools
import os
import sys
from typing import TYPE_CHECKING, Any, NamedTuple

from dspex._sandbox.limits import ResourceLimits
from dspex.errors import UsageError
from dspex.evaluation._judge import Verdict, judge
from dspex.evaluation._problems import read_problems
from dspex.evaluation._results import ResultsFile
from dspex.evaluation._samples import canonical_samples, read_samples, survey
from dspex.evaluation._score import Score
from dspex.execution._executor import CodeExecutor

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from dspex._sandbox.policy import SecurityPolicy
    from dspex.evaluation._problems import Problems
    from dspex.evaluation._samples import Sample

    Path = str | os.PathLike[str]
    Progress = Callable[[int, int, int], None]

LIMITS = ResourceLimits(memory="1GiB", output="16MiB")  # HumanEval's own tool knows no limit but time


class Report(NamedTuple):
    """What came of it."""

    tasks: int
    samples: int
    passed: int
    timed_out: int
    failed: int
    pass_at: dict[int, float]  # by k
    left_out: dict[int, str]  # k for which a task has too few samples, and that task
    failures: tuple[Verdict, ...]  # of reference solutions only: of samples there may be millions
    results: str | None  # the results file
    resumed: int  # verdicts that were in the results file before


def evaluate(
    samples: Path | None,
    problems: Path,
    *,
    k: Sequence[int] = (1, 10, 100),
    timeout: float = 3.0,
    concurrency: int | None = None,
    out: Path | None = None,
    resume: bool = True,
    ignore_incomplete: bool = False,
    policy: SecurityPolicy | None = None,
    limits: ResourceLimits | None = None,
    progress: Progress | None = None,
) -> Report:
    """Judge the samples of a file (None: the reference solutions of the problems) and estimate pass@k.

    `timeout` is in seconds for each program and stands for the limits' wall and CPU time; `concurrency` programs run at
    once (default: the cores). Results go to `out`, by default `SAMPLES_results.jsonl`, for reference solutions nowhere; a
    call that finds the results of an earlier, stopped one with the same inputs goes on behind them if `resume`.
    `progress` is called with the verdicts so far, how many of them passed, and how many there will be.

    Raises `UsageError` for wrong inputs, before any program is run, and `SandboxError` when the engine fails.
    """
    _check_ks(k)
    wanted = (limits or LIMITS).replace(wall=timeout, cpu=timeout)
    known = read_problems(problems)
    total, digest = len(known.by_task), "canonical"
    if samples is not None:
        total, digest = survey(samples, known, ignore_incomplete=ignore_incomplete)
    run = _Run(known, total, samples is None, progress)
    stream = canonical_samples(known) if samples is None else read_samples(samples, known)
    with _Executors(policy, wanted, concurrency) as executors:
        path = _results_path(samples, problems, out)
        if path is None:
            run.judge(executors, stream, None)
        else:
            with ResultsFile(path, _inputs(digest, known, executors.of("python")), resume=resume) as results:
                run.resume(results, stream)
                run.judge(executors, stream, results)
    if run.score.samples != total:
        raise UsageError(f"{samples}: the file was changed while it was judged; judge it again with --no-resume")
    return run.report(k, path)


class _Executors:
    """One executor for each language that is asked for."""

    def __init__(self, policy: SecurityPolicy | None, limits: ResourceLimits, concurrency: int | None) -> None:
        self._policy, self._limits, self._concurrency = policy, limits, concurrency
        self._made: dict[str, CodeExecutor] = {}

    def of(self, language: str) -> CodeExecutor:
        """The executor for this language. Raises `UsageError` where its runtime is missing."""
        if language not in self._made:
            self._made[language] = CodeExecutor(
                language, policy=self._policy, limits=self._limits, max_concurrency=self._concurrency
            )
        return self._made[language]

    def __enter__(self) -> _Executors:
        return self

    def __exit__(self, *_: object) -> None:
        for executor in self._made.values():
            executor.close()


class _Run:
    """One evaluation under way."""

    def __init__(self, problems: Problems, total: int, canonical: bool, progress: Progress | None) -> None:
        self._problems = problems
        self._total = total
        self._canonical = canonical
        self._progress = progress
        self._failures: list[Verdict] = []
        self._resumed = 0
        self.score = Score()

    def resume(self, results: ResultsFile, samples: Iterator[Sample]) -> None:
        """Take the verdicts that are there, and their samples out of the stream."""
        for fields in results.kept():
            sample = next(samples, None)
            if sample is None or sample.task_id != fields["task_id"]:
                raise UsageError(f"{results.path}: line {self._resumed + 1} is not of these samples; use --no-resume")
            self._resumed += 1
            self._count(Verdict(sample, fields["result"]))

    def judge(self, executors: _Executors, samples: Iterator[Sample], results: ResultsFile | None) -> None:
        """Judge what is left of the stream, what is of one language together."""
        self._tell()
        for language, group in itertools.groupby(samples, self._language):
            for verdict in judge(executors.of(language), self._problems, group):
                if results is not None:
                    results.add(verdict)
                self._count(verdict)
                self._tell()

    def _language(self, sample: Sample) -> str:
        return self._problems.by_task[sample.task_id].language

    def _count(self, verdict: Verdict) -> None:
        self.score.add(verdict.sample.task_id, verdict.result)
        if self._canonical and not verdict.passed:
            self._failures.append(verdict)

    def _tell(self) -> None:
        if self._progress is not None:
            self._progress(self.score.samples, self.score.passed, self._total)

    def report(self, ks: Sequence[int], path: str | None) -> Report:
        """The figures, when all is judged."""
        score = self.score
        estimates, left_out = score.estimates(ks)
        return Report(
            tasks=score.tasks,
            samples=score.samples,
            passed=score.passed,
            timed_out=score.results["timed out"],
            failed=score.results["failed"],
            pass_at=estimates,
            left_out=left_out,
            failures=tuple(self._failures),
            results=path,
            resumed=self._resumed,
        )


def _check_ks(ks: Sequence[int]) -> None:
    if not ks or not all(isinstance(k, int) and k >= 1 for k in ks):
        raise UsageError(f"k is {ks!r}; it must be whole numbers of at least 1")


def _results_path(samples: Path | None, problems: Path, out: Path | None) -> str | None:
    if out is None:
        return None if samples is None else f"{os.fspath(samples)}_results.jsonl"
    for given in (samples, problems):
        if given is not None and os.path.exists(out) and os.path.samefile(out, given):
            raise UsageError(f"{os.fspath(out)}: the results would overwrite an input; name another file")
    return os.fspath(out)


def _inputs(digest: str, problems: Problems, executor: CodeExecutor) -> dict[str, Any]:
    """All that a verdict depends on, by name."""
    limits = executor.limits.to_dict()
    times = {"timeout": limits.pop("wall")}
    del limits["cpu"]  # the same
    versions = {"python": "{}.{}".format(*sys.version_info)}
    return {"samples": digest, "problems": problems.digest, **times, **limits, **executor.policy.to_dict(), **versions}
