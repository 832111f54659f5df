"""`CodeExecutor`: what a program comes back with, what is refused, how it begins and ends."""

import asyncio
import concurrent.futures
import os
import pathlib
import select
import subprocess
import sys
import tempfile
import threading
import time

import pytest

import leftovers
from dspex import CodeExecutor, ResourceLimits, SecurityPolicy, languages
from dspex.errors import (
    ClosedError,
    LimitsError,
    PolicyError,
    QueueFullError,
    SandboxError,
    SandboxStartError,
    UnknownLanguageError,
    UsageError,
    VariableError,
)
from dspex.execution import _pool

SPIN = "for n in range(10**12): pass"
C_LOOP = "sum(range(10**15))"


@pytest.fixture(scope="module")
def executor():
    with CodeExecutor(max_concurrency=2) as shared:
        yield shared


# --- The value --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("code", "value"),
    [
        ("1 + 1", 2),
        ("x = 20\nx * 2", 40),
        ("x = 20", None),
        ("", None),
        ("# only a comment", None),
        ("print(1)", None),
        ("def f():\n    return 7\nf()", 7),
        ("if True:\n    5", None),
        ("None", None),
        ("'caf\\u00e9'; 3;", 3),
        ("import math; math.floor(2.5)", 2),
        ("1\r\n2\r\n", 2),
    ],
)
def test_value_is_that_of_the_last_expression(executor, code, value):
    """The value is that of the last statement if it is an expression, else None."""
    result = executor.execute(code)
    assert (result.ok, result.value) == (True, value)


def test_nothing_of_an_earlier_run_is_left(executor):
    """Names, files, environment and patched builtins of a run are not there in the next."""
    executor.execute("import os, builtins\nbuiltins.len = 1\nopen('f', 'w').write('x')\nos.environ['A_B'] = '1'\ny = 1")
    found = executor.execute("import os\n['y' in globals(), os.listdir(), os.environ.get('A_B'), len('ab')]")
    assert found.unwrap() == [False, [], None, 2]


def test_program_is_the_module_main(executor):
    """A program finds itself as `__main__`, as a script does."""
    assert executor.execute("import sys\n[__name__, sys.modules['__main__'].__name__]").value == ["__main__"] * 2


def test_pickle_and_classes_of_the_program_work(executor):
    """A class that the program defines can be pickled and read back by the program itself."""
    code = "import pickle\nclass A:\n    x = 3\npickle.loads(pickle.dumps(A())).x"
    assert executor.execute(code).value == 3


# --- Variables --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name", ["", "1a", "a b", "a.b", "class", "None", "é́-", "a\n", "__builtins__", "__name__", 3, None]
)
def test_variable_name_that_cannot_be_a_name_is_refused(executor, name):
    """A name that is no identifier, is a keyword or would hide the engine is refused with an error that names it."""
    with pytest.raises(VariableError, match="variable"):
        executor.execute("1", {name: 1})


@pytest.mark.parametrize("text", ["'; import os; '", '"""', "\\", "{x}", "\0", "'''\n__import__('os')\n'''"])
def test_value_can_never_become_code(executor, text):
    """Text that looks like code arrives as that text."""
    assert executor.execute("x", {"x": text}).value == text


def test_value_that_cannot_cross_is_refused_with_its_place(executor):
    """An object of the caller's that is no data is refused, and the error says where it is."""
    with pytest.raises(VariableError) as caught:
        executor.execute("1", {"xs": [1, {"k": object()}]})
    assert "xs" in caught.value.path


@pytest.mark.parametrize("variables", [[("x", 1)], "x", 5])
def test_variables_that_are_no_mapping_are_refused(executor, variables):
    """Anything but a mapping is refused by name."""
    with pytest.raises(UsageError, match="variables"):
        executor.execute("1", variables)


# --- Imports, environment, directory ------------------------------------------------------------------------------------


def test_imports_bind_modules_of_the_standard_library(executor):
    """`imports` binds a module, a module by another name, and the top package of a dotted one."""
    result = executor.execute("[math.pi > 3, js.dumps(1), os.path.sep]", imports=["math", "json as js", "os.path"])
    assert result.unwrap() == [True, "1", "/"]


def test_import_of_a_package_needs_the_policy(executor):
    """A package that the policy does not name is refused, with the policy that would allow it."""
    with pytest.raises(PolicyError, match=r"SecurityPolicy\(packages=\('numpy',\)\)"):
        executor.execute("1", imports=["numpy as np"])


def test_package_by_policy_is_imported():
    """A package that the policy names can be imported, by `imports` and by the program."""
    pytest.importorskip("numpy")
    with CodeExecutor(policy=SecurityPolicy(packages=("numpy",)), max_concurrency=1) as executor:
        assert executor.execute("int(np.arange(4).sum())", imports=["numpy as np"]).unwrap() == 6
        assert executor.execute("import numpy\nint(numpy.ones(3).sum())").unwrap() == 3


