"""DSPy's interpreter and modules in branches of one session."""

import asyncio
import threading

import pytest

dspy = pytest.importorskip("dspy")

from dspy.primitives.code_interpreter import CodeExecutionError, CodeInterpreterError  # noqa: E402
from dspy.utils import DummyLM  # noqa: E402

from dspex import CodeExecutor, ResourceLimits  # noqa: E402
from dspex.errors import UsageError  # noqa: E402
from dspex.integrations.dspy import RLM, BestOfN, Interpreter  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning")
TEXT = "x" * 1_000_000


@pytest.fixture(scope="module")
def executor():
    with CodeExecutor(max_concurrency=8, limits=ResourceLimits(memory="256 MiB")) as executor:
        yield executor


@pytest.fixture
def make(executor):
    """Interpreters on one executor, shut down at the end."""
    made = []

    def make(**keywords):
        made.append(Interpreter(executor=executor, **keywords))
        return made[-1]

    yield make
    for interpreter in made:
        interpreter.shutdown()


def coded(*programs):
    """What a model answers that writes these programs, and then says what came out."""
    return [{"reasoning": "r", "generated_code": f"```python\n{program}\n```"} for program in programs]


# --- Interpreters -----------------------------------------------------------------------------------------------------


def test_branches_go_their_own_ways(make):
    """Names, tools and fields are a branch's own from where it began; large inputs need not cross again."""
    trunk = make(tools={"f": lambda: "trunk"})
    trunk.execute("seen = [text]; first = text", {"text": TEXT})
    one, other = trunk.fork(2)
    one.tools["f"] = lambda: "one"
    one.output_fields = [{"name": "answer"}]
    assert one.execute("seen.append(1); len(seen), f(), text is first", {"text": TEXT}) == (2, "one", True)
    assert one.execute("SUBMIT(answer=3)").output == {"answer": 3}
    assert other.execute("len(seen), f()") == (1, "trunk")
    assert trunk.execute("len(seen), f()") == (1, "trunk")
    one.shutdown()
    other.shutdown()


def test_an_interpreter_becomes_a_branch(make):
    """It goes on with what the branch has; the branch has ended."""
    trunk = make(tools={"f": lambda: "trunk"})
    trunk.execute("x = 1")
    branch = trunk.fork()
    branch.execute("x = 2")
    trunk.become(branch)
    assert trunk.execute("x, f()") == (2, "trunk")
    with pytest.raises(CodeInterpreterError, match="session has ended"):
        branch.execute("x")


def test_large_inputs_stay_when_an_interpreter_becomes_a_branch(make):
    """What the branch was sent need not cross again; to become oneself changes nothing."""
    trunk = make()
    branch = trunk.fork()
    branch.execute("first = text", {"text": TEXT})
    trunk.become(branch)
    assert trunk.execute("text is first", {"text": TEXT}) is True
    trunk.become(trunk)
    assert trunk.execute("text is first", {"text": TEXT}) is True


def test_a_closed_checkpoint_harms_no_interpreter(make):
    """To restore it is refused, and the names are still there."""
    interpreter = make()
    interpreter.execute("x = 1")
    with interpreter.checkpoint() as before:
        pass
    with pytest.raises(CodeInterpreterError, match="closed"):
        interpreter.restore(before)
    assert interpreter.execute("x") == 1


def test_what_is_submitted_is_written_back_also_where_failures_are_undone(make, tmp_path):
    """SUBMIT is no failure: files come back with it, and not with a program that failed or left early in DSPy's eyes."""
    path = tmp_path / "out.txt"
    interpreter = make(enable_write_paths=[path], undo_failed=True, strict_dspy=True)
    for program in ("1 / 0", "import sys\nsys.exit(0)"):
        with pytest.raises(CodeExecutionError):
            interpreter.execute(f"open('out.txt', 'w').write('undone')\n{program}")
        assert not path.read_text()
    interpreter.execute("open('out.txt', 'w').write('submitted'); SUBMIT(1)")
    assert path.read_text() == "submitted"


