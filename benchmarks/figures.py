"""The figures, by name. Ours and theirs take turns in short rounds, so that both see the same machine."""

from __future__ import annotations

import asyncio
import gzip
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from benchmarks import branching, dspy_interpreter, languages, modules, peers, versions
from benchmarks.table import Row, median, milliseconds
from dspex import CodeExecutor, ResourceLimits, SecurityPolicy

_FLOORS = Path(__file__).with_name("floors.py")
_PYTHON = os.path.realpath(sys.executable)  # the real binary: a shim or a venv's start-up is not the interpreter's
_DSPY_FRESH = 1.807  # seconds: DSPy's PythonInterpreter to its first answer, measured on this kind of machine


def _floor(name, count):
    done = subprocess.run([_PYTHON, "-I", "-S", _FLOORS, name, str(count)], capture_output=True, check=True)
    return json.loads(done.stdout)


def _floors_at_once(name, count, processes=2):
    """Seconds until `processes` floors of `count` rounds each were done, their start-up left out."""
    command = [_PYTHON, "-I", "-S", _FLOORS, name, str(count)]
    running = [subprocess.Popen(command, stdout=subprocess.PIPE) for _ in range(processes)]
    return max(json.loads(process.communicate()[0])[0] for process in running)


def _wall(command, **options):
    started = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, **options)
    return time.perf_counter() - started


def _one_by_one(executor, count, pause):
    times = []
    for _ in range(count):
        time.sleep(pause)
        started = time.perf_counter()
        assert executor.execute("1+1").value == 2
        times.append(time.perf_counter() - started)
    return times


def latency(_):
    ours, ahead, cold = [], [], []
    with CodeExecutor() as executor:
        _one_by_one(executor, 20, 0.01)
        for _round in range(8):
            ours += _one_by_one(executor, 40, 0.01)
            ahead += _floor("forked_ahead", 40)
            cold += [_wall([_PYTHON, "-I", "-c", "1+1"]) for _ in range(8)]
        packed = _one_by_one(executor, 300, 0)
    return [
        Row("fresh `1+1`, idle, against a bare guest forked ahead", milliseconds(ours), milliseconds(ahead), median(ours) / median(ahead), "<= 2"),
        Row("the same against `python -I -c`", milliseconds(ours), milliseconds(cold), median(cold) / median(ours), ">= 20"),
        Row("the same against DSPy's interpreter, fresh", milliseconds(ours), f"{1000 * _DSPY_FRESH:,.0f} ms (taken before)", _DSPY_FRESH / median(ours), ">= 2500"),
        Row("fresh `1+1`, one after the other without a pause", milliseconds(packed), "", None, "reported"),
    ]  # fmt: skip


def throughput(_):
    ours, walled, bare = [], [], []
    with CodeExecutor() as executor:
        list(executor.map(["1+1"] * 100))
        for _round in range(4):
            started = time.perf_counter()
            assert all(result.value == 2 for result in executor.map(["1+1"] * 1000))
            ours.append(1000 / (time.perf_counter() - started))
            walled.append(1000 / _floors_at_once("walled_loop", 500))
            bare.append(1000 / _floors_at_once("bare_loop", 500))
    return [
        Row("fresh runs a second through `map`, against fork loops with the same walls in 2 processes", f"{median(ours):,.0f}/s", f"{median(walled):,.0f}/s", median(ours) / median(walled), ">= 0.65"),
        Row("the same against bare fork loops", f"{median(ours):,.0f}/s", f"{median(bare):,.0f}/s", median(ours) / median(bare), "reported"),
    ]  # fmt: skip


def session(_):
    ours, living = [], []
    with CodeExecutor() as executor, executor.session() as opened:
        for _ in range(200):
            opened.execute("1+1")
        for _round in range(6):
            for _ in range(500):
                started = time.perf_counter()
                assert opened.execute("1+1").value == 2
                ours.append(time.perf_counter() - started)
            living += _floor("living", 500)
    return [Row("`session.execute(\"1+1\")`, against a bare living guest", milliseconds(ours), milliseconds(living), median(ours) / median(living), "<= 3")]  # fmt: skip


