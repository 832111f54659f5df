"""Versions of states, against what a store cannot do without: a bare commit, a bare file, a bare read.

Ours and theirs are timed in turns, on files of the same directory, with states of the same size, new for each save.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import random
import sqlite3
import string
import tempfile
import time

import msgspec

from benchmarks.table import Row, median

_ROUNDS = 400
_SIZE = 10_000


def versions(_):
    """All figures of the state manager."""
    with tempfile.TemporaryDirectory(prefix="versions-", dir=".") as directory:
        rows = [*_sqlite(directory), *_file(directory), _small_change(), _many(directory)]
        return [*rows, *_langgraph(directory), *_mlflow(directory)]


def state(seed, size=_SIZE):
    """A state as programs have them, of about `size` bytes: predictors with instructions and demos."""
    chosen = random.Random(seed)
    text = lambda length: "".join(chosen.choices(string.ascii_letters + " ", k=length))  # noqa: E731
    demos = lambda: [{"question": text(60), "answer": text(40)} for _ in range(4)]  # noqa: E731
    return {f"predict{i}": {"instructions": text(150), "demos": demos()} for i in range(size // 720)}


def in_turns(ours, theirs, rounds=_ROUNDS):
    """Seconds of each, taken one after the other."""
    times = [], []
    for i in range(rounds):
        for kept, function in zip(times, (ours, theirs) if i % 2 else (theirs, ours), strict=True):
            started = time.perf_counter()
            function(i)
            kept.append(time.perf_counter() - started)
        if i % 2 == 0:
            times[0][-1], times[1][-1] = times[1][-1], times[0][-1]
    return times


def row(name, times, bar, against):
    ours, theirs = map(median, times)
    return Row(name, f"{1000 * ours:.3f} ms", f"{1000 * theirs:.3f} ms ({against})", ours / theirs, bar)


def _states(rounds=_ROUNDS):
    from dspex.state import canonical

    made = [state(seed) for seed in range(rounds)]
    return made, [canonical(one) for one in made]


def _sqlite(directory):
    from dspex import StateManager

    bare = sqlite3.connect(f"{directory}/bare.db", isolation_level=None)
    bare.execute("PRAGMA journal_mode = WAL")
    bare.execute("PRAGMA synchronous = FULL")
    bare.execute("CREATE TABLE states (id INTEGER PRIMARY KEY, data BLOB)")
    made, encoded = _states()

    def commit(i):
        bare.execute("BEGIN IMMEDIATE")
        bare.execute("INSERT INTO states (data) VALUES (?)", (encoded[i],))
        bare.execute("COMMIT")

    def read(i):
        data = bare.execute("SELECT data FROM states ORDER BY id DESC LIMIT 1").fetchone()[0]
        hashlib.sha256(data).hexdigest()
        msgspec.msgpack.decode(data)

    with StateManager(f"sqlite:///{directory}/states.db") as states:
        save = in_turns(lambda i: states.save_state("program", made[i]), commit)
        load = in_turns(lambda i: states.load_state("program"), read, 2000)
    bare.close()
    return [
        row("durable save of 10 kB to SQLite", save, "<= 1.5", "a bare commit, synchronous=FULL"),
        row("verified load of the latest 10 kB", load, "<= 2", "a bare read, SHA-256, decoded"),
    ]


def _file(directory):
    from dspex import StateManager

    os.mkdir(f"{directory}/bare")
    made, encoded = _states()
    descriptor = os.open(f"{directory}/bare", os.O_RDONLY)

    def replace(i):
        path = f"{directory}/bare/{i}"
        with open(f"{path}.tmp", "wb") as file:
            file.write(encoded[i])
            file.flush()
            os.fsync(file.fileno())
        os.rename(f"{path}.tmp", path)
        os.fsync(descriptor)

    with StateManager(f"file:///{directory}/states") as states:
        save = in_turns(lambda i: states.save_state("program", made[i]), replace)
    os.close(descriptor)
    return [row("durable save of 10 kB to files", save, "<= 1.5", "write, fsync, rename, fsync of the directory")]


def _small_change():
    """Bytes that a store gains when one of 1,000 parameters changes."""
    from dspex import StateManager

    with StateManager("memory://") as states:
        whole = {
            f"predict{i}": {"instructions": f"Answer question {i} in few words, and say why."} for i in range(1000)
        }
        states.save_state("program", whole)
        before = _stored(states.store)
        whole["predict500"] = {"instructions": "Another instruction that an optimizer found, as long as these are."}
        states.save_state("program", whole)
        gained = _stored(states.store) - before
    parameter = len(msgspec.msgpack.encode({"predict500": whole["predict500"]}))
    bar = 4 * parameter + 4096
    return Row(
        "one of 1,000 parameters changed",
        f"{gained} bytes",
        f"{parameter} bytes",
        gained / bar,
        "<= 1 of 4 times and 4 kB",
    )


def _stored(store):
    """The bytes of all records, those of the newest writes counted again, and chunks."""
    chunks = store.read_chunks(store.scan_chunks(limit=100_000)).values()
    return sum(len(entry.value) for _, entry in store.scan("v/")) + sum(map(len, chunks))


def _many(directory, many=100_000):
    """Loading the latest of 100,000 versions and of 10, from two stores in turns."""
    from dspex import StateManager
    from dspex.stores._sqlite import SqliteStore

    managers = []
    for count in (many, 10):
        store = SqliteStore(f"{directory}/many{count}.db", synchronous="NORMAL")
        managers.append(StateManager(store))
        for i in range(count - 1):
            managers[-1].save_state("program", {"i": i})
        managers[-1].save_state("program", state(0))
    times = in_turns(*(lambda i, m=manager: m.load_state("program") for manager in managers), 2000)
    for manager in managers:
        manager.store.close()
    return row("load the latest of 100,000 versions", times, "<= 1.5", "of 10")


def _have(name):
    return importlib.util.find_spec(name) is not None


def _langgraph(directory):
    """LangGraph's SqliteSaver with synchronous=FULL keeps one checkpoint of 10 kB, and gets the latest."""
    if not _have("langgraph.checkpoint.sqlite") if _have("langgraph") else True:
        return [
            Row(
                "save and load, against LangGraph's SqliteSaver",
                "not run: pip install langgraph-checkpoint-sqlite",
                "",
                None,
                "<= 1.2",
            )
        ]
    from langgraph.checkpoint.base import empty_checkpoint
    from langgraph.checkpoint.sqlite import SqliteSaver

    from dspex import StateManager
    from dspex.integrations.langgraph import DspexSaver

    def fresh(name):
        connection = sqlite3.connect(f"{directory}/{name}.db", check_same_thread=False)
        connection.execute("PRAGMA synchronous = FULL")
        made = SqliteSaver(connection)
        made.setup()
        return made

    made, _ = _states()
    thread = {"configurable": {"thread_id": "program", "checkpoint_ns": ""}}
    latest = {}  # of each saver: a put goes on from the one before

    def put(saver, i):
        checkpoint = {**empty_checkpoint(), "channel_values": {"state": made[i]}, "channel_versions": {"state": i + 1}}
        metadata = {"source": "loop", "step": i, "parents": {}}
        latest[saver] = saver.put(latest.get(saver, thread), checkpoint, metadata, {"state": i + 1})

    theirs = fresh("langgraph")
    with StateManager(f"sqlite:///{directory}/against.db") as states:
        save = in_turns(lambda i: states.save_state("program", made[i]), lambda i: put(theirs, i))
        load = in_turns(lambda i: states.load_state("program"), lambda i: theirs.get_tuple(thread), 1000)
    theirs.conn.close()
    theirs = fresh("savers")  # files that grow are slower: ours and theirs begin together
    with DspexSaver(f"sqlite:///{directory}/saver.db") as ours:
        puts = in_turns(lambda i: put(ours, i), lambda i: put(theirs, i))
        gets = in_turns(lambda i: ours.get_tuple(thread), lambda i: theirs.get_tuple(thread), 1000)
    theirs.conn.close()
    return [
        row("save of 10 kB", save, "<= 1.2", "LangGraph's SqliteSaver, FULL"),
        row("load of 10 kB", load, "<= 1.2", "LangGraph's SqliteSaver"),
        row("`DspexSaver.put` of 10 kB", puts, "<= 1.2", "LangGraph's SqliteSaver, FULL"),
        row("`DspexSaver.get_tuple` of 10 kB", gets, "<= 1.2", "LangGraph's SqliteSaver, which checks nothing"),
    ]


