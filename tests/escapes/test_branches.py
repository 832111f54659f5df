"""Branches of one session are walled from each other, and from their warden, in what they do after they were forked."""

from __future__ import annotations

import platform

import pytest

from dspex._kernel.syscalls import NUMBERS

_C = "import ctypes, os, time\nc = ctypes.CDLL(None, use_errno=True)\n"
_VICTIM = "import time\ntime.sleep(0.8)\n'unharmed'"
_OTHERS = "[p for p in range(1, 60) if p != os.getpid()]"


def _over_others(action: str, errors: str = "OSError") -> str:
    return (
        f"{_C}found = []\nfor p in {_OTHERS}:\n    try:\n        {action}\n        found.append(p)\n"
        f"    except {errors}:\n        pass\n'ESCAPED' if found else 'nobody'"
    )


def _refused(call: str, *words: object) -> str:
    given = "".join(f", {word}" for word in words)
    return f"{_C}r = c.syscall({NUMBERS[call]}{given})\n'ESCAPED' if r >= 0 else ctypes.get_errno()"


ATTACKS = {
    "end_a_sibling_or_the_warden": _over_others("os.kill(p, 9)"),
    "end_a_sibling_by_its_thread": _over_others(
        f"assert c.syscall({NUMBERS['tgkill']}, p, p, 9) == 0", "(OSError, AssertionError)"
    ),
    "stop_all_processes": "import os\ntry:\n    os.kill(-1, 19)\n    r = 'ESCAPED'\nexcept OSError as e:\n    r = str(e)\nr",
    "queue_a_signal_for_a_sibling": _over_others(
        f"b = ctypes.create_string_buffer(128); assert c.syscall({NUMBERS['rt_sigqueueinfo']}, p, 10, b) == 0",
        "(OSError, AssertionError)",
    ),
    "see_a_sibling": _over_others("os.stat(f'/proc/{p}')"),
    "read_a_siblings_memory": _over_others("open(f'/proc/{p}/mem', 'rb').read(0)"),
    "read_a_siblings_environment": _over_others("open(f'/proc/{p}/environ').read()"),
    "enter_a_siblings_files": _over_others("os.listdir(f'/proc/{p}/root'); os.listdir(f'/proc/{p}/cwd')"),
    "trace_a_sibling": _over_others(
        f"assert c.syscall({NUMBERS['ptrace']}, 16, p, 0, 0) == 0", "(OSError, AssertionError)"
    ),
    "open_a_sibling": _over_others("os.pidfd_open(p)"),
    "fork_without_being_asked": "import os\ntry:\n    os.fork() or os._exit(0)\n    r = 'ESCAPED'\nexcept OSError as e:\n    r = str(e)\nr",
    "fork_as_a_branch_does": _refused("clone", 0x8000 | 17, 0, 0, 0, 0),
    "take_new_namespaces": _refused("unshare", 0x20000),
    "enter_a_view": f"{_C}d = os.open('/proc/self/ns/mnt', os.O_RDONLY)\nr = c.syscall({NUMBERS['setns']}, d, 0x20000, 0)\n'ESCAPED' if r >= 0 else ctypes.get_errno()",
    "wake_its_capabilities": (
        f"{_C}import struct\nh = ctypes.create_string_buffer(struct.pack('=Ii', 0x20080522, 0), 8)\n"
        f"d = ctypes.create_string_buffer(struct.pack('=6I', 0x240000, 0x240000, 0, 0, 0, 0), 24)\n"
        f"r = c.syscall({NUMBERS['capset']}, h, d)\n'ESCAPED' if r >= 0 else ctypes.get_errno()"
    ),
    "mount_anything": _refused("mount", "b'x'", "b'/tmp'", "b'tmpfs'", 0, 0),
    "change_a_siblings_file": "import time\nopen('shared', 'w').write('changed')\ntime.sleep(0.4)\n'done'",
    "change_a_siblings_open_file": "import time\nf.write('changed'); f.flush()\ntime.sleep(0.4)\n'done'",
}
_VICTIMS = {
    "change_a_siblings_file": "import time\ntime.sleep(0.8)\n'unharmed' if open('shared').read() == 'mine' else 'ESCAPED'",
    "change_a_siblings_open_file": "import time\ntime.sleep(0.8)\nf.seek(0)\n'unharmed' if f.read() == 'mine' else 'ESCAPED'",
}
_BEFORE = "open('shared', 'w').write('mine')\nf = open('open', 'w+')\nf.write('mine')\nf.flush()"


@pytest.mark.parametrize("name", ATTACKS)
def test_a_branch_cannot(name, host):
    """Its sibling and its parent live on as they were; where there are no namespaces there are no branches."""
    if host.level != "namespaces":
        result = host.run({"name": name, "before": _BEFORE, "branches": ["1", "1"]})
        assert "cannot be branched" in result["raised"]
        return
    job = {"name": name, "before": _BEFORE, "branches": [ATTACKS[name], _VICTIMS.get(name, _VICTIM)]}
    result = host.run(job)
    assert "raised" not in result, result
    assert result["kind"] is None, result
    assert result["value"] not in ("ESCAPED", None), result
    assert result["afterwards"] == 42


