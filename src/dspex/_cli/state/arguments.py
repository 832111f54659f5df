"""The commands of `dspex state` and their options, as Typer knows them. What they do is loaded when they are called."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from collections.abc import Callable

    from dspex.versions import StateManager

_Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
_Store = Annotated[str | None, typer.Option(metavar="URL", help="The store; also before the command.")]
_Module = Annotated[str, typer.Argument(metavar="MODULE", help="The id of a module.")]
_Name = Annotated[str, typer.Argument(metavar="NAME")]
_Pattern = Annotated[str, typer.Argument(metavar="[PATTERN]", help="Modules, as shells match: 'shop/*'.")]
_At = Annotated[
    str,
    typer.Option(
        metavar="VERSION|TAG|BRANCH|MOMENT", help="An id, a tag, a branch, latest, or a moment: 2026-11-23T17:00."
    ),
]
_Versioning = Annotated[
    str, typer.Option(metavar="HOW", help="How new versions are called: incremental, timestamp, semantic, content.")
]
_Resolver = Annotated[
    str,
    typer.Option(metavar="HOW", help="What becomes of heads that went apart: reject, last_write_wins, merge."),
]

app = typer.Typer(
    help="Keep, compare, restore and check versions of the states of programs, in a store.",
    epilog="Exit status: 0 fine, 1 something is damaged or cannot be merged, 2 the store or the usage failed.",
    no_args_is_help=True,
)
_snapshots = typer.Typer(help="Versions of many modules at one moment, under one name.", no_args_is_help=True)
app.add_typer(_snapshots, name="snapshot")


@app.callback()
def _state(
    context: typer.Context,
    store: Annotated[
        str | None, typer.Option(metavar="URL", envvar="DSPEX_STORE", help="The store, as sqlite:///states.db.")
    ] = None,
) -> None:
    context.obj = store


# --- looking ----------------------------------------------------------------------------------------------------------


@app.command("ls")
def _ls(context: typer.Context, pattern: _Pattern = "*", *, store: _Store = None, as_json: _Json = False) -> None:
    """Show the modules of a store, each with its newest version."""
    from dspex._cli.state.ls import ls

    _leave(context, store, lambda states: ls(states, pattern, as_json=as_json))


@app.command("log")
def _log(
    context: typer.Context,
    module: _Module,
    *,
    limit: Annotated[int | None, typer.Option("-n", "--limit", metavar="N", help="At most as many; all.")] = None,
    store: _Store = None,
    as_json: _Json = False,
) -> None:
    """Draw the graph of a module's versions: branches, merges, tags, times."""
    from dspex._cli.state.log import log

    _leave(context, store, lambda states: log(states, module, limit=limit, as_json=as_json))


@app.command("show")
def _show(
    context: typer.Context,
    module: _Module,
    *,
    at: _At = "latest",
    raw: Annotated[bool, typer.Option("--raw", help="Write a state file to standard output.")] = False,
    out: Annotated[str | None, typer.Option(metavar="FILE", help="Write a state file here.")] = None,
    format: Annotated[
        str | None, typer.Option(metavar="FORMAT", help="Of the file: json, msgpack, protobuf, etf, dspy.")
    ] = None,
    compression: Annotated[str | None, typer.Option(metavar="HOW", help="Of the file: plain, gzip, zstd.")] = None,
    store: _Store = None,
    as_json: _Json = False,
) -> None:
    """Show the state of a version as JSON, or write it as a state file.

    What JSON lacks is shown as in state files: {"$tuple": [...]}. --json adds what is known of the version.
    """
    from dspex._cli.state.show import show

    _leave(
        context,
        store,
        lambda states: show(
            states, module, at, raw=raw, format=format, compression=compression, out=out, as_json=as_json
        ),
    )


@app.command("diff")
def _diff(
    context: typer.Context,
    module: _Module,
    a: Annotated[str, typer.Argument(metavar="A", help="A version, tag, branch or moment.")],
    b: Annotated[str, typer.Argument(metavar="[B]", help="Another.")] = "latest",
    *,
    store: _Store = None,
    as_json: _Json = False,
) -> None:
    """Show what B has otherwise than A, path by path; metadata do not count."""
    from dspex._cli.state.diff import diff

    _leave(context, store, lambda states: diff(states, module, a, b, as_json=as_json))


@app.command("watch")
def _watch(
    context: typer.Context,
    pattern: _Pattern = "*",
    *,
    since: Annotated[
        int | None, typer.Option(metavar="REVISION", help="Begin with what happened after this; 0 shows all.")
    ] = None,
    timeout: Annotated[
        float | None, typer.Option(metavar="SECONDS", help="Stop when nothing happened for so long; never.")
    ] = None,
    store: _Store = None,
    as_json: _Json = False,
) -> None:
    """Show what happens in a store, as it happens: a line for each event, which begins with its revision."""
    from dspex._cli.state.watch import watch

    _leave(context, store, lambda states: watch(states, pattern, since, timeout, as_json=as_json))