def _mlflow(directory):
    """MLflow logs a 10 kB state as an artifact of a run and registers it as a model version, and loads it."""
    if not _have("mlflow"):
        return [Row("save, against MLflow", "not run: pip install mlflow", "", None, "<= 0.05")]
    import mlflow

    from dspex import StateManager

    mlflow.set_tracking_uri(f"sqlite:///{os.path.abspath(directory)}/mlflow.db")
    client = mlflow.MlflowClient()
    experiment = client.create_experiment("states", artifact_location=f"file://{os.path.abspath(directory)}/artifacts")
    client.create_registered_model("program")
    made, _ = _states(20)

    def log(i):
        run = client.create_run(experiment)
        client.log_dict(run.info.run_id, made[i], "state.json")
        client.create_model_version("program", f"{run.info.artifact_uri}/state.json", run.info.run_id)
        client.set_terminated(run.info.run_id)

    def load(i):
        newest = client.get_registered_model("program").latest_versions[0]
        mlflow.artifacts.load_dict(newest.source)

    with StateManager(f"sqlite:///{directory}/mlflow-against.db") as states:
        save = in_turns(lambda i: states.save_state("program", made[i]), log, 20)
        loads = in_turns(lambda i: states.load_state("program"), load, 20)
    return [
        row("save of 10 kB", save, "<= 0.05", "MLflow's log and register"),
        row("load of 10 kB", loads, "<= 0.05", "MLflow's load of a registered version"),
    ]
