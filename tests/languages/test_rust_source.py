"""Where the last expression of a Rust program begins, and what stands around the program."""

import pytest

from dspex.languages._rust_source import wrapped


@pytest.mark.parametrize(
    ("before", "value"),
    [
        ("", "1 + 1"),
        ("let x = 1;\n", "x"),
        ("fn f() -> i64 { 1 }\n", "f()"),
        ('for i in 0..3 { println!("{i}") }\n', "x"),
        ("if a { 1; } else if b { 2; } else { 3; }\n", "x"),
        ("", "if a { 1 } else { 2 }"),
        ("let y = 2;\n", 'match y { 1 => { "}" } _ => ";" }'),
        ("struct P(i32);\nstruct Q { x: i32 }\n", "Q { x: 1 }"),
        ("impl<T> Trait for P<T> where T: Copy { fn f() {} }\n#[derive(Debug)]\npub enum E { A }\n", "E::A"),
        ('const N: [i32; 2] = [1, 2];\nstatic S: &str = "; }";\n', "N[0]"),
        ('const fn f() -> i32 { 1 }\nunsafe fn g() {}\nextern "C" fn h() {}\n', "f()"),
        ("macro_rules! m { ($x:expr) => { $x; } }\n", "m!(1)"),
        ('println! { "a" }\n', "vec![1; 3]"),
        ("", "vec![1].iter().map(|x| { x + 1 }).sum::<i32>()"),
        ("", "unsafe { *p }"),
        ("let r = 1;\n", "if unsafe { f() } >= 0 { 1 } else if unsafe { g() } { 2 } else { 3 }"),
        ("while unsafe { f() } { g() }\nunsafe { g() }\n", "match unsafe { h() } { _ => 1 }"),
        ("'outer: loop { break 'outer; }\n", "x"),
        ("if let Point { x: 1 } = p { f() }\n", "x"),
        ("for Pair { a, b } in pairs { f(a, b) }\n", "x"),
        ("", "match x { _ => 1 }.to_string()"),
        ("let c = '{'; let l: &'static str = r#\"\"}\"#; /* { /* ( */ */ // [\n", "(c, l)"),
        ("let b = b'}'; let e = '\\''; let u = '\\u{1F600}';\n", "u"),
        ("use std::fmt;\npub(crate) mod m { pub fn f() {} }\n", "m::f()"),
        ("async fn f() {}\nlet x = async { 1 };\n", "x"),
        ("let Some(x) = y else { return Ok(()) };\n", "&x"),
    ],
)
def test_the_last_expression_is_found(before, value):
    """Behind items, statements and blocks, whatever brackets stand in texts, characters and comments."""
    source = wrapped(before + value, {}, [])
    assert f"{before}::dspex::answer!({value}\n)" in source.text


@pytest.mark.parametrize(
    "code", ["", "let x = 1;", "f();\n// end", "fn f() {}", "while a { b() }; ", "struct P;", "x;\n/* y */"]
)
def test_a_program_may_have_no_value(code):
    """It ends with a semicolon or an item."""
    assert "answer!" not in wrapped(code, {}, []).text


def test_ok_alone_has_any_error():
    """Its type would not be known."""
    assert "fine(Ok(1)\n))" in wrapped("Ok(1)", {}, []).text
    assert "fine" not in wrapped("Ok::<i32, String>(1)", {}, []).text


@pytest.mark.parametrize(
    "code", ["fn main() {}", "#![allow(x)]\n//! Doc\nuse a;\npub fn main() -> R { f() }\nfn f() {}\n"]
)
def test_a_whole_program_stays_as_it_is(code):
    """What dspex needs stands behind it, so that its own attributes stay in front."""
    source = wrapped(code, {"x": "i64"}, ["tool"])
    assert source.text.startswith(code)
    assert source.inserted == ()
    assert "static x: ::std::sync::LazyLock<i64>" in source.text


def test_lines_keep_their_numbers():
    """What is put in makes no line, and is told with its place."""
    code = "let a = 1;\n  a + x"
    source = wrapped(code, {"x": "i64"}, [])
    first, second = source.text.splitlines()[:2]
    (_, _, prefix), (line, column, length) = source.inserted
    assert first[prefix:] == "let a = 1;"
    assert (line, column, second[:2] + second[2 + length :]) == (2, 3, "  a + x")


def test_an_open_bracket_is_left_to_the_compiler():
    """It says so best where nothing follows."""
    assert wrapped("fn f() { (", {}, []).text == "fn f() { ("
