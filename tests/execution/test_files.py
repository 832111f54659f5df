"""Files in, files out: what crosses, what is bounded, and what a hostile tree cannot do."""

import os
import stat

import pytest

from dspex import CodeExecutor, ResourceLimits, SecurityPolicy
from dspex.errors import UsageError

MIB = 1 << 20


@pytest.fixture
def executor(level):
    with CodeExecutor(max_concurrency=1, isolation=level) as made:
        yield made


@pytest.fixture(scope="module")
def plain():
    with CodeExecutor(max_concurrency=1) as made:
        yield made


def test_files_are_there_and_are_the_programs_own(executor, tmp_path):
    """Bytes and files of the host can be read, written and deleted by the program, in directories of their own."""
    source = tmp_path / "there.csv"
    source.write_text("a,b\n")
    code = """
import os
seen = open("in/here.txt").read(), open("data.csv").read()
open("data.csv", "a").write("1,2\\n")
os.remove("in/here.txt"); os.rmdir("in")
seen"""
    result = executor.execute(code, files={"in/here.txt": b"text", "data.csv": source})
    assert result.unwrap() == ("text", "a,b\n")
    assert {name: file.read_text() for name, file in result.files.items()} == {"data.csv": "a,b\n1,2\n"}
    assert source.read_text() == "a,b\n"


def test_files_may_lie_in_sandbox_at_the_root():
    """Where programs written for other sandboxes look for theirs: the folder of that name in the working directory."""
    with CodeExecutor(max_concurrency=1, isolation="namespaces") as executor:
        result = executor.execute(
            "open('/sandbox/out', 'w').write(open('/sandbox/in').read())", files={"sandbox/in": b"text"}
        )
        assert result.files["sandbox/out"].read_bytes() == b"text"
        assert executor.execute("open('/sandbox/out', 'w')").error.type == "FileNotFoundError"


def test_what_a_program_leaves_comes_back(executor, tmp_path):
    """New files come back by name, also of a failed program; inputs that are as they were do not."""
    result = executor.execute(
        "import os\nos.makedirs('a/b')\nopen('a/b/c.bin', 'wb').write(b'\\0\\1')\n1/0", files={"kept": b"same"}
    )
    assert result.error.type == "ZeroDivisionError"
    assert list(result.files) == ["a/b/c.bin"]
    file = result.files["a/b/c.bin"]
    assert (file.size, file.read_bytes()) == (2, b"\0\1")
    file.save(tmp_path / "out")
    assert (tmp_path / "out").read_bytes() == b"\0\1"


def test_large_files_are_read_when_asked_for(executor):
    """A file of several megabytes is whole after its guest has gone."""
    result = executor.execute(f"open('big', 'wb').write(bytes(range(256)) * {8 * MIB // 256})")
    executor.execute("1")
    assert result.files["big"].size == 8 * MIB
    assert result.files["big"].read_bytes() == bytes(range(256)) * (8 * MIB // 256)


def directories():
    """How many directories this process holds open: one for each guest that waits, and for each unread result."""
    found = [
        os.stat(f"/proc/self/fd/{name}")
        for name in os.listdir("/proc/self/fd")
        if os.path.exists(f"/proc/self/fd/{name}")
    ]
    return sum(stat.S_ISDIR(status.st_mode) for status in found)


def test_results_hold_no_descriptors(plain):
    """Kept results with small files, and large ones once read, hold no directory open."""
    kept = [plain.execute("open('f', 'w').write('x')") for _ in range(30)]
    large = [plain.execute("open('f', 'wb').write(bytes(2 << 20))") for _ in range(30)]
    for result in large:
        assert len(result.files["f"].read_bytes()) == 2 * MIB
    assert len(kept) == len(large) == 30
    assert directories() < 20


@pytest.mark.parametrize("name", ["", "/etc/x", "../x", "a/../../x", "a//b", "./a", "a\0b", 7, "/".join("d" * 40)])
def test_names_that_lead_elsewhere_are_refused(plain, name):
    """A name must be relative and plain; nothing runs otherwise."""
    with pytest.raises(UsageError, match="relative path"):
        plain.execute("1", files={name: b""})


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"a": "/no/such/file"}, "No such file"),
        ({"a": "/dev/zero"}, "no regular file"),
        ({"a": "/tmp"}, "no regular file"),
        ({"a": 3}, "must be a path of the host, or bytes"),
        ([("a", b"")], "must be a mapping"),
        ({str(n): b"" for n in range(1001)}, "at most 1,000"),
        ({"a": bytes(65 * MIB)}, "limits.disk"),
        ({"a": b"", "a/b": b""}, "cannot be put into"),
    ],
)
def test_files_that_cannot_be_are_refused_by_name(plain, files, message):
    """What is wrong with the files is said before the program runs."""
    with pytest.raises(UsageError, match=message):
        plain.execute("1", files=files)


def test_symbolic_links_are_never_followed(executor, tmp_path):
    """A link in the tree, to a file or to a directory, gives nothing of the host's away."""
    secret = tmp_path / "secret"
    secret.write_text("of the host")
    result = executor.execute(
        "import os\nos.symlink(target, 'link')\nos.symlink(parent, 'way')\nos.symlink('/proc', 'p')\nopen('real','w').close()",
        {"target": str(secret), "parent": str(tmp_path)},
    )
    assert result.ok
    assert list(result.files) == ["real"]


