"""Branches of a session: the same memory and files, each going its own way, walled from the others."""

from __future__ import annotations

import asyncio
import gc
import subprocess
import sys
import threading
import time

import pytest

from dspex import CodeExecutor, ResourceLimits, SecurityPolicy, Tool, best_of
from dspex.errors import ClosedError, ProgramError, SandboxLostError, UsageError


@pytest.fixture(scope="module")
def executor():
    """One executor with the strongest level for all tests here."""
    with CodeExecutor(isolation="namespaces") as executor:
        yield executor


@pytest.fixture
def session(executor):
    """A session of its own for each test."""
    with executor.session() as session:
        yield session


def value(session, code):
    """What a program comes to; it must not fail."""
    return session.execute(code).unwrap()


def test_a_fork_has_the_same_memory_and_goes_its_own_way(session):
    """Names are there in both, and what one does to them the other does not see."""
    value(session, "x = [1]\ndef grow(n):\n    x.append(n)\n    return x")
    with session.fork() as branch:
        assert value(branch, "grow(2)") == [1, 2]
        assert value(session, "grow(3)") == [1, 3]
        assert value(branch, "x") == [1, 2]


def test_fork_with_a_number_gives_a_list(session):
    """So many at once, each living."""
    branches = session.fork(5)
    assert [value(b, f"y = {n}; y") for n, b in enumerate(branches)] == [0, 1, 2, 3, 4]
    assert value(session, "'y' in globals()") is False
    assert len(session.fork(1)) == 1
    for branch in branches:
        branch.close()


def test_a_fork_of_a_session_that_never_ran(executor):
    """The session is opened for it."""
    with executor.session() as session, session.fork() as branch:
        assert value(branch, "1 + 1") == 2


def test_files_branch_with_memory(session):
    """Names, contents, modes, links and times of working files; what one branch writes the other does not see."""
    value(
        session,
        "import os\nos.makedirs('d/e')\nopen('d/e/f', 'w').write('base')\nos.chmod('d/e/f', 0o640)\n"
        "os.symlink('d/e/f', 'l')\nos.utime('d/e/f', (5, 6))",
    )
    with session.fork() as branch:
        look = "s = os.stat('d/e/f'); (sorted(os.listdir()), open('l').read(), oct(s.st_mode), s.st_mtime, os.readlink('l'))"
        assert value(branch, look) == (["d", "l"], "base", "0o100640", 6.0, "d/e/f")
        value(branch, "open('d/e/f', 'a').write('-branch'); open('own', 'w').close()")
        value(session, "open('d/e/f', 'a').write('-root')")
        assert value(branch, "open('l').read(), os.path.exists('own')") == ("base-branch", True)
        assert value(session, "open('l').read(), os.path.exists('own')") == ("base-root", False)


def test_open_files_follow_into_the_branchs_own_view(session):
    """A file that is open, at its place in it, is the branch's own from then on; also one without a name, and the directory."""
    value(
        session,
        "import os, tempfile\nos.mkdir('in'); os.chdir('in')\nf = open('f', 'w+'); f.write('abc'); f.flush()\n"
        "t = tempfile.TemporaryFile(); t.write(b'tmp'); t.flush(); t.seek(1)",
    )
    with session.fork() as branch:
        value(branch, "f.write('-branch'); f.flush(); t.write(b'X'); t.flush()")
        value(session, "f.write('-root'); f.flush()")
        assert value(branch, "f.seek(0); t.seek(0); (f.read(), t.read(), os.getcwd())") == (
            "abc-branch",
            b"tXp",
            "/run/sandbox/work/in",
        )
        assert value(session, "f.seek(0); t.seek(0); (f.read(), t.read())") == ("abc-root", b"tmp")


def test_random_numbers_differ_between_branches(session):
    """Each branch has generators of its own."""
    value(session, "import random, uuid, os, ssl")
    branches = [session, *session.fork(6)]
    for code in ("random.random()", "uuid.uuid4().hex", "ssl.RAND_bytes(8)"):
        assert len({value(b, code) for b in branches}) == 7


def test_a_seed_makes_sessions_and_branches_repeatable(executor):
    """The same seed gives the same numbers again, different ones in each branch."""

    def numbers():
        with executor.session(seed=7) as session:
            first = value(session, "import random; random.random()")
            branches = session.fork(3)
            return first, [value(b, "random.random()") for b in branches]

    one, two = numbers(), numbers()
    assert one == two
    assert len(set(one[1])) == 3


