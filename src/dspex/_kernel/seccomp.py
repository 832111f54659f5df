"""The system calls that a guest may make, as a filter that the kernel runs (seccomp(2)).

Theory of operation
-------------------
A filter is a program of a small machine (classic BPF): one accumulator, loads from `struct seccomp_data`
(number, architecture, six arguments), comparisons that jump forward only, and a return of the action. It
reads the arguments as numbers and cannot follow a pointer. Hence the two kinds of rule below: a call is
allowed whatever its arguments are, or by what the words of its arguments hold. A call whose danger lies
behind a pointer is refused (sendmsg), or declared missing so that the C library takes the older call whose
flags can be read (clone3, then clone).

This is an allow list: what is not named is refused. Refused calls fail and do not kill, because programs try
things (a library that probes for a feature must get its fallback); only a call by another door, 32-bit or
x32, where the numbers mean other calls, kills. Calls known and refused give EPERM. Numbers that the tables
do not know give ENOSYS, as from a kernel that is older than they are: C libraries fall back from that, and
only that.

Arguments are 64-bit words. Where the kernel takes an int (a command, a family, a pid) it drops the upper
half, so the lower half alone is compared and the upper half cannot deceive; where it takes a pointer, both
are.

Shape of the program: check the architecture, then a binary search over the ranges of numbers that share a
verdict (one number that stands alone within a range is an exception, and costs one comparison where a range
of its own would cost two), then the argument checks. The search keeps every call to about ten steps. That
matters twice: at run time, and at installation, when the kernel (5.11 and later) tries every number once to
find those that are allowed without a look at their arguments, and lets these pass from then on without
running the program.

All jumps lead forward, so the program is built from its end: what an instruction jumps to exists already and
its distance is known. A distance beyond the eight bits of a conditional jump gets a stepping stone.
"""

from __future__ import annotations

import ctypes
import errno
import struct
from typing import TYPE_CHECKING, Final, NamedTuple

from dspex._kernel.syscalls import MACHINE, NUMBERS, checked, libc
from dspex._kernel.tables import AARCH64, X86_64

if TYPE_CHECKING:
    from collections.abc import Mapping

KILL: Final = 0x80000000
ALLOW: Final = 0x7FFF0000
REFUSE: Final = 0x00050000 | errno.EPERM
MISSING: Final = 0x00050000 | errno.ENOSYS
ASK: Final = 0x7FC00000  # whoever holds the listener decides (see gates)
DONE: Final = 0x00050000  # the call is not made, and says that it succeeded

ARCHITECTURES: Final = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
INSTRUCTION: Final = struct.Struct("=HBBI")  # struct sock_filter: code, jump if true, jump if false, constant

_CONSTANT: Final = struct.Struct("=I")
_HEADER: Final = struct.Struct("@HP")  # struct sock_fprog: number of instructions, address of the first
_SYSCALL: Final = libc().syscall

# Above pid_max of every kernel: a program whose pid was never filled in lets nobody be signalled.
_PID_PLACEHOLDER: Final = 0x7EADF1D5
_X32_BIT: Final = 0x40000000
_FULL: Final = 0xFFFFFFFF


class Rules(NamedTuple):
    """What a guest may do beyond computing on what it has.

    `subprocesses` allows fork and exec, `executes` exec alone, `narrows` a filter over this one; `sockets` allows to connect
    over TCP; `only_own_pid` binds signals to the process itself, for guests that have no PID namespace of their own;
    `metadata` allows to change modes, owners and times of files, for guests whose mounts show only files that may be
    changed; `branching` lets through what a branch needs at its birth, for processes that stand under the `gates` besides.
    """

    threads: bool = True
    subprocesses: bool = False
    executes: bool = False
    narrows: bool = False
    sockets: bool = False
    only_own_pid: bool = False
    metadata: bool = True
    branching: bool = False


class Test(NamedTuple):
    """True when word `word` of the arguments (two for each, the lower half first) under `mask` is in `values`."""

    word: int
    mask: int
    values: tuple[int, ...]


