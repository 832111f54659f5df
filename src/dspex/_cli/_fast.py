"""Reading plain arguments without a library; see the theory of operation in `dspex._cli`."""

from __future__ import annotations

from typing import Any, NamedTuple


class Table(NamedTuple):
    """The options of one command, each with the name of the argument of its function."""

    positional: str
    valued: dict[str, str]  # take the word that follows; of a repeated one the last counts
    flags: dict[str, tuple[str, bool]]  # take none, and mean this value
    repeated: str = ""  # the argument that gathers a list


RUN = Table(
    positional="file",
    valued={
        "-c": "code",
        "--code": "code",
        "-l": "language",
        "--language": "language",
        "--var": "var",
        "--timeout": "timeout",
        "--memory": "memory",
        "--policy": "policy",
        "--isolation": "isolation",
        "--save-displays": "save_displays",
    },
    flags={"--json": ("as_json", True)},
    repeated="var",
)
EVAL = Table(
    positional="samples",
    valued={
        "--problems": "problems",
        "-k": "k",
        "--timeout": "timeout",
        "--memory": "memory",
        "--policy": "policy",
        "--jobs": "jobs",
        "--out": "out",
    },
    flags={
        "--canonical": ("canonical", True),
        "--ignore-incomplete": ("ignore_incomplete", True),
        "--resume": ("resume", True),
        "--no-resume": ("resume", False),
        "--json": ("as_json", True),
    },
)


def parse(arguments: list[str], table: Table) -> dict[str, Any] | None:
    """The arguments of the command's function, or None when these are not plain."""
    found: dict[str, Any] = {}
    rest = iter(arguments)
    for argument in rest:
        name, equals, value = argument.partition("=")
        if argument in table.flags:
            key, meaning = table.flags[argument]
            found[key] = meaning
        elif argument in table.valued:
            following = next(rest, None)
            if following is None:
                return None
            _set(found, table, argument, following)
        elif equals and name.startswith("--") and name in table.valued:
            _set(found, table, name, value)
        elif (argument.startswith("-") and argument != "-") or table.positional in found:
            return None
        else:
            found[table.positional] = argument
    return found


def _set(found: dict[str, Any], table: Table, option: str, value: str) -> None:
    key = table.valued[option]
    if key == table.repeated:
        found.setdefault(key, []).append(value)
    else:
        found[key] = value
