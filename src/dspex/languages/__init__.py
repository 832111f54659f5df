"""Languages: what differs from one to the next, behind one small protocol (see `_base`)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dspex.errors import UnknownLanguageError

if TYPE_CHECKING:
    from dspex.languages._base import Language

AVAILABLE = ("python",)


def get(name: str) -> Language:
    """The language called `name`. Raises `UnknownLanguageError`, which lists those there are."""
    if name == "python":
        from dspex.languages._python import Python

        return Python()
    known = ", ".join(repr(n) for n in AVAILABLE)
    raise UnknownLanguageError(f"no language {name!r} is known; there is {known}")