class Check(NamedTuple):
    """`verdict` when all `tests` hold, else `otherwise`."""

    tests: tuple[Test, ...]
    otherwise: int | Check = REFUSE
    verdict: int = ALLOW


if TYPE_CHECKING:
    _Verdict = int | Check


class _Range(NamedTuple):
    """All numbers from `first` to the next range have `verdict`, but for the `exceptions`."""

    first: int
    verdict: _Verdict
    exceptions: dict[int, _Verdict]


# ------------------------------------------------------------------------------------------------ the lists

# Harmless whatever the arguments are: they touch only the caller's own memory, threads, timers and
# descriptors, or files that the mounts and Landlock have already judged, and what they use up is counted by
# a limit.
ALLOWED: Final = """
    read write readv writev pread64 pwrite64 preadv pwritev preadv2 pwritev2 lseek close close_range dup dup2
    dup3 open openat openat2 creat pipe pipe2 fsync fdatasync sync_file_range fadvise64 readahead
    fallocate truncate ftruncate copy_file_range umask
    stat fstat lstat newfstatat statx statfs fstatfs access faccessat faccessat2 readlink readlinkat
    getdents getdents64 getcwd chdir fchdir rename renameat renameat2 mkdir mkdirat rmdir unlink unlinkat
    link linkat symlink symlinkat getxattr lgetxattr fgetxattr getxattrat listxattr llistxattr flistxattr
    listxattrat file_getattr
    mmap mprotect munmap mremap brk msync mincore madvise mlock mlock2 munlock mlockall munlockall mseal
    pkey_alloc pkey_free pkey_mprotect map_shadow_stack membarrier
    poll ppoll select pselect6 epoll_create epoll_create1 epoll_ctl epoll_wait epoll_pwait epoll_pwait2
    eventfd eventfd2 signalfd signalfd4 timerfd_create timerfd_settime timerfd_gettime
    futex futex_waitv futex_wake futex_wait futex_requeue set_robust_list set_tid_address rseq arch_prctl
    restart_syscall sched_yield sched_getaffinity sched_getparam sched_getscheduler sched_getattr
    sched_get_priority_max sched_get_priority_min sched_rr_get_interval getpriority ioprio_get
    rt_sigaction rt_sigprocmask rt_sigreturn rt_sigpending rt_sigtimedwait rt_sigsuspend sigaltstack pause
    nanosleep clock_nanosleep clock_gettime clock_getres gettimeofday time times getitimer setitimer alarm
    timer_create timer_settime timer_gettime timer_getoverrun timer_delete
    getpid gettid getppid getuid geteuid getgid getegid getresuid getresgid getgroups getpgrp getpgid getsid
    setpgid setsid capget uname sysinfo getcpu getrandom getrusage getrlimit
    wait4 waitid exit exit_group
    recvfrom recvmsg recvmmsg getsockname getpeername getsockopt shutdown
"""

