import json

import pytest

from command import dspex

_TABLES = {"policy": {"environment": ["COLUMNS"]}, "limits": {"wall": "20s", "output": 100}}
_TOML = "[policy]\nenvironment = ['COLUMNS']\n[limits]\nwall = '20s'\noutput = 100\n"


@pytest.mark.parametrize(("name", "text"), [("policy.toml", _TOML), ("policy.json", json.dumps(_TABLES))])
def test_a_policy_is_toml_or_json(tmp_path, name, text):
    """Both forms of a policy file say the same, for `run` and for `repl`."""
    (tmp_path / name).write_text(text)
    assert dspex("run", "--policy", name, "-c", "import os; os.environ['COLUMNS']", cwd=tmp_path).stdout == "'120'\n"
    assert "(output_limit)" in dspex("run", "--policy", name, "-c", "print('x' * 200)", cwd=tmp_path).stderr
    talk = dspex("repl", "--policy", name, stdin=b"import os; os.environ['COLUMNS']\n", cwd=tmp_path)
    assert talk.stdout == "'120'\n"


@pytest.mark.parametrize(
    ("name", "data", "words"),
    [
        ("absent.toml", None, "absent.toml: cannot be read: No such file"),
        ("latin.toml", b"[policy]\n# caf\xe9\n", "latin.toml"),
        ("latin.json", b'{"policy": {"caf\xe9": 1}}', "latin.json"),
        ("torn.toml", b"[policy\n", "torn.toml"),
        ("torn.json", b'{"policy": ', "torn.json"),
        ("list.json", b"[]", "list.json"),
        ("strange.toml", b"[policy]\nnetwrok = true\n", "netwrok"),
        ("absurd.toml", b"[limits]\nwall = -1\n", "wall"),
    ],
)
def test_a_wrong_policy_file_is_named(tmp_path, name, data, words):
    """A policy file that cannot be is named, or its wrong field, with status 2."""
    if data is not None:
        (tmp_path / name).write_bytes(data)
    done = dspex("run", "-c", "1", "--policy", name, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert words in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("command", [("repl",), ("eval", "--canonical", "--problems", "p")])
def test_every_command_refuses_a_wrong_policy_file(command):
    """No command goes on without the policy that it was told to keep."""
    done = dspex(*command, "--policy", "absent.toml")
    assert (done.returncode, done.stdout) == (2, "")
    assert "absent.toml: cannot be read" in done.stderr


def test_timeout_leaves_the_cpu_time_of_a_file(tmp_path):
    """--timeout stands for wall and CPU time; but the CPU time that a policy file names stays."""
    (tmp_path / "policy.toml").write_text("[limits]\ncpu = '300ms'\n")
    spin = ("-c", "while True: pass", "--timeout", "5")
    assert "(cpu_limit)" in dspex("run", *spin, "--policy", tmp_path / "policy.toml").stderr
    assert "(timeout)" in dspex("run", "-c", "while True: pass", "--timeout", "0.3").stderr
