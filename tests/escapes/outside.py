"""The world that the attackers of a network policy meet: servers on loopback that stand for hosts, and hostile names."""

from __future__ import annotations

import contextlib
import ssl
from unittest import mock

from dspex._network import _http, _outward, _service
from dspex._network._authority import Authority
from dspex._network._guest import Conversation
from dspex._network._service import GuestNetwork
from dspex._sandbox.network import Host, NetworkRules
from internet import PUBLIC, Loopback, Server, echo, read_request

API = "api.example.com"
LOCATIONS = {
    b"/evil": b"http://evil.test/",
    b"/metadata": b"http://169.254.169.254/latest/",
    b"/loopback": b"http://127.0.0.1/",
    b"/port": b"http://api.example.com:8080/",
}


async def _no_refusal(conversation, client):
    return ""


# What the host's side checks, to see what each is for: by name, the places where it is taken away.
CHECKS = {
    "names": ((NetworkRules, "find", lambda rules, name, port=None: Host("any.test", private=True)),),
    "addresses": (
        (_outward, "refusal", lambda address, private: None),
        (_outward, "is_own", lambda address: False),
    ),
    "authority": ((_http._Connection, "_check_authority", lambda connection, authority: None),),
    "hello": ((Conversation, "_refusal_of_hello", _no_refusal),),
}


@contextlib.contextmanager
def without(names):
    """While these checks are not made."""
    with contextlib.ExitStack() as taken:
        for owner, attribute, instead in (place for name in names for place in CHECKS[name]):
            taken.enter_context(mock.patch.object(owner, attribute, instead))
        yield


def _redirect_or_echo(server, connection):
    request = read_request(connection)
    location = LOCATIONS.get(request.split()[1]) if request else None
    if location:
        connection.sendall(b"HTTP/1.1 302 Found\r\nContent-Length: 0\r\nLocation: %s\r\n\r\n" % location)
    elif request:
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(request) + request)


class World:
    """Made once, before the first guest; `connected` is every address that anything was connected to on a guest's behalf."""

    def __init__(self) -> None:
        authority = Authority([API])
        self.connector = Loopback()
        plain = Server(_redirect_or_echo)
        secure = Server(echo, context=authority.context(API))
        metadata = Server(_redirect_or_echo)  # what must never be asked
        for address in (PUBLIC, "127.0.0.1", "::ffff:127.0.0.1", "169.254.169.254", "10.0.0.1", "8.8.8.8"):
            self.connector.servers[address, 80] = plain.port if address == PUBLIC else metadata.port
            self.connector.servers[address, 443] = secure.port
        rebound = iter(range(1 << 30))
        self.connector.names |= {
            "loopback.example.com": ["127.0.0.1"],
            "metadata.example.com": ["169.254.169.254"],
            "mapped.example.com": ["::ffff:127.0.0.1"],
            "mixed.example.com": [PUBLIC, "127.0.0.1"],
            "inner.example.com": ["10.0.0.1"],
            "rebinding.example.com": lambda: [PUBLIC] if next(rebound) == 0 else ["127.0.0.1"],
        }
        roots = ssl.create_default_context(cadata=authority.pem)
        _service._shared = GuestNetwork(connector=self.connector, roots=roots)

    @property
    def forbidden(self) -> list[str]:
        """The addresses that were connected to and never should have been."""
        return sorted({address for address, _ in self.connector.connected if address != PUBLIC})
