"""What a command loads, and that the two readers of arguments agree."""

import subprocess
import sys

import pytest
import typer

from command import ENVIRONMENT, PROBLEMS, dspex
from dspex import __version__
from dspex._cli import _fast
from dspex._cli.app import app

_SLOW = {
    *("argparse", "asyncio", "click", "concurrent.futures", "dataclasses", "importlib.metadata", "inspect", "logging"),
    *("msgspec", "numpy", "opentelemetry", "pathlib", "rich", "subprocess", "typer"),
}


def _loaded(*arguments):
    command = [sys.executable, "-X", "importtime", "-c", "from dspex._cli import main; main()", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, env=ENVIRONMENT, timeout=60, check=True)
    lines = [line for line in done.stderr.splitlines() if line.startswith("import time:")]
    return {line.rpartition("|")[2].strip() for line in lines}


def test_run_loads_nothing_slow():
    """`dspex run` imports no library for command lines, terminals, event loops or telemetry."""
    loaded = _loaded("run", "-c", "1+1")
    assert "dspex.execution._pool" in loaded
    assert not _SLOW & loaded
    assert not {name for name in loaded if name.startswith("dspex.evaluation")}


def test_eval_loads_nothing_slow_either():
    """`dspex eval` where nobody watches loads neither Typer nor Rich."""
    loaded = _loaded("eval", "--canonical", "--problems", PROBLEMS)
    assert not {"typer", "click", "rich", "asyncio", "opentelemetry"} & loaded


def test_other_commands_load_no_store():
    """What `dspex state` does is loaded when it is called; other commands load its options only."""
    loaded = _loaded("--version")
    assert "dspex._cli.state.arguments" in loaded
    assert not {
        name for name in loaded if name.startswith(("dspex.versions", "dspex.stores", "dspex.state", "sqlite3"))
    }


@pytest.mark.parametrize(("name", "table"), [("run", _fast.RUN), ("eval", _fast.EVAL)])
def test_the_short_way_knows_the_options_of_the_long_one(name, table):
    """Every option that Typer knows is in the table of the short way, with the same meaning, and the other way round."""
    command = typer.main.get_command(app).commands[name]
    options = [p for p in command.params if p.param_type_name == "option" and p.name != "help"]
    valued = {flag: p.name for p in options if not p.is_flag for flag in p.opts}
    flags = {flag: (p.name, True) for p in options if p.is_flag for flag in p.opts}
    flags |= {flag: (p.name, False) for p in options for flag in p.secondary_opts}
    assert (valued, flags) == (table.valued, table.flags)
    assert [p.name for p in command.params if p.param_type_name == "argument"] == [table.positional]


@pytest.mark.parametrize(
    ("arguments", "found"),
    [
        ([], {}),
        (["f.py"], {"file": "f.py"}),
        (["-"], {"file": "-"}),
        (["-c", "-1"], {"code": "-1"}),
        (["--code=a=b", "--json"], {"code": "a=b", "as_json": True}),
        (["--var", "a=1", "--var=b=2", "-c", ""], {"var": ["a=1", "b=2"], "code": ""}),
        (["--timeout", "1", "--timeout", "2"], {"timeout": "2"}),
        (["-c"], None),
        (["--help"], None),
        (["--jsom"], None),
        (["a", "b"], None),
        (["-c1"], None),
        (["--", "-c"], None),
    ],
)
def test_what_is_plain(arguments, found):
    """Plain arguments are read; whatever else there is goes the long way."""
    assert _fast.parse(arguments, _fast.RUN) == found


def test_both_ways_come_to_the_same():
    """An option written so that only Typer reads it does what the plain one does."""
    assert dspex("run", "-c40 + 2").stdout == dspex("run", "-c", "40 + 2").stdout == "42\n"


def test_help_lists_every_command():
    """`dspex --help` lists the commands; without arguments the same is shown, with status 2."""
    done, bare = dspex("--help"), dspex()
    assert done.returncode == 0
    assert all(command in done.stdout for command in ("run", "repl", "eval", "inspect", "state", "doctor"))
    assert bare.returncode == 2
    assert bare.stdout.strip() == done.stdout.strip()


@pytest.mark.parametrize("command", ["run", "repl", "eval", "inspect", "state", "doctor"])
def test_every_command_has_help(command):
    """`dspex COMMAND --help` explains the command."""
    done = dspex(command, "--help")
    assert done.returncode == 0
    assert f"dspex {command}" in done.stdout


def test_version():
    """`dspex --version` says which."""
    assert dspex("--version").stdout == f"dspex {__version__}\n"


def test_an_unknown_command():
    """An unknown command is wrong usage."""
    done = dspex("jump")
    assert done.returncode == 2
    assert "jump" in done.stderr


def test_a_reader_that_goes_away_is_no_crash():
    """When nobody reads the output any more the command ends without a traceback."""
    command = [sys.executable, "-m", "dspex", "run", "-c", "print('x' * 900_000)"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=ENVIRONMENT) as process:
        process.stdout.close()
        assert process.wait(60) == 141
        assert process.stderr.read() == b""
