"""The results file: one line for each judged sample, in the samples' order.

Theory of operation. A verdict is in the file, by one write, before the next one is looked at. Beside the file stands
`*.progress.json` with the digests of the samples and the problems and the options that count: the *inputs*. A later call
with the same inputs keeps the whole lines, cuts off a torn last one, and goes on behind them; with other inputs it is
refused, so that verdicts of two kinds never meet in one file. An advisory lock keeps two calls from writing at once.
"""

from __future__ import annotations

import fcntl
import json
import os
from typing import TYPE_CHECKING, Any

from dspex.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from dspex.evaluation._judge import Verdict

_WAY_OUT = "name another file with --out, or write it anew with --no-resume"


class ResultsFile:
    """An open results file. A context manager; leaving it makes the lines durable."""

    def __init__(self, path: str | os.PathLike[str], inputs: Mapping[str, Any], *, resume: bool = True) -> None:
        """Open or create. Raises `UsageError` when the file belongs to other inputs or is being written."""
        self.path = os.fspath(path)
        self._progress = f"{self.path}.progress.json"
        try:
            self._file = open(self.path, "a+b", buffering=0)  # noqa: SIM115  (closed by __exit__)
        except OSError as error:
            raise UsageError(f"{self.path}: {error.strerror}") from None
        try:
            self._begin(dict(inputs), resume)
        except BaseException:
            self._file.close()
            raise

    def _begin(self, inputs: dict[str, Any], resume: bool) -> None:
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise UsageError(f"{self.path}: another process is writing this file") from None
        if os.path.getsize(self.path):
            if resume:
                self._check(inputs)
                return
            self._file.truncate(0)
        _write_whole(self._progress, json.dumps(inputs, indent=2) + "\n")

    def _check(self, inputs: dict[str, Any]) -> None:
        try:
            with open(self._progress, encoding="utf-8") as file:
                found = json.load(file)
        except (OSError, ValueError):
            raise UsageError(
                f"{self.path}: there are results in this file, but {self._progress} does not say of what; {_WAY_OUT}"
            ) from None
        if found != inputs:
            raise UsageError(f"{self.path}: the results in this file are of {_difference(found, inputs)}; {_WAY_OUT}")

    def kept(self) -> Iterator[dict[str, Any]]:
        """The lines that are there already. When the last one has been taken, a torn one behind it is cut off."""
        end = 0
        with open(self.path, "rb") as file:
            for data in file:
                fields = _whole_line(data)
                if fields is None:
                    break
                end += len(data)
                yield fields
        self._file.truncate(end)

    def add(self, verdict: Verdict) -> None:
        """Append one verdict; the kernel has it when this returns. Raises `UsageError` when the disk is full."""
        data = memoryview(json.dumps(verdict.to_dict()).encode() + b"\n")
        try:
            while data:
                data = data[self._file.write(data) :]
        except OSError as error:
            raise UsageError(f"{self.path}: {error.strerror}; the same call goes on from the last whole line") from None

    def __enter__(self) -> ResultsFile:
        return self

    def __exit__(self, *_: object) -> None:
        os.fsync(self._file.fileno())
        self._file.close()


def _whole_line(data: bytes) -> dict[str, Any] | None:
    """A line of ours; None for what a stopped call left of one."""
    try:
        fields = json.loads(data)
    except ValueError:
        return None
    ours = isinstance(fields, dict) and isinstance(fields.get("result"), str) and isinstance(fields.get("task_id"), str)
    return fields if ours and data.endswith(b"\n") else None


def _difference(found: object, inputs: dict[str, Any]) -> str:
    """What is different, in words."""
    if not isinstance(found, dict):
        return "other inputs"
    names = [name for name in {**inputs, **found} if found.get(name) != inputs.get(name)]
    digests = {"samples": "other samples", "problems": "other problems"}
    return " and ".join(digests.get(name, f"{name} {found.get(name)}, not {inputs.get(name)}") for name in names)


def _write_whole(path: str, text: str) -> None:
    """Write a file so that it is there whole or not at all."""
    part = f"{path}.part"
    try:
        with open(part, "w", encoding="utf-8") as file:
            file.write(text)
        os.replace(part, path)
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror}") from None
