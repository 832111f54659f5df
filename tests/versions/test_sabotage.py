"""The checks of versions are checked: with a bug put in on purpose, they go red, and without it they are green."""

import pytest
from hypothesis.errors import HypothesisException

import sabotages
from dspex.errors import DspexError
from dspex.stores import open_store
from dspex.versions import StateManager
from statestores import url_of
from versions import test_damage, test_marking, test_model, test_processes, test_races

RED = (AssertionError, pytest.fail.Exception, DspexError, HypothesisException, BaseExceptionGroup)


def model():
    """The rules against the model, without looking for the shortest way to a difference."""
    test_model.run("memory", 60, 40, shrink=False)


def held():
    """Deletions of what a head, a tag or a snapshot holds: the model comes upon one in too few of its runs."""
    with StateManager("memory://") as states:
        for number in range(4):
            states.save_state("m", {"i": number})
        test_marking.test_what_is_held_is_not_deleted(states)


def swept_save():
    """A save that another's sweep comes between."""
    store = open_store("memory://")
    test_races.test_a_save_does_not_rely_on_chunks_that_were_swept(store, test_races.Meddled(store))


@pytest.mark.parametrize(
    ("sabotage", "check"),
    [
        (sabotages.conflict_ignored, model),
        (sabotages.needed_chunk_dropped, model),
        (sabotages.tag_holds_nothing, held),
        (sabotages.checksum_not_verified, test_damage.test_each_byte_of_a_chunk_is_checked),
        (sabotages.sweep_not_expected, swept_save),
    ],
)
def test_a_bug_is_found(sabotage, check, monkeypatch):
    """The check that is there for it fails with the bug."""
    sabotage(monkeypatch.setattr)
    with pytest.raises(RED):
        check()


@pytest.mark.parametrize("check", [model, held, swept_save])
def test_without_a_bug_they_are_green(check):
    """So it was the bug that was found."""
    check()


@pytest.mark.timeout(300)
@pytest.mark.parametrize("sabotage", ["conflict_ignored", "read_then_write"])
def test_a_bug_is_found_by_processes(sabotage, tmp_path):
    """Eight processes lose an update with it, or fail."""
    url = url_of("sqlite", tmp_path)
    with pytest.raises(RED):
        test_processes.check(url, "compare_and_set", *test_processes.race(url, "compare_and_set", 400, sabotage))
