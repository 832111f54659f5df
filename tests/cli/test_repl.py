import os
import select
import subprocess
import sys
import time

import pytest

from command import DSPEX, ENVIRONMENT, dspex

_SPAWN = "import pty, sys; sys.exit(pty.spawn(sys.argv[1:]) >> 8)"


def _talk(text, *arguments):
    return dspex("repl", *arguments, stdin=text.encode())


class Terminal:
    """`dspex repl` at a terminal of its own."""

    def __init__(self, state):
        environment = ENVIRONMENT | {"XDG_STATE_HOME": str(state)}
        self.process = subprocess.Popen(
            [sys.executable, "-c", _SPAWN, *DSPEX, "repl"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=environment,
            bufsize=0,
        )
        self.unread = b""

    def expect(self, text):
        """Read until the terminal shows this, and no further."""
        assert self._shows(text, 60), f"{text!r} did not come, but {self.unread!r}"

    def interrupt(self, text):
        """Press Ctrl-C until the terminal shows this: one between two steps of readline is only seen with the next."""
        for _ in range(20):
            self.type("\x03")
            if self._shows(text, 3):
                return
        pytest.fail(f"{text!r} did not come, but {self.unread!r}")

    def _shows(self, text, seconds):
        deadline = time.monotonic() + seconds
        while text.encode() not in self.unread:
            ready, _, _ = select.select([self.process.stdout], [], [], max(0, deadline - time.monotonic()))
            data = os.read(self.process.stdout.fileno(), 4096) if ready else b""
            if not data:
                return False
            self.unread += data
        self.unread = self.unread.partition(text.encode())[2]
        return True

    def type(self, text):
        """Press these keys."""
        self.process.stdin.write(text.encode())

    def close(self):
        self.process.stdin.close()
        self.process.stdout.close()
        self.process.kill()
        self.process.wait()


@pytest.fixture
def terminal(tmp_path):
    terminal = Terminal(tmp_path)
    yield terminal
    terminal.close()


def test_names_persist():
    """What one line defines the next one uses; values are shown, None is not."""
    done = _talk("x = 20\nNone\nx + 1\n'a'\n")
    assert (done.returncode, done.stdout, done.stderr) == (0, "21\n'a'\n", "")


def test_a_block_ends_with_an_empty_line():
    """A compound statement is read to its end before it is run."""
    assert _talk("def f(n):\n    return n * 2\n\nf(21)\n").stdout == "42\n"


def test_an_error_does_not_end_the_session():
    """A failed line shows its traceback, and the names stay."""
    done = _talk("x = 1\n1 / 0\nx = = 2\nx\n")
    assert (done.returncode, done.stdout) == (0, "1\n")
    assert "ZeroDivisionError" in done.stderr
    assert "SyntaxError" in done.stderr


def test_a_program_that_ends_its_session():
    """When a line takes its guest with it the next one runs in a new session, and it is said."""
    done = _talk("x = 1\nimport os; os._exit(3)\n'x' in globals()\n")
    assert done.stdout == "False\n"
    assert "a new one, without its names" in done.stderr


def test_the_dot_commands():
    """.help, .policy and .reset do what they say; .quit leaves."""
    done = _talk(".help\n.policy\nx = 1\n.reset\n'x' in globals()\n.quit\n'never'\n")
    assert ".reset" in done.stdout
    assert "by the clock" in done.stdout
    assert done.stdout.endswith("False\n")


def test_exit_leaves():
    """exit() leaves, as in Python's own prompt."""
    assert _talk("exit()\n1\n").stdout == ""


def test_limits_hold():
    """--timeout counts for each input."""
    assert "(timeout)" in _talk("while True: pass\n\n", "--timeout", "300ms").stderr


def test_a_wrong_option():
    """Wrong usage exits with 2."""
    assert dspex("repl", "--memory", "much").returncode == 2


def test_at_a_terminal(terminal, tmp_path):
    """Prompts, Ctrl-C at the prompt and in a running program, Ctrl-D; the history is kept."""
    terminal.expect(">>> ")
    terminal.type("x = 6 * 7\n")
    terminal.expect(">>> ")
    terminal.type("x\n")
    terminal.expect("42")
    terminal.expect(">>> ")
    terminal.type("forget this")
    terminal.expect("forget this")
    terminal.interrupt(">>> ")
    terminal.type("x + 1\n")
    terminal.expect("43")
    terminal.expect(">>> ")
    terminal.type("while True: pass\n")
    terminal.expect("... ")
    terminal.type("\n")
    time.sleep(1)  # for it to run
    terminal.interrupt("interrupted; the session ended")
    terminal.expect(">>> ")
    terminal.type("'x' in globals()\n")
    terminal.expect("False")
    terminal.expect(">>> ")
    terminal.type("\x04")
    assert terminal.process.wait(60) == 0
    assert "x = 6 * 7" in (tmp_path / "dspex" / "history").read_text()
