"""Rust: whole programs, as models write them; and where their errors are."""

from pathlib import Path

import pytest

from dspex import CodeExecutor

PROGRAMS = Path(__file__).parent / "rust"


@pytest.fixture(scope="module")
def executor():
    with CodeExecutor("rust") as made:
        yield made


def source(name):
    return (PROGRAMS / name).read_text()


@pytest.mark.parametrize(
    ("name", "variables", "value", "printed"),
    [
        (
            "shapes.rs",
            {},
            ({"square": [4.0], "3-gon": [6.0], "circle": [7.07], "rectangle": [12.0]}, "rectangle"),
            "01. circle of 7.07\n02. square of 4.00\n03. rectangle of 12.00\n04. 3-gon of 6.00\n",
        ),
        (
            "graph.rs",
            {},
            (900, [(1, 1), (0, 1), (1, 0)], True),
            "\n 86  89  89  91  95  96  99  99 101 105 106 109 109 ",
        ),
        (
            "text.rs",
            {"text": "The  quick ÉLAN of a fox, the fox"},
            ("quick", {"fox": 1, "fox,": 1, "of": 1, "quick": 1, "élan": 1}),
            "lower: 33 -> 33\nsqueeze: 33 -> 32\nstop: 32 -> 22\n",
        ),
        ("calculator.rs", {}, None, "1 / (2 - 2): division by zero\n(1: unexpected end\ny: unbound y\n"),
        ("inventory.rs", {}, None, "test result: ok. 4 passed; 0 failed; 1 ignored;"),
    ],
)
def test_programs_that_succeed(executor, name, variables, value, printed):
    """Traits, generics, macros, modules, lifetimes, tests, a long table: each whole program does what it says."""
    result = executor.execute(source(name), variables)
    assert (result.error, result.value, result.stderr) == (None, value, "")
    assert printed in result.stdout


@pytest.mark.parametrize(
    ("name", "message", "blamed", "printed"),
    [
        ("matrix.rs", "index out of bounds: the len is 2 but the index is 2", "&self.0[row]", "fib(30) = 832040\n"),
        ("workers.rs", "the thread should have ended well", "assert!(outcome.is_ok(),", "\n 200   26 ######\n200 done, 3 woke: [0, 1, 2]"),
        ("cache.rs", "assertion `left == right` failed: a was used last", "assert_eq!(cache.get", "test result: FAILED. 2 passed; 1 failed"),
    ],
)  # fmt: skip
def test_programs_that_fail(executor, name, message, blamed, printed):
    """A panic, an assertion of main, one of a test: the line is the program's own, and what was printed before is there."""
    code = source(name)
    error = (result := executor.execute(code)).error
    assert (error.kind, error.type, error.message.splitlines()[0]) == ("runtime", "panic", message)
    assert code.splitlines()[error.line - 1][error.column - 1 :].startswith(blamed.removeprefix("&"))
    assert blamed in code.splitlines()[error.line - 1]
    assert printed in result.stdout


def test_a_main_that_returns_an_error(executor):
    """It is shown on stderr as ever, and the status is the failure."""
    result = executor.execute(source("bank.rs"))
    assert (result.error.type, result.error.message) == ("exit", "the program ended with status 1")
    assert result.stderr == 'Error: UnknownAccount("nobody")\n'
    assert result.stdout.endswith("ada +100; bob +20; ada -> bob: 35\n")


# --- Tests within programs ----------------------------------------------------------------------------------------------

FAILING = """fn double(n: i64) -> i64 { n * 3 }

#[cfg(test)]
mod tests {
    use super::*;
    #[test] fn second() { assert_eq!(double(2), 4, "second"); }
    #[test] fn first() { assert!(double(0) == 0); }
    #[test]
    #[should_panic]
    fn meant() { panic!("meant") }
    #[test] fn third() { assert_eq!(double(3), 6, "third"); }
}
"""


def test_of_many_failures_the_first_line_is_told(executor):
    """Whichever thread was faster; panics that a test is for are none."""
    for _ in range(3):
        error = executor.execute(FAILING).error
        assert (error.type, error.line, error.message.splitlines()[0]) == (
            "panic",
            6,
            "assertion `left == right` failed: second",
        )


