"""Packages of a virtual environment that is not the caller's."""

from __future__ import annotations

import subprocess
import sys

import pytest

from dspex import CodeExecutor, SecurityPolicy
from dspex.errors import PolicyError

VERSION = f"python{sys.version_info.major}.{sys.version_info.minor}"


def install(site, name, text, requires=()):
    """A package as an installer leaves it."""
    (site / name).mkdir()
    (site / name / "__init__.py").write_text(text)
    info = site / f"{name}-1.0.dist-info"
    info.mkdir()
    needs = "".join(f"Requires-Dist: {need}\n" for need in requires)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n{needs}")
    (info / "RECORD").write_text(f"{name}/__init__.py,,\n{info.name}/METADATA,,\n{info.name}/RECORD,,\n")


@pytest.fixture
def environment(tmp_path):
    """A virtual environment with three packages, one of which needs another."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", tmp_path / "venv"], check=True)
    site = tmp_path / "venv" / "lib" / VERSION / "site-packages"
    install(site, "dspex_apple", "import dspex_core\ntaste = dspex_core.taste", ["dspex-core>=1"])
    install(site, "dspex_core", "taste = 'sweet'")
    install(site, "dspex_stone", "taste = 'none'")
    return tmp_path / "venv"


def test_packages_come_from_the_environment_that_the_policy_names(environment):
    """With what they need, and nothing else of it."""
    policy = SecurityPolicy(packages=["dspex_apple"], virtual_environment=environment)
    with CodeExecutor(policy=policy) as executor:
        assert executor.execute("import dspex_apple\ndspex_apple.taste").unwrap() == "sweet"
        assert executor.execute("dspex_apple.taste", imports=["dspex_apple"]).unwrap() == "sweet"
        assert executor.execute("import dspex_stone").error.type == "ModuleNotFoundError"
        assert executor.execute("import msgspec").error.type == "ModuleNotFoundError"


def test_all_packages_of_an_environment(environment):
    """`*` is all of that one, and none of the caller's."""
    with CodeExecutor(policy=SecurityPolicy(packages=["*"], virtual_environment=environment)) as executor:
        assert executor.execute("import dspex_stone\ndspex_stone.taste").unwrap() == "none"
        assert executor.execute("import msgspec").error.type == "ModuleNotFoundError"


def test_a_package_that_is_not_there_is_named(environment):
    """Even if the caller's own environment has it."""
    policy = SecurityPolicy(packages=["msgspec"], virtual_environment=environment)
    with pytest.raises(PolicyError, match="'msgspec'"), CodeExecutor(policy=policy) as executor:
        executor.execute("1")


def test_an_environment_of_another_version_is_refused(tmp_path):
    """Both versions are named."""
    (tmp_path / "lib" / "python2.7" / "site-packages").mkdir(parents=True)
    policy = SecurityPolicy(packages=["x"], virtual_environment=tmp_path)
    with pytest.raises(PolicyError, match=rf"python2.7; guests run {VERSION}"), CodeExecutor(policy=policy) as executor:
        executor.execute("1")


def test_a_directory_that_is_none_is_refused(tmp_path):
    """By its path."""
    policy = SecurityPolicy(packages=["x"], virtual_environment=tmp_path / "nowhere")
    with pytest.raises(PolicyError, match="nowhere is no virtual environment"), CodeExecutor(policy=policy) as executor:
        executor.execute("1")


@pytest.mark.parametrize("given", [7, None, b"/x", "relative/path"])
def test_what_is_no_absolute_path_is_refused(given):
    """When the policy is made."""
    with pytest.raises(PolicyError, match="virtual_environment"):
        SecurityPolicy(virtual_environment=given)


def test_the_environment_is_part_of_the_policy_file():
    """It goes through TOML and JSON, and is explained."""
    policy = SecurityPolicy(packages=["numpy"], virtual_environment="/opt/venv")
    assert SecurityPolicy.from_toml(policy.to_toml()) == policy
    assert SecurityPolicy.from_json(policy.to_json()) == policy
    assert "of /opt/venv: numpy" in policy.explain()
