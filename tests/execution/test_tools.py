"""Tools: functions of the caller's that programs call."""

import asyncio
import contextvars
import datetime
import functools
import threading
import time

import pytest

from dspex import CodeExecutor, Job, ResourceLimits, Tool
from dspex.errors import UsageError

PARALLEL = "from concurrent.futures import ThreadPoolExecutor\n"


@pytest.fixture(scope="module")
def executor():
    with CodeExecutor(max_concurrency=2) as shared:
        yield shared


@pytest.fixture
def session(executor):
    with executor.session() as living:
        yield living


def add(a: int, b: int = 2, *, c: "int" = 0) -> int:
    """Add two numbers, or three."""
    return a + b + c


async def later(x: int) -> int:
    """Twice x, after a moment."""
    await asyncio.sleep(0.05)
    return 2 * x


def echo(*args, **kwargs):
    return args, kwargs


# --- What a program sees ----------------------------------------------------------------------------------------------


def test_call_with_all_kinds_of_arguments(executor):
    """By position and by name, with defaults left out."""
    code = "[add(1), add(1, 1), add(a=1, b=4, c=5), add(1, c=1)]"
    assert executor.execute(code, tools=[add]).unwrap() == [3, 2, 10, 4]


def test_functions_of_which_python_knows_nothing(executor):
    """A builtin without a signature, a bound method, an object that can be called and a partial are tools as well."""

    class Shop:
        def __call__(self, what):
            return f"a {what}"

        def sell(self, what="lamp"):
            return f"sold {what}"

    tools = {"largest": max, "shop": Shop(), "sell": Shop().sell, "three": functools.partial(add, 1, c=0)}
    assert executor.execute("[largest(1, 5), shop('bed'), sell(), three(b=2)]", tools=tools).unwrap() == [
        5,
        "a bed",
        "sold lamp",
        3,
    ]


def test_what_a_program_does_to_stdout_does_not_matter(executor):
    """A call works whatever stands in the place of sys.stdout."""
    assert executor.execute("import sys\nsys.stdout = None\nadd(1)", tools=[add]).unwrap() == 3


def test_help_and_signature(executor):
    """Name, docstring, parameters, real defaults and annotations as text are those of the function."""
    code = (
        "import inspect\nhelp(add)\ns = inspect.signature(add)\n"
        "[str(s), s.parameters['b'].default, add.__name__, add.__doc__, s.return_annotation]"
    )
    result = executor.execute(code, tools=[add])
    signature = "(a: int, b: int = 2, *, c: int = 0) -> int"
    assert result.unwrap() == [signature, 2, "add", "Add two numbers, or three.", "int"]
    assert "add" + signature in result.stdout
    assert "Add two numbers, or three." in result.stdout


def test_defaults_that_are_no_plain_data_are_shown(executor):
    """They do not cross; the program sees their repr, and the host uses its own."""
    marker = datetime.timezone.utc  # noqa: UP017  (its repr is what is looked for)

    def when(zone=marker):
        return zone is marker

    assert executor.execute("import inspect\n[str(inspect.signature(when)), when()]", tools=[when]).unwrap() == [
        "(zone=datetime.timezone.utc)",
        True,
    ]


def test_values_cross_both_ways(executor):
    """Arguments and results are of all the types that variables and values may have, large ones too."""
    given = [b"\0\1", (1, 2), {3}, 1 << 100, float("inf"), datetime.date(2020, 1, 2), {"a": None}, "x" * 400_000]
    assert executor.execute("echo(*given, k=given)[1]['k'] == given", {"given": given}, tools=[echo]).unwrap() is True
    assert executor.execute("echo(b'x' * 2_000_000, k=1)", tools=[echo]).unwrap() == ((b"x" * 2_000_000,), {"k": 1})


def test_tools_by_other_names(executor):
    """A mapping names them; a Tool names and describes itself."""
    tools = {"plus": add, "twice": Tool(later, description="Doubles.")}
    assert executor.execute("[plus(1), twice(4), twice.__doc__]", tools=tools).unwrap() == [3, 8, "Doubles."]


