"""Whole programs in JavaScript and TypeScript, as models write them: classes, parsers, queues, tests of their own."""

import pathlib

import pytest

from dspex import CodeExecutor, ResourceLimits

PROGRAMS = pathlib.Path(__file__).parent / "javascript"
LIMITS = ResourceLimits(wall=60)


@pytest.fixture(scope="module")
def node():
    with CodeExecutor("javascript", limits=LIMITS) as made:
        yield made


@pytest.fixture(scope="module")
def quickjs():
    with CodeExecutor("javascript", runtime="quickjs", limits=LIMITS) as made:
        yield made


@pytest.fixture(scope="module")
def typed():
    with CodeExecutor("typescript", limits=LIMITS) as made:
        yield made


@pytest.fixture(params=["node", "quickjs"])
def engine(request):
    return request.getfixturevalue(request.param)


def source(name):
    return (PROGRAMS / name).read_text()


def line_of(name, words):
    """The number of the line that begins so."""
    return next(number for number, line in enumerate(source(name).splitlines(), 1) if line.strip().startswith(words))


@pytest.mark.parametrize(
    ("name", "value", "lines"),
    [
        ("lru.js", {"c": 3, "a": 1}, 1),
        ("graph.js", {"reachable": 256, "total": 300, "largest": True}, 300),
    ],
)
def test_programs_of_any_engine(engine, name, value, lines):
    """Private fields, generators, a heap, recursion and a long table: the same on both."""
    result = engine.execute(source(name))
    assert (result.error, result.value, result.stderr) == (None, value, "")
    assert len(result.stdout.splitlines()) == lines


def test_an_assertion_that_fails(engine):
    """The error of the program's own helper, at its line; what held until then is in the output."""
    result = engine.execute(source("calculator.js"))
    error = result.error
    assert (error.kind, error.type, error.message) == ("runtime", "Error", "7 - 2 - 1: expected 6, got 4")
    assert error.line == line_of("calculator.js", "if (actual !== expected)")
    assert result.stdout == "ok 1 + 2 * 3 = 7\nok (1 + 2) * 3 = 9\nok 2 ^ 3 ^ 2 = 512\nok -4 + 10 / 4 = -1.5\n"


def test_an_error_of_a_program_that_names_things_as_the_engine_does(engine):
    """It calls a function of its own `process`, and ends with what it throws."""
    result = engine.execute(source("events.js"))
    assert (result.error.kind, result.error.type, result.error.message) == (
        "runtime",
        "TypeError",
        "Unknown action: remove",
    )
    assert result.error.line == line_of("events.js", "default: throw")
    assert result.stdout == "add:1 add:2 toggle:2 2880067194370816120 6\nok two are left\nok none is done\n"


def test_a_module(node):
    """Imports, exports, `import.meta`, `await` at the top level, an async generator and node's own assertions."""
    result = node.execute(source("queue.mjs"))
    assert (result.error, result.stdout) == (None, "program.js: all assertions hold\n")
    assert result.value == {"results": [5, 1, 3], "attempts": 2, "counted": [3, 2, 1]}


def test_tests_of_node(node):
    """One of them fails, so the program does; the report is its output, with the place in the program."""
    result = node.execute(source("bank.test.js"))
    assert (result.error.kind, result.error.type, result.error.message) == ("runtime", "SystemExit", "1")
    for words in ("tests 6", "pass 5", "fail 1", "are all or nothing", "100 !== 105"):
        assert words in result.stdout
    assert f"<program>:{line_of('bank.test.js', 'assert.equal(new Account')}" in result.stdout


def test_tests_of_node_that_pass(node):
    """Without the one that fails, the program succeeds."""
    whole = source("bank.test.js")
    result = node.execute(whole[: whole.index("test('interest is paid'")])
    assert result.error is None
    assert "pass 5" in result.stdout
    assert "fail 0" in result.stdout


def test_a_main_that_leaves_with_a_status(node):
    """Streams, readline and files; `process.exit` within a catch, and a listener that hears of it."""
    result = node.execute(source("csv.js"))
    assert (result.error.kind, result.error.type, result.error.message) == ("runtime", "SystemExit", "1")
    printed = (
        "Ada is 36 and lives in London\nGrace, Admiral is 85 and lives in New York\nAlan is 41 and lives in Wilmslow\n"
    )
    assert result.stdout == f"{printed}left with 1\n"
    assert result.stderr == "line of Broken: no age: x\n1 broken\n"


def test_types(typed):
    """An enum, an abstract generic class, parameter properties, overloads, guards, `satisfies`."""
    result = typed.execute(source("inventory.ts"))
    assert (result.error, result.value) == (None, {"ACTIVE": 2, "SOLD": 1})
    assert result.stdout == "lamp 195.50 EUR 75.00 EUR\n"


def test_an_assertion_that_fails_among_types(typed):
    """Types are blanked out, so that line and column are those of the text."""
    result = typed.execute(source("matrix.ts"))
    error = result.error
    assert (error.kind, error.type) == ("runtime", "AssertionError")
    assert error.message == '{"rows":2,"columns":2} is not {"rows":2,"columns":3}'
    line = line_of("matrix.ts", "if (a !== b)")
    assert (error.line, error.column) == (line, source("matrix.ts").splitlines()[line - 1].index("new") + 1)
    assert result.stdout == "two hold\n"
