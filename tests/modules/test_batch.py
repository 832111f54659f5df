"""Batches: order, error budget, time limits, context, and how they end."""

import asyncio
import contextvars
import signal
import subprocess
import sys
import threading
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dspex.errors import BatchError, UsageError
from dspex.modules._batch import arun_batch, run_batch

PLACE = contextvars.ContextVar("PLACE", default="nowhere")


def either(call, items, **options):
    """Both ways of running a batch, as one: `mode` says which."""
    mode = options.pop("mode")
    if mode == "threads":
        return run_batch(call, items, **options)

    async def awaited(item):
        await asyncio.sleep(0)
        return call(item)

    if "threads" in options:
        options["concurrency"] = options.pop("threads")
    return asyncio.run(arun_batch(awaited, items, **options))


both = pytest.mark.parametrize("mode", ["threads", "asyncio"])


def odd_fails(number):
    if number % 2:
        raise ValueError(f"odd {number}")
    return number * 10


@both
@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(), max_size=40), st.integers(1, 10))
def test_results_come_in_order(mode, items, threads):
    """As many as items, however many calls are made at once."""
    assert either(lambda n: n + 1, iter(items), threads=threads, mode=mode) == [n + 1 for n in items]


@both
@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(0, 99), max_size=30), st.integers(0, 10), st.sampled_from([1, 3]))
def test_budget_is_exact(mode, items, budget, threads):
    """As many failures as it says are borne, one more is not."""
    failing = [(n, item) for n, item in enumerate(items) if item % 2]
    if len(failing) <= budget:
        expected = [None if item % 2 else item * 10 for item in items]
        assert either(odd_fails, items, max_errors=budget, threads=threads, mode=mode) == expected
        return
    with pytest.raises(BatchError) as caught:
        either(odd_fails, items, max_errors=budget, threads=threads, mode=mode)
    failures = caught.value.failures
    assert len(failures) == budget + 1
    assert [n for n, _ in failures] == sorted(n for n, _ in failures)
    assert all((n, f"odd {items[n]}") == (n, str(error)) for n, error in failures)
    assert len(caught.value.results) == len(items)
    assert isinstance(caught.value.__cause__, ValueError)


@both
def test_no_failure_is_borne_unless_asked(mode):
    """By default the first one ends the batch, and no further item is begun."""
    begun = []

    def call(number):
        begun.append(number)
        raise ValueError

    with pytest.raises(BatchError, match="item 0: ValueError"):
        either(call, range(100), threads=1, mode=mode)
    assert begun == [0]


@both
def test_failures_are_handed_over(mode):
    """All of them, however many, beside the results."""
    results, failed, errors = either(odd_fails, [2, 3, 4, 5], return_failed=True, mode=mode)
    assert (results, failed, [str(error) for error in errors]) == ([20, None, 40, None], [3, 5], ["odd 3", "odd 5"])
    with pytest.raises(BatchError):
        either(odd_fails, [1, 3, 5], return_failed=True, max_errors=2, mode=mode)


@both
@pytest.mark.parametrize("traceback", [True, False])
def test_failures_within_the_budget_are_logged(mode, traceback, caplog):
    """None is passed over in silence."""
    either(odd_fails, [2, 3], max_errors=1, traceback=traceback, mode=mode)
    (record,) = caplog.records
    assert (record.name, record.getMessage()) == ("dspex.batch", "item 1 failed: ValueError: odd 3")
    assert ("Traceback" in caplog.text) is traceback


def test_slow_call_is_given_up_in_threads():
    """It counts as failed, the others go on in as many threads as before, and nobody waits for it."""
    release = threading.Event()

    def call(number):
        if number < 2:
            release.wait(30)
        return number

    try:
        results, failed, errors = run_batch(call, range(20), threads=2, timeout=0.2, return_failed=True)
    finally:
        release.set()
    assert (results, failed) == ([None, None, *range(2, 20)], [0, 1])
    assert [str(error) for error in errors] == ["no answer within 0.2 s"] * 2
    assert all(isinstance(error, TimeoutError) for error in errors)


def test_slow_call_counts_against_the_budget():
    """A batch that hangs is given up."""
    release = threading.Event()
    try:
        with pytest.raises(BatchError, match=r"no answer within 0\.1 s"):
            run_batch(lambda _: release.wait(30), range(3), timeout=0.1)
    finally:
        release.set()


def test_slow_call_is_cancelled_in_asyncio():
    """It is not left running; a TimeoutError of the call's own stays as it is."""
    cancelled = []

    async def call(number):
        if number == 2:
            raise TimeoutError("own")
        try:
            await asyncio.sleep(30 if number == 1 else 0)
        except asyncio.CancelledError:
            cancelled.append(number)
            raise
        return number

    results, failed, errors = asyncio.run(arun_batch(call, range(4), timeout=0.2, return_failed=True))
    assert (results, failed, cancelled) == ([0, None, None, 3], [1, 2], [1])
    assert [str(error) for error in errors] == ["no answer within 0.2 s", "own"]


