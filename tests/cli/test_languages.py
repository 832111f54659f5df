"""`dspex languages`, and programs of other languages for `dspex run`."""

import json

import pytest

from command import dspex


@pytest.mark.parametrize(
    ("name", "code", "shown"),
    [
        ("a.js", "[1, 2].map((n) => 2 * n)", "[2, 4]"),
        ("a.ts", "const n: number = 4\nn", "4"),
        ("a.exs", "Enum.sum([1, 2])", "3"),
        ("a.erl", "lists:sum([1, 2]).", "3"),
        ("a.rs", "1 + 1", "2"),
        ("a.wat", '(module (func (export "main") (result i32) (i32.const 7)))', "7"),
        ("a.py", "1 + 1", "2"),
    ],
)
def test_the_suffix_says_the_language(tmp_path, name, code, shown):
    """A file is run as what it is called."""
    file = tmp_path / name
    file.write_text(code)
    ran = dspex("run", str(file))
    assert (ran.stdout.strip(), ran.returncode) == (shown, 0), ran.stderr


def test_the_language_may_be_named():
    """-l goes before the suffix; an unknown one is told with those there are."""
    assert dspex("run", "-l", "javascript", "-c", "typeof 1").stdout.strip() == "'number'"
    wrong = dspex("run", "-l", "cobol", "-c", "1")
    assert wrong.returncode == 2
    assert "there are" in wrong.stderr


def test_errors_name_the_file(tmp_path):
    """A trace has the file's name in the place of the program's."""
    file = tmp_path / "b.js"
    file.write_text("\nthrow new Error('x')")
    ran = dspex("run", str(file))
    assert ran.returncode == 1
    assert f"{file}:2:7" in ran.stderr


def test_languages_are_listed():
    """Each runtime with its version and path, or the command that installs it; the doctor tells of them too."""
    listed = json.loads(dspex("languages", "--json").stdout)
    found = {(row["language"], row["runtime"]) for row in listed}
    assert {
        ("python", "cpython"),
        ("javascript", "node"),
        ("elixir", "beam"),
        ("erlang", "beam"),
        ("rust", "rustc"),
        ("wasm", "wasmtime"),
    } <= found
    assert all(row["version"] or row["install"] for row in listed)
    assert "javascript" in dspex("languages").stdout
    names = {finding["name"] for finding in json.loads(dspex("doctor", "--json").stdout)["languages"]}
    assert "rust, rustc" in names
