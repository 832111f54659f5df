"""`dspex state`: which store it works on, and what it says when that cannot be."""

import json
import os
import sys

import pytest

from command import ROOT, dspex
from dspex.versions import StateManager

CONTAINER = [sys.executable, str(ROOT / "tests" / "container.py")]  # no capabilities: root may not write everywhere


@pytest.fixture(params=["sqlite", "file"])
def store(request, tmp_path):
    """The URL of a store with one version."""
    url = f"{request.param}:///{tmp_path}/store"
    with StateManager(url) as states:
        states.save_state("m", {"a": 1})
    return url


sqlite_only = pytest.mark.parametrize("store", ["sqlite"], indirect=True)  # what no store has a part in


@sqlite_only
@pytest.mark.parametrize("how", ["before", "after", "variable"])
def test_a_store_is_named_in_three_ways(store, how):
    """By an option before or after the command, or by the environment."""
    wanted = ["--store", store]
    arguments = {"before": [*wanted, "ls"], "after": ["ls", *wanted], "variable": ["ls"]}[how]
    done = dspex("state", *arguments, "--json", variables={"DSPEX_STORE": store} if how == "variable" else None)
    assert [module["module_id"] for module in json.loads(done.stdout)] == ["m"]


@sqlite_only
def test_the_nearest_name_counts(store):
    """An option goes before the environment, the one at the command before the one at the group."""
    wrong = "sqlite:////no/such/place"
    done = dspex("state", "--store", wrong, "ls", "--store", store, variables={"DSPEX_STORE": wrong})
    assert done.returncode == 0, done.stderr


def test_no_store():
    """Without one, it is said how to name one."""
    done = dspex("state", "ls")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "dspex: no store: name one with --store URL, as sqlite:///states.db, or set DSPEX_STORE\n"


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("nonsense", "'nonsense' is no URL of a store"),
        ("no-such-scheme://x", "no store is known for no-such-scheme://"),
        ("sqlite://", "names no path"),
        ("sqlite:////no/such/states.db", "there is no store at /no/such/states.db"),
        ("file:////no/such/states", "there is no store at /no/such/states"),
        ("sqlite:////etc/passwd", "/etc/passwd: file is not a database"),
        ("file:////etc", "holds something else"),
    ],
)
def test_a_bad_store(url, said):
    """One line that names the store and what is wrong; nothing is made."""
    done = dspex("state", "--store", url, "ls")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("dspex: ")
    assert said in done.stderr
    assert done.stderr.count("\n") == 1


def test_looking_makes_no_store(tmp_path):
    """A mistyped name is an error, and no new empty store."""
    assert dspex("state", "ls", "--store", "sqlite:///typo.db", cwd=tmp_path).returncode == 2
    assert list(tmp_path.iterdir()) == []


@sqlite_only
@pytest.mark.parametrize(
    "command",
    [
        ["log", "nope"],
        ["show", "nope"],
        ["diff", "nope", "1"],
        ["tag", "nope", "good"],
        ["untag", "nope", "good"],
        ["branch", "nope", "trial"],
        ["branch", "nope"],
        ["merge", "nope", "trial"],
        ["restore", "nope", "--at", "1"],
        ["snapshot", "create", "s", "nope"],
        ["export", "bundle", "nope"],
    ],
)
def test_an_unknown_module(store, command, tmp_path):
    """Every command names the module that is not there."""
    done = dspex("state", "--store", store, *command, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("dspex: ")
    assert "'nope'" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "bundle").exists()


@sqlite_only
@pytest.mark.parametrize("at", ["7", "untagged", "20261123", "1990-01-01", "2026-13-45"])
def test_an_unknown_version(store, at):
    """An id, a tag or a moment that names nothing is named."""
    done = dspex("state", "--store", store, "show", "m", "--at", at)
    assert done.returncode == 2
    assert at in done.stderr
    assert "its newest is '1'" in done.stderr


@pytest.mark.parametrize("command", [["ls"], ["tag", "m", "good"], ["gc"]])
def test_a_store_that_cannot_be_written(store, tmp_path, command):
    """One line that names the store and why; the store is as it was."""
    place = tmp_path / "store"
    made = [tmp_path, *tmp_path.rglob("*")]
    modes = {path: path.stat().st_mode for path in made}
    for path in made:
        os.chmod(path, 0o555 if path.is_dir() else 0o444)
    try:
        done = dspex("state", "--store", store, *command, before=CONTAINER)
    finally:
        for path in made:
            os.chmod(path, modes[path])
    assert (done.returncode, done.stdout) == (2, "")
    assert str(place) in done.stderr
    assert "denied" in done.stderr
    assert dspex("state", "--store", store, "verify").returncode == 0


@sqlite_only
@pytest.mark.parametrize(
    ("command", "said"),
    [
        (["gc", "--keep-for", "3y"], "'3y' is no length of time"),
        (["gc", "--keep-last", "0"], "keep_last must be at least 1"),
        (["log", "m", "-n", "0"], "--limit must be at least 1"),
        (["sync", "memory://", "--direction", "left"], "direction must be"),
        (["sync", "memory://", "--resolver", "left"], "resolver must be"),
        (["merge", "m", "b", "--versioning", "left"], "versioning must be"),
        (["tag", "m", "17"], "looks like an id"),
        (["import", "/no/such"], "/no/such: No such file"),
        (["import", "/etc/passwd"], "/etc/passwd: no bundle"),
        (["export", "/no/such/bundle"], "/no/such"),
        (["sync", "sqlite:////no/such", "--direction", "pull"], "there is no store at /no/such"),
        (["snapshot", "restore", "none"], "there is no snapshot 'none'"),
        (["snapshot", "rm", "none"], "there is no snapshot 'none'"),
        (["log", b"\xff"], "half a surrogate pair"),
    ],
)
def test_arguments_that_cannot_be(store, command, said):
    """Each is named, with what is allowed."""
    done = dspex("state", "--store", store, *(os.fsdecode(word) for word in command))
    assert done.returncode == 2
    assert done.stderr.startswith("dspex: ")
    assert said in done.stderr
    assert "Traceback" not in done.stderr


def test_an_encrypted_store_takes_its_key_from_the_environment(tmp_path):
    """With the key it opens, without it or with a wrong one the error says so, and the key is never an argument."""
    url, key = f"sqlite:///{tmp_path}/sealed.db", os.urandom(32)
    with StateManager(url, key=key) as states:
        states.save_state("m", {"a": 1})
    done = dspex("state", "--store", url, "ls", "--json", variables={"DSPEX_STORE_KEY": key.hex()})
    assert [module["module_id"] for module in json.loads(done.stdout)] == ["m"]
    for variables, said in (
        (None, "is encrypted; give its key"),
        ({"DSPEX_STORE_KEY": os.urandom(32).hex()}, "the key does not open"),
        ({"DSPEX_STORE_KEY": "password"}, "DSPEX_STORE_KEY must be a key as 64 hexadecimal digits"),
    ):
        done = dspex("state", "--store", url, "ls", variables=variables)
        assert done.returncode == 2
        assert said in done.stderr