# Each group names the leak that its refusal closes. Names that a rule below opens or narrows appear here too:
# this is what holds when the rule is off.
REFUSED: Final = {
    # CLONE_NEWUSER would give every capability back, in a namespace of the guest's own making; mounts would
    # show what the tree hides; a handle opens an inode without walking a path that Landlock could judge.
    "namespaces, mounts and roots": """
        unshare setns mount umount2 pivot_root chroot open_tree open_tree_attr move_mount mount_setattr
        fsopen fsconfig fsmount fspick statmount listmount listns name_to_handle_at open_by_handle_at
        quotactl quotactl_fd swapon swapoff acct
    """,
    # A process outside the limits and after the deadline; a program that was not preloaded.
    "processes and programs": "fork vfork execve execveat clone uselib",
    # Another process's memory, registers, descriptors or secrets; a pidfd also signals across PID namespaces.
    "other processes": """
        ptrace process_vm_readv process_vm_writev process_madvise process_mrelease kcmp
        pidfd_open pidfd_getfd pidfd_send_signal get_robust_list migrate_pages move_pages
    """,
    "signals": "kill tkill tgkill rt_sigqueueinfo rt_tgsigqueueinfo",
    # Pages that belong to an object and not to a mapping: no rlimit and no process's resident size counts
    # them.
    "memory that nobody counts": """
        memfd_create memfd_secret shmget shmat shmctl shmdt semget semop semtimedop semctl
        msgget msgsnd msgrcv msgctl mq_open mq_unlink mq_timedsend mq_timedreceive mq_notify mq_getsetattr
    """,
    # These put page references into pipes and socket buffers: one byte may pin a page that its file has
    # forgotten.
    "pages in pipes": "splice tee vmsplice sendfile",
    # Talk with other guests over the shared network namespace, or with the world. An unconnected unix
    # datagram socket needs no socket(): bind, connect and an address in sendto turn one half of a socketpair
    # into it.
    "sockets": "socket bind connect listen accept accept4",
    # Descriptors in flight keep their files and pipes alive outside every count; larger buffers hold more
    # memory.
    "descriptors in flight": "sendmsg sendmmsg setsockopt",
    # Large kernel surfaces with a record of holes, or views into the kernel.
    "kernel surfaces": """
        bpf io_uring_setup io_uring_enter io_uring_register perf_event_open userfaultfd
        keyctl add_key request_key io_setup io_destroy io_getevents io_pgetevents io_submit io_cancel
        fanotify_init fanotify_mark inotify_init inotify_init1 inotify_add_watch inotify_rm_watch
        kexec_load kexec_file_load init_module finit_module delete_module create_module get_kernel_syms
        query_module syslog lookup_dcookie nfsservctl _sysctl sysfs ustat cachestat uretprobe uprobe
        remap_file_pages modify_ldt set_thread_area get_thread_area iopl ioperm vhangup
        lsm_get_self_attr lsm_set_self_attr lsm_list_modules
        epoll_ctl_old epoll_wait_old vserver security tuxcall afs_syscall getpmsg putpmsg
    """,
    # More confinement is not needed and a second filter could not loosen the first, but both allocate.
    "confinement itself": "seccomp landlock_create_ruleset landlock_add_rule landlock_restrict_self",
    # Leave the identity and the limits that the sandbox gave; files owned by others, devices, and attributes,
    # which on a tmpfs are memory beyond its size.
    "identity": """
        setuid setgid setreuid setregid setresuid setresgid setfsuid setfsgid setgroups capset
        setrlimit prlimit64 personality prctl mknod mknodat setxattr lsetxattr fsetxattr setxattrat
        removexattr lremovexattr fremovexattr removexattrat file_setattr
    """,
    # Landlock knows no right for these: where its rules alone keep the files, a guest that has its host's user could
    # change the mode, the group and the times of every file of that user's.
    "modes, owners and times": """
        chmod fchmod fchmodat fchmodat2 chown fchown lchown fchownat utime utimes futimesat utimensat
    """,
    # Take time from the neighbours: a higher priority, another core's share, a flush of every disk of the
    # host.
    "the host's time": """
        setpriority ioprio_set sched_setparam sched_setscheduler sched_setattr sched_setaffinity
        mbind set_mempolicy set_mempolicy_home_node sync syncfs
    """,
    # The clocks, names and power of the machine.
    "the machine": """
        settimeofday clock_settime clock_adjtime adjtimex sethostname setdomainname reboot
    """,
    # Locks on a file that two guests may read (the standard library's) are a way to meet, and memory of the kernel's
    # that no limit counts. One process alone needs none: see `_locks`.
    "locks": "flock",
    # One call with many commands; those that are needed are named below.
    "commands": "ioctl fcntl socketpair sendto",
}

# Missing, so that callers take their older way: clone3 has its flags behind a pointer, and the C library
# then uses clone; without get_mempolicy numeric libraries take the machine for one node.
ABSENT: Final = "clone3 get_mempolicy"

