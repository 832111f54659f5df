"""The commands that are not in such a hurry, and the help of them all."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from dspex import __version__
from dspex.errors import DspexError

app = typer.Typer(
    help="The primitives layer for LLM programs: run untrusted code, judge generated programs.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
_As_JSON = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]


@app.callback(invoke_without_command=True)
def _version(version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False) -> None:
    if version:
        print(f"dspex {__version__}")
        raise typer.Exit


@app.command(
    "run",
    context_settings={"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []},
    help="Run a program: a FILE, -c CODE, or - for standard input.",
)
def _run(context: typer.Context) -> None:
    from dspex._cli.run import run

    sys.exit(run(context.args))


@app.command("repl", help="A session at the terminal: names persist, every line runs in the sandbox.")
def _repl(
    policy: Annotated[Path | None, typer.Option(help="A policy file, TOML or JSON.")] = None,
) -> None:
    from dspex._cli.repl import repl

    _leave(repl, policy)


@app.command("doctor", help="What this host can enforce, what is missing, and what mends it.")
def _doctor(as_json: _As_JSON = False) -> None:
    from dspex._cli.doctor import doctor

    _leave(doctor, as_json)


@app.command("eval", help="Judge generated programs in HumanEval's file formats.")
def _evaluate(
    samples: Annotated[Path | None, typer.Argument(help="JSON lines with task_id and completion.")] = None,
    problems: Annotated[Path | None, typer.Option("--problems", help="JSON lines of problems, plain or gzip.")] = None,
    k: Annotated[str, typer.Option("-k", help="Which pass@k to estimate.")] = "1,10,100",
    canonical: Annotated[bool, typer.Option(help="Judge the reference solutions instead.")] = False,
    timeout: Annotated[float, typer.Option(help="Seconds for each program.")] = 3.0,
    jobs: Annotated[int | None, typer.Option(help="Programs at once; default: the cores.")] = None,
    out: Annotated[Path | None, typer.Option(help="The results file; default: SAMPLES_results.jsonl.")] = None,
    resume: Annotated[bool, typer.Option(help="Go on where an earlier call stopped.")] = True,
    as_json: _As_JSON = False,
) -> None:
    from dspex._cli.evaluate import Request, evaluate

    request = Request(samples, problems, k, canonical, timeout, jobs, out, resume, as_json)
    _leave(evaluate, request)


def _leave(command: Any, *arguments: Any) -> None:
    try:
        status = command(*arguments)
    except DspexError as error:
        sys.stderr.write(f"dspex: {error}\n")
        status = 2
    except KeyboardInterrupt:
        sys.stderr.write("dspex: interrupted\n")
        status = 2
    sys.exit(status)
