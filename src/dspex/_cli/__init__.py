"""The command line. `dspex run` goes its own short way, for it is run all day; everything else goes through Typer."""

from __future__ import annotations

import sys


def main() -> None:
    """The console script. Exits with 0, with 1 when the program failed, with 2 when the engine or the usage did."""
    arguments = sys.argv[1:]
    if arguments[:1] == ["run"]:
        from dspex._cli.run import run

        sys.exit(run(arguments[1:]))
    from dspex._cli.app import app

    app(prog_name="dspex")
