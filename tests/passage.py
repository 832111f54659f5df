"""Let every user of the machine come to a directory of the tests."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


def open_to_all(directory: Path) -> None:
    """Make `directory` and the parents that are in the way readable; one that others may enter already (/tmp) is let be."""
    for place in (directory, *directory.parents):
        mode = place.stat().st_mode & 0o7777
        if mode & 0o005 == 0o005:
            break
        place.chmod(mode | 0o055)
