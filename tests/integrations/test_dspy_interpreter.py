"""The interpreter for DSPy: its protocol, its values and texts, and that nothing gets lost."""

import asyncio
import datetime
import decimal
import gc
import threading
import weakref

import pytest

dspy = pytest.importorskip("dspy")

from dspy.primitives.code_interpreter import CodeExecutionError, CodeInterpreterError, FinalOutput  # noqa: E402

from dspex import CodeExecutor, ResourceLimits  # noqa: E402
from dspex.integrations.dspy import Interpreter  # noqa: E402


@pytest.fixture(scope="module")
def executor():
    with CodeExecutor(max_concurrency=8) as executor:
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


def test_it_is_what_dspy_asks_for(make):
    """It satisfies DSPy's protocol, and starts nothing by itself."""
    interpreter = make(deno_command=["deno"], tools={"f": len})
    assert isinstance(interpreter, dspy.CodeInterpreter)
    assert interpreter.tools == {"f": len}
    assert isinstance(Interpreter.execution_instructions, str)
    with pytest.raises(TypeError, match="list of strings"):
        Interpreter(deno_command={})


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("1 + 1", 2),
        ("print(2)", "2\n"),
        ("x = 1", ""),
        ("print('lost?'); 'value'", "value"),
        ("'{\"a\": null}'", '{"a": null}'),
        ("{'a': None, 1: 1.0}", {"a": None, 1: 1.0}),
        ("{(1, 2): {3}}", {(1, 2): {3}}),
        ("2**70", 2**70),
        ("b'ab'", b"ab"),
        ("import datetime; datetime.date(2024, 1, 2)", datetime.date(2024, 1, 2)),
        ("from decimal import Decimal; Decimal('1.10')", decimal.Decimal("1.10")),
        ("import asyncio\nawait asyncio.sleep(0)\n5", 5),
    ],
)
def test_values_come_back_as_they_are(make, code, expected):
    """The last expression is the value; without one, what was printed is."""
    assert make().execute(code) == expected


def test_output_beside_a_value_is_kept(make):
    """`last` holds what was printed where the value took its place."""
    interpreter = make()
    assert interpreter.execute("print('beside'); 3") == 3
    assert interpreter.last.stdout == "beside\n"


def test_names_persist_until_shutdown(make):
    """State lives on through errors; two interpreters share none."""
    one, other = make(), make()
    one.execute("x = 1")
    with pytest.raises(CodeExecutionError):
        one.execute("1 / 0")
    assert one.execute("x") == 1
    with pytest.raises(CodeExecutionError, match="NameError"):
        other.execute("x")


@pytest.mark.parametrize(
    ("code", "text"),
    [
        ("1 / 0", "ZeroDivisionError: ['division by zero']"),
        ("raise ValueError(5)", "ValueError: [5]"),
        ("raise ValueError('a', 1)", "ValueError: ['a', 1]"),
        ("raise KeyError('k')", "KeyError: ['k']"),
        ("raise SystemExit(3)", "SystemExit: [3]"),
        ("raise KeyboardInterrupt", "KeyboardInterrupt: "),
        ("raise ValueError(object)", "ValueError: [\"<class 'object'>\"]"),
        ("b'\\xff'.decode()", "UnicodeDecodeError: "),
        ("class FinalOutput(BaseException): pass\nraise FinalOutput", "FinalOutput: "),
    ],
)
def test_a_programs_error_is_recoverable(make, code, text):
    """DSPy's line comes first, the traceback of the program's own lines behind it, and the session lives."""
    interpreter = make()
    with pytest.raises(CodeExecutionError) as caught:
        interpreter.execute(code)
    assert str(caught.value).startswith(text)
    assert "Traceback" in str(caught.value)
    assert caught.value.line == code.count("\n") + 1
    assert interpreter.execute("1") == 1


def test_output_before_an_error_is_kept(make):
    """What was printed before an error is in its text and in `stdout`."""
    with pytest.raises(CodeExecutionError, match="Printed before the error:\nseen") as caught:
        make().execute("print('seen')\n1 / 0")
    assert caught.value.stdout == "seen\n"