@pytest.mark.parametrize(
    ("tools", "words"),
    [
        ({"not a name": add}, "not a name"),
        ({"class": add}, "keyword"),
        ({"__builtins__": add}, "engine"),
        ({"": lambda: 1}, "lambda"),
        ([lambda: 1], "lambda"),
        ({3: add}, "3"),
        ([5], "function"),
        (add, "list of functions"),
        ("add", "list of functions"),
    ],
)
def test_what_cannot_be_a_tool(executor, tools, words):
    """Names that a program could not use, and what is no function, are refused before anything runs."""
    with pytest.raises(UsageError, match=words):
        executor.execute("1", tools=tools)


def test_tool_and_variable_of_one_name(executor):
    """One of the two would be lost."""
    with pytest.raises(UsageError, match="'add'"):
        executor.execute("1", {"add": 1}, tools=[add])


# --- Errors -----------------------------------------------------------------------------------------------------------


def test_builtin_exceptions_cross_as_themselves(executor):
    """Class and arguments arrive, and the program may catch them."""

    def fail(which):
        raise {
            "key": KeyError("k", 2),
            "file": FileNotFoundError(2, "No such", "x.txt"),
            "group": ExceptionGroup("g", [OSError()]),
        }[which]

    code = (
        "try: fail('key')\nexcept KeyError as e: a = e.args\n"
        "try: fail('file')\nexcept FileNotFoundError as e: b = str(e)\na, b"
    )
    assert executor.execute(code, tools=[fail]).unwrap() == (("k", 2), "[Errno 2] No such: 'x.txt'")
    assert executor.execute("fail('group')", tools=[fail]).error.type == "ToolError"


def test_other_exceptions_cross_as_tool_errors(executor):
    """The class is named in the message; ToolError is a RuntimeError."""

    class OutOfStock(Exception):
        pass

    def fail():
        raise OutOfStock("no more")

    code = "try: fail()\nexcept RuntimeError as e: found = str(e), e.type, isinstance(e, ToolError)\nfound"
    assert executor.execute(code, tools=[fail]).unwrap() == ("OutOfStock: no more", "OutOfStock", True)
    error = executor.execute("\nfail()", tools=[fail]).error
    assert (error.kind, error.type, error.line) == ("runtime", "ToolError", 2)
    assert "OutOfStock: no more" in error.message
    assert error.traceback.count("File ") == 1


@pytest.mark.parametrize(
    ("code", "type", "words"),
    [
        ("add()", "TypeError", "add()"),
        ("add(1, z=1)", "TypeError", "z"),
        ("add(object())", "TypeError", "cannot be carried"),
        ("add(lambda: 1)", "TypeError", "cannot be carried"),
        ("unspeakable()", "TypeError", "cannot cross"),
    ],
)
def test_what_cannot_cross_is_a_type_error(executor, code, type, words):
    """Arguments that do not fit, and those and results that cannot be carried, are the program's TypeError."""

    def unspeakable():
        return object()

    error = executor.execute(code, tools=[add, unspeakable]).error
    assert (error.kind, error.type) == ("runtime", type)
    assert words in error.message


def test_arguments_beyond_the_limit():
    """They may take what a value may take, and the program is told."""
    with CodeExecutor(max_concurrency=1, limits=ResourceLimits(value=100_000)) as small:
        assert small.execute("echo('x' * 200_000)", tools=[echo]).error.type == "ValueError"


# --- Where tools run --------------------------------------------------------------------------------------------------

WHERE = contextvars.ContextVar("where", default="elsewhere")


def here():
    return threading.get_ident(), WHERE.get()


async def here_async():
    return threading.get_ident(), WHERE.get()


@pytest.fixture
def where():
    token = WHERE.set("the caller")
    yield threading.get_ident()
    WHERE.reset(token)


def test_sync_tools_run_in_the_callers_thread(executor, where):
    """A blocking call runs them where it was made; async ones are awaited in a thread of their own, in the caller's context."""
    assert executor.execute("here()", tools=[here]).unwrap() == (where, "the caller")
    thread, context = executor.execute("here_async()", tools=[here_async]).unwrap()
    assert thread != where
    assert context == "the caller"


