"""`Session.interrupt`, and what a timeout does to a session."""

import threading
import time

import pytest

import leftovers
from dspex import CodeExecutor, Output
from dspex.errors import ClosedError, UsageError


@pytest.fixture(scope="module")
def executor():
    with CodeExecutor(max_concurrency=2) as shared:
        yield shared


def interrupted(session, code):
    """The result of a program that is interrupted as soon as it has printed something."""
    result = None
    for event in session.stream(code, timeout=20):
        if isinstance(event, Output):
            session.interrupt()
        result = event
    return result.result


@pytest.mark.parametrize(
    "busy",
    [
        "while True: pass",
        "import time\ntime.sleep(30)",
        "import asyncio\nawait asyncio.sleep(30)",
        "import asyncio\nwhile True: await asyncio.sleep(0)",
    ],
)
def test_interrupt_raises_in_the_program(executor, busy):
    """Busy, sleeping or awaiting, the program gets KeyboardInterrupt in its own line, and the session lives on."""
    with executor.session() as session:
        session.execute("x = 5")
        error = interrupted(session, "print('begun', flush=True)\n" + busy).error
        assert (error.kind, error.type) == ("runtime", "KeyboardInterrupt")
        assert error.line is None or error.line >= 2
        assert session.execute("x").value == 5


def test_program_may_catch_it(executor):
    """KeyboardInterrupt is an exception like any other."""
    with executor.session() as session:
        code = "try:\n    print('begun')\n    while True: pass\nexcept KeyboardInterrupt:\n    caught = True\ncaught"
        assert interrupted(session, code).value is True


def test_interrupt_from_another_thread(executor):
    """Whoever has the session may interrupt it while another thread waits for its result."""
    with executor.session() as session:
        session.execute("1")
        results = []
        thread = threading.Thread(target=lambda: results.append(session.execute("while True: pass", timeout=20)))
        thread.start()
        while thread.is_alive():
            session.interrupt()
            time.sleep(0.02)
        assert results[0].error.type == "KeyboardInterrupt"
        assert session.execute("1").value == 1


def test_interrupt_when_nothing_runs_does_nothing(executor):
    """Before the first call, between two calls and after the end it is no error, and hits no later program."""
    with executor.session() as session:
        session.interrupt()
        assert session.execute("1").value == 1
        for _ in range(20):
            session.interrupt()
            assert session.execute("1").value == 1
    session.interrupt()


def test_timeout_interrupts_by_default(executor):
    """The program gets the deadline, names and session stay."""
    with executor.session() as session:
        session.execute("x = 5")
        assert session.execute("while True: pass", timeout=0.2).error.kind == "timeout"
        assert session.execute("x").value == 5


def test_timeout_can_end_the_session(executor):
    """With on_timeout="end" nothing of a program that took too long is left."""
    with executor.session(on_timeout="end") as session:
        session.execute("x = 5")
        guest = leftovers.identity(session._guest.pid)
        assert session.execute("while True: pass", timeout=0.2).error.kind == "timeout"
        with pytest.raises(ClosedError, match="wall time"):
            session.execute("x")
        assert leftovers.becomes_true(lambda: leftovers.identity(guest[0]) != guest)


def test_unknown_choice_is_refused(executor):
    """on_timeout is one of two words."""
    with pytest.raises(UsageError, match="on_timeout"):
        executor.session(on_timeout="kill")
