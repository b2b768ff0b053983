"""A certificate authority for trials: one root, an intermediate per cluster, SPIFFE certificates for workloads.

Keys live in memory. OpenSSL reads them from an anonymous file that nobody else can open and that is gone afterwards.
"""

import os
import ssl
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from typing import cast

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID

PublicKey = ec.EllipticCurvePublicKey | rsa.RSAPublicKey
SMALLEST_RSA_BITS = 2048
LIFETIME = timedelta(hours=24)
# Clocks of a mesh are not the same.
LEEWAY = timedelta(minutes=1)


class PeerError(Exception):
    """The peer's certificate is good, and of somebody else."""


@dataclass(frozen=True, slots=True)
class WorkloadCertificate:
    """PEM: the leaf and its issuer, the leaf's key, the root."""

    spiffe_id: str
    chain: str
    key: str
    root: str


@dataclass(frozen=True, slots=True)
class _Authority:
    key: ec.EllipticCurvePrivateKey
    certificate: x509.Certificate


class MeshCa:
    """Issues certificates of one trust domain."""

    def __init__(self, trust_domain: str = "cluster.local") -> None:
        self.trust_domain = trust_domain
        key = ec.generate_private_key(ec.SECP256R1())
        name = _name(f"{trust_domain} root")
        builder = _builder(name, name, key.public_key(), key.public_key())
        builder = builder.add_extension(x509.BasicConstraints(True, None), True).add_extension(_signs(), True)
        self._root = _Authority(key, builder.sign(key, hashes.SHA256()))
        self._intermediates: dict[str, _Authority] = {}

    @property
    def root(self) -> str:
        """The root certificate, PEM."""
        return _pem(self._root.certificate)

    def issue(
        self, spiffe_id: str, *, cluster: str, lifetime: timedelta = LIFETIME, with_rsa: bool = False
    ) -> WorkloadCertificate:
        """A certificate for this SPIFFE id, signed by the cluster's intermediate. ``with_rsa``: with a key of RSA-2048,
        as istiod's workloads have by default, in the place of P-256.

        Raises ValueError for a name outside of the trust domain.
        """
        key = rsa_key() if with_rsa else ec.generate_private_key(ec.SECP256R1())
        leaf, issuer = self._leaf(key.public_key(), spiffe_id, (), cluster, lifetime)
        return WorkloadCertificate(spiffe_id, leaf + issuer, _private(key), self.root)

    def issue_server(self, *hosts: str, cluster: str) -> WorkloadCertificate:
        """A certificate for a control plane that is reached under these names and addresses."""
        key = ec.generate_private_key(ec.SECP256R1())
        name = f"spiffe://{self.trust_domain}/ns/istio-system/sa/istiod"
        leaf, issuer = self._leaf(key.public_key(), name, hosts, cluster, LIFETIME)
        return WorkloadCertificate(name, leaf + issuer, _private(key), self.root)

    def sign(self, request: str, spiffe_id: str, *, cluster: str, lifetime: timedelta = LIFETIME) -> tuple[str, ...]:
        """The chain for a certificate signing request, PEM: leaf, issuer, root. Names in the request count for nothing.

        Raises ValueError for a request that cannot be read, whose signature is not its own key's, or whose key is weak.
        """
        try:
            asked = x509.load_pem_x509_csr(request.encode())
        except x509.InvalidVersion as error:
            raise ValueError(f"the request cannot be read: {error}") from None
        if not asked.is_signature_valid:
            raise ValueError("the request is not signed by its own key")
        key = asked.public_key()
        strong = isinstance(key, ec.EllipticCurvePublicKey) or (
            isinstance(key, rsa.RSAPublicKey) and key.key_size >= SMALLEST_RSA_BITS
        )
        if not strong:
            raise ValueError(f"the key must be of an elliptic curve, or RSA of {SMALLEST_RSA_BITS} bits or more")
        return (*self._leaf(cast("PublicKey", key), spiffe_id, (), cluster, lifetime), self.root)

    def _leaf(
        self, key: PublicKey, spiffe_id: str, hosts: Sequence[str], cluster: str, lifetime: timedelta
    ) -> tuple[str, str]:
        """A certificate and its issuer's, PEM. Raises ValueError for a name outside of the trust domain."""
        if not spiffe_id.startswith(f"spiffe://{self.trust_domain}/"):
            raise ValueError(f"{spiffe_id} is not in the trust domain {self.trust_domain}")
        issuer = self._intermediate(cluster)
        names = [x509.UniformResourceIdentifier(spiffe_id), *map(_host_name, hosts)]
        leaf = (
            _builder(x509.Name([]), issuer.certificate.subject, key, issuer.key.public_key(), lifetime)
            # Without a subject the name must be critical (RFC 5280), as istiod writes it.
            .add_extension(x509.SubjectAlternativeName(names), True)
            .add_extension(x509.BasicConstraints(False, None), True)
            .add_extension(_encrypts(), True)
            .add_extension(
                x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]),
                False,
            )
            .sign(issuer.key, hashes.SHA256())
        )
        return _pem(leaf), _pem(issuer.certificate)

    def _intermediate(self, cluster: str) -> _Authority:
        if cluster not in self._intermediates:
            key = ec.generate_private_key(ec.SECP256R1())
            name, root = _name(f"{cluster} intermediate"), self._root
            builder = _builder(name, root.certificate.subject, key.public_key(), root.key.public_key())
            builder = builder.add_extension(x509.BasicConstraints(True, 0), True).add_extension(_signs(), True)
            self._intermediates[cluster] = _Authority(key, builder.sign(self._root.key, hashes.SHA256()))
        return self._intermediates[cluster]


