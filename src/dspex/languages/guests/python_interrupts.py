"""When a program is interrupted: its deadline, its CPU limit, the host's word; and where it must not be.

Theory of operation. The handlers raise in the program's own code, so that the error names a line. Twice they must not.
While no program runs there is nothing to interrupt. And while a frame is read or written (`sheltered`) an exception would
cut it in two, and with it all that follows: then the handler leaves word in `due`, and the shelter's end raises it.

An event loop keeps to itself what is raised in one of its tasks. So where one runs the handler stops it besides, and leaves
`due` for whoever runs the loop.
"""

from __future__ import annotations

import _signal
import _thread
import sys
from typing import Any, Final

running = False  # only while a program runs: the one limit must not interrupt the telling of the other
due: type[BaseException] | None = None  # what was to be raised, and could not be or may have been swallowed

_depth = 0  # shelters that the main thread is in
_main = 0


class Deadline(BaseException):
    """The soft deadline has passed. Not an `Exception`, so that a program's own handlers let it through."""

    __module__ = "builtins"  # so that it is shown by its name alone


class CpuLimit(BaseException):
    """The soft CPU limit has passed."""

    __module__ = "builtins"


LIMITS: Final = (Deadline, CpuLimit, KeyboardInterrupt)


def install() -> None:
    """In the zygote: take the three signals."""
    _signal.signal(_signal.SIGALRM, lambda *_: _interrupt(Deadline))
    _signal.signal(_signal.SIGXCPU, lambda *_: _interrupt(CpuLimit))
    _signal.signal(_signal.SIGINT, lambda *_: _interrupt(KeyboardInterrupt))


def _interrupt(kind: type[BaseException]) -> None:
    global due
    if not running:
        return
    loop = running_loop()
    if loop is not None:
        loop.stop()
    if _depth or loop is not None:
        due = kind
    if not _depth:
        raise kind


def running_loop() -> Any:
    """The event loop that runs in this thread, if one does. Imports nothing."""
    asyncio = sys.modules.get("asyncio.events")
    return None if asyncio is None else asyncio._get_running_loop()


class _Shelter:
    """Between enter and exit no signal raises in the main thread. Other threads meet none anyway."""

    def __enter__(self) -> None:
        global _depth
        if _thread.get_ident() == _main:
            _depth += 1

    def __exit__(self, *_: object) -> None:
        global _depth, due
        if _thread.get_ident() != _main:
            return
        _depth -= 1
        if due is not None and running and not _depth:
            kind = due
            if running_loop() is None:
                due = None
            raise kind


sheltered: Final = _Shelter()


def is_home() -> bool:
    """Whether this is the main thread."""
    return _thread.get_ident() == _main


def at_home() -> None:
    """This is the main thread, where signals are handled."""
    global _main, _depth
    _main, _depth = _thread.get_ident(), 0
