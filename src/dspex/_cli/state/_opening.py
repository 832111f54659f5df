"""The store that a command works on."""

from __future__ import annotations

import os
from typing import Any

from dspex.errors import UsageError
from dspex.stores import path_of
from dspex.versions import StateManager

VARIABLE = "DSPEX_STORE"
KEY_VARIABLE = "DSPEX_STORE_KEY"
_ON_DISK = ("file", "sqlite")


def opened(url: str | None, *, new: bool = False, **options: Any) -> StateManager:
    """The manager of the store at `url`; only with `new` may that be one that is made now, as a typing error would.

    `options` are those of `StateManager`. Raises UsageError when no store is named, or none is there; StoreError.
    """
    if not url:
        raise UsageError(f"no store: name one with --store URL, as sqlite:///states.db, or set {VARIABLE}")
    if not new:
        check_there(url)
    return StateManager(url, key=_key(), **options)


def _key() -> bytes | None:
    """The key of an encrypted store, from the environment: an argument would be seen by everybody on the machine."""
    text = os.environ.get(KEY_VARIABLE)
    if not text:
        return None
    try:
        return bytes.fromhex(text)
    except ValueError:
        raise UsageError(f"{KEY_VARIABLE} must be a key as 64 hexadecimal digits") from None


def check_there(url: str) -> None:
    """Raise UsageError for the URL of a file or directory that does not exist."""
    scheme = url.partition("://")[0]
    if scheme in _ON_DISK and "://" in url and not os.path.exists(path := path_of(url)):
        raise UsageError(f"{url}: there is no store at {os.path.abspath(path)}; saving, sync and import make one")
