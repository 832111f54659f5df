"""A namespace whose every address is its own."""

import os
import subprocess
import sys

import pytest

from dspex._kernel import network

PROLOGUE = """
import socket, sys
from dspex._kernel import namespaces, network
namespaces.unshare(namespaces.USER | namespaces.NETWORK)
"""


def inside(code):
    """What `code` prints in a process that has left the shared network."""
    script = f"import sys; sys.path[:0] = {sys.path!r}{PROLOGUE}{code}"
    ran = subprocess.run([sys.executable, "-I", "-c", script], capture_output=True, text=True, timeout=60, check=False)
    if "unshare" in ran.stderr:
        pytest.skip(f"this host allows no user and network namespaces: {ran.stderr[-100:]}")
    assert ran.returncode == 0, ran.stderr
    return ran.stdout


MEET = """
server = socket.create_server(("::", 443), family=socket.AF_INET6, dualstack_ipv6=True)
for address in ("198.18.0.1", "8.8.8.8", "127.0.0.1", "2606:4700::1111"):
    with socket.create_connection((address, 443), timeout=5) as client:
        print(server.accept()[0].getsockname()[0])
"""


def test_every_address_is_ones_own():
    """A listener on the wildcard is reached at any address, and told which one was meant."""
    shown = inside(f"network.loopback_up(); network.everything_is_local()\n{MEET}")
    assert shown.split() == ["::ffff:198.18.0.1", "::ffff:8.8.8.8", "::ffff:127.0.0.1", "2606:4700::1111"]


def test_listeners_take_in_all_addresses_of_a_port():
    """Each listens at its port, for both versions of IP where there are two."""
    code = """
import os
network.loopback_up(); network.everything_is_local()
for port, made in zip((53, 443), network.listeners((53, 443))):
    for address in ("198.18.0.1", *(["2606:4700::1111"] if network.has_ipv6() else [])):
        with socket.create_connection((address, port), timeout=5) as client:
            print(socket.socket(fileno=os.dup(made.fileno())).accept()[0].getsockname()[0].removeprefix("::ffff:") == address)
"""
    assert set(inside(code).split()) == {"True"}


def test_buffers_are_bounded():
    """A connection holds no more than was said at either end, whatever is sent on it."""
    code = """
network.loopback_up(); network.everything_is_local(); network.bound_buffers(65536)
(listener,) = (socket.socket(fileno=made.detach()) for made in network.listeners((443,)))
client = socket.create_connection(("198.18.0.1", 443), timeout=5)
client.setblocking(False)
sent = 0
try:
    while True: sent += client.send(bytes(65536))
except BlockingIOError:
    print(sent < 1 << 18)
"""
    assert inside(code).split() == ["True"]


def test_routes_are_made_once():
    """Asking again is an error and changes nothing."""
    code = "network.loopback_up(); network.everything_is_local()\n"
    code += "try: network.everything_is_local()\nexcept FileExistsError as error: print(error)"
    assert "local route for family 2: File exists" in inside(code)


def test_without_them_nothing_is_reached():
    """A bare namespace has no way to any address."""
    code = "try: socket.create_connection(('198.18.0.1', 443), timeout=5)\nexcept OSError as error: print(error.errno)"
    assert inside(code).strip() == "101"


def test_the_kernels_refusal_is_an_error():
    """Without the capability the kernel says no, and so does the door."""
    code = f"""
namespaces.write_maps("1000 {os.geteuid()} 1", "1000 {os.getegid()} 1")
network.loopback_up()
namespaces.unshare(namespaces.USER)
try: network.everything_is_local()
except PermissionError as error: print(error)
"""
    assert "local route for family 2" in inside(code)


def test_a_short_answer_is_an_error():
    """An answer that holds no number is no success."""
    with pytest.raises(OSError, match="local route"):
        network._check_acknowledged(b"", 2)
