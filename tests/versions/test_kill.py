"""Writers killed at random moments: what was acknowledged is there, and nothing is torn.

`python tests/versions/test_kill.py KILLS [KIND...]` (with `src` and `tests` on the path) does it for longer.
"""

import json
import os
import random
import subprocess
import sys
import tempfile
import time

import pytest

from dspex.versions import StateManager
from statestores import DURABLE, url_of

ENVIRONMENT = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}


def killed(url, kind, name, seconds):
    """What a writer acknowledged until it was killed, some time after it began to write."""
    command = [sys.executable, "-m", "statewriters", url, kind, name]
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=ENVIRONMENT) as writer:
        first = writer.stdout.readline()
        assert json.loads(first) == {"ready": True}
        time.sleep(seconds)
        writer.kill()
        lines = writer.stdout.read().split(b"\n")
    return [json.loads(line) for line in lines[:-1]]


def check_saves(states, acknowledged):
    """Every acknowledged save is the version that it was said to be."""
    for said in acknowledged:
        state = states.load_state("m", said["id"])
        assert (state["i"], state["by"]) == (said["i"], said["by"])


def check_compaction(states, acknowledged):
    """Of each module the newest acknowledged, and the tagged, are there."""
    if acknowledged:
        last = acknowledged[-1]
        assert states.load_state(last["module"], last["id"])["i"] == last["i"]
        kept = [said for said in acknowledged if said["i"] % 4 == 0]
        tagged = states.load_state(last["module"], "kept")
        assert tagged["i"] >= kept[-1]["i"]


def check_restores(states, acknowledged):
    """Modules that go back together did so: the versions of one restore are there on both sides or on none."""
    for said in acknowledged:
        if "snapshot" in said:
            ids = {snapshot.name: snapshot.members for snapshot in states.snapshots()}[said["snapshot"]]
            assert all(states.load_state(module, ids[module])["i"] == said["i"] for module in said["modules"])
        elif said["made"]:
            for module, id in zip(said["modules"], said["made"], strict=True):
                assert states.load_state(module, id)["i"] == said["i"]
    if acknowledged:
        one, two = (
            [version.metadata.get("restored_by") for version in states.list_versions(module, limit=10_000).versions]
            for module in acknowledged[0]["modules"]
        )
        assert list(filter(None, one)) == list(filter(None, two))


CHECKS = {"save": check_saves, "compact": check_compaction, "restore": check_restores}


def check_all(states):
    """No version is torn: the scrub finds nothing, and every listed version loads."""
    report = states.verify()
    assert report.problems == ()
    for module in states.modules():
        for version in states.list_versions(module, limit=100_000).versions:
            states.load_state(module, version)


def kill_often(url, kind, times, generator):
    """Kill so many writers; how many saves were acknowledged. Each kill is looked at by a new client."""
    count = 0
    for number in range(times):
        acknowledged = killed(url, kind, f"w{number}", generator.uniform(0, 0.25 if kind == "save" else 0.6))
        with StateManager(url) as states:
            CHECKS[kind](states, acknowledged)
            if number % 10 == 9 or number == times - 1:
                check_all(states)
        count += len(acknowledged)
    return count


@pytest.mark.timeout(300)
@pytest.mark.parametrize(("kind", "times"), [("save", 10), ("compact", 6), ("restore", 5)])
def test_a_killed_writer_loses_nothing_acknowledged_and_tears_nothing(durable_url, kind, times):
    """However a writer ends, its acknowledged versions load, and the store is whole and takes the next writer."""
    assert kill_often(durable_url, kind, times, random.Random(7)) > 0


@pytest.mark.timeout(300)
def test_writers_killed_side_by_side_lose_nothing(durable_url):
    """A kill of one of three writers is nothing to the others, nor to what was acknowledged."""
    command = [sys.executable, "-m", "statewriters", durable_url]
    pipes = {"stdout": subprocess.PIPE, "env": ENVIRONMENT}
    with StateManager(durable_url) as states:
        writers = [subprocess.Popen([*command, "save", f"side{i}"], **pipes) for i in range(3)]
        for writer in writers:
            writer.stdout.readline()
        time.sleep(0.4)
        for writer in writers:
            writer.kill()
            time.sleep(0.1)
        acknowledged = []
        for writer in writers:
            with writer:
                acknowledged += [json.loads(line) for line in writer.stdout.read().split(b"\n")[:-1]]
        assert len({said["id"] for said in acknowledged}) == len(acknowledged) > 0
        check_saves(states, acknowledged)
        check_all(states)


def main():
    times = int(sys.argv[1])
    seed = int(time.time())
    for store in DURABLE:
        for kind in sys.argv[2:] or CHECKS:
            with tempfile.TemporaryDirectory() as directory:
                started = time.perf_counter()
                done = kill_often(url_of(store, directory), kind, times, random.Random(seed))
            took = time.perf_counter() - started
            print(
                f"{store} {kind}: {times} kills, {done} acknowledged, 0 lost, 0 torn ({took:.0f} s, seed {seed})",
                flush=True,
            )


if __name__ == "__main__":
    main()
