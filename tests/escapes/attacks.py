"""The attacks, as data: what the attacker runs, what stops it, and without which layers it succeeds.

A program that gets through ends with the value "ESCAPED". Every attack is run on every kind of host; `kinds` are the error
kinds with which it may end besides an ordinary exception or a harmless value, by level when they differ. `opened_by` are sets of
layers (level, layers) without which the attack does succeed; `still_held` are sets without which another layer still holds.
"""

from __future__ import annotations

import platform
from typing import NamedTuple

from dspex._kernel.syscalls import NUMBERS


class Attack(NamedTuple):
    """One attack; named after what the attacker cannot do."""

    cannot: str
    code: str = ""
    outcome: str = "blocked"  # blocked, bounded (by a limit) or refused (its answer is)
    kinds: tuple[str, ...] = ()  # it must end with one of these, if any are given
    type: str | None = None
    policy: dict = {}  # noqa: RUF012  (read only)
    limits: dict = {}  # noqa: RUF012
    timeout: float = 5.0
    codes: tuple[str, ...] = ()  # run one after the other instead of `code`
    pair: tuple[str, ...] = ()  # run at the same time
    opened_by: tuple[tuple[str, str], ...] = ()
    still_held: tuple[tuple[str, str], ...] = ()
    levels: tuple[str, ...] = ("namespaces", "landlock")


_N, _L = "namespaces", "landlock"
_C = "import ctypes, os\nc = ctypes.CDLL(None, use_errno=True)\n"
_TRY = "\ntry:\n    {}\n    r = 'ESCAPED'\nexcept OSError as e:\n    r = str(e)\nr"


def _try(action: str, before: str = "import os, socket") -> str:
    return before + _TRY.format(action)


def _call(name: str, *arguments: int | str, reached: str = "not in (1, 38)") -> str:
    """A bare system call; it got through to the kernel when the errno is another than EPERM and ENOSYS."""
    given = "".join(f", {argument}" for argument in arguments)
    return (
        f"{_C}r = c.syscall({NUMBERS[name]}{given}); e = ctypes.get_errno()\n'ESCAPED' if r >= 0 or e {reached} else e"
    )


_FILES_OPEN = ((_N, "root landlock"), (_L, "landlock"))
_FILES_HELD = ((_N, "root"), (_N, "landlock"))
# Where the imitated container itself refuses the call, leaving our own filter out opens nothing.
_ONLY_N = ((_N, "seccomp"),)
_SECCOMP = ((_N, "seccomp"), (_L, "seccomp"))

FILES = (
    Attack("read_a_file_of_the_host", _try("open('{secret}').read()", "import os"), opened_by=_FILES_OPEN, still_held=_FILES_HELD),
    Attack("read_it_through_a_symlink", _try("os.symlink('{secret}', 'l'); open('l').read()", "import os"), opened_by=_FILES_OPEN, still_held=_FILES_HELD),
    Attack("write_a_file_of_the_host", _try("open('{target}', 'w').write('x')", "import os"), opened_by=_FILES_OPEN, still_held=_FILES_HELD),
    Attack("list_a_directory_of_the_host", _try("os.listdir(os.path.dirname('{secret}'))", "import os"), opened_by=_FILES_OPEN, still_held=_FILES_HELD),
    Attack("change_the_interpreter", _try("open(os.__file__, 'a')", "import os")),
    Attack("change_the_mode_of_a_file_of_the_host", _try("os.chmod('{target}', 0o666)", "import os"), opened_by=((_L, "seccomp"),)),
    Attack("change_the_times_of_a_file_of_the_host", _try("os.utime('{target}', (5, 5))", "import os"), opened_by=((_L, "seccomp"),)),
    Attack("change_the_owner_of_a_file_of_the_host", _try("os.chown('{target}', -1, os.getgid())", "import os"), opened_by=((_L, "seccomp"),)),
    Attack("change_the_times_of_a_device", _try("os.utime('/dev/null')", "import os")),
    Attack("make_a_device", _try("os.mknod('d', 0o20600, os.makedev(1, 1))", "import os")),
    Attack("see_processes_of_the_host", _try("assert [p for p in os.listdir('/proc') if p.isdigit() and int(p) != os.getpid()] or e_", "import os\ne_ = None").replace("except OSError", "except (OSError, AssertionError)"), opened_by=((_N, "pid"), (_L, "landlock"))),
    Attack("find_the_hosts_environment", "import os\nfound = []\ntry:\n    pids = os.listdir('/proc')\nexcept OSError:\n    pids = []\nfor p in filter(str.isdigit, pids):\n    try:\n        found.append(open(f'/proc/{{p}}/environ').read())\n    except OSError:\n        pass\n'ESCAPED' if 'SECRET_OF_THE_HOST' in ''.join(found) + str(os.environ) else 'nothing'"),
    Attack("use_an_inherited_descriptor", "import os, stat\nfound = []\nfor n in range(3, 4096):\n    try:\n        found.append(os.fstat(n).st_mode)\n    except OSError:\n        pass\n'ESCAPED' if len(found) > 1 or not stat.S_ISSOCK(found[0]) else 'its own channel'", opened_by=((_N, "descriptors"), (_L, "descriptors"))),
)  # fmt: skip

