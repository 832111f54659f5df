import json

import pytest

from command import EXAMPLES, dspex


def test_the_value_of_the_last_expression_is_printed():
    """`dspex run -c 1+1` prints 2, nothing else, and exits with 0."""
    done = dspex("run", "-c", "1+1")
    assert (done.returncode, done.stdout, done.stderr) == (0, "2\n", "")


def test_none_is_not_printed():
    """A program without a value prints only what it prints itself, each stream to its own."""
    done = dspex("run", "-c", "import sys\nprint('out')\nprint('err', file=sys.stderr)")
    assert (done.returncode, done.stdout, done.stderr) == (0, "out\n", "err\n")


def test_the_value_begins_a_line():
    """A value after output without a line's end stands on a line of its own."""
    assert dspex("run", "-c", "print('a', end='')\n'b'").stdout == "a\n'b'\n"


def test_a_file_is_run():
    """The example of the README prints its report and its value."""
    done = dspex("run", EXAMPLES / "report.py")
    assert done.returncode == 0
    assert "paydays: 2026-01-31" in done.stdout
    assert done.stdout.splitlines()[-1].startswith("{'words': 15,")


def test_standard_input_is_run():
    """A lone dash reads the program from standard input."""
    assert dspex("run", "-", stdin="'é' * 2".encode()).stdout == "'éé'\n"


def test_a_byte_order_mark_is_no_part_of_the_program():
    """A UTF-8 file that begins with a byte order mark runs."""
    assert dspex("run", "-", stdin=b"\xef\xbb\xbf40 + 2").stdout == "42\n"


def test_an_empty_program_is_fine():
    """The empty program runs and says nothing."""
    done = dspex("run", "-c", "")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_a_failed_program_exits_with_1(tmp_path):
    """A program that fails gives its traceback with the file's name, its kind, and status 1."""
    (tmp_path / "broken.py").write_text("def f():\n    return 1 / 0\n\nprint('before')\nf()\n")
    done = dspex("run", "broken.py", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (1, "before\n")
    assert 'File "broken.py", line 2, in f' in done.stderr
    assert "ZeroDivisionError: division by zero" in done.stderr
    assert "dspex: the program failed (runtime)" in done.stderr


def test_a_syntax_error_exits_with_1():
    """A program that is no Python failed, as any other that fails."""
    done = dspex("run", "-c", "x = (")
    assert done.returncode == 1
    assert "SyntaxError" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "kind", "hint"),
    [
        (("--timeout", "300ms", "-c", "while True: pass"), "timeout", "--timeout"),
        (("--memory", "64MB", "-c", "x = bytearray(10**9)"), "memory_limit", "--memory"),
    ],
)
def test_a_limit_that_was_hit_says_how_to_raise_it(arguments, kind, hint):
    """Limits of the options hold, and the message names the option that raises them."""
    done = dspex("run", *arguments)
    assert done.returncode == 1
    assert f"({kind}); allow more with {hint}" in done.stderr


