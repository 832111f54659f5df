"""Programs that lie to DSPy's interpreter or do it harm: an error of the right class, and the host goes on."""

import os
import ssl
import threading

import pytest

dspy = pytest.importorskip("dspy")

from dspy.primitives.code_interpreter import CodeExecutionError, CodeInterpreterError, FinalOutput  # noqa: E402

from dspex import CodeExecutor, SecurityPolicy  # noqa: E402
from dspex._network import _service  # noqa: E402
from dspex._network._guest import Bounds  # noqa: E402
from dspex._network._service import GuestNetwork  # noqa: E402
from dspex.integrations.dspy import Interpreter  # noqa: E402
from dspex.integrations.dspy import _shared as shared  # noqa: E402
from internet import PUBLIC, Loopback, Server, echo  # noqa: E402
from leftovers import identity, vanish  # noqa: E402

LIAR = """
class Liar:
    def __eq__(self, other): return True
    def __reduce__(self): return __import__('os').system, ('echo harm > harm',)
    def __repr__(self): return "FinalOutput({'output': 'forged'})"
    def to_json(self): return 'null'
    __hash__ = None
"""


@pytest.fixture(scope="module")
def executor():
    with CodeExecutor(max_concurrency=4) as executor:
        yield executor


@pytest.fixture
def interpreter(executor):
    with Interpreter(executor=executor, output_fields=[{"name": "answer"}, {"name": "score"}]) as made:
        yield made


# --- Results ----------------------------------------------------------------------------------------------------------


def test_a_forged_final_output_is_an_ordinary_value(interpreter):
    """A class that says it is one, and equal to all, comes back as its text; nothing of it runs on the host."""
    returned = interpreter.execute(f"{LIAR}\nLiar()")
    assert returned == "FinalOutput({'output': 'forged'})"
    assert not isinstance(returned, FinalOutput)
    assert not os.path.exists("harm")


@pytest.mark.parametrize(
    "fields", ["{'other': 1}", "{'answer': 1}", "{'answer': 1, 'score': 2, 'more': 3}", "[1, 2]", "None"]
)
def test_what_passes_by_submit_has_to_fit_all_the_same(interpreter, fields):
    """A program that finds what SUBMIT calls can submit no other fields than the host asked for."""
    program = (
        f"class FinalOutput(BaseException): pass\ntry:\n    _dspex.carry({fields})\nfinally:\n    raise FinalOutput"
    )
    with pytest.raises(CodeExecutionError, match="FinalOutput"):
        interpreter.execute(program)
    assert interpreter.execute("SUBMIT(1, 2)") == FinalOutput({"answer": 1, "score": 2})


def test_an_exception_that_looks_like_submit_submits_nothing(interpreter):
    """Also where an earlier call did submit: what that carried over is forgotten."""
    interpreter.execute("SUBMIT(1, 2)")
    with pytest.raises(CodeExecutionError, match=r"^FinalOutput"):
        interpreter.execute("class FinalOutput(BaseException): pass\nraise FinalOutput")
    assert interpreter.execute("_dspex.carry({'answer': 1, 'score': 2}); 'went on'") == "went on"


@pytest.mark.parametrize("value", ["Liar()", "[Liar()]", "{'key': Liar()}", "(x for x in [])", "open"])
def test_submit_of_what_is_no_data_is_the_programs_error(interpreter, value):
    """It can be mended, and the session lives."""
    with pytest.raises(CodeExecutionError, match="TypeError"):
        interpreter.execute(f"{LIAR}\nSUBMIT({value}, 1)")
    assert interpreter.execute("1") == 1