NETWORK = (
    *(Attack(f"make_a_socket_of_family_{family}", _try(f"socket.socket({family}, {kind})"), opened_by=_SECCOMP if family in (1, 2, 10, 16) else ())
      for family, kind in ((1, 1), (1, 2), (2, 1), (2, 2), (10, 1), (16, 3), (17, 3), (38, 5), (40, 1), (31, 3), (15, 3), (44, 2))),
    Attack("connect_to_the_hosts_loopback", _try("socket.create_connection(('127.0.0.1', {port}), 2)"), opened_by=((_N, "seccomp network landlock"), (_L, "seccomp landlock")), still_held=((_N, "seccomp"), (_N, "seccomp landlock"), (_N, "seccomp network"), (_N, "network landlock"))),
    Attack("send_a_datagram_without_a_socket_of_its_own", _try("socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)"), opened_by=_SECCOMP),
    Attack("meet_a_sibling_over_an_abstract_socket", pair=("import socket, time\ns = socket.socket(socket.AF_UNIX)\ns.bind('\\0dspex-meeting')\ns.listen()\ns.settimeout(2)\ns.accept()\n'ESCAPED'", "import socket, time\nend = time.time() + 2\nr = 'alone'\nwhile time.time() < end and r == 'alone':\n    s = socket.socket(socket.AF_UNIX)\n    try:\n        s.connect('\\0dspex-meeting')\n        r = 'ESCAPED'\n    except OSError:\n        time.sleep(0.02)\nr"), opened_by=((_N, "seccomp landlock"),), still_held=((_N, "seccomp"),)),
    Attack("meet_a_sibling_over_loopback", pair=("import socket\ns = socket.create_server(('127.0.0.1', 45671))\ns.settimeout(2)\ns.accept()\n'ESCAPED'", "import socket, time\nend = time.time() + 2\nr = 'alone'\nwhile time.time() < end and r == 'alone':\n    try:\n        socket.create_connection(('127.0.0.1', 45671), 1)\n        r = 'ESCAPED'\n    except OSError:\n        time.sleep(0.02)\nr")),
    *(Attack(f"meet_a_sibling_by_{name}", pair=(f"import fcntl, os, struct, time\nd = os.open({file}, os.{mode})\nfor _ in range(100):\n    try:\n        {take}\n        r = 'held'\n        break\n    except BlockingIOError as e:\n        r = str(e)\n        time.sleep(0.01)\n    except OSError as e:\n        r = str(e)\n        break\ntime.sleep(2)\nr", f"import fcntl, os, struct, time\nd = os.open({file}, os.{mode})\nend, r = time.time() + 2, 'alone'\nwhile time.time() < end and r == 'alone':\n    time.sleep(0.05)\n    try:\n        {meet}\n    except BlockingIOError:\n        r = 'ESCAPED'\n    except OSError as e:\n        r = str(e)\nr"), opened_by=_SECCOMP)
      for name, file, mode, take, meet in (
          ("flock", "os.__file__", "O_RDONLY", "fcntl.flock(d, fcntl.LOCK_EX)", "fcntl.flock(d, fcntl.LOCK_EX | fcntl.LOCK_NB); fcntl.flock(d, fcntl.LOCK_UN)"),
          ("a_record_lock", "'/dev/null'", "O_RDWR", "fcntl.fcntl(d, fcntl.F_SETLK, struct.pack('hhqqi', 1, 0, 0, 0, 0))", "fcntl.fcntl(d, fcntl.F_SETLK, struct.pack('hhqqi', 1, 0, 0, 0, 0)); fcntl.fcntl(d, fcntl.F_SETLK, struct.pack('hhqqi', 2, 0, 0, 0, 0))"),
          ("a_lock_of_an_open_file", "'/dev/null'", "O_RDWR", "fcntl.fcntl(d, 37, struct.pack('hhqqi', 1, 0, 0, 0, 0))", "fcntl.fcntl(d, 37, struct.pack('hhqqi', 1, 0, 0, 0, 0)); fcntl.fcntl(d, 37, struct.pack('hhqqi', 2, 0, 0, 0, 0))"))),
)  # fmt: skip

