"""The Rust guest: makes the program where nobody has yet, hands it to the host, and becomes what the host hands back.

Theory of operation. A request comes in one piece or in two. With the program beside it (a sealed memory file of this run's own;
nothing that a guest writes can be executed) the guest becomes it at once. Without, there is but the text: the compiler and the
linker run as children, the binary goes to the host, and only then come the variables, and the program beside them. So the host
has what it keeps before any of the program has run, and what compiles has seen no variable. The values stay in the channel,
descriptor 3: the program reads them, and is told in its environment how many bytes there are.

In between a second filter goes over the first, which refuses new processes: from there on only the program is left.
"""

from __future__ import annotations

import ctypes
import os
import struct
import subprocess
from typing import Any, Final, NoReturn

from . import rust_errors
from .speech import Failure, Speech

COMMON: Final = ()
_CHANNEL: Final = 3
_HEADER: Final = struct.Struct("@HP")
_SOURCE, _BINARY, _SAID = "program.rs", "program", "said"
_ENVIRONMENT: Final = {
    "PATH": "/usr/bin:/bin",
    "TMPDIR": "/run/sandbox/tmp",
    "LANG": "C.UTF-8",
}  # all that `env!` finds
_MOST: Final = 1 << 22  # bytes of what the compiler says
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
        told, program, rest = speech.receive_program()
        try:
            if program < 0:
                speech.keep("" if _settings["shared"] else "alone", _made(told))
                continue
            _enter(told)
            _refuse_processes()
            speech.ready()
            _become(
                program,
                channel,
                [*rest, _settings["value"], *(number for piece in told["inserted"] for number in piece)],
            )
        except Failure as failure:
            speech.fail(failure)


# --- Compiling ------------------------------------------------------------------------------------------------------------


def _made(told: dict[str, Any]) -> bytes:
    """The binary. Raises `Failure`, with what the compiler says."""
    place, home = os.environ["TMPDIR"], os.getcwd()
    with open(f"{place}/{_SOURCE}", "w", encoding="utf-8") as file:
        file.write(told["source"])
    command = [*_settings["compiler"], *told["flags"], "-o", _BINARY, _SOURCE]
    with open(f"{place}/{_SAID}", "w+b") as said:
        try:
            os.chmod(home, 0)  # the run's own files, which may be others the next time, are not compiled in
            done = subprocess.run(
                command,
                cwd=place,
                env=_ENVIRONMENT,
                stdout=subprocess.PIPE,  # its end is heard at once; without one, whether it is over is looked up every 50 ms
                stderr=said,
                check=False,
                timeout=_settings["patience"],
            )
        except subprocess.TimeoutExpired:
            text = f"the program took longer than {_settings['patience']:g} s to compile"
            raise Failure("timeout", "Timeout", text) from None
        except OSError as error:
            raise Failure("killed", "OSError", f"the compiler cannot be started: {error}") from None
        finally:
            os.chmod(home, 0o700)
        said.seek(0)
        words = said.read(_MOST).decode("utf-8", "replace")
    if done.returncode or not os.path.exists(f"{place}/{_BINARY}"):
        raise rust_errors.failure(words, done.returncode, told["code"], told["inserted"])
    size = os.path.getsize(f"{place}/{_BINARY}")
    if size > _settings["keeps"]:
        raise Failure("value_limit", "TooLarge", f"the binary takes {size:,} bytes, {_settings['keeps']:,} are allowed")
    with open(f"{place}/{_BINARY}", "rb") as file:
        binary = file.read()
    for name in (_SOURCE, _SAID, _BINARY):
        os.unlink(f"{place}/{name}")
    return binary


# --- Running --------------------------------------------------------------------------------------------------------------


def _enter(told: dict[str, Any]) -> None:
    os.environ.update(told["environment"])
    if told["directory"] is not None:
        os.makedirs(told["directory"], exist_ok=True)
        os.chdir(told["directory"])


def _become(program: int, channel: int, numbers: list[int]) -> NoReturn:
    if channel != _CHANNEL:
        if program == _CHANNEL:
            program = os.dup(program)
        os.dup2(channel, _CHANNEL)
    os.set_inheritable(_CHANNEL, True)
    os.set_inheritable(program, False)
    os.environ["DSPEX_REST"] = ",".join(map(str, numbers))
    os.execve(program, ["program"], dict(os.environ))


def _refuse_processes() -> None:
    """The second filter, over the first: from here on nothing starts a process."""
    header = ctypes.create_string_buffer(_HEADER.pack(len(_filter) // 8, ctypes.addressof(_filter)))
    if ctypes.CDLL(None, use_errno=True).syscall(_settings["seccomp"], 1, 0, header) != 0:
        raise Failure("killed", "OSError", f"{_NO_NEW_FILTER}: {os.strerror(ctypes.get_errno())}")
