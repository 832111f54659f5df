"""kill -9 of who writes: what was acknowledged is there, nothing is torn, and the next one goes on."""

import os
import random
import signal
import subprocess
import sys
import time

import pytest

from dspex.versions import Retention, StateManager

_SAVER = """
import sys
from dspex.versions import StateManager
with StateManager(sys.argv[1]) as states:
    head = states.head("m")
    i = states.load_state("m")["i"] + 1 if head else 0
    while True:
        version = states.save_state("m", {"i": i, "text": f"{i} " * 6000}, tags=["newest"])
        print(version.id, i, flush=True)
        i += 1
"""
_COMPACTOR = """
import sys
from dspex.versions import Retention, StateManager
with StateManager(sys.argv[1], retention=Retention(keep_last=3)) as states:
    while True:
        for i in range(5):
            states.save_state("m", {"i": i, "text": f"{i} " * 6000})
        print("saved", 0, flush=True)
        states.compact()
        states.create_snapshot(f"s{states.head('m').id}", ["m"])
"""


def killed(code, url, seconds):
    """Run code for a while, kill it, and give the whole lines it printed."""
    path = os.pathsep.join(filter(None, sys.path))
    process = subprocess.Popen(
        [sys.executable, "-c", code, url],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": path},
    )
    first = process.stdout.readline()
    time.sleep(seconds)
    process.send_signal(signal.SIGKILL)
    rest = process.communicate()[0]
    return [line.split() for line in (first + rest).splitlines(keepends=True) if line.endswith("\n")]


def check(url, acknowledged):
    """All that was acknowledged loads as it was saved, and the store is whole."""
    with StateManager(url) as states:
        for id, i in acknowledged[-3:]:
            assert states.load_state("m", id) == {"i": int(i), "text": f"{i} " * 6000}
        head = states.head("m")
        assert int(head.id) >= int(acknowledged[-1][0])
        assert states.load_state("m")["i"] >= int(acknowledged[-1][1])
        report = states.verify()
        assert report.ok, report.problems
        return report


def rounds_of_kills(url, rounds, chosen):
    """Kill a saver at random moments, again and again; how many saves were acknowledged."""
    everything = []
    for _ in range(rounds):
        everything += killed(_SAVER, url, chosen.uniform(0, 0.08))
        check(url, everything)
    with StateManager(url) as states:
        ids = {version.id for version in states.history("m").versions.values()}
    assert {id for id, _ in everything} <= ids
    return len(everything)


def test_killed_savers_lose_nothing(local_url):
    """Every acknowledged save is there after each of many kills, and no version is torn."""
    assert rounds_of_kills(local_url, 6, random.Random()) >= 6


@pytest.mark.parametrize("seconds", [0.01, 0.03, 0.06, 0.1])
def test_killed_compactions_lose_nothing(local_url, seconds):
    """Who is killed while it removes versions and chunks leaves every version that is listed whole."""
    killed(_COMPACTOR, local_url, seconds)
    with StateManager(local_url, retention=Retention(keep_last=3)) as states:
        for version in states.list_versions("m").versions:
            assert len(states.load_state("m", version)["text"]) == 12_000
        assert states.verify().ok


def main():
    """The long form: python tests/versions/test_kill.py 500"""
    import tempfile

    rounds = int(sys.argv[1])
    for kind in ("sqlite", "file"):
        with tempfile.TemporaryDirectory() as directory:
            saves = rounds_of_kills(f"{kind}:///{directory}/states", rounds, random.Random(1))
        print(f"{kind}: {rounds} kills, {saves} acknowledged saves, 0 lost, 0 torn")


if __name__ == "__main__":
    main()
