"""The figures of branching, each against the same done bare in the same run."""

from __future__ import annotations

import time
from pathlib import Path

from benchmarks.table import Row, median, milliseconds
from dspex import CodeExecutor, ResourceLimits

_OBJECTS = "x = [object() for _ in range(4_500_000)]"  # 100 MB
_MANY = 1000


def branching(floor):
    """Rows for fork with 100 MB, restore, and a thousand forks; `floor` runs a bare floor and gives its seconds."""
    return [*_large(floor), *_restore(), *_many(floor)]


def _large(floor):
    ours, bare = [], []
    with CodeExecutor(limits=ResourceLimits(memory="1GiB")) as executor, executor.session() as session:
        session.execute(_OBJECTS).unwrap()
        for _round in range(4):
            for _ in range(10):
                started = time.perf_counter()
                branch = session.fork()
                ours.append(time.perf_counter() - started)
                branch.close()
                time.sleep(0.02)
            bare += floor("large_fork", 10)
    worst = sorted(ours)[int(len(ours) * 0.99)] / sorted(bare)[int(len(bare) * 0.99)]
    return [
        Row("`session.fork()` with 100 MB of objects, against a bare `os.fork`", milliseconds(ours), milliseconds(bare), median(ours) / median(bare), "<= 3"),
        Row("the same, 99th percentiles", "", "", worst, "<= 3"),
    ]  # fmt: skip


def _restore():
    times = []
    with CodeExecutor() as executor, executor.session() as session:
        session.execute("x = 1").unwrap()
        point = session.checkpoint()
        for _ in range(100):
            session.execute("x += 1").unwrap()
            started = time.perf_counter()
            session.restore(point)
            times.append(time.perf_counter() - started)
            time.sleep(0.005)
    return [Row("`session.restore(checkpoint)`, a small session", milliseconds(times), "", median(times) * 1000, "<= 3 ms")]  # fmt: skip


def _many(floor):
    with CodeExecutor(limits=ResourceLimits(branches=_MANY + 10)) as executor, executor.session() as session:
        session.execute("x = 1").unwrap()
        session.fork().close()
        bare = sum(floor("many_forks", _MANY))
        started = time.perf_counter()
        branches = session.fork(_MANY)
        ours = time.perf_counter() - started
        dirty = sorted(
            _private_dirty(branch.tree, number) for number, branch in enumerate(branches) if number % 50 == 0
        )
        for branch in branches:
            branch.close()
    return [
        Row(f"`session.fork({_MANY})` of a small session, against as many bare forks with the same namespaces", f"{ours:.2f} s", f"{bare:.2f} s", ours / bare, "<= 4"),
        Row("memory of one such branch, Private_Dirty", f"{dirty[len(dirty) // 2] / 2**20:.2f} MB", "", None, "<= 1 MB"),
    ]  # fmt: skip


def _private_dirty(tree, number):
    guests = list(tree._alive.values())
    text = Path(f"/proc/{guests[number + 1].pid}/smaps_rollup").read_text()
    return int(text.partition("\nPrivate_Dirty:")[2].split()[0]) * 1024