def test_sets_have_one_order_in_every_zygote():
    """The seed of hashes is fixed, so a repeated session meets its sets in the same order."""
    orders = set()
    for _ in range(3):
        with CodeExecutor() as executor:
            orders.add(tuple(executor.execute("[*{str(n) for n in range(100)}]").unwrap()))
    assert len(orders) == 1


@pytest.mark.parametrize("seed", [-1, 1 << 62, 1.5, True, "7"])
def test_a_seed_that_is_none_is_refused(executor, seed):
    """Whole numbers of 62 bits."""
    with pytest.raises(UsageError, match="seed is"):
        executor.session(seed=seed)


def test_restore_any_number_of_times_in_any_order(session):
    """Checkpoints stay what they were, whatever the session became since."""
    value(session, "x = 0; open('f', 'w').write('0')")
    points = []
    for n in range(1, 4):
        value(session, f"x = {n}; open('f', 'w').write('{n}')")
        points.append(session.checkpoint(f"at {n}"))
    for n in (1, 3, 2, 2, 1):
        value(session, "x = -1; open('f', 'w').write('gone')")
        session.restore(points[n - 1])
        assert value(session, "x, open('f').read()") == (n, str(n))
    with points[2].session() as other:
        assert value(other, "x") == 3


def test_a_session_at_a_checkpoint_is_another_one(session):
    """It lives beside the session, and outlives the checkpoint."""
    value(session, "x = 1")
    point = session.checkpoint()
    other = point.session()
    point.close()
    value(session, "x = 2")
    assert value(other, "x") == 1
    with pytest.raises(ClosedError):
        point.session()
    with pytest.raises(ClosedError):
        session.restore(point)
    assert value(session, "x") == 2


def test_a_session_that_was_killed_can_be_opened_again_at_its_checkpoint(session):
    """The end of a branch, however it comes, is no other's."""
    value(session, "x = 5")
    point = session.checkpoint()
    result = session.execute("import os; os._exit(3)")
    assert (result.error.kind, result.error.type) == ("killed", "ProcessExit")
    assert "status 3" in result.error.message
    with point.session() as again:
        assert value(again, "x") == 5


def test_how_a_branch_ends_is_told_as_for_any_guest(session):
    """Signals, deadlines and limits have their own kinds in branches too."""
    crash, slow, big = session.fork(3)
    assert crash.execute("import ctypes; ctypes.string_at(0)").error.type == "SIGSEGV"
    assert (
        slow.execute(
            "while True:\n    try:\n        while True: pass\n    except BaseException: pass", timeout=0.3
        ).error.kind
        == "timeout"
    )
    assert big.execute("x = bytearray(600 << 20)").error.kind == "memory_limit"
    assert value(session, "1") == 1


def test_a_checkpoint_of_another_tree_is_refused(executor, session):
    """Its process is not this session's to copy."""
    with executor.session() as other:
        point = other.checkpoint()
        with pytest.raises(UsageError, match="tree"):
            session.restore(point)


def test_branches_of_branches(session):
    """A tree of any shape; each node knows what its ancestors did."""
    value(session, "trace = 'r'")
    left, right = session.fork(2)
    value(left, "trace += 'l'")
    value(right, "trace += 'r'")
    leaves = [*left.fork(2), *right.fork(2)]
    assert [value(leaf, f"trace + '{n}'") for n, leaf in enumerate(leaves)] == ["rl0", "rl1", "rr2", "rr3"]
    drawn = session.tree.draw().splitlines()
    assert len(drawn) == 7
    assert [line.startswith("    session") for line in drawn].count(True) == 4


def test_a_long_chain_of_forks_and_restores(session):
    """Nothing nests: each step starts from the one before, far beyond the kernel's 32 namespaces and 16 Landlock layers."""
    value(session, "n = 0")
    for _ in range(1000):
        value(session, "n += 1; open('f', 'w').write(str(n))")
        with session.checkpoint() as point:
            session.restore(point)
    assert value(session, "n, open('f').read()") == (1000, "1000")


