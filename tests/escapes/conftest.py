"""One driver process for each kind of host, for all tests of this directory."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from passage import open_to_all

_TESTS = Path(__file__).parent.parent
_SOURCE = _TESTS.parent / "src"
_AS_ORDINARY = ("setpriv", "--reuid=1000", "--regid=1000", "--clear-groups")
HOSTS = ("root", "user", "container", "user-container") if os.geteuid() == 0 else ("user", "container")


def _interpreter(host: str) -> str:
    """This interpreter, or Debian's where an ordinary user may not enter this one's directory."""
    if "user" not in host or os.geteuid() != 0:
        return sys.executable
    for path in (sys.executable, "/usr/bin/python3"):
        can = subprocess.run([*_AS_ORDINARY, "test", "-x", os.path.realpath(path)], check=False)
        if can.returncode == 0:
            return path
    raise RuntimeError("no interpreter that an ordinary user may run; install python3")


class Driver:
    """A driver process, and the source that it runs, where it can be read."""

    def __init__(self, host: str, source: str) -> None:
        python = _interpreter(host)
        command = [python, f"{source}/escapes/driver.py"]
        if "container" in host:
            command = [python, f"{source}/container.py", *command]
        if "user" in host and os.geteuid() == 0:
            command = [*_AS_ORDINARY, *command]
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd="/",
            env={
                "PYTHONPATH": f"{source}:{source}/src:{source}/site-packages",
                "PATH": os.environ["PATH"],
                "SECRET_OF_THE_HOST": "s3cret",
            },
        )

    def run(self, job: dict) -> dict:
        self._process.stdin.write(json.dumps(job) + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        assert line, "the driver is gone"
        return json.loads(line)

    def close(self) -> None:
        self._process.stdin.close()
        self._process.stdout.close()
        self._process.wait(30)


def _copy_packages(target: Path) -> None:
    """What a network needs on the host's side, where an interpreter of the system's has none of it."""
    for name in ("certifi", "cryptography", "h11", "_cffi_backend"):
        spec = importlib.util.find_spec(name)
        if spec is None or spec.origin is None:
            continue
        source = Path(spec.origin)
        if source.name == "__init__.py":
            shutil.copytree(source.parent, target / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            target.mkdir(exist_ok=True)
            shutil.copy(source, target / source.name)


@pytest.fixture(scope="session")
def readable_source(tmp_path_factory):
    """The sources where every user can read them: a checkout may lie in a directory that only its owner may enter."""
    target = tmp_path_factory.mktemp("source")
    open_to_all(target)
    shutil.copytree(_SOURCE, target / "src", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(_TESTS / "escapes", target / "escapes", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("container.py", "internet.py"):
        shutil.copy(_TESTS / name, target / name)
    _copy_packages(target / "site-packages")
    subprocess.run(["chmod", "-R", "a+rX", target], check=True)
    return str(target)


@pytest.fixture(scope="session", params=HOSTS)
def host(request, readable_source):
    """A driver on each kind of host."""
    driver = Driver(request.param, readable_source)
    driver.name = request.param
    driver.level = "landlock" if "container" in request.param else "namespaces"
    yield driver
    driver.close()


@pytest.fixture(scope="session")
def unwalled(readable_source):
    """Drivers for runs with layers left out, one for each level."""
    drivers = {}

    def of(level: str) -> Driver:
        if level not in drivers:
            ordinary = os.geteuid() != 0
            names = {
                "namespaces": "user" if ordinary else "root",
                "landlock": "user-container" if ordinary else "container",
            }
            drivers[level] = Driver(names[level], readable_source)
        return drivers[level]

    yield of
    for driver in drivers.values():
        driver.close()
