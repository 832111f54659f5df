"""Elixir and Erlang: what is theirs alone, and whole programs. What every language can do is in the suite."""

import datetime
import pathlib

import pytest

from dspex import CodeExecutor, ResourceLimits, SecurityPolicy
from dspex.errors import IsolationError, PolicyError, VariableError

PROGRAMS = pathlib.Path(__file__).parent / "elixir"


@pytest.fixture(scope="module")
def executor():
    with CodeExecutor("elixir", limits=ResourceLimits(wall=60)) as made:
        yield made


@pytest.fixture(scope="module")
def erlang():
    with CodeExecutor("erlang", limits=ResourceLimits(wall=60)) as made:
        yield made


# --- Whole programs -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "value", "printed"),
    [
        ("bank.exs", {"total": 105, "history": [("deposit", 5), ("deposit", 30)]}, "Ada  70\nBob  35\n"),
        (
            "shapes.exs",
            ({"circle": [12.56], "rectangle": [10], "square": [9, 1], 'no shape: "a line"': [0]}, 4),
            "the largest: Circle(2)\n",
        ),
        ("calculator.exs", None, "6 tests, 0 failures"),
        ("graph.exs", (1600, 78, 112), "\n40 40  78  112\n"),
    ],
)
def test_programs_that_succeed(executor, name, value, printed):
    """Processes, protocols, structs, macros, tests and a long table: each whole program does what it says."""
    result = executor.execute((PROGRAMS / name).read_text())
    assert (result.error, result.value, result.stderr) == (None, value, "")
    assert printed in result.stdout


def test_a_program_whose_test_fails(executor):
    """ExUnit's report is its output, and the failure is the program's."""
    result = executor.execute((PROGRAMS / "cache.exs").read_text())
    assert (result.error.kind, result.error.type) == ("runtime", "exit")
    assert "status 2" in result.error.message
    assert "2 tests, 1 failure" in result.stdout
    assert "<program>:46" in result.stdout


def test_a_program_whose_assertion_fails(executor):
    """It stops there, at its line, with what it had written until then."""
    source = (PROGRAMS / "inventory.exs").read_text()
    result = executor.execute(source)
    assert (result.error.kind, result.error.type) == ("runtime", "ExUnit.AssertionError")
    assert result.error.message == "the faults are others"
    assert source.splitlines()[result.error.line - 1] == "Inventory.check!(items, [])"
    assert result.stderr == "one more\n"


def test_a_module_of_erlang(erlang):
    """A behaviour, records, macros and assertions of the library; main/0 is called."""
    result = erlang.execute((PROGRAMS / "counter.erl").read_text())
    assert (result.error, result.value, result.stdout) == (None, {"count": 42, "name": "counter"}, "3 tests\n")


# --- Values -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("code", "value", "type"),
    [
        (":ok", "ok", "atom"),
        ("Enum", "Enum", "atom"),
        ("[true, false, nil, :null]", [True, False, None, None], "list"),
        ('~c"ab" ++ [1.0]', [97, 98, 1.0], "list"),
        ('{1, {2.5, "x"}}', (1, (2.5, "x")), "tuple"),
        ("%{1 => :a, {2, 3} => nil}", {1: "a", (2, 3): None}, "map"),
        ("[a: 1]", [("a", 1)], "list"),
        ("MapSet.new([1, {2}])", {1, (2,)}, "MapSet"),
        ("<<0, 255>>", b"\x00\xff", "binary"),
        ("~D[2024-02-29]", datetime.date(2024, 2, 29), "Date"),
        ("~T[10:00:01]", datetime.time(10, 0, 1), "Time"),
        ("~N[2024-02-29 10:00:00]", datetime.datetime(2024, 2, 29, 10), "NaiveDateTime"),
        ("~U[2024-02-29 10:00:00Z]", datetime.datetime(2024, 2, 29, 10, tzinfo=datetime.UTC), "DateTime"),
        ('%URI{host: "a"} |> Map.take([:host, :port])', {"host": "a", "port": None}, "map"),
        ("-(2 ** 200)", -(2**200), "integer"),
        ("1.0e22", 1e22, "float"),
        ('"a\\0\\"\\\\\\n\\u00e9\\u{1F600}"', 'a\0"\\\né😀', "binary"),
        ('%{"~x" => 1}', {"~x": 1}, "map"),
        ("defmodule Nothing do\nend", None, None),
    ],
)
def test_values_by_their_types(executor, code, value, type):
    """What Python has a type for arrives as it."""
    result = executor.execute(code)
    assert (result.error, result.value) == (None, value)
    assert type is None or result.value_type == type


