"""From a name to a connection: resolved once, every address checked, one of the checked connected to.

Theory of operation: a name's owner may answer with a public address first and a private one a moment later (DNS
rebinding). So there is one resolution for one connection, and the connection goes to an address out of that answer, by
number. One forbidden address in an answer spoils all of it: a name that mixes them is no accident.
"""

from __future__ import annotations

import asyncio
import socket
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Final, Protocol

from dspex._sandbox.addresses import is_own, refusal
from dspex._sandbox.network import normal_address

if TYPE_CHECKING:
    from collections.abc import Sequence

    from dspex._sandbox.network import Host

_RESOLVING_THREADS: Final = 8
_OF_ONE_GUEST: Final = 2
_MOST_ADDRESSES: Final = 64
_MOST_TRIED: Final = 4


class RefusedError(Exception):
    """The rules do not allow it; the text says why and what to add. Never leaves this package."""


class UnreachableError(Exception):
    """It is allowed, and did not work. Never leaves this package."""


class Connector(Protocol):
    """How names become addresses and addresses connections; no decisions are made here."""

    async def addresses(self, name: str, port: int) -> Sequence[str]:
        """The addresses of a name. Raises `OSError`."""

    async def connect(self, address: str, port: int) -> socket.socket:
        """A socket that is connected to an address. Raises `OSError`."""


class SystemConnector:
    """The resolver and the network of the host. Resolution waits in threads, as the C library knows no other way."""

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(_RESOLVING_THREADS, thread_name_prefix="dspex-resolver")

    async def addresses(self, name: str, port: int) -> Sequence[str]:
        found = await asyncio.get_running_loop().run_in_executor(self._threads, _resolve, name, port)
        return tuple(dict.fromkeys(found))

    async def connect(self, address: str, port: int) -> socket.socket:
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        outward = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
        try:
            await asyncio.get_running_loop().sock_connect(outward, (address, port))
            outward.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        except BaseException:
            outward.close()
            raise
        return outward


class SparingConnector:
    """One guest's connector: it leaves most of the threads that resolve names to others, however slow its names are."""

    def __init__(self, connector: Connector) -> None:
        self._connector = connector
        self._turns = asyncio.Semaphore(_OF_ONE_GUEST)

    async def addresses(self, name: str, port: int) -> Sequence[str]:
        await self._turns.acquire()
        resolving = asyncio.ensure_future(self._connector.addresses(name, port))
        resolving.add_done_callback(self._resolved)
        return await asyncio.shield(resolving)  # a thread works on, though nobody waits for it any more

    async def connect(self, address: str, port: int) -> socket.socket:
        return await self._connector.connect(address, port)

    def _resolved(self, done: asyncio.Future[Sequence[str]]) -> None:
        self._turns.release()
        if not done.cancelled():
            done.exception()  # so that nobody complains where it was given up


def _resolve(name: str, port: int) -> list[str]:
    return [str(found[4][0]) for found in socket.getaddrinfo(name, port, type=socket.SOCK_STREAM)]


async def reach(connector: Connector, entry: Host, name: str, port: int, seconds: float) -> tuple[socket.socket, str]:
    """A connection to `name` (or an address) that `entry` allows, and the address that it goes to.

    Raises `RefusedError` for an address that is forbidden, `UnreachableError` when there is none or none answers within
    `seconds`.
    """
    try:
        async with asyncio.timeout(seconds):
            found = await _checked_addresses(connector, entry, name, port)
    except OSError as error:
        raise UnreachableError(f"{name} has no address: {error or 'no answer'}") from None
    return await _first_connection(connector, found, port, seconds)


async def _checked_addresses(connector: Connector, entry: Host, name: str, port: int) -> Sequence[str]:
    literal = normal_address(name)
    found = [literal] if literal else (await connector.addresses(name, port))[:_MOST_ADDRESSES]
    if not found:
        raise UnreachableError(f"{name} has no address")
    for address in found:
        reason = refusal(address, private=entry.private)
        if reason is None and is_own(address):
            reason = f"{address} is an address of this host itself, which is always refused"
        if reason:
            raise RefusedError(reason if literal else f"{name} leads to {reason}")
    return found


async def _first_connection(
    connector: Connector, addresses: Sequence[str], port: int, seconds: float
) -> tuple[socket.socket, str]:
    """Connect to the first address that answers; each has its share of the time."""
    tried, failures = addresses[:_MOST_TRIED], []
    for address in tried:
        try:
            async with asyncio.timeout(seconds / len(tried)):
                return await connector.connect(address, port), address
        except OSError as error:
            failures.append(f"{address}: {error or 'no answer'}")
    raise UnreachableError(f"port {port} cannot be reached: {'; '.join(failures)}")
