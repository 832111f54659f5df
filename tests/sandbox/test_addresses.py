"""Which addresses are never reached."""

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dspex._sandbox.addresses import is_own, refusal

NEVER = [
    "0.0.0.0",
    "0.1.2.3",
    "127.0.0.1",
    "127.255.255.254",
    "169.254.0.1",
    "169.254.169.254",
    "169.254.170.2",
    "100.100.100.200",
    "168.63.129.16",
    "192.0.0.192",
    "192.0.2.1",
    "198.18.0.1",
    "198.51.100.1",
    "203.0.113.1",
    "224.0.0.1",
    "239.255.255.255",
    "240.0.0.1",
    "255.255.255.255",
    "::",
    "::1",
    "fe80::1",
    "fe80::1%eth0",
    "fec0::1",
    "ff02::1",
    "fd00:ec2::254",
    "fd20:ce::254",
    "2001:db8::1",
    "3fff::1",
    "100::1",
    "4000::1",
    "5f00::1",
    "64:ff9b:1::1",
]
PRIVATE = [
    "10.0.0.1",
    "172.16.0.1",
    "172.31.255.255",
    "192.168.1.1",
    "100.64.0.1",
    "100.127.255.255",
    "fc00::1",
    "fd12:3456::1",
]
PUBLIC = ["8.8.8.8", "93.184.216.34", "172.32.0.1", "100.128.0.1", "2606:4700::1111", "2a00:1450::1"]


def wrappings(address):
    """The addresses of IPv6 that stand for one of IPv4: mapped, compatible, NAT64, 6to4, Teredo."""
    number = int(ipaddress.IPv4Address(address))
    high, low = number >> 16, number & 0xFFFF
    yield f"::ffff:{address}"
    if number > 1:
        yield f"::{address}"
    yield f"64:ff9b::{address}"
    yield f"2002:{high:x}:{low:x}::1"
    yield f"2001:0:808:808:0:0:{high ^ 0xFFFF:x}:{low ^ 0xFFFF:x}"


@pytest.mark.parametrize("private", [False, True])
@pytest.mark.parametrize("address", NEVER)
def test_some_are_always_refused(address, private):
    """Loopback, link-local, metadata, multicast, unspecified and reserved addresses, private or not."""
    assert "always refused" in refusal(address, private=private)


@pytest.mark.parametrize("address", PRIVATE)
def test_private_ones_need_the_word(address):
    """Private addresses are refused with the way out, and allowed with private=True."""
    assert "private=True" in refusal(address, private=False)
    assert refusal(address, private=True) is None


@pytest.mark.parametrize("address", PUBLIC)
def test_public_ones_are_reached(address):
    """What the Internet routes is allowed."""
    assert refusal(address, private=False) is None


@pytest.mark.parametrize("address", [a for a in NEVER + PRIVATE if ":" not in a])
def test_wrapped_ones_are_judged_as_themselves(address):
    """An address of IPv4 inside one of IPv6 is as forbidden as it is alone."""
    for wrapped in wrappings(address):
        assert refusal(wrapped, private=False), wrapped


@given(st.ip_addresses())
def test_nothing_local_is_let_through(address):
    """Whatever is allowed without the word is, by Python's own reckoning, no special address."""
    if refusal(str(address), private=False) is None and not getattr(address, "sixtofour", None):
        kinds = (address.is_loopback, address.is_link_local, address.is_multicast, address.is_private)
        assert not any(kinds)


def test_own_addresses_are_known():
    """The host's own addresses are told from others."""
    assert is_own("127.0.0.1")
    assert not is_own("93.184.216.34")
    assert not is_own("2606:4700::1111")