# --- names ------------------------------------------------------------------------------------------------------------


@app.command("tag")
def _tag(
    context: typer.Context,
    module: _Module,
    name: _Name,
    *,
    at: _At = "latest",
    move: Annotated[bool, typer.Option("--move/--no-move", help="Take it from the version that has it.")] = True,
    store: _Store = None,
    as_json: _Json = False,
) -> None:
    """Give a version a name of its own."""
    from dspex._cli.state.tag import tag

    _leave(context, store, lambda states: tag(states, module, name, at, move=move, as_json=as_json))


@app.command("untag")
def _untag(
    context: typer.Context, module: _Module, name: _Name, *, store: _Store = None, as_json: _Json = False
) -> None:
    """Take a name away from its version."""
    from dspex._cli.state.tag import untag

    _leave(context, store, lambda states: untag(states, module, name, as_json=as_json))


@app.command("branch")
def _branch(
    context: typer.Context,
    module: _Module,
    name: Annotated[
        str | None, typer.Argument(metavar="[NAME]", help="The new branch; without it all are shown.")
    ] = None,
    *,
    at: _At = "latest",
    store: _Store = None,
    as_json: _Json = False,
) -> None:
    """Begin a branch at a version, or show the branches of a module."""
    from dspex._cli.state.branch import branch, branches

    _leave(
        context,
        store,
        lambda states: (
            branches(states, module, as_json=as_json)
            if name is None
            else branch(states, module, name, at, as_json=as_json)
        ),
    )


@app.command("merge")
def _merge(
    context: typer.Context,
    module: _Module,
    name: Annotated[str, typer.Argument(metavar="BRANCH")],
    *,
    into: Annotated[str, typer.Option(metavar="BRANCH", help="The branch that takes it in.")] = "main",
    versioning: _Versioning = "incremental",
    store: _Store = None,
    as_json: _Json = False,
) -> None:
    """Merge a branch into another. Paths that both changed are named, with status 1, and nothing is saved."""
    from dspex._cli.state.branch import merge

    _leave(context, store, lambda states: merge(states, module, name, into, as_json=as_json), versioning=versioning)


# --- going back, and on -----------------------------------------------------------------------------------------------


@app.command("restore")
def _restore(
    context: typer.Context,
    pattern: Annotated[str, typer.Argument(metavar="PATTERN", help="Modules, as shells match: 'shop/*', '*'.")],
    *,
    at: Annotated[str, typer.Option(metavar="VERSION|TAG|MOMENT", help="An id, a tag, or a moment.")],
    store: _Store = None,
    as_json: _Json = False,
) -> None:
    """Make modules what they were, as new versions: all that match, or none.

    At a moment, a module that did not exist yet loses its newest version; its versions stay.
    """
    from dspex._cli.state.restore import restore

    _leave(context, store, lambda states: restore(states, pattern, at, as_json=as_json))


@_snapshots.command("create")
def _snapshot_create(
    context: typer.Context,
    name: _Name,
    patterns: Annotated[list[str], typer.Argument(metavar="PATTERN...", help="Modules, as shells match.")],
    *,
    store: _Store = None,
    as_json: _Json = False,
) -> None:
    """Name the newest versions of modules, all as of one moment."""
    from dspex._cli.state.snapshot import create

    _leave(context, store, lambda states: create(states, name, patterns, as_json=as_json))


@_snapshots.command("ls")
def _snapshot_ls(context: typer.Context, *, store: _Store = None, as_json: _Json = False) -> None:
    """Show all snapshots."""
    from dspex._cli.state.snapshot import ls

    _leave(context, store, lambda states: ls(states, as_json=as_json))


@_snapshots.command("restore")
def _snapshot_restore(context: typer.Context, name: _Name, *, store: _Store = None, as_json: _Json = False) -> None:
    """Make the versions of a snapshot the newest again, as new versions: all, or none."""
    from dspex._cli.state.snapshot import restore

    _leave(context, store, lambda states: restore(states, name, as_json=as_json))


@_snapshots.command("rm")
def _snapshot_rm(context: typer.Context, name: _Name, *, store: _Store = None, as_json: _Json = False) -> None:
    """Forget a snapshot; its versions stay."""
    from dspex._cli.state.snapshot import rm

    _leave(context, store, lambda states: rm(states, name, as_json=as_json))


