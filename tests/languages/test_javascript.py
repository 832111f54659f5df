"""JavaScript and TypeScript on node: what is theirs alone. What every language can do is in the suite."""

import datetime
import math
import time

import pytest

from dspex import CodeExecutor, SecurityPolicy
from dspex.errors import PolicyError, UsageError, VariableError


@pytest.fixture(scope="module")
def executor():
    with CodeExecutor("javascript") as made:
        yield made


@pytest.fixture(scope="module")
def typed():
    with CodeExecutor("typescript") as made:
        yield made


@pytest.mark.parametrize(
    ("code", "value", "type"),
    [
        ("[1, 2.5, 'ü', null, undefined, true]", [1, 2.5, "ü", None, None, True], "Array"),
        ("({a: {b: [1]}})", {"a": {"b": [1]}}, "Object"),
        ("new Map([[1, 'a'], ['b', [2]]])", {1: "a", "b": [2]}, "Map"),
        ("new Set([1, 2])", {1, 2}, "Set"),
        ("10n ** 30n", 10**30, "bigint"),
        ("-(2n ** 70n)", -(2**70), "bigint"),
        ("new Uint8Array([1, 2])", b"\x01\x02", "Uint8Array"),
        ("new Float64Array([1.5, NaN])[0]", 1.5, "number"),
        ("-0", -0.0, "number"),
        ("1 / 0", math.inf, "number"),
        ("'\\ud83d'", "\ud83d", "string"),
        ("({'~x': 1})", {"~x": 1}, "Object"),
        ("class P { constructor() { this.x = 1 } f() {} }\nnew P()", {"x": 1}, "P"),
        ("if (true) { 5 }", 5, "number"),
    ],
)
def test_values_keep_their_kind(executor, code, value, type):
    """What JavaScript has more kinds of than JSON arrives as what Python has for it."""
    result = executor.execute(code)
    assert (result.error, result.value, result.value_type) == (None, value, type)
    if value == 0:
        assert math.copysign(1, result.value) == -1


@pytest.mark.parametrize(
    ("code", "shown"),
    [("function f() {}\nf", "[Function: f]"), ("Symbol('s')", "Symbol(s)"), ("const a = {}; a.a = a; a", "Circular")],
)
def test_what_cannot_cross_is_described(executor, code, shown):
    """No value, its type, and what node itself shows of it."""
    result = executor.execute(code)
    assert result.ok
    assert result.value is None
    assert shown in result.value_repr


@pytest.mark.parametrize(
    "code",
    [
        "new Map([[{ a: 1 }, 1]])",
        "new Set([[1], [1]])",
        "new Map([[1, 'a'], [true, 'b']])",
        "({ deep: new Map([[undefined, 1], [null, 2]]) })",
        "new Set([2n ** 53n, 2 ** 53])",
        "new DataView(new ArrayBuffer(3))",
        "new Date(NaN)",
    ],
)
def test_keys_that_python_has_not(executor, code):
    """What Python cannot hash, or would take for one, is described; nothing is lost without a word, and no guest is blamed."""
    result = executor.execute(code)
    assert (result.error, result.value) == (None, None)
    assert result.value_repr


def test_keys_of_many_kinds(executor):
    """Numbers, texts, dates and bytes are keys in both."""
    code = "new Map([[1.5, 1], ['1.5', 2], [new Date(0), 3], [new Uint8Array([7]), 4], [10n ** 30n, 5], [null, 6]])"
    epoch = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)
    assert executor.execute(code).unwrap() == {1.5: 1, "1.5": 2, epoch: 3, b"\x07": 4, 10**30: 5, None: 6}


def test_an_array_longer_than_its_elements(executor):
    """Is refused by its length, before anything is made of it."""
    assert executor.execute("const a = []; a[2 ** 32 - 2] = 1; a").error.kind == "value_limit"


