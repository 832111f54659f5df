"""A little network for a guest, served by the host: names, connections, secrets, and a log of every attempt.

    _dns        one DNS message in, one out; and the table of made-up addresses
    _hello      the name in a TLS ClientHello
    _masking    values taken out of answers, placeholders exchanged in requests
    _authority  the certificate authority made for one guest
    _streams    bytes over a socket or over TLS
    _http       one HTTP/1.1 connection, read, checked and passed on
    _outward    from a name to a connection: resolved once, every address checked
    _log        attempts as frozen records
    _guest      what is said on one accepted connection
    _service    the one thread that serves all guests

Who may be reached, and at which addresses, is decided by `_sandbox.network` and `_sandbox.addresses`. This package needs the
extra `dspex[network]` and is imported when a guest has a network.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from dspex.errors import PolicyError

if TYPE_CHECKING:
    from dspex._network._service import GuestNetwork


def guest_network() -> GuestNetwork:
    """The service of this process, made at first use. Raises `PolicyError` where its libraries are not installed."""
    try:
        from dspex._network import _service
    except ModuleNotFoundError as error:
        raise PolicyError(f"network: needs {error.name}; install it with: pip install 'dspex[network]'") from None
    return _service.guest_network()
