"""`dspex run`: one program, from a file, the command line or standard input.

Its arguments are read by hand, and nothing is imported that this one run does not need: the whole process is to start,
run and end in a few times what the bare interpreter takes.
"""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Any

from dspex import CodeExecutor, ResourceLimits, SecurityPolicy
from dspex.errors import DspexError, UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from dspex import ExecutionResult

USAGE = """\
Usage: dspex run [OPTIONS] FILE | -c CODE | -

Run a program in a fresh sandbox. Its output goes to stdout and stderr, the value of its last expression follows.

  -c, --code CODE      the program itself
  --var NAME=JSON      a variable of the program; may be repeated
  --timeout SECONDS    wall time, also as 250ms, 2s, 1m
  --memory SIZE        as 256MB, 1GiB
  --policy FILE        a policy in TOML or JSON (tables `policy` and `limits`)
  --json               print the whole result as JSON
  -h, --help           this text

Exit status: 0 the program is fine, 1 it failed, 2 the engine or the usage failed.
"""
_VALUED = {"-c": "code", "--code": "code", "--var": "var", "--timeout": "timeout", "--memory": "memory"}
_VALUED["--policy"] = "policy"


class Options:
    """What the arguments say."""

    def __init__(self, arguments: list[str]) -> None:
        self.code: str | None = None
        self.file: str | None = None
        self.var: list[str] = []
        self.timeout: str | None = None
        self.memory: str | None = None
        self.policy: str | None = None
        self.json = False
        self.help = False
        self._read(arguments)

    def _read(self, arguments: list[str]) -> None:
        rest = iter(arguments)
        for argument in rest:
            name, equals, value = argument.partition("=") if argument.startswith("--") else (argument, "", "")
            if name in _VALUED:
                self._set(_VALUED[name], value if equals else _following(rest, name))
            elif argument in ("-h", "--help"):
                self.help = True
            elif argument == "--json":
                self.json = True
            elif argument.startswith("-") and argument != "-":
                raise UsageError(f"there is no option {argument}; `dspex run --help` shows them all")
            else:
                self._set("file", argument)
        if (self.code is None) == (self.file is None) and not self.help:
            raise UsageError("give one program: a FILE, or -c CODE, or - for standard input")

    def _set(self, name: str, value: str) -> None:
        if name == "var":
            self.var.append(value)
        elif getattr(self, name) is not None:
            raise UsageError(f"{name} is given twice: {getattr(self, name)!r} and {value!r}")
        else:
            setattr(self, name, value)


def _following(rest: Iterator[str], name: str) -> str:
    value = next(rest, None)
    if value is None:
        raise UsageError(f"{name} needs a value after it")
    return value


def run(arguments: list[str]) -> int:
    """The command; its exit status."""
    try:
        options = Options(arguments)
        if options.help:
            sys.stdout.write(USAGE)
            return 0
        result = _execute(options)
    except DspexError as error:
        sys.stderr.write(f"dspex: {error}\n")
        return 2
    except KeyboardInterrupt:
        sys.stderr.write("dspex: interrupted\n")
        return 2
    _print_json(result) if options.json else _print(result)
    return 0 if result.ok else 1


def _execute(options: Options) -> ExecutionResult:
    code = _source(options)
    variables = _variables(options.var)
    policy, limits = SecurityPolicy(), ResourceLimits()
    if options.policy is not None:
        from dspex._sandbox.policy import load_policy_file

        policy, limits = load_policy_file(options.policy)
    changes = {"memory": options.memory, "wall": options.timeout, "cpu": options.timeout}
    wanted = {name: value for name, value in changes.items() if value is not None}
    with CodeExecutor(policy=policy, limits=limits.replace(**wanted) if wanted else limits, max_concurrency=1) as executor:
        return executor.execute(code, variables)


def _source(options: Options) -> str:
    if options.code is not None:
        return options.code
    path = options.file or "-"
    try:
        if path == "-":
            data = sys.stdin.buffer.read()
        else:
            with open(path, "rb") as file:
                data = file.read()
    except OSError as error:
        raise UsageError(f"{path}: {os.strerror(error.errno or 0)}") from None
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UsageError(
            f"{path}: byte {error.start} (0x{data[error.start]:02x}) is no UTF-8; save the program as UTF-8"
        ) from None


def _variables(given: list[str]) -> dict[str, Any]:
    if not given:
        return {}
    import json

    variables = {}
    for entry in given:
        name, equals, text = entry.partition("=")
        if not equals:
            raise UsageError(f"--var {entry}: write it as name=json, for example --var n=3 or --var 's=\"text\"'")
        try:
            variables[name] = json.loads(text)
        except ValueError as error:
            raise UsageError(f"--var {name}: {text!r} is no JSON ({error}); a text needs quotes: '\"{text}\"'") from None
    return variables


def _print(result: ExecutionResult) -> None:
    sys.stdout.write(result.stdout)
    sys.stderr.write(result.stderr)
    failure = result.error
    if failure is None:
        shown = result.value_repr if result.value_repr is not None else _shown(result.value)
        sys.stdout.write(f"{shown}\n" if shown is not None else "")
        return
    sys.stdout.flush()
    trace = failure.traceback or f"{failure.type}: {failure.message}\n"
    sys.stderr.write(trace if trace.endswith("\n") else trace + "\n")
    sys.stderr.write(f"dspex: the program failed: {failure.kind}\n")


def _shown(value: object) -> str | None:
    return None if value is None else repr(value)


def _print_json(result: ExecutionResult) -> None:
    import json

    sys.stdout.write(json.dumps(result.to_dict(), default=repr, ensure_ascii=True) + "\n")