def test_best_of_keeps_the_winner(session):
    """The session becomes the branch whose result scored highest; the others are gone."""
    value(session, "x = 1")
    best = best_of(session, ["x += 1; x", "x += 10; x", "1 / 0"], lambda r: r.value if r.ok else None)
    assert (best.winner, best.score, best.scores) == (1, 11, (2, 11, None))
    assert value(session, "x") == 11


def test_best_of_rejecting_all_changes_nothing(session):
    """Then the session stays where it stood."""
    value(session, "x = 1")
    best = best_of(session, ["x = 2", "x = 3"], lambda r: None)
    assert best.winner is None
    assert value(session, "x") == 1
    with pytest.raises(UsageError):
        best_of(session, [], lambda r: 1)


def test_a_fork_inside_a_tool_lets_each_branch_get_another_answer(executor):
    """Each branch goes on from the pending call with the answer that it is given; the caller's connection survives."""
    came = []

    def choose(options):
        branches = session.fork(len(options))
        assert [call.name for call in branches[0].pending] == ["choose"]
        came.extend(b.resume(o) for b, o in zip(branches, options, strict=True))
        return "own"

    session = executor.session(tools=[choose])
    with session:
        result = session.execute("k = 'k'\nanswer = choose(['a', 'b'])\nprint(answer)\nanswer + k")
        assert result.value == "ownk"
        assert [r.value for r in came] == ["ak", "bk"]
        assert [r.stdout for r in came] == ["a\n", "b\n"]
        assert value(session, "answer") == "own"


def test_an_async_tool_forks_the_session_that_waits_for_it(executor):
    """It runs in another thread than the driver, whose channel it leaves as it was."""
    held = []

    async def ask():
        held.extend(await session.afork(2))
        return 0

    session = executor.session(tools=[ask])
    with session:
        assert value(session, "await ask() + 1") == 1
        assert [branch.resume(n).value for branch, n in zip(held, (1, 2), strict=True)] == [2, 3]
        for branch in held:
            branch.close()


def test_a_tool_of_an_awaited_run_forks_its_session(executor):
    """There sync tools run in threads."""

    def ask():
        with session.fork() as branch:
            return branch.resume(20).value

    async def main():
        return (await session.aexecute("ask() + 1")).unwrap()

    session = executor.session(tools=[ask])
    with session:
        assert asyncio.run(main()) == 22


def test_forks_do_not_cut_the_returns_of_other_calls(executor):
    """Large returns and forks go to the guest at once, from different threads: each arrives whole."""

    async def much(n):
        await asyncio.sleep(n / 1000)
        return list(range(100_000))

    async def fork(n):
        await asyncio.sleep(n / 1000)
        (await session.afork(1))[0].close()

    session = executor.session(tools=[much, fork])
    code = (
        "import asyncio\nfound = await asyncio.gather(*(tool(n) for n in range(15) for tool in (much, fork)))\n"
        "sum(map(len, filter(None, found)))"
    )
    with session:
        assert value(session, code) == 1_500_000


def test_a_branch_waits_for_just_the_returns_that_it_has_not_got(executor):
    """While calls are answered one after the other, each branch is told which are still open in it."""
    branches = []

    async def answer(n):
        await asyncio.sleep(n / 1000)
        return n

    async def fork():
        for _ in range(5):
            branches.extend(await session.afork(1))

    session = executor.session(tools=[answer, fork])
    code = "import asyncio\nfound = await asyncio.gather(*(answer(n) for n in range(60)), fork())\nfound[:-1]"
    with session:
        assert value(session, code) == list(range(60))
        for branch in branches:
            answers = [None if call.name == "fork" else call.arguments["n"] for call in branch.pending]
            assert branch.resume(*answers).unwrap() == list(range(60))
            branch.close()


def test_a_branch_makes_the_calls_again_that_nobody_had_read(executor):
    """Calls that lay in the channel when it was copied are no pending ones: it makes them itself, under their numbers."""
    branches = []

    async def fork():
        branches.extend(await session.afork(1))

    async def answer(n, factor=1):
        await asyncio.sleep(0.01)
        return n * factor

    session = executor.session(tools=[answer, fork])
    code = "import asyncio\nfound = await asyncio.gather(fork(), *(answer(n, factor=2) for n in range(40)))\nfound[1:]"
    with session:
        for _ in range(8):
            assert value(session, code) == list(range(0, 80, 2))
            with branches.pop() as branch:
                answers = [call.arguments.get("n", 0) * 2 for call in branch.pending]
                assert branch.resume(*answers, timeout=10).unwrap() == list(range(0, 80, 2))


