"""One program to run: as the caller gives it, and checked and encoded."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


class Job(NamedTuple):
    """One program for `CodeExecutor.map`, with the arguments of `execute`."""

    code: str
    variables: Mapping[str, object] | None = None
    imports: Sequence[str] = ()
    environment: Mapping[str, str] | None = None
    working_directory: str | None = None
    timeout: float | None = None


class Prepared(NamedTuple):
    """A job checked and encoded: nothing can be wrong with it any more."""

    body: bytes
    buffers: list[memoryview]
    imports: tuple[str, ...]
    timeout: float
