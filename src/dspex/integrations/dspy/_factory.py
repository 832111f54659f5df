"""`Factory`: makes interpreters that are all alike, for the modules of DSPy that ask for one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from dspex.integrations.dspy._interpreter import Interpreter

_UNDONE: Final = " A step that raises an error is undone: afterwards names and files are what they were before it."


class Factory:
    """Called without arguments it makes an interpreter. Shared by all copies of a module, with the executor that it names."""

    def __init__(self, kind: type[Interpreter], keywords: dict[str, Any]) -> None:
        self._kind = kind
        self._keywords = keywords

    @property
    def execution_instructions(self) -> str:
        """What models are told about the place where their code runs."""
        return self._kind.execution_instructions + (_UNDONE if self._keywords.get("undo_failed") else "")

    def __call__(self) -> Interpreter:
        return self._kind(**self._keywords)

    def __deepcopy__(self, _: object) -> Factory:
        return self

    def __repr__(self) -> str:
        return (
            f"{self._kind.__name__}.factory({', '.join(f'{name}={value!r}' for name, value in self._keywords.items())})"
        )
