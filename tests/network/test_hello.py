"""The ClientHello, read by hand."""

import ssl

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dspex._network._hello import MOST_BYTES, ClientHello, MalformedHelloError, is_tls, read_hello


def hello(name="api.example.com"):
    """What OpenSSL says first."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    leaving = ssl.MemoryBIO()
    with pytest.raises(ssl.SSLWantReadError):
        context.wrap_bio(ssl.MemoryBIO(), leaving, server_hostname=name).do_handshake()
    return leaving.read()


def in_records(data, size):
    """The same handshake in records of `size` bytes."""
    body = data[5:]
    pieces = [body[place : place + size] for place in range(0, len(body), size)]
    return b"".join(data[:3] + len(piece).to_bytes(2) + piece for piece in pieces)


@pytest.mark.parametrize("name", ["api.example.com", None])
def test_the_name_of_a_real_hello_is_found(name):
    """The name that OpenSSL asks for, or that it asks for none."""
    assert is_tls(hello(name))
    assert read_hello(hello(name)) == ClientHello(name)


def test_case_does_not_matter():
    """Names are told in lower case."""
    assert read_hello(hello("API.Example.com")) == ClientHello("api.example.com")


@pytest.mark.parametrize("size", [1, 7, 100])
def test_a_hello_in_many_records_is_one(size):
    """A name cannot hide between two records."""
    assert read_hello(in_records(hello(), size)) == ClientHello("api.example.com")


def test_a_hello_in_ten_thousand_records_is_refused():
    """It is read anew with each byte that comes, so it may not be made of too many pieces."""
    with pytest.raises(MalformedHelloError, match="too many records"):
        read_hello(b"\x16\x03\x01\x00\x01\x01" * 10_000)


def test_a_part_is_waited_for():
    """Every proper beginning of a hello is incomplete, none is an error."""
    data = hello()
    assert [read_hello(data[:end]) for end in range(len(data))] == [None] * len(data)


def test_it_has_an_end():
    """What goes on without end is refused."""
    endless = b"\x16\x03\x01\x00\x01" + b"\x01"
    with pytest.raises(MalformedHelloError):
        read_hello(endless * (MOST_BYTES // 4))
    with pytest.raises(MalformedHelloError):
        read_hello(b"\x16\x03\x01\x00\x04\x01\xff\xff\xff")


def with_extension(content):
    """A hello with one server_name extension of this content."""
    extension = b"\0\0" + len(content).to_bytes(2) + content
    body = b"\x03\x03" + bytes(32) + b"\0" + b"\0\x02\x13\x01" + b"\x01\0" + len(extension).to_bytes(2) + extension
    message = b"\x01" + len(body).to_bytes(3) + body
    return b"\x16\x03\x01" + len(message).to_bytes(2) + message


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\0\x05\0\0\x02a",
        b"\0\x05\x01\0\x02ab",
        b"\0\x0a\0\0\x02ab\0\0\x02cd",
        b"\0\x05\0\0\x02ab!",
        b"\0\x05\0\0\x02\xc3\xa9",
    ],
)
def test_odd_names_are_refused(content):
    """Two names, other kinds, what is cut and what is left over are no hello."""
    assert read_hello(with_extension(b"\0\x05\0\0\x02ab")) == ClientHello("ab")
    with pytest.raises(MalformedHelloError):
        read_hello(with_extension(content))


@given(st.binary(max_size=300))
def test_any_bytes_are_read_or_refused(tail):
    """Nothing but a hello, patience or a refusal comes of any bytes."""
    for data in (b"\x16\x03\x01" + tail, hello()[:60] + tail, with_extension(tail)):
        try:
            assert read_hello(data) is None or isinstance(read_hello(data), ClientHello)
        except MalformedHelloError:
            pass
