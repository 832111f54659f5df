"""Problems: what a sample has to solve, and the program that shows whether it does."""

from __future__ import annotations

import hashlib
import os
from typing import NamedTuple

from dspex import languages
from dspex.errors import UsageError
from dspex.evaluation._lines import Line, read_lines

_FIELDS = ("task_id", "prompt", "entry_point", "test")
_SOLUTION = "canonical_solution"
_LANGUAGE = "language"
# How the function `check` of a test is called. Where a test of another language than Python has none, it is called by being there.
_CALLS = {"javascript": "await check({})", "typescript": "await check({})", "elixir": "check.({})"}


class Problem(NamedTuple):
    """One task: a prompt to be completed, the function that it defines, its test, and a right completion if known."""

    task_id: str
    prompt: str
    entry_point: str
    test: str
    canonical_solution: str | None = None
    language: str = "python"

    def program(self, completion: str) -> str:
        """The completed prompt, its test, and the call of the test."""
        call = _CALLS.get(self.language, "check({});" if self.language != "python" else "check({})")
        if self.language != "python" and "check" not in self.test:
            call = ""
        return f"{self.prompt}{completion}\n{self.test}\n{call.format(self.entry_point)}"


class Problems(NamedTuple):
    """The problems of a file by task, in the file's order, and the SHA-256 of its content in hexadecimal."""

    by_task: dict[str, Problem]
    digest: str


def _language(line: Line) -> str:
    """The line's language, which is known. Raises `UsageError`."""
    if _LANGUAGE not in line.fields:
        return "python"
    (language,) = line.texts(_LANGUAGE)
    if language not in languages.names():
        known = ", ".join(languages.names())
        raise UsageError(f"{line.place}: language is {language!r}; known are {known}")
    return language


def read_problems(path: str | os.PathLike[str]) -> Problems:
    """All problems of a file. Raises `UsageError` that names the file and line."""
    digest = hashlib.sha256()
    by_task: dict[str, Problem] = {}
    for line in read_lines(path, digest):
        solution = line.texts(_SOLUTION)[0] if line.fields.get(_SOLUTION) is not None else None
        task_id, prompt, entry_point, test = line.texts(*_FIELDS)
        problem = Problem(task_id, prompt, entry_point, test, solution, _language(line))
        if problem.task_id in by_task:
            raise UsageError(f"{line.place}: the task {problem.task_id!r} is in this file twice")
        by_task[problem.task_id] = problem
    if not by_task:
        raise UsageError(f"{os.fspath(path)}: there is no problem in this file")
    return Problems(by_task, digest.hexdigest())