def test_a_fork_while_the_program_sends_more_than_a_socket_holds(executor):
    """The driver is in the tool that forks: somebody else takes in the rest, or the program would never hear of the fork."""
    branches = []

    def ask():
        branches.append(session.fork())
        return 1

    def size(text):
        return len(text)

    session = executor.session(tools=[ask, size])
    code = "import asyncio\nawait asyncio.gather(ask(), *(size('x' * 1_000_000) for _ in range(3)))"
    with session:
        assert value(session, code) == [1, *[1_000_000] * 3]
        answers = {"ask": 2, "size": 1_000_000}
        resumed = branches[0].resume(*(answers[call.name] for call in branches[0].pending))
        assert resumed.unwrap() == [2, *[1_000_000] * 3]
        branches[0].close()


def test_a_fork_while_threads_of_the_program_call_tools(executor):
    """The main thread is what is copied, whoever reads the channel; in the copy nobody is still sending."""
    branches = []

    def ask():
        branches.append(session.fork())

    def size(text):
        return len(text)

    session = executor.session(tools=[ask, size])
    code = """
import threading, time
busy = True
def work():
    while busy:
        size('x' * 3_000_000)
threads = [threading.Thread(target=work, daemon=True) for _ in range(2)]
for thread in threads:
    thread.start()
for _ in range(5):
    time.sleep(0.02)
    ask()
    found = size('last')
busy = False
found
"""
    with session:
        assert value(session, code) == 4
        for branch in branches[:]:
            answers = [None if call.name == "ask" else 0 for call in branch.pending]
            assert branch.resume(*answers, timeout=20).unwrap() == 4
        for branch in branches:
            branch.close()


def test_a_tool_that_outlives_its_run_forks_between_two_runs(executor):
    """The run that it was called from is over: it waits for its turn like anybody else, also inside a tool of the next."""
    go, branches = threading.Event(), []

    def late():
        go.wait()
        branches.append(session.fork())

    def hold():
        go.set()
        time.sleep(0.3)

    session = executor.session(tools=[Tool(late, parallel=True), hold])
    with session:
        value(session, "import asyncio\ntask = asyncio.ensure_future(late())\nawait asyncio.sleep(0.05)\nx = 1")
        value(session, "x = 2\nhold.wait()\nx = 3")
        while not branches:
            time.sleep(0.01)
        assert branches[0].pending == ()
        assert value(branches[0], "x") == 3
        branches[0].close()


def test_an_exception_as_answer_is_raised_in_the_branch(executor):
    """And a branch that calls the tool again reaches the host's function."""
    held = []

    def ask(n):
        if n == 0:
            held.append(session.fork())
        return n

    session = executor.session(tools=[ask])
    with session:
        code = "try:\n    first = ask(0)\nexcept KeyError as e:\n    first = ('caught', *e.args)\nfirst, ask(5)"
        assert session.execute(code).value == (0, 5)
        (branch,) = held
        with pytest.raises(UsageError, match="answer"):
            branch.execute("1")
        with pytest.raises(UsageError, match="1"):
            branch.resume()
        assert branch.resume(KeyError("k")).value == (("caught", "k"), 5)
        assert value(branch, "first") == ("caught", "k")


def test_a_checkpoint_inside_a_tool_can_be_resumed_many_times(executor):
    """Each session opened there waits for the same answer."""
    points = []

    def ask():
        points.append(session.checkpoint())
        return 0

    session = executor.session(tools=[ask])
    with session:
        assert session.execute("ask() * 2").value == 0
        assert [points[0].session().resume(n).value for n in (1, 2, 3)] == [2, 4, 6]
        session.restore(points[0])
        assert session.resume(21).value == 42


def test_a_resumed_branch_has_a_deadline(executor):
    """The soft one: the error names the line, and the session lives on."""
    held = []

    def ask():
        held.append(session.fork())

    session = executor.session(tools=[ask])
    with session:
        session.execute("if ask() == 'slow':\n    while True:\n        pass")
        result = held[0].resume("slow", timeout=0.3)
        assert (result.error.kind, result.error.line in (2, 3)) == ("timeout", True)
        assert value(held[0], "1") == 1


