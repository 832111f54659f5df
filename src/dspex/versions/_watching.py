"""Watching a store: every event in order, none lost between listing and watching, and on from where one stopped."""

from __future__ import annotations

import asyncio
import fnmatch
import time
from typing import TYPE_CHECKING

from dspex.errors import UnsupportedError
from dspex.versions._events import Event, events

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from dspex.stores import Store

_WAIT = 1.0  # seconds of one wait, after which a stopped program is noticed


def watch(store: Store, pattern: str, since: int | None, timeout: float | None) -> Iterator[Event]:
    """The events of modules that match, beyond a revision (None: from now on), until none came for `timeout` seconds."""
    _check(store)
    revision = store.revision() if since is None else since
    return _watch(store, pattern, revision, timeout)


def _watch(store: Store, pattern: str, revision: int, timeout: float | None) -> Iterator[Event]:
    quiet = time.monotonic()
    while True:
        for change in store.changes(revision):
            revision = change.revision
            found = [event for event in events(revision, change.note) if matches(event, pattern)]
            yield from found
            quiet = time.monotonic() if found else quiet
        left = _WAIT if timeout is None else min(_WAIT, quiet + timeout - time.monotonic())
        if left <= 0:
            return
        store.wait(revision, left)


async def awatch(store: Store, pattern: str, since: int | None, timeout: float | None) -> AsyncIterator[Event]:
    """The same, without holding up the event loop."""
    iterator = await asyncio.to_thread(watch, store, pattern, since, timeout)
    while (event := await asyncio.to_thread(next, iterator, None)) is not None:
        yield event


def matches(event: Event, pattern: str) -> bool:
    """Whether an event is of a module that matches; what concerns no one module matches every pattern."""
    return not event.module_id or fnmatch.fnmatchcase(event.module_id, pattern)


def _check(store: Store) -> None:
    if not store.traits.watch_replay:
        raise UnsupportedError(f"{store!r} keeps no log to watch; use another store")
