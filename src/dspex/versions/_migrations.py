"""Migrations: steps from one schema of a state to another, and the shortest path through them."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from dspex.errors import MigrationError, UsageError
from dspex.state import canonical, from_canonical

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    Transform = Callable[[Any], Any]


@dataclass(frozen=True, slots=True)
class Step:
    """One step: `transform` gets the plain state of one schema and returns that of the next."""

    from_schema: str
    to_schema: str
    transform: Transform

    def __str__(self) -> str:
        return f"{self.from_schema} -> {self.to_schema}"


class Migrations:
    """A graph whose nodes are schemas and whose edges are steps.

        migrations = Migrations()

        @migrations.step("1.0", "1.1")
        def name_the_demos(state):
            return {**state, "demos": state.pop("examples")}

    A way back exists only where a step says so: `@migrations.step("1.1", "1.0")`.
    """

    def __init__(self) -> None:
        self._steps: dict[str, dict[str, Step]] = {}

    def step(self, from_schema: str, to_schema: str) -> Callable[[Transform], Transform]:
        """Register the decorated function as the step from one schema to another.

        Raises UsageError when there is such a step, or it leads nowhere.
        """
        if from_schema == to_schema:
            raise UsageError(f"a step from {from_schema!r} to itself changes no schema")
        if to_schema in self._steps.get(from_schema, {}):
            raise UsageError(f"there is a step from {from_schema!r} to {to_schema!r}; two would be ambiguous")

        def register(transform: Transform) -> Transform:
            self._steps.setdefault(from_schema, {})[to_schema] = Step(from_schema, to_schema, transform)
            return transform

        return register

    def path(self, from_schema: str, to_schema: str) -> tuple[Step, ...]:
        """The steps from one schema to another, as few as there can be; those registered first where some are equal.

        Raises MigrationError when no path leads there, naming what can be reached.
        """
        paths: dict[str, tuple[Step, ...]] = {from_schema: ()}
        pending = deque([from_schema])
        while pending and to_schema not in paths:
            schema = pending.popleft()
            for target, step in self._steps.get(schema, {}).items():
                if target not in paths:
                    paths[target] = (*paths[schema], step)
                    pending.append(target)
        if to_schema not in paths:
            reached = ", ".join(sorted(set(paths) - {from_schema})) or "nothing"
            raise MigrationError(f"no steps lead from schema {from_schema!r} to {to_schema!r}; from there, {reached}")
        return paths[to_schema]

    def heads(self) -> tuple[str, ...]:
        """The schemas from which no step leads on: more than one means that the graph has come apart."""
        targets = {target for steps in self._steps.values() for target in steps}
        return tuple(sorted(targets - {source for source, steps in self._steps.items() if steps}))


def migrated(state: Any, steps: Sequence[Step]) -> Any:
    """A state taken through steps, each of which gets a copy of its own. Raises MigrationError naming the one that failed."""
    for step in steps:
        try:
            state = step.transform(from_canonical(canonical(state)))
            canonical(state)
        except Exception as error:
            raise MigrationError(f"the step {step} failed: {type(error).__name__}: {error}") from error
    return state
