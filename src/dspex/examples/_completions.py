"""`Completions`: the alternatives that a prediction was chosen from, kept by column."""

from __future__ import annotations

from collections.abc import ItemsView, Iterator, KeysView, Mapping, Sequence
from typing import Any, overload

from dspex.errors import UsageError
from dspex.examples._prediction import Prediction


class Completions:
    """Several answers to one question: a list of values for each field, all of one length.

    Made from a list of dicts (one for each answer) or a dict of lists (one for each field). `completions[0]` is the
    first answer as a `Prediction` (`[-1]` the last, a slice gives fewer completions), `completions["answer"]` or
    `completions.answer` the list of one field.

    Raises UsageError when answers differ in their fields, or fields in their number of values.
    """

    __slots__ = ("_completions", "signature")
    _completions: dict[str, list[Any]]
    signature: Any

    def __init__(
        self, list_or_dict: Sequence[Mapping[str, Any]] | Mapping[str, Sequence[Any]], signature: Any = None
    ) -> None:
        by_field = isinstance(list_or_dict, Mapping)
        self._completions = _columns(list_or_dict) if by_field else _turned(list_or_dict)  # type: ignore[arg-type]
        self.signature = signature

    def items(self) -> ItemsView[str, list[Any]]:
        """Pairs of a field and its values."""
        return self._completions.items()

    def keys(self) -> KeysView[str]:
        """The names of the fields."""
        return self._completions.keys()

    def row(self, index: int) -> dict[str, Any]:
        """The fields of one answer. Raises IndexError when there are fewer."""
        count = len(self)
        if not -count <= index < count:
            raise IndexError(f"no completion {index}: there are {count}")
        return {name: values[index] for name, values in self._completions.items()}

    @overload
    def __getitem__(self, key: int) -> Prediction: ...
    @overload
    def __getitem__(self, key: str) -> list[Any]: ...
    @overload
    def __getitem__(self, key: slice) -> Completions: ...
    def __getitem__(self, key: int | str | slice) -> Prediction | list[Any] | Completions:
        if isinstance(key, int):
            return Prediction(self.row(key))
        if isinstance(key, slice):
            return Completions({name: values[key] for name, values in self._completions.items()}, self.signature)
        return self._completions[key]

    def __iter__(self) -> Iterator[Prediction]:
        return (Prediction(self.row(index)) for index in range(len(self)))

    def __getattr__(self, name: str) -> list[Any]:
        # While an object is being unpickled it has no columns yet.
        if name in Completions.__slots__ or name not in self._completions:
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}", name=name, obj=self)
        return self._completions[name]

    def __len__(self) -> int:
        return len(next(iter(self._completions.values()), ()))

    def __contains__(self, key: object) -> bool:
        return key in self._completions

    def __eq__(self, other: object) -> bool:
        return self._completions == other._completions if isinstance(other, Completions) else NotImplemented

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        shown = ",\n    ".join(f"{name}={values!r}" for name, values in self._completions.items())
        return f"Completions(\n    {shown}\n)"


def _columns(given: Mapping[str, Sequence[Any]]) -> dict[str, list[Any]]:
    for name, values in given.items():
        if not isinstance(values, (list, tuple)):
            raise UsageError(f"field {name!r} must have a list of values, not {type(values).__name__}")
    lengths = {name: len(values) for name, values in given.items()}
    if len(set(lengths.values())) > 1:
        raise UsageError(f"all fields must have as many values: {lengths}")
    return {name: list(values) for name, values in given.items()}


def _turned(rows: Sequence[Mapping[str, Any]]) -> dict[str, list[Any]]:
    names = list(rows[0].keys()) if rows else []
    for index, row in enumerate(rows):
        if set(row.keys()) != set(names):
            raise UsageError(f"completion {index} has fields {sorted(row.keys())}, but the first has {sorted(names)}")
    return {name: [row[name] for row in rows] for name in names}
