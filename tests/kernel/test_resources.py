"""Limits that bind, and measures that agree with what processes do."""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from dspex._kernel import resources

SOURCE = str(Path(resources.__file__).parents[2])
PREAMBLE = (
    f"import sys\nsys.path.insert(0, {SOURCE!r})\nimport os, resource, time\nfrom dspex._kernel import resources\n"
)


def run(body: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-c", PREAMBLE + body], capture_output=True, text=True, timeout=60, check=False
    )


@pytest.fixture
def child():
    """Start a Python program that prints a line when it is ready and then waits for its end."""
    started = []

    def start(body: str) -> subprocess.Popen:
        program = PREAMBLE + body + "\nprint('ready', flush=True)\nsys.stdin.read()\n"
        process = subprocess.Popen(
            [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        started.append(process)
        assert process.stdout.readline() == "ready\n"
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


def test_limits_bind_for_good():
    """Soft and hard limit become the value, and a higher one asked for later changes nothing."""
    body = """
resources.set_limits(open_files=50, core=0, file_size=1000)
resources.set_limits(file_size=2000)
print(resource.getrlimit(resource.RLIMIT_NOFILE), resource.getrlimit(resource.RLIMIT_FSIZE))
"""
    assert run(body).stdout == "(50, 50) (1000, 1000)\n"


def test_address_space_is_refused_beyond_the_limit():
    """A process that asks for more memory than its limit gets MemoryError."""
    body = """
resources.set_limits(address_space=300 << 20)
try:
    bytearray(400 << 20)
except MemoryError:
    print("refused")
"""
    assert run(body).stdout == "refused\n"


def test_cpu_limit_ends_a_loop():
    """An endless loop is ended by the kernel."""
    assert run("resources.set_limits(cpu=1)\nwhile True: pass").returncode in (-signal.SIGXCPU, -signal.SIGKILL)


def test_an_unknown_limit_is_named():
    """A limit that does not exist raises, naming it."""
    with pytest.raises(KeyError, match="patience"):
        resources.set_limits(patience=1)


def test_cpu_time_is_the_process_clock():
    """The clock of this process read by its pid is the one that Python reads."""
    before = time.process_time()
    read = resources.cpu_time(os.getpid())
    assert before <= read <= time.process_time()


def test_cpu_time_of_another_process_grows_as_it_works(child):
    """A child that has worked for a while shows it; waiting adds next to nothing."""
    process = child("end = time.process_time() + 0.3\nwhile time.process_time() < end: pass")
    first = resources.cpu_time(process.pid)
    assert first >= 0.3
    time.sleep(0.05)
    assert resources.cpu_time(process.pid) - first < 0.05


@pytest.mark.parametrize("measure", [resources.cpu_time, resources.peak_memory])
def test_a_reaped_process_is_told_apart(measure):
    """A pid of nobody raises ProcessLookupError."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    with pytest.raises(ProcessLookupError, match=str(process.pid)):
        measure(process.pid)


def test_peak_memory_remembers(child):
    """The peak stays after the memory was given back."""
    process = child("b = bytearray(80 << 20)\nb = None")
    assert resources.peak_memory(process.pid) > 80 << 20
    assert resources.tree_usage(process.pid).memory < 80 << 20


def test_a_tree_is_counted_whole(child):
    """Children, grandchildren, threads and their memory are in the sum, those started by a thread too."""
    body = """
import subprocess, threading
block = bytearray(30 << 20)
def nested():
    if not os.fork():
        if not os.fork():
            more = bytearray(40 << 20)
            os.write(w, b"x")
            time.sleep(600)
        time.sleep(600)
r, w = os.pipe()
def work():
    nested()
    os.read(r, 1)
    done.set()
    time.sleep(600)
done = threading.Event()
threading.Thread(target=work, daemon=True).start()
done.wait()
"""
    process = child(body)
    try:
        usage = resources.tree_usage(process.pid)
        assert (usage.processes, usage.threads) == (3, 4)
        assert usage.memory > 70 << 20
        assert len(resources.descendants(process.pid)) == 2
    finally:
        for pid in resources.descendants(process.pid):
            os.kill(pid, signal.SIGKILL)


def test_shared_memory_is_counted(child):
    """Pages of a shared anonymous mapping count like private ones."""
    process = child("import mmap\nm = mmap.mmap(-1, 30 << 20)\nm[:] = bytes(30 << 20)")
    assert resources.tree_usage(process.pid).memory > 30 << 20


def test_reaped_children_stay_in_the_cpu_time(child):
    """What a child used is not forgotten when it was waited for."""
    body = """
if not os.fork():
    end = time.process_time() + 0.3
    while time.process_time() < end: pass
    os._exit(0)
os.wait()
"""
    process = child(body)
    assert resources.tree_usage(process.pid).cpu - resources.cpu_time(process.pid) >= 0.25


def test_nobody_uses_nothing():
    """The tree of a pid that is gone is empty."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    assert resources.tree_usage(process.pid) == resources.Usage()
    assert resources.descendants(process.pid) == []


def test_a_strange_name_does_not_confuse(child):
    """A process whose name holds parentheses and newlines is measured like any other."""
    process = child("open('/proc/self/comm', 'w').write(') S 1 (\\n')")
    usage = resources.tree_usage(process.pid)
    assert usage.processes == 1
    assert 0 < usage.cpu < 60


def test_vanishing_processes_are_left_out():
    """While processes come and go the walk never fails."""
    stop = threading.Event()

    def churn():
        while not stop.is_set():
            subprocess.run(["/bin/sh", "-c", "/bin/true & /bin/true & wait"], check=True)

    thread = threading.Thread(target=churn)
    thread.start()
    try:
        for _ in range(300):
            assert resources.tree_usage(os.getpid()).processes >= 1
    finally:
        stop.set()
        thread.join()
