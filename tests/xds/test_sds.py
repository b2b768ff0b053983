"""SDS on a Unix socket, by pilot-agent's rules: streams follow the names, rotate, are rejected by name, come back."""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from eastgate.xds.sds import SdsClient
from eastgate.xds.secret_store import SecretStore
from eastgate.xds.tls_records import SecretRef

from ..support.secrets import SPIFFE, AgentSds, ca_secret, keyed, tls_secret
from .istiod import router

AGENT = "cluster:sds-grpc"
DEFAULT, ROOT = SecretRef("default", AGENT), SecretRef("ROOTCA", AGENT)


async def until(condition: Callable[[], object], what: str) -> None:
    try:
        async with asyncio.timeout(20):
            while not condition():  # noqa: ASYNC110
                await asyncio.sleep(0.005)
    except TimeoutError:
        raise AssertionError(f"not within 20 s: {what}") from None


@asynccontextmanager
async def running(agent: AgentSds, store: SecretStore) -> AsyncIterator[SdsClient]:
    client = SdsClient(AGENT, f"unix:{agent.path}", router(), store, sleep=lambda _: asyncio.sleep(0.01))
    async with asyncio.TaskGroup() as group:
        task = group.create_task(client.run())
        try:
            yield client
        finally:
            client.close()
            async with asyncio.timeout(10):
                await task
            await agent.stop()


@pytest.fixture
def agent(tmp_path: Path) -> AgentSds:
    pair = keyed(SPIFFE)
    secrets = {"default": tls_secret("default", pair), "ROOTCA": ca_secret("ROOTCA", pair.certificate)}
    return AgentSds(str(tmp_path / "socket"), secrets)


async def test_one_stream_for_each_name_that_is_wanted(agent: AgentSds) -> None:
    await agent.start()
    store = SecretStore()
    async with running(agent, store) as client:
        store.want([DEFAULT, ROOT, SecretRef("kubernetes://web")])
        await until(lambda: not store.snapshot.missing - {SecretRef("kubernetes://web")}, "both secrets are there")
        await until(lambda: set(agent.acked) == {"default", "ROOTCA"}, "both are acknowledged")
        assert agent.connected == ["ROOTCA", "default"]
        assert all(len(one.resource_names) == 1 for one in agent.requests)
        node = agent.requests[0].node
        assert node is not None
        assert node.id.startswith("router~")
        assert (client.statistics.connected, client.statistics.update_success) == (2, 2)
        store.want([ROOT])
        await until(lambda: agent.connected == ["ROOTCA"], "the other stream ends")
        assert DEFAULT not in store.snapshot.secrets
        store.want([DEFAULT, ROOT])
        await until(lambda: store.snapshot.missing == frozenset(), "it is asked for again")


async def test_rotation_is_pushed_and_a_bad_one_rejected_by_name(agent: AgentSds) -> None:
    await agent.start()
    store = SecretStore()
    store.want([DEFAULT])
    async with running(agent, store) as client:
        await until(lambda: "default" in agent.acked, "the first one is acknowledged")
        fresh = keyed(SPIFFE)
        agent.rotate("default", tls_secret("default", fresh))
        await until(lambda: agent.acked["default"] == "v2", "the rotation is acknowledged")
        agent.rotate("default", tls_secret("default", keyed(SPIFFE), key=keyed(SPIFFE).key))
        await until(lambda: agent.nacks, "the bad one is rejected")
        assert agent.nacks == ["SDS default rejected: tls_certificate.private_key is not the key of its certificate"]
        agent.rotate("default", tls_secret("default", keyed(SPIFFE, days=-0.1)))
        await until(lambda: len(agent.nacks) == 2, "the expired one is rejected")
        assert "SDS default rejected: its certificate expired at " in agent.nacks[1]
        held = store.snapshot.secrets[DEFAULT].tls_certificate
        assert held is not None
        assert held.private_key.pem() == fresh.key
        assert agent.requests[-1].version_info == "v2"
        assert client.statistics.update_rejected == 2


async def test_what_was_accepted_stays_while_the_server_is_away(
    agent: AgentSds, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    store = SecretStore()
    store.want([DEFAULT])
    async with running(agent, store) as client:
        # pilot-agent makes its socket when it is ready.
        await until(lambda: client.statistics.update_failure > 2, "some attempts have failed")
        # An attempt that fails as the one before is not told again.
        assert sum("sds_disconnected" in one.message for one in caplog.records) == 1
        await agent.start()
        await until(lambda: store.snapshot.missing == frozenset(), "the secret is there")
        agent.drop("default")
        await until(lambda: sum(one.node is not None for one in agent.requests) == 2, "there is another stream")
        assert DEFAULT in store.snapshot.secrets
        del agent.secrets["default"]
        agent.drop("default")
        await until(lambda: "UNAVAILABLE" in client.statistics.errors.get("default", ""), "the reason is known")
        assert DEFAULT in store.snapshot.secrets
    assert any("sds_connected" in one.message for one in caplog.records)


async def test_bytes_that_are_no_response_end_the_stream_only(agent: AgentSds) -> None:
    await agent.start()
    store = SecretStore()
    store.want([DEFAULT])
    async with running(agent, store) as client:
        await until(lambda: "default" in agent.acked, "the first one is acknowledged")
        agent.push_raw("default", b"\xff\xff")
        await until(lambda: sum(one.node is not None for one in agent.requests) == 2, "there is another stream")
        assert store.snapshot.missing == frozenset()
        assert client.statistics.update_failure == 1
