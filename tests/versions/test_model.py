"""The whole manager against a model of dicts, by rules in any order; reopening and a second client are among them.

`python -m versions.test_model EXAMPLES STEPS [STORE...]` (with `tests` and `src` on the path) looks for longer.
"""

import sys
import tempfile
from datetime import UTC, datetime

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from dspex.errors import ConflictError, NotFoundError, UsageError
from dspex.state import canonical
from dspex.stores import open_store
from dspex.versions import NEW, Migrations, Retention, StateManager
from statestores import STORES, url_of

MODULES = ("a", "b/ü.")
modules = st.sampled_from(MODULES)
branches = st.sampled_from((None, "main", "side"))
tags = st.sampled_from(("best", "good"))
places = st.integers(0, 40)
LONG = "long text, of more than one chunk. " * 400
values = st.sampled_from((0, 1, 1.0, None, "1", LONG, (1,), b"1"))
states_ = st.dictionaries(st.sampled_from("xyz"), values, max_size=3)


def same(one, other):
    return canonical(one) == canonical(other)


class Line:
    """The model of one module: versions in the order of their saves, heads, tags, and what was newest when."""

    def __init__(self):
        self.versions = {}  # id -> (version, state, present)
        self.heads, self.tags, self.children = {}, {}, {}

    def present(self):
        return [id for id, (_, _, present) in self.versions.items() if present]

    def state(self, id):
        return self.versions[id][1]

    def bury(self, id):
        version, state, _ = self.versions[id]
        self.versions[id] = (version, state, False)

    def add(self, version, state, branch):
        assert version.id not in self.versions
        assert version.branch == branch
        self.versions[version.id] = (version, state, True)
        if branch:
            self.heads[branch] = version.id

    def ancestors(self, id):
        found, pending = set(), [id]
        while pending:
            one = pending.pop()
            if one in self.versions and one not in found:
                found.add(one)
                pending += self.versions[one][0].parents
        return found


def merged(base, ours, theirs):
    """Three flat dicts as one, or None where both changed a key differently."""
    result = {}
    for key in {*ours, *theirs}:
        before, mine, other = ([side[key]] if key in side else [] for side in (base, ours, theirs))
        if same(mine, other) or same(other, before):
            chosen = mine
        elif same(mine, before):
            chosen = other
        else:
            return None
        for value in chosen:
            result[key] = value
    return result


migrations = Migrations()
migrations.step("1", "2")(lambda state: {**state, "w": 2})


