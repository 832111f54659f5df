"""JSON lines: one object for each line, plain or gzip by content, every error with its file and line."""

from __future__ import annotations

import json
import os
import zlib
from contextlib import contextmanager
from typing import IO, TYPE_CHECKING, Any, NamedTuple

from dspex.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Protocol

    class Digest(Protocol):
        """A hash that is told of every byte of content."""

        def update(self, data: bytes, /) -> None: ...


_GZIP = b"\x1f\x8b"


class Line(NamedTuple):
    """One object of a file, and where it stands (`file:number`)."""

    place: str
    fields: dict[str, Any]

    def texts(self, *names: str) -> list[str]:
        """The values of these fields. Raises `UsageError` for one that is missing or no text."""
        return [self._text(name) for name in names]

    def _text(self, name: str) -> str:
        if name not in self.fields:
            raise UsageError(f"{self.place}: the field {name!r} is missing")
        value = self.fields[name]
        if not isinstance(value, str):
            raise UsageError(f"{self.place}: the field {name!r} is a {type(value).__name__}; it must be a text")
        return value


def read_lines(path: str | os.PathLike[str], digest: Digest | None = None) -> Iterator[Line]:
    """The objects of a file, one at a time; blank lines are skipped. Raises `UsageError`."""
    name = os.fspath(path)
    with _opened(name) as file:
        for number, data in enumerate(file, 1):
            if digest is not None:
                digest.update(data)
            if data.strip():
                place = f"{name}:{number}"
                yield Line(place, _parsed(place, data))


@contextmanager
def _opened(name: str) -> Iterator[IO[bytes]]:
    """The file, unpacked where it is gzip by its content, whatever its name says."""
    try:
        with open(name, "rb") as file:
            if file.peek(2)[:2] != _GZIP:
                yield file
                return
            import gzip

            with gzip.GzipFile(fileobj=file) as unpacked:
                yield unpacked  # type: ignore[misc]  # it is read alike
    except EOFError:
        raise UsageError(f"{name}: the gzip file ends too early; it was cut off") from None
    except (zlib.error, OSError) as error:
        raise UsageError(f"{name}: {getattr(error, 'strerror', None) or error}") from None


def _parsed(place: str, data: bytes) -> dict[str, Any]:
    try:
        fields = json.loads(data.decode("utf-8"))
    except UnicodeDecodeError as error:
        raise UsageError(f"{place}: byte {error.start + 1} (0x{data[error.start]:02x}) is not UTF-8") from None
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{place}: this line is no JSON: {error}") from None
    if not isinstance(fields, dict):
        raise UsageError(f"{place}: this line is a JSON {type(fields).__name__}; it must be an object")
    return fields
