"""Sessions as bytes: carried to another executor, unpickled in guests only."""

from __future__ import annotations

import asyncio
import os
import pickle
import struct

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dspex import CodeExecutor, ResourceLimits
from dspex.errors import ClosedError, PolicyError, ProgramError, StateFormatError, UsageError
from dspex.execution import _dump

PROGRAM = """
import dataclasses, enum, math, os

class Colour(enum.Enum):
    RED = 1

@dataclasses.dataclass
class Point:
    x: int
    def moved(self):
        return self.x + offset

offset = 10
point = Point(1)
shared = [point, point]

def factorial(n):
    return 1 if n == 0 else n * factorial(n - 1)

def counter():
    count = 0
    def more():
        nonlocal count
        count += 1
        return count
    return more

more = counter()
more()
os.mkdir("inner")
open("top.txt", "w").write("top")
os.chdir("inner")
open("low.txt", "w").write("low")
"""


@pytest.fixture(scope="module")
def executor():
    """The strongest level that this host has."""
    with CodeExecutor() as executor:
        yield executor


@pytest.fixture(scope="module")
def dumped(executor):
    """A session that has run `PROGRAM`, as bytes."""
    with executor.session() as session:
        session.execute(PROGRAM).unwrap()
        return session.dump()


def repacked(data, *, body=None, **changes):
    """A dump that says something else, or holds another pickle (and no files), whole in itself."""
    header, content = _dump._taken_apart(data)
    if body is not None:
        content, changes = body, {"pickled": len(body), "files": (), **changes}
    changed = msgspec.structs.replace(header, **changes)
    return _dump._joined(msgspec.structs.replace(changed, sha256=changed.digest(content)), content)


def with_pickle(data, pickle):
    """A dump whose pickle is this one; the library in front of it stays."""
    _, content = _dump._taken_apart(data)
    (length,) = struct.unpack_from("<I", content)
    return repacked(data, body=content[: 4 + length] + pickle)


def test_names_functions_classes_and_files_are_carried_to_another_executor(dumped):
    """What was shared stays shared, closures keep their cells, the working directory is where it was."""
    with CodeExecutor() as other, other.session(restore=dumped) as session:
        told = session.execute(
            "(shared[0] is point, factorial(5), more(), Colour.RED.name, point.x, open('low.txt').read(),"
            " open('../top.txt').read(), os.path.basename(os.getcwd()), math.floor(2.5))"
        ).unwrap()
        assert told == (True, 120, 2, "RED", 1, "low", "top", "inner", 2)


def test_a_function_that_was_carried_sees_the_names_of_its_new_session(executor, dumped):
    """Not a copy of those that it left."""
    with executor.session(restore=dumped) as session:
        assert session.execute("offset = 20\npoint.moved()").unwrap() == 21


def test_a_restored_session_can_be_branched_and_dumped_again(executor, dumped):
    """It is a session like any other; its errors name the lines of cells that it brought along."""
    with executor.session(restore=dumped) as session, session.fork() as branch:
        branch.execute("def fails():\n    return 1 / 0").unwrap()
        with executor.session(restore=branch.dump()) as third:
            error = third.execute("fails()").error
            assert "return 1 / 0" in error.traceback
            assert third.execute("shared[1].x").unwrap() == 1


def test_dumping_changes_nothing(executor):
    """The session goes on with all its names, those that were left out among them."""
    with executor.session() as session:
        session.execute("x = 1\nf = open('f', 'w')").unwrap()
        before = session.execute("sorted(globals())").unwrap()
        session.dump(without=["f"])
        with pytest.raises(UsageError):
            session.dump()
        assert session.execute("sorted(globals())").unwrap() == before


def test_names_that_hold_no_data_are_told_and_can_be_left_out(executor):
    """All of them at once, each with its reason."""
    with executor.session() as session:
        session.execute("import threading\nx = 1\nf = open('f', 'w')\nlock = threading.Lock()").unwrap()
        with pytest.raises(UsageError, match=r"f \(.*lock \(.*without="):
            session.dump()
        with executor.session(restore=session.dump(without=("f", "lock"))) as other:
            assert other.execute("x, 'f' in globals()").unwrap() == (1, False)


def test_tools_stay_with_their_host(executor):
    """They are given anew to the session that is restored; functions that call them work with those."""
    with executor.session(tools={"ask": lambda: "old"}) as session:
        session.execute("def asked():\n    return ask()").unwrap()
        data = session.dump()
    with executor.session(restore=data, tools={"ask": lambda: "new"}) as session:
        assert session.execute("asked()").unwrap() == "new"


