"""Real servers for tests: on loopback, on a free port, in a directory of their own, gone with the process that started them.

`Server` is any of them; `postgres`, `redis`, `etcd` start theirs. What a server writes goes to `server.log` in its directory.
"""

from __future__ import annotations

import contextlib
import os
import pathlib
import pwd
import random
import shutil
import signal
import socket
import subprocess
import threading
import time
from typing import TYPE_CHECKING

from passage import open_to_all

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

HOST = "127.0.0.1"
PASSWORD = "right-horse"
_PATIENCE = 60.0  # seconds that a server may take to start, or to end
# Below the range that the kernel takes ports of outgoing connections from: a killed server finds its own free again.
_PORTS = range(20_000, 32_000)
_given: set[int] = set()  # a port is free until its server listens; two servers of a cluster must not get the same one


class Server:
    """A server: `command` run in `directory` as `user`, ready as soon as `ready()` is true; it may raise OSError until then."""

    def __init__(
        self,
        command: Sequence[str],
        directory: pathlib.Path,
        *,
        port: int,
        ready: Callable[[], bool],
        user: str | None = None,
    ) -> None:
        self.command, self.directory, self.port, self.user = list(command), directory, port, user
        self.log = directory / "server.log"
        self._ready = ready
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def address(self) -> str:
        """Host and port, as URLs have them."""
        return f"{HOST}:{self.port}"

    @property
    def pid(self) -> int:
        """Its process; it must run."""
        assert self._process is not None, "the server does not run"
        return self._process.pid

    def start(self) -> None:
        """Run it, and return when it answers. By the main thread: the kernel ends the server with the thread that started it."""
        assert threading.current_thread() is threading.main_thread(), "start servers in the main thread"
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [*_as(self.user), *self.command], cwd=self.directory, stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
        _until(self._answers, lambda: f"{self.command[0]} does not answer:\n{self.log.read_text()[-4000:]}")

    def _answers(self) -> bool:
        assert self._process is not None
        if self._process.poll() is not None:
            raise RuntimeError(
                f"{self.command[0]} ended with {self._process.returncode}:\n{self.log.read_text()[-4000:]}"
            )
        try:
            return self._ready()
        except OSError:
            return False

    def kill(self) -> None:
        """Kill -9 of the server and of its children, at once; a server that does not run is let be."""
        self._end(signal.SIGKILL)

    def stop(self, with_signal: int = signal.SIGINT) -> None:
        """End it in order; SIGINT is the signal on which none of them waits for clients."""
        self._end(with_signal)

    def restart(self) -> None:
        """Kill it where it runs, and start it again: same port, same directory."""
        self.kill()
        self.start()

    def _end(self, with_signal: int) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        family = _descendants(process.pid)
        process.send_signal(with_signal)
        if with_signal == signal.SIGKILL:
            for child in family:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(child, signal.SIGKILL)
        process.wait(_PATIENCE)
        _until(lambda: not any(map(_lives, family)), lambda: f"children of {self.command[0]} stay: {family}")


def free_port() -> int:
    """A port of loopback that nobody listens on, another one each time."""
    while True:
        port = random.choice(_PORTS)
        if port in _given:
            continue
        with socket.socket() as attempt, contextlib.suppress(OSError):
            attempt.bind((HOST, port))
            _given.add(port)
            return port


def program(name: str, *places: str) -> str:
    """The path of a program, on the PATH or in `places` (patterns below /; the last one in order is taken)."""
    found = [str(path) for place in places for path in sorted(pathlib.Path("/").glob(f"{place.lstrip('/')}/{name}"))]
    path = shutil.which(name) or (found[-1] if found else None)
    if path is None:
        raise FileNotFoundError(f"the tests need {name}; scripts/test installs it")
    return path


def postgres(directory: pathlib.Path, *settings: str) -> Server:
    """PostgreSQL with the superuser `dspex`, started; `settings` as fsync=off.

    Its texts are sorted by a language's rules, not bytewise, as on most servers. It refuses to run as root, so that it runs as
    the user that its package makes.
    """
    user = "postgres" if os.geteuid() == 0 else None
    initdb, data, password = program("initdb", "usr/lib/postgresql/*/bin"), directory / "data", directory / "password"
    password.write_text(PASSWORD)
    _give(directory, user)
    rules = ["--encoding=UTF8", "--locale=C.UTF-8", "--locale-provider=icu", "--icu-locale=en"]
    login = ["--username=dspex", f"--pwfile={password}", "--auth=scram-sha-256", "--data-checksums"]
    subprocess.run(
        [*_as(user), initdb, "-D", str(data), *rules, *login], check=True, capture_output=True, cwd=directory
    )
    port = free_port()
    command = [program("postgres", "usr/lib/postgresql/*/bin"), "-D", str(data), "-h", HOST, "-p", str(port)]
    command += ["-k", "", *(word for setting in settings for word in ("-c", setting))]
    server = Server(command, directory, port=port, ready=lambda: _postgres_answers(port), user=user)
    server.start()
    return server