@pytest.mark.parametrize("name", ["read_a_siblings_memory", "see_a_sibling"])
def test_without_one_layer_a_sibling_is_still_hidden(name, unwalled):
    """Besides being hidden by its own wish, memory is hidden from the moment that a process takes a user namespace."""
    job = {"name": name, "before": _BEFORE, "branches": [ATTACKS[name], _VICTIM], "without": ["memory"]}
    assert unwalled("namespaces").run(job)["value"] == "nobody"


# A thread that shares neither its directory with its process (so that it could enter a mount namespace) nor anything of Python's: it
# raises the capabilities, and asks for the view of the last copy that is announced, until both are granted; then it reads the file.
_THIEF = """
import ctypes, mmap, struct, time
def words(*them):
    code = b""
    for register, word in zip((b"\\x48\\xbf", b"\\x48\\xbe", b"\\x48\\xba", b"\\x49\\xba"), them):
        code += register + struct.pack("<q", word)
    return code
def call(number, *them):
    return words(*them) + b"\\x48\\xb8" + struct.pack("<Q", number) + b"\\x0f\\x05"
def place(piece):
    return ctypes.addressof(ctypes.c_char.from_buffer(piece))
data, stack, text = mmap.mmap(-1, 8192), mmap.mmap(-1, 1 << 16), mmap.mmap(-1, 4096, prot=7)
d = place(data)
data[0:8] = struct.pack("=Ii", 0x20080522, 0)
data[8:32] = struct.pack("=6I", 0x240000, 0x240000, 0, 0, 0, 0)
data[64:89] = b"/run/sandbox/work/secret\\0"
c = call(126, d, d + 8)
c += b"\\x85\\xc0\\x0f\\x85" + struct.pack("<i", -len(c) - 8)
c += call(308, 60, 0x20000, LAST)
c += b"\\x85\\xc0\\x0f\\x85" + struct.pack("<i", -len(c) - 8)
c += call(257, -100, d + 64, 0, 0)
c += b"\\x89\\xc7\\x31\\xc0\\x48\\xbe" + struct.pack("<Q", d + 4096) + b"\\x48\\xba" + struct.pack("<Q", 64) + b"\\x0f\\x05"
c += call(34) + b"\\xeb\\xfe"
text[:len(c)] = c
start = call(56, 0x10D00, place(stack) + 65000, 0, 0)  # VM, FILES, SIGHAND, THREAD; not FS
start += b"\\x85\\xc0\\x75\\x0c\\x48\\xb8" + struct.pack("<Q", place(text)) + b"\\xff\\xe0\\xc3"
text[2048:2048 + len(start)] = start
assert ctypes.CFUNCTYPE(ctypes.c_int)(place(text) + 2048)() > 0
time.sleep(2)
'ESCAPED' if b"SECRET" in data[4096:4160] else 'nothing'
"""


@pytest.mark.skipif(platform.machine() != "x86_64", reason="machine code of x86-64")
def test_a_branchs_thread_cannot_take_the_view_of_a_copy(host):
    """A view goes to the main thread of a process that has none, however early another's thread asks for it."""
    if host.level != "namespaces":
        return
    mine = "open('secret', 'w').write('SECRET')"
    job = {
        "name": "thief",
        "before": "1",
        "branches": [_THIEF.replace("LAST", "39"), _VICTIM],
        "mine": mine,
        "copies": 40,
    }
    result = host.run(job)
    assert "raised" not in result, result
    assert (result["kind"], result["value"]) == (None, "nothing"), result


_SAY_NOT_COPIED = f"c.syscall({NUMBERS['setns']}, -1, 0x20000, ctypes.c_uint(1 << 31), 1)"


@pytest.mark.parametrize("times", [1, 5000])
def test_a_branch_cannot_call_off_the_copies_of_another(times, host):
    """Neither by one false word to the warden, nor by so many that nobody listens to it any more."""
    if host.level != "namespaces":
        return
    attack = f"{_C}for _ in range({times}): {_SAY_NOT_COPIED}\ntime.sleep(1)\n'said'"
    job = {"name": "caller-off", "before": "1", "branches": [attack, _VICTIM], "mine": "1", "copies": 40}
    result = host.run(job)
    assert "raised" not in result, result
    assert (result["kind"], result["value"]) == (None, "said"), result


def test_a_branch_cannot_leave_its_process_group(host):
    """Its unfinished copies are ended by it, with which they began."""
    if host.level != "namespaces":
        return
    for call in ("setsid", "setpgid"):
        job = {"name": call, "before": "1", "branches": [_refused(call, 0, 0), _VICTIM]}
        assert host.run(job)["value"] == 1