@pytest.mark.parametrize("imports", ["math", [""], ["a b"], ["os; x"], ["math as 1"], [3], ["a as b as c"], 7])
def test_malformed_imports_are_refused(executor, imports):
    """An entry that is neither 'module' nor 'module as name' is refused."""
    with pytest.raises(UsageError, match="imports"):
        executor.execute("1", imports=imports)


def test_environment_is_that_of_the_call(executor, monkeypatch):
    """The program finds the variables of its call, and none of the caller's."""
    monkeypatch.setenv("DSPEX_SECRET", "s3cret")
    code = "import os\n[os.environ.get('GIVEN'), os.environ.get('DSPEX_SECRET'), os.getenv('HOME')]"
    assert executor.execute(code, environment={"GIVEN": "yes"}).value[:2] == ["yes", None]


@pytest.mark.parametrize("environment", [{"A=B": "1"}, {"": "1"}, {"A": 1}, {"A": "\0"}, {"A\0": "1"}, {1: "1"}, ["A"]])
def test_malformed_environment_is_refused(executor, environment):
    """Names with '=' or NUL and values that are no text are refused."""
    with pytest.raises(UsageError, match="environment"):
        executor.execute("1", environment=environment)


def test_environment_beyond_text_is_refused_or_arrives(executor):
    """A lone surrogate in an environment value ends in a result or a usage error, never in a lost guest."""
    try:
        result = executor.execute("import os\nlen(os.environ['A'])", environment={"A": "\ud800"})
    except UsageError:
        return
    assert result.error is None or result.error.kind == "runtime"


def test_working_directory_is_made_below_work(executor):
    """A relative working directory is made, and is where the program is."""
    code = "import os\nopen('f', 'w').close()\n[os.getcwd().endswith('/a/b'), os.listdir()]"
    assert executor.execute(code, working_directory="a/b").value == [True, ["f"]]
    assert executor.execute(code, working_directory=pathlib.Path("a/b")).value == [True, ["f"]]


@pytest.mark.parametrize("directory", ["/no/such/place", "../../no/such"])
def test_missing_absolute_working_directory_is_an_error_of_the_program(executor, directory):
    """A directory that is not there and is not below work is told by name, as the program's error."""
    error = executor.execute("1", working_directory=directory).error
    assert (error.kind, error.type) == ("runtime", "FileNotFoundError")
    assert "no/such" in error.message


@pytest.mark.parametrize("directory", ["", "a\0b", 7])
def test_malformed_working_directory_is_refused(executor, directory):
    """What can be no path is refused by name."""
    with pytest.raises(UsageError, match="working_directory"):
        executor.execute("1", working_directory=directory)


# --- Errors of the program ------------------------------------------------------------------------------------------------


def test_exception_is_told_as_its_author_sees_it(executor):
    """Kind, class, message, line and traceback are the program's own; nothing of the engine is in them."""
    result = executor.execute("def f(x):\n    return 1 / x\n\nprint('before')\nf(0)")
    error = result.error
    assert (error.kind, error.type, error.message, error.line) == (
        "runtime",
        "ZeroDivisionError",
        "division by zero",
        2,
    )
    assert "line 5" in error.traceback
    assert "return 1 / x" in error.traceback
    assert "python.py" not in error.traceback
    assert (result.stdout, result.value) == ("before\n", None)


def test_line_is_the_programs_own_where_the_standard_library_raises(executor):
    """The line is that of the program's call, not that of the library that raised."""
    error = executor.execute("import json\n\njson.loads('{')").error
    assert (error.type, error.line) == ("json.decoder.JSONDecodeError", 3)


@pytest.mark.parametrize(
    ("code", "line"),
    [("x = 1\ny = (", 2), ("def f(:\n  pass", 1), ("a\n  b", 2), ("1 +", 1), ("return 5", 1), ("x = '", 1)],
)
def test_syntax_error_names_its_line(executor, code, line):
    """A program that cannot be compiled fails with kind syntax and its line."""
    error = executor.execute(code).error
    assert (error.kind, error.line) == ("syntax", line)
    assert error.type in ("SyntaxError", "IndentationError")


@pytest.mark.parametrize("code", ["\0", "x = 1\0", "(" * 5000 + ")" * 5000, "-" * 100_000 + "1", "9" * 5000])
def test_text_that_no_compiler_takes_is_a_syntax_error(executor, code):
    """NUL, nesting beyond the parser and giant literals are syntax errors, not lost guests."""
    assert executor.execute(code).error.kind == "syntax"


def test_code_with_lone_surrogates_ends_in_an_error_of_the_program(executor):
    """Code that is no Unicode text is told as a syntax error, and the next call works."""
    assert executor.execute("'\ud800'").error.kind == "syntax"
    assert executor.execute("1").value == 1


def test_syntax_error_of_a_compile_inside_is_a_runtime_error(executor):
    """A SyntaxError that the program's own `compile` raises is not the program's syntax."""
    error = executor.execute("x = 1\ncompile('(', 'f', 'exec')").error
    assert (error.kind, error.type, error.line) == ("runtime", "SyntaxError", 2)


