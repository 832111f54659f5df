"""`Factory`: makes interpreters that are all alike, for the modules of DSPy that ask for one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Sequence

    from dspex.integrations.dspy._interpreter import Interpreter

_INSTRUCTIONS: Final = (
    "Python code runs in CPython inside a sandbox {network}. State persists across executions. The whole standard library "
    "is available; subprocesses are not, nor are files of the host."
)
_UNDONE: Final = " A step that raises an error is undone: afterwards names and files are what they were before it."


def instructions(hosts: Sequence[str] = (), *, undo_failed: bool = False) -> str:
    """What models are told about the place where their code runs."""
    network = f"that reaches these hosts alone: {', '.join(map(str, hosts))}" if hosts else "without network"
    return _INSTRUCTIONS.format(network=network) + (_UNDONE if undo_failed else "")


class Factory:
    """Called without arguments it makes an interpreter. Shared by all copies of a module, with the executor that it names."""

    def __init__(self, kind: type[Interpreter], keywords: dict[str, Any]) -> None:
        self._kind = kind
        self._keywords = keywords

    @property
    def execution_instructions(self) -> str:
        """What models are told about the place where their code runs."""
        if (language := self._keywords.get("language", "python")) != "python":
            from dspex.integrations.dspy._languages import words

            return words(language).instructions
        hosts = self._keywords.get("enable_network_access") or ()
        return instructions(hosts, undo_failed=self._keywords.get("undo_failed", False))

    def __call__(self) -> Interpreter:
        return self._kind(**self._keywords)

    def __deepcopy__(self, _: object) -> Factory:
        return self

    def __repr__(self) -> str:
        return (
            f"{self._kind.__name__}.factory({', '.join(f'{name}={value!r}' for name, value in self._keywords.items())})"
        )
