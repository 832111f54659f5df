"""`Frozen`: a base for data that is checked when it is made and never changes.

What `dataclasses` does with `frozen` and `kw_only`, in a page: that module imports `inspect` and compiles source text for
each class, which would be a tenth of the time of a whole `dspex run`.
"""

from __future__ import annotations

from typing import Any, NoReturn, dataclass_transform


@dataclass_transform(kw_only_default=True, frozen_default=True)
class Frozen:
    """Fields are the class's annotations; each may have a default; `__post_init__` checks them."""

    def __init__(self, **given: Any) -> None:
        names = self.fields()
        for name in given:
            if name not in names:
                raise TypeError(f"{type(self).__name__} has no field {name!r}; it has {', '.join(names)}")
        for name in names:
            if name not in given and not hasattr(type(self), name):
                raise TypeError(f"{type(self).__name__} needs the field {name!r}")
        self.__dict__.update((name, given.get(name, getattr(type(self), name, None))) for name in names)
        self.__post_init__()

    def __post_init__(self) -> None:
        """Check and normalise the fields, with `object.__setattr__`."""

    @classmethod
    def fields(cls) -> tuple[str, ...]:
        """The names of the fields, in order."""
        return tuple(cls.__annotations__)

    def to_fields(self) -> dict[str, Any]:
        """The fields by name."""
        return dict(self.__dict__)

    def __setattr__(self, name: str, value: object) -> NoReturn:
        raise AttributeError(f"{type(self).__name__} is frozen: make another with .replace({name}=...)")

    def __delattr__(self, name: str) -> NoReturn:
        raise AttributeError(f"{type(self).__name__} is frozen: {name} cannot be deleted")

    def __eq__(self, other: object) -> bool:
        return self.__dict__ == other.__dict__ if type(other) is type(self) else NotImplemented

    def __hash__(self) -> int:
        return hash((type(self), *self.__dict__.values()))

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(f'{name}={value!r}' for name, value in self.__dict__.items())})"
