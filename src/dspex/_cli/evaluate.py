"""`dspex eval`: judge a file of samples, show how far it is, print pass@k."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Any

from dspex._cli._limits import confinement
from dspex.errors import UsageError
from dspex.evaluation import Report
from dspex.evaluation import evaluate as _evaluate
from dspex.evaluation._evaluate import LIMITS

if TYPE_CHECKING:
    from types import TracebackType

_INTERRUPTED = 130
_QUIET = 10.0  # seconds between lines where nobody watches a bar


def evaluate(
    samples: str | None = None,
    *,
    problems: str | None = None,
    k: str = "1,10,100",
    canonical: bool = False,
    timeout: str = "3.0",
    memory: str | None = None,
    policy: str | None = None,
    jobs: str | None = None,
    out: str | None = None,
    resume: bool = True,
    ignore_incomplete: bool = False,
    as_json: bool = False,
) -> int:
    """Judge and report; 0 when all was judged, 1 when a reference solution failed. Raises `DspexError`."""
    if problems is None:
        raise UsageError("--problems is missing: the file of the problems that the samples solve")
    if (samples is None) != canonical:
        raise UsageError("give either a file of SAMPLES, or --canonical to judge the reference solutions")
    ks, concurrency = _ks(k), None if jobs is None else _count("--jobs", jobs)
    allowed, limits = confinement(policy, timeout, memory, LIMITS)
    progress = _Bar() if sys.stderr.isatty() else _Lines()
    try:
        with progress:
            report = _evaluate(
                samples,
                problems,
                k=ks,
                timeout=limits.wall,
                concurrency=concurrency,
                out=out,
                resume=resume,
                ignore_incomplete=ignore_incomplete,
                policy=allowed,
                limits=limits,
                progress=progress,
            )
    except KeyboardInterrupt:
        kept = "the same command goes on from there" if samples or out else "nothing was kept, for there is no --out"
        sys.stderr.write(f"dspex: stopped after {progress.judged:,} of {progress.total:,} programs; {kept}\n")
        return _INTERRUPTED
    if as_json:
        import json

        print(json.dumps(_plain(report)))
    else:
        _show(report, canonical)
    return 1 if canonical and report.failures else 0


def _ks(text: str) -> list[int]:
    return [_count("-k", part) for part in text.split(",")]


def _count(option: str, text: str) -> int:
    number = int(text) if text.strip().isdecimal() and len(text) < 10 else 0
    if number < 1:
        raise UsageError(f"{option}: {text!r} is no whole number of at least 1")
    return number


# --- How far it is ----------------------------------------------------------------------------------------------------


class _Lines:
    """Progress where nobody watches: a line now and then."""

    def __init__(self) -> None:
        self.judged = self.total = 0
        self._next = 0.0

    def __call__(self, judged: int, passed: int, total: int) -> None:
        self.judged, self.total = judged, total
        now = time.monotonic()
        if now >= self._next:
            self._next = now + _QUIET
            sys.stderr.write(f"dspex: {judged:,} of {total:,} programs judged, {passed:,} passed\n")

    def __enter__(self) -> _Lines:
        return self

    def __exit__(self, *_: object) -> None:
        pass


class _Bar:
    """Progress at a terminal."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        columns = (TextColumn("judging"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.description}"))
        console = Console(stderr=True)
        self._progress = Progress(*columns, TimeRemainingColumn(), console=console, transient=True)
        self._task = self._progress.add_task("", total=None)
        self.judged = self.total = 0

    def __call__(self, judged: int, passed: int, total: int) -> None:
        self.judged, self.total = judged, total
        description = f"[green]{passed:,} passed[/] [red]{judged - passed:,} not[/]"
        self._progress.update(self._task, completed=judged, total=total, description=description)

    def __enter__(self) -> _Bar:
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop()


# --- What came of it --------------------------------------------------------------------------------------------------


def _plain(report: Report) -> dict[str, Any]:
    return {
        "tasks": report.tasks,
        "samples": report.samples,
        "passed": report.passed,
        "timed_out": report.timed_out,
        "failed": report.failed,
        "resumed": report.resumed,
        "pass@k": {f"pass@{k}": estimate for k, estimate in report.pass_at.items()},
        "left_out": {f"pass@{k}": reason for k, reason in report.left_out.items()},
        "failures": [{"task_id": v.sample.task_id, "result": v.result} for v in report.failures],
        "results": report.results,
    }


def _show(report: Report, canonical: bool) -> None:
    what = "reference solutions" if canonical else "samples"
    print(f"{report.samples:,} {what} of {report.tasks:,} problems: {_counts(report)}")
    if canonical:
        for verdict in report.failures:
            print(f"  {verdict.sample.task_id}: {verdict.result}")
    else:
        for k, estimate in report.pass_at.items():
            print(f"  pass@{k:<4} {estimate:.4f}")
        for k, reason in report.left_out.items():
            print(f"  pass@{k:<4} left out: {reason}")
    if report.results is not None:
        before = f", {report.resumed:,} lines of it from an earlier call" if report.resumed else ""
        print(f"results: {report.results}{before}")


def _counts(report: Report) -> str:
    counts = {"passed": report.passed, "failed": report.failed, "timed out": report.timed_out}
    return ", ".join(f"{count:,} {name}" for name, count in counts.items() if count)