def test_async_tools_run_in_the_callers_loop(executor, where):
    """`aexecute` awaits them itself, and runs sync ones in threads, so that the loop goes on."""

    async def both():
        code = "import asyncio\n[await here_async(), await here()]"
        return (await executor.aexecute(code, tools=[here, here_async])).unwrap()

    (awaited, one), (threaded, two) = asyncio.run(both())
    assert awaited == where != threaded
    assert one == two == "the caller"


def test_sync_tools_do_not_block_the_loop(executor):
    """While a sync tool of `aexecute` sleeps, other tasks go on."""

    async def ticks():
        running = asyncio.create_task(executor.aexecute("nap()", tools={"nap": lambda: time.sleep(0.3)}))
        count = 0
        while not running.done():
            await asyncio.sleep(0.01)
            count += 1
        assert (await running).ok
        return count

    assert asyncio.run(ticks()) >= 10


def test_execute_inside_a_running_loop(executor):
    """A blocking call with an async tool works also where an event loop runs already."""

    async def blocking():
        return executor.execute("later(3)", tools=[later]).unwrap()

    assert asyncio.run(blocking()) == 6


def test_submit_and_map(executor, where):
    """Tools work behind the caller's back as well, in the caller's context."""
    future = executor.submit("[add(1), later(2), here()[1]]", tools=[add, later, here])
    assert future.result().unwrap() == [3, 4, "the caller"]
    jobs = [Job("[add(n), later(n), here()[1]]", {"n": n}, tools=[add, later, here]) for n in range(12)]
    assert [result.unwrap() for result in executor.map(jobs)] == [[n + 2, 2 * n, "the caller"] for n in range(12)]


def test_map_mixes_runs_with_and_without_tools(executor):
    """A slow tool of one run holds up no other."""
    jobs = [Job("nap()", tools={"nap": lambda: time.sleep(0.5)}), *["1+1"] * 20]
    started = time.monotonic()
    results = executor.map(jobs)
    assert next(results).ok
    assert [result.unwrap() for result in results] == [2] * 20
    assert time.monotonic() - started < 60
    abandoned = executor.map([Job("nap()", tools={"nap": lambda: time.sleep(0.2)})] * 4)
    next(abandoned)
    abandoned.close()
    assert executor.execute("1").ok


# --- Parallel calls -----------------------------------------------------------------------------------------------------


class Gauge:
    """How many calls were under way at once, at most."""

    def __init__(self):
        self.now = self.most = 0

    async def work(self, x):
        self.now += 1
        self.most = max(self.most, self.now)
        await asyncio.sleep(0.05)
        self.now -= 1
        return x

    def sync_work(self, x):
        self.now += 1
        self.most = max(self.most, self.now)
        time.sleep(0.02)
        self.now -= 1
        return x


@pytest.mark.parametrize("way", ["execute", "aexecute"])
def test_awaited_calls_run_at_once(executor, way):
    """asyncio.gather over an async tool overlaps, at most 64 at a time; the results are each its own."""
    gauge = Gauge()
    code = "import asyncio\nawait asyncio.gather(*[work(i) for i in range(200)])"
    if way == "execute":
        result = executor.execute(code, tools={"work": gauge.work})
    else:
        result = asyncio.run(executor.aexecute(code, tools={"work": gauge.work}))
    assert result.unwrap() == list(range(200))
    assert 1 < gauge.most <= 64


def test_calls_from_threads_run_at_once(executor):
    """Threads of the program may call tools, each gets its own answer."""
    gauge = Gauge()
    code = PARALLEL + "with ThreadPoolExecutor(8) as pool: found = list(pool.map(work, range(32)))\nfound"
    assert executor.execute(code, tools={"work": gauge.work}).unwrap() == list(range(32))
    assert gauge.most > 1


@pytest.mark.parametrize("way", ["execute", "aexecute"])
@pytest.mark.parametrize("parallel", [False, True])
def test_sync_tools_overlap_only_where_allowed(executor, way, parallel):
    """No program can make a sync function of the host run twice at once, unless its Tool says `parallel`."""
    gauge = Gauge()
    tool = Tool(gauge.sync_work, name="work", parallel=parallel)
    code = "import asyncio\nawait asyncio.gather(*[work(i) for i in range(8)])"
    result = (
        executor.execute(code, tools=[tool]) if way == "execute" else asyncio.run(executor.aexecute(code, tools=[tool]))
    )
    assert result.unwrap() == list(range(8))
    assert (gauge.most > 1) is parallel


