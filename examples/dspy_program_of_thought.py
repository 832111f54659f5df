"""DSPy's ProgramOfThought over a CSV: the model's first program fails, what it sees of that leads to the second.

    pip install 'dspex[dspy]' && python examples/dspy_program_of_thought.py [CSV]

The model is scripted, so no network is needed; `dspy.LM("...")` in its place is all that a real one takes. The file lies in
/sandbox, where programs of DSPy's look for theirs, and the host's own stays as it is.
"""

import logging
import pathlib
import sys

import dspy
from dspy.utils import DummyLM

from dspex.integrations.dspy import Interpreter

HERE = pathlib.Path(__file__).parent

FIRST = """
import csv
rows = list(csv.DictReader(open("/sandbox/weather.csv")))
print(len(rows), "rows")
total = sum(float(row["rain"]) for row in rows)
"""
SECOND = """
rain = {}
for row in rows:
    rain[row["city"]] = rain.get(row["city"], 0) + float(row["rain_mm"])
SUBMIT({"city": max(rain, key=rain.get)})
"""


def main(path: str) -> None:
    logging.getLogger("dspy").setLevel(logging.CRITICAL)  # it tells of the error as well
    lm = DummyLM(
        [
            {"reasoning": "Sum it up.", "generated_code": f"```python{FIRST}```"},
            {
                "reasoning": "It is called rain_mm, and the rows are still there.",
                "generated_code": f"```python{SECOND}```",
            },
            {"reasoning": "The program says so.", "city": "Bergen"},
        ]
    )
    factory = Interpreter.factory(enable_read_paths=[path])
    with dspy.context(lm=lm):
        program = dspy.ProgramOfThought("question -> city", interpreter_factory=factory)
        answered = program(question="Where does it rain most?")
    read = lm.history[1]["messages"][-1]["content"]
    print("the model read:", *read[read.index("KeyError") :].splitlines()[:4], "...", sep="\n  ")
    print("the wettest city is", answered.city)


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else str(HERE / "weather.csv"))