def test_checkpoints_of_an_interpreter(make):
    """One may come back to it any number of times, also when inputs, tools or fields changed meanwhile."""
    interpreter = make()
    interpreter.execute("x = [1]")
    with interpreter.checkpoint() as before:
        for _ in range(2):
            interpreter.tools["f"] = lambda: "later"
            interpreter.execute("x.append(f()); y = len(text)", {"text": TEXT})
            interpreter.restore(before)
            assert interpreter.execute("x, len(text), 'y' in globals(), f()", {"text": TEXT}) == (
                [1],
                1_000_000,
                False,
                "later",
            )


def test_files_of_a_branch_come_back_with_it(make, tmp_path):
    """What a branch writes reaches the host when the interpreter becomes that branch."""
    path = tmp_path / "out.txt"
    trunk = make(enable_write_paths=[path])
    trunk.execute("open('out.txt', 'w').write('trunk')")
    branch = trunk.fork()
    branch.execute("open('out.txt', 'w').write('branch')")
    assert path.read_text() == "trunk"
    trunk.become(branch)
    assert path.read_text() == "branch"


def test_no_branching_inside_a_tool(make):
    """A tool of an interpreter that waits for it cannot branch it; the error is the program's."""
    interpreter = make()
    interpreter.tools["split"] = interpreter.fork
    with pytest.raises(CodeExecutionError, match="recursively"):
        interpreter.execute("split()")
    interpreter.shutdown()
    with pytest.raises(CodeInterpreterError, match="session has ended"):
        interpreter.fork()


@pytest.mark.parametrize(
    ("code", "text"),
    [
        ("x.append(2)\n1 / 0", "ZeroDivisionError"),
        ("x.append(2)\nSUBMIT(object)", "TypeError"),
        ("x.append(2)\nimport os; os._exit(0)", "ProcessExit"),
        ("x.append(2)\nimport os; os.kill(os.getpid(), 9)", "SIGKILL"),
        ("x.append(2)\ny = bytearray(1 << 30)", "MemoryError"),
        ("x.append(2)\nopen('left', 'w').write('1')\nraise SystemExit(3)", "SystemExit"),
    ],
)
def test_what_failed_is_undone(make, code, text):
    """With `undo_failed` names and files are what they were, also when the program ended its process; inputs are kept."""
    interpreter = make(undo_failed=True, tools={"f": lambda: 5})
    interpreter.execute("import os; x = [1]; first = text", {"text": TEXT})
    with pytest.raises(CodeExecutionError, match=text):
        interpreter.execute(code)
    assert interpreter.execute("x, f(), os.listdir(), text is first", {"text": TEXT}) == ([1], 5, [], True)


def test_a_failed_program_writes_no_files_back(make, tmp_path):
    """With `undo_failed` the host's file stays what it was."""
    path = tmp_path / "out.txt"
    path.write_text("before")
    interpreter = make(enable_write_paths=[path], undo_failed=True)
    with pytest.raises(CodeExecutionError):
        interpreter.execute("open('out.txt', 'w').write('half')\n1 / 0")
    assert path.read_text() == "before"
    assert interpreter.execute("open('out.txt').read()") == "before"


def test_factories_make_interpreters_that_are_alike(executor):
    """Copies of a module share a factory, and so its executor; models are told what holds."""
    factory = Interpreter.factory(executor=executor, undo_failed=True)
    program = dspy.RLM("question -> answer", interpreter_factory=factory).deepcopy()
    assert program._interpreter_factory is factory
    assert "is undone" in factory.execution_instructions
    assert Interpreter.factory().execution_instructions == Interpreter.execution_instructions
    with factory() as interpreter:
        assert interpreter.undo_failed
        assert repr(factory).startswith("Interpreter.factory(executor=")


# --- Modules ----------------------------------------------------------------------------------------------------------


