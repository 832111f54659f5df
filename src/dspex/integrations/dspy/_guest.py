"""The programs by which the guest is prepared, and what is prepared there (guests/inside.py) is called.

Theory of operation. `SUBMIT` first carries its fields to the host, through a tool of its own, and then raises: so the values
cross as values, and the exception's only task is to end the program. A program that raises such an exception itself
submits nothing, for the host looks at what came through the tool.

In asyncio code dspex's tools give coroutines; those of DSPy always block. So each name is bound to the blocking form, and
given back (`release`) before other tools are offered under it.

What is prepared crosses compiled: a guest that has just begun would take milliseconds to compile it.
"""

from __future__ import annotations

import keyword
import marshal
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

SUBMITTED: Final = "_dspex_submitted"  # the tool that carries the fields
GIVEN: Final = "_dspex_given"  # the variable that holds large inputs on their way
_ENGINE: Final = "_dspex_tool_"  # before names that the engine keeps for itself
FINAL: Final = "FinalOutput"  # the exception that ends the program

_INSIDE: Final = marshal.dumps(
    compile((Path(__file__).parent / "guests" / "inside.py").read_text("utf-8"), "<dspex>", "exec", dont_inherit=True)
)
PRELUDE: Final = f"""_dspex = {{"__name__": "__main__"}}
exec(__import__("marshal").loads({_INSIDE!r}), _dspex)
_dspex = _dspex["Inside"](globals())
"""


def calling(method: str, *arguments: object) -> str:
    """A program that calls a method of what is prepared; arguments are str, bytes and lists of them."""
    return f"_dspex.{method}({', '.join(map(repr, arguments))})"


def is_reserved(name: object) -> bool:
    """Whether the interpreter has that name for itself in the guest."""
    return isinstance(name, str) and (name == "SUBMIT" or name.startswith("_dspex"))


def engine_name(name: str) -> str:
    """The name under which a tool crosses; the engine has those with two underscores on both sides for itself."""
    return _ENGINE + name if name.startswith("__") and name.endswith("__") else name


def field_names(fields: Sequence[Mapping[str, Any]] | None) -> list[Any]:
    """The parameters of SUBMIT, in order."""
    return [field["name"] for field in fields] if fields else ["output"]


def binding(tools: Iterable[str], fields: Sequence[Mapping[str, Any]] | None) -> str:
    """A program that binds tools and SUBMIT. Raises `ValueError` for a field that cannot be a parameter."""
    names = field_names(fields)
    _check(names)
    parameters = ", ".join(f"{field['name']}{_annotation(field)}" for field in fields or ({"name": "output"},))
    source = f"def SUBMIT({parameters}):\n    _dspex.submit({{{', '.join(f'{name!r}: {name}' for name in names)}}})\n"
    compiled = marshal.dumps(compile(source, "<dspex>", "exec", dont_inherit=True))
    return calling("bind", [(name, engine_name(name)) for name in tools], SUBMITTED, compiled)


def _check(names: Iterable[object]) -> None:
    seen = set[object]()
    for name in names:
        if (
            not isinstance(name, str)
            or not name.isidentifier()
            or keyword.iskeyword(name)
            or name in seen
            or is_reserved(name)
        ):
            raise ValueError(f"output field {name!r} cannot be a parameter of SUBMIT: take another name for it")
        seen.add(name)


def _annotation(field: Mapping[str, Any]) -> str:
    return f": {str(field['type'])!r}" if field.get("type") else ""