def test_blocking_call_inside_a_loop(executor):
    """`tool.wait` blocks where `tool` would give a coroutine."""
    code = "import asyncio\ndef plain(x): return later.wait(x) + 1\nasync def main(): return plain(2), await later(3)\nawait main()"
    assert executor.execute(code, tools=[later]).unwrap() == (5, 6)


def test_cancelled_call(executor):
    """A program that gives up a call goes on; the answer that comes later disturbs nothing."""
    code = (
        "import asyncio\n"
        "try: await asyncio.wait_for(slow(), 0.05)\nexcept TimeoutError: given_up = True\n"
        "await asyncio.sleep(0.3)\n[given_up, await later(1)]"
    )

    async def slow():
        await asyncio.sleep(0.2)

    assert executor.execute(code, tools=[slow, later]).unwrap() == [True, 2]


def test_large_arguments_and_results_in_parallel(executor):
    """Both sides write at once without waiting for each other for ever."""

    async def swap(text):
        return text.upper()

    code = (
        "import asyncio\nfound = await asyncio.gather(*[swap('x' * 300_000) for _ in range(40)])\n"
        "set(found) == {'X' * 300_000}"
    )
    assert executor.execute(code, tools=[swap], timeout=20).unwrap() is True


# --- Runs inside tools ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("way", ["execute", "aexecute", "submit", "map", "session"])
def test_tool_that_runs_code_in_the_same_executor(way):
    """It needs no place of its own: with a single place nothing waits for ever."""
    with CodeExecutor(max_concurrency=1) as single:

        def inner(n):
            return single.execute("n + 1", {"n": n}).unwrap()

        async def ainner(n):
            return (await single.aexecute("n + 1", {"n": n})).unwrap()

        code, tools = "inner(1) + ainner(2)", [inner, ainner]
        if way == "aexecute":
            result = asyncio.run(single.aexecute("await inner(1) + await ainner(2)", tools=tools, timeout=20))
        elif way == "submit":
            result = single.submit(code, tools=tools, timeout=20).result()
        elif way == "map":
            (result,) = single.map([Job(code, tools=tools, timeout=20)])
        elif way == "session":
            with single.session(tools=tools) as session:
                result = session.execute(code, timeout=20)
        else:
            result = single.execute(code, tools=tools, timeout=20)
        assert result.unwrap() == 5


def test_tool_that_uses_another_session(executor, session):
    """One session's program may drive another's."""
    with executor.session() as other:
        other.execute("x = 40")
        assert session.execute("ask('x + 2')", tools={"ask": lambda code: other.execute(code).unwrap()}).unwrap() == 42


def test_tool_that_reenters_its_own_session(session):
    """A session cannot run a program while it waits for a tool: that is an error, not a deadlock."""
    error = session.execute("again()", tools={"again": lambda: session.execute("1").unwrap()}).error
    assert "this session waits" in error.message
    assert session.execute("1").value == 1


def test_async_tool_that_blocks_in_a_run_with_tools(executor):
    """It would wait for its own event loop; it is told to await, and one that does works."""

    async def blocks():
        return executor.execute("later(1)", tools=[later]).unwrap()

    async def awaits():
        return (await executor.aexecute("later(1)", tools=[later])).unwrap()

    assert "await aexecute" in executor.execute("blocks()", tools=[blocks], timeout=10).error.message
    assert executor.execute("awaits()", tools=[awaits], timeout=10).unwrap() == 2


def test_endless_nesting_is_refused(executor):
    """A tool that runs a program that calls the tool ends with an error before it ends with the host's memory."""

    def deeper():
        return executor.execute("deeper()", tools=[deeper]).unwrap()

    error = executor.execute("deeper()", tools=[deeper], timeout=20).error
    assert "deep" in error.message


