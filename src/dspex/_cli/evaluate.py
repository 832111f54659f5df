"""`dspex eval`: judge a file of samples, show how far it is, go on where it stopped.

Theory of operation. Every verdict is appended to the results file, in the order of the samples, as soon as it is known. A
small file beside it (`*.progress.json`) holds a fingerprint of the samples, the problems and the options. A second call with
the same fingerprint keeps the whole lines that are there, cuts off a torn last one, skips as many samples, and goes on; one
with another fingerprint is refused.
"""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import json
import os
import sys
from typing import IO, TYPE_CHECKING, Any, NamedTuple

from dspex import CodeExecutor, ResourceLimits
from dspex._sandbox.limits import checked_seconds
from dspex.errors import UsageError
from dspex.evaluation import Score, Verdict, canonical_samples, judge, read_problems, read_samples

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


class Request(NamedTuple):
    """The arguments of the command."""

    samples: Path | None
    problems: Path | None
    k: str
    canonical: bool
    timeout: float
    jobs: int | None
    out: Path | None
    resume: bool
    as_json: bool


def evaluate(request: Request) -> int:
    """Judge and report; 0 when all was judged, 1 when a reference solution fails."""
    if request.problems is None:
        raise UsageError("--problems is missing: the file of problems that the samples solve")
    if (request.samples is None) != request.canonical:
        raise UsageError("give either a file of SAMPLES or --canonical, which judges the reference solutions")
    ks = _ks(request.k)
    checked_seconds("--timeout", request.timeout)
    problems = read_problems(request.problems)
    if request.samples is None:
        samples, total = canonical_samples(problems), len(problems)
    else:
        total = sum(1 for _ in read_samples(request.samples, problems))  # and every line is checked before any is run
        samples = read_samples(request.samples, problems)
    score, failed = Score(), []
    with Results.open(request) as results:
        for line in results.kept:
            score.add(line["task_id"], line["passed"])
        rest = itertools.islice(samples, len(results.kept), None)
        limits = ResourceLimits(wall=request.timeout, cpu=request.timeout, output="16MiB")
        with CodeExecutor(limits=limits, max_concurrency=request.jobs) as executor, _progress(total, score) as advance:
            for verdict in judge(executor, problems, rest, timeout=request.timeout):
                results.add(verdict)
                score.add(verdict.sample["task_id"], verdict.passed)
                failed += [verdict] if not verdict.passed else []
                advance()
    _report(request, score, ks, failed if request.canonical else [])
    return 1 if request.canonical and failed else 0


def _ks(text: str) -> list[int]:
    try:
        ks = [int(part) for part in text.split(",")]
    except ValueError:
        ks = [0]
    if min(ks) < 1:
        raise UsageError(f"-k is {text!r}; it must be whole numbers of at least 1, as 1,10,100")
    return ks


# --- The results file ---------------------------------------------------------------------------------------------------


class Results:
    """The results file, or nothing where none is asked for."""

    def __init__(self, file: IO[bytes] | None, kept: list[dict[str, Any]]) -> None:
        self._file = file
        self.kept = kept

    @classmethod
    def open(cls, request: Request) -> Results:
        """Start the results file, or go on with one. Raises `UsageError` when it belongs to other inputs."""
        path = request.out or (f"{request.samples}_results.jsonl" if request.samples else None)
        if path is None:
            return cls(None, [])
        name, progress = os.fspath(path), f"{os.fspath(path)}.progress.json"
        fingerprint = _fingerprint(request)
        kept: list[dict[str, Any]] = []
        try:
            if request.resume and os.path.exists(name):
                _check_progress(name, progress, fingerprint)
                kept = _keep_whole_lines(name)
            else:
                open(name, "wb").close()
            with open(progress, "w", encoding="utf-8") as file:
                json.dump({"fingerprint": fingerprint}, file)
            return cls(open(name, "ab"), kept)
        except OSError as error:
            raise UsageError(f"{error.filename or name}: {os.strerror(error.errno or 0)}") from None

    def add(self, verdict: Verdict) -> None:
        """Append one verdict; it is in the file when this returns."""
        if self._file is not None:
            self._file.write(json.dumps(verdict.to_dict()).encode() + b"\n")
            self._file.flush()

    def __enter__(self) -> Results:
        return self

    def __exit__(self, *_: object) -> None:
        if self._file is not None:
            os.fsync(self._file.fileno())
            self._file.close()


def _fingerprint(request: Request) -> str:
    digest = hashlib.sha256(f"{request.canonical} {request.timeout}".encode())
    for path in (request.samples, request.problems):
        if path is not None:
            with open(path, "rb") as file:
                digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()


def _check_progress(name: str, progress: str, fingerprint: str) -> None:
    try:
        with open(progress, encoding="utf-8") as file:
            found = json.load(file).get("fingerprint")
    except (OSError, ValueError, AttributeError):
        found = None
    if found != fingerprint:
        raise UsageError(
            f"{name}: this results file is of other samples, problems or options; "
            "give another --out, or --no-resume to write it anew"
        )


def _keep_whole_lines(name: str) -> list[dict[str, Any]]:
    kept, end = [], 0
    with open(name, "rb") as file:
        for data in file:
            line = _line(data)
            if line is None:
                break
            kept.append(line)
            end += len(data)
    os.truncate(name, end)
    return kept


def _line(data: bytes) -> dict[str, Any] | None:
    """A whole line of ours, or None for one that was torn when an earlier call was stopped."""
    try:
        line = json.loads(data)
    except ValueError:
        return None
    whole = data.endswith(b"\n") and isinstance(line, dict) and isinstance(line.get("passed"), bool)
    return {"task_id": line["task_id"], "passed": line["passed"]} if whole and "task_id" in line else None


# --- What a person sees ---------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def _progress(total: int, score: Score) -> Iterator[Any]:
    if not sys.stderr.isatty():
        yield lambda: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True)) as progress:
        bar = progress.add_task("judging", total=total, completed=score.samples)
        yield lambda: progress.update(bar, advance=1, description=f"{score.passed} passed")


def _report(request: Request, score: Score, ks: list[int], failed: list[Verdict]) -> None:
    estimates = {f"pass@{k}": score.pass_at(k) for k in ks if score.samples and k <= score.fewest}
    left_out = [k for k in ks if k > score.fewest]
    if request.as_json:
        failures = [{"task_id": v.sample["task_id"], "result": v.result} for v in failed]
        summary = {"samples": score.samples, "passed": score.passed, **estimates, "failures": failures}
        print(json.dumps(summary))
        return
    print(f"{score.passed} of {score.samples} passed")
    for name, estimate in estimates.items():
        print(f"{name}: {estimate:.4f}")
    if left_out and not request.canonical:
        names = ", ".join(f"pass@{k}" for k in left_out)
        print(f"{names}: not estimated, a task has only {score.fewest} samples")
    for verdict in failed:
        print(f"{verdict.sample['task_id']}: {verdict.result}")