def test_variables_are_json():
    """--var makes variables, of any JSON."""
    done = dspex("run", "--var", "n=20", "--var", 's="é"', "--var", 'd={"a": [1, null]}', "-c", "n + 1, s, d")
    assert done.stdout == "(21, 'é', {'a': [1, None]})\n"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((), "give one program"),
        (("-c", "1", "file.py"), "give one program"),
        (("missing.py",), "missing.py: No such file or directory"),
        (("/",), "/: Is a directory"),
        (("--var", "n", "-c", "1"), "name=json"),
        (("--var", "s=text", "-c", "1"), "text needs quotes: --var 's=\"text\"'"),
        (("--var", "n=1", "--var", "n=2", "-c", "1"), "given twice"),
        (("--var", "class=1", "-c", "1"), "'class' is a keyword"),
        (("--timeout", "soon", "-c", "1"), "--timeout: 'soon' is not understood"),
        (("--timeout", "0", "-c", "1"), "--timeout: '0' is out of range"),
        (("--memory", "1", "-c", "1"), "memory: '1' is out of range"),
        (("--policy", "missing.toml", "-c", "1"), "missing.toml"),
        (("--nonsense", "-c", "1"), "--nonsense"),
        (("-c",), "requires an argument"),
        (("a.py", "b.py"), "b.py"),
    ],
)
def test_wrong_usage_exits_with_2(arguments, words, tmp_path):
    """Wrong usage is told in words that name it, without a traceback, and status 2."""
    done = dspex("run", *arguments, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert words in done.stderr
    assert "Traceback" not in done.stderr


def test_a_file_that_is_not_utf8_is_refused(tmp_path):
    """A file in another encoding is refused with the line and the byte."""
    (tmp_path / "latin.py").write_bytes(b"x = 1\ny = '\xe9'\n")
    done = dspex("run", "latin.py", cwd=tmp_path)
    assert done.returncode == 2
    assert "latin.py: line 2: byte 0xe9 is not UTF-8" in done.stderr


def test_a_policy_file_holds(tmp_path):
    """Policy and limits of a file are in force, and --timeout goes above them."""
    (tmp_path / "policy.toml").write_text(
        "[policy]\nforbidden_modules = ['socket']\n[limits]\nwall = '30s'\noutput = 100\n"
    )
    policy = ("--policy", tmp_path / "policy.toml")
    assert "(policy)" in dspex("run", *policy, "-c", "import socket").stderr
    assert "(output_limit)" in dspex("run", *policy, "-c", "print('x' * 1000)").stderr
    assert "(timeout)" in dspex("run", *policy, "--timeout", "0.3", "-c", "while True: pass").stderr


def test_json_is_the_whole_result():
    """--json prints one object with value, output, usage and isolation."""
    done = dspex("run", "--json", "-c", "print('hello')\n{'a': (1, 2.5, None)}")
    result = json.loads(done.stdout)
    assert (done.returncode, result["ok"], result["value"], result["stdout"]) == (
        0,
        True,
        {"a": [1, 2.5, None]},
        "hello\n",
    )
    assert result["usage"]["wall"] > 0
    assert result["isolation"]["layers"]


@pytest.mark.parametrize(
    ("code", "shown"),
    [("{1}", "{1}"), ("{1: 2}", "{1: 2}"), ("float('nan')", "nan"), ("b'a'", "b'a'"), ("[b'a']", "[b'a']")],
)
def test_json_of_a_value_that_is_not_of_json(code, shown):
    """What JSON cannot say is null, with the repr beside it, never something that looks alike."""
    result = json.loads(dspex("run", "--json", "-c", code).stdout)
    assert (result["value"], result["value_repr"]) == (None, shown)


def test_json_of_a_failed_program():
    """A failed program is a result too, with its error, and status 1."""
    done = dspex("run", "--json", "-c", "1/0")
    error = json.loads(done.stdout)["error"]
    assert (done.returncode, error["kind"], error["type"], error["line"]) == (1, "runtime", "ZeroDivisionError", 1)


def test_an_integer_of_many_digits_is_no_crash():
    """A value that Python does not like to print is described."""
    done = dspex("run", "-c", "10**5000")
    assert done.returncode == 0
    assert done.stdout.startswith("<int: it cannot be shown")


def test_what_is_shown_is_saved(tmp_path):
    """`--save-displays` makes the directory and keeps each display in its best form, in order."""
    code = (
        "class Page:\n    def _repr_html_(self): return '<b>bold</b>'\n    def __repr__(self): return 'bold'\n"
        "class Dot:\n    def _repr_png_(self): return bytes.fromhex('89504e470d0a1a0a')\n"
        "display(Page())\ndisplay(Dot())\ndisplay('plain')"
    )
    place = tmp_path / "new" / "shown"
    done = dspex("run", "-c", code, "--save-displays", place)
    assert done.returncode == 0, done.stderr
    assert sorted(path.name for path in place.iterdir()) == ["001.html", "002.png", "003.txt"]
    assert (place / "001.html").read_text() == "<b>bold</b>"
    assert (place / "002.png").read_bytes().startswith(b"\x89PNG")


def test_a_place_where_nothing_can_be_saved_is_named(tmp_path):
    """With the system's own word, and the engine's exit status."""
    (tmp_path / "file").write_text("in the way")
    done = dspex("run", "-c", "display('x')", "--save-displays", tmp_path / "file")
    assert done.returncode == 2
    assert "--save-displays" in done.stderr
    assert str(tmp_path / "file") in done.stderr
