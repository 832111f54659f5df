"""Rust: what is its own. What every language can do is in the suite."""

import asyncio
import os
import subprocess
import threading

import pytest

from dspex import CodeExecutor, Isolation, Job, ResourceLimits, SecurityPolicy
from dspex.errors import IsolationError, UnknownLanguageError, UsageError, VariableError
from dspex.languages import _rust
from passage import open_to_all


@pytest.fixture(scope="module")
def executor():
    with CodeExecutor("rust") as made:
        yield made


@pytest.mark.parametrize(
    ("code", "value", "type"),
    [
        ("(1, \"a\", [1u8, 2], 2.0, vec![Some(1), None])", (1, "a", b"\x01\x02", 2.0, [1, None]), "(i32, &str, [u8; 2], f64, Vec<Option<i32>>)"),
        ("u64::MAX", 2**64 - 1, "u64"),
        ("i128::MIN", -(2**127), "i128"),
        ("u128::MAX", 2**128 - 1, "u128"),
        ("f64::NEG_INFINITY", float("-inf"), "f64"),
        ("1e22", 1e22, "f64"),
        ("'ü'", "ü", "char"),
        ("std::collections::HashMap::from([(1, \"a\"), (2, \"b\")])", {1: "a", 2: "b"}, "HashMap<i32, &str>"),
        ("std::collections::BTreeMap::from([(\"~x\", 1)])", {"~x": 1}, "BTreeMap<&str, i32>"),
        ("std::collections::BTreeSet::from([vec![1], vec![2, 3]])", {(1,), (2, 3)}, "BTreeSet<Vec<i32>>"),
        ("std::rc::Rc::new(vec![\"a\".to_string()])", ["a"], "Rc<Vec<String>>"),
        ("let x: Result<i64, String> = Ok(5);\nx", 5, "i64"),
        ("let v = vec![3, 1, 2];\nv.iter().max().unwrap()", 3, "i32"),
        ("let words = String::from(\"a b\");\nwords.split(' ').collect::<Vec<_>>()", ["a", "b"], "Vec<&str>"),
        ("let x: i64 = \"4\".parse()?;\nOk(x)", 4, "i64"),
        ("if 1 < 2 { \"yes\" } else { \"no\" }", "yes", "str"),
    ],
)  # fmt: skip
def test_values_keep_their_kind(executor, code, value, type):
    """What Rust has more kinds of than JSON arrives as what Python has for it; what is borrowed may be the value."""
    result = executor.execute(code)
    assert (result.error, result.value, result.value_type) == (None, value, type)


@pytest.mark.parametrize(
    ("code", "type", "shown"),
    [
        ("#[derive(Debug)]\nstruct Point { x: i32 }\nPoint { x: 1 }", "Point", "Point { x: 1 }"),
        ("struct Hidden;\nHidden", "Hidden", "<Hidden>"),
        ("vec![std::time::Duration::from_secs(1)]", "Vec<Duration>", "[1s]"),
    ],
)
def test_what_cannot_cross_is_described(executor, code, type, shown):
    """As Debug has it, else by the name of its type; that takes no trait of the program's."""
    result = executor.execute(code)
    assert (result.error, result.value, result.value_type, result.value_repr) == (None, None, type, shown)


@pytest.mark.parametrize(
    ("given", "kind"),
    [
        (1, "i64"),
        (2**64, "i128"),
        (10**40, "BigInt"),
        (1.5, "f64"),
        ("a", "String"),
        (b"a", "Vec<u8>"),
        (None, "Option<Json>"),
        ([1, 2], "Vec<i64>"),
        ([[1], []], "Vec<Vec<i64>>"),
        ([1, None], "Vec<Option<i64>>"),
        ([1, 2.5], "Vec<f64>"),
        ([1, "a"], "Vec<Json>"),
        ((1, "a"), "(i64, String)"),
        ({1, 2}, "HashSet<i64>"),
        ({"a": [1.5]}, "HashMap<String, Vec<f64>>"),
        ({1: True}, "HashMap<i64, bool>"),
        ([{"a": 1}], "Vec<HashMap<String, Json>>"),
    ],
)
def test_variables_have_types(executor, given, kind):
    """Those that a programmer would have given them; they come back as they went."""
    result = executor.execute("x", {"x": given})
    assert (result.error, result.value) == (None, given)
    assert result.value_type == (None if given is None else kind)


