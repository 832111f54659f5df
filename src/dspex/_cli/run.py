"""`dspex run`: one program in a fresh sandbox.

On this path nothing is imported that this one run does not need: the whole process is to start, run and end in a few times
what the bare interpreter takes.
"""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Any

from dspex import CodeExecutor, languages
from dspex._cli._limits import confinement
from dspex._cli._show import show, to_json
from dspex.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from dspex.execution._result import ExecutionResult


def run(
    file: str | None = None,
    *,
    code: str | None = None,
    language: str | None = None,
    var: Sequence[str] = (),
    timeout: str | None = None,
    memory: str | None = None,
    policy: str | None = None,
    isolation: str | None = None,
    as_json: bool = False,
    save_displays: str | None = None,
) -> int:
    """Run and show; 0 when the program is fine, 1 when it failed. Raises `DspexError`."""
    if (file is None) == (code is None):
        raise UsageError("give one program: a FILE, or -c CODE, or - for standard input")
    source = _source(file) if file is not None else _checked(code or "")
    variables = _variables(var)
    language = language or _language_of(file)
    allowed, limits = confinement(policy, timeout, memory)
    executor = CodeExecutor(language, policy=allowed, limits=limits, isolation=isolation, max_concurrency=1)
    result = executor.execute(source, variables)
    if result.isolation.level != "namespaces":
        executor.close()  # there, files of the host's are to be cleared away; else all ends with this process by itself
    if save_displays is not None:
        _save(result, save_displays)
    if as_json:
        import json

        sys.stdout.write(json.dumps(to_json(result)) + "\n")
    else:
        show(result, "<stdin>" if file == "-" else file or "")
    return 0 if result.ok else 1


def _language_of(file: str | None) -> str:
    """The language that a file's name says; Python for what says none."""
    suffix = os.path.splitext(file or "")[1]
    return languages.SUFFIXES.get(suffix.lower(), "python")


def _save(result: ExecutionResult, directory: str) -> None:
    from dspex.execution._displays import save

    try:
        save(result.displays, directory)
    except OSError as error:
        raise UsageError(f"--save-displays {directory}: {error.strerror}") from None


def _source(file: str) -> str:
    try:
        if file == "-":
            data = sys.stdin.buffer.read()
        else:
            with open(file, "rb") as opened:
                data = opened.read()
    except OSError as error:
        raise UsageError(f"{file}: {error.strerror}") from None
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        byte = f"0x{data[error.start]:02x}"
        raise UsageError(f"{file}: line {line}: byte {byte} is not UTF-8; save the program as UTF-8") from None


def _checked(code: str) -> str:
    """The argument; bytes of the command line that are no text would come as lone surrogates."""
    try:
        code.encode()
    except UnicodeEncodeError:
        raise UsageError("-c: the program is not UTF-8") from None
    return code


def _variables(given: Sequence[str]) -> dict[str, Any]:
    variables: dict[str, Any] = {}
    for entry in given:
        name, equals, text = entry.partition("=")
        if not equals:
            raise UsageError(f"--var {entry}: write it as name=json, for example --var n=3 or --var 's=\"text\"'")
        if name in variables:
            raise UsageError(f"--var {name}: it is given twice")
        variables[name] = _parsed(name, text)
    return variables


def _parsed(name: str, text: str) -> Any:
    import json

    try:
        return json.loads(text)
    except RecursionError:
        raise UsageError(f"--var {name}: the JSON is nested too deeply") from None
    except ValueError as error:
        hint = f"; text needs quotes: --var '{name}=\"{text}\"'" if text.isidentifier() else ""
        raise UsageError(f"--var {name}: {text!r} is no JSON ({error}){hint}") from None
