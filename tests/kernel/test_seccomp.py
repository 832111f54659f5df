"""The filter: simulated over all numbers on both machines, and run for real on this one."""

import errno
import itertools
import platform
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest

from dspex._kernel import seccomp
from dspex._kernel.seccomp import ALLOW, INSTRUCTION, KILL, MISSING, REFUSE, Rules
from dspex._kernel.tables import AARCH64, X86_64

SOURCE = str(Path(seccomp.__file__).parents[2])
TABLES = {"x86_64": X86_64, "aarch64": AARCH64}
ALL_RULES = [Rules(*flags) for flags in itertools.product((False, True), repeat=4)]
EVERY_CASE = list(itertools.product(TABLES, ALL_RULES))
I386, ARM = 0x40000003, 0x40000028

_NEVER = """
    unshare setns mount umount2 pivot_root chroot open_tree move_mount mount_setattr fsopen fsmount
    ptrace process_vm_readv process_vm_writev pidfd_open pidfd_getfd pidfd_send_signal kcmp
    bpf io_uring_setup io_uring_enter io_uring_register keyctl add_key request_key perf_event_open userfaultfd
    memfd_create memfd_secret shmget shmat semget msgget mq_open splice tee vmsplice sendfile
    open_by_handle_at name_to_handle_at fanotify_init inotify_init1 quotactl swapon reboot kexec_load
    init_module finit_module iopl ioperm modify_ldt settimeofday clock_settime acct syslog nfsservctl
    lookup_dcookie move_pages migrate_pages mbind set_mempolicy get_mempolicy seccomp landlock_create_ruleset
    setuid setgid setresuid setresgid setgroups capset mknod mknodat setxattr fsetxattr setrlimit clone3
    setpriority ioprio_set sched_setscheduler sched_setattr
"""
NEVER = _NEVER.split()