def test_more_branches_than_the_limit_are_refused():
    """With a message that says what to close or to raise; nothing that lives is harmed."""
    with CodeExecutor(limits=ResourceLimits(branches=4)) as executor, executor.session() as session:
        points = [session.checkpoint() for _ in range(3)]
        with pytest.raises(UsageError, match=r"limits\.branches"):
            session.fork()
        points[0].close()
        assert value(session.fork(), "1") == 1


@pytest.mark.parametrize("n", [0, -1, 1.5, True, "2"])
def test_a_number_of_forks_that_is_none_is_refused(session, n):
    """Whole numbers of at least one."""
    with pytest.raises(UsageError, match="n is"):
        session.fork(n)


def test_sessions_with_subprocesses_cannot_be_branched():
    """Their processes could not follow, and the error says so."""
    with CodeExecutor(policy=SecurityPolicy(subprocesses=True)) as executor, executor.session() as session:
        assert value(session, "1") == 1
        with pytest.raises(UsageError, match="subprocesses"):
            session.fork()


def test_sessions_at_level_landlock_cannot_be_branched():
    """A process under Landlock alone has no view of its own to be given."""
    with CodeExecutor(isolation="landlock") as executor, executor.session() as session:
        with pytest.raises(UsageError, match="namespaces"):
            session.checkpoint()
        assert value(session, "1") == 1


def test_threads_do_not_follow(session):
    """A copy has the one thread that forked; the parent keeps its own, and both live."""
    value(
        session,
        "import threading, time\nstop = threading.Event()\nt = threading.Thread(target=stop.wait, daemon=True)\nt.start()",
    )
    with session.fork() as branch:
        assert value(branch, "threading.active_count()") == 1
        assert value(session, "threading.active_count()") == 2
        assert branch.execute("import os; os._exit(1)").error.kind == "killed"


def test_event_loops_follow(session):
    """Top-level await works in parent and branch alike."""
    value(session, "import asyncio\nawait asyncio.sleep(0)\nx = 1")
    with session.fork() as branch:
        assert value(branch, "await asyncio.sleep(0.01, 'b')") == "b"
        assert value(session, "await asyncio.sleep(0.01, 's')") == "s"


def test_loops_of_branches_do_not_take_each_others_wake_ups(session):
    """Threads wake the loop of their own branch, while those of other branches run."""
    value(session, "import asyncio\nawait asyncio.to_thread(lambda: 0)")
    code = "import time\nfor _ in range(200):\n    await asyncio.to_thread(time.sleep, 0.001)\n'awake'"
    branches = session.fork(4)
    told = []
    threads = [threading.Thread(target=lambda b=b: told.append(b.execute(code, timeout=8).value)) for b in branches]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert told == ["awake"] * 4


def test_the_async_twins(executor):
    """fork, checkpoint, restore and resume from an event loop."""

    async def main():
        async with executor.session() as session:
            await session.aexecute("x = 1")
            point = await session.acheckpoint()
            (branch,) = await session.afork(1)
            await session.aexecute("x = 2")
            await session.arestore(point)
            return (await session.aexecute("x")).value, (await branch.aexecute("x")).value

    assert asyncio.run(main()) == (1, 1)


def test_many_threads_branch_one_session(session):
    """Forks, runs and restores from several threads at once: every call ends with a right answer."""
    value(session, "x = 7")
    point, wrong = session.checkpoint(), []

    def work():
        for _ in range(5):
            with point.session() as own, own.fork() as branch:
                if value(branch, "x += 1; x") != 8 or value(own, "x") != 7:
                    wrong.append(1)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_a_full_disk_fails_the_fork_or_copies_all(executor):
    """A view is as large as its parent's, so what fits there fits here."""
    with executor.session() as session:
        value(
            session,
            "import os\nf = open('f', 'wb')\ntry:\n    while True: f.write(b'x' * 65536)\nexcept OSError: pass\n"
            "f = None\nn = os.path.getsize('f')",
        )
        with session.fork() as branch:
            assert value(branch, "os.path.getsize('f') == n")


