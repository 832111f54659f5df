"""Which addresses are never reached, and which only where an entry says `private=True`. Pure, but for `is_own`.

The ranges are written out, after the IANA special-purpose registries (RFC 6890) and the metadata addresses of the
clouds, rather than taken from properties of `ipaddress`, whose answers changed between releases of Python.
"""

from __future__ import annotations

import errno
import socket
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Final

_Network = IPv4Network | IPv6Network
_Address = IPv4Address | IPv6Address


def _table(rows: dict[str, str]) -> list[tuple[_Network, str]]:
    return [(ip_network(network), what) for networks, what in rows.items() for network in networks.split()]


# The first row that holds an address names it.
_NEVER: Final = _table(
    {
        "169.254.169.254/32 169.254.170.2/32 100.100.100.200/32 168.63.129.16/32 192.0.0.192/32": "a metadata address",
        "fd00:ec2::254/128 fd00:ec2::23/128 fd20:ce::254/128": "a metadata address",
        "0.0.0.0/8 ::/128": "the unspecified address",
        "127.0.0.0/8 ::1/128": "loopback",
        "169.254.0.0/16 fe80::/10": "link-local",
        "224.0.0.0/4 ff00::/8": "multicast",
        "192.0.0.0/24 192.0.2.0/24 192.88.99.0/24 198.18.0.0/15 198.51.100.0/24 203.0.113.0/24 240.0.0.0/4": "reserved",
        "64:ff9b:1::/48 100::/64 2001:db8::/32 3fff::/20 fec0::/10": "reserved",
    }
)
_PRIVATE: Final = _table(
    {
        "10.0.0.0/8 172.16.0.0/12 192.168.0.0/16 fc00::/7": "an address of a private network",
        "100.64.0.0/10": "an address of carrier-grade NAT",
    }
)
_GLOBAL: Final = ip_network("2000::/3")
_TRANSLATED: Final = ip_network("64:ff9b::/96")  # NAT64, RFC 6052
_COMPATIBLE: Final = ip_network("::/96")  # RFC 4291, deprecated
_PROTOCOLS: Final = ip_network("2001::/23")  # IETF protocol assignments; Teredo is among them


def refusal(address: str, *, private: bool) -> str | None:
    """Why `address` may not be connected to, or None if it may.

    An address of IPv4 that is wrapped in one of IPv6 (mapped, compatible, 6to4, Teredo, NAT64) is judged as itself.
    """
    if "%" in address:
        return f"{address} is link-local, which is always refused"
    parsed = ip_address(address)
    wrapped = _wrapped(parsed)
    if wrapped is not None:
        reason = refusal(str(wrapped), private=private)
        return f"{address} stands for {reason}" if reason else None
    never = _named(parsed, _NEVER) or _beyond(parsed)
    if never:
        return f"{address} is {never}, which is always refused"
    named = _named(parsed, _PRIVATE)
    if named and not private:
        return f"{address} is {named}; to allow it write the entry as Host(..., private=True)"
    return None


def is_own(address: str) -> bool:
    """Whether `address` is one of this machine's: those, and only those, can be bound to.

    Asked anew each time, as interfaces come and go. Whatever the kernel says besides "not mine" counts as own.
    """
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.bind((address, 0))
    except OSError as error:
        return error.errno not in (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT)
    return True


def _named(address: _Address, table: list[tuple[_Network, str]]) -> str | None:
    return next((what for network, what in table if address.version == network.version and address in network), None)


def _beyond(address: _Address) -> str | None:
    """Of IPv6 only the global range and the private one are in use."""
    if address.version == 4 or _named(address, _PRIVATE):
        return None
    return "reserved" if address not in _GLOBAL or address in _PROTOCOLS else None


def _wrapped(address: _Address) -> IPv4Address | None:
    if isinstance(address, IPv4Address):
        return None
    if address.ipv4_mapped or address.sixtofour:
        return address.ipv4_mapped or address.sixtofour
    if address.teredo:
        return address.teredo[1]
    low = int(address) & 0xFFFFFFFF
    if address in _TRANSLATED or (address in _COMPATIBLE and low > 1):
        return IPv4Address(low)
    return None
