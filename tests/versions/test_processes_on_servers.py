"""Many writers on one module: no update is lost on any server, by any way of saving."""

import json
import os
import subprocess
import sys

import pytest

from dspex.versions import StateManager

_WRITER = """
import sys
from dspex.errors import ConflictError
from dspex.versions import StateManager
url, way, name, rounds = *sys.argv[1:4], int(sys.argv[4])
with StateManager(url, resolver="merge" if way == "merge" else "reject") as states:
    for i in range(rounds):
        while True:
            head = states.head("m")
            state = {} if head is None else states.load_state("m", head)
            if way == "merge":
                state[f"{name}-{i}"] = 1
            else:
                state["count"] = state.get("count", 0) + 1
            try:
                version = states.save_state("m", state, parent=head, metadata={"by": name, "i": i})
            except ConflictError:
                continue
            print(version.id, flush=True)
            break
"""


def writers(url, way, count, rounds):
    """Run writing processes; the ids that were acknowledged."""
    path = os.pathsep.join(filter(None, sys.path))
    command = [sys.executable, "-c", _WRITER, url, way]
    running = [
        subprocess.Popen(
            [*command, f"w{i}", str(rounds)],
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": path},
        )
        for i in range(count)
    ]
    found = []
    for process in running:
        out, _ = process.communicate()
        assert process.returncode == 0
        found += out.split()
    return found


@pytest.mark.parametrize("way", ["reject", "merge"])
def test_no_update_is_lost(server_url, way):
    """Of processes that save on what they read, each save is in the history once, and its change in the end."""
    count, rounds = 4, 15
    with StateManager(server_url) as states:
        states.save_state("m", {})
        acknowledged = writers(server_url, way, count, rounds)
        history = states.history("m")
        assert sorted(map(int, acknowledged)) == list(range(2, count * rounds + 2))
        assert set(history.versions) == {*acknowledged, "1"}
        by = [json.dumps(version.metadata, sort_keys=True) for version in history.versions.values()]
        assert len(set(by)) == len(by)
        final = states.load_state("m")
        if way == "merge":
            assert final == {f"w{w}-{i}": 1 for w in range(count) for i in range(rounds)}
        else:
            assert final == {"count": count * rounds}
            states_by_number = [states.load_state("m", str(number)) for number in range(2, 10)]
            assert states_by_number == [{"count": i} for i in range(1, 9)]
        assert states.verify().ok