_CALLS = """
import time
times = []
for i in range(500):
    started = time.perf_counter()
    add(i)
    times.append(time.perf_counter() - started)
times
"""


def tools(_):
    ours, bare = [], []
    with CodeExecutor() as executor, executor.session(tools={"add": lambda number: number + 1}) as opened:
        opened.execute("add(1)")
        for _round in range(6):
            ours += opened.execute(_CALLS).unwrap()
            bare += _floor("called", 500)
    return [Row("a tool's round trip, against a bare socketpair with JSON both ways", milliseconds(ours), milliseconds(bare), median(ours) / median(bare), "<= 4")]  # fmt: skip


def arrays(_):
    try:
        import numpy
    except ImportError:
        return [Row("an array of 100 MB in and back", "not run: pip install numpy", "", None, "<= 4")]
    given, ours, copies = numpy.random.rand(12_500_000), [], []
    limits = ResourceLimits(memory="4GiB", value="512MiB")
    with (
        CodeExecutor(policy=SecurityPolicy(packages=("numpy",)), limits=limits) as executor,
        executor.session() as opened,
    ):
        opened.execute("1").unwrap()
        for _round in range(9):
            started = time.perf_counter()
            given.copy().copy()
            copies.append(time.perf_counter() - started)
            started = time.perf_counter()
            taken = opened.execute("x", {"x": given}).unwrap()
            ours.append(time.perf_counter() - started)
            assert taken[-1] == given[-1]
            del taken
    return [Row("an array of 100 MB in and back, against two copies of it", milliseconds(ours), milliseconds(copies), median(ours) / median(copies), "<= 4")]  # fmt: skip


_WORK = """
import time
def work():
    total = 0
    for i in range(3_000_000):
        total += i * i % 7
    return total
started = time.perf_counter()
work()
elapsed = time.perf_counter() - started
"""


def cpu(_):
    inside, outside = [], []
    with CodeExecutor() as executor:
        executor.execute("1")
        for _round in range(9):
            inside.append(executor.execute(_WORK + "elapsed").value)
            done = subprocess.run(
                [_PYTHON, "-I", "-S", "-c", _WORK + "print(elapsed)"], capture_output=True, check=True
            )
            outside.append(float(done.stdout))
    return [Row("CPU-bound code inside, against outside", milliseconds(inside), milliseconds(outside), median(inside) / median(outside), "<= 1.03")]  # fmt: skip


def callers(_):
    mapped, threads, awaited, most = [], [], [], 0
    with CodeExecutor() as executor:
        list(executor.map(["1+1"] * 100))
        for _round in range(3):
            started = time.perf_counter()
            list(executor.map(["1+1"] * 1000))
            mapped.append(1000 / (time.perf_counter() - started))
            threads.append(1000 / _hundred_threads(executor))
            before = threading.active_count()
            started = time.perf_counter()
            count = asyncio.run(_thousand(executor))
            awaited.append(1000 / (time.perf_counter() - started))
            most = max(most, count - before)
    return [
        Row("100 threads at once, against one caller's `map`", f"{median(threads):,.0f}/s", f"{median(mapped):,.0f}/s", median(threads) / median(mapped), ">= 0.8"),
        Row(f"1,000 `aexecute` at once in one loop ({most} threads more)", f"{median(awaited):,.0f}/s", f"{median(mapped):,.0f}/s", median(awaited) / median(mapped), ">= 0.8"),
    ]  # fmt: skip


def _hundred_threads(executor):
    def ten():
        for _ in range(10):
            assert executor.execute("1+1").value == 2

    running = [threading.Thread(target=ten) for _ in range(100)]
    started = time.perf_counter()
    for thread in running:
        thread.start()
    for thread in running:
        thread.join()
    return time.perf_counter() - started


async def _thousand(executor):
    async def one(number):
        assert (await executor.aexecute(f"{number}+1")).value == number + 1

    tasks = [asyncio.create_task(one(n)) for n in range(1000)]
    await asyncio.sleep(0.2)
    count = threading.active_count()
    await asyncio.gather(*tasks)
    return count


