"""Perl for dspex: a whole language in one class and one guest program."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from typing import TYPE_CHECKING

from dspex.errors import UnknownLanguageError
from dspex.languages import Foreign, Found, Runtime, Start

if TYPE_CHECKING:
    from dspex import ResourceLimits, SecurityPolicy

GUEST = os.path.join(os.path.dirname(os.path.abspath(__file__)), "guest.pl")
INSTALL = "apt-get install perl"
MODULES = ("-MB", "-MErrno", "-MTime::HiRes", "-MEncode")  # of the guest; Debian's perl-base lacks some


class Perl(Foreign):
    """Perl 5.36 or later, one interpreter for each fresh run, started ahead."""

    name = "perl"
    carried = frozenset()  # no tags: what JSON cannot say exactly is refused, with the variable's name
    largest = (1 << 63) - 1
    runtime = Runtime(announces=True, executes=True, last_words=(("Out of memory", "memory_limit"),))

    def __init__(self) -> None:
        if not self.runtimes()[0].version:
            raise UnknownLanguageError(f"no perl of version 5.36 or later is on the path; install one: {INSTALL}")

    @staticmethod
    def runtimes() -> list[Found]:
        """What there is of Perl on this machine."""
        path = shutil.which("perl")
        said = (
            subprocess.run([path, *MODULES, "-e", "print $^V"], capture_output=True, text=True, check=False).stdout
            if path
            else ""
        )
        found = re.fullmatch(r"v(5\.(\d+)\.\d+)", said)
        return [Found("perl", found[1] if found and int(found[2]) >= 36 else "", path or "", INSTALL)]

    def start(self, policy: SecurityPolicy, limits: ResourceLimits, level: str) -> Start:
        """See `Foreign.start`: what a confined process becomes, and what of the host it sees besides."""
        perl = os.path.realpath(shutil.which("perl") or "")
        libraries = [path for path in ("/usr/share/perl", "/usr/share/perl5", "/etc/perl") if os.path.isdir(path)]
        return Start.of_program([perl, GUEST], [perl, GUEST, *libraries], {"DSPEX_VALUE": str(limits.value)})
