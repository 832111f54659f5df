"""Compiled programs, kept by content."""

import os
import stat
from concurrent.futures import ThreadPoolExecutor

from dspex.languages._programs import Programs


def test_what_is_kept_is_found(tmp_path):
    """By this process and by another, and by nobody else on the machine."""
    directory = tmp_path / "programs"
    programs = Programs(str(directory))
    assert programs.find("a") is None
    programs.keep("a", b"binary")
    assert programs.find("a") == Programs(str(directory)).find("a") == b"binary"
    assert stat.S_IMODE(directory.stat().st_mode) == 0o700
    assert [stat.S_IMODE(file.stat().st_mode) for file in directory.iterdir()] == [0o600]


def test_what_is_damaged_is_not_there(tmp_path):
    """Cut short, or changed: then it is compiled again, and kept again."""
    Programs(str(tmp_path)).keep("a", b"binary")
    for damage in (b"", b"x", (tmp_path / "a").read_bytes()[:-1] + b"Y"):
        (tmp_path / "a").write_bytes(damage)
        assert Programs(str(tmp_path)).find("a") is None
    Programs(str(tmp_path)).keep("a", b"binary")
    assert Programs(str(tmp_path)).find("a") == b"binary"


def test_it_is_bounded(tmp_path):
    """What was used longest ago goes first."""
    programs = Programs(str(tmp_path), most=1000)
    for age, name in ((10, "a"), (20, "b"), (30, "c")):
        programs.keep(name, bytes(300))
        os.utime(tmp_path / name, (age, age))
    Programs(str(tmp_path), most=1000).find("a")
    programs.keep("d", bytes(300))
    assert sorted(os.listdir(tmp_path)) == ["a", "c", "d"]


def test_many_keep_the_same(tmp_path):
    """Nobody sees half of it, and nothing is left beside it."""

    def work(number):
        programs = Programs(str(tmp_path))
        programs.keep("a", b"x" * 100_000)
        return programs.find("a") == Programs(str(tmp_path)).find("a")

    with ThreadPoolExecutor(8) as threads:
        assert all(threads.map(work, range(64)))
    assert os.listdir(tmp_path) == ["a"]
