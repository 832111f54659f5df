"""What is prepared inside the guest, as text: SUBMIT, tools that always block, and inputs that were sent before.

Theory of operation. `SUBMIT` first carries its fields to the host, through a tool of its own, and then raises: so the values
cross as values, and the exception's only task is to end the program. A program that raises such an exception itself
submits nothing, for the host looks at what came through the tool.

In asyncio code dspex's tools give coroutines; those of DSPy always block. So each name is bound to the blocking form, and
given back (`release`) before other tools are offered under it.
"""

from __future__ import annotations

import keyword
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

SUBMITTED: Final = "_dspex_submitted"  # the tool that carries the fields
GIVEN: Final = "_dspex_given"  # the variable that holds large inputs on their way
_ENGINE: Final = "_dspex_tool_"  # before names that the engine keeps for itself
FINAL: Final = "FinalOutput"  # the exception that ends the program

PRELUDE: Final = f'''
def _dspex():
    import gc, pickle

    names, bound, kept = globals(), {{}}, {{}}

    class {FINAL}(BaseException):
        """The program has submitted its result."""

        __qualname__ = "{FINAL}"

    class Inside:
        """What the host's interpreter does in here."""

        def release(self):
            for name, (engine, ours) in bound.items():
                if names.get(name) is ours:
                    del names[name]
                    names[engine.__name__] = engine
            bound.clear()

        def bind(self, tools, source):
            for name, called in tools:
                engine = names[called]
                bound[name] = engine, engine.wait
                names[name] = engine.wait
            self.carry = names["{SUBMITTED}"].wait
            made = {{"_dspex": self}}
            exec(source, made)
            names["SUBMIT"] = made["SUBMIT"]

        def submit(self, fields):
            self.carry(fields)
            raise {FINAL}

        def take(self, *pickled):
            given = names.pop("{GIVEN}")
            collecting = gc.isenabled()
            gc.disable()  # it would take most of the time
            try:
                given.update((name, pickle.loads(given[name])) for name in pickled)
            finally:
                if collecting:
                    gc.enable()
            kept.update(given)
            names.update(given)

        def again(self, *given):
            names.update((name, kept[name]) for name in given)

    return Inside()


_dspex = _dspex()
'''


def calling(method: str, *arguments: object) -> str:
    """A program that calls a method of what is prepared; arguments are str and lists of them."""
    return f"_dspex.{method}({', '.join(map(repr, arguments))})"


def engine_name(name: str) -> str:
    """The name under which a tool crosses; the engine has those with two underscores on both sides for itself."""
    return _ENGINE + name.strip("_") if name.startswith("__") and name.endswith("__") else name


def field_names(fields: Sequence[Mapping[str, Any]] | None) -> list[Any]:
    """The parameters of SUBMIT, in order."""
    return [field["name"] for field in fields] if fields else ["output"]


def submit_source(fields: Sequence[Mapping[str, Any]] | None) -> str:
    """The definition of SUBMIT. Raises `ValueError` for a field that cannot be a parameter."""
    names = field_names(fields)
    _check(names)
    parameters = ", ".join(f"{field['name']}{_annotation(field)}" for field in fields or ({"name": "output"},))
    return f"def SUBMIT({parameters}):\n    _dspex.submit({{{', '.join(f'{name!r}: {name}' for name in names)}}})\n"


def _check(names: Iterable[object]) -> None:
    seen = set[object]()
    for name in names:
        if not isinstance(name, str) or not name.isidentifier() or keyword.iskeyword(name) or name in seen:
            raise ValueError(f"output field {name!r} cannot be a parameter of SUBMIT: take another name for it")
        seen.add(name)


def _annotation(field: Mapping[str, Any]) -> str:
    return f": {str(field['type'])!r}" if field.get("type") else ""
