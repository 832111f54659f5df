"""Judging: samples in, verdicts out, in order, each program in a fresh sandbox.

Theory of operation. The program runs as HumanEval's own tool runs it: `exec` in an empty namespace, so that a block under
`if __name__ == "__main__"` of a completion is not run. What the guest gives as its value is a seal that only a program
which came back from its tests can reach: one that leaves early, by `sys.exit(0)`, has not passed. In other languages the program
is run as it is, with the seal behind it. A program that attacks
its own guest can forge its verdict, here as in every tool that runs test and solution in one process; it cannot touch
another's.
"""

from __future__ import annotations

import itertools
import os
from collections import deque
from typing import TYPE_CHECKING, Any, NamedTuple

from dspex.errors import SandboxLostError, UsageError
from dspex.execution._job import Job

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from dspex.evaluation._problems import Problems
    from dspex.evaluation._samples import Sample
    from dspex.execution._executor import CodeExecutor
    from dspex.execution._result import ExecutionResult

_RUNNER = "exec(program, {})\nseal"
_ASSERTS = "console.assert = (ok, ...said) => { if (!ok) throw new Error(said.join(' ') || 'assertion failed') }; "
_BEFORE = {"javascript": _ASSERTS, "typescript": _ASSERTS}  # node's own only writes to stderr
_LOSSES = 3  # of sandboxes one after the other, before the engine's error is raised


class Verdict(NamedTuple):
    """One sample, judged. `result` is "passed", "timed out" or "failed: " and the reason."""

    sample: Sample
    result: str

    @property
    def passed(self) -> bool:
        """True when the program came back from its tests."""
        return self.result == "passed"

    def to_dict(self) -> dict[str, Any]:
        """A line of the results file: all fields of the sample, `result` and `passed`."""
        return {**self.sample.fields, "result": self.result, "passed": self.passed}


class _Pending(NamedTuple):
    """A sample whose program is under way, and the value that it has to end with."""

    sample: Sample
    seal: str


def judge(
    executor: CodeExecutor,
    problems: Problems,
    samples: Iterable[Sample],
    *,
    timeout: float | None = None,
    concurrency: int | None = None,
) -> Iterator[Verdict]:
    """Judge samples in their order, streaming: neither all samples nor all verdicts are ever held.

    Raises `UsageError` for an executor whose policy forbids modules or calls by name, which is not looked for here, and
    `SandboxError` when the engine fails. A guest that was lost through no fault of its own is run again.
    """
    _check_policy(executor)
    pending: deque[_Pending] = deque()
    source = iter(samples)
    losses = 0
    while True:
        try:
            jobs = _jobs(problems, source, pending, timeout)
            for result in executor.map(jobs, concurrency=concurrency):
                done = pending.popleft()
                losses = 0
                yield Verdict(done.sample, _outcome(result, done.seal))
            return
        except SandboxLostError:
            losses += 1
            if losses == _LOSSES:
                raise
            source = itertools.chain([lost.sample for lost in pending], source)
            pending.clear()


def _check_policy(executor: CodeExecutor) -> None:
    if executor.policy.forbidden_modules or executor.policy.forbidden_calls:
        raise UsageError(
            "the policy forbids modules or calls by name, which is not looked for when samples are judged; "
            "leave forbidden_modules and forbidden_calls empty, the sandbox stands without them"
        )


def _jobs(
    problems: Problems, source: Iterator[Sample], pending: deque[_Pending], timeout: float | None
) -> Iterator[Job]:
    for sample in source:
        problem = problems.by_task[sample.task_id]
        program = problem.program(sample.completion)
        seal = os.urandom(8).hex()  # not by `secrets`, which loads OpenSSL
        pending.append(_Pending(sample, seal))
        if problem.language == "python":
            yield Job(_RUNNER, {"program": program, "seal": seal}, timeout=timeout)
        else:
            code = f"{_BEFORE.get(problem.language, '')}{program}\nseal"
            yield Job(code, {"seal": seal}, timeout=timeout)


def _outcome(result: ExecutionResult, seal: str) -> str:
    failure = result.error
    if failure is None:
        return "passed" if result.value == seal else "failed: the program ended before its tests did"
    if failure.kind in ("timeout", "cpu_limit"):
        return "timed out"
    return f"failed: {failure.message}"