def test_a_syntax_error_has_text_and_line(make):
    """Bad syntax is Python's own `SyntaxError`, which says where."""
    with pytest.raises(SyntaxError, match="Invalid Python syntax") as caught:
        make().execute("x = 1\n+++")
    assert caught.value.lineno == 2
    assert "+++" in str(caught.value)


def test_limits_are_recoverable_where_the_guest_lives():
    """A loop without end is interrupted, and names are still there."""
    with CodeExecutor(limits=ResourceLimits(wall="500ms")) as executor:
        interpreter = Interpreter(executor=executor, tools={"f": lambda: 3})
        interpreter.execute("x = 7")
        with pytest.raises(CodeExecutionError):
            interpreter.execute("while True: pass")
        assert interpreter.execute("import asyncio\nawait asyncio.sleep(0)\nx + f()") == 10
        interpreter.shutdown()


def test_a_lost_session_is_terminal(make):
    """A program that ends its process ends the session, in the error that no code can mend."""
    interpreter = make()
    with pytest.raises(CodeInterpreterError, match="state was lost") as caught:
        interpreter.execute("import os; os._exit(0)")
    assert not isinstance(caught.value, CodeExecutionError)
    for call in (interpreter.start, lambda: interpreter.execute("1")):
        with pytest.raises(CodeInterpreterError, match="session has ended"):
            call()
    interpreter.shutdown()


def test_shutdown_ends_it_for_good(make):
    """Starting again is refused; `start` before that and `shutdown` may be repeated."""
    with make() as interpreter:
        interpreter.start()
        interpreter.start()
        assert interpreter("1") == 1
    interpreter.shutdown()
    with pytest.raises(CodeInterpreterError, match="session has ended"):
        interpreter.execute("1")


# --- SUBMIT -----------------------------------------------------------------------------------------------------------


def test_submit_ends_the_program_with_its_values(make):
    """Without fields there is one, `output`; `except Exception` does not stop it, and nothing is lost on the way."""
    interpreter = make()
    code = "try:\n    SUBMIT({1, None})\nexcept Exception:\n    pass\nx = 5"
    assert interpreter.execute(code) == FinalOutput({"output": {1, None}})
    with pytest.raises(CodeExecutionError, match="NameError"):
        interpreter.execute("x")


def test_submit_takes_the_fields_of_now(make):
    """Fields may be given later and changed; by position or by name; a missing one is the program's error."""
    interpreter = make(output_fields=[{"name": "answer", "type": "str"}, {"name": "score"}])
    assert interpreter.execute("SUBMIT('a', score=1.0)") == FinalOutput({"answer": "a", "score": 1.0})
    with pytest.raises(CodeExecutionError, match="missing 1 required positional argument"):
        interpreter.execute("SUBMIT('a')")
    interpreter.output_fields = [{"name": "other"}]
    assert interpreter.execute("SUBMIT(other=2)") == FinalOutput({"other": 2})


def test_submit_inside_async_code(make):
    """It ends a program that awaits as well."""
    code = "import asyncio\nasync def f():\n    await asyncio.sleep(0)\n    SUBMIT(1)\nawait f()"
    assert make().execute(code) == FinalOutput({"output": 1})


def test_what_cannot_be_submitted_is_the_programs_error(make):
    """A generator cannot cross; the session lives."""
    interpreter = make()
    with pytest.raises(CodeExecutionError, match="TypeError"):
        interpreter.execute("SUBMIT(x for x in [])")
    assert interpreter.execute("1") == 1


@pytest.mark.parametrize("name", ["not a name", "class", "", 5, "__debug__", "_dspex", "SUBMIT"])
def test_a_field_that_cannot_be_a_parameter_is_refused(make, name):
    """The error names the field, and the interpreter goes on when it is mended."""
    interpreter = make(output_fields=[{"name": name}])
    with pytest.raises(CodeInterpreterError, match=r"output.field"):
        interpreter.execute("1")
    interpreter.output_fields = None
    assert interpreter.execute("1") == 1