@pytest.mark.parametrize(("code", "ok"), [("", True), ("0", True), ("None", True), ("3", False), ("'bye'", False)])
def test_sys_exit_means_what_it_means_to_a_script(executor, code, ok):
    """`sys.exit()` and `sys.exit(0)` are a good end, any other status is an error with the status in it."""
    result = executor.execute(f"import sys\nprint('out')\nsys.exit({code})")
    assert (result.ok, result.stdout) == (ok, "out\n")
    if not ok:
        assert (result.error.type, result.error.message) == ("SystemExit", code.strip("'"))


@pytest.mark.parametrize(
    "body",
    [
        "def __str__(self): raise ValueError",
        "def __str__(self): return 1",
        "def __str__(self): import sys; sys.exit(0)",
        "def __str__(self): return 'x' * 10**8",
        "def __str__(self): return '\\ud800'",
        "def __repr__(self): raise KeyboardInterrupt\n    __str__ = __repr__",
        "__class__ = property(lambda self: 1 / 0)",
        "def __getattribute__(self, name): raise RuntimeError",
        "args = property(lambda self: 1 / 0)",
        "errno = property(lambda self: 1 / 0)",
        "__traceback__ = property(lambda self: 1 / 0)",
    ],
)
def test_exception_that_is_hostile_is_still_an_error(executor, body):
    """An exception class whose own methods misbehave ends in an error of the program with bounded texts."""
    error = executor.execute(f"class Bad(Exception):\n    {body}\nraise Bad()").error
    assert error.kind == "runtime"
    assert "Bad" in error.type
    assert len(error.message) + len(error.traceback) < 50_000


@pytest.mark.parametrize("kind", ["BaseException", "KeyboardInterrupt", "GeneratorExit", "BaseExceptionGroup"])
def test_exceptions_outside_of_exception_are_errors(executor, kind):
    """Whatever derives from BaseException is told as the program's error."""
    raised = f"{kind}('x', [ValueError(1)])" if kind.endswith("Group") else f"{kind}('x')"
    error = executor.execute(f"raise {raised}").error
    assert error.kind == "runtime"
    assert kind.removeprefix("Base") in error.type


def test_chained_exceptions_are_told_whole(executor):
    """The traceback shows the cause of an exception."""
    error = executor.execute("try:\n    1 / 0\nexcept Exception as e:\n    raise KeyError('k') from e").error
    assert "ZeroDivisionError" in error.traceback
    assert error.line == 4


def test_deep_recursion_is_an_error(executor):
    """Endless recursion is a RecursionError of the program."""
    assert executor.execute("def f(): f()\nf()").error.type == "RecursionError"


# --- Output -----------------------------------------------------------------------------------------------------------


def test_output_of_both_streams_is_kept_apart(executor):
    """stdout and stderr come back apart, also what was written to the descriptors themselves."""
    result = executor.execute(
        "import os, sys\nprint('a')\nprint('b', file=sys.stderr)\nos.write(1, b'c')\nos.write(2, b'd')"
    )
    assert (result.stdout, result.stderr) == ("a\nc", "b\nd")


def test_output_that_is_no_text_is_replaced(executor):
    """Bytes that are no UTF-8 come back as replacement characters, lone surrogates as escapes."""
    result = executor.execute("import os\nprint('\\ud800', end='', flush=True)\nos.write(1, b'\\xff')\nNone")
    assert result.stdout == "\\ud800\ufffd"


@pytest.mark.parametrize(
    "code", ["import time\ntime.sleep(60)", C_LOOP, "import os\nos._exit(3)", "import os\nos.abort()"]
)
def test_output_before_a_kill_is_kept(executor, code):
    """What was printed before the program was killed or ended itself is in the result."""
    result = executor.execute("print('so far', flush=True)\n" + code, timeout=0.3)
    assert (result.ok, result.stdout) == (False, "so far\n")


# --- Limits -----------------------------------------------------------------------------------------------------------


def test_soft_deadline_tells_the_line(executor):
    """Python code beyond its deadline fails with the line where it was, and is not named by engine internals."""
    error = executor.execute("x = 1\nwhile True:\n    x += 1", timeout=0.2).error
    assert (error.kind, error.type) == ("timeout", "Deadline")
    assert error.line in (2, 3)
    assert 'File "<program>", line' in error.traceback
    assert "_raise_deadline" not in error.traceback


@pytest.mark.parametrize(
    "code",
    [
        C_LOOP,
        "while True:\n    try:\n        while True: pass\n    except BaseException: pass",
        "import signal\nsignal.signal(signal.SIGALRM, signal.SIG_IGN)\nwhile True: pass",
        "import time\ntry:\n    time.sleep(60)\nfinally:\n    time.sleep(60)",
    ],
)
def test_hard_deadline_ends_what_the_soft_one_cannot(executor, code):
    """A C loop, a handler that swallows the deadline and an ignored signal all end with kind timeout."""
    assert executor.execute(code, timeout=0.2).error.kind == "timeout"


def test_timeout_cannot_exceed_the_limit():
    """A timeout beyond `limits.wall` is cut to it."""
    with CodeExecutor(limits=ResourceLimits(wall=0.2), max_concurrency=1) as executor:
        assert executor.execute("while True: pass", timeout=60).error.kind == "timeout"


