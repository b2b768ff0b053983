"""Port 15012 on loopback: a TLS server that demands a token or a certificate, sockets, fail-over. Real gRPC."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import grpc
import pytest
from eastgate.xds.ads import AdsClient
from eastgate.xds.credentials import Credentials
from eastgate.xds.node import NodeIdentity
from eastgate.xds.store import Store

from ..support.certificates import FileCa
from ..support.recordings import CDS, recorded
from ..support.replay_ads import ReplayAds

ROLE = "anthos-gateway"
STAGE = recorded("1-default", ROLE)


@pytest.fixture
def ca(tmp_path: Path) -> FileCa:
    return FileCa(tmp_path)


def server_credentials(ca: FileCa, *, client_certificate: bool = False) -> grpc.ServerCredentials:
    pair = ca.issue("127.0.0.1")
    return grpc.ssl_server_credentials(
        [(pair.key.read_bytes(), pair.certificate.read_bytes())],
        ca.root.read_bytes() if client_certificate else None,
        require_client_auth=client_certificate,
    )


class Failures:
    """Stands for the backoff: counts failed rounds and says when there were any."""

    def __init__(self) -> None:
        self.seen = asyncio.Event()

    async def sleep(self, _: float) -> None:
        self.seen.set()
        await asyncio.sleep(0.01)


@asynccontextmanager
async def client(
    addresses: Sequence[str], credentials: Credentials, failures: Failures | None = None
) -> AsyncIterator[AdsClient]:
    one = AdsClient(
        addresses,
        NodeIdentity(type="router", ips=("10.10.1.30",), pod_name="gateway-a", namespace="gateway"),
        Store(),
        open_channel=credentials.open_channel,
        metadata=credentials.metadata,
        sleep=(failures or Failures()).sleep,
    )
    async with asyncio.TaskGroup() as group:
        group.create_task(one.run())
        try:
            yield one
        finally:
            await one.close()


async def test_token_and_cluster_are_sent_over_tls_and_a_rotated_token_at_the_next_connection(
    ca: FileCa, tmp_path: Path
) -> None:
    token = tmp_path / "istio-token"
    token.write_text("first\n")
    async with ReplayAds(STAGE, credentials=server_credentials(ca), token="first") as server:
        failures = Failures()
        credentials = Credentials(root_cert=str(ca.root), token=str(token), cluster_id="anthos")
        async with client([server.address], credentials, failures) as one:
            await server.wait_connected()
            await server.wait_acked(CDS)
            assert server.metadata[0]["clusterid"] == "anthos"
            server.token = "second"
            failures.seen.clear()
            await server.drop_streams()
            await failures.seen.wait()
            failures.seen.clear()
            await failures.seen.wait()
            assert one.last_error == "UNAUTHENTICATED authentication failure"
            assert len(one.store.names(CDS)) == len(STAGE[CDS])
            token.write_text("second\n")
            await server.wait_connected()
            token.unlink()
            failures.seen.clear()
            await server.drop_streams()
            await failures.seen.wait()
            failures.seen.clear()
            await failures.seen.wait()
            assert one.last_error == f"token {token} rejected: cannot be read: No such file or directory"
            token.write_text("second\n")
            await server.wait_connected()


async def test_server_of_another_root_is_not_talked_to(ca: FileCa, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    async with ReplayAds(STAGE, credentials=server_credentials(FileCa(tmp_path / "other"))) as server:
        failures = Failures()
        async with client([server.address], Credentials(root_cert=str(ca.root)), failures) as one:
            await failures.seen.wait()
            assert "handshake failed" in one.last_error
        assert server.metadata == []


async def test_client_certificate_is_presented(ca: FileCa) -> None:
    async with ReplayAds(STAGE, credentials=server_credentials(ca, client_certificate=True)) as server:
        failures = Failures()
        async with client([server.address], Credentials(root_cert=str(ca.root)), failures):
            await failures.seen.wait()
            assert server.metadata == []
        pair = ca.issue("spiffe://cluster.local/ns/gateway/sa/eastwest")
        credentials = Credentials(root_cert=str(ca.root), client_cert=str(pair.certificate), client_key=str(pair.key))
        async with client([server.address], credentials):
            await server.wait_connected()


async def test_unix_socket_of_the_agent_needs_no_credentials(tmp_path: Path) -> None:
    path = tmp_path / "XDS"
    async with ReplayAds(STAGE, socket_path=str(path)) as server, client([f"unix:{path}"], Credentials()) as one:
        await server.wait_connected()
        await server.wait_acked(CDS)
        assert one.address == f"unix:{path}"


async def test_next_address_serves_when_the_first_is_gone() -> None:
    async with (
        ReplayAds(STAGE) as first,
        ReplayAds(STAGE) as second,
        client([first.address, second.address], Credentials()) as one,
    ):
        await first.wait_connected()
        await first.wait_acked(CDS)
        served = one.store.snapshot.generation
        await first.stop()
        await second.wait_connected()
        await second.wait_acked(CDS)
        assert one.address == second.address
        assert served