@pytest.mark.parametrize(
    "fields", ["abc", [5], {"name": "x"}, [{"type": "str"}], [{"name": "\ufb01"}, {"name": "fi"}]], ids=str
)
def test_fields_that_are_none_are_refused(make, fields):
    """The error is DSPy's for an interpreter that cannot, not one of the code; it goes on when they are mended."""
    interpreter = make(output_fields=fields)
    with pytest.raises(CodeInterpreterError, match="output_fields"):
        interpreter.execute("1")
    interpreter.output_fields = None
    assert interpreter.execute("SUBMIT(1)") == FinalOutput({"output": 1})


def test_fields_hold_for_the_whole_program(make):
    """Those that a tool sets while it runs hold from the next one on."""
    interpreter = make(output_fields=[{"name": "first"}])
    interpreter.tools["change"] = lambda: setattr(interpreter, "output_fields", [{"name": "second"}])
    assert interpreter.execute("change(); SUBMIT(1)") == FinalOutput({"first": 1})
    assert interpreter.execute("SUBMIT(1)") == FinalOutput({"second": 1})


# --- Variables --------------------------------------------------------------------------------------------------------


def test_variables_cross_as_they_are(make):
    """None in dicts, tuples, sets, NaN, dates and bytes arrive as such."""
    value = {"none": None, "tuple": (1, 2), "set": {1}, "date": datetime.date(2024, 1, 2), "bytes": b"x", 1: -0.0}
    assert make().execute("value == other and type(value['tuple']) is tuple", {"value": value, "other": value})


@pytest.mark.parametrize("name", ["for", "1a", "a-b", "SUBMIT", "_dspex", "_dspex_given"])
def test_bad_variable_names_are_refused(make, name):
    """The error is DSPy's, and the interpreter lives."""
    interpreter = make()
    with pytest.raises(CodeInterpreterError, match="Invalid variable name"):
        interpreter.execute("1", {name: 1})
    assert interpreter.execute("1") == 1


def test_unsupported_values_are_refused(make):
    """What can cross in no way is told by its type."""
    with pytest.raises(CodeInterpreterError, match="Unsupported value type: object"):
        make().execute("1", {"x": object()})


def test_a_variable_that_cannot_be_walked_is_refused(make):
    """One that holds itself, or has keys that become lists, is named in DSPy's error, and the interpreter lives."""
    endless = []
    endless.extend((endless, object()))
    strict = make(strict_dspy=True)
    for interpreter, value in ((make(), endless), (strict, endless), (strict, {(1, 2): 3})):
        with pytest.raises(CodeInterpreterError, match="variable 'given' cannot cross"):
            interpreter.execute("1", {"given": value})
        assert interpreter.execute("1") == 1


def test_large_inputs_cross_once(make):
    """What is unchanged is kept in the session and bound again; what the caller changed in place is sent anew."""
    interpreter = make()
    rows = [{"n": n, "text": f"row {n} " * 4} for n in range(5000)]
    assert interpreter.execute("first = rows; len(rows)", {"rows": rows}) == 5000
    assert interpreter.execute("rows is first", {"rows": rows}) is True
    interpreter.execute("rows = 5")
    assert interpreter.execute("rows is first", {"rows": rows}) is True
    rows.append({})
    assert interpreter.execute("rows is first, len(rows)", {"rows": rows}) == (False, 5001)


def test_large_inputs_survive_a_program_that_breaks_the_keeping(make):
    """A program that overwrites what keeps its inputs gets them sent again."""
    interpreter = make()
    text = "x" * 1_000_000
    assert interpreter.execute("_dspex = None; len(text)", {"text": text}) == 1_000_000
    assert interpreter.execute("len(text)", {"text": text}) == 1_000_000
    interpreter.tools["f"] = lambda: 3
    assert interpreter.execute("f(), len(text)", {"text": text}) == (3, 1_000_000)


# --- Tools ------------------------------------------------------------------------------------------------------------


