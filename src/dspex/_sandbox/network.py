"""Who may be reached: `Host` entries, `Secret`s and the `NetworkRules` made of them. Frozen data, pure decisions.

An entry is `name:port`, `*.name:port`, `address:port` or `[address]:port`. Without a port it means 443 and 80.
`*.example.com` stands for one or more labels before `.example.com`, never for `example.com` itself.
Imported with the policy, so it imports little.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from typing import Any, Final

from dspex._sandbox.frozen import Frozen
from dspex.errors import PolicyError

WEB_PORTS: Final = (443, 80)
_IN_A_FILE: Final = "{ hosts = ['api.example.com'] }"
SHORTEST_SECRET: Final = 8  # a shorter value would be found, and masked, in answers that do not hold it
LONGEST_SECRET: Final = 8192
_LABEL: Final = re.compile(r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?")
_VARIABLE: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,63}")
_NUMBERLIKE: Final = re.compile(r"[0-9]+|0x[0-9a-f]*")
_PORT: Final = re.compile(r"[0-9]{1,5}")


class Host(Frozen):
    """A place that a guest may connect to: a name with or without `*.`, or an address, and its ports.

    `private=True` lets it be an address of a private network (RFC 1918, unique local, carrier-grade NAT). Names are held
    in lower case and in IDNA form. Raises `PolicyError`, which names the entry.
    """

    name: str
    ports: tuple[int, ...]
    private: bool

    def __init__(self, entry: str, *, private: bool = False) -> None:
        if not isinstance(private, bool):
            raise PolicyError(f"{entry!r:.80}: private must be true or false, not a {type(private).__name__}")
        name, ports = _name_and_ports(entry)
        super().__init__(name=name, ports=ports, private=private)

    def __post_init__(self) -> None:
        if self.is_address:
            from dspex._sandbox.addresses import refusal

            reason = refusal(self.name, private=self.private)
            if reason:
                raise PolicyError(f"{str(self)!r}: {reason}")

    @property
    def is_address(self) -> bool:
        """Whether the entry is an IP address and not a name."""
        return ":" in self.name or self.name.replace(".", "").isdigit()

    def names(self, name: str) -> bool:
        """Whether `name`, in its normal form, is the one that the entry stands for."""
        if self.name.startswith("*."):
            return name.endswith(self.name[1:]) and len(name) >= len(self.name)
        return name == self.name

    def __str__(self) -> str:
        name = f"[{self.name}]" if ":" in self.name else self.name
        return name if self.ports == WEB_PORTS else f"{name}:{self.ports[0]}"

    def __repr__(self) -> str:
        return f"Host({str(self)!r}{', private=True' if self.private else ''})"


class Secret(Frozen):
    """A value that stays outside the guest, and the names of the hosts that it is put in for."""

    name: str
    value: str
    hosts: tuple[str, ...]

    def __post_init__(self) -> None:
        place = f"secrets[{self.name!r:.80}]"
        if not isinstance(self.name, str) or not _VARIABLE.fullmatch(self.name):
            raise PolicyError(f"{place}: must be named as a variable: up to 64 letters, digits and _")
        _check_value(place, self.value)
        given: object = self.hosts
        if isinstance(given, str) or not isinstance(given, Iterable) or not (hosts := tuple(given)):
            raise PolicyError(f"{place}: must list the names of one or more hosts, as ['api.example.com']")
        object.__setattr__(self, "hosts", tuple(_secret_host(place, host) for host in hosts))

    def belongs_to(self, name: str) -> bool:
        """Whether the value is put in for the host `name`."""
        return any(Host(host).names(name) for host in self.hosts)

    def __repr__(self) -> str:
        return f"Secret({self.name!r}, ..., {list(self.hosts)!r})"


class NetworkRules(Frozen):
    """All that one guest may do on the network."""

    allowed: tuple[Host, ...] = ()
    secrets: tuple[Secret, ...] = ()
    secrets_in_body: bool = False
    """Whether placeholders are exchanged in the bodies of requests too, not in their headers only."""

    @classmethod
    def of(
        cls,
        network: Iterable[str | Host],
        secrets: Mapping[str, tuple[str, Iterable[str]]] | None = None,
        *,
        secrets_in_body: bool = False,
    ) -> NetworkRules:
        """Rules from what a policy holds. Raises `PolicyError`, which names the field and the entry."""
        return cls(allowed=hosts_of(network), secrets=secrets_of(secrets or {}), secrets_in_body=secrets_in_body)

    def __post_init__(self) -> None:
        for secret in self.secrets:
            for host in secret.hosts:
                if not any(entry.name == host or entry.names(host) for entry in self.allowed):
                    raise PolicyError(
                        f"secrets[{secret.name!r}]: {host!r} cannot be reached; add {host + ':443'!r} to network"
                    )

    def ports(self) -> tuple[int, ...]:
        """The ports that the guest's side listens on: those of the entries, and those of the web."""
        return tuple(sorted({*WEB_PORTS, *(port for entry in self.allowed for port in entry.ports)}))

    def find(self, name: str, port: int | None = None) -> Host | None:
        """The entry that allows the name or address, at `port` or at any. A private entry goes first."""
        found = [entry for entry in self.allowed if entry.names(name) and (port is None or port in entry.ports)]
        return min(found, key=lambda entry: not entry.private, default=None)

    def refusal(self, name: str, port: int | None = None) -> str:
        """Why `name` may not be reached, in words that say what to add."""
        wanted = f"[{name}]" if ":" in name else name
        if normal_address(name):
            from dspex._sandbox.addresses import refusal

            if never := refusal(name, private=True):
                return f"{never}, whatever SecurityPolicy(network=[...]) names"
        at = "" if port is None else f":{port}"
        add = f'"{wanted}:{port or 443}"'
        return f"{wanted}{at} is not in the policy's network; to allow it add {add} to SecurityPolicy(network=[...])"

    def secrets_for(self, name: str) -> tuple[Secret, ...]:
        """The secrets whose values are put in for the host `name`."""
        return tuple(secret for secret in self.secrets if secret.belongs_to(name))