def test_what_is_described_shows_the_program_alone(executor):
    """An error as the value: its trace has the program's frames, none of the engine's and no path of the host's."""
    assert executor.execute("1\nnew TypeError('v')").value_repr == "TypeError: v\n    at <program>:2:1"


@pytest.mark.parametrize(
    ("thrown", "type", "message"),
    [
        ("null", "null", "Uncaught null"),
        ("undefined", "undefined", "Uncaught undefined"),
        ("new Proxy({}, { get() { throw 1 }, getPrototypeOf() { throw 2 } })", "object", "Uncaught {}"),
        ("{ [Symbol.for('nodejs.util.inspect.custom')]() { throw 1 } }", "Object", "Uncaught what cannot be shown"),
        ("Object.assign(new Error(), { message: Symbol('q') })", "Error", "Symbol(q)"),
        (
            "Object.assign(new Error('m'), { message: { toString() { throw 1 } } })",
            "Error",
            "{ toString: [Function: toString] }",
        ),
        ("Object.defineProperty(new TypeError(), 'stack', { get() { throw 1 } })", "TypeError", ""),
        ("Object.assign(new Error('m'), { name: '\\ud800' })", "\ufffd", "m"),
        ("Object.assign(new Error('m'), { cause: process })", "Error", "m"),
    ],
)
@pytest.mark.parametrize("words", ["throw {0}", "await 1; throw {0}", "Promise.reject({0}); 1"])
def test_whatever_is_thrown_is_a_failure(executor, thrown, type, message, words):
    """Also what is nothing, and what defends itself against being looked at."""
    error = executor.execute(words.replace("{0}", thrown)).error
    assert (error.kind, error.type, error.message) == ("runtime", type, message)


@pytest.mark.parametrize(
    "code",
    [
        "function process(x) { return x + 1 }\nprocess(41)",
        "const process = 42, Buffer = 1, JSON = 2; process",
        "class Map {}\nclass Set {}\nclass Promise {}\nclass Array {}\nclass Error {}\n42",
        "var Object = 1, String = 2, setTimeout = 3, clearTimeout = 4, module = 5, require = 6; await 1; 42",
        "JSON.stringify = () => { throw 1 }; JSON.parse = null; 42",
    ],
)
def test_names_are_the_programs(executor, code):
    """A program may call its own things what the engine's globals are called, as in a module of node's."""
    assert executor.execute(code).unwrap() == 42


def test_main_is_main(executor):
    """What programs ask to know whether they were started is true of these, and `import.meta` has its place."""
    assert executor.execute("if (require.main === module) console.log('main')").stdout == "main\n"
    code = "import { fileURLToPath } from 'node:url'\nconst __filename = fileURLToPath(import.meta.url)\n"
    code += "const f = () => import.meta.dirname;\n[__filename, f()]"
    assert executor.execute(code).unwrap() == ["/run/sandbox/work/program.js", "/run/sandbox/work"]
    assert executor.execute("import.meta.filename\nnull.x").error.line == 2


def test_a_program_leaves_as_under_node(executor):
    """Listeners of `beforeExit` and `exit` are heard; nothing behind `process.exit` is; the status is the program's."""
    code = "process.once('beforeExit', () => setTimeout(() => console.log('more'), 5))\n"
    code += "process.on('exit', (code) => console.log('bye', code))\n7"
    result = executor.execute(code)
    assert (result.unwrap(), result.stdout) == (7, "more\nbye 0\n")
    code = "process.on('exit', (code) => console.log('bye', code))\n"
    code += "try { process.exit(%s) } catch { } finally { console.log('not') }"
    result = executor.execute(code % 3)
    assert (result.error.type, result.error.message, result.stdout) == ("SystemExit", "3", "bye 3\n")
    result = executor.execute(code % 0)
    assert (result.error, result.value_type, result.stdout) == (None, "SystemExit", "bye 0\n")
    result = executor.execute("process.on('exit', (code) => console.log('bye', code))\nnull.x")
    assert (result.error.type, result.stdout) == ("TypeError", "bye 1\n")
    for code in ("process.exitCode = 1; 5", "process.on('exit', () => { process.exitCode = 1 }); 5"):
        assert executor.execute(code).error.message == "1"
    assert executor.execute("process.on('exit', () => { throw new RangeError('late') }); 5").error.type == "RangeError"


