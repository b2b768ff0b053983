"""Certificates of a throw-away CA as PEM files, for servers and clients that read files."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec


@dataclass(frozen=True, slots=True)
class Pair:
    """Paths of a certificate and its key."""

    certificate: Path
    key: Path


class FileCa:
    """A CA whose root and issued pairs are files in one folder. ``root``: path of its certificate."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "test CA")])
        self.root = folder / "root-cert.pem"
        root = self._signed(self._name, self._key.public_key(), x509.BasicConstraints(ca=True, path_length=None), [])
        self.root.write_bytes(root.public_bytes(serialization.Encoding.PEM))

    def issue(self, name: str) -> Pair:
        """A pair for this IP address, host name or SPIFFE URI."""
        alternative: x509.GeneralName
        if "://" in name:
            alternative = x509.UniformResourceIdentifier(name)
        else:
            try:
                alternative = x509.IPAddress(ip_address(name))
            except ValueError:
                alternative = x509.DNSName(name)
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(x509.NameOID.ORGANIZATION_NAME, "test")])
        signed = self._signed(
            subject, key.public_key(), x509.BasicConstraints(ca=False, path_length=None), [alternative]
        )
        stem = name.rpartition("/")[2]
        pair = Pair(self._folder / f"{stem}.pem", self._folder / f"{stem}-key.pem")
        pair.certificate.write_bytes(signed.public_bytes(serialization.Encoding.PEM))
        pair.key.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
        )
        return pair

    def _signed(
        self,
        subject: x509.Name,
        key: ec.EllipticCurvePublicKey,
        constraints: x509.BasicConstraints,
        names: list[x509.GeneralName],
    ) -> x509.Certificate:
        now = datetime.now(UTC)
        builder = x509.CertificateBuilder(
            issuer_name=self._name,
            subject_name=subject,
            public_key=key,
            serial_number=x509.random_serial_number(),
            not_valid_before=now - timedelta(hours=1),
            not_valid_after=now + timedelta(days=1),
        ).add_extension(constraints, critical=True)
        if names:
            builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
        return builder.sign(self._key, hashes.SHA256())
