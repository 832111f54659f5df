"""ctypes prototypes, and the numbers of the system calls that have no wrapper in Python."""

from __future__ import annotations

import ctypes
import os
from typing import Final

from dspex._kernel.tables import AARCH64, X86_64

_LIBC: Final = ctypes.CDLL(None, use_errno=True)
_LIBC.syscall.restype = ctypes.c_long

MACHINE: Final = os.uname().machine
NUMBERS: Final = AARCH64 if MACHINE == "aarch64" else X86_64


def checked(result: int, doing: str) -> int:
    """`result` of a C call, or the `OSError` that it stands for, saying what was being done."""
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{doing}: {os.strerror(number)}")
    return result


def syscall(name: str, *arguments: object) -> int:
    """Call the system call `name` by its number on this machine; integers are passed as longs."""
    converted = [ctypes.c_long(a) if isinstance(a, int) else a for a in arguments]
    return checked(_LIBC.syscall(ctypes.c_long(NUMBERS[name]), *converted), name)


def libc() -> ctypes.CDLL:
    """The C library of this process, with errno kept."""
    return _LIBC