def test_listeners_of_its_own(executor):
    """A program that listens for errors that nobody catches hears them, and goes on."""
    code = "process.on('unhandledRejection', (e) => console.log('rejected', e.message))\n"
    code += "process.on('uncaughtException', (e) => console.log('thrown', e.message))\n"
    code += "Promise.reject(new Error('a')); setTimeout(() => { throw new Error('b') }, 1); 3"
    result = executor.execute(code)
    assert (result.unwrap(), result.stdout) == (3, "rejected a\nthrown b\n")
    result = executor.execute(
        "process.on('uncaughtException', (e) => console.log(e.message)); Promise.reject(new Error('a')); 3"
    )
    assert (result.unwrap(), result.stdout) == (3, "a\n")


def test_modules(executor):
    """Import statements, dynamic imports and require."""
    code = "import { join } from 'node:path'\nimport * as os from 'os';\nconst u = await import('node:util');\n"
    code += "[join('a', 'b'), os.EOL, typeof u.inspect, typeof require('fs').readFileSync]"
    assert executor.execute(code).unwrap() == ["a/b", "\n", "function", "function"]


@pytest.mark.parametrize("ahead", ["", "await 1\n"])
@pytest.mark.parametrize("end", ["", ";"])
@pytest.mark.parametrize(
    "exported", ["42", "(42)", "(x = 42) => x", "function () { return 42 }", "class { static x = 42 }"]
)
def test_what_a_module_exports_is_its_value(executor, ahead, exported, end):
    """As the last expression would be."""
    result = executor.execute(f"{ahead}export default {exported}{end}")
    assert result.error is None
    assert result.value == 42 or result.value_type == "function"
    assert executor.execute(f"{ahead}42;;\nfunction f() {{ return 1 }}").unwrap() == 42


def test_packages_of_the_policy(tmp_path):
    """A readable node_modules is where require and import look."""
    package = tmp_path / "node_modules" / "greeting"
    package.mkdir(parents=True)
    (package / "index.js").write_text("exports.greet = (name) => `hello ${name}`")
    policy = SecurityPolicy(readable=(str(tmp_path / "node_modules"),))
    with CodeExecutor("javascript", policy=policy) as executor:
        assert executor.execute("require('greeting').greet('x')").unwrap() == "hello x"


def test_a_program_ends_when_nothing_is_left_to_do(executor):
    """Timers and promises that the value does not wait for run to their end, and their output is there."""
    result = executor.execute(
        "setTimeout(() => console.log('late'), 20)\nPromise.resolve().then(() => console.log('soon'))\n7"
    )
    assert (result.unwrap(), result.stdout) == (7, "soon\nlate\n")


@pytest.mark.parametrize("code", ["await new Promise(() => {})", "new Promise(() => {})"])
def test_a_promise_that_nobody_keeps(executor, code):
    """Is an error, and not a wait for the deadline."""
    assert "never come" in executor.execute(code).error.message


@pytest.mark.parametrize(
    "code",
    [
        "setTimeout(() => { throw new TypeError('late') }, 1)\n1",
        "Promise.reject(new TypeError('late'))\n1",
        "process.nextTick(() => { throw new TypeError('late') })\n1",
    ],
)
def test_errors_that_nobody_catches(executor, code):
    """Fail the program, as they do under node."""
    error = executor.execute(code).error
    assert (error.kind, error.type, error.message, error.line) == ("runtime", "TypeError", "late", 1)


