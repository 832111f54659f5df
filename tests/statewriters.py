"""Processes that write into a store until they are killed, and say on stdout what was acknowledged.

`python -m statewriters URL KIND NAME`: KIND is save, compact or restore. Each line is JSON: what was there when the call returned.
"""

import itertools
import json
import sys

from dspex.versions import Retention, StateManager, _sweep

TEXT = "some text of a demo, long enough for chunks of its own. " * 400


def say(**what):
    """One line, in one write: it is there as a whole or not at all."""
    sys.stdout.buffer.write(json.dumps(what).encode() + b"\n")
    sys.stdout.buffer.flush()


def save(states, name):
    """Versions of one module: each says who made it, and which."""
    for i in itertools.count():
        state = {"i": i, "by": name, "text": f"{i} {TEXT}" if i % 3 == 0 else TEXT}
        say(id=states.save_state("m", state, tags=[f"t{i % 5}"]).id, i=i, by=name)


def compact(states, name):
    """Versions that go again at once, in modules of their own, and what is kept."""
    _sweep.LEASE = 0.1  # else the next writer only waits until it is killed too
    keeping = StateManager(states.store, retention=Retention(keep_last=2))
    for i in itertools.count():
        version = states.save_state(
            name, {"i": i, "by": name, "text": f"{i} {TEXT}"}, tags=["kept"] if i % 4 == 0 else []
        )
        say(module=name, id=version.id, i=i, by=name)
        keeping.compact()


def restore(states, name):
    """Two modules that always go back together."""
    modules = [f"{name}-one", f"{name}-two"]
    for i in itertools.count():
        for module in modules:
            states.save_state(module, {"i": i, "by": name, "text": f"{i} {TEXT}"})
        states.create_snapshot(f"{name}-{i}", modules)
        say(snapshot=f"{name}-{i}", modules=modules, i=i)
        made = states.restore_snapshot(f"{name}-{i // 2}")
        say(restored=f"{name}-{i // 2}", modules=modules, i=i // 2, made=[version.id for version in made])


if __name__ == "__main__":
    url, kind, name = sys.argv[1:]
    with StateManager(url) as states:
        say(ready=True)
        {"save": save, "compact": compact, "restore": restore}[kind](states, name)
