"""`Example`: a record of named fields, of which some are inputs and the others labels.

Theory of operation. The fields live in one dict, `_store`. Reading a field as an attribute would fall through to
`__getattr__`, which costs ten times an attribute; so the first such read makes that same dict the object's
`__dict__` ("attaches" it), and from then on Python finds fields by itself. There is one dict and one truth.

Two kinds of names must not be in a `__dict__` that is also the store: a field named like a method (it would hide the
method), and a private attribute (it would become a field). Either of them detaches: the object gets a `__dict__` of
its own, and fields are found by `__getattr__` again. Nobody sees a difference but in time.
"""

from __future__ import annotations

import copy
import copyreg
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Self, TypeVar

from dspex.errors import UsageError
from dspex.examples._values import ATOMS, frozen, json_of, plain

if TYPE_CHECKING:
    import os

    from dspex.examples._rows import Library

AnExample = TypeVar("AnExample", bound="Example")


class Example:
    """A record of named fields, read as `example.question` or `example["question"]`.

    `base` is a mapping or another example to take fields from; those given by keyword win. A field may have any name:
    one that is named like a method (`keys`, `copy`, `items`) is read with brackets, and the method stays what it is.

    Examples compare by their fields, hash by them (nested lists and dicts included), copy, pickle, and can be worked
    with as if immutable: `replace`, `copy`, `without` and `with_inputs` each give a new one.

    Raises UsageError when `base` is neither a mapping nor an example, or a name is no str.
    """

    __slots__ = ("__dict__", "__weakref__", "_input_keys", "_store")
    _store: dict[str, Any]
    _input_keys: frozenset[str] | None

    # Names that the class defines: all of them, and those that may be set although they are no fields.
    _reserved: ClassVar[frozenset[str]]
    _settable: ClassVar[frozenset[str]]

    def __init_subclass__(cls, **keywords: Any) -> None:
        super().__init_subclass__(**keywords)
        _note_names(cls)

    def __init__(self, /, base: Mapping[str, Any] | Example | None = None, **fields: Any) -> None:
        keys = None
        if base is not None:
            fields, keys = _fields_of(base) | fields, _input_keys_of(base)
        _set_store(self, fields)
        _set_input_keys(self, keys)

    # --- fields ---

    def __getattr__(self, name: str) -> Any:
        # Called only for what Python did not find. `_get_store` never comes back here when there is no store yet,
        # as while an object is being unpickled.
        store = _get_store(self)
        if name not in store:
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}", name=name, obj=self)
        if not self.__dict__ and self._reserved.isdisjoint(store):
            _set_dict(self, store)
        return store[name]

    def __setattr__(self, name: str, value: Any) -> None:
        if name in self._settable or (name[:1] == "_" and name not in self._store):
            self._detach()
            object.__setattr__(self, name, value)
        else:
            self[name] = value

    def __delattr__(self, name: str) -> None:
        if name in self._store and name not in self._settable:
            del self._store[name]
        else:
            object.__delattr__(self, name)

    def __getitem__(self, key: str) -> Any:
        return self._store[key]

    def __setitem__(self, key: str, value: Any) -> None:
        if not isinstance(key, str):
            raise UsageError(f"a field is named by a str, not by {key!r}")
        if key in self._reserved:
            self._detach()
        self._store[key] = value

    def __delitem__(self, key: str) -> None:
        del self._store[key]

    def __contains__(self, key: object) -> bool:
        return key in self._store

    def __iter__(self) -> Iterator[str]:
        """The names of all fields, those that start with `dspy_` too; fields may be set meanwhile."""
        return iter(list(self._store))

    def __len__(self) -> int:
        """The number of fields, without those that start with `dspy_`."""
        return len(self.keys())

    def __dir__(self) -> list[str]:
        return sorted({*object.__dir__(self), *map(str, self._store)})

    def keys(self, include_dspy: bool = False) -> list[str]:
        """The names of the fields; those that start with `dspy_` on request."""
        return [key for key in self._store if include_dspy or not key.startswith("dspy_")]

    def values(self, include_dspy: bool = False) -> list[Any]:
        """The values of the fields, in the order of `keys`."""
        return [value for key, value in self._store.items() if include_dspy or not key.startswith("dspy_")]

    def items(self, include_dspy: bool = False) -> list[tuple[str, Any]]:
        """Pairs of name and value, in the order of `keys`."""
        return [pair for pair in self._store.items() if include_dspy or not pair[0].startswith("dspy_")]

    def get(self, key: str, default: Any = None) -> Any:
        """The value of a field, or `default` when there is none of that name."""
        return self._store.get(key, default)

    # --- inputs and labels ---

    @property
    def input_keys(self) -> frozenset[str] | None:
        """The names that `with_inputs` marked; None when it was not called."""
        keys = self._input_keys
        return None if keys is None else frozenset(keys)

    def with_inputs(self, *keys: str) -> Self:
        """A copy of which the fields named are the inputs, and the others labels."""
        copied = self.copy()
        _set_input_keys(copied, frozenset(keys))
        return copied

    def inputs(self) -> Self:
        """A new example of the input fields only. Raises UsageError when `with_inputs` has not been called."""
        keys = self._marked()
        return self._with_fields({key: value for key, value in self._store.items() if key in keys})

    def labels(self) -> Self:
        """A new example of the fields that are no inputs. Raises UsageError as `inputs` does."""
        keys = self._marked()
        made = self._with_fields({key: value for key, value in self._store.items() if key not in keys})
        _set_input_keys(made, None)
        return made

    def _marked(self) -> frozenset[str]:
        if self._input_keys is None:
            raise UsageError("Inputs have not been set for this example. Use `example.with_inputs()` to set them.")
        return self._input_keys

    # --- new ones from this one ---

    def copy(self, /, **fields: Any) -> Self:
        """A shallow copy, with `fields` added or overridden; what was marked as input stays marked."""
        return self._with_fields({**self._store, **fields})

    def replace(self, /, **changes: Any) -> Self:
        """A shallow copy with other values in some fields. Raises UsageError when a name is no field."""
        unknown = [name for name in changes if name not in self._store]
        if unknown:
            raise UsageError(
                f"no field {', '.join(map(repr, unknown))} to replace; there are {', '.join(map(repr, self._store))}; "
                "`copy` adds fields"
            )
        return self.copy(**changes)

    def without(self, *keys: str) -> Self:
        """A copy that lacks the fields named. Raises KeyError when there is no such field."""
        kept = dict(self._store)
        for key in keys:
            del kept[key]
        return self._with_fields(kept)

    def _with_fields(self, store: dict[str, Any]) -> Self:
        """One like this with other fields. No constructor runs, as a subclass may ask other things of its own."""
        made = object.__new__(type(self))
        _set_store(made, store)
        _set_input_keys(made, self._input_keys)
        if self.__dict__ and self.__dict__ is not self._store:
            _set_dict(made, dict(self.__dict__))
        return made

    def _detach(self) -> None:
        if self.__dict__ is self._store:
            _set_dict(self, {})

    # --- comparing, showing, keeping ---

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Example):
            return NotImplemented
        return self._store == other._store

    def __hash__(self) -> int:
        try:
            return hash(frozenset(self._store.items()))
        except TypeError:
            return hash(frozen(self._store))

    def __repr__(self) -> str:
        keys = self._input_keys
        return f"Example({dict(self.items())}) (input_keys={None if keys is None else _shown(keys)})"

    def __copy__(self) -> Self:
        return self._with_fields(dict(self._store))

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        made = self._with_fields({})
        memo[id(self)] = made  # before its fields: one that holds itself is copied as such
        made._store.update((key, _deep(value, memo)) for key, value in self._store.items())
        if made.__dict__:
            _set_dict(made, _deep(made.__dict__, memo))
        return made

    def __reduce__(self) -> tuple[Any, ...]:
        # The state is apart from the making, so that one that holds itself can be pickled.
        return copyreg.__newobj__, (type(self),), self.__getstate__()  # type: ignore[attr-defined]

    def __getstate__(self) -> tuple[Any, ...]:
        private = None if self.__dict__ is self._store else self.__dict__ or None
        return self._store, self._input_keys, private

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        store, keys, private = state
        _set_store(self, store)
        _set_input_keys(self, keys)
        if private:
            _set_dict(self, private)

    # --- other forms ---

    def to_dict(self) -> dict[str, Any]:
        """The fields as plain data: nested examples and pydantic models become dicts, at any depth."""
        return {key: plain(value) for key, value in self._store.items()}

    def toDict(self) -> dict[str, Any]:  # noqa: N802  (DSPy's name)
        """The same as `to_dict`."""
        return self.to_dict()

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any], *, inputs: Iterable[str] = ()) -> Self:
        """An example of these fields, those named in `inputs` marked as such (none: nothing is marked)."""
        return _marked(cls(fields), inputs)

    def to_json(self, *, indent: int | None = None) -> str:
        """The fields as one JSON object; tuples become arrays.

        Raises UsageError when a value has no JSON form (NaN, a date, bytes), naming the field.
        """
        return json_of(self.to_dict(), indent=indent)

    @classmethod
    def from_json(cls, text: str | bytes, *, inputs: Iterable[str] = ()) -> Self:
        """An example of the fields of one JSON object. Raises UsageError when the text is none."""
        from dspex.examples._rows import fields_of_json

        return cls.from_dict(fields_of_json(text, "the text"), inputs=inputs)

    @classmethod
    def from_jsonl(cls, path: str | os.PathLike[str], *, inputs: Iterable[str] = ()) -> list[Self]:
        """An example of each line of a file of JSON objects (UTF-8); blank lines are passed over.

        Raises UsageError naming file and line when one is no JSON object; OSError when the file cannot be read.
        """
        from dspex.examples._rows import read_jsonl

        return [cls.from_dict(fields, inputs=inputs) for fields in read_jsonl(path)]

    @classmethod
    def from_csv(cls, path: str | os.PathLike[str], *, inputs: Iterable[str] = (), delimiter: str = ",") -> list[Self]:
        """An example of each row of a CSV file (UTF-8, its first row names the fields); every value is a str.

        Raises UsageError naming file and line when a row has more or fewer cells than the first, or names repeat.
        """
        from dspex.examples._rows import read_csv

        return [cls.from_dict(fields, inputs=inputs) for fields in read_csv(path, delimiter)]

    @staticmethod
    def to_frame(examples: Iterable[Example], library: Library = "pandas") -> Any:
        """A data frame, one row for each example, of pandas or Polars; a field that an example lacks is None there.

        Raises UsageError when `library` is another, ImportError when it is not installed.
        """
        from dspex.examples._rows import frame_of

        return frame_of(list(examples), library)

    @classmethod
    def from_frame(cls, frame: Any, *, inputs: Iterable[str] = ()) -> list[Self]:
        """An example of each row of a pandas or Polars frame, with values as the frame gives them.

        Raises UsageError when it is no frame, or its columns are not named by distinct strings.
        """
        from dspex.examples._rows import rows_of

        return [cls.from_dict(fields, inputs=inputs) for fields in rows_of(frame)]


