"""The syscall tables against the kernel's own headers, and against numbers known by heart."""

import re
from pathlib import Path

import pytest

from dspex._kernel import seccomp
from dspex._kernel.tables import AARCH64, X86_64

X86_HEADERS = (Path("/usr/include/x86_64-linux-gnu/asm/unistd_64.h"), Path("/usr/include/asm/unistd_64.h"))
GENERIC_HEADER = Path("/usr/include/asm-generic/unistd.h")

# Numbers from 424 on are the same on every machine.
COMMON = {
    "pidfd_send_signal": 424,
    "io_uring_setup": 425,
    "open_tree": 428,
    "pidfd_open": 434,
    "clone3": 435,
    "close_range": 436,
    "openat2": 437,
    "pidfd_getfd": 438,
    "faccessat2": 439,
    "process_madvise": 440,
    "mount_setattr": 442,
    "landlock_create_ruleset": 444,
    "landlock_add_rule": 445,
    "landlock_restrict_self": 446,
    "memfd_secret": 447,
    "process_mrelease": 448,
    "futex_waitv": 449,
    "set_mempolicy_home_node": 450,
    "cachestat": 451,
    "fchmodat2": 452,
    "map_shadow_stack": 453,
    "futex_requeue": 456,
    "statmount": 457,
    "listmount": 458,
    "lsm_list_modules": 461,
    "mseal": 462,
    "removexattrat": 466,
    "open_tree_attr": 467,
    "file_setattr": 469,
}
PINNED = [
    (X86_64, {"read": 0, "mmap": 9, "ioctl": 16, "socket": 41, "clone": 56, "execve": 59, "ptrace": 101}),
    (X86_64, {"prctl": 157, "openat": 257, "unshare": 272, "setns": 308, "seccomp": 317, "bpf": 321, "rseq": 334}),
    (AARCH64, {"io_setup": 0, "getcwd": 17, "fcntl": 25, "openat": 56, "read": 63, "newfstatat": 79, "unshare": 97}),
    (AARCH64, {"ptrace": 117, "kill": 129, "prctl": 167, "socket": 198, "clone": 220, "execve": 221, "mmap": 222}),
    (AARCH64, {"accept4": 242, "wait4": 260, "prlimit64": 261, "setns": 268, "seccomp": 277, "rseq": 293}),
    (AARCH64, {"kexec_file_load": 294}),
    (X86_64, COMMON),
    (AARCH64, COMMON),
]


@pytest.mark.parametrize(("table", "numbers"), PINNED)
def test_known_numbers_stand(table, numbers):
    """Numbers that the kernel has promised are in the tables."""
    assert {name: table[name] for name in numbers} == numbers


@pytest.mark.parametrize("table", [X86_64, AARCH64], ids=["x86_64", "aarch64"])
def test_no_number_stands_for_two_calls(table):
    """Every number has one name."""
    assert len(set(table.values())) == len(table)


def test_x86_64_equals_the_header():
    """Every call of the installed x86-64 header has the same number in the table."""
    header = next((path for path in X86_HEADERS if path.exists()), None)
    if header is None:
        pytest.skip("linux-libc-dev for x86-64 is not installed")
    named = {name: int(n) for name, n in re.findall(r"#define __NR_(\w+) (\d+)\n", header.read_text())}
    assert len(named) > 300
    assert {name: X86_64.get(name) for name in named} == named


def test_aarch64_equals_the_generic_header():
    """Every call of the generic header that 64-bit machines have has the same number in the table."""
    if not GENERIC_HEADER.exists():
        pytest.skip("linux-libc-dev is not installed")
    text = GENERIC_HEADER.read_text()
    named = {name: int(n) for name, n in re.findall(r"#define __NR_(\w+) (\d+)\n", text)}
    wide = {name: int(n) for name, n in re.findall(r"#define __NR3264_(\w+) (\d+)\n", text)}
    wide["newfstatat"] = wide.pop("fstatat")
    not_calls = {"syscalls", "arch_specific_syscall", "sync_file_range2"}
    expected = {n: v for n, v in (named | wide).items() if n not in not_calls and not 403 <= v < 424}
    expected = {n: v for n, v in expected.items() if n not in ("stat", "lstat")}
    assert len(expected) > 280
    assert {name: AARCH64.get(name) for name in expected} == expected


def test_every_name_of_the_filter_is_a_call_somewhere():
    """A misspelt name in the filter's lists cannot hide: no list names what no machine has."""
    assert set(seccomp.verdicts(seccomp.Rules())) <= set(X86_64) | set(AARCH64)


def test_every_call_is_decided():
    """No call of either machine is left to the default: somebody has thought about each."""
    assert set(X86_64) | set(AARCH64) <= set(seccomp.verdicts(seccomp.Rules()))
