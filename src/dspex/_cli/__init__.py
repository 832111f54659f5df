"""The command line: one file for each command.

Theory of operation. `dspex run` is called all day, often from other programs, and most of its time goes into loading: Python here,
Python in the process that will be the zygote. So that process is started before anything else is loaded, and both load at the
same time (`_sandbox.ahead`). This file imports nothing for that reason.
"""

from __future__ import annotations

import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn


_FOREIGN = (
    "-l",
    "--language",
    "--isolation",
    "=wasm",
    ".js",
    ".mjs",
    ".cjs",
    ".ts",
    ".mts",
    ".ex",
    ".exs",
    ".erl",
    ".rs",
    ".wat",
    ".wasm",
)


def _is_foreign(word: str) -> bool:
    """Whether a word of the command line says that the program is probably not in Python."""
    return word.endswith(_FOREIGN) or word.startswith("--language=")


def main() -> NoReturn:
    """The console script. Exits with 0, with 1 when the program failed, with 2 when the engine or the usage failed."""
    if sys.argv[1:2] == ["run"] and not any(map(_is_foreign, sys.argv)):
        from dspex._sandbox import ahead

        ahead.start(ahead.command("dspex.languages.guests.python"))
    from dspex._cli import _main

    _main.main()