def test_tools_are_looked_at_in_each_call(make):
    """The dict itself is the interpreter's: what is put in, changed or taken out holds from the next call on."""
    interpreter = make()
    kept = interpreter.tools
    kept["f"] = lambda: 1
    assert interpreter.execute("f()") == 1
    kept["f"] = lambda: 2
    assert interpreter.execute("f()") == 2
    del kept["f"]
    with pytest.raises(CodeExecutionError, match="NameError"):
        interpreter.execute("f()")
    assert interpreter.tools is kept


def test_tools_take_arguments_as_python_does(make):
    """By position, by name, with defaults, `*args` and `**kwargs`; their docstrings come along."""

    def plain(a, b=2, *, c=3):
        """About plain."""
        return [a, b, c]

    def many(*args, **kwargs):
        return [list(args), kwargs]

    interpreter = make(tools={"plain": plain, "many": many})
    assert interpreter.execute("plain(1), plain(1, c=5, b=4)") == ([1, 2, 3], [1, 4, 5])
    assert interpreter.execute("many(1, 2, x=None)") == [[1, 2], {"x": None}]
    assert interpreter.execute("plain.__doc__") == "About plain."


def test_tools_between_underscores_are_told_apart(make):
    """However many there are on each side."""
    assert make(tools={"__f__": lambda: 1, "___f___": lambda: 2}).execute("__f__(), ___f___()") == (1, 2)


def test_tools_give_values_in_async_code_too(make):
    """Where an event loop runs a tool blocks and gives its value, as in DSPy."""
    interpreter = make(tools={"f": lambda: 4})
    assert interpreter.execute("import asyncio\nawait asyncio.sleep(0)\nf() + 1") == 5


def test_async_tools_work_inside_a_running_loop(make):
    """Also when the caller's own loop is running."""

    async def twice(x):
        await asyncio.sleep(0)
        return 2 * x

    interpreter = make(tools={"twice": twice})

    async def main():
        return interpreter.execute("twice(4)"), await interpreter.aexecute("twice(x=5)")

    assert asyncio.run(main()) == (8, 10)
    assert interpreter.execute("twice(1)") == 2


def test_a_tools_error_and_nothing_cross(make):
    """An exception arrives with its class and text, None as None; nan as nan."""

    def fail():
        raise ValueError("tag-17")

    interpreter = make(tools={"fail": fail, "nothing": lambda: None, "nan": lambda: float("nan")})
    with pytest.raises(CodeExecutionError, match="tag-17"):
        interpreter.execute("fail()")
    assert interpreter.execute("nothing() is None, nan() != nan()") == (True, True)


def test_settings_are_visible_in_tools(make):
    """Tools run where DSPy's settings of the caller hold."""
    interpreter = make(tools={"seen": lambda: dspy.settings.get("marker")})
    with dspy.context(marker="here"):
        assert interpreter.execute("seen()") == "here"


def test_no_execution_inside_a_tool(make):
    """Executing from one of its own tools is an error that the program sees; another interpreter may be used."""
    interpreter, other = make(), make()
    interpreter.tools.update(again=lambda: interpreter.execute("1"), beside=lambda: other.execute("2"))
    with pytest.raises(CodeExecutionError, match="cannot execute recursively"):
        interpreter.execute("again()")
    assert interpreter.execute("beside()") == 2


@pytest.mark.parametrize("name", ["SUBMIT", "class", "a b", "_dspex_given", "_dspex_tool_f"])
def test_bad_tool_names_are_refused(make, name):
    """The error names the tool, and the interpreter goes on without it."""
    interpreter = make(tools={name: lambda: 1})
    with pytest.raises(CodeInterpreterError, match="tool"):
        interpreter.execute("1")
    interpreter.tools.clear()
    assert interpreter.execute("1") == 1


def test_unknown_tools_are_an_error_of_the_host(make):
    """`invoke_tool` calls one by name."""
    interpreter = make(tools={"f": lambda x: x + 1})
    assert interpreter.invoke_tool("f", {"x": 1}) == 2
    with pytest.raises(CodeInterpreterError, match="Unknown tool: g"):
        interpreter.invoke_tool("g", {})


# --- Threads, callbacks, strictness -----------------------------------------------------------------------------------


