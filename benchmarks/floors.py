"""The floors that dspex is held against: the same work done bare, without walls, pool or bounds.

Each floor is a process of its own (`python floors.py NAME COUNT`), so that its forks copy a small interpreter and not the
benchmark's. It prints the seconds that COUNT rounds took, or with `latency` every round's.
"""

from __future__ import annotations

import ctypes
import json
import os
import socket
import sys
import time

_NEWNS, _NEWIPC, _NEWUSER, _NEWPID, _NEWNET, _NEWUTS = 0x20000, 0x8000000, 0x10000000, 0x20000000, 0x40000000, 0x4000000
_libc = ctypes.CDLL(None, use_errno=True)


def _check(result, what):
    if result < 0:
        raise OSError(ctypes.get_errno(), what)


def _write(path, text):
    descriptor = os.open(path, os.O_WRONLY)
    os.write(descriptor, text.encode())
    os.close(descriptor)


def _serve(channel):
    """A guest: one JSON request, compile, eval, one JSON answer, for as long as there are requests."""
    while data := channel.recv(65536):
        code = compile(json.loads(data)["code"], "<program>", "eval")
        channel.sendall(json.dumps({"value": eval(code)}).encode())
    os._exit(0)


def _ask(channel):
    channel.sendall(json.dumps({"code": "1+1"}).encode())
    return json.loads(channel.recv(65536))["value"]


def _fork_guest():
    ours, theirs = socket.socketpair()
    pid = os.fork()
    if pid == 0:
        ours.close()
        _serve(theirs)
    theirs.close()
    return pid, ours


def forked_ahead(count):
    """Seconds of each round trip to a guest forked ahead and waiting, one use each, with a pause for the refill."""
    times = []
    for _ in range(count):
        pid, channel = _fork_guest()
        time.sleep(0.005)
        started = time.perf_counter()
        assert _ask(channel) == 2
        times.append(time.perf_counter() - started)
        channel.close()
        os.waitpid(pid, 0)
    return times


def living(count):
    """Seconds of each round trip to one living guest."""
    pid, channel = _fork_guest()
    times = []
    for _ in range(count):
        started = time.perf_counter()
        assert _ask(channel) == 2
        times.append(time.perf_counter() - started)
    channel.close()
    os.waitpid(pid, 0)
    return times


def large_fork(count):
    """Seconds of each fork of a process that holds 100 MB of objects, until the child has said a byte."""
    objects = [object() for _ in range(4_500_000)]
    times = []
    for _ in range(count):
        ours, theirs = socket.socketpair()
        started = time.perf_counter()
        pid = os.fork()
        if pid == 0:
            theirs.send(b"!")
            theirs.recv(1)
            os._exit(len(objects) == 0)
        theirs.close()
        ours.recv(1)
        times.append(time.perf_counter() - started)
        ours.close()
        os.kill(pid, 9)
        os.waitpid(pid, 0)
        time.sleep(0.02)
    return times


def many_forks(count):
    """Seconds of each of so many forks that take a mount namespace and a tmpfs and then wait."""
    _unshare_here()
    times, living = [], []
    for _ in range(count):
        ours, theirs = socket.socketpair()
        started = time.perf_counter()
        pid = os.fork()
        if pid == 0:
            _check(_libc.unshare(_NEWNS), "unshare")
            _check(_libc.mount(b"t", b"/tmp", b"tmpfs", 0, b"size=64m"), "mount")
            theirs.send(b"!")
            ours.close()
            theirs.recv(1)
            os._exit(0)
        theirs.close()
        ours.recv(1)
        times.append(time.perf_counter() - started)
        living.append((pid, ours))
    print(json.dumps(times))
    sys.stdout.flush()
    for pid, _ours in living:
        os.kill(pid, 9)
    os._exit(0)


def called(count):
    """Seconds of each round trip of a call: JSON encoded and decoded on both sides of a socketpair, nothing else."""
    ours, theirs = socket.socketpair()
    pid = os.fork()
    if pid == 0:
        ours.close()
        while data := theirs.recv(65536):
            request = json.loads(data)
            theirs.sendall(json.dumps({"id": request["id"], "value": request["args"][0] + 1}).encode())
        os._exit(0)
    theirs.close()
    times = []
    for number in range(count):
        started = time.perf_counter()
        ours.sendall(json.dumps({"id": number, "name": "add", "args": [number], "kwargs": {}}).encode())
        assert json.loads(ours.recv(65536))["value"] == number + 1
        times.append(time.perf_counter() - started)
    ours.close()
    os.waitpid(pid, 0)
    return times


def bare_loop(count):
    """Seconds for `count` rounds of fork, request, eval, answer, reap; no walls."""
    started = time.perf_counter()
    for _ in range(count):
        pid, channel = _fork_guest()
        assert _ask(channel) == 2
        channel.close()
        os.waitpid(pid, 0)
    return [time.perf_counter() - started]


def _unshare_here():
    """Into a user namespace first, as an ordinary user must; then everything as the zygote has it."""
    uid, gid = os.geteuid(), os.getegid()
    _check(_libc.unshare(_NEWUSER | _NEWNS | _NEWNET | _NEWIPC | _NEWUTS | _NEWPID), "unshare")
    _write("/proc/self/setgroups", "deny")
    _write("/proc/self/uid_map", f"0 {uid} 1")
    _write("/proc/self/gid_map", f"0 {gid} 1")
    if pid := os.fork():
        os.waitpid(pid, 0)
        os._exit(0)
    _check(_libc.mount(None, b"/", None, 0x44000, None), "private")
    _check(_libc.mount(b"proc", b"/proc", b"proc", 14, None), "proc")


def walled_loop(count):
    """The same with a PID, mount, IPC and user namespace and a tmpfs for each guest."""
    _unshare_here()
    own = os.open("/proc/self/ns/pid", os.O_RDONLY)
    started = time.perf_counter()
    for _ in range(count):
        _check(_libc.unshare(_NEWPID), "unshare")
        ours, theirs = socket.socketpair()
        pid = os.fork()
        if pid == 0:
            _check(_libc.unshare(_NEWNS | _NEWIPC), "unshare")
            _check(_libc.mount(b"tmpfs", b"/mnt", b"tmpfs", 6, b"size=64m"), "tmpfs")
            _check(_libc.mount(b"proc", b"/proc", b"proc", 14, None), "proc")
            _check(_libc.unshare(_NEWUSER), "unshare")
            _write("/proc/self/uid_map", "1000 0 1")
            ours.close()
            _serve(theirs)
        _check(_libc.setns(own, _NEWPID), "setns")
        theirs.close()
        assert _ask(ours) == 2
        ours.close()
        os.waitpid(pid, 0)
    print(json.dumps([time.perf_counter() - started]))
    sys.stdout.flush()
    os._exit(0)


FLOORS = {f.__name__: f for f in (forked_ahead, living, large_fork, many_forks, called, bare_loop, walled_loop)}

if __name__ == "__main__":
    print(json.dumps(FLOORS[sys.argv[1]](int(sys.argv[2]))))