@pytest.mark.parametrize("timeout", [0, -1, float("nan"), float("inf"), "5", True, -(10**400)])
def test_absurd_timeout_is_refused(executor, timeout):
    """A timeout that is no positive number is refused by name."""
    with pytest.raises(LimitsError, match="timeout"):
        executor.execute("1", timeout=timeout)


def test_giant_timeout_is_cut(executor):
    """A timeout beyond the range of floats is only another that the limit cuts."""
    assert executor.execute("1", timeout=10**400).value == 1


LIMITED = {
    "cpu_limit": (ResourceLimits(cpu=0.3, wall=20), SPIN),
    "memory_limit": (ResourceLimits(memory="128 MiB"), "x = bytearray(10**9)"),
    "process_limit": (
        ResourceLimits(processes=4),
        "import threading, time\nfor _ in range(20): threading.Thread(target=time.sleep, args=(9,), daemon=True).start()",
    ),
    "disk_limit": (ResourceLimits(disk="1 MiB"), "open('f', 'wb').write(bytes(2 << 20))"),
    "output_limit": (ResourceLimits(output="1 KiB"), "print('x' * 5000)"),
    "value_limit": (ResourceLimits(value="1 KiB"), "'x' * 5000"),
}


@pytest.mark.parametrize("kind", LIMITED)
def test_each_limit_has_its_own_kind(kind):
    """A program that goes beyond a limit fails with the kind that names it, and the next one works."""
    limits, code = LIMITED[kind]
    with CodeExecutor(limits=limits, max_concurrency=1) as executor:
        error = executor.execute(code).error
        assert error.kind == kind
        assert executor.execute("1").value == 1


def test_cpu_limit_ends_a_c_loop():
    """CPU time is limited for code that runs no Python signal handler, well before the wall time."""
    with CodeExecutor(limits=ResourceLimits(cpu=0.3, wall=20), max_concurrency=1) as executor:
        result = executor.execute(C_LOOP)
        assert result.error.kind == "cpu_limit"
        assert result.usage.cpu >= 0.3


@pytest.mark.parametrize("code", ["x = [bytearray(1 << 16) for _ in range(10**5)]", "x = 'a'\nwhile True: x += x"])
def test_memory_that_grows_in_pieces_is_limited(code):
    """A program that fills its memory bit by bit fails with kind memory_limit."""
    with CodeExecutor(limits=ResourceLimits(memory="96 MiB"), max_concurrency=1) as executor:
        assert executor.execute(code).error.kind == "memory_limit"


def test_large_buffer_beyond_the_value_limit_is_refused():
    """A value whose buffers are too large fails with kind value_limit, and says how much is allowed."""
    with CodeExecutor(limits=ResourceLimits(value="1 MiB"), max_concurrency=1) as executor:
        error = executor.execute("bytes(5 << 20)").error
        assert error.kind == "value_limit"
        assert "1,048,576" in error.message


def test_caught_limit_error_lets_the_program_go_on(executor):
    """A program that handles its MemoryError goes on and succeeds."""
    assert executor.execute("try:\n    bytearray(10**12)\nexcept MemoryError:\n    pass\n7").value == 7


# --- Guests that end themselves ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("import os\nos._exit(3)", "status 3"),
        ("import os\nos._exit(0)", "ended"),
        ("import ctypes\nctypes.string_at(0)", "segmentation fault"),
        ("import os\nos.abort()", "ended by"),
        ("import os\nos.closerange(3, 64)\nimport time\ntime.sleep(60)", "channel"),
        ("import os\nfor n in range(3, 64):\n    try: os.write(n, b'junk' * 9)\n    except OSError: pass", "channel"),
    ],
)
def test_guest_that_ruins_itself_is_an_error_of_that_run(executor, code, words):
    """Exits, crashes and broken channels are kind killed with a message that says what happened."""
    error = executor.execute(code, timeout=20).error
    assert error.kind == "killed"
    assert words in error.message
    assert executor.execute("1").value == 1


# --- Usage ------------------------------------------------------------------------------------------------------------


def test_usage_is_reported(executor):
    """Wall and CPU seconds and peak memory are there, and are at least what the program took."""
    usage = executor.execute("x = bytearray(30 << 20)\nimport time\ntime.sleep(0.05)\nsum(range(10**6))").usage
    assert usage.wall >= 0.05
    assert 0 < usage.cpu <= usage.wall * 1.5
    assert usage.peak_memory >= 30 << 20
    assert usage.processes >= 1


def test_waiting_is_reported_apart():
    """Time in the queue is in `usage.waited`, not in `usage.wall`."""
    with CodeExecutor(max_concurrency=1) as executor:
        executor.execute("1")
        first = executor.submit("import time\ntime.sleep(0.3)")
        leftovers.becomes_true(first.running)
        time.sleep(0.05)
        second = executor.execute("1")
        assert first.result().usage.wall >= 0.3
        assert second.usage.waited > 0.1
        assert second.usage.wall < 0.3