def test_directories_nested_too_deeply_end_the_session_with_a_clear_error(executor):
    """A hundred levels are copied; beyond that the session cannot be branched, and says so. Its branches live on."""
    with executor.session() as session:
        branch, point = session.fork(), session.checkpoint()
        value(session, "import os\nfor _ in range(150):\n    os.mkdir('d'); os.chdir('d')")
        with pytest.raises(SandboxLostError, match="nested too deeply"):
            session.fork()
        with pytest.raises(ClosedError, match="nested too deeply"):
            session.execute("1")
        with branch, point, point.session() as again:
            assert [value(branch, "2"), value(again, "3"), value(branch.fork(), "4")] == [2, 3, 4]


@pytest.mark.parametrize("end", ["os._exit(1)", "os.kill(os.getpid(), 9)"])
def test_a_copy_that_dies_before_it_is_whole_ends_its_parent_only(executor, end):
    """At once, not when the patience is over; the siblings can be copied still."""
    with executor.session() as session:
        branch = session.fork()
        value(session, f"import os\nos.register_at_fork(after_in_child=lambda: {end})")
        with pytest.raises(SandboxLostError, match="before it was whole"):
            session.fork(3)
        with branch, branch.fork() as other:
            assert value(other, "5") == 5


def test_a_process_that_ends_while_it_is_copied_ends_itself_only(executor):
    """The host hears of it from the warden."""
    with executor.session() as session:
        branch = session.fork()
        value(session, "import os\nos.register_at_fork(before=lambda: os._exit(1))")
        with pytest.raises(SandboxLostError, match="ended while it was copied"):
            session.fork()
        with branch, branch.fork() as other:
            assert value(other, "5") == 5


def test_a_process_that_dawdles_when_it_is_copied_delays_nobody_else(executor, monkeypatch):
    """One deadline for all copies of a call; meanwhile siblings run, end and are closed."""
    monkeypatch.setattr("dspex.execution._tree._PATIENCE", 2.0)
    with executor.session() as session:
        branch, other = session.fork(2)
        value(session, "import os, time\nos.register_at_fork(before=lambda: time.sleep(1.5))\n0")
        failed = []

        def fork():
            with pytest.raises(SandboxLostError) as caught:
                session.fork(20)
            failed.append(str(caught.value))

        thread = threading.Thread(target=fork)
        thread.start()
        time.sleep(0.2)
        with branch:
            assert value(branch, "1") == 1
            other.close()
            assert thread.is_alive()  # all that was done while the slow one was waited for
            thread.join()
            assert "in time" in failed[0]
            monkeypatch.undo()
            assert value(branch.fork(), "2") == 2


def test_files_that_come_and_go_while_they_are_copied_harm_nothing(executor):
    """What has gone is left out, what is cut off is shorter."""
    with executor.session() as session:
        value(
            session,
            "import os, threading\ndef churn():\n    while True:\n"
            "        with open('t', 'wb') as f: f.write(b'x' * (1 << 20))\n        os.truncate('t', 0)\n"
            "        os.mkdir('u'); os.rename('u', 'v'); os.rmdir('v')\n"
            "threading.Thread(target=churn, daemon=True).start()",
        )
        for _ in range(15):
            session.fork().close()


def test_two_sessions_that_become_each_other_do_not_wait_for_ever(session):
    """The turns of both are taken in one order."""
    value(session, "x = 1")
    branch = session.fork()
    busy = threading.Thread(target=lambda: branch.execute("import time; time.sleep(0.5)"))
    busy.start()
    time.sleep(0.1)
    told = []

    def become(one, other):
        try:
            told.append(one.become(other))
        except ClosedError as error:
            told.append(error)

    threads = [threading.Thread(target=become, args=pair) for pair in ((branch, session), (session, branch))]
    for thread in threads:
        thread.start()
        time.sleep(0.05)
    for thread in (busy, *threads):
        thread.join(10)
        assert not thread.is_alive()
    assert sorted(type(one).__name__ for one in told) == ["ClosedError", "NoneType"]


def test_without_room_for_descriptors_nothing_is_copied_and_nothing_lost(tmp_path):
    """The error names the limit; the session lives on, and no descriptor is left open."""
    program = tmp_path / "program.py"
    program.write_text(_LITTLE_ROOM)
    told = subprocess.run([sys.executable, program], capture_output=True, text=True, check=False)
    assert told.stdout.split("\n")[:3] == ["ulimit -n named", "1", "0 left open"], told.stderr


