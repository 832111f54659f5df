"""Resource limits: what may be given, how it is normalised, and what is said of what may not."""

import pickle
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dspex._sandbox.limits import GIB, KIB, MIB, ResourceLimits, checked_seconds, format_seconds, format_size
from dspex.errors import LimitsError

SIZES = st.integers(min_value=16 * MIB, max_value=1 << 44)
LIMITS = st.builds(
    ResourceLimits,
    wall=st.floats(min_value=0.001, max_value=604_800),
    cpu=st.floats(min_value=0.001, max_value=604_800),
    memory=SIZES,
    processes=st.integers(min_value=1, max_value=32_768),
    open_files=st.integers(min_value=16, max_value=1 << 20),
    disk=st.none() | st.integers(min_value=4 * KIB, max_value=8 * MIB),
    output=st.integers(min_value=1, max_value=GIB),
    value=st.integers(min_value=1, max_value=64 * GIB),
)


def test_the_defaults_are_those_that_are_documented():
    """The defaults are the published ones, in seconds and bytes."""
    assert ResourceLimits().to_dict() == {
        "wall": 30.0,
        "cpu": 30.0,
        "memory": 512 * MIB,
        "processes": 64,
        "open_files": 256,
        "branches": 1024,
        "disk": 64 * MIB,
        "output": MIB,
        "value": 64 * MIB,
    }


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("512MB", 512_000_000),
        ("64 MiB", 64 * MIB),
        ("1.5GiB", 3 * GIB // 2),
        (" 20480k ", 20 * MIB),
        ("33554432", 32 * MIB),
        ("16777216 B", 16 * MIB),
        ("0.1gb", 100_000_000),
    ],
)
def test_sizes_are_read_from_text(text, size):
    """A size may be text; units with i and lone letters are binary, the others decimal."""
    assert ResourceLimits(memory=text).memory == size


@pytest.mark.parametrize(
    ("given_time", "seconds"), [("250ms", 0.25), ("2s", 2), ("1m", 60), ("1.5 h", 5400), ("7d", 604_800), (3, 3)]
)
def test_times_are_read_from_text(given_time, seconds):
    """A time may be text or a number, and is always held as a float."""
    wall = ResourceLimits(wall=given_time).wall
    assert wall == seconds
    assert type(wall) is float


@pytest.mark.parametrize(
    ("field", "value"),
    [
        *((name, 0) for name in ResourceLimits().to_dict()),
        *((name, -1) for name in ResourceLimits().to_dict()),
        *((name, True) for name in ResourceLimits().to_dict()),
        *((name, float("nan")) for name in ResourceLimits().to_dict()),
        *((name, float("inf")) for name in ResourceLimits().to_dict()),
        *((name, 10**5000) for name in ResourceLimits().to_dict()),
        *((name, [1]) for name in ResourceLimits().to_dict()),
        *((name, "many") for name in ResourceLimits().to_dict()),
        *((name, None) for name in ResourceLimits().to_dict() if name != "disk"),
        ("memory", 16 * MIB - 1),
        ("memory", 1e9),
        ("memory", "5 parsecs"),
        ("memory", "-5MB"),
        ("memory", "9" * 5000),
        ("wall", "8d"),
        ("wall", 604_801),
        ("wall", "1e3"),
        ("open_files", 15),
        ("disk", "257MiB"),
        ("processes", "3"),
    ],
    ids=lambda part: "giant" if part == 10**5000 else repr(part)[:20],
)
def test_an_absurd_limit_is_refused(field, value):
    """What cannot be a limit is refused with the field's name and what is allowed, in a short message."""
    with pytest.raises(LimitsError, match=rf"^{field}: .*(allowed is|write it as)") as refusal:
        ResourceLimits(**{field: value})
    assert len(str(refusal.value)) < 300


