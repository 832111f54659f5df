"""A few things remembered, for speed: what is forgotten costs a read, never a wrong answer."""

from __future__ import annotations

from typing import Generic, TypeVar

K = TypeVar("K")
V = TypeVar("V")


class Remembered(Generic[K, V]):
    """At most `most` values; the oldest goes first. Any thread may use it."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._values: dict[K, V] = {}

    def get(self, key: K) -> V | None:
        return self._values.get(key)

    def put(self, key: K, value: V) -> None:
        self._values[key] = value
        while len(self._values) > self._most:
            # Another thread may have taken the same one.
            self._values.pop(next(iter(tuple(self._values)), key), None)

    def pop(self, key: K) -> None:
        self._values.pop(key, None)
