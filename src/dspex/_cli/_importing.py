"""Objects that a user names by an import path. Importing runs the user's code."""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
from typing import TYPE_CHECKING, Any

from dspex.errors import UsageError

if TYPE_CHECKING:
    from types import ModuleType


def imported(what: str) -> Any:
    """The object of `package.module:attribute` or `FILE.py:attribute`. Raises UsageError naming what went wrong."""
    place, _, name = what.rpartition(":")
    if not place or not name:
        raise UsageError(f"{what!r} names no object; write package.module:attribute or FILE.py:attribute")
    sys.path.insert(0, os.getcwd())  # as `python -m` has it
    try:
        found: Any = _of_file(place) if place.endswith(".py") else importlib.import_module(place)
        for part in name.split("."):
            found = getattr(found, part)
    except Exception as error:  # whatever the user's code raises
        raise UsageError(f"{what}: {type(error).__name__}: {error}") from error
    return found


def _of_file(path: str) -> ModuleType:
    name = os.path.abspath(path)  # which hides no module of another name
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise ImportError(f"{path} cannot be imported")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # where dataclasses look for the annotations of their fields
    spec.loader.exec_module(module)
    return module
