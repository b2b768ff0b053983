"""RDS over real gRPC, in both variants: what listeners name is asked for, follows them, and is rejected by name."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from eastgate.xds.ads import AdsClient, Protocol
from eastgate.xds.node import NodeIdentity
from eastgate.xds.store import Store

from ..support.recordings import CDS, EDS, LDS, RDS, recorded
from ..support.replay_ads import ReplayAds

ROLE = "anthos-sidecar"
ECHO = "echo-svc.default.svc.cluster.local:80"


async def no_sleep(_: float) -> None:
    await asyncio.sleep(0)


@asynccontextmanager
async def following(protocol: Protocol, stage: str) -> AsyncIterator[tuple[ReplayAds, Store]]:
    """A server with this recorded stage, and the store of a client that has acknowledged all of it."""
    server = ReplayAds(recorded(stage, ROLE))
    await server.start()
    node = NodeIdentity(type="sidecar", ips=("10.10.2.40",), pod_name="sleep-a", namespace="sleep", network="default")
    client = AdsClient([server.address], node, Store(router=False), protocol=protocol, sleep=no_sleep)
    async with asyncio.TaskGroup() as group:
        group.create_task(client.run())
        try:
            for type_url in (CDS, EDS, LDS, RDS):
                await server.wait_acked(type_url)
            yield server, client.store
        finally:
            await client.close()
            await server.stop()
    assert server.violations == []


def asked(server: ReplayAds) -> list[set[str]]:
    """Names in the requests for routes, without those that say what the one before said."""
    if server.delta_requests:
        changes = [one for one in server.delta_requests if one.type_url == RDS and not one.response_nonce]
        return [
            {*one.resource_names_subscribe} | {"-" + name for name in one.resource_names_unsubscribe} for one in changes
        ]
    found = [set(one.resource_names) for one in server.requests if one.type_url == RDS]
    return [names for index, names in enumerate(found) if index == 0 or names != found[index - 1]]


@pytest.mark.parametrize("protocol", ["sotw", "delta"])
async def test_routes_follow_every_recorded_stage(protocol: Protocol) -> None:
    async with following(protocol, "1-default") as (server, store):
        for stage in ("1-default", "2-failover", "9-subsets", "1-default"):
            await server.push(stage, ROLE)
            await server.wait_acked(RDS)
            wanted = recorded(stage, ROLE)[RDS]
            assert {name: one.raw for name, one in store.snapshot.routes.items()} == wanted, stage
            assert store.snapshot.missing_routes == frozenset()
        assert not server.nacks
        assert asked(server) == [set(recorded("1-default", ROLE)[RDS])]


@pytest.mark.parametrize("protocol", ["sotw", "delta"])
async def test_subscription_follows_the_listeners(protocol: Protocol) -> None:
    async with following(protocol, "1-default") as (server, store):
        every = recorded("1-default", ROLE)
        without = {name: raw for name, raw in every[LDS].items() if ECHO.encode() not in raw}
        assert len(without) < len(every[LDS])
        await server.push({**every, LDS: without}, types=[LDS])
        await server.wait_acked(LDS)
        await server.push_some(RDS, {"80": every[RDS]["80"]})
        assert ECHO not in store.snapshot.routes
        await server.push(every, types=[LDS])
        await server.wait_acked(RDS)
        await server.push_some(RDS, {"80": every[RDS]["80"]})
        assert store.snapshot.routes[ECHO].raw == every[RDS][ECHO]
        names = set(every[RDS])
        gone = names - {ECHO}
        assert asked(server) == ([names, {"-" + ECHO}, {ECHO}] if protocol == "delta" else [names, gone, names])


@pytest.mark.parametrize("protocol", ["sotw", "delta"])
async def test_bad_routes_are_rejected_by_name_and_the_others_are_taken(protocol: Protocol) -> None:
    async with following(protocol, "1-default") as (server, store):
        good = recorded("1-default", ROLE)[RDS]
        changed = recorded("9-subsets", ROLE)[RDS]
        before = store.snapshot.routes["15010"]
        await server.push_some(RDS, {"15010": good["15010"] + b"\x12\x02\x0a\x00", "80": changed["80"]})
        assert [(one.type_url, one.reason) for one in server.nacks] == [
            (RDS, "RDS 15010 rejected: a virtual host without a name")
        ]
        assert store.snapshot.routes["15010"] is before
        assert store.snapshot.routes["80"].raw == changed["80"]
        await server.push_some(RDS, {"15010": good["15010"]})
        assert store.snapshot.rejections == ()


async def test_delta_says_which_routes_do_not_exist() -> None:
    async with following("delta", "1-default") as (server, store):
        every = recorded("1-default", ROLE)
        await server.push({**every, RDS: {name: raw for name, raw in every[RDS].items() if name != ECHO}}, types=[RDS])
        await server.wait_acked(RDS)
        assert store.snapshot.missing_routes == {ECHO}
        await server.push_some(RDS, {ECHO: every[RDS][ECHO]})
        assert store.snapshot.missing_routes == frozenset()


@pytest.mark.parametrize("protocol", ["sotw", "delta"])
async def test_routes_come_back_with_the_only_listeners_that_name_them(protocol: Protocol) -> None:
    async with following(protocol, "1-default") as (server, store):
        every = recorded("1-default", ROLE)
        await server.push({**every, LDS: {}}, types=[LDS])
        assert store.wanted_routes == ()
        await server.push(every, types=[LDS])
        async with asyncio.timeout(20):
            while store.snapshot.missing_routes:  # noqa: ASYNC110
                await asyncio.sleep(0.005)
        assert set(store.snapshot.routes) == set(every[RDS])
