"""`Interpreter(language=...)`: DSPy's programs written in JavaScript, TypeScript or Elixir.

Theory of operation. The engine itself offers the tools by their names here; what is prepared in the guest is SUBMIT alone, which
carries its fields through a tool of its own and then ends the program by an error of the name FinalOutput, as in Python.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from dspy.primitives.code_interpreter import CodeInterpreterError

from dspex.errors import DspexError
from dspex.integrations.dspy import _guest, _shared
from dspex.integrations.dspy._interpreter import Interpreter

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

_KEPT: Final = " State persists across executions. Neither the network nor files of the host can be reached."


class _Words(NamedTuple):
    """What differs from one language to the next."""

    instructions: str
    prelude: Callable[[Sequence[str]], str]  # a program that prepares SUBMIT for these fields


def _javascript(fields: Sequence[str]) -> str:
    names = json.dumps(list(fields))
    return f"""globalThis.SUBMIT = async (...values) => {{
  const names = {names}, only = values.length === 1 ? values[0] : undefined
  const named = only !== null && typeof only === 'object' && names.every((name) => name in only)
  await {_guest.SUBMITTED}(named ? only : Object.fromEntries(names.map((name, place) => [name, values[place] ?? null])))
  throw Object.assign(new Error('submitted'), {{ name: '{_guest.FINAL}' }})
}}; undefined"""


def _elixir(fields: Sequence[str]) -> str:
    arguments = ", ".join(f"field_{place}" for place in range(len(fields)))
    pairs = ", ".join(f"{json.dumps(name)} => field_{place}" for place, name in enumerate(fields))
    return f"""defmodule {_guest.FINAL} do
  defexception message: "submitted"
end
defmodule Dspex.Submit do
  def submit({arguments}) do
    Dspex.call_tool({json.dumps(_guest.SUBMITTED)}, [%{{{pairs}}}])
    raise {_guest.FINAL}
  end
end
import Dspex.Submit
nil"""


_JAVASCRIPT: Final = (
    "{name} code runs in node inside a sandbox. Top-level await works; tools are async functions of their names and take "
    "positional arguments: `await tool(x)`. The value of the last expression, or what console.log prints, is the result. "
    "`await SUBMIT(...)` takes the outputs in their order, or one object with all of them."
)
_WORDS: Final = {
    "javascript": _Words(_JAVASCRIPT.format(name="JavaScript") + _KEPT, _javascript),
    "typescript": _Words(_JAVASCRIPT.format(name="TypeScript") + _KEPT, _javascript),
    "elixir": _Words(
        "Elixir code runs inside a sandbox, statement by statement. Tools are functions of their names with positional "
        "arguments: `tool(x)`. The value of the last expression, or what IO.puts prints, is the result. `submit(...)`, which is "
        "Elixir's name for SUBMIT, takes the outputs in their order." + _KEPT,
        _elixir,
    ),
}


def words(language: str) -> _Words:
    """Of a language that DSPy's programs can be written in. Raises `CodeInterpreterError`."""
    if language not in _WORDS:
        known = ", ".join(("python", *_WORDS))
        raise CodeInterpreterError(f"language is {language!r}; programs of DSPy's can be in {known}")
    return _WORDS[language]


class Polyglot(Interpreter):
    """An interpreter for another language than Python, made by `Interpreter(language=...)`."""

    def __init__(self, *args: Any, language: str, **keywords: Any) -> None:
        super().__init__(*args, **keywords)
        if self._hosts:
            raise CodeInterpreterError(f"enable_network_access: programs in {language} have no network; offer a tool")
        if self.undo_failed or self.strict_dspy:
            raise CodeInterpreterError(f"undo_failed, strict_dspy: only for Python; language is {language!r}")
        self.language = language
        self._words = words(language)
        self.execution_instructions = self._words.instructions

    def _open(self) -> None:
        tools, wanted = self._crossing(), self._wanted()
        try:
            session = self._session = (self._executor or _shared.executor(language=self.language)).session()
            self._check_kept()
            session.execute(
                self._prelude(),
                environment=self._paths.environment(),
                files=self._paths.files(),
                working_directory=self._paths.directory,
                tools=tools,
            ).unwrap()
        except (DspexError, OSError) as error:
            raise self._broken(error) from error
        self._offered, self._prepared, self._anew = tools, wanted, False

    def _prepare(self) -> None:
        wanted = self._wanted()
        if wanted == self._prepared and not self._anew:
            return
        self._offered = self._crossing()
        self._call(self._prelude()).unwrap()
        self._prepared, self._anew = wanted, False

    def _send(self, variables: dict[str, Any]) -> dict[str, Any]:
        return {name: self._carried(name, value) for name, value in variables.items()}

    def _prelude(self) -> str:
        self._binding()  # which checks the fields
        names = _guest.field_names(self._wanted()[1])
        for name in names:
            if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name):
                raise CodeInterpreterError(f"output field {name!r}: use letters of ASCII, digits and _")
        return self._words.prelude(names)