def test_places_of_errors(executor):
    """Line and column of the program, behind an await and an import too; a SyntaxError of JSON.parse is no fault of the text."""
    code = "import fs from 'fs'\nawait 1\nfunction f() {\n  throw new RangeError('x')\n}\nf()"
    error = executor.execute(code).error
    assert (error.kind, error.type, error.line, error.column) == ("runtime", "RangeError", 4, 9)
    assert (
        error.traceback == "RangeError: x\n    at f (<program>:4:9)\n    at <program>:6:9"
    )  # behind the `return (` of the engine's
    error = executor.execute("1 +\n  * 2").error
    assert (error.kind, error.type, error.line, error.column) == ("syntax", "SyntaxError", 2, 3)
    assert executor.execute("JSON.parse('{')").error.kind == "runtime"


def test_sessions_declare_again(executor):
    """Names of a session may be declared again, also by cells that await; a fresh program's constants are constants."""
    with executor.session() as session:
        session.execute("const a = 1; let b = 2; class C { x() { return 3 } }; function f() { return 4 }").unwrap()
        session.execute("const a = await Promise.resolve(10); const { d, e: [g] } = { d: 5, e: [6] }").unwrap()
        session.execute(
            "class C { x() { return 30 } }\nimport { sep } from 'path'\nasync function h() { return 7 }"
        ).unwrap()
        assert session.execute("[a, b, new C().x(), f(), d, g, sep, await h()]").unwrap() == [
            10,
            2,
            30,
            4,
            5,
            6,
            "/",
            7,
        ]
    assert executor.execute("const a = 1; a = 2").error.type == "TypeError"


def test_a_loop_of_a_session_is_ended_and_the_session_lives(executor):
    """By V8's own watchdog, at the deadline."""
    with executor.session() as session:
        session.execute("let n = 0").unwrap()
        assert session.execute("for (;;) n++", timeout=0.2).error.kind == "timeout"
        assert session.execute("await new Promise((r) => setTimeout(r, 9000))", timeout=0.2).error.kind == "timeout"
        assert session.execute("n > 0").unwrap() is True


def test_tools_are_promises(executor):
    """Calls may be under way together; exceptions reject, with the class's name."""

    def double(x: int) -> int:
        if x < 0:
            raise ValueError("negative")
        return 2 * x

    assert executor.execute("await Promise.all([double(1), double(2)])", tools=[double]).unwrap() == [2, 4]
    code = "try { await double(-1) } catch (e) { `${e.name}: ${e.message}` }"
    result = executor.execute(f"let r; {code.replace('`$', 'r = `$')}; r", tools=[double])
    assert result.unwrap() == "ValueError: negative"
    assert executor.execute("await double(-1)", tools=[double]).error.type == "ValueError"


def test_tools_are_called_by_the_thousand(executor):
    """What the host does not take at once waits for its turn; also calls that nobody awaits, within a session."""

    def double(x: int) -> int:
        return 2 * x

    code = "(await Promise.all(Array.from({ length: 1000 }, (_, i) => double(i)))).at(-1)"
    assert executor.execute(code, tools=[double], timeout=30).unwrap() == 1998
    with executor.session() as session:
        code = "let n = 0; for (let i = 0; i < 100; i++) double(i).then(() => n++); 5"
        assert session.execute(code, tools=[double]).unwrap() == 5
        code = "while (n < 100) await new Promise((done) => setTimeout(done, 5)); n"
        assert session.execute(code, tools=[double], timeout=30).unwrap() == 100


def test_a_cell_that_fails_while_calls_are_under_way(executor):
    """Their returns belong to nobody, and the session goes on; a rejection that nobody awaits fails the cell."""

    def slow(x: int) -> int:
        time.sleep(0.1)
        return x

    with executor.session() as session:
        for _ in range(3):
            code = "for (let i = 0; i < 40; i++) slow(i); await null; throw new TypeError('x')"
            assert session.execute(code, tools=[slow]).error.type == "TypeError"
            assert session.execute("await slow(7)", tools=[slow]).unwrap() == 7
        error = session.execute("slow(1); await new Promise(() => {})", tools=[slow], timeout=0.05).error
        assert error.kind == "timeout"
        assert session.execute("6").unwrap() == 6
        assert session.execute("Promise.reject(new RangeError('nobody')); 5").error.type == "RangeError"
        assert session.execute("slow('a', 'b'); 5", tools=[slow]).error.type == "TypeError"
        assert session.execute("8").unwrap() == 8


