"""The network as a program meets it: whose certificates it trusts, and what an error of it is told with. Runs inside.

No wall: those are a network namespace whose every address leads to the host, and the filter of system calls.
"""

from __future__ import annotations

import _socket
import errno
import os
import sys
from typing import Any, Final

_SHOWN: Final = "/kernel/certificates.pem"  # what the host trusts
_OWN: Final = "/run/sandbox/certificates.pem"  # that, and the authority of this guest
_REFUSAL: Final = "Forbidden by SecurityPolicy"  # as the host's proxy answers
_ALERTS: Final = (
    "unrecognized name",
    "access denied",
)  # likewise; others come of the host that was reached, or of its absence
_AWAY: Final = (errno.ENETUNREACH, errno.EHOSTUNREACH, errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT, errno.ETIMEDOUT)
_MOST_CAUSES: Final = 20
_MOST_SHOWN: Final = 8


def prepare() -> None:
    """In the zygote of guests that have a network: asyncio is to send as it did before it knew of sendmsg, which is refused."""
    import asyncio.selector_events

    vars(asyncio.selector_events)["_HAS_SENDMSG"] = False


def connect(placeholders: dict[str, str], authority: str) -> None:
    """Have what stands for secrets in the environment, and trust whoever serves the hosts of these secrets."""
    os.environ.update(placeholders)
    with open(_SHOWN, encoding="utf-8", errors="replace") as shown:
        trusted = shown.read()
    with open(_OWN, "w", encoding="utf-8") as own:
        own.write(authority + trusted)
    for name, value in list(os.environ.items()):
        if value == _SHOWN:
            os.environ[name] = _OWN


def hint(error: BaseException, allowed: list[str]) -> str:
    """What the policy allows, for an error that has to do with the network; else nothing."""
    cause: BaseException | None = error
    for _ in range(_MOST_CAUSES):
        if cause is None:
            return ""
        if _is_of_the_network(cause, bool(allowed)):
            return _told(allowed)
        cause = cause.__cause__ or cause.__context__
    return ""


def _told(allowed: list[str]) -> str:
    shown = ", ".join([*map(repr, allowed[:_MOST_SHOWN]), *(["..."] if len(allowed) > _MOST_SHOWN else [])])
    rest = " else" if allowed else "; name what it may, as network=['api.example.com:443']"
    return f"SecurityPolicy(network=[{shown}]) lets this program reach nothing{rest}"


def _is_of_the_network(error: BaseException, connected: bool) -> bool:
    kind = type(error)
    if "HTTP" in kind.__name__:  # of urllib, requests, httpx
        return _REFUSAL in str(error)
    if issubclass(kind, (_socket.gaierror, _socket.herror, ConnectionRefusedError)):
        return True
    if issubclass(kind, ConnectionError):  # a connection that the policy let come about, or no connection
        return False
    if issubclass(kind, _of_tls()):
        return any(alert in str(error) for alert in _ALERTS)
    if not issubclass(kind, OSError) or error.filename is not None:  # type: ignore[attr-defined]  # it is an OSError
        return False
    number = error.errno  # type: ignore[attr-defined]  # likewise
    if number == errno.EACCES:
        return connected  # Landlock's answer for a port
    return number in _AWAY or (number == errno.EPERM and _was_raised_by_sockets(error))


def _of_tls() -> tuple[Any, ...]:
    return (sys.modules["ssl"].SSLError,) if "ssl" in sys.modules else ()


def _was_raised_by_sockets(error: BaseException) -> bool:
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return trace is not None and trace.tb_frame.f_globals.get("__name__") == "socket"
