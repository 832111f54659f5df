"""One program to run: as the caller gives it, and checked and encoded."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    import os
    from collections.abc import Mapping, Sequence

    from dspex.execution._calls import Calls
    from dspex.execution._exchange import Message
    from dspex.execution._files import Input
    from dspex.execution._tools import Tools


class Job(NamedTuple):
    """One program for `CodeExecutor.map`, with the arguments of `execute`."""

    code: str
    variables: Mapping[str, object] | None = None
    imports: Sequence[str] = ()
    environment: Mapping[str, str] | None = None
    working_directory: str | None = None
    timeout: float | None = None
    tools: Tools | None = None
    files: Mapping[str, str | os.PathLike[str] | bytes] | None = None


class Prepared(NamedTuple):
    """A job checked and encoded: nothing can be wrong with it any more."""

    body: bytes
    buffers: list[memoryview]
    imports: tuple[str, ...]
    timeout: float
    calls: Calls | None = None  # where the program's tool calls go, if it has tools
    files: tuple[Input, ...] = ()


class Resumption(NamedTuple):
    """What a branch that waits for tools goes on with."""

    answers: list[Message]
    timeout: float
    calls: Calls