def test_errors_of_tools_have_the_place_of_the_call(executor):
    """Those that the host's function raised, and those of arguments that cannot cross."""

    def refuse(x: object) -> None:
        raise KeyError("no")

    error = executor.execute("async function f() {\n  await refuse(1)\n}\nawait f()", tools=[refuse]).error
    assert (error.type, error.line, error.column) == ("KeyError", 2, 9)
    error = executor.execute("\nawait refuse(new Map([[{}, 1]]))", tools=[refuse]).error
    assert (error.kind, error.type, error.line) == ("runtime", "TypeError", 2)
    assert "a Object cannot be carried as a key" in error.message


def test_typescript(typed):
    """Types are stripped, enums are made, and what is no TypeScript has its place."""
    assert typed.execute("interface A { b: string }\nconst x: number = 4;\nx as unknown as number + 1").unwrap() == 5
    assert typed.execute("enum Colour { Red, Green }\nColour[Colour.Green]").unwrap() == "Green"
    error = typed.execute("const x: number = ;").error
    assert (error.kind, error.line, error.column) == ("syntax", 1, 19)


def test_the_static_check(tmp_path):
    """Modules and calls that the policy forbids are told with their line."""
    policy = SecurityPolicy(forbidden_modules=("fs",), forbidden_calls=("eval",))
    with CodeExecutor("javascript", policy=policy) as executor:
        for code in (
            "1\nrequire('fs')",
            "1\nimport x from 'node:fs'",
            "1\nawait import('fs/promises')",
            "1\neval('2')",
        ):
            error = executor.execute(code).error
            assert (error.kind, error.line) == ("policy", 2), code
        assert executor.execute("require('path').sep").ok


@pytest.mark.parametrize("name", ["class", "a-b", "1a", ""])
def test_names_that_are_none(executor, name):
    """Variables have names of JavaScript."""
    with pytest.raises(VariableError, match="variable"):
        executor.execute("1", {name: 1})


def test_what_javascript_has_nothing_for(executor):
    """A value without a counterpart is refused with its name; so are Python's imports, seeds and dumps."""
    with pytest.raises(VariableError, match=r"x holds what javascript has nothing for \(complex\)"):
        executor.execute("x", {"x": [1j]})
    with pytest.raises(PolicyError, match="write the import in the program"):
        executor.execute("1", imports=["json"])
    with pytest.raises(UsageError, match="seed"):
        executor.session(seed=1)
    with executor.session() as session, pytest.raises(UsageError, match="cannot be dumped"):
        session.dump()
    with executor.session() as session, pytest.raises(UsageError):
        session.fork()


def test_memory_is_bounded(executor):
    """By objects, by buffers and by text, and nothing is left for the next."""
    for code in (
        "const a = []; for (;;) a.push(new Array(1000).fill(1.5))",
        "const a = []; for (;;) a.push(new Uint8Array(1e7).fill(1))",
    ):
        assert executor.execute(code).error.kind == "memory_limit"
    assert executor.execute("typeof a").unwrap() == "undefined"


@pytest.mark.parametrize(("language", "options"), [("javascript", {"runtime": "quickjs"}), ("rust", {}), ("wasm", {})])
def test_where_nothing_looks_for_what_is_forbidden(language, options):
    """A policy that forbids by name is refused, and not passed over."""
    policy = SecurityPolicy(forbidden_modules=("fs",))
    with (
        CodeExecutor(language, policy=policy, **options) as executor,
        pytest.raises(PolicyError, match="forbidden_modules"),
    ):
        executor.execute("1")
