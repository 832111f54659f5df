"""`dspex repl`: a session at the terminal.

The host only asks whether an input is complete (`codeop` compiles it, which parses and never executes); everything runs in the
guest.
"""

from __future__ import annotations

import atexit
import codeop
import os
import sys
from pathlib import Path

from dspex import CodeExecutor, ResourceLimits, SecurityPolicy, Session
from dspex._cli.run import _print
from dspex._sandbox.policy import load_policy_file
from dspex.errors import ClosedError

_BANNER = "dspex: every line runs in a sandbox; names persist. .help for help, Ctrl-D to leave.\n"
_HELP = """\
.help     this text
.reset    a new session, with no names
.policy   what the program may reach, and how much it may use
Ctrl-D    leave
"""


def repl(policy_file: Path | None) -> int:
    """Read, run, print, until the end of the input; always 0."""
    policy, limits = load_policy_file(policy_file) if policy_file else (SecurityPolicy(), ResourceLimits())
    if sys.stdin.isatty():
        _remember_history()
        sys.stdout.write(_BANNER)
    with CodeExecutor(policy=policy, limits=limits, max_concurrency=1) as executor:
        session = executor.session()
        while (source := _read()) is not None:
            match source.strip():
                case ".help":
                    sys.stdout.write(_HELP)
                case ".policy":
                    sys.stdout.write(f"{policy.explain()}\n{limits.explain()}\n")
                case ".reset":
                    session.close()
                    session = executor.session()
                case _:
                    session = _run(executor, session, source)
    return 0


def _run(executor: CodeExecutor, session: Session, source: str) -> Session:
    try:
        _print(session.execute(source))
    except ClosedError as error:
        sys.stderr.write(f"dspex: {error}; here is a new one, run that line again\n")
        return executor.session()
    except KeyboardInterrupt:
        sys.stderr.write("\ndspex: interrupted; the session ended, here is a new one\n")
        return executor.session()
    return session


def _read() -> str | None:
    """One complete input, or None at the end."""
    lines: list[str] = []
    prompts = (">>> ", "... ") if sys.stdin.isatty() else ("", "")
    while True:
        try:
            lines.append(input(prompts[bool(lines)]))
        except EOFError:
            return "\n".join(lines) if lines else None
        except KeyboardInterrupt:
            sys.stdout.write("\n")
            lines = []
            continue
        if not lines[-1].strip() and len(lines) > 1:
            return "\n".join(lines)
        if not _goes_on("\n".join(lines)):
            return "\n".join(lines)


def _goes_on(source: str) -> bool:
    if source.startswith("."):
        return False
    try:
        return codeop.compile_command(source) is None
    except (SyntaxError, ValueError, OverflowError):
        return False  # the guest will say what is wrong, and where


def _remember_history() -> None:
    import readline

    state = Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state") / "dspex"
    try:
        state.mkdir(parents=True, exist_ok=True)
        path = state / "history"
        if path.exists():
            readline.read_history_file(path)
    except OSError as error:
        sys.stderr.write(f"dspex: no history: {error}\n")
        return
    atexit.register(readline.write_history_file, path)
