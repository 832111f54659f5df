"""Stores: where versions of states are kept. One protocol (`_store`), one file for each that there is.

    memory://                 this process                                              _memory
    file:///dir               a directory, readable by people                           _file
    sqlite:///file.db         one file, no server: the default                          _sqlite
    etcd://host:port/prefix   an etcd cluster: replicated                               _etcd, _etcd_client
    postgresql://host/db      a schema of a PostgreSQL server                           _postgres
    redis://host:port/0       keys under a prefix on a Redis server; rediss:// with TLS _redis

`encrypted` puts a store behind a key (`_encrypted`).

Others come by the entry point group `dspex.stores`: the name is the URL's scheme, the object is called with the URL.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.metadata
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from dspex.errors import UsageError
from dspex.stores._store import ABSENT as ABSENT
from dspex.stores._store import Change as Change
from dspex.stores._store import Damage as Damage
from dspex.stores._store import Entry as Entry
from dspex.stores._store import Store as Store
from dspex.stores._store import Traits as Traits
from dspex.stores._store import Write as Write

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ["ABSENT", "Change", "Damage", "Entry", "Store", "Traits", "Write", "encrypted", "open_store", "schemes"]


def open_store(url: str) -> Store:
    """The store at a URL, ready to use. Raises UsageError for a URL that names none, StoreError when it cannot open."""
    scheme, separator, _ = url.partition("://")
    if not separator:
        raise UsageError(f"{url!r} is no URL of a store; one looks like sqlite:///states.db, or {', '.join(schemes())}")
    opener = _OPENERS.get(scheme) or _registered(scheme)
    if opener is None:
        raise UsageError(f"no store is known for {scheme}://; there is {', '.join(schemes())}")
    return opener(url)


def encrypted(store: Store, key: bytes) -> Store:
    """A store around another, which then sees names of records, sizes and times, and nothing else in the clear.

    `key` is 32 random bytes. Closing it closes `store`. Raises UsageError for a key of another size, StoreError for one that
    does not open what is there, or for a store that was made without a key.
    """
    with _needs("encryption", "encryption"):
        from dspex.stores._encrypted import EncryptedStore
    return EncryptedStore(store, key)


def schemes() -> list[str]:
    """The URLs that can be opened, as `memory://`."""
    return sorted(f"{name}://" for name in {*_OPENERS, *(point.name for point in _points())})


def path_of(url: str) -> str:
    """The path in a URL: relative after three slashes, `sqlite:///states.db`, absolute after four, as SQLAlchemy has it."""
    parts = urlsplit(url)
    if parts.netloc or len(parts.path) < 2 or parts.query or parts.fragment:
        raise UsageError(f"{url!r} names no path; write {parts.scheme}:///relative or {parts.scheme}:////absolute")
    return unquote(parts.path[1:])


def _open_memory(url: str) -> Store:
    from dspex.stores._memory import MemoryStore

    return MemoryStore()


def _open_etcd(url: str) -> Store:
    with _needs("etcd"):
        from dspex.stores._etcd import open_etcd
    return open_etcd(url)


def _open_file(url: str) -> Store:
    from dspex.stores._file import FileStore

    return FileStore(path_of(url))


def _open_sqlite(url: str) -> Store:
    from dspex.stores._sqlite import SqliteStore

    return SqliteStore(path_of(url))


def _open_postgres(url: str) -> Store:
    with _needs("postgresql"):
        from dspex.stores._postgres import PostgresStore
    return PostgresStore(url)


def _open_redis(url: str) -> Store:
    with _needs("redis"):
        from dspex.stores._redis import RedisStore
    return RedisStore(url)


@contextlib.contextmanager
def _needs(extra: str, what: str = "") -> Iterator[None]:
    """Tell what to install for a store, or something else, whose library is not there."""
    try:
        yield
    except ModuleNotFoundError as error:
        raise UsageError(
            f"{what or f'a {extra} store'} needs {error.name}; install it with: pip install 'dspex[{extra}]'"
        ) from error


def _points() -> importlib.metadata.EntryPoints:
    return importlib.metadata.entry_points(group="dspex.stores")


def _registered(scheme: str) -> Callable[[str], Store] | None:
    for point in _points():
        if point.name == scheme:
            opener: Callable[[str], Store] = point.load()
            return opener
    return None


_OPENERS: dict[str, Callable[[str], Store]] = {
    "etcd": _open_etcd,
    "file": _open_file,
    "memory": _open_memory,
    "postgresql": _open_postgres,
    "redis": _open_redis,
    "rediss": _open_redis,
    "sqlite": _open_sqlite,
}
