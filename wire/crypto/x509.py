"""Certificates of X.509 that a program makes for itself: a root, and what it has signed.

On the curve P-256, since that is what every client of TLS knows. Nothing else in Rill needs them, so this
module is imported only where something is served over TLS.
"""

from collections.abc import Sequence
from ipaddress import ip_address
from typing import Any, TypeAlias

import msgspec
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

SECRET_BYTES = 31  # fewer than the curve's order has, so that any of them are a key
SERIAL_BYTES = 16

Period: TypeAlias = tuple[Any, Any]
"""The first and the last moment, as datetimes."""


class Identity(msgspec.Struct, frozen=True):
    """Who a certificate is for."""

    name: str
    secret: bytes

    @property
    def key(self) -> ec.EllipticCurvePrivateKey:
        return ec.derive_private_key(1 + int.from_bytes(self.secret, "big"), ec.SECP256R1())

    @property
    def pem(self) -> bytes:
        """The secret key."""
        return self.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())

    @property
    def subject(self) -> x509.Name:
        return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, self.name)])


def certify(whom: Identity, by: Identity, serial: bytes, hosts: Sequence[str], valid: Period) -> bytes:
    """A certificate in PEM for whom these hosts are; one's own makes a root.

    Args:
        serial: 16 bytes that no other certificate has.
        hosts: names, or addresses as text.
    """
    is_root = whom == by
    public, issuer = whom.key.public_key(), by.key
    signer = x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer.public_key())
    number = int.from_bytes(serial, "big") | 1
    certificate = (
        x509.CertificateBuilder(by.subject, whom.subject, public, number, *valid)
        .add_extension(x509.SubjectAlternativeName([_place(host) for host in hosts]), critical=False)
        .add_extension(signer, critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
        .add_extension(x509.BasicConstraints(ca=is_root, path_length=None), critical=True)
        .add_extension(_usage(is_root=is_root), critical=True)
    )
    return certificate.sign(issuer, SHA256()).public_bytes(Encoding.PEM)


def _place(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def _usage(*, is_root: bool) -> x509.KeyUsage:
    """A root signs certificates, others what they say."""
    return x509.KeyUsage(
        digital_signature=not is_root,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=not is_root,
        key_cert_sign=is_root,
        crl_sign=is_root,
        encipher_only=False,
        decipher_only=False,
    )