def test_variables_may_be_changed(executor):
    """They are mutable bindings of types that the program can count on."""
    code = 'xs.push(total);\nxs.iter().sum::<i64>() + names["a"]'
    assert executor.execute(code, {"xs": [1, 2], "total": 3, "names": {"a": 4}}).unwrap() == 10


def test_half_a_pair_is_no_text(executor):
    """What UTF-8 cannot say fails the program, and becomes nothing else."""
    assert "half a surrogate pair" in executor.execute("x", {"x": "\ud83d"}).error.message


@pytest.mark.parametrize("name", ["fn", "match", "Self", "dyn"])
def test_keywords_are_no_names(executor, name):
    """Before anything is compiled."""
    with pytest.raises(VariableError, match="keyword"):
        executor.execute("1", {name: 1})


# --- Errors -----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("code", "type", "line", "column", "says"),
    [
        ("let x: String = 1;\nx", "error[E0308]", 1, 17, "^ expected `String`, found integer"),
        ("let a = 1;\na + missing", "error[E0425]", 2, 5, "2 | a + missing"),
        ("let s = String::new();\ndrop(s);\ns.len()", "error[E0382]", 3, 1, "borrow of moved value"),
        ("let x = 1;\nx = = 2", "error", 2, 5, "2 | x = = 2"),
        ("fn f() {\n", "error", 1, 10, "unclosed"),
        ('fn main() {\n    let x: i32 = "a";\n}', "error[E0308]", 2, 18, "expected `i32`"),
        ("assert_eq!(1, x)", "error[E0425]", 1, 15, "cannot find value `x`"),
    ],
)
def test_compile_errors_are_rustcs_own(executor, code, type, line, column, says):
    """Its code, message and place, with the user's lines and nothing of what stands around them."""
    error = executor.execute(code).error
    assert (error.kind, error.type, error.line, error.column) == ("syntax", type, line, column)
    assert says in error.traceback
    assert "dspex" not in error.traceback


@pytest.mark.parametrize(
    ("code", "type", "line", "column", "message"),
    [
        ("panic!(\"wrong\")", "panic", 1, 1, "wrong"),
        ("let v: Vec<i32> = vec![];\n  v[0]", "panic", 2, 4, "index out of bounds: the len is 0 but the index is 0"),
        ("let n: i32 = \"x\".parse()?;\nn", "ParseIntError", 1, 14, "invalid digit found in string"),
        ("let x = 1;\nErr(\"no\")?;\nx", "str", 2, 1, "no"),
        ("fn main() {\n    None::<i32>.unwrap();\n}", "panic", 2, 17, "called `Option::unwrap()` on a `None` value"),
        ("let a = [1, 2, 3];\nlet i = a.len();\n(a.iter().sum::<i32>(), a[i])", "panic", 3, 25, "index out of bounds: the len is 3 but the index is 3"),
        ("let x = i32::MAX;\nlet y = std::hint::black_box(x) + 1;\ny", "panic", 2, 9, "attempt to add with overflow"),
        ("std::process::exit(3)", "exit", None, None, "the program ended with status 3"),
    ],
)  # fmt: skip
def test_failures_have_their_place(executor, code, type, line, column, message):
    """A panic's, and that of the `?` that handed an error up."""
    error = executor.execute(code).error
    assert (error.kind, error.type, error.line, error.column, error.message) == ("runtime", type, line, column, message)


def test_a_panic_that_is_caught_is_none(executor):
    """Nor is one of another thread: it is shown on stderr."""
    code = 'let r = std::panic::catch_unwind(|| panic!("a"));\nlet t = std::thread::spawn(|| panic!("b")).join();\n(r.is_err(), t.is_err())'
    result = executor.execute(code)
    assert result.unwrap() == (True, True)
    assert result.stderr == "a thread panicked at line 2: b\n"


@pytest.mark.parametrize(
    "code", ["std::process::abort()", "fn f(n: u64) -> u64 { std::hint::black_box(f(n + 1) + 1) }\nf(0)"]
)
def test_a_process_that_dies_is_told(executor, code):
    """Aborting, and using up the stack."""
    assert executor.execute(code).error.kind == "killed"


# --- Compiling --------------------------------------------------------------------------------------------------------------