@pytest.mark.parametrize(
    ("code", "type", "shown"),
    [
        ("self()", "pid", "#PID"),
        ("fn x -> x end", "function", "#Function"),
        ("[1 | 2]", "list", "[1 | 2]"),
        ('%{:a => 1, "a" => 2}', "map", "%{:a => 1"),
        ("<<1::3>>", "bitstring", "<<1::size(3)>>"),
        ("Enum.reduce(1..300, [], fn _, l -> [l] end)", "list", "[[[["),
    ],
)
def test_values_that_cannot_cross(executor, code, type, shown):
    """They are shown as Elixir shows them, and are no failure."""
    result = executor.execute(code)
    assert (result.error, result.value, result.value_type) == (None, None, type)
    assert result.value_repr.startswith(shown)


@pytest.mark.parametrize(
    ("value", "code", "expected"),
    [
        ({"a": 1}, 'x["a"]', 1),
        ({1: "a", (2, 3): "b"}, "x[{2, 3}]", "b"),
        ({"~": 0}, 'x["~"]', 0),
        ((1, 2), "elem(x, 1)", 2),
        ({1, 2}, "is_struct(x, MapSet) and MapSet.size(x)", 2),
        (datetime.date(2024, 1, 31), "Date.add(x, 1)", datetime.date(2024, 2, 1)),
        (datetime.datetime(2024, 1, 1, 5), "x.hour", 5),
        (b"\xff\x00", "byte_size(x)", 2),
        ('a\\u0041"\n\t\x01é😀', "x", 'a\\u0041"\n\t\x01é😀'),
        ("\ud800x", "String.valid?(x)", True),
        ([1e22, -0.5, 1e-7, 5e-324], "x", [1e22, -0.5, 1e-7, 5e-324]),
        (2**70, "x + 1", 2**70 + 1),
        (None, "x == nil", True),
    ],
)
def test_variables(executor, value, code, expected):
    """They are what Elixir would call them."""
    assert executor.execute(code, {"x": value}).unwrap() == expected


@pytest.mark.parametrize("value", [float("nan"), float("-inf"), [1j], {"a": object()}])
def test_what_elixir_has_nothing_for(executor, value):
    """It is refused by the variable's name, before anything runs."""
    with pytest.raises(VariableError, match="x"):
        executor.execute("1", {"x": value})


@pytest.mark.parametrize("name", ["X", "end", "nil", "when", "a?"])
def test_names_of_variables(executor, name):
    """A capital begins a module, and keywords are no names."""
    with pytest.raises(VariableError, match="variable"):
        executor.execute("1", {name: 1})


