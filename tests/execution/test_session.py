"""Sessions: one living guest, many runs."""

import asyncio
import gc
import os
import signal
import threading
import time

import pytest

import leftovers
from dspex import CodeExecutor, ResourceLimits
from dspex._kernel import resources
from dspex.errors import ClosedError, PolicyError, SandboxError, UsageError


@pytest.fixture(scope="module")
def executor():
    with CodeExecutor(max_concurrency=2) as shared:
        yield shared


@pytest.fixture
def session(executor):
    with executor.session() as living:
        yield living


def test_names_persist(session):
    """What a call defines the next one finds, also modules and patched builtins."""
    session.execute("import math\nx = 20\ndef f(y): return x + y")
    assert session.execute("f(math.floor(1.5))").unwrap() == 21


def test_sessions_do_not_share_names(executor, session):
    """Two sessions and the plain calls know nothing of each other."""
    session.execute("x = 1")
    with executor.session() as other:
        assert other.execute("'x' in globals()").value is False
    assert executor.execute("'x' in globals()").value is False


def test_failed_call_does_not_end_it(session):
    """Exceptions, syntax errors and sys.exit leave the session and its names alone."""
    session.execute("x = 5")
    for code, kind in (("1 / 0", "runtime"), ("(", "syntax"), ("import sys; sys.exit(2)", "runtime")):
        assert session.execute(code).error.kind == kind
    assert session.execute("x").value == 5


def test_soft_timeout_keeps_it(session):
    """Python code beyond its deadline fails with its line, and the session lives on."""
    session.execute("x = 6")
    error = session.execute("\nwhile True: pass", timeout=0.2).error
    assert (error.kind, error.line) == ("timeout", 2)
    assert session.execute("x").value == 6


@pytest.mark.parametrize("code", ["sum(range(10**15))", "import os\nos._exit(4)", "import os\nos._exit(0)"])
def test_killed_guest_ends_it_clearly(executor, code):
    """After a call that killed the guest the next one raises ClosedError that says why; the executor goes on."""
    session = executor.session()
    session.execute("x = 1")
    assert not session.execute(code, timeout=0.3).ok
    with pytest.raises(ClosedError, match=r"ended .*executor\.session\(\)"):
        session.execute("x")
    assert executor.execute("1").value == 1


def test_guest_killed_from_outside_is_an_error_result(executor):
    """A guest that somebody else killed between two calls is told as kind killed, then as ClosedError."""
    session = executor.session()
    session.execute("x = 1")
    pid = session._guest.pid
    os.kill(pid, signal.SIGKILL)
    assert leftovers.becomes_true(lambda: leftovers.identity(pid)[1] == "")
    assert session.execute("x").error.kind == "killed"
    with pytest.raises(ClosedError):
        session.execute("x")


def test_guest_killed_during_a_call_is_an_error_result(executor):
    """A guest that is killed while it works is told as kind killed, with what it had printed."""
    session = executor.session()
    session.execute("x = 1")
    timer = threading.Timer(0.2, os.kill, (session._guest.pid, signal.SIGKILL))
    timer.start()
    result = session.execute("print('here', flush=True)\nimport time\ntime.sleep(60)")
    timer.join()
    assert (result.error.kind, result.stdout) == ("killed", "here\n")


def test_lines_and_tracebacks_of_later_calls(session):
    """A traceback through functions of earlier calls shows the source of each."""
    session.execute("def f():\n    return 1 / 0")
    error = session.execute("\n\nf()").error
    assert error.line == 2
    assert "return 1 / 0" in error.traceback
    assert "f()" in error.traceback


def test_output_is_that_of_each_call(session):
    """Each call has its own output, also behind one that printed too much."""
    assert session.execute("print('a')").stdout == "a\n"
    assert session.execute("print('b' * (2 << 20))").error.kind == "output_limit"
    result = session.execute("print('c')")
    assert (result.ok, result.stdout) == (True, "c\n")


