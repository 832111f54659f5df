"""`Prediction`: an example that a program answered, with a score to compare by."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any, Self

from dspex.errors import UsageError
from dspex.examples._example import Example

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from dspex.examples._completions import Completions


class Prediction(Example):
    """What a program answered: an example, the completions it was chosen from, and what it cost to get.

    One with a field `score` counts as that number in `float`, `+`, `/` and comparisons of order; equality is that of
    its fields.
    """

    __slots__ = ("_completions", "_lm_usage")
    _completions: Completions | None
    _lm_usage: Any

    def __init__(self, /, base: Mapping[str, Any] | Example | None = None, **fields: Any) -> None:
        super().__init__(base, **fields)
        _set_completions(self, getattr(base, "_completions", None))
        _set_usage(self, getattr(base, "_lm_usage", None))

    @classmethod
    def from_completions(
        cls, list_or_dict: Sequence[Mapping[str, Any]] | Mapping[str, Sequence[Any]], signature: Any = None
    ) -> Self:
        """The first of several completions, which are kept as `completions`; see `Completions` for the forms."""
        from dspex.examples._completions import Completions

        completions = Completions(list_or_dict, signature=signature)
        made = cls(completions.row(0) if len(completions) else None)
        _set_completions(made, completions)
        return made

    @property
    def completions(self) -> Completions | None:
        """What this was chosen from; None when it was not made by `from_completions`."""
        return self._completions

    def get_lm_usage(self) -> Any:
        """What the language models used for this, as it was set; None when it was not."""
        return self._lm_usage

    def set_lm_usage(self, value: Any) -> None:
        """Note what the language models used."""
        _set_usage(self, value)

    def _with_fields(self, store: dict[str, Any]) -> Self:
        made = super()._with_fields(store)
        _set_completions(made, self._completions)
        _set_usage(made, self._lm_usage)
        return made

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        made = super().__deepcopy__(memo)
        if self._completions is not None or self._lm_usage is not None:
            _set_completions(made, copy.deepcopy(self._completions, memo))
            _set_usage(made, copy.deepcopy(self._lm_usage, memo))
        return made

    def __getstate__(self) -> tuple[Any, ...]:
        return *super().__getstate__(), self._completions, self._lm_usage

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        *fields, completions, usage = state
        super().__setstate__(tuple(fields))
        _set_completions(self, completions)
        _set_usage(self, usage)

    def __repr__(self) -> str:
        shown = ",\n    ".join(f"{key}={value!r}" for key, value in self._store.items())
        if self._completions is None or len(self._completions) <= 1:
            return f"Prediction(\n    {shown}\n)"
        omitted = len(self._completions) - 1
        return f"Prediction(\n    {shown},\n    completions=Completions(...)\n) ({omitted} completions omitted)"

    # --- as a number ---

    def __float__(self) -> float:
        if "score" not in self._store:
            raise UsageError("Prediction object does not have a 'score' field to convert to float.")
        return float(self._store["score"])

    def __add__(self, other: Any) -> float:
        return float(self) + float(other) if _counts(other) else NotImplemented

    __radd__ = __add__

    def __truediv__(self, other: Any) -> float:
        return float(self) / float(other) if _counts(other) else NotImplemented

    def __rtruediv__(self, other: Any) -> float:
        return float(other) / float(self) if _counts(other) else NotImplemented

    def __lt__(self, other: Any) -> bool:
        return float(self) < float(other) if _counts(other) else NotImplemented

    def __le__(self, other: Any) -> bool:
        return float(self) <= float(other) if _counts(other) else NotImplemented

    def __gt__(self, other: Any) -> bool:
        return float(self) > float(other) if _counts(other) else NotImplemented

    def __ge__(self, other: Any) -> bool:
        return float(self) >= float(other) if _counts(other) else NotImplemented


_set_completions = Prediction.__dict__["_completions"].__set__
_set_usage = Prediction.__dict__["_lm_usage"].__set__


def _counts(other: Any) -> bool:
    return isinstance(other, (int, float, Prediction))
