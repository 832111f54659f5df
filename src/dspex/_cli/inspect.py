"""`dspex inspect`: what is in a state file, or in a program that can be imported."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from dspex._cli._importing import imported
from dspex.errors import StateFormatError, UsageError
from dspex.modules import Module, Parameter, Tree, described
from dspex.state import read_file


def inspect(what: str, *, as_json: bool = False) -> int:
    """Show `what`, a file or `package.module:attribute`; 0 when it was shown. Raises `DspexError` naming what is wrong."""
    if os.path.exists(what) or ":" not in what:
        try:
            state = read_file(what)
        except OSError as error:
            raise UsageError(
                f"{what}: {error.strerror or error}; a program is named as package.module:attribute"
            ) from None
        _show_file(what, state, as_json)
    else:
        _show_program(_made(what), as_json)
    return 0


# --- programs ---


def _made(what: str) -> Any:
    """The module or parameter of that name; classes and functions are called."""
    found = imported(what)
    try:
        made = found() if callable(found) and not isinstance(found, (Module, Parameter)) else found
    except Exception as error:  # whatever the user's code raises
        raise UsageError(f"{what}: {type(error).__name__}: {error}") from error
    if not isinstance(made, (Module, Parameter)):
        raise UsageError(f"{what} is of type {type(made).__name__}, and no module or parameter")
    return made


def _show_program(program: Any, as_json: bool) -> None:
    tree = Tree(program)
    if as_json:
        _print_json({"module": _type_name(program), "tree": tree.to_list()})
    else:
        from rich.console import Console

        Console().print(tree)


def _type_name(program: Any) -> str:
    return f"{type(program).__module__}:{type(program).__qualname__}"


# --- files ---


def _show_file(path: str, state: Any, as_json: bool) -> None:
    if not isinstance(state, Mapping):
        raise StateFormatError(f"holds {described(state)}, and not the state of a module", source=path)
    parameters = {str(key): value for key, value in state.items() if key != "metadata"}
    if as_json:
        shown = [{"path": name, "state": _sizes(value)} for name, value in parameters.items()]
        _print_json({"file": path, "about": _about(state), "parameters": shown})
    else:
        _print_file(path, _about(state), parameters)


def _about(state: Mapping[Any, Any]) -> dict[str, Any]:
    """What is said about a state. Of a file of DSPy's, that is the versions alone."""
    metadata = state.get("metadata")
    if not isinstance(metadata, Mapping):
        return {}
    about = metadata.get("dspex")
    return {
        "dependency_versions": metadata.get("dependency_versions"),
        **({str(k): v for k, v in about.items() if k != "parameters"} if isinstance(about, Mapping) else {}),
    }


def _sizes(state: Any) -> dict[str, str]:
    """What a parameter's state holds, by key, in a few words."""
    return {str(key): described(value) for key, value in state.items()} if isinstance(state, Mapping) else {}


def _print_file(path: str, about: dict[str, Any], parameters: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console()
    console.print(Text(path, "bold"))
    for name, value in about.items():
        console.print(Text(f"  {name}: {value}"), soft_wrap=True)
    table = Table("parameter", "state")
    for name, state in parameters.items():
        table.add_row(Text(name), Text(", ".join(f"{key}: {size}" for key, size in _sizes(state).items())))
    console.print(table)


def _print_json(value: Any) -> None:
    import json

    print(json.dumps(value, indent=2, default=str))
