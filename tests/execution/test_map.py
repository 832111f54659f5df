"""`CodeExecutor.map`: in order, streaming, bounded, and fair to others."""

import asyncio
import itertools
import threading
import time

import pytest

import leftovers
from dspex import CodeExecutor, Job, ResourceLimits
from dspex.errors import ClosedError, QueueFullError, UsageError, VariableError


@pytest.fixture(scope="module")
def executor():
    with CodeExecutor(max_concurrency=2) as shared:
        yield shared


def test_results_come_in_order(executor):
    """A slow job does not let later results pass it."""
    jobs = [Job("import time\ntime.sleep(t)\nn", {"n": n, "t": 0.1 if n % 5 == 0 else 0}) for n in range(20)]
    assert [result.value for result in executor.map(jobs, concurrency=4)] == list(range(20))


def test_results_stream(executor):
    """The first result is there before later jobs have been drawn."""
    drawn = []

    def jobs():
        for n in range(1000):
            drawn.append(n)
            yield f"{n}"

    results = executor.map(jobs(), concurrency=2)
    assert next(results).value == 0
    assert len(drawn) <= 12
    results.close()


def test_endless_jobs_are_fine(executor):
    """Jobs may never end: memory is bounded by what is drawn ahead."""
    results = executor.map(str(n) for n in itertools.count())
    assert [result.value for result in itertools.islice(results, 50)] == list(range(50))
    results.close()


def test_slow_first_job_bounds_what_is_drawn(executor):
    """While the first job runs, only a bounded number of later ones is drawn."""
    drawn = []

    def jobs():
        yield "import time\ntime.sleep(0.5)\n'slow'"
        for n in range(10_000):
            drawn.append(n)
            yield "1"

    results = executor.map(jobs(), concurrency=2)
    assert next(results).value == "slow"
    assert len(drawn) < 20
    results.close()


@pytest.mark.parametrize("jobs", [[], (), iter([])])
def test_no_jobs_give_no_results(executor, jobs):
    """An empty iterable gives an empty iterator."""
    assert list(executor.map(jobs)) == []


def test_failed_programs_are_results(executor):
    """Programs that fail, die or time out are results in their place."""
    codes = [
        "1",
        "1 / 0",
        "import os\nos._exit(1)",
        Job("while True: pass", timeout=0.2),
        Job("sum(range(10**15))", timeout=0.2),
        "6",
    ]
    results = list(executor.map(codes))
    assert [result.error and result.error.kind for result in results] == [
        None,
        "runtime",
        "killed",
        "timeout",
        "timeout",
        None,
    ]


def test_jobs_carry_all_arguments(executor):
    """A Job has the arguments of `execute`, and large values cross both ways."""
    job = Job(
        "import os\n(m.pi > 3, os.environ['A'], os.path.basename(os.getcwd()), b)",
        {"b": bytes(1 << 20)},
        ["math as m"],
        {"A": "1"},
        "d",
        5.0,
    )
    assert [r.value for r in executor.map([job] * 3)] == [(True, "1", "d", bytes(1 << 20))] * 3


def test_exception_of_the_iterable_comes_behind_the_results(executor):
    """When the jobs' iterable raises, the results of the jobs before it are yielded first."""

    def jobs():
        yield "1"
        yield "2"
        raise OSError("no more")

    values = []
    with pytest.raises(OSError, match="no more"):
        values.extend(result.value for result in executor.map(jobs(), concurrency=8))
    results = executor.map(jobs(), concurrency=8)
    assert [next(results).value, next(results).value] == [1, 2]
    with pytest.raises(OSError, match="no more"):
        next(results)


@pytest.mark.parametrize(
    ("job", "error"), [(None, UsageError), (5, UsageError), (Job("1", {"class": 1}), VariableError)]
)
def test_wrong_job_is_refused_in_its_place(executor, job, error):
    """A job that cannot be run raises when its turn comes, behind the results before it."""
    results = executor.map(["1", job, "3"], concurrency=8)
    assert next(results).value == 1
    with pytest.raises(error):
        next(results)
    assert list(results) == []


@pytest.mark.parametrize("concurrency", [0, -1, 1.5, "2"])
def test_wrong_concurrency_is_refused_at_once(executor, concurrency):
    """The call itself raises, not the first `next`."""
    with pytest.raises(UsageError, match="concurrency"):
        executor.map(["1"], concurrency=concurrency)