_get_store = Example.__dict__["_store"].__get__
_set_store = Example.__dict__["_store"].__set__
_set_input_keys = Example.__dict__["_input_keys"].__set__
_set_dict = Example.__dict__["__dict__"].__set__


def _note_names(cls: type[Example]) -> None:
    """Note which names are the class's own, and which of these may be set: all but methods, which become fields."""
    cls._reserved = frozenset(dir(cls))
    cls._settable = frozenset(name for name in cls._reserved if not _is_method(_defined(cls, name)))


def _defined(cls: type, name: str) -> Any:
    return next((vars(base)[name] for base in cls.__mro__ if name in vars(base)), None)


def _is_method(value: Any) -> bool:
    return hasattr(value, "__get__") and not hasattr(value, "__set__")


_note_names(Example)


def _deep(value: Any, memo: dict[int, Any]) -> Any:
    # What most fields hold is its own copy; asking first is ten times as fast as `deepcopy`.
    return value if type(value) in ATOMS else copy.deepcopy(value, memo)


def _shown(keys: Iterable[str]) -> str:
    """As a set is shown, but always in the same order."""
    return f"{{{', '.join(map(repr, sorted(keys)))}}}" if keys else "set()"


def _fields_of(base: Any) -> dict[str, Any]:
    # What is no mapping may be an example of DSPy's, whose fields lie in an attribute of the same name.
    fields = base if isinstance(base, (dict, Mapping)) else getattr(base, "_store", None)
    if not isinstance(fields, (dict, Mapping)):
        raise UsageError(f"base must be a mapping or an example, not {type(base).__name__}")
    for key in fields:
        if not isinstance(key, str):
            raise UsageError(f"a field is named by a str, not by {key!r}")
    return dict(fields)


def _input_keys_of(base: Any) -> frozenset[str] | None:
    keys = None if isinstance(base, (dict, Mapping)) else getattr(base, "_input_keys", None)
    return None if keys is None else frozenset(keys)


def _marked(example: AnExample, inputs: Iterable[str]) -> AnExample:
    keys = frozenset(inputs)
    if keys:
        _set_input_keys(example, keys)
    return example
