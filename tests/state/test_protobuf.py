"""The shipped schema is the one in use, and what others write by it is read."""

import importlib.resources
import subprocess
import sys

import pytest
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

from dspex import state
from dspex.errors import StateError, StateFormatError
from dspex.state.formats import _protobuf
from state.states import EVERYTHING, same


@pytest.fixture(scope="module")
def compiled(tmp_path_factory):
    """The shipped schema, compiled by Protocol Buffers' own compiler."""
    out = tmp_path_factory.mktemp("proto") / "out"
    with importlib.resources.as_file(importlib.resources.files("dspex.state") / "state.proto") as source:
        command = [sys.executable, "-m", "grpc_tools.protoc", f"-I{source.parent}", f"--descriptor_set_out={out}"]
        subprocess.run([*command, source], check=True, timeout=60)
    (file,) = descriptor_pb2.FileDescriptorSet.FromString(out.read_bytes()).file
    return file


def without_json_names(file):
    for message in file.message_type:
        for field in message.field:
            field.ClearField("json_name")
    return file


def test_the_schema_in_use_is_the_shipped_one(compiled):
    """`state.proto`, compiled, is the schema that the code builds."""
    expected = descriptor_pb2.FileDescriptorProto.FromString(compiled.SerializeToString())
    assert without_json_names(expected) == _protobuf.descriptor()


def test_others_read_and_write_by_the_schema(compiled):
    """A program that knows only `state.proto` reads a file, and what it writes from it loads."""
    pool = descriptor_pool.DescriptorPool()
    pool.Add(compiled)
    kind = message_factory.GetMessageClass(pool.FindMessageTypeByName("dspex.state.v1.File"))
    file = kind.FromString(state.encode(EVERYTHING, format="protobuf"))
    assert {entry.key for entry in file.state.map.entries} == EVERYTHING.keys()
    assert same(EVERYTHING, state.decode(file.SerializeToString()))


def test_a_value_of_no_kind_is_refused():
    """A Value without a kind is no None, but damage."""
    kind = _protobuf._file_class()
    with pytest.raises(StateFormatError, match="a Value holds nothing"):
        state.decode(kind(magic="dspex.state", format="1.0").SerializeToString())


@pytest.mark.parametrize("tag", [b"\x0a", b"\x12", b"\x3a"])
def test_a_checksum_cannot_become_another_field(tag):
    """A file whose checksum was turned into another field, known or not, does not pass for one without a checksum."""
    data = state.encode({"a": 1}, format="protobuf")
    assert data.count(b"\x1a\x40") == 1
    with pytest.raises(StateFormatError, match="header"):
        state.decode(data.replace(b"\x1a\x40", tag + b"\x40"))


def test_a_newer_minor_version_may_have_more_fields():
    """Fields that this version does not know are passed over in a file of a newer minor version."""
    kind = _protobuf._file_class()
    file = kind(magic="dspex.state", format="1.7")
    file.state.integer = 5
    assert state.decode(file.SerializeToString() + b"\x3a\x01x") == 5


def test_deeper_than_others_read_is_refused():
    """A state that readers of Protocol Buffers would not read is not written."""
    value = {}
    for _ in range(40):
        value = {"a": value}
    with pytest.raises(StateError, match="at most 100 messages deep"):
        state.encode(value, format="protobuf")