KERNEL = (
    Attack("signal_another_process", _try("assert os.getppid(); os.kill(os.getppid(), 0)").replace("except OSError", "except (OSError, AssertionError)"), opened_by=((_N, "pid landlock"), (_L, "seccomp landlock")), still_held=((_L, "seccomp"), (_L, "landlock"))),
    Attack("trace_another_process", f"{_C}r = c.ptrace(0x4206, os.getppid() or 1, 0, 0)\n'ESCAPED' if r == 0 else ctypes.get_errno()", opened_by=((_L, "seccomp landlock"),), still_held=((_L, "seccomp"),)),
    Attack("change_the_limits_of_another_process", f"{_C}b = ctypes.create_string_buffer(16)\nr = c.syscall({NUMBERS['prlimit64']}, os.getppid() or 2, 7, None, b)\n'ESCAPED' if r == 0 else ctypes.get_errno()", opened_by=((_L, "seccomp"),)),
    Attack("raise_its_own_limits", _try("resource.setrlimit(resource.RLIMIT_CPU, (1000, resource.RLIM_INFINITY))", "import os, resource").replace("except OSError", "except (OSError, ValueError)"), opened_by=_SECCOMP),
    Attack("make_namespaces", f"{_C}r = c.unshare(0x10000000)\n'ESCAPED' if r == 0 else ctypes.get_errno()", opened_by=((_N, "seccomp"),)),
    Attack("make_namespaces_by_clone", f"{_C}r = c.syscall({NUMBERS['clone']}, 0x10000000 | 17, 0, 0, 0, 0)\nif r == 0: os._exit(0)\n'ESCAPED' if r > 0 else ctypes.get_errno()", opened_by=((_N, "seccomp"),)),
    Attack("mount", f"{_C}c.unshare(0x10020000)\nr = c.mount(b't', b'/run/sandbox/tmp', b'tmpfs', 0, None)\n'ESCAPED' if r == 0 else ctypes.get_errno()", opened_by=((_N, "seccomp landlock"),), still_held=((_N, "seccomp"), (_N, "landlock"))),
    *(Attack(f"reach_{name}", _call(name, *arguments), opened_by=_SECCOMP if opens is True else opens or ())
      for name, opens, *arguments in (
          ("bpf", False, 0, 0, 0), ("io_uring_setup", True, 1, 0), ("keyctl", True, 0, -1, 0), ("add_key", True, 0, 0, 0), ("perf_event_open", True, 0, 0, -1, -1, 0),
          ("userfaultfd", False, 0), ("memfd_create", True, "b'm'", 0), ("memfd_secret", False, 0), ("process_vm_readv", True, 1, 0, 0, 0, 0, 1), ("open_by_handle_at", False, -1, 0, 0),
          ("kexec_load", False, 0, 0, 0, 0), ("init_module", False, 0, 0, 0), ("setns", _ONLY_N, -1, 0), ("pivot_root", False, 0, 0), ("chroot", False, "b'/'"),
          ("shmget", True, 0, 4096, 0o1600), ("msgget", True, 0, 0o1600), ("semget", True, 0, 1, 0o1600), ("mq_open", True, 0, 0, 0, 0), ("fanotify_init", False, 0, 0), ("inotify_init1", True, 0),
          ("splice", True, -1, 0, -1, 0, 1, 0), ("vmsplice", True, -1, 0, 0, 0), ("pidfd_open", True, 1, 0), ("kcmp", _ONLY_N, 1, 1, 99, 0, 0), ("personality", True, 0x0040000), ("name_to_handle_at", True, -1, 0, 0, 0, 0), ("quotactl", False, 0, 0, 0, 0))),
    *((Attack("make_32_bit_calls", "import ctypes, mmap\nm = mmap.mmap(-1, 4096, prot=7)\nm.write(bytes.fromhex('b814000000cd80c3'))\nctypes.CFUNCTYPE(ctypes.c_int)(ctypes.addressof(ctypes.c_char.from_buffer(m)))()\n'ESCAPED'", kinds=("policy",), opened_by=_ONLY_N),
       Attack("make_x32_calls", f"{_C}c.syscall(0x40000000 + 39)\n'ESCAPED'", kinds=("policy",), opened_by=_ONLY_N)) if platform.machine() == "x86_64" else ()),
)  # fmt: skip