class Machine(RuleBasedStateMachine):
    kind = "memory"

    @initialize(versioning=st.sampled_from(("incremental", "timestamp", "semantic")))
    def begin(self, versioning):
        self.directory = tempfile.TemporaryDirectory()
        self.url, self.versioning = url_of(self.kind, self.directory.name), versioning
        self.store = open_store(self.url)
        self.clients = [self.client(self.store), self.client(self.store)]
        self.turn = 0
        self.lines = {name: Line() for name in MODULES}
        self.snapshots, self.moments = {}, []

    def client(self, store, **options):
        return StateManager(store, versioning=self.versioning, migrations=migrations, **options)

    @property
    def states(self):
        self.turn += 1
        return self.clients[self.turn % 2]

    def chosen(self, name, place, *, present=True):
        ids = self.lines[name].present() if present else list(self.lines[name].versions)
        return ids[place % len(ids)] if ids else None

    def note(self):
        self.moments.append((datetime.now(UTC), {name: line.heads.get("main") for name, line in self.lines.items()}))

    # --- saving

    @rule(name=modules, state=states_, branch=branches, tag=st.none() | tags)
    def save(self, name, state, branch, tag):
        line = self.lines[name]
        if branch == "side" and "side" not in line.heads:
            with pytest.raises(NotFoundError):
                self.states.save_state(name, state, branch=branch)
            return
        head = line.heads.get(branch or "main")
        version = self.states.save_state(name, state, branch=branch, tags=[tag] if tag else [])
        assert version.parents == ((head,) if head else ())
        line.add(version, state, branch or "main")
        line.tags |= {tag: version.id} if tag else {}
        self.note()

    @rule(name=modules, state=states_, place=places, branch=branches)
    def save_on(self, name, state, place, branch):
        line, id = self.lines[name], self.chosen(name, place, present=False)
        if id is None:
            return
        parent = line.versions[id][0]
        branch = branch or parent.branch or "main"
        if branch in line.heads and line.heads[branch] == id:
            line.add(self.states.save_state(name, state, parent=parent, branch=branch), state, branch)
            self.note()
        else:
            with pytest.raises(ConflictError if branch in line.heads else NotFoundError):
                self.states.save_state(name, state, parent=parent, branch=branch)

    @rule(name=modules, state=states_)
    def save_new(self, name, state):
        line = self.lines[name]
        if line.heads:
            with pytest.raises(ConflictError):
                self.states.save_state(name, state, parent=NEW)
        else:
            line.add(self.states.save_state(name, state, parent=NEW), state, "main")
            self.note()

    @rule(name=modules, state=states_, place=places)
    def save_merging(self, name, state, place):
        """A save on an old version of main, by a manager that merges."""
        line, id = self.lines[name], self.chosen(name, place)
        head = line.heads.get("main")
        if id is None or head is None or line.versions[id][0].branch != "main":
            return
        expected = state if id == head else merged(line.state(id), state, line.state(head))
        if line.versions[id][0].schema != line.versions[head][0].schema:
            expected = None  # states of two shapes are not merged
        states = self.client(self.store, resolver="merge")
        if expected is None:
            with pytest.raises(ConflictError):
                states.save_state(name, state, parent=line.versions[id][0])
            return
        line.add(states.save_state(name, state, parent=line.versions[id][0]), expected, "main")
        self.note()

    # --- names

    @rule(name=modules, tag=tags, place=places)
    def tag(self, name, tag, place):
        id = self.chosen(name, place, present=False)
        if id is None:
            return
        if not self.lines[name].versions[id][2]:
            with pytest.raises(NotFoundError):
                self.states.tag(name, tag, id)
            return
        self.states.tag(name, tag, id)
        self.lines[name].tags[tag] = id

    @rule(name=modules, tag=tags)
    def untag(self, name, tag):
        if tag in self.lines[name].tags:
            self.states.untag(name, tag)
            del self.lines[name].tags[tag]
        else:
            with pytest.raises(NotFoundError):
                self.states.untag(name, tag)

    @rule(name=modules, place=places)
    def branch(self, name, place):
        line, id = self.lines[name], self.chosen(name, place)
        if id is None:
            return
        if "side" in line.heads:
            with pytest.raises(ConflictError):
                self.states.branch(name, "side", id)
        else:
            self.states.branch(name, "side", id)
            line.heads["side"] = id

    @rule(name=modules)
    def merge(self, name):
        line = self.lines[name]
        if not {"main", "side"} <= line.heads.keys():
            with pytest.raises(NotFoundError):
                self.states.merge(name, "side")
            return
        ours, theirs = line.heads["main"], line.heads["side"]
        both = line.ancestors(ours) & line.ancestors(theirs)
        base = next((id for id in reversed(line.versions) if id in both), None)
        before = line.state(base) if base and line.versions[base][2] else {}
        expected = merged(before, line.state(ours), line.state(theirs))
        if line.versions[ours][0].schema != line.versions[theirs][0].schema:
            expected = None  # states of two shapes are not merged
        if expected is None:
            with pytest.raises(ConflictError):
                self.states.merge(name, "side")
            return
        version = self.states.merge(name, "side")
        assert set(version.parents) == {ours, theirs}
        line.add(version, expected, "main")
        self.note()

    # --- taking away

    def holders(self, name, id):
        line = self.lines[name]
        held = id in line.heads.values() or id in line.tags.values()
        return held or any(members.get(name) == id for members in self.snapshots.values())

    @rule(name=modules, place=places)
    def delete(self, name, place):
        id = self.chosen(name, place)
        if id is None:
            return
        if self.holders(name, id):
            with pytest.raises(UsageError):
                self.states.delete(name, id)
        else:
            self.states.delete(name, id)
            self.lines[name].bury(id)

    @rule(name=modules)
    def delete_module(self, name):
        line = self.lines[name]
        if not line.versions:
            with pytest.raises(NotFoundError):
                self.states.delete(name)
        elif any(name in members for members in self.snapshots.values()):
            with pytest.raises(UsageError):
                self.states.delete(name)
        else:
            self.states.delete(name)
            for id in line.present():
                line.bury(id)
            line.heads, line.tags = {}, {}
            self.note()

    @rule(keep=st.sampled_from((None, 1, 2)))
    def compact(self, keep):
        states = self.client(self.store, retention=Retention(keep_last=keep))
        states.compact()
        for name, line in self.lines.items():
            for id in line.present()[::-1][keep:] if keep else ():
                if not self.holders(name, id):
                    line.bury(id)
        assert states.verify().spare == 0

    # --- many at once

    @rule(some=st.sets(modules, min_size=1))
    def create_snapshot(self, some):
        name = f"s{len(self.snapshots)}"
        if len(self.snapshots) == 3 or not all("main" in self.lines[module].heads for module in some):
            return
        self.states.create_snapshot(name, some)
        self.snapshots[name] = {module: self.lines[module].heads["main"] for module in some}

    @precondition(lambda self: self.snapshots)
    @rule(place=places, drop=st.booleans())
    def use_snapshot(self, place, drop):
        name = sorted(self.snapshots)[place % len(self.snapshots)]
        if drop and name == f"s{len(self.snapshots) - 1}":
            self.states.delete_snapshot(name)
            del self.snapshots[name]
        else:
            self.back_to(self.snapshots[name], lambda: self.states.restore_snapshot(name))

    @precondition(lambda self: self.moments)
    @rule(place=places)
    def restore_moment(self, place):
        moment, members = self.moments[place % len(self.moments)]
        wanted = {name: id for name, id in members.items() if self.lines[name].versions}
        gone = [id for name, id in wanted.items() if id and not self.lines[name].versions[id][2]]
        if gone:
            with pytest.raises(NotFoundError):
                self.states.restore(at=moment)
        else:
            self.back_to(wanted, lambda: self.states.restore(at=moment))

    def back_to(self, members, restore):
        changed = {name: id for name, id in members.items() if self.lines[name].heads.get("main") != id}
        made = {version.module_id: version for version in restore()}
        assert made.keys() == {name for name, id in changed.items() if id}
        for name, id in changed.items():
            if id:
                self.lines[name].add(made[name], self.lines[name].state(id), "main")
            else:
                del self.lines[name].heads["main"]
        self.note()

    @rule(name=modules, place=places)
    def migrate(self, name, place):
        line, id = self.lines[name], self.chosen(name, place)
        if id is None:
            return
        version = line.versions[id][0]
        made = self.states.migrate_state(name, "2", at=id)
        if version.schema == "2":
            assert made.id == id
            return
        child = line.children.get(id)
        if child is not None and line.versions[child][2]:
            assert made.id == child
            return
        at_head = version.branch is not None and line.heads.get(version.branch) == id
        line.add(made, {**line.state(id), "w": 2}, version.branch if at_head else None)
        line.children[id] = made.id
        self.note()

    # --- other eyes

    @rule()
    def reopen(self):
        if self.kind != "memory":
            self.store.close()
            self.store = open_store(self.url)
        self.clients = [self.client(self.store), self.clients[0]]
        if self.kind != "memory":
            self.clients[1] = self.client(open_store(self.url))

    @rule()
    def copy_elsewhere(self):
        """All of it, brought to another store, says the same."""
        other = StateManager("memory://", versioning=self.versioning)
        self.states.sync(other)
        for name, line in self.lines.items():
            for branch, id in line.heads.items():
                assert same(other.load_state(name, other.head(name, branch)), line.state(id))
            for tag, id in line.tags.items():
                assert same(other.load_state(name, tag), line.state(id))
        assert other.verify().problems == ()
        assert other.sync(self.states, "push").versions == 0

    @rule(name=modules, place=places)
    def load(self, name, place):
        line, id = self.lines[name], self.chosen(name, place, present=False)
        if id is None:
            with pytest.raises(NotFoundError):
                self.states.load_state(name)
        elif line.versions[id][2]:
            assert same(self.states.load_state(name, id), line.state(id))
            assert self.states.version(name, id).tags == tuple(sorted(t for t, at in line.tags.items() if at == id))
        else:
            with pytest.raises(NotFoundError, match="was deleted"):
                self.states.load_state(name, id)

    @precondition(lambda self: self.moments)
    @rule(place=places, name=modules)
    def look_back(self, place, name):
        moment, members = self.moments[place % len(self.moments)]
        id, line = members[name], self.lines[name]
        if id is None or not line.versions[id][2]:
            with pytest.raises(NotFoundError):
                self.states.load_state(name, moment)
        else:
            assert same(self.states.load_state(name, moment), line.state(id))

    @invariant()
    def agrees(self):
        if not hasattr(self, "lines"):
            return
        states = self.states
        report = states.verify()
        assert report.problems == ()
        for name, line in self.lines.items():
            listed = [version.id for version in states.list_versions(name, limit=1000).versions]
            assert listed == line.present()[::-1]
            for branch in ("main", "side"):
                head = states.head(name, branch)
                assert (head and head.id) == line.heads.get(branch)
                if head:
                    assert same(states.load_state(name, head), line.state(head.id))

    def teardown(self):
        if hasattr(self, "store"):
            for client in self.clients:
                client.store.close()
            self.store.close()
            self.directory.cleanup()


def run(kind, examples, steps, *, shrink=True):
    """Look for a difference in so many runs of at most so many rules."""
    machine = type(f"Machine_{kind}", (Machine,), {"kind": kind})
    chosen = settings(
        max_examples=examples,
        stateful_step_count=steps,
        deadline=None,
        suppress_health_check=list(HealthCheck),
        database=None,
        phases=[Phase.generate, Phase.shrink] if shrink else [Phase.generate],
    )
    run_state_machine_as_test(machine, settings=chosen)


@pytest.mark.parametrize("kind", STORES)
def test_the_manager_does_what_the_model_does(kind):
    """Whatever is done in whatever order, by two clients and across reopening, versions are what the model says."""
    run(kind, 25, 30)


if __name__ == "__main__":
    for chosen in sys.argv[3:] or STORES:
        run(chosen, int(sys.argv[1]), int(sys.argv[2]))
        print(f"{chosen}: {sys.argv[1]} runs of {sys.argv[2]} rules, no divergence", flush=True)