def test_it_may_be_used_from_any_thread(make):
    """Calls of several threads run one after the other in one session."""
    interpreter = make()
    interpreter.execute("n = 0")
    threads = [threading.Thread(target=interpreter.execute, args=("n += 1",)) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert interpreter.execute("n") == 20


def test_an_interpreter_that_is_forgotten_leaves_nothing(executor):
    """Without shutdown its session ends when it is collected."""
    interpreter = Interpreter(executor=executor, tools={"f": lambda: 1})
    assert interpreter.execute("f()") == 1
    kept = weakref.ref(interpreter), weakref.ref(interpreter._session)
    del interpreter
    gc.collect()
    assert [reference() for reference in kept] == [None, None]


def test_callbacks_come_in_dspys_order(make):
    """execute, startup inside of it, tools inside of it, and each shutdown."""
    seen = []

    class Recorder(dspy.utils.callback.BaseCallback):
        def __getattribute__(self, name):
            if name.startswith("on_interpreter_"):
                return lambda **_: seen.append(name.removeprefix("on_interpreter_"))
            return super().__getattribute__(name)

    interpreter = make(tools={"f": lambda: 1}, callbacks=[Recorder()])
    interpreter.execute("f()")
    interpreter.shutdown()
    calls = [
        *("execute_start", "startup_start", "startup_end", "tool_call_start", "tool_call_end"),
        *("execute_end", "shutdown_start", "shutdown_end"),
    ]
    assert seen == calls


def test_strict_dspy_loses_what_dspy_loses(make):
    """Values, variables, tools' results and texts are DSPy's, with the session alive where DSPy's died."""
    interpreter = make(strict_dspy=True, tools={"nothing": lambda: None, "fail": lambda: int("x")})
    assert interpreter.execute("{'a': None, 'b': 1.0, 'c': {1}, 'd': b'a', 'e': float('nan')}") == {
        "b": 1,
        "c": {},
        "d": {"0": 97},
        "e": None,
    }
    assert interpreter.execute("[type(x).__name__, nothing()]", {"x": (1,)}) == ["list", ""]
    with pytest.raises(CodeExecutionError, match=r"^RuntimeError: \[.*ValueError: invalid literal"):
        interpreter.execute("fail()")
    with pytest.raises(CodeExecutionError, match=r"^ZeroDivisionError: \['division by zero'\]$"):
        interpreter.execute("1 / 0")


@pytest.mark.parametrize(
    ("code", "text"),
    [("import sys\nsys.exit(0)", "SystemExit"), ("class Leave(SystemExit): pass\nraise Leave(0)", "Leave")],
)
def test_leaving_early_is_a_failure_where_dspy_has_one(make, code, text):
    """A program that leaves well is none by itself; `strict_dspy` says so, and the session lives on."""
    assert make().execute(f"print('seen')\n{code}") == "seen\n"
    interpreter = make(strict_dspy=True)
    with pytest.raises(CodeExecutionError, match=rf"^{text}: \[0\]$"):
        interpreter.execute(code)
    assert interpreter.execute("object()") == {}


def test_files_and_environment_of_the_host(make, tmp_path, monkeypatch):
    """Files lie under their names; those that may be written come back; only variables that were named are there."""
    monkeypatch.setenv("GIVEN", "yes")
    monkeypatch.setenv("HIDDEN", "yes")
    (tmp_path / "in.txt").write_text("read")
    interpreter = make(
        enable_read_paths=[tmp_path / "in.txt"],
        enable_write_paths=[str(tmp_path / "out.txt")],
        enable_env_vars=["GIVEN"],
    )
    code = "import os\nopen('out.txt', 'w').write('written')\nopen('in.txt').read(), os.getenv('GIVEN'), os.getenv('HIDDEN')"
    assert interpreter.execute(code) == ("read", "yes", None)
    assert (tmp_path / "out.txt").read_text() == "written"
    assert interpreter.execute(
        "os.path.abspath('in.txt') == os.path.realpath('/sandbox/in.txt')"
    )  # where DSPy has them
    with pytest.raises(CodeExecutionError, match="FileNotFoundError"):
        make().execute("open('/sandbox/in.txt', 'w')")
