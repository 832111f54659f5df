"""`dspex state show`: the state of a version, as JSON for people or as a state file."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import msgspec

from dspex._cli.state._moments import version_at
from dspex._cli.state._output import print_json, version_as_dict
from dspex.errors import UsageError
from dspex.state import encode, write_file
from dspex.state._packed import pack

if TYPE_CHECKING:
    from dspex.versions import StateManager


def show(
    states: StateManager,
    module_id: str,
    at: str,
    *,
    raw: bool,
    format: str | None,
    compression: str | None,
    out: str | None,
    as_json: bool,
) -> int:
    """Print a state; with `raw` or `out` write its file."""
    if as_json and (raw or out):
        raise UsageError("--json prints the version and its state; take --raw or --out away")
    if (format or compression) and not (raw or out):
        raise UsageError("--format and --compression are of a state file; add --raw or --out FILE")
    version = version_at(states, module_id, at)
    state = states.load_state(module_id, version)
    if out:
        _write_file(out, state, format, compression)
    elif raw:
        _write(encode(state, format=format or "json", compression=compression))
    elif as_json:
        print_json({"version": version_as_dict(version), "state": readable(state)})
    else:
        _show(readable(state))
    return 0


def readable(state: Any) -> Any:
    """A state as a tree that JSON can hold: what JSON lacks is tagged, as in state files."""
    return msgspec.to_builtins(pack(state), builtin_types=())


def _write_file(path: str, state: Any, format: str | None, compression: str | None) -> None:
    try:
        write_file(path, state, format=format, compression=compression)
    except OSError as error:
        raise UsageError(f"--out {path}: {error.strerror}") from None


def _write(data: bytes) -> None:
    if sys.stdout.isatty() and not data.isascii():
        raise UsageError("a terminal cannot show this file; write it with --out FILE")
    sys.stdout.flush()
    sys.stdout.buffer.write(data)
    sys.stdout.buffer.flush()


def _show(tree: Any) -> None:
    if not sys.stdout.isatty():
        print_json(tree)
        return
    from rich.console import Console
    from rich.json import JSON

    Console().print(JSON.from_data(tree, ensure_ascii=True), soft_wrap=True)
