"""The manager against a smaller model of it, on the stores that are servers: two clients, reopened in between."""

import copy
import itertools
import tempfile

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from dspex.errors import ConflictError, NotFoundError, UsageError
from dspex.stores._memory import MemoryStore
from dspex.versions import NEW, Migrations, Retention, StateManager

MODULES = st.sampled_from(["a", "b/ü"])
KEYS = st.sampled_from(["x", "y", "z"])
TAGS = st.sampled_from(["good", "best"])
STATES = st.dictionaries(KEYS, st.one_of(st.integers(0, 3), st.lists(st.integers(0, 2), max_size=2), st.just((1,))))
BIG = {f"k{i}": f"text {i} " * 10 for i in range(400)}

migrations = Migrations()


@migrations.step("1", "2")
def _second(state):
    return {**state, "second": True}


class Model:
    """What a module is, as plain Python."""

    def __init__(self):
        self.versions = {}  # number: (state, parents, schema), None once deleted or empty
        self.heads = {}
        self.tags = {}
        self.count = 0
        self.migrated = {}

    def save(self, branch, state, parents, schema):
        self.count += 1
        self.versions[self.count] = (copy.deepcopy(state), parents, schema)
        if branch:
            self.heads[branch] = self.count
        return self.count


class Manager(RuleBasedStateMachine):
    """Runs each operation on the manager and on the model; both must say the same."""

    url = "memory://"
    numbers = itertools.count()

    @initialize()
    def start(self):
        self.directory = tempfile.TemporaryDirectory()
        self.store = MemoryStore() if self.url == "memory://" else None
        self.where = self.url.format(directory=self.directory.name, name=f"model{next(self.numbers)}")
        self.clients = [self.open(), self.open()]
        self.modules = {"a": Model(), "b/ü": Model()}
        self.snapshots = {}

    def open(self):
        return StateManager(
            self.store if self.store is not None else self.where,
            migrations=migrations,
            retention=Retention(keep_last=3),
        )

    def teardown(self):
        for client in getattr(self, "clients", []):
            client.close()
        if hasattr(self, "directory"):
            self.directory.cleanup()

    @rule(client=st.integers(0, 1), name=MODULES, state=STATES, big=st.booleans())
    def save(self, client, name, state, big):
        state = {**BIG, **state} if big else state
        model = self.modules[name]
        head = model.heads.get("main")
        schema = model.versions[head][2] if head else "1"
        version = self.clients[client].save_state(name, state)
        assert int(version.id) == model.save("main", state, [head] if head else [], schema)

    @rule(client=st.integers(0, 1), name=MODULES, state=STATES, data=st.data())
    def compare_and_set(self, client, name, state, data):
        model = self.modules[name]
        there = [number for number, kept in model.versions.items() if kept]
        if not there:
            return
        number = data.draw(st.sampled_from(there))
        states = self.clients[client]
        parent = states.version(name, str(number))
        branch = parent.branch or "main"
        if model.heads.get(branch) == number:
            schema = model.versions[number][2]
            version = states.save_state(name, state, parent=parent)
            assert int(version.id) == model.save(branch, state, [number], schema)
        else:
            with pytest.raises((ConflictError, NotFoundError)):
                states.save_state(name, state, parent=parent)

    @rule(client=st.integers(0, 1), name=MODULES)
    def save_new(self, client, name):
        model = self.modules[name]
        if model.heads:
            with pytest.raises(ConflictError):
                self.clients[client].save_state(name, {}, parent=NEW)
        else:
            version = self.clients[client].save_state(name, {}, parent=NEW)
            assert int(version.id) == model.save("main", {}, [], "1")

    @rule(client=st.integers(0, 1), name=MODULES, tag=TAGS, data=st.data())
    def tag(self, client, name, tag, data):
        model = self.modules[name]
        if not model.count:
            return
        number = data.draw(st.integers(1, model.count))
        if model.versions.get(number):
            self.clients[client].tag(name, tag, str(number))
            model.tags[tag] = number
        else:
            with pytest.raises(NotFoundError):
                self.clients[client].tag(name, tag, str(number))

    @rule(client=st.integers(0, 1), name=MODULES, tag=TAGS)
    def untag(self, client, name, tag):
        model = self.modules[name]
        if model.tags.pop(tag, None):
            self.clients[client].untag(name, tag)
        else:
            with pytest.raises(NotFoundError):
                self.clients[client].untag(name, tag)

    @rule(client=st.integers(0, 1), name=MODULES, state=STATES)
    def branch(self, client, name, state):
        model, states = self.modules[name], self.clients[client]
        if "side" in model.heads:
            head = model.heads["side"]
            version = states.save_state(name, state, branch="side")
            assert int(version.id) == model.save("side", state, [head], model.versions[head][2])
        elif "main" in model.heads:
            states.branch(name, "side")
            model.heads["side"] = model.heads["main"]

    def held(self, name, number):
        model = self.modules[name]
        in_snapshots = any(members.get(name) == number for members in self.snapshots.values())
        return number in model.heads.values() or number in model.tags.values() or in_snapshots

    @rule(client=st.integers(0, 1), name=MODULES, data=st.data())
    def delete(self, client, name, data):
        model = self.modules[name]
        there = [number for number, kept in model.versions.items() if kept]
        if not there:
            return
        number = data.draw(st.sampled_from(there))
        if self.held(name, number):
            with pytest.raises(UsageError):
                self.clients[client].delete(name, str(number))
        else:
            self.clients[client].delete(name, str(number))
            model.versions[number] = None

    @rule(client=st.integers(0, 1))
    def compact(self, client):
        done = self.clients[client].compact()
        count = 0
        for name, model in self.modules.items():
            there = sorted((number for number, kept in model.versions.items() if kept), reverse=True)
            for number in there[3:]:
                if not self.held(name, number):
                    model.versions[number] = None
                    count += 1
        assert done.versions == count

    @precondition(lambda self: len(self.snapshots) < 3)
    @rule(client=st.integers(0, 1))
    def snapshot(self, client):
        names = [name for name, model in self.modules.items() if "main" in model.heads]
        if names:
            label = f"s{len(self.snapshots)}"
            self.clients[client].create_snapshot(label, names)
            self.snapshots[label] = {name: self.modules[name].heads["main"] for name in names}

    @precondition(lambda self: self.snapshots)
    @rule(client=st.integers(0, 1), data=st.data())
    def restore(self, client, data):
        label = data.draw(st.sampled_from(sorted(self.snapshots)))
        made = {v.module_id: int(v.id) for v in self.clients[client].restore_snapshot(label)}
        for name, number in self.snapshots[label].items():
            model = self.modules[name]
            head = model.heads.get("main")
            if head != number:
                state, _, schema = model.versions[number]
                assert made[name] == model.save("main", state, [head] if head else [], schema)

    @rule(client=st.integers(0, 1), name=MODULES)
    def migrate(self, client, name):
        model = self.modules[name]
        head = model.heads.get("main")
        if not head:
            return
        state, _, schema = model.versions[head]
        version = self.clients[client].migrate_state(name, "2")
        if schema == "2":
            assert int(version.id) == head
            return
        before = model.migrated.get(head)
        if before and model.versions.get(before):
            assert int(version.id) == before
            return
        # The child goes on the branch that its parent was saved on, where it is still the head of that.
        made = self.clients[client].version(name, str(head)).branch
        on = made if made and model.heads.get(made) == head else None
        model.migrated[head] = model.save(on, {**state, "second": True}, [head], "2")
        assert int(version.id) == model.migrated[head]

    @rule(client=st.integers(0, 1), name=MODULES)
    def drop_module(self, client, name):
        model = self.modules[name]
        if not model.count:
            with pytest.raises(NotFoundError):
                self.clients[client].delete(name)
        elif any(name in members for members in self.snapshots.values()):
            with pytest.raises(UsageError):
                self.clients[client].delete(name)
        else:
            self.clients[client].delete(name)
            model.count += 1
            model.versions = dict.fromkeys(range(1, model.count + 1))
            model.heads, model.tags = {}, {}

    @rule(client=st.integers(0, 1))
    def reopen(self, client):
        self.clients[client].close()
        self.clients[client] = self.open()

    @invariant()
    def same(self):
        for states in getattr(self, "clients", []):
            for name, model in self.modules.items():
                head = states.head(name)
                assert (int(head.id) if head else None) == model.heads.get("main")
                if not model.count:
                    continue
                history = states.history(name)
                there = {str(number): kept for number, kept in model.versions.items() if kept}
                assert set(history.versions) == set(there)
                assert history.heads == {branch: str(number) for branch, number in model.heads.items()}
                for id, (state, parents, schema) in there.items():
                    version = history.versions[id]
                    assert states.load_state(name, id) == state
                    assert [int(parent) for parent in version.parents] == parents
                    assert version.schema == schema
                    assert set(version.tags) == {tag for tag, number in model.tags.items() if str(number) == id}
        if hasattr(self, "clients"):
            report = self.clients[0].verify()
            assert report.ok, report.problems


def machine(url, examples):
    """The state machine on one store, as a test case."""
    made = type("Machine", (Manager,), {"url": url})
    made.TestCase.settings = settings(
        max_examples=examples,
        stateful_step_count=20,
        deadline=None,
        suppress_health_check=list(HealthCheck),
        derandomize=False,
    )
    return made.TestCase


@pytest.mark.parametrize("kind", ["postgresql", "redis", "etcd"])
def test_servers_do_as_the_model(kind, request, tmp_path):
    """The same machine on the stores that are servers."""
    from versions.conftest import url_of

    url = url_of(kind, request, tmp_path, "{name}")
    case = machine(url, 4)("runTest")
    case.runTest()
