"""`Line`: who runs next, decided without a lock, a thread or a descriptor."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dspex.errors import QueueFullError
from dspex.execution._line import Caller, Lane, Line


def caller(lane, *, place=True):
    return Caller(lane, needs_place=place, wake=lambda: None)


def test_caller_with_place_and_guest_is_served_at_once():
    """Whoever finds both does not wait."""
    line, lane = Line(1, 1), Lane(())
    line.arrive(lane, "guest")
    first = caller(lane)
    assert line.join(first) == [first]
    assert (first.guest, first.placed, line.running) == ("guest", True, 1)


def test_places_go_out_in_order_of_arrival():
    """The first to come is the first to be placed, whatever its lane."""
    line, lanes = Line(1, 9), (Lane(("a",)), Lane(("b",)))
    callers = [caller(lanes[n % 2]) for n in range(4)]
    for each in callers:
        line.join(each)
    for lane in lanes:
        for n in range(2):
            line.arrive(lane, n)
    assert [each.served for each in callers] == [True, False, False, False]
    assert [line.leave() for _ in range(3)] == [[each] for each in callers[1:]]


def test_queue_full_says_how_many_wait():
    """The bound counts those who wait, not those who run."""
    line = Line(1, 2)
    for _ in range(3):
        line.join(caller(None))
    with pytest.raises(QueueFullError, match="2 callers"):
        line.join(caller(None))


def test_opening_session_needs_no_place():
    """A caller that wants a guest only is served while all places are taken."""
    line, lane = Line(1, 1), Lane(())
    line.join(caller(None))
    line.arrive(lane, "guest")
    opening = caller(lane, place=False)
    assert line.join(opening) == [opening]
    assert line.running == 1


def test_failing_a_lane_tells_all_who_wait_for_it_and_no_others():
    """Also those behind in the queue are told, for each place that is given back goes to the next of them."""
    line, lane, other = Line(2, 99), Lane(("broken",)), Lane(())
    broken = [caller(lane) for _ in range(10)]
    sound = caller(other)
    for each in [*broken[:5], sound, *broken[5:]]:
        line.join(each)
    error = OSError("no")
    told = line.fail(lane, error)
    assert [each for each in told if each.error is error] == broken
    assert (sound.error, sound.placed, line.running) == (None, True, 1)


def test_giving_up_returns_what_was_held():
    """A caller that was served and does not want to run any more leaves guest and place to the next."""
    line, lane = Line(1, 9), Lane(())
    line.arrive(lane, "guest")
    first, second = caller(lane), caller(lane)
    line.join(first)
    line.join(second)
    assert line.give_up(first) == [second]
    assert (second.guest, line.running) == ("guest", 1)
    assert line.give_up(first) == []


def test_emptying_tells_everybody_in_the_queue():
    """Those who wait fail, those who run are not touched."""
    line = Line(1, 9)
    callers = [caller(None) for _ in range(3)]
    for each in callers:
        line.join(each)
    assert line.empty(OSError("end")) == callers[1:]
    assert (callers[0].error, line.blocked) == (None, False)


def test_shortage_counts_what_is_coming():
    """Guests that were asked for are not asked for again."""
    lane = Lane(())
    assert lane.shortage(4) == 4
    lane.coming |= {1, 2, 3}
    lane.ready.append("guest")
    assert lane.shortage(4) == 0
    lane.callers.append(caller(lane))
    assert lane.shortage(4) == 1


ACTIONS = st.lists(
    st.tuples(st.sampled_from(["join", "open", "again", "arrive", "leave", "give_up", "fail"]), st.integers(0, 20)),
    max_size=60,
)


@settings(max_examples=200, deadline=None)
@given(ACTIONS, st.integers(1, 3))
def test_any_history_keeps_the_books(actions, places):
    """Whatever happens, `running` is the number of placed callers, at most `places`; no guest is given twice."""
    line, lane = Line(places, 10), Lane(())
    callers, guests = [], 0
    for action, n in actions:
        if action in ("join", "open", "again"):
            new = caller(None if action == "again" else lane, place=action != "open")
            try:
                line.join(new)
            except QueueFullError:
                continue
            callers.append(new)
        elif action == "arrive":
            guests += 1
            line.arrive(lane, guests)
        elif action == "fail":
            line.fail(lane, OSError())
        elif callers:
            chosen = callers[n % len(callers)]
            if action == "give_up":
                line.give_up(chosen)
                callers.remove(chosen)
            elif chosen.placed and chosen.served:
                chosen.placed = False
                line.leave()
        given_out = [each.guest for each in callers if each.guest is not None] + list(lane.ready)
        assert len(given_out) == len(set(given_out))
        assert line.running == sum(each.placed for each in callers) <= places
        assert not (line.blocked and line.running < places)
        assert not (lane.callers and lane.ready)