def test_isolation_is_reported(executor):
    """Every result names the level and the layers that were on."""
    isolation = executor.execute("1").isolation
    assert isolation.level in ("namespaces", "landlock")
    assert "seccomp" in isolation.layers


# --- Bad input --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("code", [None, b"1", 1, ["1"]])
def test_code_that_is_no_text_is_refused(executor, code):
    """Code must be str, and the error says what it was."""
    with pytest.raises(UsageError, match=type(code).__name__):
        executor.execute(code)


def test_unknown_language_is_refused():
    """A language that nobody knows is refused by name, with those that are known."""
    with pytest.raises(UnknownLanguageError, match=r"cobol.*python"):
        CodeExecutor("cobol")


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ({"max_concurrency": 0}, "max_concurrency"),
        ({"max_concurrency": 1.5}, "max_concurrency"),
        ({"max_concurrency": True}, "max_concurrency"),
        ({"queue": 0}, "queue"),
        ({"queue": "9"}, "queue"),
        ({"policy": {}}, "policy"),
        ({"limits": 5}, "limits"),
        ({"isolation": "docker"}, "isolation"),
    ],
)
def test_wrong_argument_of_the_constructor_is_refused(arguments, named):
    """The error names the argument."""
    with pytest.raises(UsageError, match=named):
        CodeExecutor(**arguments)


def test_missing_path_of_a_policy_is_refused_at_once(tmp_path):
    """A policy that shows a path which is not there is refused when the executor is made."""
    with pytest.raises(PolicyError, match="missing"):
        CodeExecutor(policy=SecurityPolicy(readable=[tmp_path / "missing"]))


def test_package_that_is_not_installed_is_refused():
    """A policy that names a package nobody installed is refused with the package's name."""
    policy = SecurityPolicy(packages=("no_such_package_x",))
    with CodeExecutor(policy=policy) as executor, pytest.raises(PolicyError, match="no_such_package_x"):
        executor.execute("1")


# --- Many at once -----------------------------------------------------------------------------------------------------------


def _all(threads):
    for thread in threads:
        thread.join(60)
    assert not any(thread.is_alive() for thread in threads)


def test_a_hundred_threads_share_an_executor(executor):
    """A hundred threads each get their own answers."""
    wrong = []

    def work(n):
        for i in range(3):
            if executor.execute("n * 1000 + i", {"n": n, "i": i}).value != n * 1000 + i:
                wrong.append(n)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(100)]
    for thread in threads:
        thread.start()
    _all(threads)
    assert wrong == []


def test_a_thousand_awaits_take_no_threads(executor):
    """A thousand `aexecute` at once in one event loop start no thread, and each gets its own answer."""
    executor.execute("1")
    before = threading.active_count()
    most = 0

    async def one(n):
        nonlocal most
        result = await executor.aexecute("n", {"n": n})
        most = max(most, threading.active_count())
        return result.value

    async def everything():
        return await asyncio.gather(*(one(n) for n in range(1000)))

    assert asyncio.run(everything()) == list(range(1000))
    assert most <= before


def test_two_event_loops_share_an_executor(executor):
    """Two event loops in two threads use one executor at the same time."""
    found = {}

    def work(k):
        async def everything():
            return [r.value for r in await asyncio.gather(*(executor.aexecute("n", {"n": n}) for n in range(50)))]

        found[k] = asyncio.run(everything())

    threads = [threading.Thread(target=work, args=(k,)) for k in range(2)]
    for thread in threads:
        thread.start()
    _all(threads)
    assert found == {0: list(range(50)), 1: list(range(50))}


def test_callers_are_served_in_order():
    """With one place, calls are run in the order in which they came."""
    with CodeExecutor(max_concurrency=1) as executor:
        executor.execute("1")
        order = []

        async def one(n):
            await executor.aexecute("1")
            order.append(n)

        async def everything():
            await asyncio.gather(*(one(n) for n in range(50)))

        asyncio.run(everything())
        assert order == list(range(50))


def test_never_more_run_than_there_are_places():
    """Threads, tasks and `map` together never have more guests at work than `max_concurrency`."""
    with CodeExecutor(max_concurrency=2) as executor:
        executor.execute("1")
        code = "import time\nbegin = time.monotonic()\ntime.sleep(0.02)\n(begin, time.monotonic())"
        futures = [executor.submit(code) for _ in range(10)]
        spans = [r.value for r in executor.map([code] * 10, concurrency=8)] + [f.result().value for f in futures]
        edges = sorted([(begin, 1) for begin, _ in spans] + [(end, -1) for _, end in spans])
        running = most = 0
        for _, step in edges:
            running += step
            most = max(most, running)
        assert most <= 2


def test_queue_beyond_its_bound_is_refused_clearly():
    """A caller too many gets a QueueFullError that says how many wait and what to do; those in the queue are served."""
    with CodeExecutor(max_concurrency=1, queue=2) as executor:
        executor.execute("1")

        async def everything():
            tasks = [asyncio.create_task(executor.aexecute("import time\ntime.sleep(0.1)\n5")) for _ in range(3)]
            await asyncio.sleep(0)
            with pytest.raises(QueueFullError, match=r"2 callers wait .* larger queue"):
                await executor.aexecute("1")
            return [result.value for result in await asyncio.gather(*tasks)]

        assert asyncio.run(everything()) == [5, 5, 5]
        assert executor.execute("2").value == 2


