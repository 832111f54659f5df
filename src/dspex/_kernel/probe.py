"""What this host offers for isolation, found by trying, and what to do about what it lacks.

Theory of operation
-------------------
Version numbers and settings say what ought to work; containers, security modules and filters decide what does.
So each feature is tried for real, in a process of its own: entering a namespace or a filter cannot be undone.
The process is exec'd, since the caller may have threads, and forks once for each trial.

A namespace trial goes as far as the sandbox will go. Ubuntu's AppArmor rule lets `unshare` succeed and takes the
capabilities away that make it useful; a container hides parts of its /proc, and a new /proc is then refused in a
user namespace. Only a mount shows the one, only a mount of proc the other.
"""

from __future__ import annotations

import os
import platform
import signal
import subprocess
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

from dspex._kernel import cgroups, landlock, mounts, namespaces, seccomp
from dspex._kernel.processes import forbid_new_privileges
from dspex._kernel.syscalls import syscall

if TYPE_CHECKING:
    from collections.abc import Callable

Level = Literal["namespaces", "landlock"]

_SETTINGS: Final = (
    "kernel.apparmor_restrict_unprivileged_userns",
    "kernel.unprivileged_userns_clone",
    "user.max_user_namespaces",
)
_TRIAL_SECONDS: Final = 30
_CHILD: Final = "import sys; sys.path.insert(0, sys.argv[1]); from dspex._kernel import probe; probe.try_all()"
_DOCKER: Final = (
    "docker run --security-opt seccomp=unconfined --security-opt apparmor=unconfined "
    "--security-opt systempaths=unconfined ... (or, weaker for the host, --cap-add SYS_ADMIN)"
)


@dataclass(frozen=True, slots=True)
class Finding:
    """One feature: whether it is there, what was seen, and what brings it when it is not (else empty)."""

    name: str
    ok: bool
    detail: str
    mend: str = ""


@dataclass(frozen=True, slots=True)
class HostFeatures:
    """What was found. `failures` holds the kernel's words for each trial that failed, by the name of its field."""

    kernel: str
    machine: str
    python: str
    user_namespaces: bool
    mount_namespace: bool
    pid_namespace: bool
    proc_mount: bool
    seccomp: bool
    landlock_abi: int
    pidfd: bool
    close_range: bool
    cgroup: cgroups.Delegation | None
    is_root: bool
    in_container: bool
    is_filtered: bool  # by a seccomp filter of whoever started us
    settings: dict[str, str]
    failures: dict[str, str]

    def level(self) -> Level | None:
        """The strongest isolation that this host can enforce; None when it can enforce none that we stand by."""
        if self.machine not in seccomp.ARCHITECTURES or not (self.seccomp and self.pidfd and self.close_range):
            return None
        if self.user_namespaces and self.mount_namespace and self.pid_namespace and self.proc_mount:
            return "namespaces"
        return "landlock" if self.landlock_abi >= 1 else None

    def findings(self) -> tuple[Finding, ...]:
        """Every feature with its state and its mend, the most important first."""
        return (
            self._finding("user namespaces", "user_namespaces", self._mend_user_namespaces),
            self._finding("mount namespace", "mount_namespace", self._mend_user_namespaces),
            self._finding("PID namespace", "pid_namespace", self._mend_user_namespaces),
            self._finding("/proc of its own", "proc_mount", self._mend_proc),
            self._finding("seccomp filter", "seccomp", lambda: "a kernel with CONFIG_SECCOMP_FILTER"),
            self._landlock(),
            self._finding("pidfd", "pidfd", lambda: "Linux 5.3 or later, or a container filter that lets it through"),
            self._finding("close_range", "close_range", lambda: "Linux 5.9 or later"),
            self._machine(),
            self._cgroup(),
        )

    def _finding(self, name: str, field: str, mend: Callable[[], str]) -> Finding:
        if getattr(self, field):
            return Finding(name, True, "works")
        return Finding(name, False, self.failures.get(field, "does not work"), mend())

    def _landlock(self) -> Finding:
        if self.landlock_abi:
            walls = ", ".join(landlock.layers(self.landlock_abi))
            return Finding("Landlock", True, f"ABI {self.landlock_abi}: {walls}")
        return Finding("Landlock", False, f"not offered (Linux {self.kernel})", self._mend_landlock())

    def _machine(self) -> Finding:
        known = self.machine in seccomp.ARCHITECTURES
        return Finding("machine", known, self.machine, "" if known else "run on x86_64 or aarch64")

    def _cgroup(self) -> Finding:
        usable = self.cgroup.controllers if self.cgroup is not None else ()
        if "memory" in usable:
            return Finding("control groups", True, ", ".join(usable))
        detail = f"no memory controller in {self.cgroup.path}" if self.cgroup else "no version 2 tree"
        # Nothing hangs on it: the watchdog over the sandbox's memory is there in any case.
        return Finding("control groups", False, detail, "systemd-run --user --scope -p Delegate=yes COMMAND (optional)")

    def _mend_user_namespaces(self) -> str:
        if self.settings.get("user.max_user_namespaces") == "0":
            return "sudo sysctl -w user.max_user_namespaces=15000"
        if self.settings.get("kernel.unprivileged_userns_clone") == "0" and not self.is_root:
            return "sudo sysctl -w kernel.unprivileged_userns_clone=1"
        restricted = self.settings.get("kernel.apparmor_restrict_unprivileged_userns", "0") != "0"
        if restricted and not self.in_container:
            return "sudo sysctl -w kernel.apparmor_restrict_unprivileged_userns=0"
        if self.in_container or self.is_filtered:
            return _DOCKER
        return "a kernel with CONFIG_USER_NS, and no filter on unshare and mount around this process"

    def _mend_proc(self) -> str:
        return _DOCKER if self.user_namespaces and self.in_container else self._mend_user_namespaces()

    def _mend_landlock(self) -> str:
        if _version(self.kernel) < (5, 13):
            return "Linux 5.13 or later"
        if self.in_container or self.is_filtered:
            return f"a container runtime whose filter lets Landlock through (Docker 23 or later), or {_DOCKER}"
        return "add landlock to the boot parameter lsm= (see /sys/kernel/security/lsm), as lsm=landlock,..."