# --- Deadlines --------------------------------------------------------------------------------------------------------


def test_deadline_goes_on_in_a_sync_tool(executor, session):
    """The program is interrupted at its deadline, the result comes when the tool returns, and the session lives on."""
    for runner in (executor, session):
        started = time.monotonic()
        result = runner.execute("\nnap()", tools={"nap": lambda: time.sleep(0.8)}, timeout=0.3)
        assert (result.error.kind, result.error.line) == ("timeout", 2)
        assert 0.75 <= time.monotonic() - started < 10
    assert session.execute("add(1)", tools=[add]).value == 3


@pytest.mark.parametrize("way", ["execute", "aexecute"])
def test_async_tools_are_cancelled_at_the_deadline(executor, way):
    """They do not outlive the run that called them, and the call is recorded as unfinished."""
    seen = []

    async def nap():
        try:
            await asyncio.sleep(30)
        except asyncio.CancelledError:
            seen.append("cancelled")
            raise

    async def awaited():
        result = await executor.aexecute("nap()", tools=[nap], timeout=0.3)
        await asyncio.sleep(0.05)
        return result

    result = executor.execute("nap()", tools=[nap], timeout=0.3) if way == "execute" else asyncio.run(awaited())
    end = time.monotonic() + 5
    while not seen and time.monotonic() < end:
        time.sleep(0.01)
    assert result.error.kind == "timeout"
    assert seen == ["cancelled"]
    assert "over before" in result.tool_calls[0].error


def test_calls_that_wait_at_the_deadline_are_not_performed(executor, session):
    """Sync tools run one after the other: those that had not begun when the run's time was over never do."""
    done = []

    def write(n):
        time.sleep(0.1)
        done.append(n)

    code = "import asyncio\nawait asyncio.gather(*(write(n) for n in range(40)))"
    for run in (executor.execute, session.execute):
        done.clear()
        assert run(code, tools=[write], timeout=0.5).error.kind == "timeout"
        assert 0 < len(done) < 20
    assert session.execute("1").unwrap() == 1


def test_approval_after_the_deadline_comes_too_late(executor, session):
    """What nobody waits for any more is not done, though it was approved."""
    done = []

    def approve(call):
        time.sleep(0.6)
        return True

    def write(n):
        done.append(n)

    tool = Tool(write, approve=approve)
    for run in (executor.execute, session.execute):
        result = run("write(1)", tools=[tool], timeout=0.3)
        assert result.error.kind == "timeout"
        assert "before it was approved" in result.tool_calls[0].error
    assert done == []


def test_program_that_swallows_its_deadline_is_killed(executor):
    """The keeper kills it while the tool still runs; the result says timeout."""
    code = "while True:\n    try: nap()\n    except BaseException: pass"
    result = executor.execute(code, tools={"nap": lambda: time.sleep(1.0)}, timeout=0.3)
    assert result.error.kind == "timeout"


def test_interrupt_while_a_tool_runs(session):
    """The program gets KeyboardInterrupt; the tool's answer comes too late and is let go."""

    def meddle():
        session.interrupt()
        time.sleep(0.1)
        return 5

    assert session.execute("meddle()", tools=[meddle]).error.type == "KeyboardInterrupt"
    assert session.execute("add(1)", tools=[add]).value == 3


def test_keyboard_interrupt_of_the_host(executor):
    """A BaseException in a tool is the host's own: it goes to the caller, and the guest is gone."""

    def stop():
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        executor.execute("stop()", tools=[stop])
    assert executor.execute("1").value == 1


# --- Conditions -------------------------------------------------------------------------------------------------------


def test_max_calls(executor):
    """After so many calls the program gets PermissionError; the function is not called again."""
    written = []
    tool = Tool(written.append, name="write", max_calls=3)
    code = "refused = 0\nfor i in range(50):\n    try: write(i)\n    except PermissionError: refused += 1\nrefused"
    result = executor.execute(code, tools=[tool])
    assert result.unwrap() == 47
    assert written == [0, 1, 2]
    assert [call.ok for call in result.tool_calls] == [True] * 3 + [False] * 47
    assert executor.execute("write(9)", tools=[tool]).ok, "counted for each run"