def test_submit_beyond_the_bound_is_refused_at_once():
    """`submit` raises QueueFullError itself, rather than its future."""
    with CodeExecutor(max_concurrency=1, queue=1) as executor:
        futures = [executor.submit("import time\ntime.sleep(0.2)") for _ in range(2)]
        with pytest.raises(QueueFullError, match="queue"):
            executor.submit("1")
        assert all(future.result().ok for future in futures)


def test_submit_takes_its_arguments_as_they_are_now(executor):
    """What the caller does to a list after `submit` is not seen by the program."""
    xs = [1]
    futures = [executor.submit("import time\ntime.sleep(0.05)\nxs", {"xs": xs}) for _ in range(4)]
    xs.append(2)
    assert [future.result().value for future in futures] == [[1]] * 4


def test_submit_refuses_wrong_arguments_at_once(executor):
    """A job that cannot be run is refused by `submit` itself."""
    with pytest.raises(VariableError):
        executor.submit("1", {"class": 1})


def test_cancelled_await_frees_its_place_and_kills_its_guest():
    """Cancelling `aexecute` kills the guest and lets the next caller run."""
    with CodeExecutor(max_concurrency=1) as executor:
        executor.execute("1")

        async def everything():
            for pause in (0.0, 0.05, 0.3):
                task = asyncio.create_task(executor.aexecute(SPIN))
                await asyncio.sleep(pause)
                task.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await task
            return await asyncio.wait_for(executor.aexecute("8"), 10)

        assert asyncio.run(everything()).value == 8
        lane = executor.pool()._lanes[()]
        assert leftovers.becomes_true(lambda: len(lane.alive) == len(lane.ready))


def test_cancelled_while_waiting_gives_up_the_turn():
    """Calls that are cancelled in the queue leave it; those behind them are served."""
    with CodeExecutor(max_concurrency=1) as executor:
        executor.execute("1")

        async def everything():
            tasks = [asyncio.create_task(executor.aexecute("import time\ntime.sleep(0.01)\n3")) for _ in range(20)]
            await asyncio.sleep(0.02)
            for task in tasks[::2]:
                task.cancel()
            return await asyncio.gather(*tasks, return_exceptions=True)

        outcomes = asyncio.run(everything())
        assert all(outcome.value == 3 for outcome in outcomes[1::2])
        assert executor.execute("4").value == 4


# --- Randomness ------------------------------------------------------------------------------------------------------------


def test_every_run_has_random_numbers_of_its_own():
    """A hundred fresh runs with numpy and ssl preloaded share no number of any generator."""
    pytest.importorskip("numpy")
    code = (
        "import os, random, secrets, ssl, uuid, numpy\n"
        "[random.random(), float(numpy.random.random()), float(numpy.random.default_rng().random()), str(uuid.uuid1()),"
        " str(uuid.uuid4()), ssl.RAND_bytes(8).hex(), os.urandom(8).hex(), secrets.token_hex(8)]"
    )
    jobs = [code] * 100
    with CodeExecutor(policy=SecurityPolicy(packages=("numpy",)), max_concurrency=2) as executor:
        executor.execute("1", imports=["ssl", "uuid", "secrets"])
        rows = [executor.execute(code, imports=["ssl", "uuid", "secrets"]).unwrap() for code in jobs]
    for column in zip(*rows, strict=True):
        assert len(set(column)) == 100


# --- The host process: threads, forks, several at once ------------------------------------------------------------------------


def test_thread_that_started_it_may_end():
    """The thread whose call started the zygotes ends, and the executor goes on."""
    with CodeExecutor(max_concurrency=1) as executor:
        thread = threading.Thread(target=executor.execute, args=("1",))
        thread.start()
        _all([thread])
        assert [executor.execute("2").value for _ in range(5)] == [2] * 5


def test_several_executors_at_once():
    """Executors of different limits run side by side, and closing one leaves the others alone."""
    executors = [CodeExecutor(max_concurrency=1, limits=ResourceLimits(wall=5 + n)) for n in range(3)]
    try:
        assert [executor.execute("1").value for executor in executors] == [1, 1, 1]
        executors[0].close()
        assert [executor.execute("2").value for executor in executors[1:]] == [2, 2]
    finally:
        for executor in executors:
            executor.close()


