"""Programs made of programs: one after the other, side by side, by vote, or as a last resort.

What they are made of are modules, or any callables; `parts[0]` or `parts['name']` is their path.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable, Mapping
from typing import Any

from dspex.errors import BatchError, UsageError
from dspex.examples import Example
from dspex.modules._batch import arun_batch, run_batch
from dspex.modules._module import Module

Part = Callable[..., Any]


class Sequence(Module):
    """One after the other: what a part gives is the input of the next, and what the last gives is the result.

    A Prediction, an Example or a mapping is given on by the names of its fields, anything else as the one argument.
    Raises UsageError without parts.
    """

    def __init__(self, *parts: Part) -> None:
        super().__init__()
        self.parts = _some(list(parts), type(self))

    def forward(self, *args: Any, **inputs: Any) -> Any:
        """Call the first part with the inputs, and each next one with what came."""
        result = self.parts[0](*args, **inputs)
        for part in self.parts[1:]:
            arguments, named = _given_on(result)
            result = part(*arguments, **named)
        return result

    async def aforward(self, *args: Any, **inputs: Any) -> Any:
        """The same, awaiting each part."""
        result = await _awaited(self.parts[0], args, inputs)
        for part in self.parts[1:]:
            result = await _awaited(part, *_given_on(result))
        return result


class Parallel(Module):
    """Side by side: every part is called with the same inputs, in threads.

    `Parallel(a, b)` gives a list in the order of the parts, `Parallel(x=a, y=b)` a dict by their names. `threads` is how
    many are called at once (8). Raises UsageError without parts or with both kinds; BatchError when a part fails.
    """

    parts: list[Part] | dict[str, Part]

    def __init__(self, *parts: Part, threads: int | None = None, **named: Part) -> None:
        super().__init__()
        if parts and named:
            raise UsageError("the parts of Parallel have all names, or none has")
        self.parts = dict(named) if named else _some(list(parts), type(self))
        self._threads = threads

    def forward(self, *args: Any, **inputs: Any) -> Any:
        """Call all parts; their results."""
        return self._named(run_batch(lambda part: part(*args, **inputs), self._all(), threads=self._threads))

    async def aforward(self, *args: Any, **inputs: Any) -> Any:
        """The same, in the loop."""
        call = _calling(args, inputs)
        return self._named(await arun_batch(call, self._all(), concurrency=self._threads))

    def _all(self) -> list[Part]:
        return list(self.parts.values()) if isinstance(self.parts, dict) else self.parts

    def _named(self, results: list[Any]) -> Any:
        return dict(zip(self.parts, results, strict=True)) if isinstance(self.parts, dict) else results


class Ensemble(Module):
    """By vote: every part is called with the same inputs, and `reduce(results)` makes one result of theirs.

    Without `reduce` it is the result that came most often, the earlier one of equals. A part that fails has no vote;
    BatchError when all fail.
    """

    def __init__(
        self, *parts: Part, reduce: Callable[[list[Any]], Any] | None = None, threads: int | None = None
    ) -> None:
        super().__init__()
        self.parts = _some(list(parts), type(self))
        self._reduce = reduce or majority
        self._threads = threads

    def forward(self, *args: Any, **inputs: Any) -> Any:
        """Call all parts, and make one result of theirs."""
        results, failed, errors = run_batch(
            lambda part: part(*args, **inputs), self.parts, threads=self._threads, return_failed=True
        )
        return self._reduce(self._votes(results, failed, errors))

    async def aforward(self, *args: Any, **inputs: Any) -> Any:
        """The same, in the loop."""
        results, failed, errors = await arun_batch(
            _calling(args, inputs), self.parts, concurrency=self._threads, return_failed=True
        )
        return self._reduce(self._votes(results, failed, errors))

    def _votes(self, results: list[Any], failed: list[Part], errors: list[Exception]) -> list[Any]:
        if len(failed) == len(self.parts):
            raise _all_failed(type(self), errors)
        without = {id(part) for part in failed}
        return [result for part, result in zip(self.parts, results, strict=True) if id(part) not in without]


class Fallback(Module):
    """As a last resort: the first part that does not fail answers; the others are not called.

    `errors` are those for which the next part is tried; others are raised at once. BatchError, with all of them as
    `failures`, when every part fails.
    """

    def __init__(self, *parts: Part, errors: type[Exception] | tuple[type[Exception], ...] = Exception) -> None:
        super().__init__()
        self.parts = _some(list(parts), type(self))
        self._errors = errors

    def forward(self, *args: Any, **inputs: Any) -> Any:
        """Call one part after the other until one answers."""
        failures: list[Exception] = []
        for part in self.parts:
            try:
                return part(*args, **inputs)
            except self._errors as error:
                failures.append(error)
        raise _all_failed(type(self), failures)

    async def aforward(self, *args: Any, **inputs: Any) -> Any:
        """The same, awaiting each part."""
        failures: list[Exception] = []
        for part in self.parts:
            try:
                return await _awaited(part, args, inputs)
            except self._errors as error:
                failures.append(error)
        raise _all_failed(type(self), failures)


def majority(results: list[Any]) -> Any:
    """The result that is there most often; of equals, the one that came first. Results need only be comparable by ==."""
    counts: list[tuple[Any, int]] = []
    for result in results:
        place = next((i for i, (known, _) in enumerate(counts) if known == result), None)
        if place is None:
            counts.append((result, 1))
        else:
            counts[place] = (counts[place][0], counts[place][1] + 1)
    return max(counts, key=lambda pair: pair[1])[0]


def _some(parts: list[Part], kind: type) -> list[Part]:
    if not parts:
        raise UsageError(f"{kind.__name__} is made of at least one part")
    wrong = next((part for part in parts if not callable(part)), None)
    if wrong is not None:
        raise UsageError(f"a part of {kind.__name__} is a module or a callable, not {type(wrong).__name__}")
    return parts


def _given_on(result: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    if isinstance(result, Example):
        return (), dict(result.items())
    return ((), dict(result)) if isinstance(result, Mapping) else ((result,), {})


async def _awaited(part: Part, args: tuple[Any, ...], inputs: dict[str, Any]) -> Any:
    """What a part gives, not holding up the loop: a part that knows nothing of loops is called in a thread."""
    if hasattr(part, "acall"):
        return await part.acall(*args, **inputs)
    if inspect.iscoroutinefunction(part):
        return await part(*args, **inputs)
    return await asyncio.to_thread(part, *args, **inputs)


def _calling(args: tuple[Any, ...], inputs: dict[str, Any]) -> Callable[[Part], Any]:
    return lambda part: _awaited(part, args, inputs)


def _all_failed(kind: type, errors: list[Exception]) -> BatchError:
    told = "; ".join(f"{type(error).__name__}: {error}" for error in errors)
    return BatchError(f"every part of {kind.__name__} failed: {told}", failures=list(enumerate(errors)))