# --- Errors -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("code", "kind", "type", "message", "line"),
    [
        ("x = 1\nx + :a", "runtime", "ArithmeticError", "bad argument", 2),
        ("1\n\n{:ok, 1} = {:error, 2}", "runtime", "MatchError", "{:error, 2}", 3),
        ("\nthrow(:ball)", "runtime", "throw", ":ball", 2),
        ("\nexit(:bad)", "runtime", "exit", ":bad", 2),
        ("\nNope.f(1)", "runtime", "UndefinedFunctionError", "Nope.f/1", 2),
        ("\nnope(1)", "syntax", "CompileError", "nope/1", 2),
        ("defmodule A do\n  def f, do: y\nend", "syntax", "CompileError", "y", 2),
        ("defmodule A do\n  def f(1), do: 1\nend\nA.f(2)", "runtime", "FunctionClauseError", "A.f/1", 2),
        ("x = (1\n", "syntax", "TokenMissingError", "missing terminator: )", 2),
        ("x = 1\n  end", "syntax", "SyntaxError", "unexpected reserved word: end", 2),
        ("Enum.map([1], fn x ->\n  y = x\n  y / 0\nend)", "runtime", "ArithmeticError", "bad argument", 3),
        ("if true do\n  1\n  raise \"no\"\nend", "runtime", "RuntimeError", "no", 3),
        ("case 5 do\n  1 -> 2\nend", "runtime", "CaseClauseError", "5", 1),
        ("defmodule E do\n  defexception message: \"own\"\nend\nraise E", "runtime", "E", "own", 4),
        ("File.read!(\"nothing\")", "runtime", "File.Error", "no such file", 1),
        ("Process.exit(self(), :kill)\nProcess.sleep(:infinity)", "runtime", "exit", "killed", None),
        ("raise <<0x61, 0xFF>>", "runtime", "RuntimeError", "a\ufffd", 1),
        ("IO.puts(self())", "runtime", "Protocol.UndefinedError", "String.Chars", 1),
        ("spawn_link(fn -> raise \"far\" end)\nProcess.sleep(:infinity)", "runtime", "RuntimeError", "far", None),
    ],
)  # fmt: skip
def test_errors(executor, code, kind, type, message, line):
    """Each with its name, what it says, and its line."""
    error = executor.execute(code).error
    assert (error.kind, error.type, error.line) == (kind, type, line)
    assert message in error.message
    assert type in error.traceback or kind == "runtime"
    assert "evaluator.ex" not in error.traceback


@pytest.mark.parametrize(
    ("code", "kind", "type", "message", "line"),
    [
        ("A = 1,\nA + b.", "runtime", "badarith", "arithmetic", 2),
        ("f(X) ->\n  X + b.\nf(1).", "runtime", "badarith", "arithmetic", 2),
        ("{ok, 1} = {error, 2}.", "runtime", "badmatch", "{error,2}", 1),
        ("\nlists:nth(0, []).", "runtime", "function_clause", "lists:nth(0,[])", 2),
        ("nope(1).", "runtime", "undef", "nope/1", 1),
        ("throw(ball).", "runtime", "throw", "ball", 1),
        ("exit({bad, 1}).", "runtime", "exit", "{bad,1}", 1),
        ("error({mine, [1]}).", "runtime", "mine", "{mine,[1]}", 1),
        ("X = 1,\nY = = 2.", "syntax", "SyntaxError", "syntax error before", 2),
        ("f(X) ->\n  Y.\n1.", "syntax", "CompileError", "'Y' is unbound", 2),
        ("lists:foreach(fun(X) ->\n  Y = X,\n  1 / Y\nend, [0]).", "runtime", "badarith", "arithmetic", 3),
        ('"abc', "syntax", "SyntaxError", "string", 1),
        ('io:format("~q", [1]).', "runtime", "badarg", "argument", 1),
    ],
)
def test_errors_of_erlang(erlang, code, kind, type, message, line):
    """Each by the name that its reason begins with."""
    error = erlang.execute(code).error
    assert (error.kind, error.type, error.line) == (kind, type, line)
    assert message in error.message


def test_what_is_logged_goes_to_stderr(executor):
    """The logger's messages, and what is said of a process that crashed; stdout is the program's."""
    result = executor.execute('require Logger\nLogger.warning("careful")\nIO.puts("out")')
    assert (result.stdout, result.error) == ("out\n", None)
    assert "[warning] careful" in result.stderr
    with executor.session() as session:  # the machine logs a crash by a thread of its own
        codes = ['spawn(fn -> raise "lost" end)', *["Process.sleep(1)"] * 1000]
        assert next(cell for cell in map(session.execute, codes) if "lost" in cell.stderr).stdout == ""


def test_output_keeps_its_order(executor):
    """Of all processes, and there when the answer is."""
    code = "for n <- 1..200, do: Task.await(Task.async(fn -> IO.puts(n) end))\n:ok"
    assert executor.execute(code).stdout.split() == [str(n) for n in range(1, 201)]


def test_a_program_may_end_itself(executor):
    """Of its own will it leaves without a failure, and what it wanted done at its end is done."""
    result = executor.execute("Process.exit(self(), :normal)\nProcess.sleep(:infinity)")
    assert (result.error, result.value_type) == (None, "SystemExit")
    assert executor.execute('System.at_exit(fn status -> IO.puts("bye #{status}") end)\n1').stdout == "bye 0\n"


