"""Which command it is, and what becomes of its errors.

Theory of operation. `run` and `eval` are called all day, often from other programs, and the usual help for a command line
(Typer) takes as long to load as a whole run. So `_fast` reads their arguments when they are plain; whatever is not plain
(an unknown option, a missing value, --help) goes to Typer, in `app`, which knows the same options and answers at length.
"""

from __future__ import annotations

import os
import sys
from typing import NoReturn

from dspex.errors import DspexError, IsolationError

INTERRUPTED = 130  # as a shell says it: 128 + SIGINT


def main() -> NoReturn:
    """The console script. Exits with 0, with 1 when the program failed, with 2 when the engine or the usage failed."""
    try:
        status = _command(sys.argv[1:])
        sys.stdout.flush()
    except DspexError as error:
        status = _tell(error)
    except BrokenPipeError:  # whoever read our output has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        status = 141
    except KeyboardInterrupt:
        sys.stderr.write("dspex: interrupted\n")
        status = INTERRUPTED
    except Exception:
        # Whatever it is, it is no failure of the program that was run, which alone may answer with 1.
        sys.excepthook(*sys.exc_info())
        status = 2
    sys.exit(status)


def _command(arguments: list[str]) -> int:
    from dspex._cli import _fast

    name, rest = (arguments[0], arguments[1:]) if arguments else ("", [])
    if name == "run" and (plain := _fast.parse(rest, _fast.RUN)) is not None:
        from dspex._cli.run import run

        return _at_once(run(**plain))
    if name == "eval" and (plain := _fast.parse(rest, _fast.EVAL)) is not None:
        from dspex._cli.evaluate import evaluate

        return evaluate(**plain)
    from dspex._cli.app import app

    app(prog_name="dspex")  # ends by SystemExit, with 2 for wrong usage
    return 0


def _at_once(status: int) -> int:
    """Leave without the interpreter's farewell, which takes as long as a run: the kernel lets go of all there is."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


def _tell(error: DspexError) -> int:
    lines = [f"dspex: {error}"]
    if isinstance(error, IsolationError):
        lines += [f"  to mend it: {mend}" for mend in error.mend]
    sys.stderr.write("\n".join(lines) + "\n")
    return 2