def probe() -> HostFeatures:
    """Try everything now, in about 50 ms. `OSError` when not even a child process can be started."""
    failures = _failures()
    return HostFeatures(
        kernel=platform.release(),
        machine=platform.machine(),
        python=platform.python_version(),
        user_namespaces="user_namespaces" not in failures,
        mount_namespace="mount_namespace" not in failures,
        pid_namespace="pid_namespace" not in failures,
        proc_mount="proc_mount" not in failures,
        seccomp="seccomp" not in failures,
        landlock_abi=landlock.abi(),
        pidfd="pidfd" not in failures,
        close_range="close_range" not in failures,
        cgroup=cgroups.delegated(),
        is_root=os.geteuid() == 0,
        in_container=_in_container(),
        is_filtered="\nSeccomp:\t2" in _read("/proc/self/status"),
        settings=_settings(),
        failures=failures,
    )


def try_all() -> None:
    """The child's part: print one line for each trial that failed, `name<TAB>why`."""
    for name, trial in _TRIALS.items():
        why = _in_child(trial)
        if why:
            print(f"{name}\t{why}")
    print("done")


# ------------------------------------------------------------------------------------------------ the trials


def _enter_user_namespace(others: int = 0) -> None:
    uid, gid = os.geteuid(), os.getegid()
    namespaces.unshare(namespaces.USER | others)
    namespaces.write_maps(f"0 {uid} 1\n", f"0 {gid} 1\n")


def _try_user_namespaces() -> None:
    _enter_user_namespace()
    # The sandbox gives every guest one more, inside.
    namespaces.unshare(namespaces.USER)


def _try_mount_namespace() -> None:
    _enter_user_namespace(namespaces.MOUNT)
    mounts.make_private()
    mounts.tmpfs("/tmp", size=1 << 20)


def _try_pid_namespace() -> None:
    _enter_user_namespace(namespaces.PID | namespaces.NETWORK | namespaces.IPC | namespaces.UTS)
    _raise(_in_child(lambda: None))


def _try_proc_mount() -> None:
    _enter_user_namespace(namespaces.MOUNT | namespaces.PID)
    mounts.make_private()
    _raise(_in_child(lambda: mounts.proc("/proc")))


def _try_seccomp() -> None:
    forbid_new_privileges()
    seccomp.install(seccomp.program({"reboot": seccomp.REFUSE}, seccomp.ALLOW))


def _try_pidfd() -> None:
    descriptor = os.pidfd_open(os.getpid())
    signal.pidfd_send_signal(descriptor, 0)


def _try_close_range() -> None:
    syscall("close_range", 0x7FFFFFF0, 0x7FFFFFF1, 0)


_TRIALS: Final[dict[str, Callable[[], None]]] = {
    "user_namespaces": _try_user_namespaces,
    "mount_namespace": _try_mount_namespace,
    "pid_namespace": _try_pid_namespace,
    "proc_mount": _try_proc_mount,
    "seccomp": _try_seccomp,
    "pidfd": _try_pidfd,
    "close_range": _try_close_range,
}


def _in_child(trial: Callable[[], None]) -> str:
    """Why `trial` failed in a fork of this process; empty when it did not."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.write(writer, _why(trial).encode(errors="replace"))
        os._exit(0)
    os.close(writer)
    with open(reader, "rb") as file:
        why = file.read().decode(errors="replace")
    _, status = os.waitpid(pid, 0)
    return why or (f"killed by signal {os.WTERMSIG(status)}" if os.WIFSIGNALED(status) else "")


def _why(trial: Callable[[], None]) -> str:
    try:
        trial()
    except Exception as error:  # whatever it is, it is what the caller is told
        return " ".join(str(error).split()) or type(error).__name__
    return ""


def _raise(why: str) -> None:
    if why:
        raise OSError(why)


# ------------------------------------------------------------------------------------------ seen from outside


def _failures() -> dict[str, str]:
    root = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    command = [sys.executable, "-I", "-S", "-c", _CHILD, root]
    done = subprocess.run(command, capture_output=True, text=True, timeout=_TRIAL_SECONDS, check=False)
    lines = done.stdout.splitlines()
    if not lines or lines[-1] != "done":
        raise OSError(f"the trial process ended with {done.returncode}: {done.stderr.strip()[-500:]}")
    return dict(line.split("\t", 1) for line in lines[:-1])


def _settings() -> dict[str, str]:
    found = {}
    for name in _SETTINGS:
        text = _read(f"/proc/sys/{name.replace('.', '/')}").strip()
        if text:
            found[name] = text
    return found


def _in_container() -> bool:
    if os.path.exists("/.dockerenv") or os.path.exists("/run/.containerenv") or "container" in os.environ:
        return True
    return any(word in _read("/proc/1/cgroup") for word in ("docker", "kubepods", "containerd", "lxc"))


def _version(release: str) -> tuple[int, int]:
    major, minor = release.split(".")[:2]
    return int(major), int("".join(c for c in minor if c.isdigit()) or 0)


def _read(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read()
    except OSError:
        return ""  # not there on this kernel, or not for us to see: the same as unknown
