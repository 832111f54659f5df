"""JavaScript and TypeScript on node: what is theirs alone. What every language can do is in the suite."""

import math

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


def test_modules(executor):
    """Import statements, dynamic imports and require."""
    code = "import { join } from 'node:path'\nimport * as os from 'os';\nconst u = await import('node:util');\n"
    code += "[join('a', 'b'), os.EOL, typeof u.inspect, typeof require('fs').readFileSync]"
    assert executor.execute(code).unwrap() == ["a/b", "\n", "function", "function"]


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
