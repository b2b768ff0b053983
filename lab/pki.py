"""Certificates: one authority for each API server; one mesh root with an intermediate for each istiod."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from .settings import Cluster

LIFETIME = timedelta(days=30)
LEEWAY = timedelta(hours=1)


@dataclass(frozen=True, slots=True)
class Pair:
    """A certificate and its key."""

    certificate: x509.Certificate
    key: rsa.RSAPrivateKey

    @property
    def certificate_pem(self) -> bytes:
        return self.certificate.public_bytes(serialization.Encoding.PEM)

    @property
    def key_pem(self) -> bytes:
        style = serialization.PrivateFormat.TraditionalOpenSSL
        return self.key.private_bytes(serialization.Encoding.PEM, style, serialization.NoEncryption())


def alternative_name(text: str) -> x509.GeneralName:
    """An address or a DNS name."""
    try:
        return x509.IPAddress(ip_address(text))
    except ValueError:
        return x509.DNSName(text)


def issue(
    name: str, issuer: Pair | None = None, *, group: str = "", ca: bool = False, names: Sequence[str] = ()
) -> Pair:
    """A certificate for this common name; without an issuer it signs itself."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    attributes = [x509.NameAttribute(NameOID.ORGANIZATION_NAME, group)] if group else []
    subject = x509.Name([*attributes, x509.NameAttribute(NameOID.COMMON_NAME, name)])
    signer = issuer.key if issuer else key
    now = datetime.now(UTC)
    usage = {
        "digital_signature": True, "key_encipherment": not ca, "key_cert_sign": ca, "crl_sign": ca,
        "content_commitment": False, "data_encipherment": False, "key_agreement": False, "encipher_only": False,
        "decipher_only": False,
    }  # fmt: skip
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer.certificate.subject if issuer else subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - LEEWAY)
        .not_valid_after(now + LIFETIME)
        .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key()), critical=False)
        .add_extension(x509.KeyUsage(**usage), critical=True)
    )
    if not ca:
        both = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
        builder = builder.add_extension(x509.ExtendedKeyUsage(both), critical=False)
    if names:
        alternatives = x509.SubjectAlternativeName([alternative_name(text) for text in names])
        builder = builder.add_extension(alternatives, critical=False)
    return Pair(builder.sign(signer, hashes.SHA256()), key)


def write_pair(folder: Path, name: str, pair: Pair) -> None:
    (folder / f"{name}.crt").write_bytes(pair.certificate_pem)
    (folder / f"{name}.key").write_bytes(pair.key_pem)


def write_kubernetes(folder: Path, cluster: Cluster) -> None:
    """Everything that the processes of one cluster present to each other."""
    folder.mkdir(mode=0o700, parents=True)
    authority = issue("kubernetes", ca=True)
    dns = ("localhost", "kubernetes", "kubernetes.default", "kubernetes.default.svc")
    pairs = {
        "ca": authority,
        "server": issue("kube-apiserver", authority, names=(cluster.node_ip, cluster.api_ip, "127.0.0.1", *dns)),
        "admin": issue("admin", authority, group="system:masters"),
        "node": issue(f"system:node:{cluster.node}", authority, group="system:nodes"),
        "scheduler": issue("system:kube-scheduler", authority),
        "proxy": issue("system:kube-proxy", authority),
    }
    for name, pair in pairs.items():
        write_pair(folder, name, pair)
    (folder / "sa.key").write_bytes(issue("service accounts").key_pem)


def write_mesh(folders: dict[str, Path]) -> None:
    """cluster name -> where the files of its `cacerts` secret go."""
    root = issue("root", group="lab", ca=True)
    for name, folder in folders.items():
        intermediate = issue(f"intermediate {name}", root, group="lab", ca=True)
        chain = intermediate.certificate_pem + root.certificate_pem
        folder.mkdir(mode=0o700, exist_ok=True)
        files = {
            "ca-cert.pem": intermediate.certificate_pem,
            "ca-key.pem": intermediate.key_pem,
            "cert-chain.pem": chain,
            "root-cert.pem": root.certificate_pem,
        }
        for path, content in files.items():
            (folder / path).write_bytes(content)
