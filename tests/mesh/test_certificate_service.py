"""Certificates on request: for whoever shows a token of this control plane, in its own name."""

import asyncio
import subprocess
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import grpc
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from eastgate.mesh.ads_server import AdsServer
from eastgate.mesh.ca import MeshCa
from eastgate.mesh.certificate_service import CertificateService
from eastgate.mesh.source import MeshSource
from eastgate.mesh.tokens import Caller, TokenRefusedError, Tokens
from eastgate.xds.certificate_request import CREATE, CertificateRequest, read_response
from grpc import aio

from .sidecars import read

CA = MeshCa()
CALLER = Caller("shop", "web")
WANTED = "spiffe://cluster.local/ns/shop/sa/web"


def signing_request(key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey, uri: str = "spiffe://cluster.local/x") -> str:
    """A request that asks for a name of its own, which counts for nothing."""
    names = x509.SubjectAlternativeName([x509.UniformResourceIdentifier(uri)])
    builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([])).add_extension(names, False)
    return builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM).decode()


KEY = ec.generate_private_key(ec.SECP256R1())


@pytest.fixture
async def asked() -> AsyncIterator[tuple[aio.Channel, Tokens]]:
    """A channel to a control plane with TLS, and the tokens that it knows."""
    tokens = Tokens()
    own = CA.issue_server("127.0.0.1", "istiod.istio-system.svc", cluster="a")
    credentials = grpc.ssl_server_credentials([(own.key.encode(), own.chain.encode())])
    service = CertificateService(CA, tokens).handler()
    server = AdsServer(MeshSource(read().mesh), services=[service], credentials=credentials)
    port = await server.start()
    trusted = grpc.ssl_channel_credentials(CA.root.encode())
    async with aio.secure_channel(f"127.0.0.1:{port}", trusted) as channel:
        yield channel, tokens
    await server.stop()


async def create(channel: aio.Channel, token: str, request: bytes, cluster: str = "a") -> tuple[str, ...]:
    metadata = (("authorization", f"Bearer {token}"), ("clusterid", cluster))
    return read_response(await channel.unary_unary(CREATE)(request, metadata=metadata, timeout=20))


async def test_a_token_is_answered_with_a_chain_in_its_own_name(
    asked: tuple[aio.Channel, Tokens], tmp_path: Path
) -> None:
    channel, tokens = asked
    request = bytes(CertificateRequest(signing_request(KEY), 3600))
    chain = await create(channel, tokens.issue(CALLER), request)
    leaf = x509.load_pem_x509_certificate(chain[0].encode())
    names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.UniformResourceIdentifier) == [WANTED]
    assert leaf.public_key() == KEY.public_key()
    assert timedelta(minutes=59) < leaf.not_valid_after_utc - datetime.now(UTC) <= timedelta(hours=1)
    assert chain[-1] == CA.root
    for name, one in zip(("leaf", "issuer", "root"), chain, strict=True):
        (tmp_path / name).write_text(one)
    command = ["openssl", "verify", "-x509_strict", "-CAfile", "root", "-untrusted", "issuer", "leaf"]
    run = await asyncio.to_thread(subprocess.run, command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert run.stdout == "leaf: OK\n", run.stderr


async def test_an_rsa_key_is_as_good(asked: tuple[aio.Channel, Tokens]) -> None:
    channel, tokens = asked
    key = rsa.generate_private_key(65537, 2048)
    chain = await create(channel, tokens.issue(CALLER), bytes(CertificateRequest(signing_request(key))))
    assert x509.load_pem_x509_certificate(chain[0].encode()).public_key() == key.public_key()


@pytest.mark.parametrize(
    ("token", "cause"),
    [
        ("", "was not issued here"),
        ("a.b.c", "was not issued here"),
        (Tokens().issue(CALLER), "was not issued here"),
    ],
)
async def test_a_strange_token_is_refused(asked: tuple[aio.Channel, Tokens], token: str, cause: str) -> None:
    with pytest.raises(aio.AioRpcError) as caught:
        await create(asked[0], token, bytes(CertificateRequest(signing_request(KEY))))
    assert caught.value.code() == grpc.StatusCode.UNAUTHENTICATED
    assert cause in (caught.value.details() or "")


async def test_without_a_token_nobody_is_known(asked: tuple[aio.Channel, Tokens]) -> None:
    with pytest.raises(aio.AioRpcError) as caught:
        await asked[0].unary_unary(CREATE)(bytes(CertificateRequest(signing_request(KEY))), timeout=20)
    assert caught.value.code() == grpc.StatusCode.UNAUTHENTICATED


@pytest.mark.parametrize(
    "request_bytes",
    [
        b"",
        b"\xff\xff\xff",
        bytes(CertificateRequest("no request")),
        bytes(CertificateRequest(signing_request(rsa.generate_private_key(65537, 1024)))),
    ],
)
async def test_what_cannot_be_signed_is_refused_with_a_cause(
    asked: tuple[aio.Channel, Tokens], request_bytes: bytes
) -> None:
    channel, tokens = asked
    with pytest.raises(aio.AioRpcError) as caught:
        await create(channel, tokens.issue(CALLER), request_bytes)
    assert caught.value.code() == grpc.StatusCode.INVALID_ARGUMENT
    assert "the signing request is refused" in (caught.value.details() or "")


def test_a_signature_of_another_key_is_refused() -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    good = x509.load_pem_x509_csr(signing_request(KEY).encode())
    other = x509.load_pem_x509_csr(signing_request(key).encode())
    swapped = good.public_bytes(serialization.Encoding.DER).replace(
        good.public_key().public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo),
        other.public_key().public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo),
    )
    text = x509.load_der_x509_csr(swapped).public_bytes(serialization.Encoding.PEM).decode()
    with pytest.raises(ValueError, match="not signed by its own key"):
        CA.sign(text, WANTED, cluster="a")


def test_a_token_is_good_until_it_ends() -> None:
    now = datetime.now(UTC)
    clock = [now]
    tokens = Tokens(now=lambda: clock[0])
    token = tokens.issue(CALLER, timedelta(hours=1))
    assert tokens.check(token) == CALLER
    clock[0] = now + timedelta(hours=1, seconds=1)
    with pytest.raises(TokenRefusedError, match="has expired"):
        tokens.check(token)