def test_straggler_is_started_again():
    """When few are left, a slow one gets a second chance, and the first answer counts."""
    release, begun = threading.Event(), []

    def call(number):
        begun.append(number)
        if number == 3 and begun.count(3) == 1:
            release.wait(30)
        return number

    try:
        assert run_batch(call, range(4), timeout=0.1, stragglers=1) == [0, 1, 2, 3]
    finally:
        release.set()
    assert begun.count(3) == 2


def test_stragglers_are_not_started_while_many_are_left():
    """With more than that many left, slow calls are waited for."""
    begun = []

    def call(number):
        begun.append(number)
        time.sleep(0.15)
        return number

    assert run_batch(call, range(4), timeout=0.05, stragglers=0) == [0, 1, 2, 3]
    assert sorted(begun) == [0, 1, 2, 3]


@both
@pytest.mark.parametrize("threads", [1, 3])
def test_context_is_carried_and_not_leaked(mode, threads):
    """Each call sees the caller's variables, and nobody sees what another call sets."""

    def call(number):
        seen = PLACE.get()
        PLACE.set(f"call {number}")
        return seen

    token = PLACE.set("here")
    try:
        assert either(call, range(9), threads=threads, mode=mode) == ["here"] * 9
        assert PLACE.get() == "here"
    finally:
        PLACE.reset(token)


def test_calls_are_made_at_once():
    """As many as there are threads wait for each other."""
    barrier = threading.Barrier(4, timeout=20)
    assert run_batch(lambda n: barrier.wait() >= 0 and n, range(8), threads=4) == list(range(8))


def test_concurrency_is_bounded():
    """No more calls than asked for are under way."""
    now, most = 0, 0

    async def call(_):
        nonlocal now, most
        now += 1
        most = max(most, now)
        await asyncio.sleep(0.001)
        now -= 1

    asyncio.run(arun_batch(call, range(50), concurrency=5))
    assert most == 5


def test_one_thread_is_the_callers():
    """What belongs to a thread can be used."""
    assert run_batch(lambda _: threading.current_thread(), range(3), threads=1) == [threading.current_thread()] * 3


def test_giving_up_cancels_what_runs():
    """In asyncio nothing is left behind, neither by too many errors nor by a cancelled batch."""
    ended = []

    async def call(number):
        if number == 3:
            raise ValueError
        try:
            await asyncio.sleep(30)
        finally:
            ended.append(number)

    async def cancelled():
        batch = asyncio.create_task(arun_batch(call, [7, 8]))
        await asyncio.sleep(0.05)
        batch.cancel()
        with pytest.raises(asyncio.CancelledError):
            await batch
        return len(asyncio.all_tasks())

    with pytest.raises(BatchError):
        asyncio.run(arun_batch(call, range(4)))
    assert sorted(ended) == [0, 1, 2]
    assert asyncio.run(cancelled()) == 1
    assert sorted(ended) == [0, 1, 2, 7, 8]


@pytest.mark.parametrize("threads", [1, 4])
def test_system_exit_is_no_failure_of_a_call(threads):
    """It ends the batch as it is, whatever the budget."""

    def call(number):
        raise SystemExit(number)

    with pytest.raises(SystemExit):
        run_batch(call, range(4), threads=threads, max_errors=100)


def test_ctrl_c_ends_a_batch_that_hangs():
    """Also the process: threads whose calls never return keep nobody."""
    program = (
        "import threading; from dspex.modules._batch import run_batch\n"
        "def call(n):\n"
        "    if n == 0: print('begun', flush=True)\n"
        "    threading.Event().wait()\n"
        "run_batch(call, range(100))"
    )
    source = run_batch.__code__.co_filename.partition("/dspex/")[0]
    process = subprocess.Popen(
        [sys.executable, "-c", f"import sys; sys.path.insert(0, {source!r})\n{program}"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout.readline() == "begun\n"
    process.send_signal(signal.SIGINT)
    _, told = process.communicate(timeout=30)
    assert "KeyboardInterrupt" in told


@both
def test_progress_is_shown_on_stderr(mode, capfd):
    """A bar with how many are done."""
    either(odd_fails, [2, 3, 4], progress=True, max_errors=1, mode=mode)
    shown = capfd.readouterr()
    assert "3/3" in shown.err
    assert shown.out == ""


@both
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"threads": 0}, "at least one call"),
        ({"max_errors": -1}, "max_errors"),
        ({"timeout": 0}, "timeout"),
        ({"timeout": float("nan")}, "timeout"),
    ],
)
def test_options_that_cannot_be_are_refused(mode, options, message):
    """Before any call is made."""
    with pytest.raises(UsageError, match=message):
        either(odd_fails, [2], mode=mode, **options)


def test_stragglers_need_a_time_limit():
    """Without one, no call is slow."""
    with pytest.raises(UsageError, match="stragglers"):
        run_batch(odd_fails, [2], stragglers=3)
