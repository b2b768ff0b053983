"""The trial CA: chains that OpenSSL accepts, peers that are checked by SPIFFE name."""

import socket
import ssl
import subprocess
import threading
from contextlib import suppress
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtensionOID
from eastgate.mesh.ca import MeshCa, PeerError, WorkloadCertificate, check_peer, client_context, server_context

from ..support.x509_versions import without_version

SERVER, CLIENT = "spiffe://cluster.local/ns/default/sa/default", "spiffe://cluster.local/ns/sleep/sa/sleep"
CA = MeshCa()


def handshake(
    server: WorkloadCertificate, client: WorkloadCertificate, allowed: tuple[str, ...] = (SERVER,)
) -> tuple[bytes, str | None]:
    """What the client read, and the ALPN. Raises what the client's side raised."""
    here, there = socket.socketpair()

    def serve() -> None:
        try:
            with server_context(server, ("istio",)).wrap_socket(there, server_side=True) as secured:
                secured.sendall(b"hello")
        except OSError:
            there.close()

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        name = "outbound_.80_._.a.default.svc.cluster.local"
        with client_context(client, ("istio",)).wrap_socket(here, server_hostname=name) as secured:
            check_peer(secured, allowed)
            return secured.recv(5), secured.selected_alpn_protocol()
    finally:
        here.close()
        thread.join(10)


def test_workloads_of_two_clusters_trust_each_other() -> None:
    assert handshake(CA.issue(SERVER, cluster="gke"), CA.issue(CLIENT, cluster="anthos")) == (b"hello", "istio")


def test_openssl_accepts_the_chain(tmp_path: Path) -> None:
    certificate = CA.issue(SERVER, cluster="gke")
    (tmp_path / "root.pem").write_text(certificate.root)
    (tmp_path / "chain.pem").write_text(certificate.chain)
    command = ["openssl", "verify", "-x509_strict", "-CAfile", "root.pem", "-untrusted", "chain.pem", "chain.pem"]
    run = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (run.returncode, run.stdout) == (0, "chain.pem: OK\n"), run.stderr


def test_the_name_is_critical_as_istiod_makes_it() -> None:
    leaf = x509.load_pem_x509_certificate(CA.issue(SERVER, cluster="gke").chain.encode())
    names = leaf.extensions.get_extension_for_oid(ExtensionOID.SUBJECT_ALTERNATIVE_NAME)
    assert names.critical
    assert list(names.value) == [x509.UniformResourceIdentifier(SERVER)]  # type: ignore[call-overload]


def test_another_workload_of_the_mesh_is_refused_by_name() -> None:
    with pytest.raises(PeerError, match=r"the server is .*/sa/sleep, and should be .*/sa/default"):
        handshake(CA.issue(CLIENT, cluster="gke"), CA.issue(CLIENT, cluster="anthos"))


def test_without_demanded_names_whoever_the_root_vouches_for_will_do() -> None:
    assert handshake(CA.issue(CLIENT, cluster="gke"), CA.issue(CLIENT, cluster="anthos"), ())[0] == b"hello"


def test_a_foreign_root_is_refused() -> None:
    with pytest.raises(ssl.SSLCertVerificationError):
        handshake(MeshCa().issue(SERVER, cluster="gke"), CA.issue(CLIENT, cluster="anthos"))


def test_an_expired_certificate_is_refused() -> None:
    expired = CA.issue(SERVER, cluster="gke", lifetime=timedelta(hours=-1))
    with pytest.raises(ssl.SSLCertVerificationError, match="expired"):
        handshake(expired, CA.issue(CLIENT, cluster="anthos"))


def test_a_client_of_another_mesh_gets_nothing() -> None:
    foreign = MeshCa().issue(CLIENT, cluster="anthos")
    trusting = WorkloadCertificate(foreign.spiffe_id, foreign.chain, foreign.key, CA.root)
    # With TLS 1.3 the client hears of it when it reads: an alert, a reset, or the end.
    read = b""
    with suppress(ssl.SSLError, ConnectionError):
        read, _ = handshake(CA.issue(SERVER, cluster="gke"), trusting)
    assert read == b""


def test_a_name_outside_of_the_trust_domain_is_not_issued() -> None:
    with pytest.raises(ValueError, match=r"not in the trust domain cluster\.local"):
        CA.issue("spiffe://elsewhere/ns/a/sa/b", cluster="gke")


def test_a_workload_may_have_a_key_of_rsa() -> None:
    server = CA.issue(SERVER, cluster="gke", with_rsa=True)
    key = x509.load_pem_x509_certificate(server.chain.encode()).public_key()
    assert isinstance(key, rsa.RSAPublicKey)
    assert key.key_size == 2048
    assert handshake(server, CA.issue(CLIENT, cluster="anthos")) == (b"hello", "istio")


def test_a_request_of_no_version_is_refused() -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    asked = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([])).sign(key, hashes.SHA256())
    damaged = without_version(asked.public_bytes(Encoding.PEM)).decode()
    with pytest.raises(ValueError, match="the request cannot be read: 7 is not a valid CSR version"):
        MeshCa().sign(damaged, "spiffe://cluster.local/ns/a/sa/b", cluster="east")
