"""Files of programs: states, which are data, and whole programs, which are code and run when they are loaded.

A state file is read by `dspex.state`, which runs nothing. A whole program is a directory as DSPy writes it, `program.pkl` and
`metadata.json`; unpickling runs what is in it, so it is done only for who says `trust="code"`.
"""

from __future__ import annotations

import contextlib
import importlib
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from dspex._collection import no_collection
from dspex.errors import StateError, StateFormatError, UsageError
from dspex.modules._state import METADATA, metadata_of

if TYPE_CHECKING:
    import os
    from collections.abc import Iterator

    from dspex.modules._module import Module

_PROGRAM, _ABOUT = "program.pkl", "metadata.json"
_SUFFIX = ".pkl"


# --- states ---


def save_state(module: Module, path: str | os.PathLike[str], format: str | None, compression: str | None) -> None:
    """Write the state of a module, with its metadata; see `Module.save`."""
    from dspex.state import replace_file, write_file

    pickled = format is None and Path(path).suffix == _SUFFIX
    with no_collection():
        state = dict(module.dump_state(json_mode=not pickled, **_as_dspy(format)))
        state.setdefault(METADATA, metadata_of(module))
        if pickled:
            replace_file(path, _pickled(state, type(module).__name__))
        else:
            write_file(path, state, format=format, compression=compression)


def read_state(path: str | os.PathLike[str], *, allow_pickle: bool) -> Any:
    """The state in a file; see `Module.load`."""
    from dspex.state import read_file

    if Path(path).suffix != _SUFFIX:
        with no_collection():
            return read_file(path)
    if not allow_pickle:
        raise UsageError(f"{path}: loading a .pkl runs the code in it; allow_pickle=True says that you trust it")
    return _unpickled(Path(path))


# --- whole programs ---


def save_program(module: Any, path: str | os.PathLike[str], by_value: list[Any]) -> None:
    """Write code and state to a directory, which is made if it is not there; see `Module.save`."""
    from dspex.state import replace_file

    directory = Path(path)
    if directory.suffix:
        raise UsageError(f"{directory}: a whole program is saved to a directory, whose name has no suffix")
    if directory.exists() and not directory.is_dir():
        raise NotADirectoryError(f"{directory} is no directory")
    data = _pickled(module, type(module).__name__, by_value)
    about = metadata_of(module)
    about["dependency_versions"]["cloudpickle"] = _minor(_cloudpickle().__version__)
    directory.mkdir(parents=True, exist_ok=True)
    replace_file(directory / _PROGRAM, data)
    replace_file(directory / _ABOUT, json.dumps(about, indent=2, default=str).encode() + b"\n")


def load(path: str | os.PathLike[str], *, trust: Literal["code"] | None = None) -> Any:
    """A whole program, as `save(path, save_program=True)` wrote it; dspex's and DSPy's alike.

    Loading runs the code in it, and `trust="code"` says that you want that. Its state alone needs no trust:
    `module.save("state.json")` and `module.load("state.json")`.

    Raises UsageError without trust, StateFormatError naming the file when it is none, OSError when there is none.
    """
    if trust != "code":
        raise UsageError(
            f'{path}: loading a whole program runs the code in it; load(..., trust="code") says that you trust it'
        )
    return _unpickled(Path(path) / _PROGRAM)


# --- pickles ---


def _pickled(value: Any, name: str, by_value: list[Any] | None = None) -> bytes:
    cloudpickle = _cloudpickle()
    try:
        with _by_value(cloudpickle, by_value or []):
            data: bytes = cloudpickle.dumps(value)
    except Exception as error:
        raise StateError(
            f"{name} cannot be pickled: {type(error).__name__}: {error}; leave out the attribute, or save the state alone"
        ) from error
    return data


def _unpickled(path: Path) -> Any:
    data = path.read_bytes()
    cloudpickle = _cloudpickle()
    try:
        return cloudpickle.loads(data)
    except ImportError:
        raise  # its code is not here, which is no fault of the file's
    except Exception as error:
        raise StateFormatError(f"no pickle that loads: {type(error).__name__}: {error}", source=str(path)) from error


@contextlib.contextmanager
def _by_value(cloudpickle: Any, modules: list[Any]) -> Iterator[None]:
    with contextlib.ExitStack() as stack:
        for module in modules:
            cloudpickle.register_pickle_by_value(module)
            stack.callback(cloudpickle.unregister_pickle_by_value, module)
        yield


def _cloudpickle() -> Any:
    try:
        return importlib.import_module("cloudpickle")
    except ImportError:
        raise UsageError("whole programs and .pkl files need cloudpickle: pip install cloudpickle") from None


def _minor(version: str) -> str:
    return ".".join(version.split(".")[:2])


def _as_dspy(format: str | None) -> dict[str, bool]:
    """What DSPy's loader knows by DSPy's names; a class of DSPy's own has no such option, and needs none."""
    return {"like_dspy": True} if format == "dspy" else {}
