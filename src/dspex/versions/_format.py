"""Which format a store's records have: told when it is first opened, so that a newer one is never misread."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dspex.errors import MovedError, StoreError
from dspex.stores import ABSENT, Write
from dspex.versions import _records as records
from dspex.versions._records import FORMAT, FORMAT_KEY, FormatRecord

if TYPE_CHECKING:
    from dspex.stores import Store

_SEALED = b"\0dspex-sealed"  # how values of `dspex.stores._encrypted` begin


def check(store: Store) -> None:
    """Write the format into a new store. Raises StoreError for one of a newer dspex."""
    entry = store.read([FORMAT_KEY]).get(FORMAT_KEY)
    if entry is None:
        record = records.sealed(FORMAT_KEY, FormatRecord())
        try:
            store.write(Write(expect={FORMAT_KEY: ABSENT}, put={FORMAT_KEY: record}, note=b"[]"))
        except MovedError:
            check(store)
        return
    if entry.value.startswith(_SEALED):
        raise StoreError(f"{store!r} is encrypted; give its key: key=...")
    found = records.unsealed(FORMAT_KEY, entry.value, FormatRecord)
    if found.format > FORMAT:
        raise StoreError(
            f"{store!r} has format {found.format}, of a newer dspex; this one reads up to {FORMAT}: upgrade"
        )