_NEW_NAMESPACES: Final = 0x7E020080
_NEW_MOUNTS: Final = 0x00020000
_CLONE_THREAD: Final = 0x00010000
_CLONE_PARENT: Final = 0x00008000  # a child that is its parent's sibling would leave the tree that is watched

# FIONREAD FIONBIO FIONCLEX FIOCLEX TCGETS TCGETS2 TIOCGWINSZ TIOCGPGRP: ask and set one's own descriptors.
# Never TIOCSTI and TIOCLINUX, which type into the terminal of whoever started the host, nor FIOASYNC and
# FIOSETOWN.
_IOCTLS: Final = (0x541B, 0x5421, 0x5450, 0x5451, 0x5401, 0x802C542A, 0x5413, 0x540F)

# F_DUPFD GETFD SETFD GETFL SETFL GETLK F_DUPFD_CLOEXEC, F_GETPIPE_SZ, F_GET_SEALS. Not F_SETPIPE_SZ (1 MiB
# of pages for each pipe), not F_SETOWN, F_SETSIG, F_SETLEASE and F_NOTIFY (signals to others), not
# F_ADD_SEALS (a file that the host has lent).
_FCNTLS: Final = (0, 1, 2, 3, 4, 5, 1030, 1032, 1034)
_SET_LOCK: Final = (6, 7)  # F_SETLK, F_SETLKW
_OPEN_FILE_LOCKS: Final = (36, 37, 38)  # F_OFD_GETLK, F_OFD_SETLK, F_OFD_SETLKW

# Names of threads and of mappings; questions about dumpable, the bounding set, no_new_privs, huge pages and
# vector lengths. Not dumpable itself (ptrace), nor the death signal, the subreaper, seccomp, the memory map.
_PRCTLS: Final = (3, 15, 16, 23, 39, 42, 51, 0x53564D41)

_AF_UNIX, _AF_INET, _AF_INET6 = 1, 2, 10
_STREAM, _SEQPACKET, _SOCKET_TYPE = 1, 5, 0xF
_TCP: Final = 6

# By level, options that clients set and that take no memory: SOL_SOCKET (reuse, keep alive, linger, timeouts in their
# old and new form), TCP (no delay, keep alive, user timeout), IPV6 (v6 only). Not the sizes of buffers, not fast open
# (a connect by another door), not TCP_ULP (TLS in the kernel).
_OPTIONS: Final = {1: (2, 9, 13, 20, 21, 66, 67), _TCP: (1, 4, 5, 6, 18), 41: (26,)}


def _is(argument: int, *values: int, mask: int = _FULL) -> Test:
    return Test(2 * argument, mask, values)


def _null(argument: int) -> tuple[Test, Test]:
    return Test(2 * argument, _FULL, (0,)), Test(2 * argument + 1, _FULL, (0,))


_COMMANDS: Final = {
    "ioctl": Check((_is(1, *_IOCTLS),)),
    "prctl": Check((_is(0, *_PRCTLS),)),
    # Read one's own limits; set none.
    "prlimit64": Check((_is(0, 0), *_null(2))),
    "personality": Check((_is(0, _FULL),)),
    "sched_setaffinity": Check((_is(0, 0),)),
    # A pair talks only with itself. Datagram pairs can be pointed at others, so they count as sockets.
    "socketpair": Check((_is(0, _AF_UNIX), _is(1, _STREAM, _SEQPACKET, mask=_SOCKET_TYPE))),
    "sendto": Check(_null(4)),
}


def verdicts(rules: Rules) -> dict[str, _Verdict]:
    """What becomes of every call that the lists name: an action, or a check of its arguments."""
    return {
        **dict.fromkeys((name for group in REFUSED.values() for name in group.split()), REFUSE),
        **dict.fromkeys(ABSENT.split(), MISSING),
        **dict.fromkeys(ALLOWED.split(), ALLOW),
        **_COMMANDS,
        **_signals(rules),
        **_processes(rules),
        **_locks(rules),
        **(_BRANCHING if rules.branching else {}),
        **(dict.fromkeys(REFUSED["modes, owners and times"].split(), ALLOW) if rules.metadata else {}),
        **(_sockets() if rules.sockets else {}),
    }


