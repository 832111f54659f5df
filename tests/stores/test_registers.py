"""Timed histories of one register in stores that claim to be linearizable, while their servers are killed and come back."""

import itertools
import math
import threading
import time

import pytest

import servers
from dspex.errors import MovedError, StoreUnavailableError, UnknownOutcomeError
from dspex.stores import ABSENT, Write, open_store
from linearizability import Operation, linearizable

KEY = "register"


def test_the_check_tells_right_from_wrong():
    """Histories that are fine pass, stale reads and lost updates do not, and lost answers may be either."""
    write, read = Operation, (lambda a, b, new: Operation(a, b, None, new))
    assert linearizable([write(0, 1, 0, 1), read(2, 3, 1)], 0)
    assert linearizable([write(0, 3, 0, 1), read(1, 2, 0)], 0)
    assert not linearizable([write(0, 1, 0, 1), read(2, 3, 0)], 0)
    assert not linearizable([write(0, 1, 0, 1), write(2, 3, 0, 2)], 0)
    assert not linearizable([write(0, 4, 0, 1), read(1, 2, 1), read(3, 3.5, 0)], 0)
    lost = Operation(0, math.inf, 0, 1, known=False)
    assert linearizable([lost, read(2, 3, 1)], 0)
    assert linearizable([lost, read(2, 3, 0)], 0)
    assert not linearizable([lost, read(2, 3, 1), read(4, 5, 0)], 0)


def history(url, outages, *, clients=3, between=25):
    """What some clients did to the register, each with reads and compare-and-sets, during outages."""
    operations, over, values = [], threading.Event(), itertools.count(1)
    first = open_store(url)
    first.write(Write(expect={KEY: ABSENT}, put={KEY: b"0"}))

    def work(store):
        while not over.is_set():
            began = time.monotonic()
            try:
                entry = store.read([KEY])[KEY]
            except StoreUnavailableError:
                time.sleep(0.01)
                continue
            old, new = int(entry.value), next(values)
            operations.append(Operation(began, time.monotonic(), None, old))
            began = time.monotonic()
            try:
                store.write(Write(expect={KEY: entry.revision}, put={KEY: b"%d" % new}))
                operations.append(Operation(began, time.monotonic(), old, new))
            except UnknownOutcomeError:
                operations.append(Operation(began, math.inf, old, new, known=False))
            except (MovedError, StoreUnavailableError):
                pass
        store.close()

    # Open before the first outage: a store is not opened while its server is gone.
    threads = [threading.Thread(target=work, args=[open_store(url)]) for _ in range(clients)]
    for thread in threads:
        thread.start()
    try:
        for outage in [*outages, lambda: None]:
            enough, deadline = len(operations) + between, time.monotonic() + 30
            while len(operations) < enough and time.monotonic() < deadline:
                time.sleep(0.01)
            outage()
    finally:
        over.set()
        for thread in threads:
            thread.join()
        first.close()
    return operations


@pytest.mark.parametrize("kind", ["postgresql", "redis"])
def test_a_server_that_is_killed(kind, tmp_path):
    """PostgreSQL, and Redis that writes before it answers, stay linearizable across kill -9."""
    if kind == "postgresql":
        server = servers.postgres(tmp_path)
        url = f"postgresql://dspex:{servers.PASSWORD}@{server.address}/postgres"
    else:
        server = servers.redis(tmp_path, "appendonly yes", "appendfsync always")
        url = f"redis://:{servers.PASSWORD}@{server.address}/0"
    try:
        operations = history(url, [server.restart] * 3)
    finally:
        server.kill()
    assert len(operations) > 60
    assert linearizable(operations, 0)


def test_members_of_a_cluster_that_are_killed(tmp_path):
    """etcd's compare-and-set stays linearizable while each member is killed and comes back.

    Reads are left out where the servers are known to serve stale ones (`traits.linearizable`).
    """
    members = servers.etcd_cluster(tmp_path)
    url = f"etcd://{','.join(member.address for member in members)}/register"
    try:
        store = open_store(url)
        fresh = store.traits.linearizable
        store.close()
        outages = [step for member in members for step in (member.kill, member.start)]
        operations = history(url, outages)
    finally:
        for member in members:
            member.kill()
    sets = [operation for operation in operations if operation.old is not None]
    assert len(sets) > 30
    assert linearizable(operations if fresh else sets, 0)
