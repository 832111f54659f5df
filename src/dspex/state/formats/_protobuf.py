"""Protocol Buffers, by the schema in `state.proto` beside this package.

Theory of operation. The schema is built from the table below at first use, so no compiler runs and no generated code
is tied to one version of the runtime; a test compiles `state.proto` and compares. Readers of Protocol Buffers go at
most 100 messages deep, in every language, and a level of a state takes two or three: deeper states are refused when
written. Entries are repeated messages and no `map`, as readers drop a key of a map that stands twice.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

from dspex.errors import StateError, StateFormatError
from dspex.state import _packed
from dspex.state._envelope import HEADER, STATE
from dspex.state.formats._format import Format

if TYPE_CHECKING:
    from collections.abc import Callable

_MAGIC = "dspex.state"
_START = b"\x0a" + bytes([len(_MAGIC)]) + _MAGIC.encode()
_MAX_MESSAGES = 99  # inside the outermost
_PACKAGE = "dspex.state.v1"
# message: (field, type) in the order of their numbers; "*" marks a repeated field.
SCHEMA = {
    "File": [("magic", "string"), ("format", "string"), ("sha256", "string"), ("state", "Value")],
    "Value": [
        ("null", "bool"),
        ("boolean", "bool"),
        ("integer", "sint64"),
        ("number", "double"),
        ("text", "string"),
        ("raw", "bytes"),
        ("list", "List"),
        ("map", "Map"),
        ("tagged", "Tagged"),
    ],
    "List": [("items", "*Value")],
    "Map": [("entries", "*Entry")],
    "Entry": [("key", "string"), ("value", "Value")],
    "Tagged": [("tag", "string"), ("content", "Value")],
}


@functools.cache
def descriptor() -> Any:
    """The schema as a FileDescriptorProto. Raises StateError when the library is not installed."""
    try:
        from google.protobuf import descriptor_pb2
    except ImportError as error:
        raise StateError("Protocol Buffers are not installed: pip install 'dspex[state]'") from error
    file = descriptor_pb2.FileDescriptorProto(name="state.proto", package=_PACKAGE, syntax="proto3")
    for name, fields in SCHEMA.items():
        message = file.message_type.add(name=name)
        for number, (field, kind) in enumerate(fields, start=1):
            _add_field(message, field, number, kind)
        if name == "Value":
            message.oneof_decl.add(name="kind")
    return file


def _add_field(message: Any, name: str, number: int, kind: str) -> None:
    field = message.field.add(name=name, number=number)
    field.label = field.LABEL_REPEATED if kind.startswith("*") else field.LABEL_OPTIONAL
    kind = kind.removeprefix("*")
    if kind in SCHEMA:
        field.type, field.type_name = field.TYPE_MESSAGE, f".{_PACKAGE}.{kind}"
    else:
        field.type = getattr(field, f"TYPE_{kind.upper()}")
    if message.name == "Value":
        field.oneof_index = 0


@functools.cache
def _file_class() -> Any:
    schema = descriptor()
    from google.protobuf import descriptor_pool, message_factory

    pool = descriptor_pool.DescriptorPool()
    pool.Add(schema)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{_PACKAGE}.File"))


def dumps(tree: Any) -> bytes:
    """The envelope as a `File`. Raises StateError for a state deeper than readers go."""
    file = _file_class()(magic=_MAGIC, format=tree[HEADER]["format"], sha256=tree[HEADER]["sha256"])
    _fill(file.state, tree[STATE], 1)
    return bytes(file.SerializeToString(deterministic=True))


def _fill(value: Any, node: Any, messages: int) -> None:
    if messages > _MAX_MESSAGES:
        raise StateError(
            "Protocol Buffers are read at most 100 messages deep, about 33 levels; save it in another format"
        )
    _FILLERS[type(node)](value, node, messages)


def _fill_list(value: Any, node: list[Any], messages: int) -> None:
    value.list.SetInParent()
    for item in node:
        _fill(value.list.items.add(), item, messages + 2)


def _fill_dict(value: Any, node: dict[str, Any], messages: int) -> None:
    if _packed.is_tagged(node):
        ((value.tagged.tag, content),) = node.items()
        _fill(value.tagged.content, content, messages + 2)
        return
    value.map.SetInParent()
    for key, item in node.items():
        _fill(value.map.entries.add(key=key).value, item, messages + 3)


def _setter(field: str) -> Any:
    return lambda value, node, messages: setattr(value, field, node)


_FILLERS = {
    type(None): lambda value, node, messages: setattr(value, "null", True),
    bool: _setter("boolean"),
    int: _setter("integer"),
    float: _setter("number"),
    str: _setter("text"),
    bytes: _setter("raw"),
    list: _fill_list,
    dict: _fill_dict,
}


def loads(data: bytes) -> Any:
    """The envelope of a `File`."""
    from_bytes = _file_class().FromString
    from google.protobuf.message import DecodeError

    try:
        file = from_bytes(data)
    except (DecodeError, ValueError) as error:  # a ValueError, for text: where the library runs in pure Python
        raise StateFormatError(f"no Protocol Buffers message File: {error}") from error
    return {HEADER: _header(file), STATE: _node(file.state)}


def _header(file: Any) -> dict[str, Any]:
    """The header, with all that stands in the file besides: one flipped bit makes another field of the checksum."""
    from google.protobuf.unknown_fields import UnknownFieldSet

    if file.magic != _MAGIC:
        raise StateFormatError(f"the field magic is not {_MAGIC!r}", place="header")
    header = {"format": file.format} | ({"sha256": file.sha256} if file.sha256 else {})
    return header | {f"field {field.field_number}": None for field in UnknownFieldSet(file)}


def _node(value: Any) -> Any:
    kind = value.WhichOneof("kind")
    if kind is None:
        raise StateFormatError("a Value holds nothing")
    reader = _READERS.get(kind)
    return reader(getattr(value, kind)) if reader else getattr(value, kind)


def _node_map(found: Any) -> dict[str, Any]:
    node = {entry.key: _node(entry.value) for entry in found.entries}
    if len(node) != len(found.entries):
        raise StateFormatError("a key stands twice in one Map")
    return node


_READERS: dict[str, Callable[[Any], Any]] = {
    "null": lambda found: None,
    "list": lambda found: [_node(item) for item in found.items],
    "map": _node_map,
    "tagged": lambda found: {found.tag: _node(found.content)},
}

FORMAT = Format("protobuf", (".pb", ".binpb"), dumps, loads, lambda data: data.startswith(_START))