def _signals(rules: Rules) -> dict[str, _Verdict]:
    if not rules.only_own_pid:
        return dict.fromkeys(REFUSED["signals"].split(), ALLOW)
    # tkill names a thread of anybody; the others name the process first. 0 and negative numbers are groups.
    own = Check((_is(0, _PID_PLACEHOLDER),))
    return dict.fromkeys(("kill", "tgkill", "rt_sigqueueinfo", "rt_tgsigqueueinfo"), own)


def _processes(rules: Rules) -> dict[str, _Verdict]:
    wanted = ((_CLONE_THREAD,) if rules.threads else ()) + ((0,) if rules.subprocesses or rules.branching else ())
    wanted += (_CLONE_PARENT,) if rules.branching else ()  # a branch is its warden's child, who hears how it ends
    mask = _NEW_NAMESPACES | _CLONE_PARENT | _CLONE_THREAD
    clone = {"clone": Check((_is(0, *wanted, mask=mask),))} if wanted else {}
    programs: tuple[str, ...] = ("fork", "vfork") if rules.subprocesses else ()
    programs += ("execve", "execveat") if rules.subprocesses or rules.executes else ()
    programs += ("seccomp",) if rules.narrows else ()
    return {**clone, **dict.fromkeys(programs, ALLOW)}


# A copy of the process, then its own view of the files: the capabilities for that, and the call itself.
_BRANCHING: Final[dict[str, _Verdict]] = {"capset": ALLOW, "setns": Check((_is(1, _NEW_MOUNTS),))}


def gates(machine: str = MACHINE) -> bytes:
    """The filter in front of the filter of a guest that can be branched: what its warden decides upon.

    Its copies, what these need to get a view of their own of the files, and every signal: they share one PID namespace, and a
    branch must not end its siblings. Nor leave its process group, with which its unfinished copies are ended.
    """
    copy = Check((_is(0, 0, mask=_NEW_NAMESPACES | _CLONE_THREAD),), ALLOW, ASK)
    asked = dict.fromkeys((*REFUSED["signals"].split(), "capset", "setns", "setpgid", "setsid", "fork", "vfork"), ASK)
    return program({**asked, "clone": copy}, ALLOW, machine)


def narrowing(machine: str = MACHINE) -> bytes:
    """The filter over the filter of a guest that has made its program: no process is started any more, no filter added.

    It is short, for it stands over another: what that refuses stays refused.
    """
    threads = Check((_is(0, _CLONE_THREAD, mask=_NEW_NAMESPACES | _CLONE_PARENT | _CLONE_THREAD),))
    return program({**dict.fromkeys(("fork", "vfork", "seccomp"), REFUSE), "clone": threads}, ALLOW, machine)


def _locks(rules: Rules) -> dict[str, _Verdict]:
    if rules.subprocesses:
        return {"flock": ALLOW, "fcntl": Check((_is(1, *_FCNTLS, *_SET_LOCK, *_OPEN_FILE_LOCKS),))}
    # Locks of fcntl never stand between the threads of one process: it has what it asks for, and none is kept. flock does
    # stand between two openings of a file, so it says that it is missing, which is where libraries do without.
    return {"flock": MISSING, "fcntl": Check((_is(1, *_SET_LOCK),), Check((_is(1, *_FCNTLS),)), DONE)}


def _sockets() -> dict[str, _Verdict]:
    """A client over TCP: nothing is bound, listened on or sent to an address, so that processes that share a network
    cannot meet there. Not unix, netlink, packet, alg; not vsock, which no namespace bounds: it reaches the hypervisor.
    """
    client = Check((_is(0, _AF_INET, _AF_INET6), _is(1, _STREAM, mask=_SOCKET_TYPE), _is(2, 0, _TCP)))
    options: _Verdict = REFUSE
    for level, names in _OPTIONS.items():
        options = Check((_is(1, level), _is(2, *names)), options)
    return {"socket": client, "connect": ALLOW, "setsockopt": options}


