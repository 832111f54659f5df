"""DSPy's own modules on dspex, with a scripted language model."""

import pytest

dspy = pytest.importorskip("dspy")

from dspy.utils import DummyLM  # noqa: E402

from dspex.integrations.dspy import Interpreter  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning")


def add(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b


def test_program_of_thought():
    """The first program fails, the second answers."""
    lm = DummyLM(
        [
            {"reasoning": "a", "generated_code": "```python\nresult = 1 / 0\n```"},
            {"reasoning": "b", "generated_code": "```python\nSUBMIT({'answer': 1 + 1})\n```"},
            {"reasoning": "c", "answer": "2"},
        ]
    )
    with dspy.context(lm=lm):
        program = dspy.ProgramOfThought("question -> answer", interpreter_factory=Interpreter)
        assert program(question="What is 1 + 1?").answer == "2"


def test_code_act():
    """A function of the user's runs inside, and its printed text is in the trajectory as DSPy has it."""
    lm = DummyLM(
        [
            {"reasoning": "a", "generated_code": "```python\nprint(add(1, 1))\n```", "finished": True},
            {"reasoning": "b", "answer": "2"},
        ]
    )
    with dspy.context(lm=lm):
        program = dspy.CodeAct("question -> answer", tools=[add], interpreter_factory=Interpreter)
        answered = program(question="What is 1 + 1?")
    assert answered.answer == "2"
    assert answered.trajectory["code_output_0"] == '"2\\n"'


def test_rlm_with_a_large_input_and_a_tool():
    """Three steps over one text: an error, a look with a tool, the answer."""
    lm = DummyLM(
        [
            {"reasoning": "a", "code": "```python\n1 / 0\n```"},
            {"reasoning": "b", "code": "```python\nfound = text.count('needle')\nprint(add(found, 1))\n```"},
            {"reasoning": "c", "code": "```python\nSUBMIT(count=found)\n```"},
        ]
    )
    text = "hay " * 500_000 + "needle"
    with dspy.context(lm=lm):
        program = dspy.RLM("text -> count: int", tools=[add], interpreter_factory=Interpreter)
        answered = program(text=text)
    assert answered.count == 1
    outputs = [step["output"] for step in answered.trajectory]
    assert "ZeroDivisionError" in outputs[0]
    assert "2" in outputs[1]


def test_the_one_line():
    """The setting puts it everywhere."""
    lm = DummyLM(
        [
            {"reasoning": "a", "generated_code": "```python\nSUBMIT({'answer': 3})\n```"},
            {"reasoning": "c", "answer": "3"},
        ]
    )
    with dspy.context(lm=lm, interpreter_factory=Interpreter):
        assert dspy.ProgramOfThought("question -> answer")(question="?").answer == "3"
