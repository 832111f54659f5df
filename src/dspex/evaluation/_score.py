"""pass@k: the chance that at least one of k samples of a task is right, estimated without bias."""

from __future__ import annotations

import math
from collections import Counter
from functools import lru_cache
from typing import TYPE_CHECKING

from dspex.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable


@lru_cache(maxsize=4096)  # tasks of one run have mostly the same number of samples
def pass_at_k(samples: int, correct: int, k: int) -> float:
    """1 - C(n - c, k) / C(n, k), rounded once, for n samples of which c are correct.

    Raises `UsageError` where it is not defined, as for k > n.
    """
    if not 0 <= correct <= samples or not 1 <= k <= samples:
        raise UsageError(f"pass@{k} cannot be estimated from {correct} correct of {samples} samples")
    few, many = sorted((k, correct))  # C(n - c, k) / C(n, k) is the same with c and k exchanged
    total = math.comb(samples, few)
    return (total - math.comb(samples - many, few)) / total


class Score:
    """How many samples of each task were judged, and how many of them passed."""

    def __init__(self) -> None:
        self._samples: Counter[str] = Counter()
        self._passed: Counter[str] = Counter()
        self.results: Counter[str] = Counter()

    def add(self, task_id: str, result: str) -> None:
        """Count one verdict."""
        self._samples[task_id] += 1
        kind = result if result in ("passed", "timed out") else "failed"
        self.results[kind] += 1
        if kind == "passed":
            self._passed[task_id] += 1

    @property
    def tasks(self) -> int:
        """Tasks with at least one verdict."""
        return len(self._samples)

    @property
    def samples(self) -> int:
        """All verdicts."""
        return self.results.total()

    @property
    def passed(self) -> int:
        """All verdicts that are "passed"."""
        return self.results["passed"]

    def pass_at(self, k: int) -> float:
        """The mean of the tasks' estimates. Raises `UsageError` where a task has fewer than k samples."""
        estimates = [pass_at_k(count, self._passed[task], k) for task, count in self._samples.items()]
        if not estimates:
            raise UsageError(f"pass@{k} cannot be estimated from no samples")
        return math.fsum(estimates) / len(estimates)

    def estimates(self, ks: Iterable[int]) -> tuple[dict[int, float], dict[int, str]]:
        """pass@k for every k that can be estimated, and for the others the reason why not."""
        task, fewest = min(self._samples.items(), key=lambda item: item[1])
        reason = f"{task} has {fewest} {'sample' if fewest == 1 else 'samples'}"
        found = sorted(set(ks))
        return {k: self.pass_at(k) for k in found if k <= fewest}, {k: reason for k in found if k > fewest}