def normal_name(text: str) -> str:
    """A host name in lower case and IDNA form, without its final dot. Raises `ValueError` with the reason."""
    name = text.rstrip(".") if text.endswith(".") and not text.endswith("..") else text
    if not name.isascii():
        name = _idna(name)
    name = name.lower()
    labels = name.split(".")
    if len(name) > 253 or not all(_LABEL.fullmatch(label) for label in labels):
        raise ValueError("is no host name: labels of up to 63 letters, digits and -, 253 characters in all")
    if _NUMBERLIKE.fullmatch(labels[-1]):
        raise ValueError("is neither a name nor an address: a name does not end in a number")
    return name


def _idna(name: str) -> str:
    try:
        return name.encode("idna").decode()
    except UnicodeError as error:
        raise ValueError(f"has no IDNA form: {error}") from None


def normal_address(text: str) -> str | None:
    """An IP address in its one normal form, an IPv4-mapped one as IPv4; None if `text` is none."""
    import ipaddress

    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return None
    mapped = getattr(address, "ipv4_mapped", None)
    return str(mapped or address) if "%" not in text else None


def _name_and_ports(entry: object) -> tuple[str, tuple[int, ...]]:
    if not isinstance(entry, str):
        raise PolicyError(f"{entry!r:.80}: a host must be text, as 'example.org:443', not a {type(entry).__name__}")
    name, port = _split(entry)
    return _normal(entry, name), _ports(entry, port)


def _split(entry: str) -> tuple[str, str | None]:
    """`name:port`, `[address]:port` or either alone; an address of IPv6 needs its brackets."""
    if entry.startswith("["):
        name, closed, rest = entry[1:].partition("]")
        if not closed or ":" not in name or (rest and not rest.startswith(":")):
            raise PolicyError(f"{entry!r:.80}: an address of IPv6 is written as '[2001:db8::1]:443'")
        return name, rest[1:] if rest else None
    if entry.count(":") > 1:
        raise PolicyError(f"{entry!r:.80}: must be host:port, as 'example.org:443'; IPv6 as '[2001:db8::1]:443'")
    name, colon, port = entry.partition(":")
    return name, port if colon else None