@pytest.mark.parametrize("way", ["execute", "aexecute", "map"])
@pytest.mark.parametrize("sync", [True, False])
def test_approval(executor, way, sync):
    """The callback sees name, arguments and number, and decides; a text is the reason that the program gets."""
    asked = []

    def decide(call):
        asked.append((call.name, call.arguments, call.number))
        return True if call.arguments["a"] > 1 else "too small"

    async def adecide(call):
        return decide(call)

    tool = Tool(add, approve=decide if sync else adecide)
    code = "try: add.wait(1)\nexcept PermissionError as e: reason = str(e)\n[reason, add.wait(2)]"
    if way == "execute":
        result = executor.execute(code, tools=[tool])
    elif way == "aexecute":
        result = asyncio.run(executor.aexecute(code, tools=[tool]))
    else:
        (result,) = executor.map([Job(code, tools=[tool])])
    assert result.unwrap() == ["add: too small", 4]
    assert asked == [("add", {"a": 1}, 1), ("add", {"a": 2}, 2)]


@pytest.mark.parametrize("verdict", [False, None, 1, "", []])
def test_only_true_approves(executor, verdict):
    """Whatever else a callback returns refuses."""
    tool = Tool(add, approve=lambda call: verdict)
    assert executor.execute("add(1)", tools=[tool]).error.type == "PermissionError"


def test_approval_that_raises(executor):
    """What the callback raises the program gets, and the tool is not called."""

    def decide(call):
        raise LookupError("nobody is there")

    called = []
    error = executor.execute("note(1)", tools=[Tool(called.append, name="note", approve=decide)]).error
    assert (error.type, error.message, called) == ("LookupError", "nobody is there", [])


def test_records(executor):
    """Each call is recorded, the first thousand, and all are counted; large arguments are not kept."""
    result = executor.execute("for i in range(1200): add(i)", tools=[add])
    assert (len(result.tool_calls), result.tool_call_count) == (1000, 1200)
    assert result.tool_calls[7].arguments == {"a": 7}
    big = executor.execute("for i in range(3): echo('x' * 600_000)", tools=[echo])
    assert [bool(call.arguments) for call in big.tool_calls] == [True, False, False]
    assert executor.execute("1").tool_calls == ()


# --- Sessions -----------------------------------------------------------------------------------------------------------


def test_mapping_of_a_session_is_looked_at_anew(executor):
    """What is put in or taken out of the mapping counts from the next call on."""
    tools = {"one": lambda: 1}
    with executor.session(tools=tools) as session:
        assert session.execute("one()").value == 1
        tools["two"] = lambda: 2
        assert session.execute("one() + two()").value == 3
        del tools["one"]
        assert session.execute("two()").value == 2
        assert session.execute("one()").error.type == "NameError"
        tools["two"] = lambda: 22
        assert session.execute("two()").value == 22


def test_tools_of_a_call_come_on_top(executor):
    """A call's own tools are added to the session's, and are gone with the call."""
    with executor.session(tools=[add]) as session:
        assert session.execute("add(1) + more()", tools={"more": lambda: 10}).value == 13
        assert session.execute("more()").error.type == "NameError"
        assert session.execute("add(1)", tools={"add": lambda a: "mine"}).value == "mine"
        assert session.execute("add(1)").value == 3


def test_names_of_the_program_are_its_own(executor):
    """What a program binds to a tool's name stays bound."""
    with executor.session(tools=[add]) as session:
        session.execute("def add(x): return 'own'")
        assert session.execute("add(1)").value == "own"


def test_calls_end_with_their_program(executor):
    """A task that is left over with a call under way gets an error in the next program, not another call's answer."""
    with executor.session(tools=[later]) as session:
        session.execute("import asyncio\ntask = asyncio.create_task(later(1))\nawait asyncio.sleep(0.01)")
        error = session.execute("await task").error
        assert "over" in error.message
        assert session.execute("later(2)").value == 4


# --- Attacks ------------------------------------------------------------------------------------------------------------

