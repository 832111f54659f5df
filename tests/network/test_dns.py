"""DNS messages in and out."""

import socket
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dspex._network import _dns

HEAD = struct.pack(">HHHHHH", 7, 0x0100, 1, 0, 0, 0)


def query(name, kind=1, head=HEAD):
    labels = b"".join(bytes([len(label)]) + label.encode() for label in name.split("."))
    return head + labels + b"\0" + struct.pack(">HH", kind, 1)


def test_a_known_name_has_its_address():
    """The answer repeats number and question and holds the address."""
    answer = _dns.respond(query("Api.Example.com"), {"api.example.com": "198.18.0.1"}.get)
    assert answer[:2] == HEAD[:2]
    assert answer[12 : len(query("Api.Example.com"))] == query("Api.Example.com")[12:]
    assert answer[-4:] == socket.inet_aton("198.18.0.1")
    assert struct.unpack(">H", answer[6:8]) == (1,)


def test_an_unknown_name_does_not_exist():
    """NXDOMAIN, at once."""
    assert _dns.respond(query("evil.test"), {}.get)[3] & 15 == 3


@pytest.mark.parametrize("kind", [28, 65, 16, 255])
def test_other_records_of_a_known_name_are_none(kind):
    """AAAA, HTTPS and the rest: the name exists, the record does not."""
    answer = _dns.respond(query("a.test", kind), lambda name: "198.18.0.1")
    assert answer[3] & 15 == 0
    assert struct.unpack(">H", answer[6:8]) == (0,)


@pytest.mark.parametrize(
    "message",
    [
        b"",
        HEAD,
        query("a.test")[:-1],
        query("a.test", head=struct.pack(">HHHHHH", 7, 0x8100, 1, 0, 0, 0)),
        query("a.test", head=struct.pack(">HHHHHH", 7, 0x0100, 2, 0, 0, 0)),
        query("a.test", head=struct.pack(">HHHHHH", 7, 0x0100, 1, 1, 0, 0)),
        query("a.test", head=struct.pack(">HHHHHH", 7, 0x2900, 1, 0, 0, 0)),
        HEAD + b"\xc0\x0c\0\x01\0\x01",
        HEAD + b"\x40" + b"a" * 64 + b"\0\0\x01\0\x01",
        HEAD + b"\x3f" + b"a" * 3,
        HEAD + b"\0\0\x01\0\x01",
        query("a.test") + bytes(600),
        query(".".join(["a" * 60] * 5)),
        query("a.test")[:-1] + b"\x03",
    ],
)
def test_what_is_no_plain_query_has_no_answer(message):
    """Answers, several questions, pointers, other classes and what is cut or too long are ignored."""
    assert _dns.respond(message, lambda name: "198.18.0.1") is None


@given(st.binary(max_size=600))
def test_any_bytes_are_survived(message):
    """No message raises, and no answer is longer than a datagram may be."""
    answer = _dns.respond(HEAD + message, lambda name: "198.18.0.1")
    assert answer is None or len(answer) <= 512 + 16


def test_the_table_is_stable_and_bounded():
    """A name has one address, an address one name, and the table an end."""
    table = _dns.FakeAddresses()
    given_out = [table.give(f"n{number}.test") for number in range(_dns.MOST_NAMES)]
    assert len(set(given_out)) == _dns.MOST_NAMES
    assert table.give("n0.test") == given_out[0]
    assert table.name_of(given_out[5]) == "n5.test"
    assert table.give("one.more") is None
    assert table.name_of("8.8.8.8") is None
