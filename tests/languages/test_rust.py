"""Rust: what is its alone. What every language can do is in the suite."""

import os
import stat

import pytest

from dspex import CodeExecutor
from dspex.errors import UsageError, VariableError


@pytest.fixture(scope="module")
def executor():
    with CodeExecutor("rust") as made:
        yield made


@pytest.mark.parametrize(
    ("code", "value", "type"),
    [
        ("(1u8, -2i64, 2.0f32, 'c', \"text\", Some(true), None::<i32>)", (1, -2, 2.0, "c", "text", True, None), None),
        ("vec![Some(1), None]", [1, None], None),
        ('std::collections::BTreeMap::from([(1, "a"), (2, "b")])', {1: "a", 2: "b"}, None),
        ('std::collections::HashMap::from([("k".to_string(), vec![1.5])])', {"k": [1.5]}, None),
        ("std::collections::BTreeSet::from([3, 1])", {1, 3}, None),
        ("u128::MAX", 2**128 - 1, "u128"),
        ("i128::MIN", -(2**127), "i128"),
        ("f64::NEG_INFINITY", float("-inf"), "f64"),
        ("std::rc::Rc::new(Box::new(5))", 5, None),
        ("Bytes(vec![0, 255])", b"\x00\xff", None),
    ],
)
def test_values_by_their_types(executor, code, value, type):
    """What the standard library holds, without a trait to write."""
    result = executor.execute(code)
    assert (result.error, result.value) == (None, value)
    assert type is None or result.value_type == type


def test_types_of_the_program(executor):
    """One with Debug is shown by it, one without by its name."""
    result = executor.execute("#[derive(Debug)]\nstruct Point { x: i32 }\nPoint { x: 5 }")
    assert (result.value, result.value_type, result.value_repr) == (None, "Point", "Point { x: 5 }")
    result = executor.execute("struct Hidden;\nHidden")
    assert result.value is None
    assert "Hidden" in result.value_repr


@pytest.mark.parametrize(
    ("value", "program", "expected"),
    [
        ([1, 2, 3], "x.iter().sum::<i64>()", 6),
        (["a", "b"], 'x.join("-")', "a-b"),
        ({"a": 1.5}, 'x["a"] * 2.0', 3.0),
        ([1, "a", None], "x.at(1).and_then(Json::as_str).unwrap().to_string()", "a"),
        ({"a": {"b": [7]}}, 'x.get("a").unwrap().get("b").unwrap().at(0).unwrap().as_i64()', 7),
        (b"ab", "x.len()", 2),
        (True, "!x", False),
    ],
)
def test_variables_are_typed(executor, value, program, expected):
    """By what they hold: Vec, HashMap, String, or Json for what is of several kinds."""
    assert executor.execute(program, {"x": value}).unwrap() == expected


def test_errors(executor):
    """rustc's own, with the place in the user's code; `?` and panics at the top."""
    error = executor.execute("let n = 1;\nlet s: String = n;\ns").error
    assert (error.kind, error.type, error.line, error.column) == ("syntax", "error[E0308]", 2, 17)
    assert "expected `String`" in error.traceback
    error = executor.execute('let n: i32 = "x".parse()?;\nn').error
    assert (error.kind, error.type, error.message) == ("runtime", "Err", "invalid digit found in string")
    error = executor.execute("let v: Vec<i32> = vec![];\nv[3]").error
    assert (error.kind, error.type, error.line) == ("runtime", "panic", 2)


def test_whole_programs(executor):
    """With a main of their own, traits, generics, threads, and assertions that fail."""
    program = """use std::collections::HashMap;
use std::fmt;

trait Shape { fn area(&self) -> f64; fn name(&self) -> String { "shape".to_string() } }
#[derive(Clone)]
struct Square(f64);
struct Circle { r: f64 }
impl Shape for Square { fn area(&self) -> f64 { self.0 * self.0 } }
impl Shape for Circle {
    fn area(&self) -> f64 { std::f64::consts::PI * self.r * self.r }
    fn name(&self) -> String { "circle".into() }
}
impl fmt::Display for Square { fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result { write!(f, "[{}]", self.0) } }

fn largest<'a>(shapes: &'a [Box<dyn Shape>]) -> Option<&'a dyn Shape> {
    shapes.iter().map(|s| s.as_ref()).max_by(|a, b| a.area().total_cmp(&b.area()))
}

fn main() {
    let shapes: Vec<Box<dyn Shape>> = vec![Box::new(Square(2.0)), Box::new(Circle { r: 1.0 })];
    let mut counts: HashMap<String, usize> = HashMap::new();
    for shape in &shapes { *counts.entry(shape.name()).or_insert(0) += 1; }
    assert_eq!(counts["circle"], 1);
    println!("{} {}", largest(&shapes).unwrap().name(), Square(3.0));
    let total: i32 = (0..4).map(|n| std::thread::spawn(move || n * n)).map(|t| t.join().unwrap()).sum();
    assert_eq!(total, EXPECTED, "squares");
}
"""
    result = executor.execute(program.replace("EXPECTED", "14"))
    assert (result.error, result.stdout) == (None, "shape [3]\n")
    error = executor.execute(program.replace("EXPECTED", "15")).error
    assert (error.kind, error.type, error.line) == ("runtime", "panic", 26)
    assert "squares" in error.message


def test_what_is_compiled_in_is_of_its_own_run(executor):
    """Neither a run's environment nor its files are found in another's."""
    code = 'option_env!("GREETING").unwrap_or("none")'
    assert executor.execute(code, environment={"GREETING": "hello"}).unwrap() == "none"
    code = 'include_str!("/run/sandbox/work/a.txt")'
    assert executor.execute(code, files={"a.txt": b"one"}).unwrap() == "one"
    assert executor.execute(code, files={"a.txt": b"two"}).unwrap() == "two"


def test_binaries_are_kept_by_content(executor):
    """The second run does not compile; the directory is not to be listed by others."""
    code = f"// {os.urandom(8).hex()}\n1 + 1"
    before = set(os.listdir(executor.language._binaries.directory))
    executor.execute(code).unwrap()
    made = set(os.listdir(executor.language._binaries.directory)) - before
    assert len(made) == 1
    executor.execute(code).unwrap()
    assert set(os.listdir(executor.language._binaries.directory)) - before == made
    assert stat.S_IMODE(os.stat(executor.language._binaries.directory).st_mode) == 0o711


def test_profiles(executor):
    """release optimises; another is refused."""
    with CodeExecutor("rust", profile="release") as release:
        assert release.execute("cfg!(debug_assertions)").unwrap() is False
    assert executor.execute("cfg!(debug_assertions)").unwrap() is True
    with pytest.raises(UsageError, match="profile is 'fast'"):
        CodeExecutor("rust", profile="fast")
    with pytest.raises(UsageError, match="does not take 'colour'"):
        CodeExecutor("rust", colour=1)


def test_integers_beyond_64_bits_are_refused(executor):
    """By name, within lists too."""
    for value in (2**63, [1, 2**64]):
        with pytest.raises(VariableError, match="x"):
            executor.execute("1", {"x": value})
