"""Rows of results, and how they are shown."""

from __future__ import annotations

from typing import NamedTuple


class Row(NamedTuple):
    """One figure: ours, what it is held against, their ratio, and the bar."""

    figure: str
    ours: str
    against: str
    ratio: float | None
    bar: str


def quantiles(times: list[float]) -> tuple[float, float, float]:
    """p50, p95 and p99."""
    ordered = sorted(times)
    return tuple(ordered[min(len(ordered) - 1, int(len(ordered) * q))] for q in (0.50, 0.95, 0.99))


def milliseconds(times: list[float]) -> str:
    """The quantiles in words."""
    return " / ".join(f"{1000 * t:.3f}" for t in quantiles(times)) + " ms"


def median(times: list[float]) -> float:
    """p50."""
    return quantiles(times)[0]


def show(rows: list[Row]) -> None:
    """Print a Markdown table."""
    print("| figure | dspex | against | ratio | bar |\n|---|---|---|---|---|")
    for row in rows:
        ratio = "" if row.ratio is None else f"{row.ratio:.2f}"
        print(f"| {row.figure} | {row.ours} | {row.against} | {ratio} | {row.bar} |")