# ---------------------------------------------------------------------------------------------- the programs


def assemble(rules: Rules, machine: str = MACHINE) -> bytes:
    """The filter for `rules` on `machine` (`x86_64` or `aarch64`), as an array of struct sock_filter.

    With `rules.only_own_pid` the process must still be named by `for_pid`; until then nobody can be
    signalled.
    """
    return program(verdicts(rules), MISSING, machine)


def program(verdicts: Mapping[str, _Verdict], default: int, machine: str = MACHINE) -> bytes:
    """A filter that gives each named call its verdict and all other numbers `default`.

    Names that `machine` does not have are passed over. `KeyError` when the machine is not known.
    """
    architecture = ARCHITECTURES[machine]
    numbers = AARCH64 if machine == "aarch64" else X86_64
    known = {numbers[name]: verdict for name, verdict in verdicts.items() if name in numbers}
    ranges = _ranges(known, default)
    if machine == "x86_64":
        ranges.append(_Range(_X32_BIT, KILL, {}))
    code = _Assembler()
    search = code.load(_NUMBER, code.search(ranges))
    code.load(_ARCHITECTURE, code.branch(_EQUAL, architecture, search, code.verdict(KILL)))
    return code.finish()


def for_pid(program: bytes, pid: int) -> bytes:
    """`program` with `pid` as the one process that it lets be signalled; other programs come back as they are."""
    return program.replace(_CONSTANT.pack(_PID_PLACEHOLDER), _CONSTANT.pack(pid))


