"""A session as bytes: the layout of `Session.dump`, read and written without looking into what the guest pickled.

Layout: `dspex-session`, a zero, the length of the header (4 bytes, little-endian), the header (JSON), the guest's own bytes, the
contents of the files one after the other. The header names versions, imports and files with their sizes, and holds the SHA-256 of
all the rest. Nothing here is ever unpickled by the host: the guest's own bytes go back into a guest.
"""

from __future__ import annotations

import hashlib
import importlib.util
import struct
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

import msgspec

from dspex.errors import StateFormatError, UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from dspex.execution._files import Files

_MAGIC: Final = b"dspex-session\0"
_VERSION: Final = 1
_LENGTH: Final = struct.Struct("<I")


class Header(msgspec.Struct, frozen=True):
    """What must be known before anything is restored."""

    version: int
    language: str
    python: str  # "3.11": code objects are carried, which fit one minor version only
    imports: tuple[str, ...]
    pickled: int  # bytes
    files: tuple[tuple[str, int], ...]  # name and bytes
    sha256: str = ""

    def digest(self, content: bytes) -> str:
        """Of what this says, and of what follows it."""
        said = msgspec.json.encode(msgspec.structs.replace(self, sha256=""))
        return hashlib.sha256(said + content).hexdigest()


class Dump(NamedTuple):
    """A session that was dumped, taken apart."""

    imports: tuple[str, ...]
    pickled: bytes
    files: Mapping[str, bytes]


def library() -> str:
    """The source of cloudpickle, which works inside the guest. Raises `UsageError` where it is not installed."""
    found = importlib.util.find_spec("cloudpickle")
    if found is None or found.origin is None:
        raise UsageError("dumping a session takes cloudpickle; install it: pip install 'dspex[sessions]'")
    return (Path(found.origin).parent / "cloudpickle.py").read_text("utf-8")


def pack(language: str, imports: tuple[str, ...], pickled: bytes, files: Files) -> bytes:
    """The bytes of a session. Raises `UsageError` when its files cannot all be carried."""
    if not files.complete:
        raise UsageError(
            "the session's working directory cannot be dumped whole: more than 1,000 files, or some that cannot be read; "
            "remove what is not needed"
        )
    contents = {_encodable(name): file.read_bytes() for name, file in files.items()}
    content = b"".join((pickled, *contents.values()))
    sizes = tuple((name, len(data)) for name, data in contents.items())
    header = Header(_VERSION, language, _python(), imports, len(pickled), sizes)
    return _joined(msgspec.structs.replace(header, sha256=header.digest(content)), content)


def _encodable(name: str) -> str:
    try:
        name.encode()
    except UnicodeEncodeError:
        raise UsageError(f"the session's file {name!r} cannot be dumped: its name is no UTF-8; rename it") from None
    return name


def unpack(data: object, language: str) -> Dump:
    """Take a dump apart. Raises `UsageError` for what is no bytes, `StateFormatError` for what is no dump, or not for here."""
    if not isinstance(data, (bytes, bytearray, memoryview)):
        raise UsageError(f"restore is a {type(data).__name__}; it must be the bytes that session.dump() gave")
    header, content = _taken_apart(bytes(data))
    if (header.language, header.python) != (language, _python()):
        raise _wrong(
            f"it was dumped by {header.language} {header.python}, here is {language} {_python()}, and compiled functions do "
            "not cross versions; restore it where that version runs"
        )
    if header.digest(content) != header.sha256:
        raise _wrong("its checksum does not fit its content: it is damaged")
    end, files = header.pickled, {}
    for name, size in header.files:
        files[name] = content[end : end + size]
        end += size
    return Dump(header.imports, content[: header.pickled], files)


def _joined(header: Header, content: bytes) -> bytes:
    text = msgspec.json.encode(header)
    return b"".join((_MAGIC, _LENGTH.pack(len(text)), text, content))


def _taken_apart(data: bytes) -> tuple[Header, bytes]:
    start = len(_MAGIC) + _LENGTH.size
    if not data.startswith(_MAGIC) or len(data) < start:
        raise _wrong("these bytes are none: what session.dump() gives begins with 'dspex-session'")
    (length,) = _LENGTH.unpack_from(data, len(_MAGIC))
    try:
        header = msgspec.json.decode(data[start : start + length], type=Header)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise _wrong(f"its header cannot be read: {error}") from None
    if header.version != _VERSION:
        raise _wrong(f"it has version {header.version} of the layout; this dspex reads {_VERSION}")
    content = data[start + length :]
    sizes = [header.pickled, *(size for _, size in header.files)]
    if min(sizes) < 0 or sum(sizes) != len(content):
        raise _wrong(f"it is cut off: {len(content):,} bytes follow its header, which names {sum(sizes):,}")
    return header, content


def _wrong(cause: str) -> StateFormatError:
    return StateFormatError(cause, source="the dumped session")


def _python() -> str:
    return f"{sys.version_info.major}.{sys.version_info.minor}"
