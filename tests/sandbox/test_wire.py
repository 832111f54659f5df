"""The host's side of the channel takes any bytes a guest may send, and ends in an answer, a breach or a loan."""

import itertools
import json
import os
import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dspex import languages
from dspex._sandbox import wire
from dspex.execution._exchange import Answer, Breach, Exchange, Message

LIMIT = 1 << 16
PYTHON = languages.get("python")


def answer(value=b"1", envelope=None, buffers=b"", flags=0):
    """The bytes of a well-formed answer."""
    body = struct.pack("<I", len(value)) + value + json.dumps(envelope or {}).encode()
    return wire.header(wire.ANSWER, flags, len(body), len(buffers)) + body + buffers


def borrow(size):
    """The bytes of a request for a memory file."""
    return wire.header(wire.BORROW, 0, 8, 0) + struct.pack("<Q", size)


def chunks_of(data, cuts):
    """`data` cut at some places."""
    places = sorted({0, len(data), *(cut % (len(data) + 1) for cut in cuts)})
    return [data[a:b] for a, b in itertools.pairwise(places)]


def exchange_of(chunks):
    """What comes of feeding chunks until the exchange is over; loans are counted and closed."""
    exchange, loans = Exchange(PYTHON, LIMIT), 0
    try:
        for chunk in chunks:
            message = exchange.feed(chunk)
            if message is not None:
                assert isinstance(message, Message)
                os.close(message.descriptor)
                loans += 1
            if exchange.reply is not None:
                break
            assert len(exchange._decoder._data) <= 2 * LIMIT + (1 << 20) + wire.HEADER.size
    finally:
        exchange.close()
    assert exchange.reply is None or isinstance(exchange.reply, (Answer, Breach))
    assert loans <= 1
    return exchange.reply


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.text(max_size=6) | st.sampled_from(["~bytes", "~array", "~frame", "~int", "~dict", "~set", "~tuple"]),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)
ENVELOPES = st.fixed_dictionaries(
    {},
    optional={
        "type": st.text(max_size=5) | JSON,
        "repr": st.text(max_size=5) | JSON,
        "error": JSON
        | st.fixed_dictionaries(
            {
                "kind": st.sampled_from(["runtime", "timeout", "nonsense"]) | JSON,
                "type": st.text(max_size=3) | JSON,
                "message": st.text(max_size=3),
            },
            optional={"traceback": st.text(max_size=3) | JSON, "line": st.integers() | JSON},
        ),
    },
)
FRAMES = st.one_of(
    st.builds(
        lambda value, envelope, buffers, flags: answer(json.dumps(value).encode(), envelope, buffers, flags),
        JSON,
        ENVELOPES,
        st.binary(max_size=64),
        st.integers(0, 255),
    ),
    st.builds(borrow, st.integers(0, 2**64 - 1) | st.integers(0, LIMIT)),
    st.builds(
        lambda *fields: wire.HEADER.pack(wire.MAGIC, *fields),
        st.integers(0, 255),
        st.integers(0, 255),
        st.integers(0, 2**32 - 1),
        st.integers(0, 2**64 - 1),
    ),
    st.binary(max_size=200),
)
CUTS = st.lists(st.integers(0, 10**6), max_size=6)


@settings(max_examples=300, deadline=None)
@given(st.lists(FRAMES, max_size=4), CUTS)
def test_any_frames_in_any_chunks_end_well(frames, cuts):
    """Sequences of frames, true and false ones, in arbitrary chunks, end in an answer, a breach or a loan."""
    exchange_of(chunks_of(b"".join(frames), cuts))


