"""The envelope around a state in a file: which version of the format wrote it, and its checksum.

    {"dspex": {"format": "1.0", "sha256": "..."}, "state": <packed tree>}

The checksum is that of the canonical form (`dspex.state.content_id`), not of the file: it is the same in every
format, a file may be reindented, and it also guards the decoder. Who writes a state by other means may leave it out.

Versions. A file of the same major version loads, whatever its minor; one of an older major is carried forward by
`MIGRATIONS`, one step for each major, on the packed tree; one of a newer major is refused.
"""

from __future__ import annotations

import hashlib
import re
from typing import TYPE_CHECKING, Any

from dspex.errors import StateFormatError
from dspex.state import _packed

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

VERSION = (1, 0)
HEADER, STATE = "dspex", "state"
MIGRATIONS: dict[int, Callable[[Any], Any]] = {}  # from a major version to the next; 1 is the first
_NUMBERS = re.compile(r"(\d{1,6})\.(\d{1,6})", re.ASCII)


def sealed(tree: Any) -> dict[str, Any]:
    """A packed tree in its envelope."""
    return {HEADER: {"format": "{}.{}".format(*VERSION), "sha256": _checksum(tree)}, STATE: tree}


def is_envelope(tree: Any) -> bool:
    """Whether a decoded file has an envelope.

    Raises StateFormatError for half of one: it is damage, and must not pass as somebody else's plain file. DSPy's own
    files always have the key `metadata`.
    """
    if type(tree) is not dict:
        return False
    keys = tree.keys()
    if keys == {HEADER, STATE}:
        return True
    if len(keys) == 2 and keys & {HEADER, STATE} and "metadata" not in keys:
        raise StateFormatError("the envelope is damaged: it has the keys 'dspex' and 'state'", place=", ".join(keys))
    return False


def opened(
    tree: dict[str, Any],
    *,
    version: tuple[int, int] = VERSION,
    migrations: Mapping[int, Callable[[Any], Any]] = MIGRATIONS,
) -> Any:
    """The packed tree inside an envelope, checked and brought to this version.

    Raises StateFormatError for a header that is none, a newer major version, a checksum that does not fit.
    """
    header, state = tree[HEADER], tree[STATE]
    written = _written(header)
    if written[0] > version[0]:
        raise StateFormatError(
            f"written as format {written[0]}.{written[1]}; this dspex reads up to {version[0]}.{version[1]}: update it",
            place="header",
        )
    if written <= version and header.keys() - {"format", "sha256"}:
        raise StateFormatError("the header has unknown entries", place="header")
    _verify(header, state)
    return _migrated(state, written[0], version[0], migrations)


def _written(header: Any) -> tuple[int, int]:
    text = header.get("format") if type(header) is dict else None
    numbers = _NUMBERS.fullmatch(text) if type(text) is str else None
    if numbers is None:
        raise StateFormatError("the header names no format version such as '1.0'", place="header")
    return int(numbers[1]), int(numbers[2])


def _verify(header: dict[str, Any], state: Any) -> None:
    if "sha256" in header and header["sha256"] != _checksum(state):
        raise StateFormatError("the checksum does not fit: the file was damaged or changed by hand", place="header")


def _checksum(tree: Any) -> str:
    return hashlib.sha256(_packed.deterministic(tree)).hexdigest()


def _migrated(state: Any, written: int, major: int, migrations: Mapping[int, Callable[[Any], Any]]) -> Any:
    for step in range(written, major):
        if step not in migrations:
            raise StateFormatError(f"format {written} is too old: nothing leads from {step} to {step + 1}", place="header")
        state = migrations[step](state)
    return state
