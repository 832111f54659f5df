"""What a forked child must not share with its parent.

Theory of operation. A child has a copy of every descriptor, and with it of the lock that its parent took: were the parent killed,
the child would hold that lock as long as it lives. It has a copy of every thread's locks as they were at that moment, though
those threads are not in it. And it may not even close a connection of SQLite's that is its parent's. So stores are told, in the
child, before anything else runs there.
"""

from __future__ import annotations

import os
import weakref
from typing import Protocol


class Forked(Protocol):
    """What wants to know that it is in a child now."""

    def forked(self) -> None: ...


_known: weakref.WeakSet[Forked] = weakref.WeakSet()
inherited: list[object] = []  # what a child keeps, never to use or to close it


def in_child(thing: Forked) -> None:
    """Call `thing.forked()` in every child that is forked while it lives."""
    _known.add(thing)


def _tell() -> None:
    for thing in tuple(_known):
        thing.forked()


os.register_at_fork(after_in_child=_tell)
