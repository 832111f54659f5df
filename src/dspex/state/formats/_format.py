"""What a file format is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable


@dataclass(frozen=True)
class Format:
    """A way to write a tree of None, bool, int, float, str, list, dict, and bytes below `$bytes`.

    `recognises` looks at the first bytes only. `loads` raises StateFormatError for everything that `dumps` or another
    faithful writer cannot have written, a key that stands twice too. `bare` formats have no envelope when written;
    of formats that are read `foreign`, a file without one is taken as it is.
    """

    name: str
    suffixes: tuple[str, ...]
    dumps: Callable[[Any], bytes]
    loads: Callable[[bytes], Any]
    recognises: Callable[[bytes], bool]
    bare: bool = False