def test_imports_come_along(executor):
    """The session remembers what it was opened with, and those after it too."""
    with executor.session(imports=["statistics as s"]) as session:
        session.execute("x = s.mean([1, 2])").unwrap()
        data = session.dump()
    assert _dump.unpack(data, "python").imports == ("statistics as s",)
    with executor.session(restore=data) as session:
        assert session.execute("s.mean([x, x])").unwrap() == 1.5
        with session.fork() as branch:
            assert _dump.unpack(branch.dump(), "python").imports == ("statistics as s",)


def test_imports_of_a_dump_happen_in_the_guest_only(executor, dumped):
    """Bytes that came from somebody choose no module for the zygote, which has no such walls and serves others."""
    data = repacked(dumped, imports=("this", "no_such_module"))
    with pytest.raises(PolicyError, match="no_such_module"):
        executor.session(restore=data)
    with executor.session(restore=repacked(dumped, imports=("this",))) as session:
        assert session.execute("'this' in __import__('sys').modules").unwrap() is True
        assert [imports for imports in executor._pool._lanes if "this" in imports] == []


def test_what_the_caller_imports_is_bound_beside_a_dump(executor, dumped):
    """`imports` of the restored session are its names, as those of any session."""
    with executor.session(restore=dumped, imports=["fractions as f"]) as session:
        assert session.execute("f.Fraction(1, 2) * 2").unwrap() == 1


def test_what_was_dumped_is_unpickled_in_a_guest_only(executor, dumped):
    """A pickle that runs a program runs it in there."""

    class Payload:
        def __reduce__(self):
            return os.getpid, ()

    forged = pickle.dumps({"names": {"pid": Payload()}, "cells": 0, "texts": {}, "directory": "."})
    data = with_pickle(dumped, forged)
    with executor.session(restore=data) as session:
        pid = session.execute("pid").unwrap()
        assert pid != os.getpid()


def test_a_pickle_that_breaks_is_the_programs_error(executor, dumped):
    """And the half-restored session is closed."""
    with pytest.raises(ProgramError):
        executor.session(restore=with_pickle(dumped, b"no pickle at all"))


@given(st.data())
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_damaged_bytes_are_refused_before_any_guest_sees_them(dumped, data):
    """Cut off, flipped, or anything at all: one error."""
    how = data.draw(st.sampled_from(["cut", "flip", "noise"]))
    if how == "cut":
        damaged = dumped[: data.draw(st.integers(0, len(dumped) - 1))]
    elif how == "flip":
        place = data.draw(st.integers(0, len(dumped) - 1))
        damaged = dumped[:place] + bytes([dumped[place] ^ 1 << data.draw(st.integers(0, 7))]) + dumped[place + 1 :]
    else:
        damaged = data.draw(st.binary(max_size=200))
    try:
        taken = _dump.unpack(damaged, "python")
    except StateFormatError:
        return
    assert taken == _dump.unpack(dumped, "python")


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"python": "2.7"}, "2.7"),
        ({"language": "ruby"}, "ruby"),
        ({"version": 9}, "version 9"),
        ({"pickled": 1}, "cut off"),
    ],
)
def test_dumps_for_elsewhere_are_refused(executor, dumped, changes, named):
    """The error says what they are for."""
    with pytest.raises(StateFormatError, match=named):
        executor.session(restore=repacked(dumped, **changes))


def test_a_name_that_leads_out_of_the_working_directory_is_refused(executor, dumped):
    """Names of files are checked as those of any other input."""
    header, _ = _dump._taken_apart(dumped)
    files = (("../escaped", header.files[0][1]), *header.files[1:])
    with pytest.raises(UsageError, match="relative path"):
        executor.session(restore=repacked(dumped, files=files))


@pytest.mark.parametrize("data", ["text", 7, ["x"]])
def test_what_is_no_bytes_is_refused(executor, data):
    """By its type."""
    with pytest.raises(UsageError, match="restore is a"):
        executor.session(restore=data)


def test_a_dump_is_bounded_by_the_limit_of_values():
    """A session that is larger than that says so."""
    with CodeExecutor(limits=ResourceLimits(value=100_000)) as executor, executor.session() as session:
        session.execute("x = b'x' * 200_000").unwrap()
        with pytest.raises(ProgramError, match="100,000 bytes"):
            session.dump()
        assert session.execute("len(x)").unwrap() == 200_000


def test_a_session_is_dumped_between_its_calls_only(executor):
    """Not by a tool that it waits for, not after its end."""
    seen = []

    def tool():
        try:
            session.dump()
        except UsageError as error:
            seen.append(str(error))

    with executor.session(tools={"tool": tool}) as session:
        session.execute("tool()").unwrap()
    assert "dumped" in seen[0]
    with pytest.raises(ClosedError):
        session.dump()


def test_dump_from_an_event_loop(executor):
    """`adump` takes a thread."""

    async def main():
        async with executor.session() as session:
            await session.aexecute("x = 5")
            return await session.adump()

    with executor.session(restore=asyncio.run(main())) as session:
        assert session.execute("x").unwrap() == 5
