"""`dspex repl`: a session at the terminal.

The host only asks whether an input is complete (`codeop` compiles it, which parses and never executes); everything runs in
the guest.
"""

from __future__ import annotations

import codeop
import os
import sys
import warnings
from typing import TYPE_CHECKING

from dspex import CodeExecutor, __version__
from dspex._cli._limits import confinement
from dspex._cli._show import show
from dspex.errors import ClosedError

if TYPE_CHECKING:
    from dspex import ExecutionResult, Session

_BANNER = "dspex {}: all of this runs in a sandbox, and names persist. .help for help, Ctrl-D to leave.\n"
_HELP = """\
.help      this text
.policy    what programs may reach, and how much they may use
.reset     a new session, without names
.quit      leave; as Ctrl-D and exit()
Ctrl-C     drops the input; it ends a program that runs, and its session
"""
_LEAVE = frozenset((".quit", ".exit", "exit", "exit()", "quit", "quit()"))


def repl(*, policy: str | None = None, timeout: str | None = None, memory: str | None = None) -> int:
    """Read, run, print, until the end of the input; always 0. Raises `DspexError`."""
    allowed, limits = confinement(policy, timeout, memory)
    if sys.stdin.isatty():
        _remember_history()
        sys.stdout.write(_BANNER.format(__version__))
    with CodeExecutor(policy=allowed, limits=limits, max_concurrency=1) as executor:
        prompt = _Prompt(executor)
        while True:
            try:
                source = _read()
                if source is None or source.strip() in _LEAVE:
                    return 0
                prompt.take(source)
            except KeyboardInterrupt:
                sys.stdout.write("\n")


class _Prompt:
    """The session that the inputs go to: a new one takes the place of one that ended."""

    def __init__(self, executor: CodeExecutor) -> None:
        self._executor = executor
        self._session: Session = executor.session()

    def take(self, source: str) -> None:
        """Do what one input says."""
        match source.strip():
            case "":
                pass
            case ".help":
                sys.stdout.write(_HELP)
            case ".policy":
                sys.stdout.write(f"{self._executor.policy.explain()}\n{self._executor.limits.explain()}\n")
            case ".reset":
                self._renew()
            case _:
                self._run(source)

    def _run(self, source: str) -> None:
        try:
            show(self._execute(source))
        except KeyboardInterrupt:
            sys.stderr.write("\ndspex: interrupted; the session ended, a new one begins without its names\n")
            self._renew()

    def _execute(self, source: str) -> ExecutionResult:
        try:
            return self._session.execute(source)
        except ClosedError:  # the last program took the session with it
            sys.stderr.write("dspex: that session ended; this is a new one, without its names\n")
            self._renew()
            return self._session.execute(source)

    def _renew(self) -> None:
        self._session.close()
        self._session = self._executor.session()


def _read() -> str | None:
    """One complete input, or None at the end. Raises `KeyboardInterrupt` for Ctrl-C."""
    lines: list[str] = []
    prompts = (">>> ", "... ") if sys.stdin.isatty() else ("", "")
    while True:
        try:
            lines.append(input(prompts[bool(lines)]))
        except EOFError:
            return "\n".join(lines) if lines else None
        source = "\n".join(lines)
        if not _goes_on(source):
            return source


def _goes_on(source: str) -> bool:
    if source.startswith("."):
        return False
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the guest will warn
            return codeop.compile_command(source) is None
    except (SyntaxError, ValueError, OverflowError, MemoryError, RecursionError):
        return False  # the guest will say what is wrong, and where


def _remember_history() -> None:
    import atexit
    import readline

    state = os.environ.get("XDG_STATE_HOME") or os.path.expanduser("~/.local/state")
    path = os.path.join(state, "dspex", "history")
    try:
        os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
        if os.path.exists(path):
            readline.read_history_file(path)
    except OSError as error:
        sys.stderr.write(f"dspex: no history: {error}\n")
        return
    readline.set_history_length(10_000)
    atexit.register(_save_history, path)


def _save_history(path: str) -> None:
    import readline

    try:
        readline.write_history_file(path)
    except OSError as error:
        sys.stderr.write(f"dspex: the history was not saved: {error}\n")
