"""Under load, things are killed at random; every call ends with a right answer or a clear error, and nothing is left."""

import asyncio
import os
import pathlib
import random
import signal
import subprocess
import sys
import threading
import time

import pytest

import leftovers
from dspex import CodeExecutor, languages
from dspex._kernel import resources
from dspex.errors import ClosedError, SandboxError

SECONDS = 2.5


class Load:
    """Threads that call an executor in every way until they are told to stop, and what was wrong with their answers."""

    def __init__(self, executor, threads=8):
        self.executor = executor
        self.stop = threading.Event()
        self.wrong = []
        self.right = 0
        self.failed = 0
        ways = [self.plain, self.mapped, self.awaited, self.in_session, self.large]
        self.threads = [threading.Thread(target=self.work, args=(ways[n % len(ways)],)) for n in range(threads)]

    def work(self, way):
        n = 0
        while not self.stop.is_set():
            n += 1
            try:
                way(n)
            except SandboxError:
                self.failed += 1
            except BaseException as error:
                self.wrong.append(error)

    def check(self, result, value):
        if result.error is None and result.value == value:
            self.right += 1
        elif result.error is not None and result.error.kind == "killed":
            self.failed += 1
        else:
            self.wrong.append(result)

    def plain(self, n):
        self.check(self.executor.execute("n + 1", {"n": n}), n + 1)

    def large(self, n):
        self.check(self.executor.execute("b + b", {"b": bytes(1 << 19)}), bytes(1 << 20))

    def mapped(self, n):
        for k, result in enumerate(self.executor.map([f"{n * 10 + k}" for k in range(10)], concurrency=3)):
            self.check(result, n * 10 + k)

    def awaited(self, n):
        async def everything():
            return await asyncio.gather(*(self.executor.aexecute(f"{k}") for k in range(5)), return_exceptions=True)

        for k, outcome in enumerate(asyncio.run(everything())):
            if isinstance(outcome, SandboxError):
                self.failed += 1
            else:
                self.check(outcome, k)

    def in_session(self, n):
        with self.executor.session() as session:
            self.check(session.execute("x = n", {"n": n}), None)
            try:
                self.check(session.execute("x + 1"), n + 1)
            except ClosedError:
                self.failed += 1

    def __enter__(self):
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self.stop.set()
        for thread in self.threads:
            thread.join(30)
        assert not any(thread.is_alive() for thread in self.threads), "a call hangs"


def launchers():
    """The engine's processes that are children of this one."""
    return [pid for pid in resources.descendants(os.getpid()) if _parent(pid) == os.getpid()]


def zygotes():
    """The children of launchers."""
    return [pid for launcher in launchers() for pid in resources.descendants(launcher) if _parent(pid) == launcher]


def guests():
    """The children of zygotes."""
    found = []
    for zygote in zygotes():
        found += [pid for pid in resources.descendants(zygote) if _parent(pid) == zygote]
    return found


def _parent(pid):
    try:
        with open(f"/proc/{pid}/stat") as file:
            return int(file.read().rpartition(")")[2].split()[1])
    except (OSError, IndexError):
        return -1


def kill_one(pids):
    if pids:
        try:
            os.kill(random.choice(pids), signal.SIGKILL)
        except ProcessLookupError:
            pass


KILLERS = {
    "launcher": (launchers, 0.4),
    "zygote": (zygotes, 0.4),
    "guest": (guests, 0.01),
}


@pytest.mark.parametrize("what", KILLERS)
def test_killing_parts_of_the_engine_under_load(what):
    """Whatever part is killed, calls end rightly or with a SandboxError, and the engine goes on afterwards."""
    find, pause = KILLERS[what]
    before, below = leftovers.descriptors(), set(leftovers.descendants())
    with CodeExecutor(max_concurrency=2) as executor:
        executor.execute("1")
        with Load(executor) as load:
            end = time.monotonic() + SECONDS
            while time.monotonic() < end:
                time.sleep(random.uniform(0, 2 * pause))
                kill_one(find())
        assert load.wrong == []
        assert load.right > 20
        seen = [leftovers.identity(pid) for pid in leftovers.descendants() if pid not in below]
        assert leftovers.becomes_true(lambda: _value(executor) == 7, 20)
    assert leftovers.vanish(seen)
    assert leftovers.becomes_true(lambda: set(leftovers.descendants()) <= below)
    assert leftovers.becomes_true(lambda: leftovers.descriptors().items() <= before.items(), 5), leftovers.descriptors()


def _value(executor):
    try:
        return executor.execute("7").value
    except SandboxError:
        return None


def test_idle_engine_whose_zygote_was_killed_recovers():
    """A zygote that is killed while nobody calls is replaced, and the next call works."""
    with CodeExecutor(max_concurrency=1) as executor:
        executor.execute("1")
        for _ in range(3):
            kill_one(zygotes())
            assert leftovers.becomes_true(lambda: _value(executor) == 7)


def test_waiting_for_a_lost_zygote_costs_no_cpu():
    """After its zygote was killed the idle engine does not spin."""
    with CodeExecutor(max_concurrency=1) as executor:
        executor.execute("1")
        kill_one(zygotes())
        time.sleep(0.3)
        begun = time.process_time()
        time.sleep(0.5)
        assert time.process_time() - begun < 0.25


def test_guests_killed_while_they_wait_are_replaced():
    """Killing every guest that waits for work, again and again, never leaves a call without one."""
    with CodeExecutor(max_concurrency=2) as executor:
        executor.execute("1")
        for _ in range(20):
            for pid in guests():
                kill_one([pid])
            assert leftovers.becomes_true(lambda: _value(executor) == 7)


def test_closing_under_load():
    """Closing an executor that many threads use ends all their calls, and leaves nothing."""
    before, below = leftovers.descriptors(), set(leftovers.descendants())
    for _ in range(3):
        executor = CodeExecutor(max_concurrency=2)
        executor.execute("1")
        with Load(executor) as load:
            time.sleep(random.uniform(0.05, 0.4))
            executor.close()
        assert load.wrong == []
        assert set(leftovers.descendants()) <= below
    assert leftovers.becomes_true(lambda: leftovers.descriptors().items() <= before.items(), 5), leftovers.descriptors()


HOST = """
import os, sys, threading, time
from dspex import CodeExecutor
from dspex._kernel import resources

executor = CodeExecutor(max_concurrency=2, isolation=sys.argv[1])
session = executor.session()
session.execute("x = 1")

def load():
    while True:
        executor.execute("sum(range(10**5))")

def endless():
    executor.execute("while True: pass")

for target in (load, load, endless):
    threading.Thread(target=target, daemon=True).start()
time.sleep(0.3)
while True:
    print(*resources.descendants(os.getpid()), flush=True)
    time.sleep(0.02)
"""


def test_host_that_is_killed_takes_everything_along(level):
    """After kill -9 of the host every process that it had made ends."""
    source = str(pathlib.Path(languages.__file__).parents[2])
    for _ in range(3):
        command = [sys.executable, "-c", HOST, level]
        host = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": source})
        with host:
            seen = set()
            for _ in range(random.randint(2, 10)):
                seen |= {leftovers.identity(int(pid)) for pid in host.stdout.readline().split()}
            seen |= {leftovers.identity(pid) for pid in resources.descendants(host.pid)}
            host.kill()
        assert len(seen) >= 3
        assert leftovers.vanish(seen)