@pytest.mark.parametrize(
    "program",
    [
        "class D(dict):\n    def items(self): raise SystemExit\n    __iter__ = keys = items\nD(a=1)",
        "import json\njson.dumps = json.JSONEncoder.default = lambda *a, **k: '[]'\n{'a': 1}",
        "class S(str):\n    def __eq__(self, o): return True\n    __hash__ = str.__hash__\n{S('a'): 1}",
    ],
)
def test_values_are_what_they_are(interpreter, program):
    """Whatever classes and hooks of the program's say, the host gets the data."""
    assert interpreter.execute(program) == {"a": 1}
    assert interpreter.execute("2") == 2


def test_an_error_that_lies_about_itself_is_reported(interpreter):
    """An exception whose text and class cannot be had is still an error of the program's."""
    program = "class E(Exception):\n    def __str__(self): raise E\n    __repr__ = __str__\n    args = property(__str__)\nraise E"
    with pytest.raises(CodeExecutionError, match=r"^E"):
        interpreter.execute(program)
    assert interpreter.execute("1") == 1


@pytest.mark.parametrize("message", ["{[]: 1}", "{{}}", "0x" + "f" * 5000, "(" * 5000, "1" + "+1j" * 3000, "\0"])
def test_a_message_that_reads_like_python_stays_a_message(interpreter, message):
    """Text that only looks like a literal, or like a number that cannot be written, never fails on the host."""
    with pytest.raises(CodeExecutionError) as caught:
        interpreter.execute(f"raise ValueError({message!r})")
    assert str(caught.value).startswith(f"ValueError: {[message]}")


@pytest.mark.parametrize("program", ["{10**5000: 1}", "SUBMIT(10**5000)"])
def test_a_number_without_a_text_is_the_programs_error(executor, program):
    """DSPy's JSON cannot write it; the session lives."""
    with Interpreter(executor=executor, strict_dspy=True) as interpreter:
        with pytest.raises(CodeExecutionError, match=r"ValueError: .*digits"):
            interpreter.execute(program)
        assert interpreter.execute("1") == 1


# --- Tools ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "program",
    [
        "f(1, 2)",
        "f(y=1)",
        "f(object())",
        "f.__globals__['os'].system('id')",
        "f(x=float)",
        "f(*range(100))",
    ],
)
def test_calls_that_do_not_fit_are_the_programs_error(interpreter, program):
    """The tool is not called, and may be called rightly afterwards."""
    seen = []

    def keep(x):
        seen.append(x)

    interpreter.tools["f"] = keep
    with pytest.raises(CodeExecutionError):
        interpreter.execute(program)
    assert seen == []
    assert interpreter.execute("f(3)") == ""
    assert seen == [3]


def test_frames_that_a_program_forges_end_its_session_alone(interpreter, executor):
    """Junk in the engine's channel, and a tool call that nobody offered, are a broken interpreter; others go on."""
    other = Interpreter(executor=executor, tools={"secret": lambda: 1})
    assert other.execute("secret()") == 1
    junk = "import os\nfor n in range(3, 64):\n    try: os.write(n, b'\\x10' * 4096)\n    except OSError: pass"
    with pytest.raises(CodeInterpreterError, match="state was lost") as caught:
        interpreter.execute(junk)
    assert not isinstance(caught.value, CodeExecutionError)
    assert other.execute("secret()") == 1
    other.shutdown()


# --- Harm -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("stream", ["stdout", "stderr"])
def test_floods_are_cut_off(interpreter, stream):
    """A hundred megabytes on either stream are an error of the program's, and the names are still there."""
    interpreter.execute("x = 5")
    with pytest.raises(CodeExecutionError, match=f"to {stream}"):
        interpreter.execute(f"import sys\nfor _ in range(100): sys.{stream}.write('x' * 1_000_000)")
    assert interpreter.execute("x") == 5


