"""`ExecutionResult`: the outcome of a run as a value."""

import dataclasses
import datetime as dt
import decimal
import enum
import json
import uuid

import pytest

from dspex import CodeExecutor, ExecutionResult, Failure, IsolationReport, Usage
from dspex.errors import ProgramError, UsageError
from dspex.execution._result import KINDS

ISOLATION = IsolationReport("namespaces", ("seccomp",))


def result_of(value=None, **fields):
    return ExecutionResult(usage=Usage(), isolation=ISOLATION, value=value, **fields)


@dataclasses.dataclass
class Point:
    x: int
    y: float = 0.0


class Colour(enum.Enum):
    RED = "red"


def test_kinds_are_the_documented_ones():
    """A program fails in one of eleven ways."""
    assert len(KINDS) == 11
    assert {"syntax", "runtime", "timeout", "killed", "policy"} <= KINDS


def test_unwrap_gives_the_value_or_raises_the_failure():
    """The exception carries the fields of the failure."""
    assert result_of(5).unwrap() == 5
    failure = Failure("runtime", "ValueError", "bad", 3, "Traceback")
    with pytest.raises(ProgramError, match="runtime: ValueError: bad") as caught:
        result_of(error=failure).unwrap()
    error = caught.value
    assert (error.kind, error.type, error.line, error.traceback) == ("runtime", "ValueError", 3, "Traceback")


@pytest.mark.parametrize(
    ("value", "kind", "expected"),
    [
        (5, int, 5),
        ([1, 2], list[int], [1, 2]),
        ((1, 2), tuple[int, int], (1, 2)),
        ({"x": 1, "y": 2.0}, Point, Point(1, 2.0)),
        ([{"x": 1}], list[Point], [Point(1)]),
        ("red", Colour, Colour.RED),
        (None, int | None, None),
        ({"a": {1}}, dict[str, set[int]], {"a": {1}}),
        (decimal.Decimal("1.5"), decimal.Decimal, decimal.Decimal("1.5")),
        (dt.date(2024, 1, 2), dt.date, dt.date(2024, 1, 2)),
        (uuid.UUID(int=5), uuid.UUID, uuid.UUID(int=5)),
        (b"ab", bytes, b"ab"),
    ],
)
def test_value_as_validates_into_a_type(value, kind, expected):
    """Data of the guest becomes objects of the caller's own classes."""
    found = result_of(value).value_as(kind)
    assert found == expected
    assert type(found) is type(expected)


@pytest.mark.parametrize(
    ("value", "kind"), [("5", int), ([1, "2"], list[int]), ({"y": 1.0}, Point), ("blue", Colour), (None, int)]
)
def test_value_that_does_not_fit_is_refused(value, kind):
    """The error names the type and the place."""
    with pytest.raises(UsageError, match="the value is no"):
        result_of(value).value_as(kind)


@pytest.mark.parametrize("kind", [5, "int", lambda: 1])
def test_value_as_of_no_type_is_refused(kind):
    """What is no type is a usage error too."""
    with pytest.raises(UsageError):
        result_of(1).value_as(kind)


def test_value_as_of_a_failed_program_raises_its_failure():
    """A failed program has no value to validate."""
    with pytest.raises(ProgramError):
        result_of(error=Failure("timeout", "Deadline", "late")).value_as(int)


@pytest.mark.parametrize(
    ("code", "named"),
    [
        ("raise SystemExit", "SystemExit"),
        ("class Leave(SystemExit): pass\nraise Leave(0)", "Leave"),
        ("None", None),
        ("import asyncio, sys\nawait asyncio.sleep(0)\nsys.exit()", "SystemExit"),
    ],
)
def test_a_program_that_left_early_is_known(code, named):
    """It did not fail, and has no value; its `value_type` tells that it did not come to its end."""
    with CodeExecutor(max_concurrency=1) as executor, executor.session() as session:
        result = session.execute(code)
        assert (result.ok, result.value, result.value_type) == (True, None, named)
        assert session.execute("None").value_type is None


def test_to_dict_is_plain():
    """Without values of the program's, everything can be written as JSON."""
    with CodeExecutor(max_concurrency=1) as executor:
        plain = executor.execute("print(1)\n1 / 0").to_dict()
    assert json.loads(json.dumps(plain))["error"]["type"] == "ZeroDivisionError"
    assert {"ok", "value", "value_repr", "value_type", "stdout", "stderr", "error", "usage", "isolation"} < set(plain)


def test_repr_is_short():
    """A large value does not flood a terminal."""
    assert len(repr(result_of("x" * 10**6))) < 300
    assert "ValueError" in repr(result_of(error=Failure("runtime", "ValueError", "bad")))


def test_end_to_end_types_of_the_guest():
    """A dataclass and an enum of the program arrive as data, name their class, and fit the caller's own."""
    code = (
        "import dataclasses, enum\n@dataclasses.dataclass\nclass Point:\n    x: int\n    y: float\n"
        "class Colour(enum.Enum):\n    RED = 'red'\n"
    )
    with CodeExecutor(max_concurrency=1) as executor:
        point = executor.execute(code + "Point(1, 2.5)")
        colour = executor.execute(code + "Colour.RED")
    assert (point.value, point.value_type, point.value_as(Point)) == ({"x": 1, "y": 2.5}, "Point", Point(1, 2.5))
    assert (colour.value, colour.value_type, colour.value_as(Colour)) == ("red", "Colour", Colour.RED)