def test_consumer_that_stops_early_leaves_nothing(executor):
    """A consumer that breaks off frees the places and kills the guests."""
    executor.execute("1")
    before = len(leftovers.descriptors())
    for _ in range(5):
        for result in executor.map(["1", "while True: pass", "while True: pass", "4"], concurrency=4):
            assert result.value == 1
            break
    assert [executor.execute("2").value for _ in range(4)] == [2] * 4
    assert leftovers.becomes_true(lambda: len(leftovers.descriptors()) <= before + 8)


@pytest.mark.parametrize("places", [1, 2])
def test_consumer_may_run_programs_in_between(places):
    """`execute` in the body of a loop over `map` is served, although the map's own runs hold the places."""
    with CodeExecutor(max_concurrency=places) as executor:
        values = []
        for result in executor.map(["1"] * 6, concurrency=4):
            values.append(result.value + executor.execute("2").value)
        assert values == [3] * 6


def test_two_maps_in_one_thread():
    """Two maps that are consumed in turns do not wait for each other for ever."""
    with CodeExecutor(max_concurrency=1) as executor:
        pairs = zip(executor.map(["1"] * 6, concurrency=3), executor.map(["2"] * 6, concurrency=3), strict=True)
        assert [(a.value, b.value) for a, b in pairs] == [(1, 2)] * 6


def test_map_beside_awaits_in_one_loop():
    """A map that is consumed slowly inside an event loop does not starve the loop's own calls."""

    async def everything(executor):
        results = executor.map(["1"] * 6)
        values = []
        for result in results:
            values.append(result.value + (await executor.aexecute("2")).value)
        return values

    with CodeExecutor(max_concurrency=1) as executor:
        assert asyncio.run(everything(executor)) == [3] * 6


def test_jobs_may_run_programs_themselves():
    """The generator that gives the jobs may call `execute`."""
    with CodeExecutor(max_concurrency=1) as executor:
        jobs = (str(executor.execute("1").value + n) for n in range(5))
        assert [result.value for result in executor.map(jobs)] == [1, 2, 3, 4, 5]


def test_answer_of_a_slow_consumer_is_not_late(executor):
    """A consumer that stays away longer than a deadline still gets the answer that was given in time."""
    results = executor.map([Job("1", timeout=0.3), Job("2", timeout=0.3)], concurrency=2)
    assert next(results).value == 1
    time.sleep(0.6)
    second = next(results)
    assert second.value == 2


def test_many_maps_at_once(executor):
    """Maps in several threads share the places, each with its results in order."""
    found = {}

    def work(k):
        found[k] = [result.value for result in executor.map([f"{k * 100 + n}" for n in range(40)], concurrency=8)]

    threads = [threading.Thread(target=work, args=(k,)) for k in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert found == {k: [k * 100 + n for n in range(40)] for k in range(5)}


def test_map_of_a_closed_executor_raises():
    """A map under way raises ClosedError when its executor is closed."""
    executor = CodeExecutor(max_concurrency=1)
    results = executor.map(["1"] * 50)
    assert next(results).value == 1
    executor.close()
    with pytest.raises(ClosedError):
        list(results)


def test_full_queue_is_an_error_in_its_place():
    """A map that asks for more than the queue holds raises QueueFullError, and its places are free then."""
    with CodeExecutor(max_concurrency=1, queue=2) as executor:
        with pytest.raises(QueueFullError):
            list(executor.map(["1"] * 50, concurrency=50))
        assert executor.execute("1").value == 1


def test_map_uses_one_thread(executor):
    """A map starts no thread."""
    executor.execute("1")
    before = threading.active_count()
    assert all(threading.active_count() <= before for _ in executor.map(["1"] * 20))


def test_map_enforces_what_the_kernel_does_not():
    """A program that ignores the kernel's signal at its CPU limit is ended by the keeper, as outside of a map."""
    code = "import signal\nsignal.signal(signal.SIGXCPU, signal.SIG_IGN)\nwhile True: pass"
    with CodeExecutor(limits=ResourceLimits(cpu=1)) as executor:
        (result,) = executor.map([Job(code, timeout=10)])
    assert result.error.kind == "cpu_limit"