FORGE = """
import os, socket, stat, struct
def is_socket(number):
    try: return stat.S_ISSOCK(os.fstat(number).st_mode)
    except OSError: return False
channel = socket.socket(fileno=next(filter(is_socket, range(3, 64))))
def frame(kind, body, flags=0, buffers=b'', size=None):
    return struct.pack('<2sBBIQ', b'dx', kind, flags, len(body), len(buffers) if size is None else size) + body + buffers
def call(number, name, arguments, **more):
    return frame(18, struct.pack('<IH', number, len(name)) + name + arguments, **more)
"""


def forged(executor, line, tools=(add,)):
    """The result of a program that writes frames of its own to the engine's channel."""
    return executor.execute(FORGE + line + "\nimport time\ntime.sleep(20)", tools=list(tools) or None, timeout=10)


@pytest.mark.parametrize(
    "line",
    [
        "channel.sendall(frame(18, b''))",
        "channel.sendall(frame(18, b'\\xff' * 40))",
        "channel.sendall(call(1, b'add', b'[[1'))",
        "channel.sendall(call(1, b'add', b'{}'))",
        "channel.sendall(call(1, b'add', b'[[1],{\"a\":1},3]'))",
        "channel.sendall(call(1, b'add', b'[[1],[]]'))",
        "channel.sendall(call(1, b'\\xff\\xfe', b'[[1],{}]'))",
        "channel.sendall(call(1, b'add', b'[' * 100_000))",
        "channel.sendall(call(1, b'add', b'[[{\"~bytes\":[0,99]}],{}]', flags=1))",
        "channel.sendall(frame(18, b'x', size=1 << 50))",
        "channel.sendall(frame(3, b'x'))",
        "channel.sendall(call(7, b'later', b'[[1],{}]') * 2)",
        "for i in range(10_000): channel.sendall(call(i, b'later', b'[[1],{}]'))",
        "for i in range(100_000): channel.sendall(call(i, b'unknown', b'[[1],{}]'))",
    ],
)  # fmt: skip
def test_forged_calls_end_the_run(executor, line):
    """Frames that no guest of ours sends are a breach: malformed, twice the same number, or too many at once."""
    error = forged(executor, line, (add, later)).error
    assert (error.kind, error.type) in (
        ("killed", "ProtocolBreach"),
        ("killed", "SIGKILL"),
        ("killed", "ChannelClosed"),
    )
    assert executor.execute("1").value == 1


def test_call_where_there_are_no_tools(executor):
    """A run without tools has nothing to call."""
    assert forged(executor, "channel.sendall(call(1, b'add', b'[[1],{}]'))", ()).error.type == "ProtocolBreach"


def test_call_of_an_unknown_tool(executor):
    """It is answered with a NameError and recorded; nothing is called."""
    result = executor.execute(
        FORGE + "add(1)\nchannel.sendall(call(99, b'os.system', b'[[1],{}]'))\nadd(2)", tools=[add]
    )
    assert result.unwrap() == 4
    assert [(call.name, call.error) for call in result.tool_calls] == [
        ("add", None),
        ("os.system", "NameError: the run offers no tool 'os.system'"),
        ("add", None),
    ]


def test_answer_with_calls_under_way(executor):
    """A program that ends while it has calls under way, or none to wait for them, ends properly."""
    code = "import asyncio\ntasks = [asyncio.create_task(later(i)) for i in range(5)]\nawait asyncio.sleep(0)\n'done'"
    result = executor.execute(code, tools=[later])
    assert result.unwrap() == "done"
    assert all("over before" in call.error for call in result.tool_calls)


def test_arguments_held_at_once_are_bounded():
    """A flood of large arguments is refused call by call, not kept."""
    with CodeExecutor(max_concurrency=1, limits=ResourceLimits(value=1_000_000)) as small:
        code = (
            "import asyncio\nfound = await asyncio.gather(*[hold('x' * 300_000) for _ in range(8)], return_exceptions=True)\n"
            "[type(x).__name__ for x in found]"
        )

        async def hold(text):
            await asyncio.sleep(0.2)

        kinds = small.execute(code, tools=[hold]).unwrap()
        assert kinds.count("NoneType") == 3
        assert kinds.count("MemoryError") == 5
