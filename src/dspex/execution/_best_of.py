"""`best_of`: try programs in branches of one session, and go on with the best."""

from __future__ import annotations

import math
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, NamedTuple

from dspex.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from dspex.execution._result import ExecutionResult
    from dspex.execution._session import Session


class Best(NamedTuple):
    """What came of `best_of`; `winner`, `result` and `score` are None when every candidate was rejected."""

    winner: int | None  # which of the candidates, from 0
    result: ExecutionResult | None
    score: float | None
    results: tuple[ExecutionResult, ...]  # of all candidates, in order
    scores: tuple[float | None, ...]


def best_of(
    session: Session,
    candidates: Sequence[str],
    score: Callable[[ExecutionResult], float | None],
    *,
    timeout: float | None = None,
) -> Best:
    """Run each candidate in a branch of its own, all from where `session` stands, and let the session become the best one.

    `score` gives each result a number, higher is better, the first of equals wins; None rejects it, as every failed program
    should be that is not to win. When all are rejected the session stays where it stood. As many run at once as the executor
    has places. Raises `UsageError` for no candidates, and what `score` raises; the session is unchanged then.
    """
    if isinstance(candidates, str) or not candidates:
        raise UsageError("best_of needs a list of at least one program")
    branches = session.fork(len(candidates))
    try:
        with ThreadPoolExecutor(session.places) as threads:
            runs = [
                threads.submit(branch.execute, code, timeout=timeout)
                for branch, code in zip(branches, candidates, strict=True)
            ]
            results = tuple(run.result() for run in runs)
        scores = tuple(score(result) for result in results)
        ranked = [
            (number, -index) for index, number in enumerate(scores) if number is not None and not math.isnan(number)
        ]
        if not ranked:
            return Best(None, None, None, results, scores)
        best = -max(ranked)[1]
        session.become(branches[best])
        return Best(best, results[best], scores[best], results, scores)
    finally:
        for branch in branches:
            branch.close()
