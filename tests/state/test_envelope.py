"""The envelope: which versions load, how older ones are carried forward, what a checksum holds."""

import json

import msgspec
import pytest

from dspex import state
from dspex.errors import StateFormatError
from dspex.state import _envelope
from state.states import EVERYTHING, FORMATS


def file(version, tree, **header):
    return json.dumps({"dspex": {"format": version, **header}, "state": tree}).encode()


def test_every_minor_version_of_this_major_loads():
    """A file of the same major version loads, and a newer minor one may have more in its header."""
    assert state.decode(file("1.0", {"a": 1})) == {"a": 1}
    assert state.decode(file("1.99", {"a": 1}, more=True)) == {"a": 1}


def test_a_newer_major_version_is_refused():
    """A file of a newer major version is refused, and both versions are named."""
    with pytest.raises(StateFormatError, match=r"format 2\.3; this dspex reads up to 1\.0"):
        state.decode(file("2.3", {}))


def test_older_major_versions_are_carried_forward():
    """A file of an older major version goes through one migration for each major between, in their order."""
    tree = {"dspex": {"format": "1.4"}, "state": {"demos": [1]}}
    migrations = {
        1: lambda old: {"examples": old["demos"]},
        2: lambda old: {"examples": {"train": old["examples"]}},
    }
    assert _envelope.opened(tree, version=(3, 1), migrations=migrations) == {"examples": {"train": [1]}}


def test_a_version_that_nothing_leads_from_is_refused():
    """Without a migration from its major version on, a file is refused, naming the step that is missing."""
    tree = {"dspex": {"format": "1.0"}, "state": {}}
    with pytest.raises(StateFormatError, match="nothing leads from 2 to 3"):
        _envelope.opened(tree, version=(3, 0), migrations={1: lambda old: old})


def test_the_checksum_is_checked_before_a_migration():
    """What is damaged is never given to a migration."""
    tree = {"dspex": {"format": "1.0", "sha256": "0" * 64}, "state": {}}
    with pytest.raises(StateFormatError, match="checksum"):
        _envelope.opened(tree, version=(2, 0), migrations={1: lambda old: pytest.fail("was given damage")})


@pytest.mark.parametrize("format", FORMATS)
def test_the_checksum_is_the_name_of_the_content(format):
    """The checksum in a file of any format is the one in `content_id`."""
    digest = state.content_id(EVERYTHING).removeprefix("sha256:")
    assert digest.encode() in state.encode(EVERYTHING, format=format)


def test_a_file_by_other_means_needs_no_checksum():
    """Who writes a state by hand may leave the checksum out."""
    assert state.decode(msgspec.msgpack.encode({"dspex": {"format": "1.0"}, "state": [1]})) == [1]
