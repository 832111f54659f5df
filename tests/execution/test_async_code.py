"""Programs that await at their top level, and the event loop of a session."""

import pytest

from dspex import CodeExecutor

SLEEPS = "import asyncio\nasync def nap(seconds):\n    await asyncio.sleep(seconds)\n    return seconds\n"


@pytest.fixture(scope="module")
def executor():
    with CodeExecutor(max_concurrency=2) as shared:
        yield shared


@pytest.fixture
def session(executor):
    with executor.session() as living:
        yield living


@pytest.mark.parametrize(
    ("code", "value"),
    [
        ("await nap(0.001)", 0.001),
        ("x = await nap(0.001)\nx", 0.001),
        ("x = await nap(0.001)", None),
        ("[await nap(0) for _ in range(2)]", [0, 0]),
        ("async def g():\n    for i in range(3):\n        yield i\n[i async for i in g()]", [0, 1, 2]),
        ("async def g():\n    yield 7\nasync for found in g():\n    pass\nfound", 7),
        ("lock = asyncio.Lock()\nasync with lock:\n    held = lock.locked()\nheld", True),
        ("await asyncio.gather(*[nap(i / 1000) for i in range(3)])", [0, 0.001, 0.002]),
    ],
)
def test_top_level_await(executor, code, value):
    """Await, async for, async with and async comprehensions work outside functions, in the last expression too."""
    assert executor.execute(SLEEPS + code).unwrap() == value


def test_programs_that_run_their_own_loop(executor):
    """`asyncio.run` in ordinary code works as everywhere."""
    assert executor.execute(SLEEPS + "asyncio.run(nap(0.001))").unwrap() == 0.001


def test_error_names_the_line(executor):
    """What is raised behind an await is told with the program's own frames only."""
    error = executor.execute("async def f():\n    return 1 / 0\nawait f()").error
    assert (error.kind, error.type, error.line) == ("runtime", "ZeroDivisionError", 2)
    assert error.traceback.count("File ") == error.traceback.count('File "<program>"') == 2


def test_exit_ends_the_program(executor):
    """sys.exit() in async code is the program's end, as in any other."""
    assert executor.execute(SLEEPS + "import sys\nawait nap(0)\nsys.exit(0)").ok


def test_await_in_a_function_that_is_not_async_is_a_syntax_error(executor):
    """Only the top level gains something."""
    error = executor.execute("def f():\n    await g()").error
    assert (error.kind, error.line) == ("syntax", 2)


@pytest.mark.parametrize(
    ("code", "line"),
    [
        ("await nap(60)", 3),
        ("while True: await asyncio.sleep(0)", None),
        ("while True: pass\nawait nap(0)", 5),
        ("async def spin():\n    while True: pass\ntask = asyncio.create_task(spin())\nawait nap(60)", 3),
        ("async def spin():\n    while True: pass\nasync def both():\n    asyncio.create_task(spin())\n"
         "    await nap(60)\nasyncio.run(both())", None),
    ],
)  # fmt: skip
def test_deadline_inside_the_loop(session, code, line):
    """A loop that waits, one that is busy, and one that is busy with another task are all interrupted; the session lives on."""
    error = session.execute(SLEEPS + code, timeout=0.3).error
    assert error.kind == "timeout"
    assert line is None or error.line == line
    assert session.execute("1").value == 1


def test_interrupted_program_cleans_up(session):
    """Its coroutines are cancelled: `finally` is run."""
    code = SLEEPS + "done = []\ntry:\n    await nap(60)\nfinally:\n    done.append(1)"
    assert session.execute(code, timeout=0.2).error.kind == "timeout"
    assert session.execute("done").value == [1]


def test_one_loop_for_the_session(session):
    """Tasks, locks and futures made in one call can be used in the next."""
    session.execute(SLEEPS + "home = asyncio.get_running_loop()\nawait nap(0)")
    assert session.execute("home is asyncio.get_running_loop(), await nap(0)").value_type == "tuple"
    assert session.execute("(home is asyncio.get_running_loop(), await nap(0))[0]").value is True


def test_tasks_left_over_go_on_with_the_next_call(session):
    """Between two calls they stand still, and nothing of them is lost."""
    session.execute(SLEEPS + "task = asyncio.create_task(nap(0.01))\nawait nap(0)")
    assert session.execute("task.done()").value is False
    assert session.execute("await task").value == 0.01


def test_closed_loop_is_replaced(session):
    """A program that closes the session's loop harms nobody but its own tasks."""
    session.execute(SLEEPS + "loop = asyncio.get_running_loop()\nawait nap(0)")
    session.execute("loop.close()")
    assert session.execute("await nap(0)").value == 0
