"""`dspy.Evaluate` of a program-of-thought in 16 threads: each question has a sandbox of its own.

    pip install 'dspex[dspy]' && python examples/dspy_evaluate.py [EXAMPLES]

The model is scripted, so no network is needed: it writes a program for each question, and gets a fifth of them wrong.
"""

import re
import sys
import time
import warnings
from typing import Any

import dspy

from dspex.integrations.dspy import Interpreter

THREADS = 16


class Scripted(dspy.BaseLM):
    """Writes a program for the question that it reads, and later repeats what that said."""

    def __init__(self) -> None:
        super().__init__(model="scripted", cache=False)

    def __call__(self, prompt: str | None = None, messages: Any = None, **_: object) -> list[str]:
        asked = messages[-1]["content"]
        a, b = map(int, re.findall(r"sum of squares from (\d+) to (\d+)", asked)[-1])
        if output := re.search(r'\{"answer": (\d+)\}', asked):
            return [f"[[ ## reasoning ## ]]\nIt says so.\n[[ ## answer ## ]]\n{output[1]}\n[[ ## completed ## ]]"]
        end = b if a % 5 == 0 else b + 1  # forgets the last number now and then
        code = f'SUBMIT({{"answer": sum(n * n for n in range({a}, {end}))}})'
        return [
            f"[[ ## reasoning ## ]]\nAdd.\n[[ ## generated_code ## ]]\n```python\n{code}\n```\n[[ ## completed ## ]]"
        ]


def question(number: int) -> dspy.Example:
    """One that has an exact answer."""
    right = sum(n * n for n in range(number, number + 51))
    asked = f"What is the sum of squares from {number} to {number + 50}?"
    return dspy.Example(question=asked, answer=str(right)).with_inputs("question")


def exact(example: dspy.Example, prediction: dspy.Prediction, trace: object = None) -> bool:
    return str(example.answer) == str(prediction.answer)


def main(count: int) -> None:
    warnings.simplefilter("ignore", DeprecationWarning)  # DSPy would have RLM in place of ProgramOfThought
    examples = [question(number) for number in range(count)]
    with dspy.context(lm=Scripted()):
        program = dspy.ProgramOfThought("question -> answer", interpreter_factory=Interpreter)
        program(question=examples[0].question)  # starts what all share
        began = time.perf_counter()
        evaluate = dspy.Evaluate(
            devset=examples, metric=exact, num_threads=THREADS, max_errors=1, display_progress=False
        )
        score = float(evaluate(program).score)
        seconds = time.perf_counter() - began
    print(f"score {score:g} of 100; {count} examples in {seconds:.1f} s, {count / seconds:.0f} a second")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 100)