@app.command("migrate")
def _migrate(
    context: typer.Context,
    module: _Module,
    schema: Annotated[str, typer.Argument(metavar="SCHEMA", help="The schema to be reached.")],
    *,
    migrations: Annotated[
        str,
        typer.Option(
            "--module", metavar="FILE.py:NAME", help="A Migrations object, in a file or as package.module:name."
        ),
    ],
    at: _At = "latest",
    plan: Annotated[bool, typer.Option("--plan", help="Show the steps, and run none.")] = False,
    versioning: _Versioning = "incremental",
    store: _Store = None,
    as_json: _Json = False,
) -> None:
    """Take a version to another schema by the fewest steps, and save that as its child. Runs the code of --module."""
    from dspex._cli.state.migrate import migrate, migrations_of

    _leave(
        context,
        store,
        lambda states: migrate(states, module, schema, at, plan=plan, as_json=as_json),
        lambda: {"migrations": migrations_of(migrations)},
        versioning=versioning,
    )


# --- the store as a whole ---------------------------------------------------------------------------------------------


@app.command("verify")
def _verify(context: typer.Context, *, store: _Store = None, as_json: _Json = False) -> None:
    """Read every byte of a store and check it: status 1 when anything is not what was saved."""
    from dspex._cli.state.verify import verify

    _leave(context, store, lambda states: verify(states, as_json=as_json))


@app.command("gc")
def _gc(
    context: typer.Context,
    *,
    keep_last: Annotated[
        int | None, typer.Option(metavar="N", help="Keep the newest N versions of each module.")
    ] = None,
    keep_for: Annotated[
        str | None, typer.Option(metavar="TIME", help="Keep versions younger than this: 12h, 30d, 8w.")
    ] = None,
    forget_before: Annotated[int | None, typer.Option(metavar="REVISION", help="Forget events up to this one.")] = None,
    store: _Store = None,
    as_json: _Json = False,
) -> None:
    """Drop what no version needs; with --keep-last or --keep-for, delete versions that neither keeps.

    Heads, tagged versions and those in snapshots are always kept.
    """
    from dspex._cli.state.gc import gc, retention

    _leave(
        context,
        store,
        lambda states: gc(states, forget_before=forget_before, as_json=as_json),
        lambda: {"retention": retention(keep_last, keep_for)},
    )


@app.command("sync")
def _sync(
    context: typer.Context,
    url: Annotated[str, typer.Argument(metavar="URL", help="The other store.")],
    *,
    direction: Annotated[str, typer.Option(metavar="push|pull|both", help="To the other, from it, or both.")] = "push",
    pattern: Annotated[str, typer.Option(metavar="PATTERN", help="Modules, as shells match.")] = "*",
    resolver: _Resolver = "reject",
    versioning: _Versioning = "incremental",
    store: _Store = None,
    as_json: _Json = False,
) -> None:
    """Bring versions to another store, or from it. Status 1 when heads went apart and cannot be joined."""
    from dspex._cli.state.sync import sync

    _leave(
        context,
        store,
        lambda states: sync(states, url, direction, pattern, as_json=as_json),
        new=direction == "pull",
        resolver=resolver,
        versioning=versioning,
    )


@app.command("export")
def _export(
    context: typer.Context,
    file: Annotated[str, typer.Argument(metavar="FILE")],
    pattern: _Pattern = "*",
    *,
    store: _Store = None,
    as_json: _Json = False,
) -> None:
    """Write all versions of modules into one file."""
    from dspex._cli.state.sync import export

    _leave(context, store, lambda states: export(states, file, pattern, as_json=as_json))


@app.command("import")
def _import(
    context: typer.Context,
    file: Annotated[str, typer.Argument(metavar="FILE")],
    *,
    resolver: _Resolver = "reject",
    versioning: _Versioning = "incremental",
    store: _Store = None,
    as_json: _Json = False,
) -> None:
    """Bring the versions of a file that export wrote. Status 1 when heads went apart and cannot be joined."""
    from dspex._cli.state.sync import import_

    _leave(
        context,
        store,
        lambda states: import_(states, file, as_json=as_json),
        new=True,
        resolver=resolver,
        versioning=versioning,
    )


def _leave(
    context: typer.Context,
    store: str | None,
    command: Callable[[StateManager], int],
    more: Callable[[], dict[str, Any]] = dict,
    **options: Any,
) -> None:
    """Run a command on the store that is named at it, before it, or by the environment."""
    from dspex._cli.state._opening import opened

    try:
        with opened(store or context.obj, **options, **more()) as states:
            status = command(states)
    except KeyboardInterrupt:  # Typer would make it 1, which has its meaning here
        status = 130
    raise typer.Exit(status)
