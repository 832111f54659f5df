"""Removing what a hostile program has made."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from dspex._kernel import resources, trees
from passage import open_to_all

_ORDINARY = ("setpriv", "--reuid=1000", "--regid=1000", "--clear-groups")


def _deep(top: Path, levels: int) -> None:
    place = os.open(top, os.O_RDONLY)
    for _ in range(levels):
        os.mkdir("d", dir_fd=place)
        below = os.open("d", os.O_RDONLY, dir_fd=place)
        os.close(place)
        place = below
    os.close(place)


def test_a_deep_tree_is_removed(tmp_path):
    """Thousands of levels are removed, without a frame or a descriptor for each."""
    top = tmp_path / "top"
    top.mkdir()
    _deep(top, 3000)
    trees.remove(str(top))
    assert not top.exists()


def test_what_a_link_points_to_stays(tmp_path):
    """Links are removed, and never followed, be they at the top or below."""
    outside, top = tmp_path / "outside", tmp_path / "top"
    outside.mkdir(mode=0o500)
    (top / "inner").mkdir(parents=True)
    (top / "link").symlink_to(outside)
    (top / "inner" / "link").symlink_to(outside)
    trees.remove(str(top))
    assert not top.exists()
    assert outside.stat().st_mode & 0o777 == 0o500


def test_a_link_in_its_place_is_not_followed(tmp_path):
    """A directory that has become a link is let be."""
    outside, link = tmp_path / "outside", tmp_path / "link"
    outside.mkdir()
    (outside / "file").write_text("kept")
    link.symlink_to(outside)
    trees.remove(str(link))
    assert (outside / "file").read_text() == "kept"


def test_nothing_there_is_no_error(tmp_path):
    """A directory that has gone already is no error."""
    trees.remove(str(tmp_path / "none"))


def test_directories_closed_to_their_owner_are_removed(tmp_path):
    """Modes are mended where they are in the way, for an owner without privileges."""
    command = [sys.executable, "-c", "import sys; sys.path.insert(0, sys.argv[2]); import os\n"
               "t = sys.argv[1] + '/top'; os.makedirs(t + '/a/b/c'); open(t + '/a/b/f', 'w').close()\n"
               "os.chmod(t + '/a/b', 0); os.chmod(t + '/a', 0o300); os.chmod(t, 0o300)\n"
               "from dspex._kernel import resources, trees\n"
               "assert resources.disk_usage(t) == sys.maxsize; trees.remove(t); assert not os.path.exists(t)"]  # fmt: skip
    source = Path(__file__).parents[2] / "src"
    place = tmp_path
    if os.geteuid() == 0:  # whom no mode is in the way of
        open_to_all(tmp_path)
        copy = tmp_path / "src"
        shutil.copytree(source, copy, ignore=shutil.ignore_patterns("__pycache__"))
        subprocess.run(["chmod", "-R", "a+rX", copy], check=True)
        place = tmp_path / "place"
        place.mkdir()
        os.chown(place, 1000, 1000)
        source, command[0] = copy, "/usr/bin/python3"
        command = [*_ORDINARY, *command]
    subprocess.run([*command, str(place), str(source)], check=True, env={"PYTHONDONTWRITEBYTECODE": "1"})


@pytest.mark.parametrize(("levels", "without_end"), [(50, False), (500, True)])
def test_a_tree_too_deep_counts_as_without_end(tmp_path, levels, without_end):
    """A tree is walked to a bounded depth, for each level holds a descriptor of the host's."""
    top = tmp_path / "top"
    top.mkdir()
    _deep(top, levels)
    assert (resources.disk_usage(str(top)) == sys.maxsize) is without_end
    trees.remove(str(top))
