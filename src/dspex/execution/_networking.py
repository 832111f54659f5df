"""Guests that get a network: checked before there are any, connected to the service when they say hello."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING, Final

from dspex._network import guest_network
from dspex._sandbox.limits import MIB, format_size
from dspex.errors import LimitsError, PolicyError

if TYPE_CHECKING:
    from dspex._sandbox.limits import ResourceLimits
    from dspex._sandbox.network import NetworkRules
    from dspex._sandbox.policy import SecurityPolicy
    from dspex._sandbox.process import Guest
    from dspex.execution._isolation import Isolation

_ROOM: Final = 4 * MIB  # for the certificates that a guest keeps among its files


def check(policy: SecurityPolicy, limits: ResourceLimits, isolation: Isolation) -> None:
    """Whether guests can have the network of a policy. Raises `PolicyError`, `LimitsError`."""
    if isolation.level not in (None, "namespaces"):
        raise PolicyError(
            "network: needs isolation level 'namespaces', where a guest has a network of its own; leave isolation out, "
            "or network empty"
        )
    if policy.secrets and limits.disk < _ROOM:
        raise LimitsError(
            f"disk: {format_size(limits.disk)} is too little where a policy has secrets; {format_size(_ROOM)}"
        )
    guest_network()


def connect(guest: Guest, rules: NetworkRules) -> None:
    """Serve the network of a guest that has just said hello, and tell it what stands for its secrets.

    Raises `ClosedError` when the service does not answer, `PolicyError` where its libraries are missing.
    """
    from dspex.execution._tree import tune

    if not guest.listeners:  # that layer was left out on request
        return
    sockets, guest.listeners = [socket.socket(fileno=number) for number in guest.listeners], []
    guest.network = guest_network().serve(rules, sockets)
    if rules.secrets:
        tune(guest, {"placeholders": guest.network.placeholders, "authority": guest.network.ca_pem})
