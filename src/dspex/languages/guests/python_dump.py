"""A session's names as bytes, and back. Runs inside: what comes out of here is unpickled in a guest only, never by the host.

Theory of operation. One pickle holds all names of `__main__`, so what they share stays shared. Functions and classes of the
program's own are carried whole, by cloudpickle, whose source the host sends along and which the bytes hold in turn: both ends
have the same one. It would give each function globals of its own; here those of `__main__` are named instead of copied, so a
function that is carried sees the names of the session that it comes to, as it did in the one that it came from.
"""

from __future__ import annotations

import io
import linecache
import os
import pickle
import struct
import sys
import types
import zlib
from typing import Any, Final

_LENGTH: Final = struct.Struct("<I")
_LIBRARY: Final = "_dspex_cloudpickle"  # not the name under which a program may have its own
_MAIN: Final = "names"  # stands for the names of `__main__`
_MOST_SHOWN: Final = 10


class CannotBeDumped(TypeError):  # noqa: N818  (its name is shown to the author of the program)
    """Some names hold what is no data: open files, threads, generators, sockets."""

    __module__ = "builtins"


def dump(names: dict[str, Any], source: str, without: frozenset[str], cells: int, home: str) -> bytes:
    """All names but those `without`, and the texts of the cells that they came from. Raises `CannotBeDumped`."""
    library = _library(source)
    aside = {name: names.pop(name) for name in (without | {"__builtins__"}) & names.keys()}
    try:
        held = {
            "names": dict(names),
            "cells": cells,
            "texts": {name: linecache.cache[name] for name in linecache.cache if name.startswith("<program")},
            "directory": os.path.relpath(os.getcwd(), home),
        }
        pickled = _pickled(library, names, held)
    finally:
        names.update(aside)
    packed = zlib.compress(source.encode())
    return _LENGTH.pack(len(packed)) + packed + pickled


def load(names: dict[str, Any], data: bytes, home: str) -> int:
    """Bind the names that were dumped; how many cells there had been."""
    (length,) = _LENGTH.unpack_from(data)
    end = _LENGTH.size + length
    _library(zlib.decompress(data[_LENGTH.size : end]).decode())
    os.chdir(home)
    held = _Unpickler(io.BytesIO(data[end:]), names).load()
    os.makedirs(os.path.join(home, held["directory"]), exist_ok=True)
    os.chdir(os.path.join(home, held["directory"]))
    names.update(held["names"])
    linecache.cache.update(held["texts"])
    cells: int = held["cells"]
    return cells


def _pickled(library: Any, names: dict[str, Any], held: dict[str, Any]) -> bytes:
    try:
        return _attempt(library, names, held)
    except Exception as error:
        found = {name: _reason(library, names, value) for name, value in held["names"].items()}
        wrong = [f"{name} ({reason})" for name, reason in found.items() if reason]
        shown = ", ".join(wrong[:_MOST_SHOWN]) + (
            f" and {len(wrong) - _MOST_SHOWN} more" if wrong[_MOST_SHOWN:] else ""
        )
        raise CannotBeDumped(shown or str(error)) from None


def _reason(library: Any, names: dict[str, Any], value: object) -> str:
    """Why one value cannot be carried; empty when it can."""
    try:
        _attempt(library, names, value)
    except Exception as error:
        return str(error)[:200] or type(error).__name__
    return ""


def _attempt(library: Any, names: dict[str, Any], value: object) -> bytes:
    class Pickler(library.Pickler):  # type: ignore[misc]
        def persistent_id(self, found: object) -> str | None:
            return _MAIN if found is names else None

    target = io.BytesIO()
    pickler = Pickler(target, protocol=5)
    pickler.globals_ref[id(names)] = names
    pickler.dump(value)
    return target.getvalue()


class _Unpickler(pickle.Unpickler):
    def __init__(self, file: io.BytesIO, names: dict[str, Any]) -> None:
        super().__init__(file)
        self._names = names

    def persistent_load(self, identity: str) -> dict[str, Any]:
        """The names of `__main__`, whoever they were."""
        return self._names


def _library(source: str) -> types.ModuleType:
    if _LIBRARY not in sys.modules:
        module = types.ModuleType(_LIBRARY)
        module.__package__ = ""
        sys.modules[_LIBRARY] = module
        exec(compile(source, f"<{_LIBRARY}>", "exec"), module.__dict__)
    return sys.modules[_LIBRARY]
