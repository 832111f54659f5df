"""The probe on this host, in an imitated container, and what it advises for hosts of every kind."""

import dataclasses
import json
import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest

import container
from dspex._kernel import landlock, probe

SOURCE = str(Path(probe.__file__).parents[2])
SCRIPT = f"""
import sys
sys.path.insert(0, {SOURCE!r})
import dataclasses, json
from dspex._kernel import probe
features = probe.probe()
findings = [dataclasses.asdict(finding) for finding in features.findings()]
print(json.dumps([dataclasses.asdict(features), features.level(), findings]))
"""
GOOD = probe.HostFeatures(
    kernel="6.8.0-45-generic",
    machine="x86_64",
    python="3.12.3",
    user_namespaces=True,
    mount_namespace=True,
    pid_namespace=True,
    proc_mount=True,
    seccomp=True,
    landlock_abi=4,
    pidfd=True,
    close_range=True,
    cgroup=None,
    is_root=False,
    in_container=False,
    is_filtered=False,
    settings={},
    failures={},
)
BARE = dataclasses.replace(
    GOOD, user_namespaces=False, mount_namespace=False, pid_namespace=False, proc_mount=False, landlock_abi=0
)


def probed(*wrapper: str, python: str = sys.executable):
    """Features, level and findings as a fresh process below `wrapper` sees them."""
    command = [*wrapper, python, "-c", SCRIPT]
    done = subprocess.run(command, capture_output=True, text=True, timeout=90, check=False)
    assert done.returncode == 0, done.stderr
    features, level, findings = json.loads(done.stdout)
    return features, level, {finding["name"]: finding for finding in findings}


def python_for_everybody() -> str:
    """An interpreter that an ordinary user may run: root's own may lie in root's home."""
    own = os.path.realpath(sys.executable)
    for path in (own, "/usr/bin/python3"):
        parents = [path, *map(str, Path(path).parents)]
        if all(os.path.exists(p) and os.stat(p).st_mode & 0o001 for p in parents):
            version = subprocess.check_output([path, "-c", "import sys; print(sys.version_info >= (3, 11))"], text=True)
            if version == "True\n":
                return path
    pytest.skip("no Python 3.11 that an ordinary user may run")


def mend(name: str, features: probe.HostFeatures) -> str:
    finding = next(f for f in features.findings() if f.name == name)
    assert not finding.ok
    return finding.mend


def test_the_probe_describes_this_host():
    """What needs no trial is what Python says, and every failure has a reason and belongs to a missing feature."""
    found = probe.probe()
    assert (found.kernel, found.machine) == (platform.release(), platform.machine())
    assert found.is_root == (os.geteuid() == 0)
    assert found.landlock_abi == landlock.abi()
    assert all(why and getattr(found, name) is False for name, why in found.failures.items())


def test_the_probe_leaves_no_trace():
    """Probing enters no namespace and no filter, and leaves no child and no descriptor."""

    def state():
        status = Path("/proc/self/status").read_text()
        kept = [line for line in status.splitlines() if line.startswith(("Seccomp", "NoNewPrivs", "Cap"))]
        spaces = sorted(os.readlink(f"/proc/self/ns/{name}") for name in os.listdir("/proc/self/ns"))
        children = Path(f"/proc/self/task/{os.getpid()}/children").read_text()
        return kept, spaces, children, len(os.listdir("/proc/self/fd"))

    before = state()
    probe.probe()
    assert state() == before


def test_a_container_has_no_user_namespaces():
    """Behind a filter on unshare and without capabilities the probe says so, and offers the lesser level."""
    features, level, findings = probed(sys.executable, container.__file__)
    for name in ("user_namespaces", "mount_namespace", "pid_namespace", "proc_mount"):
        assert features[name] is False
        assert "not permitted" in features["failures"][name]
    assert features["seccomp"]
    assert features["is_filtered"]
    assert level == ("landlock" if landlock.abi() else None)
    assert "--security-opt seccomp=unconfined" in findings["user namespaces"]["mend"]