_LITTLE_ROOM = """
import os, resource, time
from dspex import CodeExecutor
from dspex.errors import SandboxError

def opened():
    return len(os.listdir("/proc/self/fd"))

with CodeExecutor() as executor, executor.session() as session:
    session.execute("x = 1")
    time.sleep(1)
    session.fork().close()
    before = opened()
    resource.setrlimit(resource.RLIMIT_NOFILE, (before + 12, 4096))
    try:
        session.fork(20)
    except SandboxError as error:
        print("ulimit -n named" if "ulimit -n" in str(error) else error)
    print(session.execute("x").value)
    print(opened() - before, "left open")
"""


def test_closing_the_last_one_leaves_nothing(executor):
    """Neither processes nor descriptors, whichever goes last."""
    import os

    def living():
        gc.collect()
        return len(os.listdir("/proc/self/fd"))

    with executor.session() as session:  # so that a spare one is ready
        value(session, "1")
    time.sleep(0.3)
    before = living()
    session = executor.session()
    value(session, "1")
    branches, point = session.fork(3), session.checkpoint()
    session.close()
    assert value(branches[0], "2") == 2
    for other in (*branches, point):
        other.close()
    with pytest.raises(ClosedError):
        branches[0].execute("1")
    end = time.monotonic() + 5
    while living() > before and time.monotonic() < end:
        time.sleep(0.05)
    assert living() <= before


def test_unwrap_of_a_branch_names_the_line(session):
    """Tracebacks work in branches: the text of earlier cells is there."""
    value(session, "def f():\n    return 1 / 0")
    with session.fork() as branch, pytest.raises(ProgramError, match="division"):
        value(branch, "f()")


def test_a_branch_reports_only_its_own_changes(session):
    """Files that it was born with are not its doing."""
    value(session, "open('old', 'w').write('1')")
    with session.fork() as branch:
        assert list(branch.execute("open('new', 'w').write('2')").files) == ["new"]
        assert sorted(branch.files) == ["new", "old"]


def test_branches_are_not_taken_for_other_guests(executor):
    """The end of branches leaves what the engine knows of its other guests alone: they still end with a clear word."""
    with executor.session() as session:
        others = [executor.session() for _ in range(4)]
        for other in others:
            value(other, "1")
        for branch in session.fork(12):
            branch.close()
        assert [o.execute("import os; os._exit(4)").error.type for o in others] == ["ProcessExit"] * 4
    assert executor.execute("import os; os._exit(4)").error.type == "ProcessExit"


def test_a_session_cannot_be_restored_inside_its_own_tool(executor):
    """The program that waits there would be gone; the error says what to do instead, and the call goes on."""

    def back():
        session.restore(point)

    session = executor.session(tools=[back])
    with session:
        point = session.checkpoint()
        error = session.execute("back()").error
        assert "inside a tool" in error.message
        assert value(session, "1") == 1


def test_a_forked_host_lets_go_of_branches(executor):
    """What the child of the host inherited does not keep a session of the parent's alive."""
    import os

    session = executor.session()
    branch = session.fork()
    inner = branch._guest.pid
    parent_end, child_end = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(child_end)
        os.read(parent_end, 1)
        os._exit(0)
    os.close(parent_end)
    session.close()
    branch.close()
    end = time.monotonic() + 5
    while os.path.exists(f"/proc/{inner}") and time.monotonic() < end:
        time.sleep(0.02)
    gone = not os.path.exists(f"/proc/{inner}")
    os.close(child_end)
    os.waitpid(pid, 0)
    assert gone


def test_signals_while_it_is_copied_do_not_keep_a_session_from_it(session):
    """A signal that is pending would make the kernel ask the warden a second time for one copy."""
    value(
        session,
        "import os, signal\nsignal.signal(signal.SIGALRM, lambda *a: None)\n"
        "go = lambda: signal.setitimer(signal.ITIMER_REAL, 0.0001, 0.0001)\n"
        "stop = lambda: signal.setitimer(signal.ITIMER_REAL, 0)\n"
        "os.register_at_fork(before=go, after_in_parent=stop, after_in_child=stop)",
    )
    for _ in range(5):
        branches = session.fork(3)
        assert [value(branch, "6 * 7") for branch in branches] == [42] * 3
        for branch in branches:
            branch.close()