def test_a_program_is_compiled_once(executor, monkeypatch):
    """Whatever its variables hold, for this process and for others."""
    made = []
    keep = executor.language.made
    monkeypatch.setattr(
        executor.language,
        "made",
        lambda request, program, shared: (made.append(len(program)), keep(request, program, shared=shared)),
    )
    code = f"// {os.urandom(8).hex()}\nx + 1"
    assert [executor.execute(code, {"x": x}).unwrap() for x in (1, 2, 3)] == [2, 3, 4]
    assert len(made) == 1
    assert executor.execute(code, {"x": 1.5}).error.type == "error[E0277]"  # another type is another program
    with CodeExecutor("rust") as other:
        monkeypatch.setattr(other.language, "made", lambda request, program, shared: made.append(len(program)))
        assert other.execute(code, {"x": 4}).unwrap() == 5
    assert len(made) == 1


def test_what_is_compiled_in_is_the_programs_own(tmp_path, monkeypatch):
    """Neither a run's environment and files, nor, for another policy, what a policy shows."""
    shown = tmp_path / "shown"
    shown.mkdir()
    open_to_all(shown)
    (shown / "a.txt").write_text("secret")
    (shown / "a.txt").chmod(0o644)
    included = f'// {os.urandom(8).hex()}\ninclude_str!("{shown}/a.txt")'
    monkeypatch.setenv("SHOWN", "secret")
    policy = SecurityPolicy(readable=(str(shown),), environment=("SHOWN",))
    with CodeExecutor("rust", policy=policy) as executor:
        assert executor.execute(included).unwrap() == "secret"
        given = {"files": {"b.txt": b"mine"}, "environment": {"MINE": "mine"}}
        assert executor.execute('(option_env!("MINE"), option_env!("SHOWN"))', **given).unwrap() == (None, None)
        assert executor.execute('include_str!("/run/sandbox/work/b.txt")', **given).error.kind == "syntax"
        code = '(std::env::var("MINE")?, std::env::var("SHOWN")?, std::fs::read_to_string("b.txt")?)'
        assert executor.execute(code, **given).unwrap() == ("mine", "secret", "mine")
    with CodeExecutor("rust") as other:
        assert other.execute(included).error.kind == "syntax"


def test_the_profile_is_part_of_it():
    """In a release what overflows wraps around."""
    code = "std::hint::black_box(i32::MAX) + 1"
    with CodeExecutor("rust", profile="release") as executor:
        assert executor.execute(code).unwrap() == -(2**31)
    with pytest.raises(UsageError, match="profile"):
        CodeExecutor("rust", profile="fast")


def test_compiling_takes_none_of_the_programs_limits():
    """A compiler needs more time, memory and CPU than a small program may have."""
    with CodeExecutor("rust", limits=ResourceLimits(memory="64MiB", cpu=1)) as executor:
        code = (
            f"// {os.urandom(8).hex()}\n"
            + "".join(f"#[derive(Debug, Clone, PartialEq)] struct S{i} {{ a: i64 }}\n" for i in range(60))
            + "1"
        )
        result = executor.execute(code, timeout=0.5)
        assert (result.error, result.value) == (None, 1)


