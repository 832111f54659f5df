"""DSPy's interpreter against ours, in DSPy's own hands: calls, inputs, tools, eight at once, memory, `dspy.Evaluate`.

Where DSPy's own starts here (it needs Deno, and the network for Pyodide once) both take turns; else it is held against what
was measured before, on this kind of machine. DSPy is a peer, not a dependency: where it cannot be imported, these figures say so.
"""

from __future__ import annotations

import importlib.util
import logging
import os
import re
import sys
import threading
import time
import warnings
from typing import Any, NamedTuple

from benchmarks.table import Row, median, milliseconds
from dspex._kernel import resources

_TAKEN = {  # seconds, DSPy 3.4.1 with Deno 2.9 on 2 cores, measured before
    "warm": 2.05e-3,
    "tool": 2.45e-3,
    "string": 1.339,
    "rows": 12.631,
    "eight": 14.1,
    "again": 0.235e-3,
}
_TAKEN_MEMORY = 933 * 2**20
_MEGABYTES = 10
_THREADS = 16


class Kind(NamedTuple):
    """Whose interpreter, and how many times slow things are measured."""

    make: Any
    rounds: int


def interpreters(_):
    """The figures; none where DSPy is not installed."""
    if importlib.util.find_spec("dspy") is None:
        return [Row("interpreters, against DSPy", "not run: pip install 'dspex[dspy]'", "", None, "")]
    import dspy

    from dspex.integrations.dspy import Interpreter

    logging.getLogger("dspy").setLevel(logging.CRITICAL)
    warnings.simplefilter("ignore", DeprecationWarning)
    ours = Kind(Interpreter, 9)
    theirs = Kind(dspy.PythonInterpreter, 1) if _starts(dspy.PythonInterpreter) else None
    rows = [_row(name, bar, figure, ours, theirs, key) for name, bar, figure, key in _FIGURES]
    return [*rows, _memory(ours, theirs), _evaluate(ours, theirs)]


def _starts(kind):
    try:
        with kind() as interpreter:
            return interpreter.execute("1+1") == 2
    except Exception as error:  # whatever ails a peer, ours are still to be measured
        print(f"DSPy's own interpreter: left out: {error}", file=sys.stderr)
        return False


def _row(name, bar, figure, ours, theirs, key):
    print(f"    {name}", file=sys.stderr, flush=True)
    mine = figure(ours)
    if theirs is None:
        return Row(
            name, milliseconds(mine), f"{1000 * _TAKEN[key]:,.2f} ms (taken before)", _TAKEN[key] / median(mine), bar
        )
    others = figure(theirs)
    mine += figure(ours)
    told = f"{milliseconds(others)} (before: {1000 * _TAKEN[key]:,.2f} ms)"
    return Row(name, milliseconds(mine), told, median(others) / median(mine), bar)


def _timed(action):
    started = time.perf_counter()
    action()
    return time.perf_counter() - started


# --- calls ---


def _warm(kind):
    with kind.make() as interpreter:
        interpreter.execute("1+1")
        return [_timed(lambda: interpreter.execute("1+1")) for _ in range(300)]


def _tool(kind):
    with kind.make(tools={"add": lambda a, b: a + b}) as interpreter:
        interpreter.execute("add(a=1, b=2)")
        return [_timed(lambda: interpreter.execute("add(a=1, b=2)")) for _ in range(300)]


def _tool_again(kind):
    """One of a hundred calls in one program."""
    with kind.make(tools={"add": lambda a, b: a + b}) as interpreter:
        program = "for _ in range(100): add(a=1, b=2)"
        interpreter.execute(program)
        return [_timed(lambda: interpreter.execute(program)) / 100 for _ in range(20)]