@settings(max_examples=300, deadline=None)
@given(FRAMES, st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 255)), min_size=1, max_size=5), CUTS)
def test_mutated_frames_end_well(frame, mutations, cuts):
    """A true frame in which bytes were changed ends in an answer or a breach, never in another exception."""
    data = bytearray(frame or b"\0")
    for place, byte in mutations:
        data[place % len(data)] = byte
    exchange_of(chunks_of(bytes(data), cuts))


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=300), CUTS)
def test_decoder_raises_nothing_but_malformed_frame(data, cuts):
    """The frame decoder either waits, gives a frame, or raises MalformedFrame; it keeps no more than it was given."""
    decoder = wire.Decoder(1000)
    for chunk in chunks_of(data, cuts):
        try:
            frame = decoder.feed(chunk)
        except wire.MalformedFrame:
            return
        if frame is not None:
            return
        assert len(decoder._data) <= 1000 + wire.HEADER.size
        assert decoder.wanted >= 1


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=100), st.binary(max_size=100), st.integers(0, 255), CUTS)
def test_decoder_gives_what_was_sent(body, buffers, flags, cuts):
    """A frame survives any cutting up of its bytes."""
    decoder = wire.Decoder(1000)
    data = wire.header(wire.ANSWER, flags, len(body), len(buffers)) + body + buffers
    frames = [decoder.feed(chunk) for chunk in chunks_of(data, cuts)]
    kind, found_flags, found_body, found_buffers = frames[-1]
    assert (kind, found_flags, bytes(found_body), bytes(found_buffers)) == (wire.ANSWER, flags, body, buffers)
    assert frames[:-1] == [None] * (len(frames) - 1)


def test_header_is_laid_out_as_documented():
    """Magic, kind, flags, length of the body, length of the buffers, little-endian, 16 bytes."""
    assert wire.header(16, 1, 0x01020304, 5) == b"dx\x10\x01\x04\x03\x02\x01\x05\0\0\0\0\0\0\0"


def test_terabyte_that_is_announced_is_refused_at_its_header():
    """A header beyond the bounds is refused before anything behind it is kept."""
    with pytest.raises(wire.MalformedFrame, match="announced"):
        wire.Decoder(1000).feed(wire.header(wire.ANSWER, 0, 10, 1 << 40))


@pytest.mark.parametrize("kind", [0, wire.EXECUTE, wire.LENT, wire.RETURN, 42, 255])
def test_kind_that_no_guest_sends_is_refused(kind):
    """Only answers, calls and requests for memory files come from a guest."""
    with pytest.raises(wire.MalformedFrame, match="kind"):
        wire.Decoder(1000).feed(wire.header(kind, 0, 1, 0) + b"x")


def test_bytes_behind_a_frame_are_refused():
    """Two frames in one breath are a breach: the host asks once and is answered once."""
    assert isinstance(exchange_of([answer() * 2]), Breach)


@pytest.mark.parametrize("kind", [[], {}, None, 5, "nonsense", ["runtime"]])
def test_error_of_unknown_kind_is_a_breach(kind):
    """The kind of an error may be of any type; only the known texts are taken."""
    error = {"kind": kind, "type": "E", "message": "", "traceback": ""}
    assert isinstance(exchange_of([answer(b"", {"error": error})]), Breach)


@pytest.mark.parametrize("text", [b"[" * 100_000, b"[" * 30_000 + b"]" * 30_000, b'{"a":' * 20_000])
def test_deep_nesting_is_a_breach(text):
    """A value or envelope nested beyond any stack is a breach."""
    assert isinstance(exchange_of([answer(text[:60_000])]), Breach)
    body = struct.pack("<I", 0) + text
    assert isinstance(exchange_of([wire.header(wire.ANSWER, 0, len(body), 0) + body]), Breach)


def test_number_too_long_to_print_is_a_breach():
    """An integer of thousands of digits is no plain number of this protocol."""
    assert isinstance(exchange_of([answer(b"1" * 10_000)]), Breach)


def test_loan_is_lent_once():
    """A second request for a memory file, and one beyond the limit, are breaches."""
    exchange = Exchange(PYTHON, LIMIT)
    first = exchange.feed(borrow(LIMIT))
    assert os.fstat(first.descriptor).st_size == LIMIT
    os.close(first.descriptor)
    assert exchange.feed(borrow(1)) is None
    assert isinstance(exchange.reply, Breach)
    exchange.close()
    assert isinstance(exchange_of([borrow(LIMIT + 1)]), Breach)
    assert isinstance(exchange_of([borrow(0)]), Breach)


def test_answer_in_a_loan_that_was_never_lent_is_a_breach():
    """The flag alone gives no access to memory."""
    assert isinstance(exchange_of([answer(b'{"~bytes":[0,1]}', flags=wire.IN_LOAN | wire.TAGGED)]), Breach)