def _ports(entry: str, port: str | None) -> tuple[int, ...]:
    if port is None:
        return WEB_PORTS
    if not _PORT.fullmatch(port) or not 1 <= int(port) <= 65_535:
        raise PolicyError(f"{entry!r:.80} must be host:port, as 'example.org:443', with a port of 1 to 65535")
    if int(port) == 53:
        raise PolicyError(f"{entry!r:.80}: port 53 is where the guest's names are answered; it cannot be passed on")
    return (int(port),)


def _normal(entry: str, name: str) -> str:
    address = normal_address(name)
    if address is not None:
        return address
    star = name.startswith("*.")
    try:
        return ("*." if star else "") + normal_name(name[2:] if star else name)
    except ValueError as error:
        raise PolicyError(f"{entry!r:.80} {error}") from None


def hosts_of(given: object) -> tuple[Host, ...]:
    """The entries of a policy's network; those of a set in order, so that equal policies are equal. Raises `PolicyError`."""
    if isinstance(given, (str, bytes, Host)):
        raise PolicyError(f"network: must be a list; for a single entry write [{given!r:.80}]")
    if isinstance(given, Mapping) or not isinstance(given, Iterable):
        raise PolicyError(f"network: must be a list of hosts, not a {type(given).__name__}")
    found = tuple(_host(f"network[{index}]", entry) for index, entry in enumerate(given))
    return tuple(sorted(found, key=repr)) if isinstance(given, (set, frozenset)) else found


def _host(place: str, entry: object) -> Host:
    if isinstance(entry, Host):
        return entry
    try:
        if isinstance(entry, Mapping):  # as a policy file has it
            if unknown := set(entry) - {"host", "private"}:
                raise PolicyError(f"has no such field: {sorted(map(str, unknown))[0]:.80}; there are host, private")
            return Host(entry.get("host"), private=entry.get("private", False))  # type: ignore[arg-type]  # it checks
        return Host(entry)  # type: ignore[arg-type]  # likewise
    except PolicyError as error:
        raise PolicyError(f"{place}: {error}") from None


def secrets_of(given: object) -> tuple[Secret, ...]:
    """The secrets of a policy. Raises `PolicyError`, which names the secret and never shows its value."""
    if isinstance(given, tuple) and all(isinstance(secret, Secret) for secret in given):
        return given
    if not isinstance(given, Mapping):
        raise PolicyError(f"secrets: must be {{name: (value, [hosts])}}, not a {type(given).__name__}")
    return tuple(_secret(name, entry) for name, entry in given.items())


def _secret(name: Any, entry: object) -> Secret:
    """No message shows what may be the value."""
    place = f"secrets[{name!r:.80}]"
    if isinstance(entry, Mapping):  # as a policy file has it: the value is in the environment of this process
        if set(entry) != {"hosts"}:
            raise PolicyError(f"{place}: in a policy file a secret has its hosts and nothing else, as {_IN_A_FILE}")
        value = os.environ.get(name) if isinstance(name, str) else None
        if value is None:
            raise PolicyError(f"{place}: a policy file holds no value; set the variable {name!s:.80} of this process")
        return Secret(name=name, value=value, hosts=entry["hosts"])
    if not isinstance(entry, (tuple, list)) or len(entry) != 2:
        raise PolicyError(f"{place}: must be (value, [hosts])")
    return Secret(name=name, value=entry[0], hosts=entry[1])


def _check_value(place: str, value: object) -> None:
    """A value goes into a header: visible ASCII, no line ends. The message never shows it."""
    if not isinstance(value, str) or not SHORTEST_SECRET <= len(value) <= LONGEST_SECRET:
        raise PolicyError(f"{place}: the value must be text of {SHORTEST_SECRET} to {LONGEST_SECRET} characters")
    if not all("!" <= character <= "~" for character in value):
        raise PolicyError(f"{place}: the value must be of visible ASCII characters, as it goes into a header")


def _secret_host(place: str, host: object) -> str:
    try:
        entry = Host(host)  # type: ignore[arg-type]  # checked in Host
    except PolicyError as error:
        raise PolicyError(f"{place}: {error}") from None
    if entry.is_address or entry.ports != WEB_PORTS:
        raise PolicyError(f"{place}: {host!r:.80} must be the name of a host, without a port")
    return entry.name
