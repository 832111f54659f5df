"""The pool: lanes that come and go, zygotes that are lost, guests handed from one caller to the next."""

import subprocess
import sys
import threading
import time

import pytest

import leftovers
from dspex import CodeExecutor
from dspex.errors import SandboxStartError
from dspex.execution import _pool


def lanes(executor):
    return executor.pool()._lanes


def test_lane_for_each_kind_of_preload():
    """Calls with other imports get a zygote of their own, calls with the same ones share it."""
    with CodeExecutor(max_concurrency=1) as executor:
        for imports in ([], ["json"], ["json"], ["json as js"], []):
            executor.execute("1", imports=imports)
        assert () in lanes(executor)
        assert 2 <= len(lanes(executor)) <= 3


def test_idle_lanes_are_closed(monkeypatch):
    """A lane that nobody used for a while is closed, the plain one is kept; both still work."""
    monkeypatch.setattr(_pool, "_IDLE", 0.2)
    with CodeExecutor(max_concurrency=1) as executor:
        executor.execute("1")
        executor.execute("1", imports=["json"])
        assert leftovers.becomes_true(lambda: set(lanes(executor)) == {()})
        assert executor.execute("json.dumps(2)", imports=["json"]).value == "2"
        assert executor.execute("3").value == 3


def test_lane_of_a_living_session_is_not_closed(monkeypatch):
    """However long a session says nothing, its zygote stays."""
    monkeypatch.setattr(_pool, "_IDLE", 0.1)
    with CodeExecutor(max_concurrency=1) as executor, executor.session(imports=["json"]) as session:
        session.execute("x = 4")
        time.sleep(0.5)
        assert session.execute("json.dumps(x)").value == "4"


def test_lanes_are_bounded(monkeypatch):
    """Beyond the number allowed, the lane that was unused for longest is closed."""
    monkeypatch.setattr(_pool, "_MAX_LANES", 3)
    names = ["json", "math", "base64", "textwrap", "string"]
    with CodeExecutor(max_concurrency=1) as executor:
        for name in names:
            assert executor.execute(f"{name}.__name__", imports=[name]).value == name
        assert leftovers.becomes_true(lambda: len(lanes(executor)) <= 3)
        assert executor.execute("json.dumps(1)", imports=["json"]).value == "1"


def test_preload_that_fails_is_told_to_those_who_asked_for_it(tmp_path, monkeypatch):
    """A module that cannot be imported fails its callers with its own words, and nobody else."""
    with CodeExecutor(max_concurrency=1) as executor:
        with pytest.raises(SandboxStartError, match="preloading failed"):
            executor.execute("1", imports=["winreg"])
        assert executor.execute("2").value == 2
        with pytest.raises(SandboxStartError, match="preloading failed"):
            executor.execute("1", imports=["winreg"])


def test_guests_are_there_before_they_are_asked_for():
    """After a call, guests that wait for the next ones are forked behind the caller's back."""
    with CodeExecutor(max_concurrency=2) as executor:
        executor.execute("1")
        lane = lanes(executor)[()]
        assert leftovers.becomes_true(lambda: len(lane.ready) == 4)
        assert lane.coming == set()


def test_guests_are_counted_rightly_after_many_ends():
    """After runs of every outcome from many threads, as many guests wait as at first."""
    codes = [
        "1",
        "1 / 0",
        "import os\nos._exit(3)",
        "import os\nos._exit(0)",
        "import os\nos.closerange(3, 99)\nwhile 1: pass",
    ]
    with CodeExecutor(max_concurrency=2) as executor:
        executor.execute("1")

        def work():
            for code in codes * 2:
                executor.execute(code)

        threads = [threading.Thread(target=work) for _ in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        lane = lanes(executor)[()]
        assert leftovers.becomes_true(lambda: (len(lane.ready), lane.coming, len(lane.alive)) == (4, set(), 4))
        assert executor.pool()._watched == {}
        assert executor.pool()._line.running == 0


def test_keeper_that_fails_fails_its_callers(monkeypatch):
    """Should the keeper itself break, those who wait get an error instead of waiting for ever."""
    monkeypatch.setattr(threading, "excepthook", lambda _: None)
    executor = CodeExecutor(max_concurrency=1)
    executor.execute("1")

    def broken(now):
        raise RuntimeError("broken")

    executor.pool()._unneeded = broken
    errors = []
    for _ in range(200):
        try:
            executor.execute("1")
        except Exception as error:
            errors.append(error)
            break
    assert "closed" in str(errors[0])
    executor.close()


def test_host_with_lower_limits_of_its_own_still_runs_programs():
    """Where the host's hard limits lie below the executor's, guests get the host's instead of none at all."""
    code = (
        "import resource\n"
        "resource.setrlimit(resource.RLIMIT_NOFILE, (100, 100))\n"
        "resource.setrlimit(resource.RLIMIT_CPU, (20, 20))\n"
        "from dspex import CodeExecutor\n"
        "with CodeExecutor(max_concurrency=1) as executor:\n"
        "    print(executor.execute('import resource; resource.getrlimit(resource.RLIMIT_NOFILE)').unwrap())\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=60)
    assert done.stdout == "(100, 100)\n", done.stderr
