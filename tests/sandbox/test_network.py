"""Who may be reached: entries, secrets, and the decisions on them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dspex._sandbox.network import Host, NetworkRules, Secret
from dspex.errors import PolicyError


@pytest.mark.parametrize(
    ("entry", "name", "ports"),
    [
        ("api.example.com:443", "api.example.com", (443,)),
        ("API.Example.COM.", "api.example.com", (443, 80)),
        ("*.example.com:8080", "*.example.com", (8080,)),
        ("bücher.example:80", "xn--bcher-kva.example", (80,)),
        ("8.8.8.8:853", "8.8.8.8", (853,)),
        ("[2606:4700:0::1111]:443", "2606:4700::1111", (443,)),
        ("[::ffff:8.8.8.8]:443", "8.8.8.8", (443,)),
        ("my_host:1", "my_host", (1,)),
    ],
)
def test_entries_have_one_normal_form(entry, name, ports):
    """An entry is held in lower case, in IDNA form, with its ports, and its text reads back as itself."""
    host = Host(entry)
    assert (host.name, host.ports) == (name, ports)
    assert Host(str(host)) == host


@pytest.mark.parametrize(
    "entry",
    [
        "", ":80", "a:", "a:0", "a:65536", "a:80:90", "a:x", "*", "*:80", "*.:80", "a.*.b:80", "a b:80", "a..b", "-a", "a-:80",
        "http://a", "a/b:80", "127.1:80", "1.2.3:80", "0x7f.0x1", "::1", "[::1", "[1.2.3.4]:80", "a" * 64, "a." * 127 + "bc",
        "a:53", "a:080000", "é\u0301\u200d..", None, 5, b"a:80", "a\n:80", "a:८०",
    ],
)  # fmt: skip
def test_entries_that_cannot_be_are_refused(entry):
    """The error of a bad entry names its place in the policy and the entry."""
    with pytest.raises(PolicyError, match=r"network\[1\]"):
        NetworkRules.of(["good.example:80", entry])


@pytest.mark.parametrize(
    "entry", ["127.0.0.1:80", "169.254.169.254", "[fe80::1]:80", "[::ffff:127.0.0.1]:80", "0.0.0.0:1"]
)
@pytest.mark.parametrize("private", [False, True])
def test_forbidden_addresses_cannot_be_entries(entry, private):
    """Loopback, link-local and metadata addresses are refused when the policy is written."""
    with pytest.raises(PolicyError, match="always refused"):
        Host(entry, private=private)


def test_private_addresses_need_the_word():
    """A private address is an entry only with private=True."""
    with pytest.raises(PolicyError, match="private=True"):
        Host("10.0.0.1:80")
    assert Host("10.0.0.1:80", private=True).private


@pytest.mark.parametrize(
    ("name", "port", "found"),
    [
        ("a.example.com", 443, True),
        ("a.b.example.com", 443, True),
        ("example.com", 443, False),
        ("aexample.com", 443, False),
        (".example.com", 443, False),
        ("a.example.com.evil.test", 443, False),
        ("a.example.com", 80, False),
        ("a.example.com", None, True),
    ],
)
def test_wildcards_stand_for_labels_before(name, port, found):
    """`*.example.com` is one or more labels before it, never the name itself nor another's end."""
    assert (NetworkRules.of(["*.example.com:443"]).find(name, port) is not None) == found


def test_ports_are_those_of_entries_and_the_web():
    """The guest listens on 80 and 443 always, so that a refusal can be told."""
    assert NetworkRules.of(["a.test:5432", "b.test"]).ports() == (80, 443, 5432)


def test_refusal_says_what_to_add():
    """The reason of a refusal names the policy and the entry to add."""
    assert '"x.test:8080" to SecurityPolicy(network=[...])' in NetworkRules().refusal("x.test", 8080)
    assert '"[2606::1]:443"' in NetworkRules().refusal("2606::1", 443)


@pytest.mark.parametrize(
    ("name", "given_secret"),
    [
        ("KEY", ("short", ["a.test"])),
        ("KEY", ("x" * 9000, ["a.test"])),
        ("KEY", ("line\r\nend: 123", ["a.test"])),
        ("KEY", ("with a space", ["a.test"])),
        ("KEY", ("nöt-ascii-at-all", ["a.test"])),
        ("KEY", (12345678, ["a.test"])),
        ("KEY", ("value-123456", [])),
        ("KEY", ("value-123456", "a.test")),
        ("KEY", ("value-123456", ["a.test:443"])),
        ("KEY", ("value-123456", ["8.8.8.8"])),
        ("KEY", ("value-123456", ["b.test"])),
        ("KEY", ("value-123456", 5)),
        ("KEY", "value-123456"),
        ("not a name", ("value-123456", ["a.test"])),
    ],
)
def test_secrets_that_cannot_be_are_refused(name, given_secret):
    """The error names the secret and never shows its value."""
    with pytest.raises(PolicyError, match="secrets") as caught:
        NetworkRules.of(["a.test:443"], {name: given_secret})
    assert "value-123456" not in str(caught.value)


def test_secrets_belong_to_their_hosts():
    """A secret is found for its hosts, wildcards included, and for no other; its repr hides the value."""
    rules = NetworkRules.of(["*.a.test", "b.test"], {"KEY": ("value-123456", ["*.a.test"])})
    assert [secret.name for secret in rules.secrets_for("x.a.test")] == ["KEY"]
    assert rules.secrets_for("a.test") == rules.secrets_for("b.test") == ()
    assert "value-123456" not in repr(rules)
    assert isinstance(rules.secrets[0], Secret)


@given(st.text(max_size=60))
def test_any_text_is_an_entry_or_an_error(text):
    """No text leads to anything but a host in normal form or a PolicyError."""
    try:
        host = Host(text)
    except PolicyError:
        return
    assert Host(str(host)) == host
    assert host.name.isascii()
