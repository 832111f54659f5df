"""The Rust guest: compiles a program where nobody has yet, hands the binary to the host, and becomes it.

Theory of operation. One process does both. It may start others (the compiler, the linker) until the binary is there; the host
is given that before any of the program has run, so a program can have no part in what is kept under its name; and it is run from
where the host keeps it, for nothing that a guest writes can be executed. Then a second
filter goes over the first, which refuses new processes, and the process becomes the program: its channel is descriptor 3, its
variables lie in a file on descriptor 4. What was compiled before is found by its name beneath a directory that cannot be listed.
"""

from __future__ import annotations

import ctypes
import json
import os
import struct
import subprocess
import time
from typing import Any, Final, NoReturn

from .speech import Failure, Speech

COMMON: Final = ()
_CHANNEL, _GIVEN = 3, 4
_PLACE: Final = struct.Struct("<Q")
_SOURCE, _BINARY = "/run/sandbox/tmp/program.rs", "/run/sandbox/tmp/program"
_HEADER: Final = struct.Struct("@HP")
_PATIENCE: Final = 10.0  # seconds for the host to write a file
_NO_NEW_FILTER: Final = "the second filter could not be put in place"

_settings: dict[str, Any] = {}
_filter: Any = None


def prepare(profile: dict[str, Any]) -> None:
    """In the zygote: what every compilation has in common, and the second filter."""
    global _filter
    _settings.update(profile)
    program = bytes.fromhex(profile["filter"])
    _filter = ctypes.create_string_buffer(program, len(program))
    ctypes.CDLL(None, use_errno=True).syscall  # noqa: B018  (looked up here, so that no guest has to)


def reseed() -> None:
    """Nothing: programs have no random numbers but the kernel's."""


def main(channel: int) -> NoReturn:
    """In a guest: take one program, and become it."""
    speech = Speech(channel, _settings["value"])
    while True:
        told, values, buffers = speech.receive_raw()
        try:
            if told["keep"] or not os.path.exists(told["binary"]):
                _hand_over(speech, told, _compiled(told))
            _enter(told)  # not before: what a run's environment is may not be compiled in
            _become(told["binary"], channel, values, buffers)
        except Failure as failure:
            speech.fail(failure)


def _enter(told: dict[str, Any]) -> None:
    os.environ.update(told["environment"])
    if told["directory"] is not None:
        os.makedirs(told["directory"], exist_ok=True)
        os.chdir(told["directory"])


# --- Compiling ------------------------------------------------------------------------------------------------------------


def _compiled(told: dict[str, Any]) -> str:
    """The path of the binary. Raises `Failure`, with what the compiler says."""
    with open(_SOURCE, "w", encoding="utf-8") as file:
        file.write(told["source"])
    command = [*_settings["compiler"], *told["flags"], "-o", _BINARY, _SOURCE]
    done = subprocess.run(command, cwd="/run/sandbox/tmp", capture_output=True, check=False, close_fds=True)
    if done.returncode or not os.path.exists(_BINARY):
        raise _unreadable(done.stderr.decode("utf-8", "replace"), done.returncode, told["prefix"])
    return _BINARY


def _hand_over(speech: Speech, told: dict[str, Any], binary: str) -> None:
    """Until the host has put the binary where it can be executed. Raises `Failure` when it does not."""
    path, size = told["binary"], os.path.getsize(binary)
    if size > _settings["keeps"]:
        raise Failure("value_limit", "TooLarge", f"the binary takes {size:,} bytes, {_settings['keeps']:,} are allowed")
    with open(binary, "rb") as file:
        speech.keep(told["keep"], file.read())
    os.unlink(binary)
    end = time.monotonic() + _PATIENCE
    while not os.path.exists(path):
        if time.monotonic() > end:
            raise Failure("killed", "NotKept", "the host did not take what was compiled: its cache may be full")
        time.sleep(0.0005)


def _unreadable(said: str, status: int, prefix: int) -> Failure:
    errors = [message for message in _messages(said) if message["level"].startswith("error")]
    if not errors:
        if status < 0 or "memory allocation" in said:
            return Failure("memory_limit", "MemoryError", "the compiler needed more memory than the program's limit")
        return Failure("syntax", "error", f"the compiler ended with status {status}: {said[-2000:]}")
    first = errors[0]
    code = (first.get("code") or {}).get("code")
    line, column = _place(first, prefix)
    shown = "".join(error.get("rendered") or "" for error in errors).replace(_SOURCE, "<program>")
    kind = f"error[{code}]" if code else "error"
    return Failure("syntax", kind, first["message"], line=line, column=column, trace=_without_ours(shown))


def _messages(said: str) -> list[dict[str, Any]]:
    found = []
    for row in said.splitlines():
        if row.startswith("{"):
            try:
                message = json.loads(row)
            except ValueError:
                continue
            if message.get("$message_type", "diagnostic") == "diagnostic" and "level" in message:
                found.append(message)
    return found


def _place(message: dict[str, Any], prefix: int) -> tuple[int | None, int | None]:
    for span in message.get("spans", ()):
        if span.get("is_primary"):
            line, column = span["line_start"], span["column_start"]
            return line, max(1, column - prefix) if line == 1 else column
    return None, None


def _without_ours(text: str) -> str:
    """Without what the engine wrote in front of the first line."""
    return text.replace(_settings["opening"], "")


# --- Running --------------------------------------------------------------------------------------------------------------


def _become(binary: str, channel: int, values: bytes, buffers: bytes) -> NoReturn:
    path = f"{os.environ['TMPDIR']}/given"
    with open(path, "wb") as file:
        file.write(_PLACE.pack(len(values)) + values + buffers)
    given = os.open(path, os.O_RDONLY)
    os.unlink(path)
    os.dup2(given, _GIVEN, inheritable=True)
    if channel != _CHANNEL:
        os.dup2(channel, _CHANNEL)
    os.set_inheritable(_CHANNEL, True)
    for number in range(5, 64):
        try:
            os.close(number)
        except OSError:
            continue
    _refuse_processes()
    os.execve(binary, ["program"], dict(os.environ))


def _refuse_processes() -> None:
    """The second filter, over the first: from here on nothing starts a process."""
    header = ctypes.create_string_buffer(_HEADER.pack(len(_filter) // 8, ctypes.addressof(_filter)))
    if ctypes.CDLL(None, use_errno=True).syscall(_settings["seccomp"], 1, 0, header) != 0:
        raise Failure("killed", "OSError", f"{_NO_NEW_FILTER}: {os.strerror(ctypes.get_errno())}")