def _host_name(text: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ip_address(text))
    except ValueError:
        return x509.DNSName(text)


def rsa_key() -> rsa.RSAPrivateKey:
    """A new key of the size that istiod's workloads have."""
    return rsa.generate_private_key(65537, SMALLEST_RSA_BITS)


def _private(key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey) -> str:
    encoding, form = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    return key.private_bytes(encoding, form, serialization.NoEncryption()).decode()


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(x509.NameOID.ORGANIZATION_NAME, text)])


def _pem(certificate: x509.Certificate) -> str:
    return certificate.public_bytes(serialization.Encoding.PEM).decode()


def _builder(
    subject: x509.Name,
    issuer: x509.Name,
    key: PublicKey,
    issuer_key: ec.EllipticCurvePublicKey,
    lifetime: timedelta = 2 * LIFETIME,
) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(min(now, now + lifetime) - LEEWAY)
        .not_valid_after(now + lifetime)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key), False)
    )


def _usage(*names: str) -> x509.KeyUsage:
    every = (
        "digital_signature", "content_commitment", "key_encipherment", "data_encipherment", "key_agreement",
        "key_cert_sign", "crl_sign", "encipher_only", "decipher_only",
    )  # fmt: skip
    return x509.KeyUsage(**{name: name in names for name in every})


def _signs() -> x509.KeyUsage:
    return _usage("key_cert_sign", "crl_sign")


def _encrypts() -> x509.KeyUsage:
    return _usage("digital_signature", "key_encipherment")


def server_context(certificate: WorkloadCertificate, alpn: Sequence[str]) -> ssl.SSLContext:
    """Demands a certificate of the mesh from clients; chooses among these ALPNs."""
    return _context(ssl.PROTOCOL_TLS_SERVER, certificate, alpn)


def client_context(certificate: WorkloadCertificate, alpn: Sequence[str]) -> ssl.SSLContext:
    """Presents the certificate, and demands one of the mesh. Who it is of, check_peer says: there are no host names."""
    return _context(ssl.PROTOCOL_TLS_CLIENT, certificate, alpn)


def _context(protocol: "ssl._SSLMethod", certificate: WorkloadCertificate, alpn: Sequence[str]) -> ssl.SSLContext:
    context = ssl.SSLContext(protocol)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_REQUIRED
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.load_verify_locations(cadata=certificate.root)
    context.set_alpn_protocols(list(alpn))
    # Each connection of a trial counts: none may lean on an earlier one.
    context.options |= ssl.OP_NO_TICKET
    if protocol == ssl.PROTOCOL_TLS_SERVER:
        context.num_tickets = 0
    file = os.memfd_create("certificate", os.MFD_CLOEXEC)
    try:
        os.write(file, (certificate.chain + certificate.key).encode())
        context.load_cert_chain(f"/proc/self/fd/{file}")
    finally:
        os.close(file)
    return context


def spiffe_ids(peer: ssl.SSLSocket | ssl.SSLObject) -> tuple[str, ...]:
    """URI names in the peer's certificate."""
    names = cast("Iterable[tuple[str, str]]", (peer.getpeercert() or {}).get("subjectAltName", ()))
    return tuple(value for kind, value in names if kind == "URI")


def check_peer(peer: ssl.SSLSocket | ssl.SSLObject, allowed: Iterable[str]) -> None:
    """Raise PeerError unless the peer holds one of these names; none: whoever the mesh's root vouches for will do."""
    wanted = frozenset(allowed)
    names = spiffe_ids(peer)
    if wanted and wanted.isdisjoint(names):
        raise PeerError(f"the server is {', '.join(names) or 'nobody'}, and should be {' or '.join(sorted(wanted))}")
