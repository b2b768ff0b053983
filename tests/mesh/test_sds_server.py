"""The SDS server of a workload: one stream a name, rotation pushed unasked, the socket for its owner alone."""

import asyncio
import stat
from collections.abc import AsyncIterator
from pathlib import Path

import grpc
import pytest
from cryptography import x509
from eastgate.mesh.ca import MeshCa
from eastgate.mesh.sds_server import SERVICE, SdsServer
from envoy_data_plane.envoy.extensions.transport_sockets.tls.v3 import Secret
from envoy_data_plane.envoy.service.discovery.v3 import DiscoveryRequest, DiscoveryResponse
from grpc import aio

CA = MeshCa()
NAME = "spiffe://cluster.local/ns/shop/sa/web"
METHOD = f"/{SERVICE}/StreamSecrets"


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[tuple[SdsServer, Path]]:
    made = SdsServer(lambda: CA.issue(NAME, cluster="a"))
    path = tmp_path / "socket"
    await made.start(path)
    yield made, path
    await made.stop()


class Client:
    """One stream."""

    def __init__(self, channel: aio.Channel) -> None:
        self._call = channel.stream_stream(METHOD)()

    async def ask(self, *names: str, nonce: str = "") -> None:
        await self._call.write(bytes(DiscoveryRequest(resource_names=list(names), response_nonce=nonce)))

    async def answer(self) -> tuple[str, list[Secret]]:
        async with asyncio.timeout(20):
            read = await self._call.read()
        assert isinstance(read, bytes), await self._call.details()
        response = DiscoveryResponse.parse(read)
        return response.nonce, [Secret.parse(one.value) for one in response.resources]

    async def end(self) -> tuple[grpc.StatusCode, str]:
        return await self._call.code(), await self._call.details()


def leaf(secret: Secret) -> x509.Certificate:
    assert secret.tls_certificate
    assert secret.tls_certificate.certificate_chain
    return x509.load_pem_x509_certificate(secret.tls_certificate.certificate_chain.inline_bytes or b"")


async def test_names_are_answered_and_rotation_is_pushed(server: tuple[SdsServer, Path]) -> None:
    made, path = server
    async with aio.insecure_channel(f"unix:{path}") as channel:
        one, roots = Client(channel), Client(channel)
        await one.ask("default")
        await roots.ask("ROOTCA")
        nonce, (before,) = await one.answer()
        _, (trusted,) = await roots.answer()
        assert trusted.validation_context
        assert trusted.validation_context.trusted_ca
        assert trusted.validation_context.trusted_ca.inline_bytes == CA.root.encode()
        # An acknowledgement is not answered: what comes next is the new certificate.
        await one.ask("default", nonce=nonce)
        await made.rotate()
        later, (after,) = await one.answer()
        assert later != nonce
        assert leaf(before).serial_number != leaf(after).serial_number


async def test_both_names_on_one_stream(server: tuple[SdsServer, Path]) -> None:
    async with aio.insecure_channel(f"unix:{server[1]}") as channel:
        client = Client(channel)
        await client.ask("default")
        nonce, _ = await client.answer()
        await client.ask("default", "ROOTCA", nonce=nonce)
        _, found = await client.answer()
        assert sorted(one.name for one in found) == ["ROOTCA", "default"]


async def test_a_name_that_nobody_has_ends_the_stream(server: tuple[SdsServer, Path]) -> None:
    async with aio.insecure_channel(f"unix:{server[1]}") as channel:
        client = Client(channel)
        await client.ask("kubernetes://x")
        assert await client.end() == (
            grpc.StatusCode.NOT_FOUND, "no secret 'kubernetes://x': there are default and ROOTCA",
        )  # fmt: skip


async def test_the_socket_is_its_owners_alone(server: tuple[SdsServer, Path]) -> None:
    assert stat.S_IMODE(server[1].stat().st_mode) == 0o600


async def test_a_socket_that_cannot_be_had_is_named(tmp_path: Path) -> None:
    made = SdsServer(lambda: CA.issue(NAME, cluster="a"))
    with pytest.raises(OSError, match="missing"):
        await made.start(tmp_path / "missing" / "socket")