_SMALL = {"processes": 24, "memory": "256MiB", "disk": "16MiB"}
_SPAWN = {"subprocesses": True}
BOMBS = (
    Attack("fork", _try("if os.fork() == 0: os._exit(0)"), opened_by=_SECCOMP),
    Attack("execute_another_program", _try("os.execv('/bin/true', ['true'])")),
    Attack("fork_without_end", "import os, time\nn = 0\ntry:\n    while n < 26:\n        if os.fork() == 0:\n            time.sleep(3)\n            os._exit(0)\n        n += 1\nexcept OSError:\n    pass\n'ESCAPED' if n >= 26 else n", "bounded", policy=_SPAWN, limits={**_SMALL, "memory": "1GiB"}, opened_by=((_N, "rlimits"),)),
    Attack("start_threads_without_end", "import threading, time\nn = 0\nthreading.stack_size(65536)\ntry:\n    while n < 60:\n        threading.Thread(target=time.sleep, args=(3,), daemon=True).start()\n        n += 1\nexcept RuntimeError:\n    pass\nif n >= 60: time.sleep(0.5)\n'ESCAPED' if n >= 60 else n", "bounded", limits=_SMALL, opened_by=((_N, "rlimits"),)),
    Attack("take_more_memory", "x = bytearray(600 << 20)\n'ESCAPED'", "bounded", kinds=("memory_limit",), opened_by=((_N, "rlimits"),), still_held=((_L, "rlimits"),)),
    Attack("take_more_memory_bit_by_bit", "l = []\nwhile len(l) < 600: l.append(b'x' * (1 << 20))\n'ESCAPED'", "bounded", kinds=("memory_limit",)),
    Attack("take_memory_by_shared_mappings", "import mmap\nl = [mmap.mmap(-1, 1 << 24) for _ in range(40)]\n'ESCAPED'", "bounded", kinds=("memory_limit", "runtime")),
    Attack("hide_memory_in_unmapped_memory_files", _try("os.write(os.memfd_create('m'), b'x' * 4096)"), opened_by=_SECCOMP),
    Attack("hide_memory_in_pipes", "import os\nl, n = [], 0\ntry:\n    while n < 32 << 20:\n        r, w = os.pipe()\n        os.set_blocking(w, False)\n        l.append((r, w))\n        n += os.write(w, b'x' * 65536)\nexcept OSError:\n    pass\n'ESCAPED' if n >= 32 << 20 else n", "bounded", opened_by=((_N, "rlimits"), (_L, "rlimits"))),
    Attack("hide_memory_in_descriptors_in_flight", _try("a, b = socket.socketpair(); socket.send_fds(a, [b'x'], [0])"), opened_by=_SECCOMP),
    Attack("fill_the_disk", "for n in range(200): open(f'f{n}', 'wb').write(b'x' * (1 << 20))\n'ESCAPED'", "bounded", kinds=("disk_limit",), limits=_SMALL),
    Attack("hide_files_from_the_count", "import os\nos.mkdir('h', 0o300)\nfor n in range(200): open(f'h/f{n}', 'wb').write(b'x' * (1 << 20))\n'ESCAPED'", "bounded", kinds=("disk_limit",), limits=_SMALL),
    Attack("make_files_without_end", "for n in range(10**6): open(f'f{n}', 'w').close()\n'ESCAPED'", "bounded", kinds=("disk_limit",), limits=_SMALL, timeout=20.0),
    Attack("open_descriptors_without_end", "l = []\ntry:\n    while len(l) < 2000: l.append(open('/dev/null'))\nexcept OSError: pass\n'ESCAPED' if len(l) >= 2000 else len(l)", "bounded", opened_by=((_N, "rlimits"), (_L, "rlimits"))),
    Attack("make_timers_without_end", f"{_C}n, t = 0, ctypes.c_int()\nwhile n < 5000 and c.syscall({NUMBERS['timer_create']}, 0, 0, ctypes.byref(t)) == 0: n += 1\n'ESCAPED' if n >= 5000 else n", "bounded", opened_by=((_N, "rlimits"), (_L, "rlimits"))),
    Attack("print_without_end", "while True: print('x' * 1000)", "bounded", kinds=("output_limit",)),
    Attack("answer_with_too_much", "b'x' * (100 << 20)", "bounded", kinds=("value_limit", "memory_limit")),
    Attack("outlive_its_deadline_in_c", "sum(range(10**13))", "bounded", kinds=("timeout",), timeout=0.5),
    Attack("outlive_its_deadline_in_a_regular_expression", "import re\nre.match('(a+)+$', 'a' * 60 + 'b')", "bounded", kinds=("timeout",), timeout=0.5),
    Attack("outlive_its_deadline_by_ignoring_signals", "import signal\nfor s in range(1, 65):\n    try: signal.signal(s, signal.SIG_IGN)\n    except Exception: pass\nwhile True: pass", "bounded", kinds=("timeout",), timeout=0.5),
    Attack("outlive_its_deadline_by_catching_all", "while True:\n    try:\n        while True: pass\n    except BaseException: pass", "bounded", kinds=("timeout",), timeout=0.5),
    Attack("outlive_its_cpu_time_by_ignoring_signals", "import signal\nsignal.signal(signal.SIGXCPU, signal.SIG_IGN)\nwhile True: pass", "bounded", kinds=("cpu_limit",), limits={"cpu": 1}, timeout=10.0),
)  # fmt: skip