def test_inputs_do_not_go_through_links(plain, tmp_path):
    """A session that put a link where an input is to lie gets the file, or a refusal, and the host's file is untouched."""
    with plain.session() as session:
        session.execute("import os\nos.symlink('/run/sandbox/tmp/x', 'f')\nos.symlink('/run/sandbox/tmp', 'd')")
        assert session.execute("os.path.islink('f'), open('f').read()", files={"f": b"new"}).value == (False, "new")
        with pytest.raises(UsageError, match="cannot be put"):
            session.execute("1", files={"d/x": b"new"})
        assert session.execute("os.listdir('/run/sandbox/tmp')").value == []


def test_a_link_put_in_place_of_a_large_file_is_not_read(plain):
    """A file that is replaced by a link, or changed, between the run and the reading is refused."""
    with plain.session() as session:
        result = session.execute("f = open('big', 'wb'); f.write(bytes(2 << 20)); f.close()")
        session.execute("import os; os.remove('big'); os.symlink('/etc/passwd', 'big')")
        with pytest.raises(UsageError, match="cannot be read any more"):
            result.files["big"].read_bytes()


def test_many_files_and_deep_trees_are_cut_off(plain):
    """Ten thousand files, 1,000 levels: at most 1,000 come back, and the result says that there were more."""
    result = plain.execute("import os\nfor n in range(10_000): open(f'{n}', 'w').close()")
    assert len(result.files) == 1000
    assert not result.files.complete
    result = plain.execute(
        "import os\nopen('top','w').close()\nfor n in range(1000): os.mkdir('d'); os.chdir('d')\nopen('deep','w').close()"
    )
    assert result.ok
    assert list(result.files) == ["top"]
    assert not result.files.complete


def test_sparse_files_are_bounded():
    """A file that claims to be larger than the disk cannot be; one as large as the disk costs its size at most."""
    with CodeExecutor(max_concurrency=1, limits=ResourceLimits(disk="4 MiB")) as executor:
        refused = executor.execute("import os\nf = open('s', 'w')\nos.ftruncate(f.fileno(), 1 << 40)")
        assert refused.error.kind == "disk_limit"
        result = executor.execute("import os\nf = open('s', 'w')\nos.ftruncate(f.fileno(), 4 << 20)")
        assert len(result.files["s"].read_bytes()) == 4 * MIB


def test_names_that_are_no_text_come_back(plain):
    """A name of any bytes is a key, and its file can be read."""
    result = plain.execute("open(b'\\xff\\n', 'w').write('odd')")
    assert [file.read_text() for file in result.files.values()] == ["odd"]


def test_a_sessions_results_show_what_each_call_changed(plain):
    """Each result has the call's own files; `session.files` has all of them as they are."""
    with plain.session() as session:
        assert not session.files
        session.execute("open('one', 'w').write('1')", files={"given": b"g"})
        session.execute("import time; time.sleep(0.1)")
        second = session.execute("open('two', 'w').write('2')")
        assert "two" in second.files
        assert "given" not in second.files
        session.execute("open('given', 'a').write('!')")
        assert {name: file.read_text() for name, file in session.files.items()} == {
            "one": "1",
            "two": "2",
            "given": "g!",
        }


def test_files_that_do_not_fit_leave_the_session_as_it_was():
    """An input for which no room is left is refused, and the session lives on."""
    with (
        CodeExecutor(max_concurrency=1, limits=ResourceLimits(disk="4 MiB")) as executor,
        executor.session() as session,
    ):
        session.execute("x = open('f', 'wb').write(bytes(3 << 20))")
        with pytest.raises(UsageError, match="no room"):
            session.execute("1", files={"g": bytes(2 * MIB)})
        assert session.execute("x").value == 3 * MIB


def test_mounts_are_as_the_policy_says(tmp_path):
    """What is readable can be read only; what is writable is the host's own directory."""
    seen, kept = tmp_path / "seen", tmp_path / "kept"
    for directory in (seen, kept):
        directory.mkdir()
        directory.chmod(0o777)
    tmp_path.chmod(0o755)
    for parent in [*tmp_path.parents][:2]:
        parent.chmod(parent.stat().st_mode | stat.S_IXOTH)
    (seen / "a").write_text("host")
    (seen / "a").chmod(0o644)
    policy = SecurityPolicy(readable=[f"{seen}:/data"], writable=[f"{kept}:/out"])
    with CodeExecutor(max_concurrency=1, policy=policy, isolation="namespaces") as executor:
        result = executor.execute("open('/out/b', 'w').write(open('/data/a').read())")
        assert result.ok, result.error
        assert (kept / "b").read_text() == "host"
        assert not result.files
        assert executor.execute("open('/data/a', 'w')").error.type in ("OSError", "PermissionError")


def test_large_files_do_not_hold_up_the_event_loop(level, monkeypatch):
    """A thread writes them; a call that is cancelled meanwhile is over only when that thread is."""
    import asyncio
    import threading

    from dspex.execution import _files

    begun, go_on, threads = threading.Event(), threading.Event(), []
    true_place = _files.place

    def place(guest, inputs):
        threads.append(threading.current_thread())
        begun.set()
        assert go_on.wait(10)
        true_place(guest, inputs)

    monkeypatch.setattr(_files, "place", place)

    async def main(executor):
        call = asyncio.ensure_future(executor.aexecute("len(open('f').read())", files={"f": b"x" * (2 << 20)}))
        await asyncio.to_thread(begun.wait)
        other = asyncio.ensure_future(executor.aexecute("1", files={"f": b"y" * (2 << 20)}))
        while len(threads) < 2:
            await asyncio.sleep(0.001)
        other.cancel()
        await asyncio.sleep(0.05)
        assert not other.done()
        go_on.set()
        with pytest.raises(asyncio.CancelledError):
            await other
        return await call

    with CodeExecutor(isolation=level, max_concurrency=2) as executor:
        assert asyncio.run(main(executor)).unwrap() == 2 << 20
    assert threading.main_thread() not in threads