class Filter:
    """A program laid out for the kernel ahead of need, in the process that forks.

    Whatever a child builds or first looks up after its fork costs it page faults: made ready here, installing is
    one call on objects that exist, and takes a third of the time of `install`.
    """

    def __init__(self, program: bytes) -> None:
        self._program = ctypes.create_string_buffer(program, len(program))
        address = ctypes.addressof(self._program)
        header = ctypes.create_string_buffer(_HEADER.pack(len(program) // INSTRUCTION.size, address))
        number, operation, flags = map(ctypes.c_long, (NUMBERS["seccomp"], _SET_MODE_FILTER, _ALL_THREADS))
        self._arguments = (number, operation, flags, header)
        constants = [constant for *_, constant in INSTRUCTION.iter_unpack(program)]
        self._pids = [INSTRUCTION.size * i + 4 for i, c in enumerate(constants) if c == _PID_PLACEHOLDER]

    def install(self, pid: int | None = None) -> None:
        """Put this process, all its threads and all its future children under the program, for good.

        `pid` becomes the one process that an `only_own_pid` program lets be signalled; for others it means nothing.
        The caller has set no_new_privs. `OSError` when the kernel refuses, or a thread cannot follow.
        """
        if pid is not None:
            for offset in self._pids:
                _CONSTANT.pack_into(self._program, offset, pid)
        if checked(_SYSCALL(*self._arguments), "seccomp") != 0:
            raise OSError(errno.EBUSY, "seccomp: a thread is under another filter")


def install(program: bytes) -> None:
    """`Filter(program).install()`, for a process that installs what it has just made."""
    Filter(program).install()


def _ranges(known: Mapping[int, _Verdict], default: _Verdict) -> list[_Range]:
    """The numbers in order, as ranges of one verdict with a few exceptions; the last range has no end."""
    ranges: list[_Range] = []
    for number in range(max(known) + 2):
        verdict = known.get(number, default)
        if not ranges or ranges[-1].verdict != verdict:
            ranges.append(_Range(number, verdict, {}))
            _absorb(ranges, number)
    return ranges


def _absorb(ranges: list[_Range], number: int) -> None:
    """When `number` goes on with what one single number interrupted, make that one an exception."""
    if len(ranges) < 3:
        return
    before, single, now = ranges[-3:]
    alone = single.first == number - 1 and not single.exceptions
    if alone and before.verdict == now.verdict and len(before.exceptions) < _MOST_EXCEPTIONS:
        before.exceptions[single.first] = single.verdict
        del ranges[-2:]


_SET_MODE_FILTER: Final = 1
_ALL_THREADS: Final = 1  # SECCOMP_FILTER_FLAG_TSYNC: a thread left outside would be the way out

_LOAD: Final = 0x20  # BPF_LD | BPF_W | BPF_ABS
_AND: Final = 0x54  # BPF_ALU | BPF_AND | BPF_K
_JUMP: Final = 0x05  # BPF_JMP | BPF_JA
_EQUAL: Final = 0x15  # BPF_JMP | BPF_JEQ | BPF_K
_AT_LEAST: Final = 0x35  # BPF_JMP | BPF_JGE | BPF_K
_RETURN: Final = 0x06  # BPF_RET | BPF_K

_NUMBER: Final = 0  # offsets in struct seccomp_data
_ARCHITECTURE: Final = 4
_ARGUMENTS: Final = 16

_MOST_EXCEPTIONS: Final = 3
_REACH: Final = 250  # of a conditional jump, less what stepping stones may come between


class _Assembler:
    """A program built from its end; a place is an instruction's distance from the end, so it never moves."""

    def __init__(self) -> None:
        self._code: list[tuple[int, int, int, int]] = []
        self._verdicts: dict[int | Check, int] = {}

    def finish(self) -> bytes:
        return b"".join(INSTRUCTION.pack(*instruction) for instruction in reversed(self._code))

    def search(self, ranges: list[_Range]) -> int:
        """Find the range that holds the number in the accumulator, then look for it among the exceptions."""
        if len(ranges) == 1:
            return self._among(ranges[0])
        middle = len(ranges) // 2
        upper = self.search(ranges[middle:])
        return self.branch(_AT_LEAST, ranges[middle].first, upper, self.search(ranges[:middle]))

    def _among(self, numbers: _Range) -> int:
        place = self.verdict(numbers.verdict)
        for number, verdict in numbers.exceptions.items():
            place = self.branch(_EQUAL, number, self.verdict(verdict), place)
        return place

    def verdict(self, verdict: _Verdict) -> int:
        if verdict not in self._verdicts:
            place = self._check(verdict) if isinstance(verdict, Check) else self._emit(_RETURN, verdict)
            self._verdicts[verdict] = place
        return self._verdicts[verdict]

    def load(self, offset: int, then: int) -> int:
        self._next_is(then)
        return self._emit(_LOAD, offset)

    def branch(self, test: int, constant: int, then: int, otherwise: int) -> int:
        then, otherwise = self._within_reach(then), self._within_reach(otherwise)
        here = len(self._code)
        return self._emit(test, constant, here - then - 1, here - otherwise - 1)

    def _check(self, check: Check) -> int:
        place, failed = self.verdict(check.verdict), self.verdict(check.otherwise)
        for test in reversed(check.tests):
            place = self._test(test, place, failed)
        return place

    def _test(self, test: Test, passed: int, failed: int) -> int:
        place = failed
        for value in test.values:
            place = self.branch(_EQUAL, value, passed, place)
        if test.mask != _FULL:
            place = self._emit(_AND, test.mask)
        return self.load(_ARGUMENTS + 4 * test.word, place)

    def _emit(self, code: int, constant: int, then: int = 0, otherwise: int = 0) -> int:
        self._code.append((code, then, otherwise, constant))
        return len(self._code) - 1

    def _next_is(self, place: int) -> None:
        if place != len(self._code) - 1:
            self._stone(place)

    def _within_reach(self, place: int) -> int:
        return place if len(self._code) - place <= _REACH else self._stone(place)

    def _stone(self, place: int) -> int:
        code, _, _, constant = self._code[place]
        if code == _RETURN:
            return self._emit(_RETURN, constant)
        return self._emit(_JUMP, len(self._code) - place - 1)
