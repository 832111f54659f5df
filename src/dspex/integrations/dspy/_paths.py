"""Files and environment variables of the host that a program may see, as DSPy's keywords name them.

DSPy has files in /sandbox. So they lie in a folder of that name, which the guest's root has a link to, and in which the
program begins.
"""

from __future__ import annotations

import copy
import os
from pathlib import Path
from typing import TYPE_CHECKING, Final

from dspy.primitives.code_interpreter import CodeInterpreterError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from dspex.execution._files import ResultFile

_FOLDER: Final = "sandbox"


class Paths:
    """What goes in with the first call, and which files come back after each."""

    def __init__(
        self,
        readable: Iterable[os.PathLike[str] | str] | None,
        writable: Iterable[os.PathLike[str] | str] | None,
        variables: Iterable[str] | None,
        sync: bool,
    ) -> None:
        self._writable = _by_name(writable or ())
        self._all = _by_name([*(readable or ()), *(writable or ())])
        self._variables = [str(name).strip() for name in variables or ()]
        self._sync = sync

    def files(self) -> dict[str, str | os.PathLike[str] | bytes]:
        """Names in the working directory, to paths; one that is to be written need not be there."""
        for path in self._writable.values():
            path.touch()
        return {f"{_FOLDER}/{name}": path for name, path in self._all.items()}

    def apart(self) -> Paths:
        """The same for a branch, which writes nothing back."""
        branch = copy.copy(self)
        branch._sync = False
        return branch

    @property
    def directory(self) -> str | None:
        """Where the program begins; None for its usual place, where there are no files."""
        return _FOLDER if self._all else None

    def environment(self) -> dict[str, str]:
        """Those variables of the environment that were named and are there."""
        return {name: os.environ[name] for name in self._variables if name in os.environ}

    def write_back(self, changed: Mapping[str, ResultFile]) -> None:
        """Save what the program changed in files that it may write."""
        if self._sync and self._writable:
            for name, path in self._writable.items():
                if (file := changed.get(f"{_FOLDER}/{name}")) is not None:
                    file.save(path)


def _by_name(paths: Iterable[os.PathLike[str] | str]) -> dict[str, Path]:
    found: dict[str, Path] = {}
    for path in paths:
        name, real = os.path.basename(os.fspath(path)), Path(os.path.realpath(os.path.expanduser(os.fspath(path))))
        if found.setdefault(name, real) != real:
            raise CodeInterpreterError("Mounted files must have unique basenames inside the sandbox.")
    return found