def _string(kind):
    """Another string each time, so that none is known again."""
    with kind.make() as interpreter:
        interpreter.execute("1")
        texts = [f"{number:09}\n" * ((_MEGABYTES << 20) // 10) for number in range(kind.rounds)]
        return [_timed(lambda text=text: interpreter.execute("len(text)", {"text": text})) for text in texts]


def _rows(kind):
    """Another list each time, about 10 MB as JSON."""
    with kind.make() as interpreter:
        interpreter.execute("1")
        return [
            _timed(lambda rows=rows: interpreter.execute("len(rows)", {"rows": rows}))
            for rows in map(_records, range(kind.rounds))
        ]


def _rows_again(kind):
    """The same list at each call, as RLM gives its inputs."""
    with kind.make() as interpreter:
        rows = _records(-1)
        interpreter.execute("len(rows)", {"rows": rows})
        return [_timed(lambda: interpreter.execute("len(rows)", {"rows": rows})) for _ in range(kind.rounds)]


def _records(first):
    return [
        {"id": first + number, "name": f"row {number}", "score": number / 7, "tags": ["a", "b"]}
        for number in range(150_000)
    ]


# --- many ---


def _eight(kind):
    """Eight threads make an interpreter each: seconds until all have answered."""
    return [_timed(lambda: _closed(_answering(kind, 8))) for _ in range(kind.rounds)]


def _answering(kind, count):
    made = []

    def answer():
        interpreter = kind.make()
        made.append(interpreter)
        assert interpreter.execute("1+1") == 2

    threads = [threading.Thread(target=answer) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(made) == count
    return made


def _closed(made):
    for interpreter in made:
        interpreter.shutdown()


def _memory(ours, theirs):
    """What eight idle interpreters add, all processes beneath this one counted; PSS."""
    mine = _added(ours)
    if theirs is None:
        against, bytes_ = f"{_TAKEN_MEMORY >> 20} MB (taken before)", _TAKEN_MEMORY
    else:
        bytes_ = _added(theirs)
        against = f"{bytes_ / 2**20:.0f} MB (before: {_TAKEN_MEMORY >> 20} MB)"
    name = "eight idle interpreters, PSS of all their processes"
    return Row(name, f"{mine / 2**20:.1f} MB", against, bytes_ / mine, ">= 10")


def _added(kind):
    made = _answering(kind, 8)
    time.sleep(1)
    own = {pid for pid in resources.descendants(os.getpid()) if ("deno" in _command(pid)) == (kind.rounds == 1)}
    total = sum(map(_pss, own))
    _closed(made)
    return total


def _command(pid):
    try:
        with open(f"/proc/{pid}/cmdline") as file:
            return file.read()
    except OSError:
        return ""


def _pss(pid):
    try:
        with open(f"/proc/{pid}/smaps_rollup") as file:
            return next(int(line.split()[1]) << 10 for line in file if line.startswith("Pss:"))
    except OSError:
        return 0


def _evaluate(ours, theirs):
    mine = _rate(ours, 1000)
    if theirs is None:
        against, rate = f"{8 / _TAKEN['eight']:.2f}/s (8 starts, taken before)", 8 / _TAKEN["eight"]
    else:
        rate = _rate(theirs, _THREADS)
        against = f"{rate:.2f}/s ({_THREADS} examples)"
    return Row(
        "`dspy.Evaluate`, program-of-thought, 1,000 examples, 16 threads",
        f"{mine:.1f}/s",
        against,
        mine / rate,
        ">= 20",
    )


def _rate(kind, count):
    import dspy

    examples = [
        dspy.Example(question=f"What is {n} + 1?", answer=str(n + 1)).with_inputs("question") for n in range(count)
    ]
    before = len(resources.descendants(os.getpid()))
    with dspy.context(lm=_scripted(dspy)):
        program = dspy.ProgramOfThought("question -> answer", interpreter_factory=kind.make)
        program(question="What is 1 + 1?")
        evaluate = dspy.Evaluate(
            devset=examples, metric=_exact, num_threads=_THREADS, max_errors=1, display_progress=False
        )
        scores: list[float] = []
        seconds = _timed(lambda: scores.append(float(evaluate(program).score)))
    assert scores == [100.0], scores
    assert len(resources.descendants(os.getpid())) < before + 3 * _THREADS  # guests ahead; none of a thousand is left
    return count / seconds


def _exact(example, prediction, _trace=None):
    return example.answer == prediction.answer


def _scripted(dspy):
    class Scripted(dspy.BaseLM):
        """Writes a program for the question, then repeats what that said."""

        def __call__(self, prompt=None, messages=None, **_):
            asked = messages[-1]["content"]
            if said := re.search(r'\{"answer": "?(\d+)"?\}', asked):
                return [f"[[ ## reasoning ## ]]\nSo.\n[[ ## answer ## ]]\n{said[1]}\n[[ ## completed ## ]]"]
            number = re.findall(r"What is (\d+) \+ 1", asked)[-1]
            code = f'SUBMIT({{"answer": {number} + 1}})'
            return [
                f"[[ ## reasoning ## ]]\nSo.\n[[ ## generated_code ## ]]\n```python\n{code}\n```\n[[ ## completed ## ]]"
            ]

    return Scripted(model="scripted", cache=False)


_FIGURES = (
    ("`Interpreter.execute('1+1')`, warm", ">= 10", _warm, "warm"),
    ("a string of 10 MB in, its length out", ">= 50", _string, "string"),
    ("a list of 150,000 dicts (10 MB as JSON) in, its length out", ">= 50", _rows, "rows"),
    ("the same list again, as RLM gives it at each step", "reported", _rows_again, "rows"),
    ("eight interpreters made at once, until all have answered", ">= 300", _eight, "eight"),
    ("a program that calls a tool once", ">= 10", _tool, "tool"),
    ("a tool's round trip, of 100 in one program", "reported", _tool_again, "again"),
)