_FIND = "import os, socket, stat, struct, mmap\ndef _open(n):\n    try:\n        return stat.S_ISSOCK(os.fstat(n).st_mode)\n    except OSError:\n        return False\nchannel = socket.socket(fileno=next(n for n in range(3, 4096) if _open(n)))\nhead = lambda kind, flags, body, buffers: struct.pack('<2sBBIQ', b'dx', kind, flags, body, buffers)\n"
_REFUSED = {"outcome": "refused", "kinds": ("killed",), "type": "ProtocolBreach"}
_WAIT = "\nimport time; time.sleep(10)"
CHANNEL = (
    Attack("send_garbage", _FIND + "channel.sendall(b'hello, host')" + _WAIT, **_REFUSED),
    Attack("announce_a_giant_answer", _FIND + "channel.sendall(head(16, 0, 4000000000, 1 << 60))" + _WAIT, **_REFUSED),
    Attack("send_a_kind_of_the_hosts", _FIND + "channel.sendall(head(1, 0, 0, 0))" + _WAIT, **_REFUSED),
    Attack("answer_with_an_envelope_that_grows", _FIND + "b = struct.pack('<I', 0) + b'{{\"x\":[' + b'[],' * (1 << 19) + b'[]]}}'\nchannel.sendall(head(16, 0, len(b), 0) + b)" + _WAIT, **_REFUSED),
    Attack("escape_the_keeper_by_answering_byte_by_byte", _FIND + "import signal, threading, time\nsignal.signal(signal.SIGXCPU, signal.SIG_IGN)\ndef trickle():\n    channel.sendall(head(16, 0, 1 << 20, 0))\n    while True:\n        channel.sendall(b'x')\n        time.sleep(0.04)\nthreading.Thread(target=trickle, daemon=True).start()\nwhile True: pass", "bounded", kinds=("cpu_limit",), limits={"cpu": 1}, timeout=4.0),
    Attack("answer_with_no_json", _FIND + "channel.sendall(head(16, 0, 9, 0) + struct.pack('<I', 4) + b'[1,,{')" + _WAIT, **_REFUSED),
    Attack("answer_with_an_unknown_kind_of_error", _FIND + "b = struct.pack('<I', 0) + b'{{\"error\": {{\"kind\": \"host\"}}}}'\nchannel.sendall(head(16, 0, len(b), 0) + b)" + _WAIT, **_REFUSED),
    Attack("answer_twice", _FIND + "b = struct.pack('<I', 1) + b'1{{}}'\nchannel.sendall((head(16, 0, len(b), 0) + b) * 2)" + _WAIT, outcome="refused"),
    Attack("answer_with_hostile_nesting", _FIND + "v = b'[' * 100000\nb = struct.pack('<I', len(v)) + v + b'{{}}'\nchannel.sendall(head(16, 0, len(b), 0) + b)" + _WAIT, **_REFUSED),
    Attack("claim_a_loan_that_was_not_made", _FIND + "b = struct.pack('<I', 1) + b'1{{}}'\nchannel.sendall(head(16, 2, len(b), 0) + b)" + _WAIT, **_REFUSED),
    Attack("borrow_too_much", _FIND + "channel.sendall(head(17, 0, 8, 0) + struct.pack('<Q', 1 << 50))" + _WAIT, **_REFUSED),
    Attack("borrow_twice", _FIND + "channel.sendall(head(17, 0, 8, 0) + struct.pack('<Q', 4096))\nchannel.recvmsg(100, 100)\nchannel.sendall(head(17, 0, 8, 0) + struct.pack('<Q', 4096))" + _WAIT, **_REFUSED),
    Attack("keep_writing_to_what_it_answered_with", _FIND + "channel.sendall(head(17, 0, 8, 0) + struct.pack('<Q', 4096))\n_, a, _, _ = channel.recvmsg(100, 100)\nfd = struct.unpack('i', a[0][2])[0]\nm = mmap.mmap(fd, 4096)\nb = struct.pack('<I', 23) + b'{{\"~bytes\":[0,4096]}}   '[:23] + b'{{}}'\nchannel.sendall(head(16, 3, len(b), 0) + b)" + _WAIT, **_REFUSED),
    Attack("shrink_what_it_was_lent", _FIND + "channel.sendall(head(17, 0, 8, 0) + struct.pack('<Q', 4096))\n_, a, _, _ = channel.recvmsg(100, 100)\nfd = struct.unpack('i', a[0][2])[0]\nchannel.detach()\ntry:\n    os.ftruncate(fd, 0)\n    r = 'ESCAPED'\nexcept OSError as e:\n    r = str(e)\nos._exit(7 if r == 'ESCAPED' else 3)", outcome="refused", kinds=("killed",), type="ProcessExit"),
    Attack("close_the_channel_and_live_on", _FIND + "channel.close()" + _WAIT, outcome="refused", kinds=("killed",)),
)  # fmt: skip

