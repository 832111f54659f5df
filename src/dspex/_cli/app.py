"""The commands and their options as Typer knows them: help, and the reading of arguments that are not plain."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from dspex import __version__
from dspex._cli.state import arguments as _state

if TYPE_CHECKING:
    from collections.abc import Callable

app = typer.Typer(
    help="Run untrusted, model-written programs in a sandbox of the kernel, judge whole files of them, keep their states.",
    epilog="Exit status: 0 fine, 1 the program failed, 2 the engine or the usage failed.",
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

_Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
_Memory = Annotated[str | None, typer.Option(metavar="SIZE", help="Memory of a program, as 256MB or 1GiB.")]
_Policy = Annotated[
    str | None, typer.Option(metavar="FILE", help="A policy, TOML or JSON, with tables policy and limits.")
]
_Timeout = Annotated[str | None, typer.Option(metavar="SECONDS", help="Wall time of a program; also 250ms, 1m.")]


@app.callback(invoke_without_command=True)
def _dspex(
    context: typer.Context, version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False
) -> None:
    if version:
        print(f"dspex {__version__}")
    elif context.invoked_subcommand is None:
        print(context.get_help())
        raise typer.Exit(2)


app.add_typer(_state.app, name="state")


@app.command("run")
def _run(
    file: Annotated[str | None, typer.Argument(metavar="[FILE|-]", help="The program; - is standard input.")] = None,
    *,
    code: Annotated[str | None, typer.Option("-c", "--code", metavar="CODE", help="The program itself.")] = None,
    language: Annotated[
        str | None,
        typer.Option("-l", "--language", metavar="NAME", help="The language; by the file's suffix, or Python."),
    ] = None,
    var: Annotated[list[str] | None, typer.Option(metavar="NAME=JSON", help="A variable; may be repeated.")] = None,
    timeout: _Timeout = None,
    memory: _Memory = None,
    policy: _Policy = None,
    isolation: Annotated[
        str | None, typer.Option(metavar="LEVEL", help="namespaces, landlock or wasm; the stronger of the first two.")
    ] = None,
    as_json: _Json = False,
    save_displays: Annotated[
        str | None, typer.Option(metavar="DIR", help="Keep what the program shows as 001.png, 002.html, ...")
    ] = None,
) -> None:
    """Run a program in a fresh sandbox.

    Its output goes to stdout and stderr; the value of its last expression follows, if it is not None.
    """
    from dspex._cli.run import run

    _leave(
        lambda: run(
            file,
            code=code,
            language=language,
            var=var or (),
            timeout=timeout,
            memory=memory,
            policy=policy,
            isolation=isolation,
            as_json=as_json,
            save_displays=save_displays,
        )
    )


@app.command("repl")
def _repl(timeout: _Timeout = None, memory: _Memory = None, policy: _Policy = None) -> None:
    """Talk to a session: names persist, and everything runs in the sandbox."""
    from dspex._cli.repl import repl

    _leave(lambda: repl(timeout=timeout, memory=memory, policy=policy))


@app.command("eval")
def _eval(
    samples: Annotated[
        str | None, typer.Argument(metavar="[SAMPLES]", help="JSON lines with task_id and completion; gzip too.")
    ] = None,
    *,
    problems: Annotated[
        str | None, typer.Option(metavar="FILE", help="JSON lines of problems in HumanEval's format; gzip too.")
    ] = None,
    k: Annotated[str, typer.Option("-k", metavar="K,K", help="Which pass@k to estimate.")] = "1,10,100",
    canonical: Annotated[bool, typer.Option("--canonical", help="Judge the reference solutions instead.")] = False,
    timeout: Annotated[str, typer.Option(metavar="SECONDS", help="Wall time of each program.")] = "3.0",
    memory: _Memory = None,
    policy: _Policy = None,
    jobs: Annotated[str | None, typer.Option(metavar="N", help="Programs at once; the cores.")] = None,
    out: Annotated[str | None, typer.Option(metavar="FILE", help="Results; SAMPLES_results.jsonl.")] = None,
    resume: Annotated[bool, typer.Option("--resume/--no-resume", help="Go on where a call was stopped.")] = True,
    ignore_incomplete: Annotated[
        bool, typer.Option("--ignore-incomplete", help="Judge although some problems have no sample.")
    ] = False,
    as_json: _Json = False,
) -> None:
    """Judge generated programs in HumanEval's file formats, and estimate pass@k."""
    from dspex._cli.evaluate import evaluate

    _leave(
        lambda: evaluate(
            samples,
            problems=problems,
            k=k,
            canonical=canonical,
            timeout=timeout,
            memory=memory,
            policy=policy,
            jobs=jobs,
            out=out,
            resume=resume,
            ignore_incomplete=ignore_incomplete,
            as_json=as_json,
        )
    )


@app.command("inspect")
def _inspect(
    what: Annotated[str, typer.Argument(metavar="PATH|IMPORT", help="A state file, or package.module:attribute.")],
    *,
    as_json: _Json = False,
) -> None:
    """Show what is in a state file, or in a program that can be imported (which runs its code)."""
    from dspex._cli.inspect import inspect

    _leave(lambda: inspect(what, as_json=as_json))


@app.command("languages")
def _languages(as_json: _Json = False) -> None:
    """Show the languages that programs can be in, their runtimes, and how to install those that are missing."""
    from dspex._cli.languages import languages

    _leave(lambda: languages(as_json=as_json))


@app.command("doctor")
def _doctor(as_json: _Json = False) -> None:
    """Show what this host can enforce, what is missing, and what mends it."""
    from dspex._cli.doctor import doctor

    _leave(lambda: doctor(as_json=as_json))


def _leave(command: Callable[[], int]) -> None:
    try:
        status = command()
    except KeyboardInterrupt:  # Typer would make it 1, which is for programs that failed
        status = 130
    raise typer.Exit(status)
