"""DSPy's programs in other languages than Python."""

import dspy
import pytest
from dspy.primitives.code_interpreter import CodeExecutionError, CodeInterpreterError, FinalOutput

from dspex.integrations.dspy import Interpreter

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning")

FIELDS = [{"name": "answer"}, {"name": "why"}]
SUM = {
    "javascript": "xs.reduce((a, b) => a + b)",
    "typescript": "(xs as number[]).reduce((a, b) => a + b)",
    "elixir": "Enum.sum(xs)",
}
SUBMIT = {
    "javascript": "await SUBMIT(42, 'so')",
    "typescript": "await SUBMIT({ answer: 42, why: 'so' })",
    "elixir": 'submit(42, "so")',
}
CALL = {"javascript": "await shout('a')", "typescript": "await shout('a')", "elixir": 'shout("a")'}
PRINT = {"javascript": "console.log('hi')", "typescript": "console.log('hi')", "elixir": 'IO.puts("hi")\nnil'}
WRONG = {"javascript": "nothing()", "typescript": "nothing()", "elixir": 'raise "nothing"'}
UNREADABLE = {"javascript": "1 +* 2", "typescript": "1 +* 2", "elixir": "x = = 2"}


def shout(text: str) -> str:
    """Louder."""
    return text.upper() + "!"


@pytest.fixture(params=["javascript", "typescript", "elixir"])
def language(request):
    return request.param


@pytest.fixture
def interpreter(language):
    with Interpreter(language=language, tools={"shout": shout}, output_fields=FIELDS) as made:
        yield made


def test_the_contract(interpreter, language):
    """Values, prints, tools, submissions and errors, in one session; the instructions name the language."""
    assert interpreter.execute(SUM[language], {"xs": [1, 2, 3]}) == 6
    assert interpreter.execute(PRINT[language]) == "hi\n"
    assert interpreter.execute(CALL[language]) == "A!"
    with pytest.raises(CodeExecutionError, match="nothing"):
        interpreter.execute(WRONG[language])
    with pytest.raises(SyntaxError):
        interpreter.execute(UNREADABLE[language])
    assert interpreter.execute(SUBMIT[language]) == FinalOutput({"answer": 42, "why": "so"})
    assert language in interpreter.execution_instructions.lower()
    assert language in Interpreter.factory(language=language).execution_instructions.lower()


def test_tools_and_fields_may_change(interpreter, language):
    """They hold from the next call on."""
    interpreter.execute(SUM[language], {"xs": [1]})
    interpreter.output_fields = [{"name": "only"}]
    one = {"elixir": "submit(7)"}.get(language, "await SUBMIT(7)")
    assert interpreter.execute(one) == FinalOutput({"only": 7})
    interpreter.tools["shout"] = lambda text: text + "?"
    assert interpreter.execute(CALL[language]) == "a?"


@pytest.mark.parametrize("keywords", [{"undo_failed": True}, {"strict_dspy": True}, {"enable_network_access": ["a.b"]}])
def test_what_is_for_python_alone(keywords):
    """Is refused, by name."""
    with pytest.raises(CodeInterpreterError, match=min(keywords)):
        Interpreter(language="javascript", **keywords)


def test_unknown_languages():
    """Are refused with those that are known."""
    with pytest.raises(CodeInterpreterError, match="python, javascript, typescript, elixir"):
        Interpreter(language="cobol")


def test_program_of_thought_in_javascript():
    """A module of DSPy's own, whose model writes JavaScript."""
    from dspy.utils import DummyLM

    lm = DummyLM(
        [
            {"reasoning": "add", "generated_code": "```python\nawait SUBMIT({ answer: 20 + 22 })\n```"},
            {"reasoning": "r", "answer": "42"},
        ]
    )
    with dspy.context(lm=lm):
        factory = Interpreter.factory(language="javascript")
        program = dspy.ProgramOfThought("question -> answer", interpreter_factory=factory)
        assert program(question="20 + 22?").answer == "42"