def test_a_step_that_failed_leaves_no_trace():
    """RLM goes back to the checkpoint before it, and the model goes on from there."""
    lm = DummyLM(
        [
            {"reasoning": "a", "code": "```python\nrows = [1, 2]\n```"},
            {"reasoning": "b", "code": "```python\nrows.append(3)\n1 / 0\n```"},
            {"reasoning": "c", "code": "```python\nimport os; os._exit(1)\n```"},
            {"reasoning": "d", "code": "```python\nSUBMIT(count=len(rows))\n```"},
        ]
    )
    with dspy.context(lm=lm):
        answered = RLM("text -> count: int")(text=TEXT)
    assert answered.count == 2
    assert "ZeroDivisionError" in answered.trajectory[1]["output"]
    assert "ended its own process" in answered.trajectory[2]["output"]


def test_rlm_leaves_the_event_loop_alone():
    """While a program runs, the loop goes on: the program waits for what only the loop does."""
    opened = threading.Event()

    def wait() -> bool:
        """Wait until the event loop has come round."""
        return opened.wait(60)

    lm = DummyLM([{"reasoning": "a", "code": "```python\nSUBMIT(answer=wait())\n```"}])

    async def main():
        with dspy.context(lm=lm):
            running = asyncio.ensure_future(RLM("question -> answer: bool", tools=[wait]).acall(question="?"))
            await asyncio.sleep(0.2)
            opened.set()
            return (await running).answer

    assert asyncio.run(main()) is True


def test_best_of_n_tries_candidates_in_branches(make):
    """Each attempt begins where the session stands; it goes on from where the best one stopped."""
    trunk = make()
    trunk.execute("prepared = [10]")
    answers = []
    for number in (1, 5, 3):
        answers += coded(f"prepared.append({number}); SUBMIT({{'answer': prepared}})")
        answers.append({"reasoning": "r", "answer": str(number)})
    with dspy.context(lm=DummyLM(answers)):
        program = BestOfN(
            dspy.ProgramOfThought("question -> answer"),
            N=3,
            reward_fn=lambda inputs, prediction: float(prediction.answer),
            threshold=9.0,
            interpreter=trunk,
        )
        assert program(question="?").answer == "5"
    assert trunk.execute("prepared") == [10, 5]


def test_best_of_n_stops_at_its_threshold_and_passes_over_failures(make):
    """An attempt that fails counts as none; with `keep=False` the session stays where it was."""
    trunk = make()
    trunk.execute("n = 0")
    answers = [*coded("1 / 0"), *coded("n = 7; SUBMIT({'answer': n})"), {"reasoning": "r", "answer": "7"}]
    with dspy.context(lm=DummyLM(answers)):
        program = BestOfN(
            dspy.ProgramOfThought("question -> answer", max_iters=1),
            N=5,
            reward_fn=lambda inputs, prediction: float(prediction.answer),
            threshold=7.0,
            interpreter=trunk,
            keep=False,
        )
        assert program(question="?").answer == "7"
    assert trunk.execute("n") == 0


def test_best_of_n_with_rlm(make):
    """A module of several steps has all of them in one branch."""
    trunk = make()
    trunk.execute("base = 40")
    answers = [
        {"reasoning": "a", "code": "```python\nbase += 1\n```"},
        {"reasoning": "b", "code": "```python\nbase += 1\nSUBMIT(answer=base)\n```"},
    ]
    with dspy.context(lm=DummyLM(answers)):
        program = BestOfN(dspy.RLM("question -> answer: int"), 1, lambda *_: 1.0, 1.0, interpreter=trunk)
        assert program(question="?").answer == 42
    assert trunk.execute("base") == 42


def test_best_of_n_is_a_program_like_any(make):
    """Its parameters are the module's, copies share the interpreter; a module that runs no code is refused."""
    trunk = make()
    module = dspy.ProgramOfThought("question -> answer")
    program = BestOfN(module, 2, lambda *_: 1.0, 1.0, interpreter=trunk)
    assert [name for name, _ in program.named_parameters()] == [
        f"module.{name}" for name, _ in module.named_parameters()
    ]
    assert program.deepcopy().interpreter is program.interpreter
    with pytest.raises(UsageError, match="runs no code"):
        BestOfN(dspy.Predict("a -> b"), 2, lambda *_: 1.0, 1.0, interpreter=trunk)
