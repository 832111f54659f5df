"""Names answered by us: one DNS message in, one out, and the table of made-up addresses. No I/O.

Theory of operation: nothing that a guest asks is ever passed on. A name that the rules allow gets an address out of
198.18.0.0/15 (RFC 2544, never in use on the Internet), the same each time; a connection to that address tells the host
which name was meant. Any other name does not exist (NXDOMAIN), whatever the world says, so that a client gives up at
once. Only queries of one question in the plainest form are read (RFC 1035); all else is no answer.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from ipaddress import IPv4Address
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

LARGEST_QUERY: Final = 512
MOST_NAMES: Final = 4096
_POOL_START: Final = int(IPv4Address("198.18.0.1"))
_HEADER: Final = struct.Struct(">HHHHHH")
_QUESTION: Final = struct.Struct(">HH")
_ANSWER: Final = struct.Struct(">HHHIH4s")
_RESPONSE: Final = 0x8000 | 0x0400 | 0x0080  # an answer, with authority, recursion available
_RECURSION_DESIRED: Final = 0x0100
_NO_SUCH_NAME: Final = 3
_TYPE_A: Final = 1
_CLASS_IN: Final = 1
_SECONDS: Final = 60
_NAME_IN_QUESTION: Final = 0xC00C  # a pointer to offset 12, where the question's name stands


@dataclass(frozen=True, slots=True)
class Query:
    """One question: `name` in lower case, as it was asked; `kind` the type of record (1 is A)."""

    number: int
    flags: int
    name: str
    kind: int
    question: bytes


def read_query(message: bytes) -> Query | None:
    """The question in a message; None if it is no standard query of one question."""
    if not _HEADER.size < len(message) <= LARGEST_QUERY:
        return None
    number, flags, questions, answers, authorities, _ = _HEADER.unpack_from(message)
    if flags & 0xF800 or (questions, answers, authorities) != (1, 0, 0):
        return None
    labels: list[bytes] = []
    place = _HEADER.size
    while place < len(message) and (length := message[place]):
        if length > 63 or len(labels) > 127:  # from 192 on it would be a pointer, which a question has no need of
            return None
        labels.append(message[place + 1 : place + 1 + length])
        place += 1 + length
    end = place + 1 + _QUESTION.size
    if end > len(message) or not labels or place - _HEADER.size > 254:
        return None
    kind, group = _QUESTION.unpack_from(message, place + 1)
    name = b".".join(labels).decode("ascii", "replace").lower()
    return Query(number, flags, name, kind, message[_HEADER.size : end]) if group == _CLASS_IN else None


def answer(query: Query, address: str | None) -> bytes:
    """The answer to a query: `address` for its name, or that there is no such name.

    Where the name exists but another type of record was asked for (AAAA, HTTPS), the answer is empty: the client goes
    on with IPv4.
    """
    known = address is not None and query.kind == _TYPE_A
    flags = _RESPONSE | (query.flags & _RECURSION_DESIRED) | (0 if address is not None else _NO_SUCH_NAME)
    message = _HEADER.pack(query.number, flags, 1, int(known), 0, 0) + query.question
    if address is None or not known:
        return message
    return message + _ANSWER.pack(_NAME_IN_QUESTION, _TYPE_A, _CLASS_IN, _SECONDS, 4, IPv4Address(address).packed)


class FakeAddresses:
    """Which made-up address stands for which name: one for each, for the guest's life, `MOST_NAMES` at most."""

    def __init__(self) -> None:
        self._by_name: dict[str, str] = {}
        self._by_address: dict[str, str] = {}

    def give(self, name: str) -> str | None:
        """The address of `name`, a new one if it has none; None when the table is full."""
        if name not in self._by_name and len(self._by_name) < MOST_NAMES:
            address = str(IPv4Address(_POOL_START + len(self._by_name)))
            self._by_name[name] = address
            self._by_address[address] = name
        return self._by_name.get(name)

    def name_of(self, address: str) -> str | None:
        """The name that an address was given for."""
        return self._by_address.get(address)


def respond(message: bytes, look_up: Callable[[str], str | None]) -> bytes | None:
    """The answer to a message, by `look_up` of its name; None if the message deserves none."""
    query = read_query(message)
    return None if query is None else answer(query, look_up(query.name))