def test_arguments_of_a_call(session):
    """Variables, environment, working directory and large values work in every call of a session."""
    for n in range(2):
        code = "import os\n[n, os.environ['E'], os.getcwd().endswith('/d'), len(b)]"
        found = session.execute(code, {"n": n, "b": bytes(1 << 20)}, environment={"E": str(n)}, working_directory="d")
        assert found.unwrap() == [n, str(n), True, 1 << 20]
        assert session.execute("b").value == bytes(1 << 20)


def test_imports_of_a_session(executor):
    """`imports` of the session are bound in its first call and stay; one that the policy does not allow is refused."""
    with executor.session(imports=["json as js"]) as session:
        assert session.execute("js.dumps(1)").value == "1"
        assert session.execute("[js.dumps(2), math.pi > 3]", imports=["math"]).value == ["2", True]
        with pytest.raises(PolicyError, match="numpy"):
            session.execute("1", imports=["numpy"])
        assert session.execute("js.dumps(3)").value == "3"
    with pytest.raises(UsageError):
        executor.session(imports="json")
    with pytest.raises(PolicyError, match="numpy"), executor.session(imports=["numpy"]) as refused:
        refused.execute("1")


def test_wall_limit_counts_for_each_call():
    """Calls that together take longer than the wall limit all succeed."""
    with CodeExecutor(limits=ResourceLimits(wall=0.5), max_concurrency=1) as executor, executor.session() as session:
        assert all(session.execute("import time\ntime.sleep(0.25)").ok for _ in range(4))


def test_cpu_limit_counts_for_each_call():
    """Calls that together use more CPU time than the limit all succeed, and one that alone does fails."""
    code = "import time\nend = time.process_time() + 0.6\nwhile time.process_time() < end: pass"
    with CodeExecutor(limits=ResourceLimits(cpu=1), max_concurrency=1) as executor, executor.session() as session:
        assert [session.execute(code).error for _ in range(4)] == [None] * 4
        assert session.execute("while True: pass").error.kind == "cpu_limit"


def test_memory_counts_for_the_session():
    """What earlier calls hold counts against the memory limit of later ones."""
    with (
        CodeExecutor(limits=ResourceLimits(memory="128 MiB"), max_concurrency=1) as executor,
        executor.session() as session,
    ):
        kinds = [session.execute(f"x{n} = bytearray(20 << 20)").error for n in range(8)]
        assert kinds[0] is None
        assert kinds[-1].kind == "memory_limit"