@pytest.mark.parametrize(
    ("field", "lowest", "highest"),
    [
        ("wall", "1ms", "7d"),
        ("memory", 16 * MIB, "16TiB"),
        ("processes", 1, 32_768),
        ("open_files", 16, 1 << 20),
        ("disk", "4KiB", "256MiB"),
        ("output", 1, GIB),
        ("value", 1, 64 * GIB),
    ],
)
def test_both_ends_of_a_range_are_allowed(field, lowest, highest):
    """The lowest and the highest value that the message names are themselves accepted."""
    low, high = ResourceLimits(**{field: lowest}), ResourceLimits(**{field: highest})
    assert getattr(low, field) < getattr(high, field)


def test_the_default_disk_fits_into_a_small_memory():
    """A disk that nobody set is at most half of memory, also when memory changes later."""
    small = ResourceLimits(memory="32MiB")
    assert small.disk == 16 * MIB
    assert small.replace(memory=GIB).disk == 64 * MIB
    assert ResourceLimits().replace(memory="32MiB") == small


def test_a_disk_that_was_set_is_never_changed_silently():
    """A disk that somebody set is refused, not shrunk, where memory is too small for it."""
    with pytest.raises(LimitsError, match=r"^disk: 20 MiB is more than half of memory"):
        ResourceLimits(disk="20MiB").replace(memory="32MiB")


@given(LIMITS)
def test_limits_come_back_from_their_dictionary(limits):
    """Limits survive to_dict and from_dict, pickling and an empty replace, and hash alike."""
    for again in (
        ResourceLimits.from_dict(limits.to_dict()),
        pickle.loads(pickle.dumps(limits)),
        limits.replace(),
    ):
        assert again == limits
        assert hash(again) == hash(limits)


@given(st.text() | st.integers() | st.floats() | st.binary() | st.lists(st.integers()))
def test_any_value_is_accepted_or_refused_but_never_crashes(value):
    """Whatever is given as a size, the answer is limits or a LimitsError."""
    try:
        memory = ResourceLimits(memory=value).memory
    except LimitsError:
        return
    assert 16 * MIB <= memory <= 1 << 44


def test_an_unknown_limit_is_refused_by_name():
    """A field that does not exist is named, with those that do."""
    with pytest.raises(LimitsError, match=r"^memmory: there is no such limit; there are wall, cpu, memory"):
        ResourceLimits.from_dict({"memmory": 1})


def test_limits_cannot_be_changed_in_place():
    """Limits are frozen."""
    with pytest.raises(AttributeError):
        ResourceLimits().memory = 1  # type: ignore[misc]


def test_limits_explain_themselves():
    """Every limit has its line, in units that people read."""
    lines = ResourceLimits(wall="250ms", memory=GIB, disk=5000).explain().splitlines()
    assert len(lines) == len(ResourceLimits().to_dict())
    assert "250 ms" in lines[0]
    assert "1 GiB" in lines[2]
    assert "4.9 KiB" in lines[5]


def test_a_deadline_given_elsewhere_has_the_range_of_wall():
    """A timeout is read as `wall` is, under its own name."""
    assert checked_seconds("timeout", "250ms") == 0.25
    with pytest.raises(LimitsError, match=r"^timeout: 0 is out of range; allowed is 1 ms to 7 days"):
        checked_seconds("timeout", 0)


def test_quantities_are_shown_with_a_fitting_unit():
    """Sizes and times are shown in the largest unit that they fill."""
    assert [format_size(n) for n in (1, 1536, MIB, GIB)] == ["1 bytes", "1.5 KiB", "1 MiB", "1 GiB"]
    assert [format_seconds(n) for n in (0.001, 1.5, 172_800)] == ["1 ms", "1.5 s", "2 days"]


def test_importing_limits_and_policy_stays_cheap():
    """Neither file pulls in a parser, a validator or anything that draws."""
    heavy = "{'msgspec', 'rich', 'typer', 'tomllib', 'json', 'asyncio', 'opentelemetry', 'numpy', 'pathlib'}"
    code = f"import sys, dspex._sandbox.policy; print(sorted({heavy} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=_environment())
    assert done.stdout == "[]\n"


def _environment():
    """An environment in which a fresh interpreter finds the same packages."""
    return {"PYTHONPATH": ":".join(filter(None, sys.path))}