HOSTILE = (
    Attack("hurt_by_repr", "class A:\n    def __repr__(self): raise SystemExit(9)\nA()", "refused"),
    Attack("hurt_by_an_endless_repr", "class A:\n    def __repr__(self):\n        while True: pass\nA()", "bounded", kinds=("timeout",), timeout=0.5),
    Attack("hurt_by_a_giant_repr", "class A:\n    def __repr__(self): return 'x' * 10**10\nA()", "refused"),
    Attack("hurt_by_del", "class A:\n    def __del__(self):\n        while True: pass\nx = A()\n1", "refused"),
    Attack("hurt_by_reduce", "class A:\n    def __reduce__(self): return (print, ('ESCAPED',))\nA()", "refused"),
    Attack("hurt_by_lying_containers", "class L(list):\n    def __iter__(self):\n        while True: yield self\n    def __len__(self): return -1\nL([1])", "refused"),
    Attack("hurt_by_a_patched_encoder", "import json\njson.dumps = json.JSONEncoder.encode = lambda *a, **k: '\\0'\n(1, 2)", "refused"),
    Attack("hurt_by_a_patched_codec", "import sys\nf = sys._getframe()\nwhile f is not None:\n    if 'python_values' in f.f_globals: f.f_globals['python_values'].encode = None\n    f = f.f_back\n(1, 2)", "refused", kinds=("killed", "runtime")),
    Attack("hurt_by_its_own_name", f"{_C}c.prctl(15, b'VmHWM:x', 0, 0, 0)\n1", "refused"),
    Attack("hurt_by_patched_builtins", "import builtins\nbuiltins.len = builtins.isinstance = builtins.type = None\n(1,)", "refused", kinds=("killed", "runtime")),
    Attack("hurt_by_leaving", "import os\nos._exit(0)", "refused", kinds=("killed",)),
    Attack("hurt_by_a_segmentation_fault", "import ctypes\nctypes.string_at(0)", "refused", kinds=("killed",)),
    Attack("hurt_by_deep_recursion", "import sys\nsys.setrecursionlimit(10**9)\ndef f(): return [f()]\nf()", "bounded", kinds=("killed", "memory_limit", "timeout", "runtime"), timeout=3.0),
    Attack("hurt_by_deep_values", "x = []\nfor _ in range(10**5): x = [x]\nx", "refused"),
    Attack("hurt_by_a_deep_program", "eval('(' * 10**5)", "refused"),
)  # fmt: skip

_LOOK = "import os, sys, builtins\n'ESCAPED' if os.path.exists('left') or os.path.exists('/tmp/left') or 'LEFT' in os.environ or hasattr(builtins, 'left') or hasattr(sys, 'left') or 'left' in globals() else 'clean'"
NEIGHBOURS = (
    Attack("leave_anything_for_the_next_run", codes=("import os, sys, builtins, tempfile\nopen('left', 'w').close()\nopen(tempfile.gettempdir() + '/left', 'w').close()\nos.environ['LEFT'] = '1'\nsys.left = builtins.left = left = 1", _LOOK, _LOOK)),
    Attack("see_files_of_a_sibling", pair=("import time\nopen('left', 'w').close(); time.sleep(0.6)", "import os, time\ntime.sleep(0.3)\n" + _LOOK)),
    Attack("share_memory_with_a_sibling", pair=(_call("shmget", 4242, 4096, 0o1666), _call("shmget", 4242, 4096, 0o666))),
)  # fmt: skip

ATTACKS = (*FILES, *NETWORK, *KERNEL, *BOMBS, *CHANNEL, *HOSTILE, *NEIGHBOURS)