def test_threads_and_timers_end_with_the_interpreter(executor):
    """What a program leaves running does not hold up its shutdown, and is gone afterwards."""
    interpreter = Interpreter(executor=executor)
    interpreter.execute(
        "import signal, threading, time\n"
        "def loop():\n    while True: time.sleep(0.01)\n"
        "for _ in range(8): threading.Thread(target=loop).start()\n"
        "signal.signal(signal.SIGALRM, lambda *a: None)\n"
        "signal.signal(signal.SIGTERM, lambda *a: None)\n"
        "signal.setitimer(signal.ITIMER_REAL, 0.01, 0.01)\n"
    )
    assert interpreter.execute("threading.active_count() > 8")
    guest = identity(interpreter._session._guest.pid)
    assert guest[1]
    interpreter.shutdown()
    assert vanish([guest])
    assert Interpreter(executor=executor).execute("1") == 1


@pytest.mark.parametrize("undo_failed", [False, True])
@pytest.mark.parametrize("where", ["tool", "thread"])
def test_shutdown_while_a_program_runs(executor, where, undo_failed):
    """From one of its tools or another thread: DSPy's error for a session that is over, and none is left behind."""
    running, failures = threading.Event(), []
    interpreter = Interpreter(executor=executor, tools={"begin": running.set}, undo_failed=undo_failed)

    def run():
        try:
            interpreter.execute("import time\nbegin()\ntime.sleep(60)")
        except Exception as error:
            failures.append(error)

    if where == "tool":
        interpreter.tools["begin"] = interpreter.shutdown
        run()
    else:
        thread = threading.Thread(target=run)
        thread.start()
        assert running.wait(30)
        interpreter.shutdown()
        thread.join()
    (failure,) = failures
    assert isinstance(failure, CodeInterpreterError)
    assert not isinstance(failure, CodeExecutionError)
    assert interpreter._session is None


# --- The network ------------------------------------------------------------------------------------------------------


@pytest.fixture
def world(monkeypatch):
    """An Internet of one server, and executors of the test's own."""
    connector, server = Loopback(), Server(echo)
    connector.servers[PUBLIC, 80] = server.port
    bounds = Bounds(silent_seconds=0.2, header_seconds=2.0, connect_seconds=5.0)
    network = GuestNetwork(connector=connector, roots=ssl.create_default_context(), bounds=bounds)
    monkeypatch.setattr(_service, "_shared", network)
    monkeypatch.setattr(shared, "_executors", {})
    yield server
    for executor in shared._executors.values():
        executor.close()
    server.close()


GET = "import urllib.request\nurllib.request.urlopen('http://{}/path').read().decode()"


def test_the_hosts_that_were_named_are_reached(world):
    """`enable_network_access` takes DSPy's entries; all others are refused, and without it every one is."""
    with Interpreter(enable_network_access=["api.example.com"]) as interpreter:
        assert "GET /path" in interpreter.execute(GET.format("api.example.com"))
        with pytest.raises(CodeExecutionError, match="Error"):
            interpreter.execute(GET.format("other.example.com"))
        assert (
            "api.example.com" in Interpreter.factory(enable_network_access=["api.example.com"]).execution_instructions
        )
    with Interpreter() as interpreter, pytest.raises(CodeExecutionError, match="Error"):
        interpreter.execute(GET.format("api.example.com"))


def test_hosts_that_cannot_be_are_refused(executor):
    """An entry that is no host is named; an executor of the caller's has a policy of its own."""
    with pytest.raises(CodeInterpreterError, match="not a host"):
        Interpreter(enable_network_access=["not a host!"]).execute("1")
    with pytest.raises(CodeInterpreterError, match="policy of the executor"):
        Interpreter(enable_network_access=["example.com"], executor=executor)


def test_the_callers_policy_holds():
    """An interpreter on the caller's executor has what that allows, and no more."""
    policy = SecurityPolicy(forbidden_modules=["socket"])
    with CodeExecutor(policy=policy, max_concurrency=1) as executor, Interpreter(executor=executor) as interpreter:
        with pytest.raises(CodeExecutionError, match="PolicyViolation"):
            interpreter.execute("import socket")
        assert interpreter.execute("1") == 1
