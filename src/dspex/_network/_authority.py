"""A certificate authority made for one guest: its key never leaves this process, and dies with the guest.

It is asked for certificates of the hosts that have secrets, and of no others, because only there TLS ends at us. By
`cryptography` (X.509, P-256) and `ssl`. `ssl` reads keys from files only; they are memory files, which no one else sees.
"""

from __future__ import annotations

import datetime
import os
import ssl
from typing import TYPE_CHECKING, Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

if TYPE_CHECKING:
    from collections.abc import Sequence

_LIFE: Final = datetime.timedelta(days=30)
_MOST_CONTEXTS: Final = 64  # a guest may name as many hosts under a wildcard as it likes
_GRACE: Final = datetime.timedelta(days=1)  # for a clock that is behind


class Authority:
    """Issues certificates, each for one name, all for one key."""

    def __init__(self, names: Sequence[str]) -> None:
        """`names` are those it may ever sign for, with or without `*.`; clients hold it to them (RFC 5280 4.2.1.10)."""
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._leaf_key = ec.generate_private_key(ec.SECP256R1())
        self._subject = _common_name("dspex authority of one guest")
        self._certificate = self._root(names)
        self._contexts: dict[str, ssl.SSLContext] = {}

    @property
    def pem(self) -> str:
        """The authority's own certificate, to be trusted by the guest."""
        return self._certificate.public_bytes(serialization.Encoding.PEM).decode()

    def context(self, name: str) -> ssl.SSLContext:
        """What a server needs to be `name`: TLS 1.2 or later, HTTP/1.1."""
        if name not in self._contexts:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.minimum_version = ssl.TLSVersion.TLSv1_2
            context.set_alpn_protocols(["http/1.1"])
            self._load(context, name)
            if len(self._contexts) >= _MOST_CONTEXTS:
                del self._contexts[next(iter(self._contexts))]
            self._contexts[name] = context
        return self._contexts[name]

    def _load(self, context: ssl.SSLContext, name: str) -> None:
        descriptor = os.memfd_create("dspex-certificate", os.MFD_CLOEXEC)
        try:
            os.write(descriptor, _private_pem(self._leaf_key) + _pem(self._leaf(name)) + _pem(self._certificate))
            context.load_cert_chain(f"/proc/self/fd/{descriptor}")
        finally:
            os.close(descriptor)

    def _root(self, names: Sequence[str]) -> x509.Certificate:
        bounds = [x509.DNSName(name.removeprefix("*.")) for name in names]
        return (
            _builder(self._subject, self._subject, self._key.public_key())
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(_key_usage(authority=True), critical=True)
            .add_extension(x509.NameConstraints(permitted_subtrees=bounds, excluded_subtrees=None), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(self._key.public_key()), critical=False)
            .sign(self._key, hashes.SHA256())
        )

    def _leaf(self, name: str) -> x509.Certificate:
        issuer = x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key())
        return (
            # Without a subject, since common names end at 64 characters; then the other name is critical.
            _builder(x509.Name([]), self._subject, self._leaf_key.public_key())
            .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=True)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_key_usage(authority=False), critical=True)
            .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
            .add_extension(issuer, critical=False)
            .sign(self._key, hashes.SHA256())
        )


def _common_name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def _builder(subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey) -> x509.CertificateBuilder:
    now = datetime.datetime.now(datetime.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _GRACE)
        .not_valid_after(now + _LIFE)
    )


def _key_usage(*, authority: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not authority,
        key_cert_sign=authority,
        crl_sign=authority,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)


def _private_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
