"""Writers that count up in one record while their server is killed and started again, and what they were told.

What must hold of any store that promises `durable_ack` is in `Counted.check`.
"""

from __future__ import annotations

import dataclasses
import threading
import time
from typing import TYPE_CHECKING

from dspex.errors import MovedError, StoreUnavailableError, UnknownOutcomeError
from dspex.stores import ABSENT, Store, Write

if TYPE_CHECKING:
    from collections.abc import Callable

_KEY = "counter"
_PATIENCE = 60.0


@dataclasses.dataclass
class Counted:
    """Numbers that were acknowledged, and how often writers were told that a write failed, or may have."""

    acknowledged: list[int] = dataclasses.field(default_factory=list)
    unavailable: int = 0
    unknown: int = 0
    others: list[BaseException] = dataclasses.field(default_factory=list)

    def check(self, store: Store) -> None:
        """No number was won twice, none that was acknowledged is lost, nothing is there that nobody can have written."""
        assert self.others == []
        final = int(store.read([_KEY])[_KEY].value)
        assert len(set(self.acknowledged)) == len(self.acknowledged)
        assert max(self.acknowledged) <= final
        assert len(self.acknowledged) <= final <= len(self.acknowledged) + self.unknown
        assert [int(change.note) for change in every_change(store)] == list(range(1, final + 1))


def count_through(store: Store, outages: list[Callable[[], None]], *, writers: int = 4, between: int = 30) -> Counted:
    """Count up from threads; after every `between` acknowledgements comes the next outage, and it ends after as many more."""
    counted, over = Counted(), threading.Event()
    threads = [threading.Thread(target=_count, args=(store, counted, over)) for _ in range(writers)]
    for thread in threads:
        thread.start()
    try:
        for outage in outages:
            _more(counted, between)
            outage()
        _more(counted, between)
    finally:
        over.set()
        for thread in threads:
            thread.join()
    return counted


def every_change(store: Store) -> list:
    """The log, page by page."""
    found: list = []
    while page := store.changes(found[-1].revision if found else 0, limit=100):
        found += page
    return found


def _more(counted: Counted, number: int) -> None:
    deadline, enough = time.monotonic() + _PATIENCE, len(counted.acknowledged) + number
    while len(counted.acknowledged) < enough:
        assert time.monotonic() < deadline, f"writers stand still: {counted}"
        assert not counted.others, counted.others
        time.sleep(0.005)


def _count(store: Store, counted: Counted, over: threading.Event) -> None:
    while not over.is_set():
        try:
            _step(store, counted)
        except MovedError:
            continue
        except StoreUnavailableError:
            counted.unavailable += 1
            over.wait(0.01)
        except UnknownOutcomeError:
            counted.unknown += 1
            over.wait(0.01)
        except BaseException as error:
            counted.others.append(error)
            return


def _step(store: Store, counted: Counted) -> None:
    entry = store.read([_KEY]).get(_KEY)
    number = int(entry.value) + 1 if entry else 1
    expect = {_KEY: entry.revision if entry else ABSENT}
    store.write(Write(expect=expect, put={_KEY: b"%d" % number}, note=b"%d" % number))
    counted.acknowledged.append(number)
