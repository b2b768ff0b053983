"""Authorities and certificates in memory with whatever a test needs to be wrong in them."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

Key = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey
HOUR = timedelta(hours=1)


@dataclass(frozen=True, slots=True)
class Identity:
    """PEM: a certificate with the intermediates behind it, and its key."""

    chain: bytes
    key: bytes


class Authority:
    """A root, or below ``issuer`` an intermediate, valid so far from now."""

    def __init__(self, name: str, issuer: Authority | None = None, *, ends: timedelta = HOUR) -> None:
        self._name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._issuer = issuer
        above = issuer or self
        certificate = (
            _builder(self._name, above._name, self._key, -HOUR, ends)
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            .sign(above._key, hashes.SHA256())
        )
        self.pem = certificate.public_bytes(serialization.Encoding.PEM)

    def issue(
        self,
        *names: str,
        starts: timedelta = -HOUR,
        ends: timedelta = HOUR,
        key: Key | None = None,
        organization: str = "test",
    ) -> Identity:
        """A certificate for these SPIFFE URIs and host names, valid from and to so far from now.

        ``organization`` is its subject; empty: it has none.
        """
        key = key or ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(x509.NameOID.ORGANIZATION_NAME, organization)] if organization else [])
        builder = _builder(subject, self._name, key, starts, ends)
        if names:
            kinds = [x509.UniformResourceIdentifier(one) if "://" in one else x509.DNSName(one) for one in names]
            builder = builder.add_extension(x509.SubjectAlternativeName(kinds), critical=False)
        leaf = builder.sign(self._key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)
        secret = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        return Identity(leaf + (self.pem if self._issuer else b""), secret)


@cache
def rsa_key() -> rsa.RSAPrivateKey:
    """One for all tests: making one takes long."""
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


def _builder(
    subject: x509.Name, issuer: x509.Name, key: Key, starts: timedelta, ends: timedelta
) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    return x509.CertificateBuilder(
        issuer_name=issuer,
        subject_name=subject,
        public_key=key.public_key(),
        serial_number=x509.random_serial_number(),
        not_valid_before=now + starts,
        not_valid_after=now + ends,
    )