def _in_fork(work):
    """Run `work` in a forked child; its exit status, or None when it does not end in time."""
    pid = os.fork()
    if pid == 0:
        try:
            work()
            os._exit(0)
        except BaseException:
            os._exit(1)
    pidfd = os.pidfd_open(pid)
    try:
        if select.select([pidfd], [], [], 30)[0]:
            return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    finally:
        os.close(pidfd)
    os.kill(pid, 9)
    os.waitpid(pid, 0)
    return None


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_forked_child_starts_a_pool_of_its_own(executor):
    """After os.fork the child's executor works, and so does the parent's, during and after."""
    session = executor.session()
    session.execute("x = 1")

    def work():
        assert executor.execute("1 + 1").value == 2
        assert [r.value for r in executor.map(["3"] * 4)] == [3] * 4
        with pytest.raises(ClosedError, match="forked"):
            session.execute("x")
        executor.close()
        assert leftovers.descendants() == []

    assert executor.execute("1").value == 1
    assert _in_fork(work) == 0
    assert executor.execute("2").value == 2
    assert session.execute("x").value == 1
    session.close()


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_fork_while_calls_run_harms_neither_side(executor):
    """A fork in the middle of other threads' calls leaves both processes working."""
    stop = threading.Event()
    wrong = []

    def load():
        while not stop.is_set():
            if executor.execute("5").value != 5:
                wrong.append(1)

    threads = [threading.Thread(target=load) for _ in range(3)]
    for thread in threads:
        thread.start()

    def work():
        assert executor.execute("6").value == 6

    statuses = [_in_fork(work) for _ in range(3)]
    stop.set()
    _all(threads)
    assert (statuses, wrong) == ([0, 0, 0], [])


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_multiprocessing_workers_run_programs(method, tmp_path):
    """Workers of multiprocessing use an executor, whether forked from a process that has one or spawned."""
    script = tmp_path / "script.py"
    script.write_text(
        "import multiprocessing, sys\n"
        "from dspex import CodeExecutor\n"
        "executor = CodeExecutor(max_concurrency=1)\n"
        "def square(n):\n"
        "    return executor.execute('n * n', {'n': n}).value\n"
        "if __name__ == '__main__':\n"
        "    print(square(1))\n"
        f"    with multiprocessing.get_context('{method}').Pool(2) as pool:\n"
        "        print(pool.map(square, range(6)))\n"
        "    print(square(7))\n"
    )
    source = str(pathlib.Path(languages.__file__).parents[2])
    command = [sys.executable, "-W", "ignore", str(script)]
    ran = subprocess.run(
        command, check=False, capture_output=True, text=True, timeout=60, env={**os.environ, "PYTHONPATH": source}
    )
    assert ran.stdout.split("\n")[:3] == ["1", "[0, 1, 4, 9, 16, 25]", "49"], ran.stderr


# --- The end --------------------------------------------------------------------------------------------------------------


def test_closed_executor_refuses_clearly():
    """After `close` every way in raises ClosedError; closing twice is no error."""
    executor = CodeExecutor(max_concurrency=1)
    executor.execute("1")
    executor.close()
    executor.close()
    for call in (
        executor.execute,
        executor.submit,
        lambda code: list(executor.map([code])),
        executor.session().execute,
    ):
        with pytest.raises(ClosedError, match="closed"):
            call("1")
    with pytest.raises(ClosedError, match="closed"):
        asyncio.run(executor.aexecute("1"))


def test_close_before_first_use_is_fine():
    """An executor that never ran anything closes, and refuses then."""
    executor = CodeExecutor()
    executor.close()
    with pytest.raises(ClosedError):
        executor.execute("1")


def test_close_ends_calls_that_wait_and_that_run():
    """Calls in the queue and calls at work all get ClosedError when the executor is closed."""
    executor = CodeExecutor(max_concurrency=1)
    executor.execute("1")
    outcomes = []

    def work():
        try:
            outcomes.append(executor.execute("import time\ntime.sleep(30)"))
        except Exception as error:
            outcomes.append(error)

    threads = [threading.Thread(target=work) for _ in range(3)]
    futures = [executor.submit("import time\ntime.sleep(30)") for _ in range(2)]
    for thread in threads:
        thread.start()
    time.sleep(0.2)
    executor.close()
    _all(threads)
    outcomes += [future.exception(30) for future in futures]
    assert [type(outcome) for outcome in outcomes] == [ClosedError] * 5


def test_async_context_ends_everything():
    """`async with` runs and closes."""

    async def everything():
        async with CodeExecutor(max_concurrency=1) as executor:
            assert (await executor.aexecute("1")).value == 1
        with pytest.raises(ClosedError):
            await executor.aexecute("1")

    asyncio.run(everything())


@pytest.fixture
def open_directory():
    """A temporary directory that an ordinary user may enter, which pytest's own is not when it runs as root."""
    with tempfile.TemporaryDirectory() as path:
        os.chmod(path, 0o755)
        yield path


def test_nothing_is_left_after_close(level, open_directory, monkeypatch):
    """After `close` there is no process, descriptor, thread, mount or temporary directory more than before."""
    monkeypatch.setattr("tempfile.tempdir", open_directory)
    descriptors, mounts, below = leftovers.descriptors(), leftovers.mounts(), set(leftovers.descendants())
    threads = threading.active_count()
    executor = CodeExecutor(max_concurrency=2, isolation=level)
    try:
        executor.execute("open('f', 'w').write('x')")
        session = executor.session()
        session.execute("x = 1")
        executor.execute("while True: pass", timeout=0.1)
        executor.execute("len(x)", {"x": bytes(1 << 20)})
        executor.execute("bytes(1 << 20)")
        stopped = executor.map(["1"] * 20)
        next(stopped)
    finally:
        executor.close()
    stopped.close()
    assert set(leftovers.descendants()) == below
    assert leftovers.descriptors() == descriptors
    assert leftovers.mounts() == mounts
    assert threading.active_count() == threads
    assert os.listdir(open_directory) == []


