"""An authority of the tests' own, and a certificate of it for a server on loopback."""

from __future__ import annotations

import dataclasses
import datetime
import ipaddress
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

if TYPE_CHECKING:
    import pathlib


@dataclasses.dataclass(frozen=True)
class Files:
    """Where they are, as PEM: the authority's certificate, the server's, and the server's key."""

    root: pathlib.Path
    certificate: pathlib.Path
    key: pathlib.Path


def make(directory: pathlib.Path) -> Files:
    """Write them into `directory`."""
    files = Files(directory / "root.pem", directory / "server.pem", directory / "server.key")
    authority_key, key = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    authority = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "tests")])
    server = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "server")])
    root = _builder(authority, authority, authority_key).add_extension(x509.BasicConstraints(True, None), critical=True)
    address = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    leaf = _builder(server, authority, key).add_extension(address, critical=False)
    pem = serialization.Encoding.PEM
    files.root.write_bytes(root.sign(authority_key, hashes.SHA256()).public_bytes(pem))
    files.certificate.write_bytes(leaf.sign(authority_key, hashes.SHA256()).public_bytes(pem))
    plain = (serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    files.key.write_bytes(key.private_bytes(pem, *plain))
    return files


def _builder(subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey) -> x509.CertificateBuilder:
    now, day = datetime.datetime.now(datetime.UTC), datetime.timedelta(days=1)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - day)
        .not_valid_after(now + day)
    )