def test_threads_take_turns(session):
    """Calls of many threads run one after the other, none is lost."""
    session.execute("log = []")

    def work(n):
        for _ in range(5):
            session.execute("log.append(n); log.append(n)", {"n": n})

    threads = [threading.Thread(target=work, args=(n,)) for n in range(10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    log = session.execute("log").value
    assert len(log) == 100
    assert log[::2] == log[1::2]


def test_tasks_and_loops_take_turns(session):
    """Tasks of two event loops and a thread share one session."""
    session.execute("n = 0")

    def work():
        async def everything():
            await asyncio.gather(*(session.aexecute("m = n; n = m + 1") for _ in range(30)))

        asyncio.run(everything())

    threads = [threading.Thread(target=work) for _ in range(2)]
    for thread in threads:
        thread.start()
    for _ in range(30):
        session.execute("m = n; n = m + 1")
    for thread in threads:
        thread.join(60)
    assert session.execute("n").value == 90


def test_tasks_are_served_in_order(session):
    """Tasks that wait for a session get it in the order in which they came."""
    session.execute("log = []")

    async def everything():
        await asyncio.gather(*(session.aexecute("log.append(n)", {"n": n}) for n in range(40)))

    asyncio.run(everything())
    assert session.execute("log").value == list(range(40))


def test_many_sessions_live_at_once(executor):
    """More sessions than places live side by side, for only calls at work take a place."""
    sessions = [executor.session() for _ in range(8)]
    try:
        for n, each in enumerate(sessions):
            each.execute("x = n", {"n": n})
        assert [each.execute("x").value for each in sessions] == list(range(8))
    finally:
        for each in sessions:
            each.close()


def test_idle_session_takes_no_place():
    """With one place, a session that does nothing lets plain calls run, and the other way round."""
    with CodeExecutor(max_concurrency=1) as executor, executor.session() as session:
        session.execute("x = 1")
        assert executor.execute("2").value == 2
        assert session.execute("x").value == 1


def test_cancelled_call_ends_it(executor):
    """Cancelling `aexecute` kills the guest; the session is closed and its place is free."""
    session = executor.session()

    async def everything():
        await session.aexecute("x = 1")
        task = asyncio.create_task(session.aexecute("while True: pass"))
        await asyncio.sleep(0.1)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        with pytest.raises(ClosedError, match="broken off"):
            await session.aexecute("x")

    asyncio.run(everything())
    assert [result.value for result in executor.map(["1"] * 4)] == [1] * 4


def test_cancelled_while_waiting_does_not_end_it(session):
    """A task that is cancelled before its turn harms neither the session nor those behind it."""

    async def everything():
        await session.aexecute("n = 0")
        tasks = [asyncio.create_task(session.aexecute("import time\ntime.sleep(0.05)\nn += 1")) for _ in range(4)]
        await asyncio.sleep(0.01)
        tasks[1].cancel()
        tasks[2].cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        return (await session.aexecute("n")).value

    assert asyncio.run(everything()) == 2


def test_close_ends_the_guest_and_the_call_in_it(executor):
    """Closing a session from another thread ends its running call with an error, and its process."""
    session = executor.session()
    session.execute("x = 1")
    process = leftovers.identity(session._guest.pid)
    outcomes = []

    def work():
        try:
            outcomes.append(session.execute("while True: pass"))
        except SandboxError as error:
            outcomes.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    time.sleep(0.2)
    session.close()
    thread.join(30)
    assert not thread.is_alive()
    assert isinstance(outcomes[0], ClosedError) or outcomes[0].error.kind == "killed"
    assert leftovers.vanish([process])
    with pytest.raises(ClosedError, match="the session is closed"):
        session.execute("1")


def test_closing_the_executor_ends_sessions():
    """A session of a closed executor has no process and no descriptor left, and says that it is closed."""
    before = leftovers.descriptors()
    executor = CodeExecutor(max_concurrency=1)
    session = executor.session()
    session.execute("x = 1")
    executor.close()
    assert leftovers.descriptors() == before
    with pytest.raises(ClosedError):
        session.execute("x")


def test_forgotten_session_ends(executor):
    """A session that nobody refers to any more ends its guest."""
    session = executor.session()
    session.execute("x = 1")
    process = leftovers.identity(session._guest.pid)
    del session
    gc.collect()
    assert leftovers.vanish([process])


def test_session_that_does_not_read_its_request_is_killed_at_the_deadline(executor):
    """A guest that was sabotaged by an earlier call cannot hold up a later one beyond its deadline."""
    session = executor.session()
    session.execute(
        "import sys, time\nframe = sys._getframe()\nwhile frame.f_code.co_name != 'serve_one': frame = frame.f_back\n"
        "type(frame.f_locals['self']).serve_one = lambda self: time.sleep(60)"
    )
    begun = time.monotonic()
    assert session.execute("len(b)", {"b": ["x" * 1000] * 9000}, timeout=0.5).error.kind in ("timeout", "killed")
    assert time.monotonic() - begun < 20


def test_session_async_context(executor):
    """`async with` opens and closes a session."""

    async def everything():
        async with executor.session() as session:
            await session.aexecute("x = 3")
            return (await session.aexecute("x")).value

    assert asyncio.run(everything()) == 3


def test_background_thread_of_a_session_cannot_outlive_it(executor):
    """A thread that a program left running ends with its session."""
    session = executor.session()
    session.execute("import threading\nthreading.Thread(target=lambda: [0 for _ in iter(int, 1)], daemon=True).start()")
    process = leftovers.identity(session._guest.pid)
    assert resources.cpu_time(process[0]) >= 0
    session.close()
    assert leftovers.vanish([process])