def simulate(program: bytes, number: int, arguments=(), arch: int | None = None, machine: str = "x86_64"):
    """The action that the kernel would take, and the instructions that it would run for it."""
    arch = seccomp.ARCHITECTURES[machine] if arch is None else arch
    words = [number, arch, 0, 0]
    for argument in (*arguments, 0, 0, 0, 0, 0, 0)[:6]:
        words += [argument & 0xFFFFFFFF, argument >> 32 & 0xFFFFFFFF]
    code = list(INSTRUCTION.iter_unpack(program))
    at = accumulator = steps = 0
    while True:
        operation, if_true, if_false, constant = code[at]
        at += 1
        steps += 1
        if operation == 0x20:
            assert constant % 4 == 0
            accumulator = words[constant // 4]
        elif operation == 0x54:
            accumulator &= constant
        elif operation == 0x05:
            at += constant
        elif operation == 0x15:
            at += if_true if accumulator == constant else if_false
        elif operation == 0x35:
            at += if_true if accumulator >= constant else if_false
        else:
            assert operation == 0x06
            return constant, steps


def action(name, *arguments, rules=Rules(), machine="x86_64"):  # noqa: B008 - immutable
    return simulate(seccomp.assemble(rules, machine), TABLES[machine][name], arguments, machine=machine)[0]


# ----------------------------------------------------------------------------------------------- simulated


@pytest.mark.parametrize(("machine", "rules"), EVERY_CASE)
def test_the_program_does_what_the_lists_say(machine, rules):
    """For every number the search finds the verdict of its name; unknown numbers are missing."""
    program = seccomp.assemble(rules, machine)
    verdicts = {TABLES[machine][n]: v for n, v in seccomp.verdicts(rules).items() if n in TABLES[machine]}
    for number in (*range(1200), 0x3FFFFFFF):
        verdict = verdicts.get(number, MISSING)
        if not isinstance(verdict, seccomp.Check):
            assert simulate(program, number, machine=machine)[0] == verdict


@pytest.mark.parametrize(("machine", "rules"), EVERY_CASE)
def test_what_is_never_allowed_is_allowed_by_no_rules(machine, rules):
    """No flag opens the forbidden calls, whatever their arguments; but for a filter over this one, which only `narrows`."""
    program = seccomp.assemble(rules, machine)
    for name in set(NEVER) - ({"seccomp"} if rules.narrows else set()):
        for value in (0, 1, 2, 10, 0xFFFFFFFF, 0xFFFFFFFFFFFFFFFF):
            if name in TABLES[machine]:
                result, _ = simulate(program, TABLES[machine][name], (value,) * 6, machine=machine)
                assert result in (REFUSE, MISSING), name


@pytest.mark.parametrize(("machine", "rules"), EVERY_CASE)
def test_flags_open_only_what_they_name(machine, rules):
    """fork needs `subprocesses`, exec that or `executes`, connections `sockets`, another filter `narrows`; nothing opens
    listeners and descriptors in flight.
    """
    program = seccomp.assemble(rules, machine)
    needs = dict.fromkeys(("fork", "vfork"), rules.subprocesses) | {"seccomp": rules.narrows}
    needs |= dict.fromkeys(("execve", "execveat"), rules.subprocesses or rules.executes)
    needs |= dict.fromkeys(("bind", "listen", "accept4", "sendmsg", "sendmmsg"), False)
    needs["connect"] = rules.sockets
    for name, wanted in needs.items():
        if name in TABLES[machine]:
            result, _ = simulate(program, TABLES[machine][name], machine=machine)
            assert (result == ALLOW) == wanted, name


@pytest.mark.parametrize(("machine", "rules"), EVERY_CASE)
def test_other_doors_kill(machine, rules):
    """Calls of another architecture and x32 calls kill, whatever their number."""
    program = seccomp.assemble(rules, machine)
    for number in range(600):
        for arch in (I386, ARM, 0, *(a for m, a in seccomp.ARCHITECTURES.items() if m != machine)):
            assert simulate(program, number, arch=arch)[0] == KILL
        if machine == "x86_64":
            assert simulate(program, number | 0x40000000)[0] == KILL
    assert simulate(program, 0xFFFFFFFF, machine=machine)[0] in (KILL, MISSING)


@pytest.mark.parametrize(("machine", "rules"), EVERY_CASE)
def test_programs_are_small_and_shallow(machine, rules):
    """A program is far below the kernel's 4096 instructions and decides by number in at most 14 steps."""
    program = seccomp.assemble(rules, machine)
    assert len(program) % INSTRUCTION.size == 0
    assert len(program) // INSTRUCTION.size < 200
    verdicts = {TABLES[machine][n]: v for n, v in seccomp.verdicts(rules).items() if n in TABLES[machine]}
    plain = [n for n in range(600) if not isinstance(verdicts.get(n), seccomp.Check)]
    assert max(simulate(program, n, machine=machine)[1] for n in plain) <= 14


@pytest.mark.parametrize("machine", TABLES)
@pytest.mark.parametrize("rules", ALL_RULES)
def test_no_clone_makes_a_namespace(machine, rules):
    """Each CLONE_NEW flag, alone or with the flags of a thread or of a fork, is refused under all rules."""
    for bit in (0x80, 0x20000, 0x02000000, 0x04000000, 0x08000000, 0x10000000, 0x20000000, 0x40000000):
        for base in (0, 17, 0x3D0F00, 0x10000, 0x4111):
            assert action("clone", base | bit, rules=rules, machine=machine) == REFUSE


@pytest.mark.parametrize("machine", TABLES)
@pytest.mark.parametrize("rules", ALL_RULES)
def test_clone_makes_what_the_flags_allow(machine, rules):
    """Threads need `threads`, processes need `subprocesses`, and nobody makes a sibling of itself."""
    assert (action("clone", 0x3D0F00, rules=rules, machine=machine) == ALLOW) == rules.threads
    for fork in (17, 0x1200011, 0x4111, 17 | 1 << 32):
        assert (action("clone", fork, rules=rules, machine=machine) == ALLOW) == rules.subprocesses
    assert action("clone", 0x8011, rules=rules, machine=machine) == REFUSE


@pytest.mark.parametrize("machine", TABLES)
def test_commands_are_judged_by_their_words(machine):
    """Calls of many commands pass for the listed ones only, and the upper half of an int changes nothing."""

    def allowed(name, *arguments):
        return action(name, *arguments, machine=machine) == ALLOW

    high = 1 << 32
    assert allowed("ioctl", 0, 0x541B)
    assert allowed("ioctl", 0, 0x5401 | high)
    assert not any(allowed("ioctl", 0, command) for command in (0x5412, 0x541C, 0x5412 | high, 0x8901, 0x5452))
    assert all(allowed("fcntl", 3, command) for command in (1, 2, 3, 4, 5, 1030))
    assert not any(allowed("fcntl", 3, command) for command in (1031, 1031 | high, 8, 10, 15, 1024, 1026, 1033))
    assert all(allowed("prctl", option) for option in (15, 16, 0x53564D41))
    assert not any(allowed("prctl", option) for option in (1, 4, 22, 24, 28, 35, 36, 38, 47, 0x59616D61))
    assert allowed("prlimit64", 0, 7, 0, 0x7FFF0000)
    assert not allowed("prlimit64", 1, 7, 0, 0x7FFF0000)
    assert not allowed("prlimit64", 0, 7, 0x7FFF0000)
    assert not allowed("prlimit64", 0, 7, high)
    assert allowed("personality", 0xFFFFFFFF)
    assert not allowed("personality", 0x0040000)
    assert allowed("sched_setaffinity", 0)
    assert not allowed("sched_setaffinity", 1)


@pytest.mark.parametrize("machine", TABLES)
def test_pairs_cannot_be_pointed_at_others(machine):
    """Without `sockets` there are stream pairs only, and a sendto with an address is refused."""

    def allowed(name, *arguments):
        return action(name, *arguments, machine=machine) == ALLOW

    assert allowed("socketpair", 1, 1 | 0x80800)
    assert allowed("socketpair", 1, 5)
    assert not any(allowed("socketpair", 1, kind) for kind in (2, 2 | 0x80000, 3))
    assert not any(allowed("socketpair", family, 1) for family in (2, 16, 30, 40))
    assert allowed("sendto", 3, 0x1000, 5, 0, 0, 0)
    assert not allowed("sendto", 3, 0x1000, 5, 0, 0x7000, 16)
    assert not allowed("sendto", 3, 0x1000, 5, 0, 1 << 40, 16)
    assert not allowed("socket", 1, 1)


@pytest.mark.parametrize("machine", TABLES)
def test_sockets_are_clients_over_tcp(machine):
    """With `sockets` there is TCP over IPv4 and IPv6: no unix, netlink, packet, alg or vsock, no datagrams, nothing raw."""
    of = partial(action, "socket", rules=Rules(sockets=True), machine=machine)
    families, protocols = (*range(18), 38, 40, 44), (0, 1, 6, 17, 132, 255, 262)
    allowed = {(f, k, p) for f in families for k in range(6) for p in protocols if of(f, k, p) == ALLOW}
    assert allowed == {(family, 1, protocol) for family in (2, 10) for protocol in (0, 6)}
    assert of(2, 1 | 0x80800, 0) == ALLOW


@pytest.mark.parametrize("machine", TABLES)
def test_options_of_sockets_are_those_of_clients(machine):
    """Delays, keep-alive, timeouts and reuse may be set; sizes of buffers, other protocols' and the kernel's TLS not."""
    rules = Rules(sockets=True)
    options = [(level, name) for level in (0, 1, 6, 17, 41, 58, 263) for name in range(100)]
    found = {o for o in options if action("setsockopt", 3, *o, rules=rules, machine=machine) == ALLOW}
    assert found == {(1, n) for n in (2, 9, 13, 20, 21, 66, 67)} | {(6, n) for n in (1, 4, 5, 6, 18)} | {(41, 26)}
    assert action("sendto", 3, 0x1000, 5, 0, 0x7000, 16, rules=rules, machine=machine) == REFUSE


@pytest.mark.parametrize("machine", TABLES)
def test_locks_reach_the_kernel_only_with_subprocesses(machine):
    """A process alone has what it locks without a lock being made; processes that may have children lock in earnest."""
    alone = partial(action, machine=machine)
    assert [alone("fcntl", 3, command) for command in (6, 7)] == [seccomp.DONE] * 2
    assert [alone("fcntl", 3, command) for command in (36, 37, 38)] == [REFUSE] * 3
    assert alone("flock", 3, 2) == MISSING
    together = partial(action, rules=Rules(subprocesses=True), machine=machine)
    assert {together("fcntl", 3, command) for command in (5, 6, 7, 36, 37, 38)} == {ALLOW}
    assert together("fcntl", 3, 1031) == REFUSE
    assert together("flock", 3, 2) == ALLOW


@pytest.mark.parametrize("machine", TABLES)
@pytest.mark.parametrize("name", ["kill", "tgkill", "rt_sigqueueinfo", "rt_tgsigqueueinfo"])
def test_only_own_pid_lets_signal_itself_only(machine, name):
    """With `only_own_pid` a signal goes to the named process; to no other, no group, and by no thread number."""
    unnamed = seccomp.assemble(Rules(only_own_pid=True), machine)
    named = seccomp.for_pid(unnamed, 4242)
    number = TABLES[machine][name]
    for program, expected in ((unnamed, []), (named, [4242])):
        targets = (0, 1, 4241, 4242, 4243, 0xFFFFFFFF, 0xFFFFFFFFFFFFFFFF, (1 << 64) - 4242)
        assert [t for t in targets if simulate(program, number, (t,), machine=machine)[0] == ALLOW] == expected
    assert simulate(named, TABLES[machine]["tkill"], (4242,), machine=machine)[0] == REFUSE


@pytest.mark.parametrize(("machine", "rules"), EVERY_CASE)
def test_naming_a_pid_changes_only_the_constants_meant(machine, rules):
    """`for_pid` touches whole constants: every other instruction stays, and without the rule all do."""
    before = seccomp.assemble(rules, machine)
    changed = [
        (old, new)
        for old, new in zip(
            INSTRUCTION.iter_unpack(before), INSTRUCTION.iter_unpack(seccomp.for_pid(before, 77)), strict=True
        )
        if old != new
    ]
    assert len(changed) == (1 if rules.only_own_pid else 0)
    assert all(old[:3] == new[:3] and new[3] == 77 for old, new in changed)


def test_long_programs_get_stepping_stones():
    """A program whose jumps are too long for eight bits still decides rightly."""
    names = [name for name, number in X86_64.items() if number % 3 == 0]
    checks = {n: seccomp.Check((seccomp.Test(0, 0xFFFFFFFF, tuple(range(i, i + 9))),)) for i, n in enumerate(names)}
    program = seccomp.program(checks, MISSING, "x86_64")
    assert 1000 < len(program) // INSTRUCTION.size < 4096
    for i, name in enumerate(names):
        assert simulate(program, X86_64[name], (i + 8,))[0] == ALLOW
        assert simulate(program, X86_64[name], (i + 9,))[0] == REFUSE
    assert simulate(program, 1)[0] == MISSING


def test_an_unknown_machine_is_named():
    """There is no filter for a machine whose numbers are not known."""
    with pytest.raises(KeyError, match="riscv64"):
        seccomp.assemble(Rules(), "riscv64")


# ------------------------------------------------------------------------------------------------ for real

PREAMBLE = """
import sys
sys.path.insert(0, {source!r})
import ctypes, os
from dspex._kernel import seccomp
from dspex._kernel.processes import forbid_new_privileges
from dspex._kernel.syscalls import NUMBERS, libc
from dspex._kernel.seccomp import Rules

def attempt(name, *arguments):
    number = NUMBERS[name] if isinstance(name, str) else name
    words = [ctypes.c_long(a) if isinstance(a, int) else a for a in arguments]
    result = libc().syscall(ctypes.c_long(number), *words)
    return ctypes.get_errno() if result < 0 else 0

def confine(rules):
    forbid_new_privileges()
    seccomp.install(seccomp.for_pid(seccomp.assemble(rules), os.getpid()))
"""


def run(body: str, *arguments: str, timeout: float = 90) -> subprocess.CompletedProcess:
    script = PREAMBLE.format(source=SOURCE) + body
    return subprocess.run(
        [sys.executable, "-c", script, *arguments], capture_output=True, text=True, timeout=timeout, check=False
    )


def output(body: str, *arguments: str) -> str:
    done = run(body, *arguments)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_the_kernel_takes_every_program():
    """Each of the sixteen programs is accepted by this kernel and lets a process end in peace."""
    body = """
import itertools
for flags in itertools.product((False, True), repeat=4):
    pid = os.fork()
    if not pid:
        confine(Rules(*flags))
        os._exit(7)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 7, flags
print("ok")
"""
    assert output(body) == "ok"


def test_forbidden_calls_fail_for_real():
    """Every forbidden call, made under the filter, comes back EPERM or ENOSYS."""
    body = f"""
names = [n for n in {NEVER!r} if n in NUMBERS]
confine(Rules())
names += ["fork", "vfork", "execve", "socket", "sendmsg"]
print([(n, e) for n in names if n in NUMBERS and (e := attempt(n, 0, 0, 0, 0, 0, 0)) not in (1, 38)])
"""
    assert output(body) == "[]"


def test_refusals_come_from_the_filter():
    """Calls that work before the filter fail under it: the EPERM is not the kernel's own."""
    body = """
calls = [("memfd_create", b"x", 0), ("inotify_init1", 0), ("socket", 1, 1, 0), ("pidfd_open", os.getpid(), 0),
         ("getpriority", 0, 0), ("setpriority", 0, 0, 0), ("setuid", os.getuid()), ("sync",), ("eventfd2", 0, 0)]
before = [attempt(*c) for c in calls]
confine(Rules())
print(before, [attempt(*c) for c in calls])
"""
    assert output(body) == "[0, 0, 0, 0, 0, 0, 0, 0, 0] [1, 1, 1, 1, 0, 1, 1, 1, 0]"


def test_unknown_numbers_are_missing_for_real():
    """A call that no kernel has yet is ENOSYS, so a newer C library falls back."""
    assert output("confine(Rules())\nprint(attempt(600), attempt(9999))") == f"{errno.ENOSYS} {errno.ENOSYS}"


@pytest.mark.skipif(platform.machine() != "x86_64", reason="x32 is a door of x86-64")
def test_x32_calls_kill_for_real():
    """getpid by its x32 number ends the process."""
    done = run("confine(Rules())\nattempt(39 | 0x40000000)\nprint('alive')")
    assert (done.returncode, done.stdout) == (-31, "")


@pytest.mark.skipif(platform.machine() != "x86_64", reason="int 0x80 is a door of x86-64")
def test_32_bit_calls_kill_for_real():
    """getpid (20) by int 0x80 ends the process, though the same machine code runs without the filter."""
    body = """
import mmap
page = mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
page.write(bytes.fromhex("b814000000cd80c3"))  # mov eax, 20; int 0x80; ret
getpid = ctypes.CFUNCTYPE(ctypes.c_int)(ctypes.addressof(ctypes.c_char.from_buffer(page)))
if sys.argv[1] == "confined":
    confine(Rules())
getpid()
print("alive")
"""
    assert run(body, "free").stdout.strip() in ("alive", "")  # a kernel without 32-bit calls ends it by itself
    done = run(body, "confined")
    assert done.returncode < 0
    assert done.stdout == ""


def test_signals_stay_at_home_for_real():
    """With `only_own_pid` a process can signal itself and its threads, and not its parent or its group."""
    body = """
import signal, threading
seen = []
signal.signal(signal.SIGUSR1, lambda *_: seen.append("itself"))
parent, group = os.getppid(), os.getpgid(0)
confine(Rules(only_own_pid=True))
os.kill(os.getpid(), signal.SIGUSR1)
signal.pthread_kill(threading.main_thread().ident, signal.SIGUSR1)
for target in (parent, 0, -1, -group, 1):
    try:
        os.kill(target, 0)
        seen.append(target)
    except PermissionError:
        pass
print(seen)
"""
    assert output(body) == "['itself', 'itself']"


def test_a_filter_made_ahead_is_named_at_its_installation():
    """A filter laid out before a fork lets each child signal itself, not its sibling or its parent."""
    body = """
ready = seccomp.Filter(seccomp.assemble(Rules(only_own_pid=True)))
def child(go):
    forbid_new_privileges()
    ready.install(os.getpid())
    os.kill(os.getpid(), 0)
    try:
        os.kill(go, 0)
    except PermissionError:
        os._exit(7)
first = os.fork()
if not first:
    child(os.getppid())
second = os.fork()
if not second:
    child(first)
print([os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in (second, first)])
"""
    assert output(body) == "[7, 7]"


def test_limits_can_be_read_and_not_set():
    """A guest may ask for its limits; lowering one is refused like raising one, so none can be moved."""
    body = """
import resource
confine(Rules())
soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
try:
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
except (PermissionError, ValueError) as error:
    print(type(error).__name__, resource.getrlimit(resource.RLIMIT_NOFILE) == (soft, hard))
"""
    assert output(body).endswith("True")


def test_pipes_keep_their_size():
    """F_SETPIPE_SZ is refused: a ring stays at 64 KiB."""
    body = """
import fcntl
r, w = os.pipe()
confine(Rules())
try:
    fcntl.fcntl(w, 1031, 1 << 20)
except PermissionError:
    print(fcntl.fcntl(w, 1032))
"""
    assert output(body) == "65536"


def test_a_datagram_pair_cannot_reach_an_abstract_socket():
    """A pair inherited from before the filter can neither be given a name nor send to one."""
    body = """
import socket
listener = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
listener.bind(b"\\0dspex-test-%d" % os.getpid())
a, b = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
name = listener.getsockname()
a.sendto(b"before", name)
confine(Rules())
for escape in (lambda: a.sendto(b"x", name), lambda: a.bind(name + b"2"), lambda: a.connect(name),
               lambda: a.sendmsg([b"x"], [], 0, name)):
    try:
        escape()
        print("reached")
    except PermissionError:
        pass
b.send(b"still a pair")
print(listener.recv(99), a.recv(99))
"""
    assert output(body) == "b'before' b'still a pair'"


WORK = {
    "threads": """
from concurrent.futures import ThreadPoolExecutor as P
with P(4) as p: r = sum(p.map(abs, range(100)))
""",
    "thread pool": """
from multiprocessing.pool import ThreadPool
with ThreadPool(3) as p: r = p.map(abs, [-1, 2])
""",
    "asyncio": """
import asyncio
async def m():
    await asyncio.sleep(0.01)
    return await asyncio.to_thread(len, "ab")
r = asyncio.run(m())
""",
    "asyncio streams": """
import asyncio, socket
async def m():
    a, b = socket.socketpair()
    r, w = await asyncio.open_connection(sock=a)
    w.write(b"x" * 9)
    await w.drain()
    b.send(b"hello\\n")
    return await r.readline()
r = asyncio.run(m())
""",
    "sqlite": """
import sqlite3, tempfile, os
d = tempfile.mkdtemp()
c = sqlite3.connect(d + "/x.db")
c.execute("pragma journal_mode=wal")
c.execute("create table t(a)")
c.executemany("insert into t values(?)", [(i,) for i in range(50)])
c.commit()
r = c.execute("select sum(a) from t").fetchone()
""",
    "decimal": """
import decimal, fractions
r = decimal.Decimal(1) / 7 + int(fractions.Fraction(4, 2))
""",
    "ssl import": """
import ssl, hashlib, secrets
ssl.create_default_context()
r = hashlib.scrypt(b"a", salt=b"b", n=16, r=1, p=1) and secrets.token_hex()
""",
    "files": """
import tempfile, shutil, os, pathlib
d = pathlib.Path(tempfile.mkdtemp())
(d/"a").write_text("x" * 100000)
shutil.copy2(d/"a", d/"b")
shutil.copytree(d, f"{d}-copy")
os.link(d/"a", d/"c")
os.symlink("a", d/"l")
(d/"a").rename(d/"z")
r = sorted(os.listdir(d))
shutil.rmtree(d)
shutil.rmtree(f"{d}-copy")
""",
    "random and time": """
import random, time, uuid, datetime, zoneinfo
r = random.random(), time.process_time(), uuid.uuid4(), uuid.uuid1(), datetime.datetime.now()
time.sleep(0.001)
""",
    "signals and timers": """
import signal, time
hit = []
signal.signal(signal.SIGALRM, lambda *_: hit.append(1))
signal.setitimer(signal.ITIMER_REAL, 0.01)
signal.pause()
r = hit
""",
    "big memory": """
import mmap, gc
b = bytearray(50_000_000)
del b
m = mmap.mmap(-1, 1 << 20)
m[:5] = b"hello"
gc.collect()
r = m[:5]
""",
    "select": """
import select, os
r_, w = os.pipe()
p = select.epoll()
p.register(r_, select.EPOLLIN)
os.write(w, b"x")
r = p.poll(1), select.select([r_], [], [], 0), select.poll()
""",
    "ctypes callback": """
import ctypes
f = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_int)(lambda x: x + 1)
r = f(1)
""",
    "locale and terminal": """
import locale, shutil, sys, os
r = locale.setlocale(locale.LC_ALL, ""), shutil.get_terminal_size(), os.isatty(0), os.cpu_count(), os.uname()
""",
    "faulthandler": """
import faulthandler, tempfile
f = tempfile.TemporaryFile()
faulthandler.enable(f)
faulthandler.dump_traceback(f)
r = f.tell()
""",
}

NUMERIC = {
    "numpy": """
import numpy as np
a = np.random.default_rng(0).random((300, 300))
r = np.linalg.solve(a, a @ a).shape, np.linalg.svd(a)[1][0]
""",
    "pandas": """
import pandas as pd
d = pd.DataFrame({"a": [1, 2, 2], "b": [3.0, 4, 5]})
r = d.groupby("a").b.mean().to_dict(), d.to_csv()
""",
    "polars": """
import polars as pl
d = pl.DataFrame({"a": range(100000), "b": [1, 2] * 50000})
r = d.lazy().group_by("b").agg(pl.col("a").sum()).collect().shape, d.sort("a").head(1)
""",
}


@pytest.mark.parametrize("rules", ["Rules()", "Rules(only_own_pid=True)", "Rules(subprocesses=True, sockets=True)"])
@pytest.mark.parametrize("work", WORK)
def test_ordinary_python_works(work, rules):
    """The standard library at its daily work does not notice the filter, the imports included."""
    assert output(f"confine({rules})\n{WORK[work]}\nassert r\nprint('ok')") == "ok"


@pytest.mark.parametrize("imported", ["before", "under"])
@pytest.mark.parametrize("work", NUMERIC)
def test_numeric_libraries_work(work, imported):
    """numpy, pandas and polars compute under the filter, imported before it or under it, with their threads."""
    pytest.importorskip(work)
    first = f"import {work}\n" if imported == "before" else ""
    assert output(f"{first}confine(Rules())\n{NUMERIC[work]}\nassert r\nprint('ok')") == "ok"


def test_subprocesses_work_when_allowed():
    """With the rule, subprocess, os.fork, a pipeline of the shell, multiprocessing and asyncio's processes work."""
    body = """
import asyncio, multiprocessing, subprocess
confine(Rules(subprocesses=True))
assert subprocess.run(["/bin/sh", "-c", "echo a | cat"], capture_output=True, check=True).stdout == b"a\\n"
assert subprocess.run(["/bin/true"], close_fds=False, check=True).returncode == 0
pid = os.fork()
if not pid:
    os._exit(3)
assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 3
async def main():
    process = await asyncio.create_subprocess_exec("/bin/echo", "b", stdout=subprocess.PIPE)
    return (await process.communicate())[0]
assert asyncio.run(main()) == b"b\\n"
child = multiprocessing.get_context("fork").Process(target=print, args=("from the child",))
child.start()
child.join()
assert child.exitcode == 0
"""
    assert output(body) == "from the child"


def test_subprocesses_are_refused_by_default():
    """Without the rule fork, posix_spawn, subprocess and exec raise, and threads still start."""
    body = """
import subprocess, threading
confine(Rules())
tries = [os.fork, lambda: subprocess.run(["/bin/true"]), lambda: os.execv("/bin/true", ["true"]),
         lambda: os.posix_spawn("/bin/true", ["true"], {}), lambda: os.system("true") and 1 / 0]
for each in tries:
    try:
        each()
        print("ran", each)
    except (OSError, ZeroDivisionError):
        pass
t = threading.Thread(target=print, args=("thread",))
t.start()
t.join()
"""
    assert output(body) == "thread"


def test_a_narrowing_filter_ends_what_the_first_allows():
    """Over one with subprocesses it refuses processes and further filters; threads and all else go on."""
    body = """
import subprocess, threading
confine(Rules(subprocesses=True, narrows=True))
assert subprocess.run(["/bin/true"]).returncode == 0
seccomp.install(seccomp.narrowing())
for each in [os.fork, lambda: subprocess.run(["/bin/true"]), lambda: os.posix_spawn("/bin/true", ["true"], {}),
             lambda: seccomp.install(seccomp.narrowing())]:
    try:
        each()
        print("ran", each)
    except PermissionError:
        pass
t = threading.Thread(target=print, args=("thread",))
t.start()
t.join()
"""
    assert output(body) == "thread"


def test_no_threads_without_the_rule():
    """With `threads` off no thread starts."""
    body = """
import threading
confine(Rules(threads=False))
try:
    threading.Thread(target=print).start()
except RuntimeError as error:
    print(error)
"""
    assert output(body) == "can't start new thread"


def test_sockets_connect_when_allowed():
    """With the rule a TCP connection over loopback works; a listener of one's own and other families stay shut."""
    body = """
import socket
server = socket.create_server(("127.0.0.1", 0))
confine(Rules(sockets=True))
client = socket.create_connection(server.getsockname())
client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
client.sendall(b"hello")
print(client.getpeername() == server.getsockname())
for opened in (
    *(lambda f=f: socket.socket(f, socket.SOCK_RAW) for f in (socket.AF_NETLINK, socket.AF_VSOCK, socket.AF_PACKET, socket.AF_ALG)),
    lambda: socket.socket(socket.AF_UNIX),
    lambda: socket.socket(type=socket.SOCK_DGRAM),
    lambda: socket.socket().bind(("127.0.0.1", 0)),
    lambda: socket.socket().listen(),
    lambda: server.accept(),
    lambda: client.sendmsg([b"x"]),
    lambda: client.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20),
):
    try:
        opened()
        print("opened")
    except PermissionError:
        pass
"""
    assert output(body) == "True"


def test_a_filter_cannot_be_taken_off():
    """A process under the filter can install no other, and its threads are under it too."""
    body = """
import threading
go, done = threading.Event(), []
def other():
    go.wait()
    done.append(attempt("memfd_create", b"x", 0))
t = threading.Thread(target=other)
t.start()
confine(Rules())
go.set()
t.join()
try:
    seccomp.install(seccomp.program({"read": seccomp.ALLOW}, seccomp.ALLOW))
except PermissionError as error:
    print(done, error.errno)
"""
    assert output(body) == "[1] 1"


def test_install_needs_no_new_privileges():
    """Without no_new_privs and without privilege the kernel's refusal is passed on."""
    if "NoNewPrivs:\t1" in Path("/proc/self/status").read_text():
        pytest.skip("no_new_privs is set already around the tests")
    body = """
from dspex._kernel import processes
processes.drop_capabilities()
try:
    seccomp.install(seccomp.assemble(Rules()))
except PermissionError as error:
    print(error.errno, "seccomp" in str(error))
"""
    assert output(body) == f"{errno.EACCES} True"


def test_the_placeholder_is_no_pid():
    """The pid that stands in an unnamed program is above every pid that a kernel gives."""
    highest = int(Path("/proc/sys/kernel/pid_max").read_text())
    assert highest < seccomp._PID_PLACEHOLDER
