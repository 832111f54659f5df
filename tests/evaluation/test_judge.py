import contextlib
import os

import pytest

from command import PROBLEMS
from dspex import CodeExecutor, ResourceLimits, SecurityPolicy
from dspex.errors import UsageError
from dspex.evaluation import Sample, canonical_samples, judge, read_problems

_TASK = "Example/8"  # digits_sum
_RIGHT = "    return sum(map(int, str(abs(n))))\n"


@pytest.fixture(scope="module")
def problems():
    return read_problems(PROBLEMS)


@pytest.fixture(scope="module")
def executor():
    with CodeExecutor(limits=ResourceLimits(wall=2, cpu=2, memory="128MB", output="1MB")) as executor:
        yield executor


def _sample(completion):
    return Sample(_TASK, completion, {"task_id": _TASK, "completion": completion}, "here")


@pytest.mark.parametrize(
    ("completion", "result"),
    [
        (_RIGHT, "passed"),
        ("    return 0\n", "failed: "),
        ("    return 1 / 0\n", "failed: division by zero"),
        ("    raise SystemExit(0)\n", "failed: the program ended before its tests did"),
        ("    import os; os._exit(0)\n", "failed: the program ended its own process with status 0 before it answered"),
        ("    while True: pass\n", "timed out"),
        ("    while True:\n        try: 1\n        except BaseException: pass\n", "timed out"),
        ("    import time; time.sleep(60)\n", "timed out"),
        (_RIGHT + "if __name__ == '__main__':\n    input()\n", "passed"),
        ("    return (\n", "failed: '(' was never closed (<string>, line 6)"),
        ("    return '\ud800'\n", "failed: 'utf-8' codec can't encode character '\\ud800' in position 161"),
        (_RIGHT + "\0", "failed: source code string cannot contain null bytes"),
        ("    return bytearray(10**9)\n", "failed: "),
        ("    open('/etc/shadow').read()\n", "failed: "),
        ("    import __main__\n    return __main__.digits\n", "failed: module '__main__' has no attribute 'digits'"),
    ],
)
def test_a_verdict(executor, problems, completion, result):
    """The result says what became of the program, in the words of HumanEval's own tool."""
    (verdict,) = judge(executor, problems, [_sample(completion)])
    assert verdict.passed == (result == "passed")
    assert verdict.result.startswith(result)


def test_reference_solutions_pass(executor, problems):
    """Every reference solution of the examples passes, in order."""
    verdicts = list(judge(executor, problems, canonical_samples(problems)))
    assert [verdict.sample.task_id for verdict in verdicts] == list(problems.by_task)
    assert all(verdict.passed for verdict in verdicts)


def test_judging_is_streaming(executor, problems):
    """Endlessly many samples are judged as they are drawn."""

    def endless():
        while True:
            yield _sample(_RIGHT)
            yield _sample("    return 0\n")

    verdicts = judge(executor, problems, endless())
    assert [next(verdicts).passed for _ in range(20)] == [True, False] * 10
    verdicts.close()


def test_names_of_modules_are_not_looked_for(problems):
    """A policy whose forbidden names would be passed over in silence is refused."""
    with CodeExecutor(policy=SecurityPolicy.strict()) as executor, pytest.raises(UsageError, match="forbidden_modules"):
        next(judge(executor, problems, [_sample(_RIGHT)]))


def test_a_sandbox_that_is_lost_is_replaced(problems):
    """A zygote that is killed costs no verdict: what was under way is run again, in order."""
    slow = "    import time; time.sleep(0.2)\n" + _RIGHT
    samples = [_sample(slow if n % 2 else "    return 0\n") for n in range(16)]
    with CodeExecutor(max_concurrency=2) as executor:
        verdicts = judge(executor, problems, samples)
        first = [next(verdicts).passed for _ in range(4)]
        for pid in _descendants(os.getpid()):
            with contextlib.suppress(ProcessLookupError):  # guests come and go meanwhile
                os.kill(pid, 9)
        assert first + [verdict.passed for verdict in verdicts] == [False, True] * 8


def _descendants(pid):
    """Processes below this one, the deepest first."""
    found = []
    for task in os.listdir(f"/proc/{pid}/task"):
        with open(f"/proc/{pid}/task/{task}/children") as file:
            for child in map(int, file.read().split()):
                found += [*_descendants(child), child]
    return found