def test_a_crash_of_the_machine_leaves_nothing_behind(executor):
    """No dump of its memory is among the files."""
    result = executor.execute(':erlang.halt(~c"over")')
    assert result.error.kind == "killed"
    assert not result.files


# --- Policy -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("language", "code", "named"),
    [
        ("elixir", 'x = 1\nSystem.cmd("ls", [])', "System"),
        ("elixir", '\n:os.getenv(~c"A")', ":os"),
        ("elixir", '\nFile.rm("x")', "File.rm"),
        ("elixir", "\nEnum.each([1], &File.rm/1)", "File.rm"),
        ("elixir", "\nspawn(fn -> 1 end)", "spawn"),
        ("erlang", 'A = 1,\nos:cmd("ls").', "os"),
        ("erlang", "f(X) ->\n  file:delete(X).", "file:delete"),
        ("erlang", "\nlists:map(fun file:delete/1, []).", "file:delete"),
        ("erlang", "\nspawn(fun() -> 1 end).", "spawn"),
    ],
)
def test_what_a_policy_forbids_is_told_early(language, code, named):
    """With its line, before anything runs."""
    policy = SecurityPolicy(
        forbidden_modules=("System", ":os", "os"), forbidden_calls=("File.rm", "spawn", "file:delete")
    )
    with CodeExecutor(language, policy=policy, max_concurrency=1) as executor:
        error = executor.execute(code).error
        assert (error.kind, error.type, error.line) == ("policy", "PolicyViolation", 2)
        assert named in error.message


def test_what_elixir_cannot_have_is_refused():
    """Level landlock, network and subprocesses, before a run."""
    with pytest.raises(IsolationError, match="namespaces"), CodeExecutor("elixir", isolation="landlock") as executor:
        executor.execute("1")
    policy = SecurityPolicy(network=("a.example:443",))
    with pytest.raises(PolicyError, match="network"), CodeExecutor("elixir", policy=policy) as executor:
        executor.execute("1")
    policy = SecurityPolicy(subprocesses=True)
    with pytest.raises(PolicyError, match="subprocesses"), CodeExecutor("elixir", policy=policy) as executor:
        executor.execute("1")


# --- Sessions -----------------------------------------------------------------------------------------------------------


def test_a_session_is_one_process(executor):
    """What is linked to it, sent to it, or in its dictionary is there in the next cell."""
    with executor.session() as session:
        session.execute("{:ok, agent} = Agent.start_link(fn -> 40 end)\nme = self()\nsend(self(), {:two, 2})").unwrap()
        session.execute("Process.put(:key, 5)").unwrap()
        assert session.execute("receive do {:two, n} -> Agent.get(agent, & &1) + n end").unwrap() == 42
        assert session.execute("{me == self(), Process.get(:key)}").unwrap() == (True, 5)


def test_a_stopped_cell_leaves_the_session_as_it_was(executor):
    """At a deadline, with a full heap, or by a process that it is linked to: what was bound before is bound, and nothing else."""
    with executor.session() as session:
        session.execute("import Integer, only: [pow: 2]\nx = [1, 2]").unwrap()
        stopped = session.execute("x = :other\ny = 1\nProcess.sleep(:infinity)", timeout=0.3).error
        assert stopped.kind == "timeout"
        broken = session.execute("x = :other\nspawn_link(fn -> exit(:bad) end)\nProcess.sleep(:infinity)").error
        assert (broken.kind, broken.type) == ("runtime", "exit")
        grow = "f = fn f, all -> f.(f, [List.duplicate(1, 1000) | all]) end\nx = :other\nf.(f, [])"
        assert session.execute(grow).error.kind == "memory_limit"
        assert session.execute("{x, pow(2, 3)}").unwrap() == ([1, 2], 8)
        assert session.execute("y").error.kind == "syntax"


def test_a_failed_cell_keeps_what_it_bound_before(executor):
    """As far as it came."""
    with executor.session() as session:
        assert session.execute('a = 1\nb = a + 1\nraise "no"\nb = 5').error.line == 3
        assert session.execute("{a, b}").unwrap() == (1, 2)


