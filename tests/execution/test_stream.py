"""`stream`: what a run tells while it goes on."""

import asyncio
import time

import pytest

import leftovers
from dspex import CodeExecutor, Display, Finished, Output, ResourceLimits, ToolCall, ToolReturn
from dspex.errors import ClosedError, UsageError

SLOW = "import time\nfor i in range(3):\n    print(i)\n    time.sleep(0.15)\n'end'"


@pytest.fixture(scope="module")
def executor():
    with CodeExecutor(max_concurrency=2) as shared:
        yield shared


def streamed(executor, code, way, **arguments):
    """All events of a program, by one of the four ways to stream."""

    async def collected(runner):
        return [event async for event in runner.astream(code, **arguments)]

    runner = executor if "session" not in way else executor.session()
    try:
        return asyncio.run(collected(runner)) if way.startswith("a") else list(runner.stream(code, **arguments))
    finally:
        if runner is not executor:
            runner.close()


WAYS = ["fresh", "a fresh", "session", "a session"]


@pytest.mark.parametrize("way", WAYS)
def test_output_then_result(executor, way):
    """Lines come as they are printed, and the result last; together they are what the result says."""
    *events, last = streamed(executor, SLOW, way)
    assert [event.text for event in events] == ["0\n", "1\n", "2\n"]
    assert {event.stream for event in events} == {"stdout"}
    assert isinstance(last, Finished)
    assert (last.result.value, last.result.stdout) == ("end", "0\n1\n2\n")


def test_output_comes_while_the_program_runs(executor):
    """The first line is here before the last is printed."""
    code = "import time\nprint('first')\nend = time.monotonic() + 30\nwhile not stop: time.sleep(0.01)"
    with executor.session() as session:
        events = session.stream(code, {"stop": False})
        assert next(events) == Output("stdout", "first\n")
        session.interrupt()
        assert next(events).result.error.type == "KeyboardInterrupt"


def test_both_streams_and_characters_in_two_halves(executor):
    """stderr is told as such; a character whose bytes come one by one is told once, whole."""
    code = (
        "import os, time\n"
        "for byte in 'é€😀'.encode():\n    os.write(1, bytes([byte]))\n    time.sleep(0.03)\n"
        "os.write(2, b'oops')\nos.write(1, b'\\xff')"
    )
    events = list(executor.stream(code))
    assert "".join(e.text for e in events if isinstance(e, Output) and e.stream == "stdout") == "é€😀\ufffd"
    assert [e.text for e in events if isinstance(e, Output) and e.stream == "stderr"] == ["oops"]


@pytest.mark.parametrize("way", WAYS)
def test_calls_and_returns_in_order(executor, way):
    """What is printed before a call comes before it, the return after it, what is printed later after that."""
    events = streamed(executor, "print('a')\nx = double(4)\nprint('b')\nx", way, tools={"double": lambda n: 2 * n})
    assert [type(event) for event in events] == [Output, ToolCall, ToolReturn, Output, Finished]
    assert events[1] == ToolCall("double", {"n": 4}, 1)
    assert events[2].ok
    assert events[4].result.value == 8


def test_displays_in_order_with_the_output(executor):
    """A display comes between what was printed before it and after it."""
    events = list(executor.stream("print('a')\ndisplay('b')\nprint('c')"))
    assert [type(event) for event in events] == [Output, Display, Output, Finished]
    assert [event.text for event in events if isinstance(event, Output)] == ["a\n", "c\n"]


def test_output_of_a_killed_program_is_whole(executor):
    """The events' text is what the result has, also when the program was killed while it wrote."""
    code = "import os, signal\nfor i in range(1000): print(i)\nos._exit(3)"
    *events, last = executor.stream(code)
    assert "".join(event.text for event in events) == last.result.stdout
    assert last.result.error.kind == "killed"


def test_output_limit_holds(executor):
    """No more is told than a result may hold."""
    with CodeExecutor(max_concurrency=1, limits=ResourceLimits(output=50_000)) as small:
        *events, last = small.stream("for _ in range(100): print('x' * 1000)")
    assert last.result.error.kind == "output_limit"
    assert sum(len(event.text) for event in events) == 50_000


def test_closing_early_kills_a_fresh_run(executor):
    """Nothing of it is left, and its place is free."""
    for _ in range(4):
        events = executor.stream("print(1)\nwhile True: pass")
        assert isinstance(next(events), Output)
        events.close()
    assert executor.execute("1").value == 1
    assert leftovers.becomes_true(lambda: not executor.pool()._watched)


def test_closing_early_interrupts_a_session(executor):
    """The program gets KeyboardInterrupt, and the session goes on with what it has."""
    with executor.session() as session:
        events = session.stream("x = 5\ntry:\n    print(1)\n    while True: pass\nfinally:\n    x = 6")
        next(events)
        events.close()
        assert session.execute("x").value == 6


def test_closing_early_ends_a_session_that_does_not_give_way(executor):
    """A program that ignores the interruption is killed, and the session says why it ended."""
    session = executor.session()
    events = session.stream(
        "while True:\n    try:\n        print(1)\n        while True: pass\n    except KeyboardInterrupt: pass"
    )
    next(events)
    events.close()
    with pytest.raises(ClosedError, match="did not give way"):
        session.execute("1")


def test_breaking_off_an_async_stream(executor):
    """Leaving `async for` and closing the generator frees the place; a session lives on."""

    async def first(runner):
        events = runner.astream("print(1)\nwhile True: pass")
        async for event in events:
            await events.aclose()
            return event
        return None

    assert asyncio.run(first(executor)) == Output("stdout", "1\n")
    with executor.session() as session:
        assert asyncio.run(first(session)) == Output("stdout", "1\n")
        assert session.execute("1").value == 1


def test_wrong_arguments_are_found_before_anything_runs(executor):
    """A stream that cannot begin says so when it is made."""
    with pytest.raises(UsageError):
        executor.stream(5)


def test_stream_that_is_never_begun_holds_nothing(executor):
    """Only the first event that is asked for starts the program."""
    for _ in range(10):
        executor.stream("1")
    assert executor.execute("1").value == 1


def test_deadline_holds_while_the_consumer_is_away(executor):
    """A program beyond its deadline is killed though nobody asks for its events."""
    events = executor.stream("print(1)\nx = sum(range(10**15))", timeout=0.3)
    next(events)
    time.sleep(1.0)
    assert next(events).result.error.kind == "timeout"