def test_what_compiles_sees_no_variable(executor):
    """The host sends them when it has the binary: a large one is not even on its way before."""
    code = f"// {os.urandom(8).hex()}\nx.len()"
    runs = []
    threads = [
        threading.Thread(target=lambda: runs.append(executor.execute(code, {"x": "a" * (4 << 20)}).unwrap()))
        for _ in range(3)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert runs == [4 << 20] * 3


def test_the_compiler_is_looked_for(monkeypatch):
    """Without one, or with one that is too old, the error says how to install it."""
    old = _rust._Toolchain("/usr/bin/rustc", "/usr", "release: 1.63.0", (1, 63))
    for found in (None, old):
        monkeypatch.setattr(_rust, "_toolchain", lambda found=found: found)
        with pytest.raises(UnknownLanguageError, match=r"rustc 1\.85 or later .* apt-get install"):
            CodeExecutor("rust")
        assert _rust.Rust.runtimes()[0].version == ""


def test_a_level_that_cannot_is_refused():
    """At level landlock a guest may start no compiler."""
    with pytest.raises(IsolationError, match="landlock"), CodeExecutor("rust", isolation="landlock") as executor:
        executor.execute("1")


def test_crates_that_were_compiled_before(tmp_path):
    """A library, one that it depends on, and a procedural macro."""
    crates = tmp_path / "crates"
    crates.mkdir()
    open_to_all(crates)
    _compile(crates, "inner", "pub fn two() -> i64 { 2 }", "rlib")
    _compile(
        crates,
        "outer",
        "pub fn four() -> i64 { inner::two() * 2 }",
        "rlib",
        "--extern",
        f"inner={crates}/libinner.rlib",
    )
    macro = (
        "extern crate proc_macro;\n#[proc_macro] pub fn read(_: proc_macro::TokenStream) -> proc_macro::TokenStream {\n"
    )
    macro += 'std::fs::read("/etc/shadow").map(|_| "true").unwrap_or("false").parse().unwrap() }'
    _compile(crates, "reading", macro, "proc-macro", "-C", "prefer-dynamic")
    with CodeExecutor("rust", crates=crates) as executor:
        assert executor.execute("use outer::four;\n(four(), reading::read!())").unwrap() == (4, False)
        assert executor.execute("absent::f()").error.type == "error[E0433]"
    for wrong in (tmp_path, tmp_path / "missing"):
        with pytest.raises(UsageError, match="crates"):
            CodeExecutor("rust", crates=wrong)


def _compile(crates, name, code, kind, *more):
    compiler = _rust._toolchain().compiler
    source = crates / f"{name}.rs"
    source.write_text(code)
    command = [
        compiler,
        "--crate-name",
        name,
        "--crate-type",
        kind,
        "--edition",
        "2021",
        "-L",
        crates,
        "--out-dir",
        crates,
        *more,
        source,
    ]
    subprocess.run(command, check=True, capture_output=True)


# --- Tools ------------------------------------------------------------------------------------------------------------------


def join(*parts, sep=" "):
    """The parts with `sep` between them."""
    return {"text": sep.join(map(str, parts)), "parts": list(parts)}


def test_tools_by_name_and_as_macros(executor):
    """`name!(...)` panics where the tool raises, `tool!("name", ...)` and `try_call` give a Result."""
    code = 'let a = join!(1, "b");\nlet b = tool!("join", sep = "-")?;\nlet c: Vec<i64> = tool!("join", 1, 2)?["parts"].to()?;\n(a["text"].as_str().unwrap(), b["text"].to_string(), c)'
    assert executor.execute(code, tools=[join]).unwrap() == ("1 b", "", [1, 2])


def test_tools_within_a_main(executor):
    """Also there, and variables as statics."""
    code = 'fn main() {\n    println!("{}", join!(x.len(), *y)["text"]);\n}'
    result = executor.execute(code, {"x": [1, 2], "y": 5}, tools=[join])
    assert (result.error, result.stdout) == (None, "2 5\n")


# --- Whole programs ---------------------------------------------------------------------------------------------------------


def test_the_same_as_rustc_would(executor, tmp_path):
    """A whole program prints what it prints outside."""
    code = (_PROGRAMS[0][0]).replace("assert_eq!(inventory.total(), 0)", "")
    source, binary = tmp_path / "p.rs", tmp_path / "p"
    source.write_text(code)
    compiler = executor.language._toolchain.compiler
    subprocess.run([compiler, "--edition", "2024", "-o", binary, source], check=True, capture_output=True, cwd=tmp_path)
    outside = subprocess.run([binary], check=True, capture_output=True, text=True).stdout
    result = executor.execute(code)
    assert (result.error, result.stdout) == (None, outside)


_PROGRAMS = [
    (
        """#![allow(dead_code)]
//! An inventory.
use std::collections::HashMap;
use std::fmt;

#[derive(Debug, Clone, PartialEq)]
struct Item { name: String, price_cents: u64, quantity: u32 }

#[derive(Debug)]
enum InventoryError { OutOfStock(String), NotFound { name: String } }

impl fmt::Display for InventoryError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            InventoryError::OutOfStock(name) => write!(f, "{name} is out of stock"),
            InventoryError::NotFound { name } => write!(f, "{name:?} not found"),
        }
    }
}

impl std::error::Error for InventoryError {}

#[derive(Default)]
struct Inventory { items: HashMap<String, Item> }

impl Inventory {
    fn add(&mut self, name: &str, price_cents: u64, quantity: u32) -> &mut Self {
        self.items.entry(name.to_string()).and_modify(|item| item.quantity += quantity)
            .or_insert_with(|| Item { name: name.to_string(), price_cents, quantity });
        self
    }
    fn take(&mut self, name: &str) -> Result<u64, InventoryError> {
        let item = self.items.get_mut(name).ok_or_else(|| InventoryError::NotFound { name: name.into() })?;
        if item.quantity == 0 { return Err(InventoryError::OutOfStock(name.into())); }
        item.quantity -= 1;
        Ok(item.price_cents)
    }
    fn total(&self) -> u64 { self.items.values().map(|item| item.price_cents * u64::from(item.quantity)).sum() }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut inventory = Inventory::default();
    inventory.add("nut", 5, 2).add("bolt", 7, 1).add("nut", 5, 1);
    println!("total {}", inventory.total());
    println!("took one for {}", inventory.take("bolt")?);
    for name in ["bolt", "gear"] {
        if let Err(error) = inventory.take(name) { println!("error: {error}"); }
    }
    assert_eq!(inventory.total(), 0);
    Ok(())
}
""",
        ("panic", 49, "assertion `left == right` failed\n  left: 15\n right: 0"),
        'total 22\ntook one for 7\nerror: bolt is out of stock\nerror: "gear" not found\n',
    ),
    (
        """use std::ops::{Add, Mul};

trait Shape { fn area(&self) -> f64; fn name(&self) -> String { "shape".into() } }
struct Circle(f64);
struct Rect { w: f64, h: f64 }
impl Shape for Circle { fn area(&self) -> f64 { std::f64::consts::PI * self.0.powi(2) } fn name(&self) -> String { "circle".into() } }
impl Shape for Rect { fn area(&self) -> f64 { self.w * self.h } }

#[derive(Debug, Clone, Copy, PartialEq, Default)]
struct Vector<T> { x: T, y: T }
impl<T: Add<Output = T>> Add for Vector<T> { type Output = Self; fn add(self, o: Self) -> Self { Vector { x: self.x + o.x, y: self.y + o.y } } }
impl<T: Mul<Output = T> + Copy> Mul<T> for Vector<T> { type Output = Self; fn mul(self, k: T) -> Self { Vector { x: self.x * k, y: self.y * k } } }

fn largest<'a>(shapes: &'a [Box<dyn Shape>]) -> Option<&'a dyn Shape> {
    shapes.iter().map(|s| s.as_ref()).max_by(|a, b| a.area().total_cmp(&b.area()))
}

let shapes: Vec<Box<dyn Shape>> = vec![Box::new(Circle(1.0)), Box::new(Rect { w: 2.0, h: 3.0 })];
for shape in &shapes { println!("{}: {:.2}", shape.name(), shape.area()); }
let v = Vector { x: 1, y: 2 } + Vector { x: 3, y: 4 } * 2;
assert_eq!(v, Vector { x: 7, y: 10 });
(largest(&shapes).map(|s| s.name()), v.x + v.y)
""",
        ("shape", 17),
        "circle: 3.14\nshape: 6.00\n",
    ),
    (
        """use std::collections::{BTreeMap, BinaryHeap, HashSet};
use std::cmp::Reverse;

/// Dijkstra's shortest paths; `graph[a]` lists (b, weight).
fn shortest(graph: &BTreeMap<u32, Vec<(u32, u64)>>, from: u32) -> BTreeMap<u32, u64> {
    let mut found = BTreeMap::new();
    let mut queue = BinaryHeap::from([Reverse((0u64, from))]);
    while let Some(Reverse((cost, node))) = queue.pop() {
        if found.contains_key(&node) { continue; }
        found.insert(node, cost);
        for &(next, weight) in graph.get(&node).map(Vec::as_slice).unwrap_or_default() {
            queue.push(Reverse((cost + weight, next)));
        }
    }
    found
}

macro_rules! graph {
    ($($a:literal => [$(($b:literal, $w:literal)),*]),* $(,)?) => { BTreeMap::from([$(($a, vec![$(($b, $w)),*])),*]) };
}

let g = graph! { 1 => [(2, 7), (3, 9), (6, 14)], 2 => [(3, 10), (4, 15)], 3 => [(4, 11), (6, 2)], 4 => [(5, 6)], 6 => [(5, 9)] };
let paths = shortest(&g, 1);
let reached: HashSet<_> = paths.keys().copied().collect();
match paths.get(&5) {
    Some(20) if reached.len() == 6 => paths,
    other => panic!("unexpected {other:?}"),
}
""",
        {1: 0, 2: 7, 3: 9, 4: 20, 5: 20, 6: 11},
        "",
    ),
    (
        """mod tokens {
    #[derive(Debug, Clone, PartialEq)]
    pub enum Token { Number(f64), Operator(char), Open, Close }

    pub fn scan(text: &str) -> Result<Vec<Token>, super::ParseError> {
        let mut found = Vec::new();
        let mut rest = text.chars().peekable();
        while let Some(&c) = rest.peek() {
            match c {
                ' ' => { rest.next(); }
                '0'..='9' | '.' => {
                    let mut digits = String::new();
                    while let Some(&d) = rest.peek() { if d.is_ascii_digit() || d == '.' { digits.push(d); rest.next(); } else { break; } }
                    found.push(Token::Number(digits.parse().map_err(|_| super::ParseError(digits.clone()))?));
                }
                '+' | '-' | '*' | '/' => { found.push(Token::Operator(c)); rest.next(); }
                '(' => { found.push(Token::Open); rest.next(); }
                ')' => { found.push(Token::Close); rest.next(); }
                other => return Err(super::ParseError(other.to_string())),
            }
        }
        Ok(found)
    }
}

use tokens::Token;

#[derive(Debug)]
pub struct ParseError(String);

struct Parser { tokens: Vec<Token>, at: usize }

impl Parser {
    fn peek(&self) -> Option<&Token> { self.tokens.get(self.at) }
    fn next(&mut self) -> Option<Token> { let t = self.tokens.get(self.at).cloned(); self.at += 1; t }
    fn sum(&mut self) -> Result<f64, ParseError> {
        let mut value = self.product()?;
        while let Some(Token::Operator(c @ ('+' | '-'))) = self.peek().cloned() { self.next(); let r = self.product()?; if c == '+' { value += r } else { value -= r } }
        Ok(value)
    }
    fn product(&mut self) -> Result<f64, ParseError> {
        let mut value = self.atom()?;
        while let Some(Token::Operator(c @ ('*' | '/'))) = self.peek().cloned() { self.next(); let r = self.atom()?; if c == '*' { value *= r } else { value /= r } }
        Ok(value)
    }
    fn atom(&mut self) -> Result<f64, ParseError> {
        match self.next() {
            Some(Token::Number(n)) => Ok(n),
            Some(Token::Open) => { let v = self.sum()?; match self.next() { Some(Token::Close) => Ok(v), t => Err(ParseError(format!("{t:?}"))) } }
            t => Err(ParseError(format!("unexpected {t:?}"))),
        }
    }
}

fn eval(text: &str) -> Result<f64, ParseError> { Parser { tokens: crate::tokens::scan(text)?, at: 0 }.sum() }

#[cfg(test)]
mod tests { use super::*; #[test] fn adds() { assert_eq!(eval("1+1").unwrap(), 2.0); } }

fn main() {
    for text in ["1 + 2 * 3", "(1 + 2) * 3 / 4", "2 * (3", "1 $ 2"] {
        match eval(text) { Ok(v) => println!("{text} = {v}"), Err(ParseError(why)) => println!("{text}: {why}") }
    }
}
""",
        None,
        "1 + 2 * 3 = 7\n(1 + 2) * 3 / 4 = 2.25\n2 * (3: None\n1 $ 2: $\n",
    ),
    (
        """use std::sync::{mpsc, Arc, Mutex, atomic::{AtomicUsize, Ordering}};
use std::thread;

struct Primes { next: u64 }
impl Iterator for Primes {
    type Item = u64;
    fn next(&mut self) -> Option<u64> {
        loop {
            self.next += 1;
            if (2..).take_while(|d| d * d <= self.next).all(|d| self.next % d != 0) && self.next > 1 { return Some(self.next); }
        }
    }
}

let counter = Arc::new(AtomicUsize::new(0));
let log = Arc::new(Mutex::new(Vec::new()));
let (sender, receiver) = mpsc::channel();
let workers: Vec<_> = (0..4).map(|id| {
    let (counter, log, sender) = (Arc::clone(&counter), Arc::clone(&log), sender.clone());
    thread::spawn(move || {
        let sum: u64 = Primes { next: id * 100 }.take(10).sum();
        counter.fetch_add(1, Ordering::SeqCst);
        log.lock().unwrap().push(id);
        sender.send((id, sum)).unwrap();
    })
}).collect();
drop(sender);
for worker in workers { worker.join().unwrap(); }
let mut sums: Vec<(u64, u64)> = receiver.into_iter().collect();
sums.sort_unstable();
let mut ids = log.lock().unwrap().clone();
ids.sort();
(counter.load(Ordering::SeqCst), ids, sums)
""",
        (4, [0, 1, 2, 3], [(0, 129), (1, 1216), (2, 2374), (3, 3324)]),
        "",
    ),
    (
        """fn has_close_elements(numbers: Vec<f32>, threshold: f32) -> bool {
    for i in 0..numbers.len() {
        for j in i + 1..numbers.len() {
            if (numbers[i] - numbers[j]).abs() < threshold { return true; }
        }
    }
    false
}

fn fib_memo(n: u64, memo: &mut std::collections::HashMap<u64, u64>) -> u64 {
    if n < 2 { return n; }
    if let Some(&known) = memo.get(&n) { return known; }
    let value = fib_memo(n - 1, memo) + fib_memo(n - 2, memo);
    memo.insert(n, value);
    value
}

fn main() {
    assert!(has_close_elements(vec![1.0, 2.0, 3.9, 4.0, 5.0, 2.2], 0.3));
    assert_eq!(fib_memo(50, &mut Default::default()), 12586269025);
    for line in 0..200 { println!("{line:>3} {}", "x".repeat(line % 7)); }
    assert!(!has_close_elements(vec![1.0, 1.01], 0.05), "they are close");
}
""",
        ("panic", 22, "they are close"),
        "".join(f"{line:>3} {'x' * (line % 7)}\n" for line in range(200)),
    ),
]


@pytest.mark.parametrize(
    ("code", "outcome", "stdout"), _PROGRAMS, ids=["inventory", "shapes", "paths", "parser", "threads", "asserts"]
)
def test_whole_programs(executor, code, outcome, stdout):
    """Structs, traits, generics, modules, macros, threads, assertions that fail: as they are written."""
    result = executor.execute(code)
    assert result.stdout == stdout
    if isinstance(outcome, tuple) and outcome[0] == "panic":
        assert (result.error.type, result.error.line, result.error.message) == outcome
    else:
        assert (result.error, result.value) == (None, outcome)


# --- Every way in -----------------------------------------------------------------------------------------------------------


def test_every_way_in_compiles(executor):
    """A program that nobody has compiled, by a coroutine, a stream, a future and a map."""
    fresh = lambda: f'// {os.urandom(8).hex()}\nprintln!("out");\nx + 1'  # noqa: E731
    given = {"x": 1}
    assert asyncio.run(executor.aexecute(fresh(), given)).unwrap() == 2
    assert executor.submit(fresh(), given).result().unwrap() == 2
    assert [result.unwrap() for result in executor.map([Job(fresh(), given) for _ in range(4)])] == [2] * 4
    *_, finished = executor.stream(fresh(), given)
    assert (finished.result.unwrap(), finished.result.stdout) == (2, "out\n")


def test_what_was_compiled_behind_fewer_walls_is_not_for_others(executor):
    """A compiler that sees the host may compile its files in. What was compiled behind all walls is for everybody."""
    all_walls = executor.language._programs._hand
    with CodeExecutor("rust", isolation=Isolation("namespaces", frozenset(("ipc",)))) as other:
        fewer = other.language._programs._hand
        code = f"// {os.urandom(8).hex()}\n40 + 2"
        assert other.execute(code).unwrap() == executor.execute(code).unwrap() == 42
        assert set(fewer).isdisjoint(all_walls)  # it was compiled again, under another name
        code = f"// {os.urandom(8).hex()}\n40 + 2"
        assert executor.execute(code).unwrap() == other.execute(code).unwrap() == 42
        assert len(set(fewer) & set(all_walls)) == 1
