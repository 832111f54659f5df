"""Zygotes form a tree by what they preload: who needs more is forked from who has less."""

from __future__ import annotations

import os
import pathlib
import signal

import pytest

import leftovers
from dspex import CodeExecutor
from dspex.errors import SandboxStartError
from dspex.execution import _pool

SOME = ["sqlite3"]
MORE = ["sqlite3", "xml.dom.minidom"]
LOADED = "import sys\n[name in sys.modules for name in ('sqlite3', 'xml.dom.minidom')]"


def enterable_by_all(path):
    """Whether nobody in particular may enter every directory on the way."""
    return all(os.stat(parent).st_mode & 0o001 for parent in [path, *pathlib.Path(path).parents])


# At level landlock a host that is root makes its zygotes nobody, who cannot import from a library in root's own directory.
LEVELS = ["namespaces", *(["landlock"] if os.geteuid() or enterable_by_all(os.path.dirname(os.__file__)) else [])]


@pytest.fixture(params=LEVELS)
def level(request):
    return request.param


@pytest.fixture
def executor(level):
    with CodeExecutor(isolation=level, max_concurrency=1) as executor:
        yield executor


def started_by_this_process():
    """The launchers: each was exec'd, all other processes are forks of forks."""
    children = []
    for task in os.listdir("/proc/self/task"):
        with open(f"/proc/self/task/{task}/children") as file:
            children += map(int, file.read().split())
    return children


def test_a_zygote_is_forked_from_the_one_that_has_most_of_its_preloads(executor):
    """One interpreter is started for all of them, and each guest has what it asked for, and no more."""
    before = len(started_by_this_process())
    assert executor.execute(LOADED).unwrap() == [False, False]
    assert executor.execute(LOADED, imports=SOME).unwrap() == [True, False]
    assert executor.execute(LOADED, imports=MORE).unwrap() == [True, True]
    assert executor.execute(LOADED).unwrap() == [False, False]
    assert len(started_by_this_process()) == before + 1
    lanes = executor.pool()._lanes
    assert lanes[tuple(MORE)].parent is lanes[tuple(SOME)]
    assert lanes[tuple(SOME)].parent is lanes[()]


def test_guests_of_all_zygotes_have_random_numbers_of_their_own(executor):
    """A zygote that was forked repeats nothing of its parent's."""
    numbers = {
        executor.execute("import random; random.random()", imports=imports).unwrap()
        for imports in ([], SOME, MORE)
        for _ in range(5)
    }
    assert len(numbers) == 15


def test_sessions_of_a_forked_zygote_live_and_branch(executor, level):
    """They are sessions like any other."""
    executor.execute("1")
    with executor.session(imports=SOME) as session:
        assert session.execute("sqlite3.connect(':memory:').execute('select 1').fetchone()").unwrap() == (1,)
        if level == "namespaces":
            with session.fork() as branch:
                assert branch.execute("sqlite3.__name__").unwrap() == "sqlite3"


@pytest.mark.parametrize("which", [0, 1, 2])
def test_whichever_zygote_is_killed_all_recover(executor, which):
    """Those below it end with it, and are started again."""
    for imports in ([], SOME, MORE):
        executor.execute("1", imports=imports).unwrap()
    lanes = executor.pool()._lanes
    lane = lanes[((), tuple(SOME), tuple(MORE))[which]]
    assert leftovers.becomes_true(lambda: lane.alive)
    guest = list(lane.alive.copy().values())[-1]
    with open(f"/proc/{guest.pid}/status") as status:
        zygote = int(status.read().partition("PPid:")[2].split()[0])
    os.kill(zygote, signal.SIGKILL)
    assert leftovers.becomes_true(
        lambda: lane.zygote is None or not lane.serving or not os.path.exists(f"/proc/{zygote}")
    )
    for imports in ([], SOME, MORE):
        assert executor.execute(LOADED, imports=imports).unwrap()[0] is (imports != [])


def test_a_preload_that_fails_leaves_the_parent_alone(executor):
    """Who asked for it is told, everybody else goes on."""
    executor.execute("1")
    with pytest.raises(SandboxStartError, match="preloading failed"):
        executor.execute("1", imports=["winreg"])
    assert executor.execute("40 + 2").unwrap() == 42


def test_idle_zygotes_are_closed_from_the_leaves(executor, monkeypatch):
    """A parent stays as long as one is there that was forked from it; in the end the plain one is left."""
    monkeypatch.setattr(_pool, "_IDLE", 0.3)
    for imports in ([], SOME, MORE):
        executor.execute("1", imports=imports).unwrap()
    assert leftovers.becomes_true(lambda: list(executor.pool()._lanes) == [()])
    assert executor.execute("1", imports=MORE).unwrap() == 1


def test_nothing_is_left_of_the_tree(level):
    """Closing the executor ends every zygote, whoever forked it."""
    before = set(leftovers.descendants())
    with CodeExecutor(isolation=level, max_concurrency=1) as executor:
        for imports in ([], SOME, MORE):
            executor.execute("1", imports=imports).unwrap()
    assert leftovers.becomes_true(lambda: set(leftovers.descendants()) <= before)
