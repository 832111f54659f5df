"""What a guest tried on the network: frozen records, counted and bounded."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Final

MOST_ATTEMPTS: Final = 1000


@dataclass(frozen=True, slots=True)
class Attempt:
    """One thing tried: a name asked for (`kind` "name"), a connection, or a request in one.

    `time` is in seconds since the epoch; `address` the one that the host connected to, empty without one;
    `bytes_out` and `bytes_in` are those that passed from and to the guest.
    """

    time: float
    kind: str
    name: str
    address: str
    port: int
    outcome: str
    reason: str = ""
    bytes_out: int = 0
    bytes_in: int = 0

    def to_dict(self) -> dict[str, str | int | float]:
        """The fields by name."""
        return {name: getattr(self, name) for name in self.__slots__}


@dataclass(frozen=True, slots=True)
class NetworkLog:
    """Attempts in the order of their end, the latest of many, and how many more there were before them."""

    attempts: tuple[Attempt, ...] = ()
    dropped: int = 0

    @property
    def refused(self) -> tuple[Attempt, ...]:
        """Those that were refused."""
        return tuple(attempt for attempt in self.attempts if attempt.outcome == "refused")


class Recorder:
    """Collects attempts, and keeps the latest."""

    def __init__(self, most: int = MOST_ATTEMPTS) -> None:
        self._attempts: deque[Attempt] = deque(maxlen=most)
        self.count = 0  # of all that were collected

    def add(self, attempt: Attempt) -> None:
        """Keep an attempt, in place of the oldest if there are too many."""
        self._attempts.append(attempt)
        self.count += 1

    def log(self, since: int = 0) -> NetworkLog:
        """What was collected after the first `since` attempts."""
        kept = tuple(self._attempts)
        fresh = kept[max(0, len(kept) - (self.count - since)) :]
        return NetworkLog(fresh, self.count - since - len(fresh))