def redis(directory: pathlib.Path, *settings: str) -> Server:
    """Redis, started, with no persistence but what `settings` say, as "appendonly yes"; its password is PASSWORD."""
    port = free_port()
    lines = [f"port {port}", f"bind {HOST}", f"dir {directory}", 'save ""', f"requirepass {PASSWORD}", *settings]
    (directory / "redis.conf").write_text("\n".join(lines) + "\n")
    command = [program("redis-server"), str(directory / "redis.conf")]
    server = Server(command, directory, port=port, ready=lambda: _redis_answers(port))
    server.start()
    return server


def etcd(directory: pathlib.Path, *settings: str, scheme: str = "http") -> Server:
    """One etcd server, started; `settings` as --max-txn-ops=64."""
    (server,) = etcd_cluster(directory, *settings, size=1, scheme=scheme)
    return server


def etcd_cluster(directory: pathlib.Path, *settings: str, size: int = 3, scheme: str = "http") -> list[Server]:
    """A cluster of etcd servers, started; they find a lost leader in less than a second."""
    ports = [(free_port(), free_port()) for _ in range(size)]
    members = ",".join(f"member{i}=http://{HOST}:{peer}" for i, (_, peer) in enumerate(ports))
    started = []
    for i, (port, peer) in enumerate(ports):
        home = directory / f"member{i}"
        home.mkdir()
        client, own = f"{scheme}://{HOST}:{port}", f"http://{HOST}:{peer}"
        command = [program("etcd"), f"--name=member{i}", f"--data-dir={home / 'data'}", f"--initial-cluster={members}"]
        command += [f"--listen-client-urls={client}", f"--advertise-client-urls={client}"]
        command += [f"--listen-peer-urls={own}", f"--initial-advertise-peer-urls={own}"]
        command += ["--heartbeat-interval=50", "--election-timeout=400", "--log-level=error", *settings]
        started.append(Server(command, home, port=port, ready=lambda port=port: _listens(port)))
    for server in started:
        server.start()
    return started


def _listens(port: int) -> bool:
    with socket.create_connection((HOST, port), 1):
        return True


def _postgres_answers(port: int) -> bool:
    """Whether it takes sessions: it asks for a password, where one that starts up answers with an error."""
    words = b"user\0dspex\0database\0postgres\0\0"
    start = (8 + len(words)).to_bytes(4, "big") + (3 << 16).to_bytes(4, "big") + words
    return _ask(port, start, 1) == b"R"


def _redis_answers(port: int) -> bool:
    return _ask(port, f"AUTH {PASSWORD}\r\nPING\r\n".encode(), 12) == b"+OK\r\n+PONG\r\n"


def _ask(port: int, question: bytes, size: int) -> bytes:
    with socket.create_connection((HOST, port), timeout=5) as connection:
        connection.sendall(question)
        return connection.recv(size, socket.MSG_WAITALL)


def _run(command: list[str], directory: pathlib.Path) -> None:
    done = subprocess.run(command, cwd=directory, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{command} ended with {done.returncode}:\n{done.stdout}{done.stderr}")


def _as(user: str | None) -> list[str]:
    """The command that runs another one as `user` (None: as who we are), and ends it when we end."""
    change = ["--reuid", user, "--regid", str(pwd.getpwnam(user).pw_gid), "--clear-groups"] if user else []
    return [program("setpriv"), "--pdeathsig", "KILL", *change, "--"]


def _give(directory: pathlib.Path, user: str | None) -> None:
    if user is None:
        return
    directory.chmod(0o700)
    open_to_all(directory)  # goes up from what is closed
    for place in (directory, *directory.rglob("*")):
        shutil.chown(place, user)


def _descendants(pid: int) -> list[int]:
    try:
        text = pathlib.Path(f"/proc/{pid}/task/{pid}/children").read_text()
    except FileNotFoundError:
        return []
    children = [int(word) for word in text.split()]
    return children + [grandchild for child in children for grandchild in _descendants(child)]


def _lives(pid: int) -> bool:
    try:
        return pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def _until(reached: Callable[[], bool], complaint: Callable[[], str]) -> None:
    deadline = time.monotonic() + _PATIENCE
    while not reached():
        if time.monotonic() > deadline:
            raise TimeoutError(complaint())
        time.sleep(0.02)
