"""JavaScript on QuickJS: what is its own. What every language can do is in the suite."""

import datetime

import pytest

from dspex import CodeExecutor


@pytest.fixture(scope="module")
def executor():
    with CodeExecutor("javascript", runtime="quickjs") as made:
        yield made


@pytest.mark.parametrize(
    ("thrown", "type", "message"),
    [
        ("null", "null", "Uncaught null"),
        ("undefined", "undefined", "Uncaught undefined"),
        ("42", "number", "Uncaught 42"),
        ("Symbol('s')", "symbol", "Uncaught Symbol(s)"),
        (
            "new Proxy({}, { get() { throw 1 }, getPrototypeOf() { throw 2 } })",
            "object",
            "Uncaught what cannot be shown",
        ),
        ("{ toString() { throw 1 } }", "Object", "Uncaught { toString: [Function: toString] }"),
        ("Object.assign(new Error(), { message: Symbol('q') })", "Error", "Symbol(q)"),
        ("Object.defineProperty(new TypeError('m'), 'stack', { get() { throw 1 } })", "TypeError", "m"),
        ("Object.assign(new Error('m'), { name: '\\ud800' })", "\ufffd", "m"),
    ],
)
@pytest.mark.parametrize("words", ["throw {0}", "(async () => { throw {0} })()"])
def test_whatever_is_thrown_is_a_failure(executor, thrown, type, message, words):
    """Also what is nothing, and what defends itself against being looked at."""
    error = executor.execute(words.replace("{0}", thrown)).error
    assert (error.kind, error.type, error.message) == ("runtime", type, message)


@pytest.mark.parametrize(
    ("thrown", "message"),
    [("null", "Uncaught null"), ("42", "Uncaught 42"), ("{ toString() { throw 1 } }", "what cannot be shown")],
)
def test_what_a_session_throws(executor, thrown, message):
    """Its errors come as text; what is none is told as it reads, and the session goes on."""
    with executor.session() as session:
        error = session.execute(f"throw {thrown}").error
        assert (error.kind, error.message) == ("runtime", message)
        assert session.execute("1 + 1").unwrap() == 2


def test_memory_that_does_not_do_for_an_error(executor):
    """The engine throws null then, which is told from a null of the program's."""
    assert (
        executor.execute("const m = new Map(); for (let i = 0; ; i++) m.set(i, { i })", timeout=30).error.kind
        == "memory_limit"
    )


def test_promises(executor):
    """A program's value is what its promise comes to; one that comes to nothing, or fails, is a failure."""
    assert executor.execute("async function main() { await null; return [1, await 2] }\nmain()").unwrap() == [1, 2]
    error = executor.execute("async function main() {\n  await null\n  null.x\n}\nmain()").error
    assert (error.kind, error.type, error.line) == ("runtime", "TypeError", 3)
    assert "never come" in executor.execute("new Promise(() => {})").error.message
    with executor.session() as session:
        assert session.execute("const a = Promise.resolve(5); a").unwrap() == 5
        assert session.execute("Promise.reject(new RangeError('no'))").error.type == "RangeError"
        assert session.execute("6").unwrap() == 6


@pytest.mark.parametrize(
    ("code", "line"),
    [
        ("class Mine extends Error {\n  constructor() {\n    super('m')\n  }\n}\nthrow new Mine()", 6),
        ("1\nJSON.parse('{')", 2),
        ("1\neval('1 +')", 2),
        ("1\nreadFile('nothing')", 2),
        ("1\nwriteFile('no/thing', 'x')", 2),
    ],
)
def test_errors_have_the_place_of_the_program(executor, code, line):
    """Not that of a constructor, of the engine's prelude, or of a text that the program could not read."""
    error = executor.execute(code).error
    assert (error.kind, error.line) == ("runtime", line)
    assert "prelude" not in error.traceback
    assert "100000" not in error.traceback


def test_leaving(executor):
    """Nothing of a fresh program comes behind `process.exit`; in a session it is an error, and the session goes on."""
    result = executor.execute("try { console.log(1); process.exit(3) } catch { } finally { console.log('not') }")
    assert (result.error.type, result.error.message, result.error.line, result.stdout) == (
        "SystemExit",
        "3",
        None,
        "1\n",
    )
    result = executor.execute("(async () => { await null; process.exit(0) })()")
    assert (result.error, result.value_type) == (None, "SystemExit")
    with executor.session() as session:
        assert session.execute("process.exit(2)").error.type == "SystemExit"
        assert session.execute("process.exit(0)").ok
        assert session.execute("5").unwrap() == 5


@pytest.mark.parametrize(
    "code",
    [
        "new Map([[{ a: 1 }, 1]])",
        "new Set([[1], [1]])",
        "({ deep: new Map([[undefined, 1], [null, 2]]) })",
        "new Set([1, true])",
        "new Date(NaN)",
        "new Date(-1e15)",
        "new DataView(new ArrayBuffer(3))",
        "({ get a() { throw 1 } })",
        "({ toJSON() { throw 1 } })",
    ],
)
def test_what_cannot_cross_is_described(executor, code):
    """By its type and in words: no failure, and nobody's fault."""
    result = executor.execute(code)
    assert (result.error, result.value) == (None, None)
    assert result.value_repr


def test_values(executor):
    """Boxes are what is in them; keys are numbers, texts, dates and bytes; names of globals are the program's own."""
    assert executor.execute("[Object('s'), Object(1), Object(true), Object(2n)]").unwrap() == ["s", 1, True, 2]
    code = "new Map([[1.5, 1], ['1.5', 2], [new Date(0), 3], [new Uint8Array([7]), 4]])"
    epoch = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)
    assert executor.execute(code).unwrap() == {1.5: 1, "1.5": 2, epoch: 3, b"\x07": 4}
    assert executor.execute("var Array = 1, Map = 2, Object = 3, Promise = 4, JSON = 5; [6]").unwrap() == [6]


def test_bytes(executor):
    """Every byte, and 10 MB of them, both ways."""
    data = bytes(range(256)) * 40_000
    assert executor.execute("x", {"x": data}, timeout=30).unwrap() == data


def test_half_a_surrogate_pair_is_printed(executor):
    """As other runtimes print it."""
    assert executor.execute("console.log('a\\ud800')").stdout == "a\ufffd\n"
