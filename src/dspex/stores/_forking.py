"""Stores and `os.fork`: nothing that is open or locked crosses it.

Theory of operation. A child has a copy of every descriptor, and with it of the file locks that its parent holds: were the parent
killed, the child would hold them as long as it lives. It has a copy of every thread's lock as it was at that moment, though those
threads are not in it. And a connection of SQLite's must not cross a fork at all, not even unused: what it knows of locks is the
process's, so a connection that the child opens itself would believe it. So whoever forks waits until no thread is inside a
store, and closes what is open; parent and child open it again when they need it.
"""

from __future__ import annotations

import os
import weakref
from typing import Protocol


class Forking(Protocol):
    """What gets ready for a fork. Those of a lower rank are asked first: they lock before they use another."""

    @property
    def fork_rank(self) -> int: ...
    def before_fork(self) -> None: ...
    def after_fork(self) -> None: ...


_known: weakref.WeakSet[Forking] = weakref.WeakSet()
_ready: list[Forking] = []


def register(thing: Forking) -> None:
    """Tell `thing` of every fork while it lives: before it, and after it in parent and child."""
    _known.add(thing)


def _before() -> None:
    for thing in sorted(_known, key=lambda one: one.fork_rank):
        thing.before_fork()
        _ready.append(thing)


def _after() -> None:
    while _ready:
        _ready.pop().after_fork()


os.register_at_fork(before=_before, after_in_parent=_after, after_in_child=_after)