def test_cells_are_named_apart(executor):
    """An error in a function of an earlier cell names that cell."""
    with executor.session() as session:
        session.execute("defmodule F do\n  def f, do: :a + 1\nend").unwrap()
        error = session.execute("\nF.f()").error
        assert error.line == 2
        assert "<program>:2: F.f/0" in error.traceback
        assert "<program 3>:1" in session.execute('raise "x"').error.traceback


def test_a_session_of_erlang(erlang):
    """Functions add up, records stay, variables are bound once, and f() forgets them."""
    with erlang.session() as session:
        session.execute("-record(p, {x = 1}).\na() -> 1.\nX = 5.").unwrap()
        session.execute("b() -> a() + (#p{})#p.x.").unwrap()
        assert session.execute("b() + X.").unwrap() == 7
        assert session.execute("X = 6.").error.type == "badmatch"
        assert session.execute("f(X), X = 6.").unwrap() == 6
        session.execute("a() -> 10.").unwrap()
        assert session.execute("b().").unwrap() == 11
        assert session.execute("f(). Y = X.").error.message == "variable 'X' is unbound"
        assert session.execute("-module(other).\n-export([g/0]).\ng() -> a().").error.type == "CompileError"


def test_tools_change_between_cells(executor):
    """The cell's own tools are there, those of an earlier one are not."""

    def one():
        return 1

    def two(x, y=2):
        return x + y

    with executor.session() as session:
        assert session.execute("one()", tools=[one]).unwrap() == 1
        assert session.execute("[two(1), two(1, 5)]", tools=[two]).unwrap() == [3, 6]
        assert session.execute("one()", tools=[two]).error.type == "CompileError"


def test_a_module_may_have_functions_of_a_tools_name(executor):
    """Inside it they are its own; outside, the tool's."""

    def fetch(x):
        return f"tool {x}"

    code = 'defmodule M do\n  def fetch(x, y \\\\ 0), do: x + y\n  def display(x), do: fetch(x)\nend\n{M.display(1), fetch("a")}'
    assert executor.execute(code, tools=[fetch]).unwrap() == (1, "tool a")


def test_tools_are_called_from_functions(erlang):
    """Also in a compiled function, and what they raise has a class to match on."""

    def lookup(key):
        return {"a": [1, None]}[key]

    code = 'find(K) ->\n  try lookup(K) catch error:{tool_error, Type, _} -> Type end.\n{find(<<"a">>), find(<<"b">>)}.'
    assert erlang.execute(code, tools=[lookup]).unwrap() == ([1, None], "KeyError")


def test_names_of_erlangs_variables(erlang):
    """A small first letter becomes a capital; two that would be one are refused."""
    assert erlang.execute("{Rows, N_1, _k}.".replace("_k", "_K"), {"rows": [1], "N_1": 2, "_K": None}).unwrap() == (
        [1],
        2,
        None,
    )
    with pytest.raises(VariableError, match="one name"):
        erlang.execute("1.", {"x": 1, "X": 2})
    with pytest.raises(VariableError, match="variable"):
        erlang.execute("1.", {"é": 1})


def test_sessions_with_megabytes(executor):
    """What a session holds costs a cell nothing it could feel, and its copy stays within the limits."""
    with CodeExecutor("elixir", limits=ResourceLimits(memory="1GiB")) as roomy, roomy.session() as session:
        rows = [{"id": i, "tags": ["a", "b"]} for i in range(50_000)]
        assert session.execute("length(x)", {"x": rows}).unwrap() == 50_000
        for _ in range(20):
            assert session.execute("length(x)").unwrap() == 50_000


# --- The compiled guest -------------------------------------------------------------------------------------------------


def test_the_guest_is_compiled_once(tmp_path, monkeypatch):
    """Into the user's cache, where the next process finds it."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    tmp_path.chmod(0o755)
    for _ in range(2):
        with CodeExecutor("elixir", max_concurrency=1) as executor:
            assert executor.execute("1 + 1").unwrap() == 2
    (made,) = (tmp_path / "dspex" / "elixir").iterdir()
    assert (made / "Elixir.Dspex.Guest.beam").exists()
