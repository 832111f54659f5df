"""DSPy's CodeAct with tools: functions of the user's that run inside the sandbox, beside the code that the model writes.

    pip install 'dspex[dspy]' && python examples/dspy_code_act.py

The model is scripted, so no network is needed. CodeAct sends the source of its tools in, so they are plain functions; an
interpreter's own `tools` stay on the host, and may do there what the program may not.
"""

import logging

import dspy
from dspy.utils import DummyLM

from dspex.integrations.dspy import Interpreter

PRICES = {"flour": 1.20, "butter": 2.75, "sugar": 0.95}


def price(item: str) -> float:
    """What an item costs; asked of the host, where the prices are."""
    return PRICES[item]


def total(prices: list, discount: float = 0.0) -> float:
    """The sum of prices, less a discount."""
    return round(sum(prices) * (1 - discount), 2)


STEPS = [
    ('prices = [price(item) for item in ("flour", "butter", "milk")]', False),
    ('prices = [price(item) for item in ("flour", "butter", "sugar")]\nprint(prices)', False),
    ("print(total(prices, discount=0.1))", True),
]


def main() -> None:
    logging.getLogger("dspy").setLevel(logging.ERROR)  # it warns of its own trajectory's type
    answers = [
        {"reasoning": "Go on.", "generated_code": f"```python\n{code}\n```", "finished": finished}
        for code, finished in STEPS
    ]
    lm = DummyLM([*answers, {"reasoning": "It was printed.", "amount": "4.41"}])
    with dspy.context(lm=lm):
        act = dspy.CodeAct(
            "question -> amount", tools=[total], interpreter_factory=Interpreter.factory(tools={"price": price})
        )
        answered = act(question="What do flour, butter and sugar cost, less ten percent?")
    for name, value in answered.trajectory.items():
        if name.startswith(("code_output", "observation")):
            print(f"{name}: {value.splitlines()[0]}")
    print("to pay:", answered.amount)


if __name__ == "__main__":
    main()
