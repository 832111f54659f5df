"""A network namespace in which every address is its own loopback (rtnetlink(7), netdevice(7)).

Theory of operation: a new network namespace holds one interface, `lo`, which is down. With it up and a route of type
*local* for all of IPv4 and IPv6 ("AnyIP"), the kernel delivers a packet to any address at all to the sockets of this
namespace. So a listener bound to the wildcard accepts connections to every address, `getsockname` of the accepted
socket tells which one was meant, and nothing can leave: there is no other interface.

Runs in every guest that has a network, so it uses the bare C module: Python's `socket` would touch a hundred pages more.
"""

from __future__ import annotations

import _socket
import errno
import fcntl
import os
import struct
from typing import Final

_SIOCGIFFLAGS: Final = 0x8913
_SIOCSIFFLAGS: Final = 0x8914
_IFF_UP: Final = 0x1
_IFREQ: Final = struct.Struct("16sh22x")
_HEADER: Final = struct.Struct("=IHHII")  # struct nlmsghdr: length, type, flags, sequence, port
_ROUTE: Final = struct.Struct("=BBBBBBBBI")  # struct rtmsg: family, three lengths, table, origin, scope, type, flags
_ATTRIBUTE: Final = struct.Struct("=HHI")  # struct rtattr with a number
_NEWROUTE: Final = 24
_REQUEST_ACK_CREATE: Final = 0x1 | 0x4 | 0x400
_TABLE_LOCAL: Final = 255
_ORIGIN_BOOT: Final = 3
_SCOPE_HOST: Final = 254
_TYPE_LOCAL: Final = 2
_OUTPUT_INTERFACE: Final = 4
_BACKLOG: Final = 1024
_BUFFERS: Final = ("/proc/sys/net/ipv4/tcp_rmem", "/proc/sys/net/ipv4/tcp_wmem")
_CLOSED_ON_EXEC: Final = _socket.SOCK_CLOEXEC


def loopback_up() -> None:
    """Bring `lo` of this network namespace up. Raises `OSError`; needs CAP_NET_ADMIN in the namespace."""
    door = _socket.socket(_socket.AF_INET, _socket.SOCK_DGRAM | _CLOSED_ON_EXEC)
    try:
        answer = fcntl.ioctl(door, _SIOCGIFFLAGS, _IFREQ.pack(b"lo", 0))
        flags = _IFREQ.unpack(answer)[1]
        fcntl.ioctl(door, _SIOCSIFFLAGS, _IFREQ.pack(b"lo", flags | _IFF_UP))
    finally:
        door.close()


def everything_is_local() -> None:
    """Make every address of IPv4, and of IPv6 where the kernel has it, one of this namespace. Raises `OSError`.

    `lo` must be up; a second time is a `FileExistsError`. Only for a namespace of one's own: elsewhere it would cut the
    machine off.
    """
    loopback = _socket.if_nametoindex("lo")
    door = _socket.socket(_socket.AF_NETLINK, _socket.SOCK_RAW | _CLOSED_ON_EXEC, _socket.NETLINK_ROUTE)
    try:
        door.bind((0, 0))
        for family in (_socket.AF_INET, *((_socket.AF_INET6,) if has_ipv6() else ())):
            door.send(_local_route(family, loopback))
            _check_acknowledged(door.recv(4096), family)
    finally:
        door.close()


def bound_buffers(size: int) -> None:
    """Let no TCP socket of this namespace hold more than `size` bytes each way: they count in no limit of a process."""
    for path in _BUFFERS:
        with open(path, "w") as file:
            file.write(f"4096 {size} {size}")


def listeners(ports: tuple[int, ...]) -> list[_socket.socket]:
    """A TCP listener for each port, at every address of this namespace. Raises `OSError`."""
    family, anywhere = (_socket.AF_INET6, "::") if has_ipv6() else (_socket.AF_INET, "0.0.0.0")
    made = []
    for port in ports:
        listener = _socket.socket(family, _socket.SOCK_STREAM | _CLOSED_ON_EXEC)
        if family == _socket.AF_INET6:
            listener.setsockopt(_socket.IPPROTO_IPV6, _socket.IPV6_V6ONLY, 0)
        listener.bind((anywhere, port))
        listener.listen(_BACKLOG)
        made.append(listener)
    return made


def has_ipv6() -> bool:
    """Whether this kernel knows IPv6, and this namespace has it."""
    try:
        with open("/proc/sys/net/ipv6/conf/lo/disable_ipv6", "rb") as file:
            return file.read(1) == b"0"
    except OSError:
        return False


def _local_route(family: int, interface: int) -> bytes:
    """The request `ip route add local default dev lo table local` of one address family."""
    route = _ROUTE.pack(family, 0, 0, 0, _TABLE_LOCAL, _ORIGIN_BOOT, _SCOPE_HOST, _TYPE_LOCAL, 0)
    out = _ATTRIBUTE.pack(_ATTRIBUTE.size, _OUTPUT_INTERFACE, interface)
    length = _HEADER.size + len(route) + len(out)
    return _HEADER.pack(length, _NEWROUTE, _REQUEST_ACK_CREATE, 1, 0) + route + out


def _check_acknowledged(answer: bytes, family: int) -> None:
    """The kernel's answer is the number of an error, negative, behind its header; 0 is success."""
    number = -struct.unpack_from("=i", answer, _HEADER.size)[0] if len(answer) >= _HEADER.size + 4 else errno.EPROTO
    if number:
        raise OSError(number, f"local route for family {family}: {os.strerror(number)}")