@pytest.mark.parametrize(
    "test", ["#[should_panic] fn f() {}", 'fn f() -> Result<(), String> { Err("no".into()) }', "#[should_panic(expected = \"x\")] fn f() { panic!(\"y\") }"]
)  # fmt: skip
def test_a_test_that_fails_without_a_panic(executor, test):
    """Stdout says which."""
    result = executor.execute(f"#[test] {test}")
    assert (result.error.kind, result.error.type, result.error.line) == ("runtime", "test", None)
    assert "test f" in result.stdout


def test_tests_have_variables_and_tools(executor):
    """As a main has them."""
    code = "#[test] fn f() { assert_eq!(*x + double!(21).as_i64().unwrap(), 43); }"
    result = executor.execute(code, {"x": 1}, tools=[_double])
    assert result.error is None, result.error


def _double(n):
    return n * 2


_double.__name__ = "double"


def test_a_main_runs_without_its_tests(executor):
    """As rustc has it: `cargo run` is not `cargo test`. The same goes for a program with a value."""
    tests = '\n#[cfg(test)] mod tests { #[test] fn f() { panic!("run") } }\n'
    assert executor.execute('fn main() { println!("main") }' + tests).stdout == "main\n"
    assert executor.execute(f"{tests}40 + 2").unwrap() == 42


# --- Where compile errors are -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("code", "type", "place"),
    [
        ("let x = 5;\nx = 6;\nx", "error[E0384]", (2, 1)),
        ("let mut v = vec![1];\nlet first = &v[0];\nv.push(2);\nprintln!(\"{first}\");", "error[E0502]", (3, 1)),
        ("fn longest(a: &str, b: &str) -> &str { a }\n1", "error[E0106]", (1, 33)),
        ("struct P { x: i32 }\nlet p = P { x: 1 };\np.y", "error[E0609]", (3, 3)),
        ("struct P;\nP.go()", "error[E0599]", (2, 3)),
        ("enum E { A, B }\nlet e = E::A;\nmatch e { E::A => 1 }", "error[E0004]", (3, 7)),
        ("fn f(a: i32) {}\nf(1, 2);", "error[E0061]", (2, 1)),
        ("trait T { fn f(&self); }\nstruct S;\nimpl T for S {}\n1", "error[E0046]", (3, 1)),
        ("use std::collections::HashMop;\n1", "error[E0432]", (1, 5)),
        ("let r;\n{ let x = 1; r = &x; }\n*r", "error[E0597]", (2, 18)),
        ("fn show<T: std::fmt::Display>(t: T) {}\nshow(vec![1]);", "error[E0277]", (2, 6)),
        ("let x = Default::default();\n1", "error[E0790]", (1, 9)),
        ("let v = Vec::new();\n1", "error[E0282]", (1, 5)),
        ("unknown!(1);\n2", "error", (1, 1)),
        ("let s = \"open;\n1", "error[E0765]", (1, 9)),
        ("let a = 1\nlet b = 2;\nb", "error", (1, 10)),
        ("fn f() -> i32 { \"a\".len() }\nf()", "error[E0308]", (1, 17)),
        ("println!(\"{} {}\", 1);\n2", "error", (1, 11)),
        ("let f = |x| x;\nf(1); f(\"a\")", "error[E0308]", (2, 9)),
        ("let t = std::thread::spawn(|| {});\nlet r = std::rc::Rc::new(1);\nstd::thread::spawn(move || println!(\"{r}\"));", "error[E0277]", (3, 20)),
        ("fn main() {\n  let x: u8 = 256;\n}", "error[overflowing_literals]", (2, 15)),
        ("mod m { fn hidden() {} }\nm::hidden();", "error[E0603]", (2, 4)),
        ("macro_rules! m { ($x:expr) => { $x + missing } }\nm!(1)", "error[E0425]", (2, 1)),
        ("let 変数 = 1;\n変数 + \"é\"", "error[E0277]", (2, 4)),
        ("#[test] fn f() {\n    let x: String = 1;\n}", "error[E0308]", (2, 21)),
        ("1 + }\n", "error", (1, 5)),
        ("fn main() { }\n}\n", "error", (2, 1)),
    ],
)  # fmt: skip
def test_compile_errors_have_the_programs_places(executor, code, type, place):
    """Of all common kinds, whatever stands around the program."""
    error = executor.execute(code).error
    assert (error.kind, error.type, (error.line, error.column)) == ("syntax", type, place), error.traceback
    assert "dspex" not in error.traceback
