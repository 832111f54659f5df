"""Wall this process in: one short ordered list of steps, run once in each guest, irreversible.

Theory of operation. `STEPS` is the whole story; read it top to bottom. The order matters:

  1. namespaces   own mounts and IPC, while the zygote's user namespace still grants the right to
  2. network      where the policy names one: a network that is its own loopback, and listeners there for the host
  3. files        an empty tmpfs to work in and the /proc of the own PID namespace
  4. user         a user namespace of its own: no capability over anything above it, its own process count
  5. rlimits      before seccomp, which refuses to change them
  6. credentials  no capability, no way to regain one
  7. landlock     files by path, once more, for the day when a mount was forgotten
  8. hello        the channel, the pidfd, the output files and the listeners go to the host
  9. descriptors  everything but the channel, stdout and stderr is closed
  10. seccomp     last, for it refuses most of the calls above

The PID namespace is made by the zygote just before the fork. Each step is a layer of its own with a test that fails
without it (`tests/escapes`), which is why a layer can be left out by name: `Isolation(without=...)`.

The guest of a session is born in two parts, for it may be copied later (see `warden`): its warden takes `WARDEN_STEPS`, forks
it, and it takes `SESSION_STEPS`, which differ in three places. Two capabilities stay, asleep; the gates come in front
of seccomp; and its memory is hidden, for its branches will be its neighbours in one PID namespace.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final, NamedTuple

from dspex._kernel import gates, landlock, mounts, namespaces, network, processes, resources, seccomp

if TYPE_CHECKING:
    import _socket
    from collections.abc import Callable

    Steps = tuple[tuple[str, Callable[["Birth"], None], tuple[str, ...]], ...]

SANDBOX_ROOT: Final = "/run/sandbox"
KERNEL: Final = "/kernel"  # holds the mount point of /proc, a link to it
GUEST_ID: Final = 1000
PENDING_SIGNALS: Final = 1024  # queued signals and timers, each a piece of the kernel's memory
SOCKET_BUFFER: Final = 208 << 10  # bytes each way, as of other sockets


class FileRules(NamedTuple):
    """What Landlock opens, worked out once: a ruleset to share, or the descriptors to make one for each guest from.

    A rule covers what is mounted later beneath its directory, but not what is mounted on the directory itself. So at level
    `namespaces`, where a guest's own tmpfs and /proc come later, rules for their parents do, and one ruleset serves all.
    At the other levels each guest has a directory of its own, which its siblings must not reach.
    """

    shared: landlock.Ruleset | None
    readable: tuple[int, ...] = ()
    writable: tuple[int, ...] = ()

    @classmethod
    def plan(cls, level: str, readable: list[str], writable: list[str], ports: tuple[int, ...] = ()) -> FileRules:
        """Rules for reading (and executing) and for writing beneath these paths; `ports` may be connected to."""
        if level == "namespaces":
            paths = _opened([*readable, KERNEL]), _opened([*writable, os.path.dirname(SANDBOX_ROOT)])
            ruleset = _ruleset(*paths)
            for port in ports:
                ruleset.allow_connect(port)
            return cls(ruleset)
        return cls(None, _opened(readable), _opened(writable))


def _opened(paths: list[str]) -> tuple[int, ...]:
    return tuple(os.open(path, os.O_PATH | os.O_CLOEXEC) for path in paths if os.path.exists(path))


def _ruleset(readable: tuple[int, ...], writable: tuple[int, ...]) -> landlock.Ruleset:
    ruleset = landlock.Ruleset.create()
    for descriptor in readable:
        ruleset.allow_read_execute(descriptor)
    for descriptor in writable:
        ruleset.allow_write(descriptor)
    return ruleset


class Walls(NamedTuple):
    """What every guest of one zygote is confined with, worked out once."""

    level: str  # "namespaces", "landlock" or "wasm"
    without: frozenset[str]  # layers left out on request
    heap: int  # bytes of address space for RLIMIT_AS, or of private memory for RLIMIT_DATA, the ready guest's own included
    cpu: int  # seconds for RLIMIT_CPU
    processes: int
    open_files: int
    disk: int  # bytes of the tmpfs
    subprocesses: bool
    rules: FileRules
    filter: seccomp.Filter
    branches: int = 0  # copies of a session's guest that may live at once
    reserves: bool = False  # the runtime reserves far more address space than it uses: RLIMIT_DATA bounds it
    ports: tuple[int, ...] = ()  # where the host serves a network; none without one


class Birth(NamedTuple):
    """What is of one guest alone while it is being confined."""

    walls: Walls
    directory: str  # where it works: the tmpfs, or a directory of its own at the other levels
    keep: tuple[int, ...]  # descriptors that stay open
    hello: Callable[[], None]
    give_listener: Callable[[int], None] | None = None  # to the warden of a session's guest
    network: Callable[[list[_socket.socket]], None] | None = None  # takes the listeners, for the hello


def confine(birth: Birth, steps: Steps | None = None) -> None:
    """Run the steps; the process is a guest when this returns. `OSError` names the step that failed."""
    for name, step, levels in steps or STEPS:
        if birth.walls.level in levels and name not in birth.walls.without:
            try:
                step(birth)
            except OSError as error:
                raise OSError(error.errno, f"step {name}: {error.strerror or error}") from error


def _own_namespaces(birth: Birth) -> None:
    ipc = 0 if "ipc" in birth.walls.without else namespaces.IPC
    namespaces.unshare(namespaces.MOUNT | ipc)


def _own_network(birth: Birth) -> None:
    if birth.network is None:
        return
    namespaces.unshare(namespaces.NETWORK)
    network.loopback_up()
    network.everything_is_local()
    network.bound_buffers(SOCKET_BUFFER)
    birth.network(network.listeners(birth.walls.ports))


def _own_files(birth: Birth) -> None:
    walls = birth.walls
    mount_disk(walls)
    if "pid" not in walls.without and "proc" not in walls.without:
        mounts.proc("/proc")


def mount_disk(walls: Walls, *, instead: bool = False) -> None:
    """The tmpfs that a guest works in, empty; `instead` of the one that is there."""
    if instead:
        mounts.unmount(SANDBOX_ROOT)
    # One inode costs about a kilobyte of kernel memory: files are bounded along with bytes.
    mounts.tmpfs(SANDBOX_ROOT, size=walls.disk, inodes=max(64, walls.disk // 4096), noexec=not walls.subprocesses)


def _proc_of_ones_own(birth: Birth) -> None:
    mounts.proc("/proc", own_only=True)


def _own_user(birth: Birth) -> None:
    namespaces.unshare(namespaces.USER)
    namespaces.write_maps(f"{GUEST_ID} 0 1", f"{GUEST_ID} 0 1")


def _working_directory(birth: Birth) -> None:
    for name in ("work", "tmp"):
        os.mkdir(f"{birth.directory}/{name}", 0o700)
    os.chdir(f"{birth.directory}/work")


def _own_views(birth: Birth) -> None:
    # A second mount namespace, now of the user namespace that the session's processes are in: what is mounted in this one
    # and its copies can be taken away again.
    namespaces.unshare(namespaces.MOUNT)
    mount_disk(birth.walls)


def _rlimits(birth: Birth) -> None:
    walls = birth.walls
    resources.set_limits(
        core=0,
        **{"data" if walls.reserves else "address_space": walls.heap},
        file_size=walls.disk,
        open_files=walls.open_files,
        locked=0,
        message_queues=0,
        pending_signals=PENDING_SIGNALS,
    )
    # A signal at the limit, every second. It has no hard end, for a session is given more for each call, and only a
    # hard limit out of the way lets an ordinary user's host do that; a program that ignores it meets the keeper.
    resources.allow_cpu(0, walls.cpu)
    if walls.level == "namespaces" and "user" not in walls.without:
        resources.set_limits(processes=walls.processes)


def _session_rlimits(birth: Birth) -> None:
    # Branches count together, and the warden among them. It raises the soft limit along with their number.
    walls = birth.walls
    _rlimits(birth._replace(walls=walls._replace(processes=walls.processes + 1 + walls.branches)))
    resources.allow_processes(0, walls.processes + 1)


def _credentials(birth: Birth) -> None:
    # With no_new_privs an execve grants nothing, whatever the bounding set holds; emptying it too would cost more than
    # all other steps together.
    processes.forbid_new_privileges()
    processes.drop_capabilities()


def _sleeping_credentials(birth: Birth) -> None:
    processes.forbid_new_privileges()
    processes.keep_capabilities_for_a_view()


def _gates(birth: Birth) -> None:
    assert birth.give_listener is not None  # a guest with gates has a warden
    os.setpgid(0, 0)  # what it will have forked is ended by this group, which it may not leave under the gates
    listener = gates.install(seccomp.gates())
    birth.give_listener(listener)
    os.close(listener)


def _hidden(birth: Birth) -> None:
    processes.hide_memory()


def _landlock(birth: Birth) -> None:
    rules = birth.walls.rules
    ruleset = rules.shared
    if ruleset is None:
        ruleset = _ruleset(rules.readable, rules.writable)
        ruleset.allow_write(birth.directory)
    ruleset.restrict()


def _hello(birth: Birth) -> None:
    birth.hello()


def _descriptors(birth: Birth) -> None:
    processes.close_descriptors(birth.keep)


def _seccomp(birth: Birth) -> None:
    birth.walls.filter.install(os.getpid())


_ALL: Final = ("namespaces", "landlock", "wasm")

STEPS: Final[Steps] = (
    ("mount", _own_namespaces, ("namespaces",)),
    ("network", _own_network, ("namespaces",)),
    ("files", _own_files, ("namespaces",)),
    ("user", _own_user, ("namespaces",)),
    ("work", _working_directory, _ALL),
    ("rlimits", _rlimits, _ALL),
    ("credentials", _credentials, _ALL),
    ("memory", _hidden, ("landlock", "wasm")),
    ("landlock", _landlock, _ALL),
    ("hello", _hello, _ALL),
    ("descriptors", _descriptors, _ALL),
    ("seccomp", _seccomp, _ALL),
)

_HERE: Final = ("namespaces",)

WARDEN_STEPS: Final[Steps] = (
    ("mount", _own_namespaces, _HERE),
    ("network", _own_network, _HERE),
    ("proc", _proc_of_ones_own, _HERE),
    ("user", _own_user, _HERE),
    ("files", _own_views, _HERE),
    ("work", _working_directory, _HERE),
    ("memory", _hidden, _HERE),
)

SESSION_STEPS: Final[Steps] = (
    ("rlimits", _session_rlimits, _HERE),
    ("credentials", _sleeping_credentials, _HERE),
    ("gates", _gates, _HERE),
    ("memory", _hidden, _HERE),
    ("landlock", _landlock, _HERE),
    ("hello", _hello, _HERE),
    ("descriptors", _descriptors, _HERE),
    ("seccomp", _seccomp, _HERE),
)