def memory(_):
    with CodeExecutor(max_concurrency=4) as executor:  # twice as many guests are kept waiting
        for _ in range(16):  # so that all guests are of the zygote as it stays
            executor.execute("1")
            time.sleep(0.1)
        time.sleep(1.0)
        found = _descendants(os.getpid())
        total = sum(_pss(pid) for pid in found)
    return [Row(f"launcher, zygote and idle guests ({len(found)} processes), PSS", f"{total / 2**20:.1f} MB", "", None, "<= 40 MB with 8 guests")]  # fmt: skip


def children(pid):
    """The processes that any thread of `pid` has forked; none when it has gone."""
    try:
        tasks = os.listdir(f"/proc/{pid}/task")
        return [int(child) for task in tasks for child in Path(f"/proc/{pid}/task/{task}/children").read_text().split()]
    except (FileNotFoundError, ProcessLookupError):
        return []


def _descendants(pid):
    return [found for child in children(pid) for found in (child, *_descendants(child))]


def _pss(pid):
    text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    return int(text.partition("\nPss:")[2].split()[0]) * 1024


def _dspex():
    """The command as it was installed, which is what users type."""
    script = Path(sys.executable).with_name("dspex")
    return [str(script)] if script.exists() else [sys.executable, "-m", "dspex"]


def cli(_):
    command = [*_dspex(), "run", "-c", "1+1"]
    ours, theirs = [], []
    for _round in range(15):
        ours.append(_wall(command))
        theirs.append(_wall([sys.executable, "-c", "pass"]))
    return [Row("`dspex run -c 1+1`, whole process, against `python -c pass`", milliseconds(ours), milliseconds(theirs), median(ours) / median(theirs), "<= 8")]  # fmt: skip


def evaluation(given):
    problems = given.problems
    if problems is None:
        return [Row("`dspex eval --canonical`", "not run: give --problems FILE", "", None, ">= 2.5")]
    command = [*_dspex(), "eval", "--canonical", "--problems", problems]
    ours, theirs, serial = [], [], []
    with tempfile.TemporaryDirectory() as directory:
        opened = gzip.open if problems.endswith(".gz") else open
        with opened(problems, "rt") as file:
            found = [json.loads(line) for line in file]
        for _round in range(5):
            ours.append(_wall(command, cwd=directory, stderr=subprocess.DEVNULL))
            theirs.append(peers.human_eval(found))
            serial.append(peers.serial_forks(found))
    return [
        Row("`dspex eval --canonical`, whole process, against human-eval's way to execute", milliseconds(ours), milliseconds(theirs), median(theirs) / median(ours), ">= 2.5"),
        Row("the same against bare serial forks", milliseconds(ours), milliseconds(serial), median(serial) / median(ours), "reported"),
    ]  # fmt: skip


def against_peers(_):
    rows = []
    with CodeExecutor() as executor:
        _one_by_one(executor, 20, 0.01)
        for name, once in peers.available().items():
            idle, loaded = ([], []), ([], [])
            for _round in range(4):
                idle[0].extend(_one_by_one(executor, 10, 0.01))
                idle[1].extend(once() for _ in range(5))
                loaded[0].extend(_by_eight(lambda: _one_by_one(executor, 1, 0)[0]))
                loaded[1].extend(_by_eight(once))
            for how, (ours, theirs) in (("idle", idle), ("eight callers at once", loaded)):
                rows.append(Row(f"fresh `1+1`, {how}, against {name}", milliseconds(ours), milliseconds(theirs), median(theirs) / median(ours), "reported"))  # fmt: skip
    return rows


def _by_eight(once):
    """Seconds of each of 40 calls from eight threads."""
    with ThreadPoolExecutor(8) as threads:
        return [run.result() for run in [threads.submit(once) for _ in range(40)]]


FIGURES = {
    "latency": latency,
    "throughput": throughput,
    "session": session,
    "tools": tools,
    "arrays": arrays,
    "cpu": cpu,
    "callers": callers,
    "memory": memory,
    "cli": cli,
    "eval": evaluation,
    "peers": against_peers,
    "branching": lambda _: branching.branching(_floor),
    "modules": modules.modules,
    "examples": modules.examples,
    "versions": versions.versions,
    "interpreters": dspy_interpreter.interpreters,
    "languages": languages.languages,
}
