"""`Exchange`: what is sent, what is lent, and what an answer in a memory file must satisfy."""

import json
import mmap
import os
import struct

import pytest

from dspex import languages
from dspex._kernel import memory
from dspex._sandbox import wire
from dspex.execution._exchange import Answer, Breach, Exchange

LIMIT = 1 << 20
PYTHON = languages.get("python")


@pytest.fixture
def exchange():
    under_test = Exchange(PYTHON, LIMIT)
    yield under_test
    under_test.close()


def answer(value=b"1", envelope=None, flags=0):
    body = struct.pack("<I", len(value)) + value + json.dumps(envelope or {}).encode()
    return wire.header(wire.ANSWER, flags, len(body), 0) + body


def borrow(exchange, size):
    return exchange.feed(wire.header(wire.BORROW, 0, 8, 0) + struct.pack("<Q", size))


def test_small_request_is_one_frame(exchange):
    """Body and small buffers follow the header in one piece."""
    message = exchange.opening(b"body", [memoryview(b"ab"), memoryview(b"c")])
    assert message == ([wire.header(wire.EXECUTE, 0, 4, 3) + b"bodyabc"], -1)


def test_large_request_goes_in_a_sealed_memory_file(exchange):
    """Large buffers lie one behind the other in a file that nobody can change any more."""
    parts = [b"x" * (1 << 18), b"y" * 3]
    message = exchange.opening(b"body", [memoryview(part) for part in parts])
    try:
        assert os.pread(message.descriptor, 1 << 20, 0) == b"".join(parts)
        with pytest.raises(PermissionError):
            os.pwrite(message.descriptor, b"z", 0)
        with pytest.raises(PermissionError):
            os.ftruncate(message.descriptor, 5)
    finally:
        os.close(message.descriptor)
    assert b"".join(message.data) == wire.header(wire.EXECUTE, wire.IN_MEMORY_FILE, 4, (1 << 18) + 3) + b"body"


def test_answer_with_an_error(exchange):
    """All fields of an error arrive."""
    error = {"kind": "runtime", "type": "E", "message": "m", "line": 3, "column": 7, "traceback": "t"}
    exchange.feed(answer(b"", {"error": error}))
    assert exchange.reply == Answer(None, None, None, ("runtime", "E", "m", 3, "t", 7))


@pytest.mark.parametrize("field", ["type", "message", "traceback"])
def test_error_without_its_texts_is_a_breach(exchange, field):
    """An error that lacks a text is none."""
    error = {"kind": "runtime", "type": "E", "message": "m", "line": 3, "traceback": "t"}
    exchange.feed(answer(b"", {"error": {**error, field: 5}}))
    assert isinstance(exchange.reply, Breach)


@pytest.mark.parametrize("line", ["3", 3.0, True, [3]])
def test_error_with_a_line_that_is_no_number_is_a_breach(exchange, line):
    """A line is a whole number or missing."""
    error = {"kind": "runtime", "type": "E", "message": "m", "line": line, "traceback": "t"}
    exchange.feed(answer(b"", {"error": error}))
    assert isinstance(exchange.reply, Breach)


def test_loan_carries_the_buffers(exchange):
    """What the guest wrote into the lent file and unmapped is the value's buffers."""
    message = borrow(exchange, 3)
    os.pwrite(message.descriptor, b"abc", 0)
    os.close(message.descriptor)
    exchange.feed(answer(b'{"~bytes":[0,3]}', flags=wire.TAGGED | wire.IN_LOAN))
    assert bytes(exchange.reply.value) == b"abc"


def test_loan_of_fixed_size(exchange):
    """The guest can neither grow nor shrink what it was lent."""
    message = borrow(exchange, 4096)
    for size in (0, 8192):
        with pytest.raises(PermissionError):
            os.ftruncate(message.descriptor, size)
    os.close(message.descriptor)


def test_loan_that_is_still_mapped_is_refused(exchange):
    """A guest that could still write to the buffers after its answer has broken the protocol."""
    message = borrow(exchange, 4096)
    with mmap.mmap(message.descriptor, 4096):
        exchange.feed(answer(b'{"~bytes":[0,3]}', flags=wire.TAGGED | wire.IN_LOAN))
        assert isinstance(exchange.reply, Breach)
        assert "mapped" in exchange.reply.reason
    os.close(message.descriptor)


def test_value_beyond_the_limit_is_a_limit_error():
    """A value that is too large is the program's error, not a breach."""
    exchange = Exchange(PYTHON, 10)
    exchange.feed(answer(b'"' + b"x" * 20 + b'"'))
    assert exchange.reply.failure.kind == "value_limit"


def test_exchange_leaves_no_descriptor_behind():
    """Loans that are never answered are closed with the exchange."""
    before = os.listdir("/proc/self/fd")
    exchange = Exchange(PYTHON, LIMIT)
    os.close(borrow(exchange, 4096).descriptor)
    exchange.close()
    exchange.close()
    assert os.listdir("/proc/self/fd") == before


def test_fixed_size_file_is_empty_at_first():
    """A memory file that is lent holds nothing of the host."""
    descriptor = memory.fixed_size("loan", 4096)
    assert os.pread(descriptor, 4096, 0) == bytes(4096)
    os.close(descriptor)
