"""The long forms of what is proved of versions, in every store, servers too (with `src` and `tests` on the path):

    python tests/soaks.py SAVES KILLS [STORE...]

SAVES compare-and-set saves by eight processes on one module, in each way of saving; KILLS of a writing process at random moments.
"""

from __future__ import annotations

import pathlib
import random
import sys
import tempfile
import time

import servers
from statestores import url_of
from versions import test_kill, test_processes

STORES = ("sqlite", "file", "postgresql", "redis", "etcd")


def server_of(kind, directory):
    """A server of a kind, started, and the beginning of its stores' URLs; None for a store that is files."""
    if kind == "postgresql":
        server = servers.postgres(directory)
        return server, f"postgresql://dspex:{servers.PASSWORD}@{server.address}/postgres?schema=store"
    if kind == "redis":
        server = servers.redis(directory, "appendonly yes", "appendfsync always")
        return server, f"redis://:{servers.PASSWORD}@{server.address}/0?prefix=store"
    if kind == "etcd":
        server = servers.etcd(directory)
        return server, f"etcd://{server.address}/store"
    return None


def soak(kind, saves, kills):
    """Both soaks on one store, each time an empty one."""
    with tempfile.TemporaryDirectory() as name:
        directory = pathlib.Path(name)
        directory.chmod(0o777)
        found = server_of(kind, directory)
        try:
            for way in test_processes.KINDS:
                url = f"{found[1]}{way}" if found else url_of(kind, tempfile.mkdtemp(dir=directory))
                started = time.perf_counter()
                test_processes.check(url, way, *test_processes.race(url, way, saves))
                took = time.perf_counter() - started
                print(f"{kind} {way}: {saves} saves by 8 processes, 0 lost ({took:.0f} s)", flush=True)
            for way in test_kill.CHECKS:
                url = f"{found[1]}kill{way}" if found else url_of(kind, tempfile.mkdtemp(dir=directory))
                started = time.perf_counter()
                done = test_kill.kill_often(url, way, kills, random.Random(1))
                took = time.perf_counter() - started
                print(f"{kind} {way}: {kills} kills, {done} acknowledged, 0 lost, 0 torn ({took:.0f} s)", flush=True)
        finally:
            if found:
                found[0].kill()


if __name__ == "__main__":
    for chosen in sys.argv[3:] or STORES:
        soak(chosen, int(sys.argv[1]), int(sys.argv[2]))
