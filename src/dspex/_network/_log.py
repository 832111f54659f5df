"""What a guest tried on the network: frozen records, counted and bounded."""

from __future__ import annotations

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


@dataclass(frozen=True, slots=True)
class NetworkLog:
    """The first attempts in the order of their end, and how many more there were."""

    attempts: tuple[Attempt, ...] = ()
    dropped: int = 0

    @property
    def refused(self) -> tuple[Attempt, ...]:
        """Those that were refused."""
        return tuple(attempt for attempt in self.attempts if attempt.outcome == "refused")


class Recorder:
    """Collects attempts, up to a number."""

    def __init__(self, most: int = MOST_ATTEMPTS) -> None:
        self._most = most
        self._attempts: list[Attempt] = []
        self._dropped = 0

    def add(self, attempt: Attempt) -> None:
        """Keep an attempt, or count it if there are too many."""
        if len(self._attempts) < self._most:
            self._attempts.append(attempt)
        else:
            self._dropped += 1

    def log(self) -> NetworkLog:
        """What was collected so far."""
        return NetworkLog(tuple(self._attempts), self._dropped)