def test_three_hundred_runs_leave_nothing_growing(level):
    """Over 300 runs of every kind neither descriptors nor processes grow."""
    codes = ["1", "1 / 0", "bytes(1 << 19)", "import os\nos._exit(1)", "import subprocess", "print('x' * 100)"]
    with CodeExecutor(max_concurrency=2, isolation=level) as executor:

        def settle():
            executor.execute("1")
            time.sleep(0.3)
            return len(leftovers.descriptors()), len(leftovers.descendants())

        for code in codes * 2:
            executor.execute(code)
        before = settle()
        for n in range(300):
            executor.execute(codes[n % len(codes)], {"b": bytes((n % 3) << 18)})
        after = settle()
    assert after[0] <= before[0] + 8
    assert after[1] <= before[1] + 2


def test_startup_failure_is_an_error_and_no_hang(monkeypatch, tmp_path):
    """An interpreter that cannot be started is told as SandboxStartError to everybody who waits, again and again."""
    monkeypatch.setattr(sys, "executable", str(tmp_path / "no-python"))
    with CodeExecutor(max_concurrency=2) as executor:
        with concurrent.futures.ThreadPoolExecutor(6) as threads:
            futures = [threads.submit(executor.execute, "1") for _ in range(6)]
            for future in futures:
                assert isinstance(future.exception(30), SandboxStartError)
        with pytest.raises(SandboxStartError, match="no-python"):
            executor.execute("1")


def test_interpreter_that_is_none_is_an_error_and_no_hang(monkeypatch):
    """A program that is no interpreter and ends at once is told as SandboxStartError."""
    monkeypatch.setattr(sys, "executable", "/bin/true")
    with CodeExecutor(max_concurrency=1) as executor, pytest.raises(SandboxStartError, match="zygote"):
        executor.execute("1")


def test_zygote_that_never_becomes_ready_is_an_error_and_no_hang(monkeypatch, tmp_path):
    """A zygote that starts and says nothing is ended after the patience for it, and told as SandboxStartError."""
    mute = tmp_path / "mute"
    mute.write_text("#!/bin/sh\nexec sleep 600\n")
    mute.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(mute))
    monkeypatch.setattr(_pool, "_START", 0.2)
    with CodeExecutor(max_concurrency=1) as executor, pytest.raises(SandboxStartError, match="ready"):
        executor.execute("1")


def test_process_without_free_descriptors_gets_errors_and_no_hang():
    """When the host may open no more files, calls raise SandboxError, and work again once it may."""
    code = (
        "import resource\n"
        "from dspex import CodeExecutor\n"
        "from dspex.errors import SandboxError\n"
        "with CodeExecutor(max_concurrency=2) as executor:\n"
        "    executor.execute('1')\n"
        "    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)\n"
        "    resource.setrlimit(resource.RLIMIT_NOFILE, (3, hard))\n"
        "    failed = 0\n"
        "    for _ in range(20):\n"
        "        try:\n"
        "            assert executor.execute('2').value in (2, None)\n"
        "        except (SandboxError, OSError):\n"
        "            failed += 1\n"
        "    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))\n"
        "    for _ in range(20):\n"
        "        try:\n"
        "            value = executor.execute('3').value\n"
        "        except SandboxError:\n"
        "            value = None\n"
        "    print(failed > 0, value)\n"
    )
    source = str(pathlib.Path(languages.__file__).parents[2])
    ran = subprocess.run(
        [sys.executable, "-c", code],
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, "PYTHONPATH": source},
    )
    assert ran.stdout == "True 3\n", ran.stderr
    assert "Traceback" not in ran.stderr


def test_host_that_exits_without_close_leaves_nothing(tmp_path):
    """A host that forgets to close ends its zygotes at its exit."""
    code = (
        "import os\n"
        "from dspex import CodeExecutor\n"
        "from dspex._kernel import resources\n"
        "executor = CodeExecutor(max_concurrency=1)\n"
        "executor.execute('1')\n"
        "print(*resources.descendants(os.getpid()))\n"
    )
    source = str(pathlib.Path(languages.__file__).parents[2])
    ran = subprocess.run(
        [sys.executable, "-c", code],
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, "PYTHONPATH": source},
    )
    assert ran.stdout.split()
    assert leftovers.vanish([leftovers.identity(int(pid)) for pid in ran.stdout.split()])


def test_sandbox_errors_are_never_program_errors(executor):
    """A program that raises the engine's own error class is still only a failed program."""
    code = "class SandboxError(Exception): pass\nraise SandboxError('x')"
    assert executor.execute(code).error.kind == "runtime"
    assert not issubclass(SandboxError, ValueError)
