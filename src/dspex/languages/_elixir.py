"""Elixir, on the Erlang virtual machine that is installed."""

from __future__ import annotations

import glob
import json
import os
import re
import shutil
import signal
import subprocess
from typing import TYPE_CHECKING, Final, NamedTuple

from dspex.errors import PolicyError, SandboxStartError, UnknownLanguageError
from dspex.languages import _cache
from dspex.languages._base import Found, Runtime
from dspex.languages._foreign import Foreign, Start

if TYPE_CHECKING:
    from dspex._sandbox.limits import ResourceLimits
    from dspex._sandbox.policy import SecurityPolicy
    from dspex.languages._base import Request

_MIB: Final = 1 << 20
_GUEST: Final = os.path.join(os.path.dirname(os.path.abspath(__file__)), "guests", "elixir")
_INSTALL: Final = "apt-get install elixir"
# One scheduler of each kind, none that spins while it waits.
_FLAGS: Final = ("-S", "1:1", "-SDcpu", "1:1", "-SDio", "1", "-A", "1", "-sbwt", "none")
KEYWORDS: Final = frozenset(
    ("after", "and", "catch", "do", "else", "end", "false", "fn", "in", "nil", "not", "or", "rescue", "true", "when")
)


class _Installed(NamedTuple):
    """Where Elixir and the machine beneath it are."""

    erlang: str  # the root: bin, erts-VERSION, lib
    machine: str  # erts-VERSION/bin
    otp: str  # "25"
    elixir: str  # the root: bin, lib
    version: str

    @property
    def libraries(self) -> list[str]:
        """Elixir's own compiled modules, those of them that programs use."""
        return [os.path.join(self.elixir, "lib", name, "ebin") for name in ("elixir", "logger", "eex", "ex_unit")]


def find() -> _Installed | None:
    """What is on the path."""
    erl, elixir = shutil.which("erl"), shutil.which("elixir")
    if erl is None or elixir is None:
        return None
    erlang, home = (os.path.dirname(os.path.dirname(os.path.realpath(path))) for path in (erl, elixir))
    machines = sorted(glob.glob(os.path.join(erlang, "erts-*", "bin")))
    described = os.path.join(home, "lib", "elixir", "ebin", "elixir.app")
    if not machines or not os.path.exists(described):
        return None
    with open(described, encoding="utf-8") as file:
        version = re.search(r'{vsn,\s*"([^"]+)"}', file.read())
    with open(os.path.join(erlang, "releases", "start_erl.data"), encoding="utf-8") as file:
        otp = file.read().split()[1]
    return _Installed(erlang, machines[-1], otp, home, version[1] if version else "?")


class Elixir(Foreign):
    """Elixir, one machine for each fresh run, started ahead."""

    name = "elixir"
    dialect = "elixir"  # which of the guest's readers
    keywords = KEYWORDS
    checks = True
    largest = 1 << 62
    carried = (Foreign.carried | {"date", "datetime"}) - {"float"}
    runtime = Runtime(
        announces=True,
        executes=True,
        children=True,
        data=2048 * _MIB,
        threads=16,
        open_files=32,
        interrupt=signal.SIGUSR2,
        last_words=(
            ("Cannot allocate", "memory_limit"),
            ("Cannot reallocate", "memory_limit"),
            ("Failed to write to erl_child_setup", "policy"),
            ("no more index entries in atom_tab", "memory_limit"),
        ),
    )

    def __init__(self) -> None:
        found = find()
        if found is None:
            raise UnknownLanguageError(f"no elixir with its erl is on the path; install them: {_INSTALL}")
        self._installed = found

    @staticmethod
    def runtimes() -> list[Found]:
        """What there is of Elixir on this machine."""
        found = find()
        if found is None:
            return [Found("beam", "", "", _INSTALL)]
        return [
            Found("beam", f"{found.version} on OTP {found.otp}", os.path.join(found.elixir, "bin", "elixir"), _INSTALL)
        ]

    def name_fault(self, name: object) -> str:
        """See `Foreign.name_fault`."""
        if isinstance(name, str) and re.match(r"[A-Z]", name):
            return "is not a name of a variable in elixir: begin with a small letter or _"
        return super().name_fault(name)

    def extras(self, request: Request) -> dict[str, object]:
        """See `Foreign.extras`."""
        return {"session": request.session}

    def start(self, policy: SecurityPolicy, limits: ResourceLimits, level: str) -> Start:
        """See `Foreign.start`."""
        if policy.subprocesses:
            raise PolicyError(
                f"subprocesses: the machine of {self.name} starts programs by a system call that no guest may make; "
                "give the program a tool that starts them"
            )
        found, guest = self._installed, self._compiled()
        argv = [
            *(os.path.join(found.machine, "beam.smp"), *_FLAGS, "--", "-root", found.erlang, "-bindir", found.machine),
            *(
                "-progname",
                "erl",
                "--",
                "-home",
                "/run/sandbox/work",
                "--",
                "-noshell",
                "-noinput",
                "-boot",
                "start_clean",
            ),
            *(word for path in (*found.libraries, guest) for word in ("-pa", path)),
            *("-s", "Elixir.Dspex.Guest", "main"),
        ]
        settings = {
            "dialect": self.dialect,
            "value": limits.value,
            "memory": limits.memory,
            "modules": policy.forbidden_modules,
            "calls": policy.forbidden_calls,
        }
        environment = {
            "DSPEX_GUEST": json.dumps(settings),
            "ROOTDIR": found.erlang,
            "BINDIR": found.machine,
            "EMU": "beam",
            "PROGNAME": "erl",
            "ERL_CRASH_DUMP_SECONDS": "0",
        }
        return Start.of_program(argv, (found.erlang, found.elixir, guest), environment)

    def _compiled(self) -> str:
        """The directory of the guest's modules, compiled for this Elixir once."""
        sources = sorted(glob.glob(os.path.join(_GUEST, "*.ex")))
        contents: list[bytes | str] = [self._installed.version, self._installed.otp]
        for source in sources:
            with open(source, "rb") as file:
                contents.append(file.read())
        return _cache.directory("elixir", _cache.key(contents), lambda place: self._compile(sources, place))

    def _compile(self, sources: list[str], place: str) -> None:
        compiler = os.path.join(self._installed.elixir, "bin", "elixirc")
        done = subprocess.run(
            [compiler, "-o", place, *sources], capture_output=True, text=True, check=False, timeout=120
        )
        if done.returncode:
            raise SandboxStartError(f"the guest for elixir cannot be compiled: {done.stdout}{done.stderr}".strip())