def test_an_ordinary_user_is_probed_as_such():
    """Without root the probe agrees with what unshare(1) can do."""
    user = ("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "--inh-caps=-all")
    if subprocess.run([*user, "true"], capture_output=True, check=False).returncode != 0:
        pytest.skip("only root with its capabilities can become an ordinary user")
    features, level, _ = probed(*user, python=python_for_everybody())
    unshare = ["unshare", "--user", "--map-root-user", "--mount", "--pid", "--fork", "--mount-proc", "true"]
    works = subprocess.run([*user, *unshare], capture_output=True, check=False).returncode == 0
    assert features["is_root"] is False
    assert (level == "namespaces") == works


def test_the_imitated_container_refuses_what_containers_refuse():
    """In it no capability is left, and unshare and mount fail even for uid 0."""
    script = "grep CapBnd /proc/self/status; unshare --user true; unshare --mount true; mount -t tmpfs x /mnt"
    done = subprocess.run(
        [sys.executable, container.__file__, "/bin/sh", "-c", script], capture_output=True, text=True, check=False
    )
    if os.geteuid() == 0:
        assert done.stdout.split()[1] == "0000000000000000"
    assert done.returncode != 0
    assert len(done.stderr.splitlines()) >= 3


def test_levels_follow_from_what_works():
    """All namespaces make one level, Landlock the other; without a filter or a pidfd there is none."""

    def level(features, **changes):
        return dataclasses.replace(features, **changes).level()

    assert GOOD.level() == "namespaces"
    assert level(GOOD, landlock_abi=0) == "namespaces"
    assert level(GOOD, proc_mount=False) == "landlock"
    assert level(BARE, landlock_abi=1) == "landlock"
    assert BARE.level() is None
    for lost in ("seccomp", "pidfd", "close_range"):
        assert level(GOOD, **{lost: False}) is None
    assert level(GOOD, machine="riscv64") is None


def test_each_obstacle_has_its_own_mend():
    """The advice names the very setting that stands in the way."""

    def advice(**changes):
        return mend("user namespaces", dataclasses.replace(BARE, **changes))

    assert "apparmor_restrict_unprivileged_userns=0" in advice(
        settings={"kernel.apparmor_restrict_unprivileged_userns": "1", "user.max_user_namespaces": "63000"}
    )
    assert "unprivileged_userns_clone=1" in advice(settings={"kernel.unprivileged_userns_clone": "0"})
    assert "max_user_namespaces=" in advice(settings={"user.max_user_namespaces": "0"})
    assert "--security-opt" in advice(in_container=True)
    assert "--security-opt" in advice(is_filtered=True)
    assert "CONFIG_USER_NS" in advice()


def test_a_masked_proc_asks_for_its_own_mend():
    """A container that allows namespaces but hides /proc is told of systempaths."""
    masked = dataclasses.replace(GOOD, proc_mount=False, in_container=True)
    assert "systempaths=unconfined" in mend("/proc of its own", masked)


def test_a_kernel_without_landlock_is_told_why():
    """An old kernel must be replaced, a new one told to switch Landlock on."""
    assert "5.13" in mend("Landlock", dataclasses.replace(BARE, kernel="5.4.0-150-generic"))
    assert "lsm=" in mend("Landlock", dataclasses.replace(BARE, kernel="6.1.0-13-amd64"))
    assert "filter" in mend("Landlock", dataclasses.replace(BARE, kernel="6.1.0", in_container=True))


def test_every_finding_is_complete():
    """What works needs no mend, what does not has one, and each says what was seen."""
    for features in (GOOD, BARE, dataclasses.replace(BARE, machine="riscv64", seccomp=False, pidfd=False)):
        for finding in features.findings():
            assert finding.detail
            assert bool(finding.mend) != finding.ok
