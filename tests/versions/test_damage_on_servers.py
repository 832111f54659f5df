"""Lost records and chunks on servers, and records that stand under another's key: never a wrong state, always named."""

import pytest

from dspex.errors import IntegrityError
from dspex.stores import Write, open_store
from dspex.versions import StateManager

LARGE = {f"k{i}": f"value {i} " * 5 for i in range(600)}


def test_lost_records_and_chunks_are_named(server_url):
    """Verify tells of each version that lost its record or a chunk, and of the tag that leads nowhere."""
    store = open_store(server_url)
    states = StateManager(store)
    for module_id, state in (("small", {"a": 1}), ("large", LARGE), ("large", {**LARGE, "k7": "changed"})):
        states.save_state(module_id, state)
    states.tag("large", "good", "1")
    digest = min(states._contents.hashes("small", states._catalog.find("small", "1").saved))
    store.write(Write(drop=[digest], delete=["v/large/000000000001"]))
    with pytest.raises(IntegrityError, match=f"the chunk {digest.hex()} is missing"):
        states.load_state("small")
    found = {problem.thing: problem.affected for problem in states.verify().problems}
    gone = (("large", "1"),)
    assert found == {digest.hex(): (("small", "1"),), "v/large/000000000001": gone, "t/large/good": gone}
    assert states.load_state("large")["k7"] == "changed"
    store.close()


def test_a_record_under_anothers_key_is_damage():
    """A whole and unharmed value that stands under another key is refused."""
    states = StateManager("memory://")
    states.save_state("a", {"who": "a"})
    states.save_state("b", {"who": "b"})
    value = states.store.read(["m/a"])["m/a"].value
    states.store.write(Write(put={"m/b": value}))
    with pytest.raises(IntegrityError, match="the record m/b is damaged"):
        states.load_state("b")
