"""Eight processes that save on one module at once: no update is lost.

`python tests/versions/test_processes.py SAVES [STORE...]` (with `src` and `tests` on the path) does it for longer.
"""

import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time

import pytest

import sabotages
from dspex.errors import ConflictError
from dspex.versions import StateManager
from statestores import DURABLE, url_of

PROCESSES = 8
ENVIRONMENT = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}


def compare_and_set(url, name, saves):
    """Count up by compare-and-set, beginning again when somebody was faster."""
    won = []
    with StateManager(url) as states:
        while len(won) < saves:
            head = states.head("m")
            count = states.load_state("m", head)["count"]
            with contextlib.suppress(ConflictError):
                won.append(states.save_state("m", {"count": count + 1, "by": name}, parent=head).id)
    return won


def on_top(url, name, saves):
    """Save on top of whatever is newest."""
    with StateManager(url) as states:
        return [states.save_state("m", {"i": i, "by": name}).id for i in range(saves)]


def merging(url, name, saves):
    """Set a key of one's own on a base that is soon old; the resolver merges."""
    won = []
    with StateManager(url, resolver="merge") as states:
        for i in range(saves):
            base = states.head("m")
            state = states.load_state("m", base)
            won.append(states.save_state("m", {**state, name: i + 1}, parent=base).id)
    return won


KINDS = {"compare_and_set": compare_and_set, "on_top": on_top, "merging": merging}


def race(url, kind, saves, sabotage=None):
    """All processes at once; the ids that each won."""
    with StateManager(url) as states:
        states.save_state("m", {"count": 0})
    command = [sys.executable, __file__, "one", url, kind]
    share = saves // PROCESSES
    pipes = {"stdout": subprocess.PIPE, "env": ENVIRONMENT}
    bugs = [sabotage] if sabotage else []
    with contextlib.ExitStack() as stack:
        running = [
            stack.enter_context(subprocess.Popen([*command, f"p{i}", str(share), *bugs], **pipes))
            for i in range(PROCESSES)
        ]
        said = [process.stdout.read() for process in running]
    assert [process.returncode for process in running] == [0] * PROCESSES
    won = [json.loads(one) for one in said]
    return won, share


def check(url, kind, won, share):
    """Every save that was won is one version; each stands on the one before; nothing of any was lost."""
    ids = [id for some in won for id in some]
    with StateManager(url) as states:
        history = states.history("m")
        assert len(ids) == len(set(ids)) == PROCESSES * share == len(history.versions) - 1
        chain = [states.head("m").id]
        while history.parents[chain[-1]]:
            chain.append(history.parents[chain[-1]][0])
        assert set(chain) == {*ids, "1"}
        last = states.load_state("m")
        if kind == "compare_and_set":
            assert last["count"] == PROCESSES * share
            counted = list(enumerate(reversed(chain)))[:: max(1, len(chain) // 50)]
            assert all(states.load_state("m", id)["count"] == count for count, id in counted)
        if kind == "merging":
            assert last == {"count": 0, **{f"p{i}": share for i in range(PROCESSES)}}
        assert states.verify().problems == ()


@pytest.mark.timeout(300)
@pytest.mark.parametrize("kind", KINDS)
def test_eight_processes_lose_no_update(durable_url, kind):
    """Every save that was acknowledged is in the history, and the count is that of the saves."""
    won, share = race(durable_url, kind, 160)
    check(durable_url, kind, won, share)


def main():
    saves = int(sys.argv[1])
    for store in sys.argv[2:] or DURABLE:
        for kind in KINDS:
            with tempfile.TemporaryDirectory() as directory:
                url = url_of(store, directory)
                started = time.perf_counter()
                check(url, kind, *race(url, kind, saves))
            print(
                f"{store} {kind}: {saves} saves by {PROCESSES} processes, 0 lost ({time.perf_counter() - started:.0f} s)",
                flush=True,
            )


if __name__ == "__main__":
    if sys.argv[1] == "one":
        _, _, url, kind, name, saves, *bugs = sys.argv
        for bug in bugs:
            sabotages.install(bug)
        print(json.dumps(KINDS[kind](url, name, int(saves))))
    else:
        main()
