"""The client against servers and networks that misbehave, over real gRPC and in both variants of the protocol."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import grpc
import pytest
from eastgate.xds import stream
from eastgate.xds.ads import AdsClient, Protocol
from eastgate.xds.channel import OPTIONS
from eastgate.xds.delta_subscription import DELTA_RESPONSE
from eastgate.xds.message import encode
from eastgate.xds.store import Store
from grpc import aio

from ..support.recordings import CDS, EDS, LDS, Resources, recorded
from ..support.relay import Relay
from ..support.replay_ads import ReplayAds
from ..xds import istiod as build
from .test_delta_ads import all_acked, holds, no_sleep, node, started

ROLE = "anthos-gateway"
A, B = "outbound_.80_._.a.svc", "outbound_.80_._.b.svc"

both = pytest.mark.parametrize("protocol", ["sotw", "delta"])


@asynccontextmanager
async def client_of(addresses: Sequence[str], protocol: Protocol, **options: Any) -> AsyncIterator[AdsClient]:
    client = AdsClient(addresses, node(), Store(), protocol=protocol, sleep=no_sleep, **options)
    async with asyncio.TaskGroup() as group:
        group.create_task(client.run())
        try:
            yield client
        finally:
            async with asyncio.timeout(20):
                await client.close()


@asynccontextmanager
async def serving(resources: Resources | str = "1-default", **options: Any) -> AsyncIterator[ReplayAds]:
    if isinstance(resources, str):
        server = await started(resources, **options)
    else:
        server = ReplayAds(resources, **options)
        await server.start()
    try:
        yield server
    finally:
        await server.stop()
    assert server.violations == []


def impatient(address: str) -> aio.Channel:
    """The client's own options with all times divided by 20."""
    faster = [(name, value // 20 if name.endswith("_ms") else value) for name, value in OPTIONS]
    return aio.insecure_channel(address, options=faster)


def assignment(name: str, *addresses: str) -> bytes:
    return build.assignment(name, [build.locality_endpoints("r", [build.endpoint(one) for one in addresses])])


def small(*names: str) -> Resources:
    return {
        CDS: {name: build.cluster(name) for name in names},
        EDS: {name: assignment(name, "10.0.0.1") for name in names},
        LDS: {"l": build.listener("l", [build.chain(name) for name in names])} if names else {},
    }


@both
@pytest.mark.parametrize("status", [None, grpc.StatusCode.UNAVAILABLE], ids=["ended", "reset"])
async def test_lost_stream_changes_nothing_and_the_next_one_brings_what_is_new(
    protocol: Protocol, status: grpc.StatusCode | None
) -> None:
    async with serving("9-subsets") as server, client_of([server.address], protocol) as client:
        await all_acked(server)
        served = client.store.snapshot
        server.resources = recorded("1-default", ROLE)
        await server.drop_streams(status)
        assert client.store.snapshot is served
        await server.wait_streams(2)
        await all_acked(server)
        assert holds(client, "1-default")


@both
async def test_restarted_and_aging_servers_cost_a_reconnect_only(protocol: Protocol) -> None:
    # GOAWAY every 150 ms, as istiod's MaxConnectionAge is.
    async with serving(max_age_ms=150) as server, client_of([server.address], protocol) as client:
        await all_acked(server)
        generation = client.store.snapshot.generation
        await server.wait_streams(3)
        await server.restart()
        await server.wait_streams(4)
        await all_acked(server)
        assert client.store.snapshot.generation == generation


@both
async def test_message_above_4_mb_is_taken(protocol: Protocol) -> None:
    names = [f"outbound_.80_._.service-{number}.default.svc.cluster.local" for number in range(20_000)]
    resources = {CDS: {name: build.cluster(name, alt_stat_name="x" * 150) for name in names}, EDS: {}, LDS: {}}
    assert sum(map(len, resources[CDS].values())) > 4 * 2**20
    async with serving(resources) as server, client_of([server.address], protocol) as client:
        await all_acked(server)
        assert len(client.store.names(CDS)) == 20_000


@both
async def test_empty_answers_take_away_everything_and_nothing(protocol: Protocol) -> None:
    async with serving(small(A, B)) as server, client_of([server.address], protocol) as client:
        await all_acked(server)
        assert set(client.store.names(EDS)) == {A, B}
        # No assignment in it: nothing is said about any.
        await server.push_some(EDS, {})
        assert set(client.store.names(EDS)) == {A, B}
        await server.push({CDS: {}, EDS: {}, LDS: {}})
        assert (client.store.names(CDS), client.store.names(EDS), client.store.names(LDS)) == ((), (), ())
        assert server.nacks == []
        await server.push(small(A))
        await all_acked(server)
        assert not client.store.snapshot.warming


@both
async def test_partial_answer_leaves_the_other_assignments(protocol: Protocol) -> None:
    async with serving(small(A, B)) as server, client_of([server.address], protocol) as client:
        await all_acked(server)
        kept = client.store.snapshot.assignments[B]
        await server.push_some(EDS, {A: assignment(A, "10.0.0.2", "10.0.0.3")})
        snapshot = client.store.snapshot
        assert snapshot.assignments[A].columns.count == 2
        assert snapshot.assignments[B] is kept


@both
async def test_bad_resource_costs_only_itself_and_the_ledger_names_it(protocol: Protocol) -> None:
    async with serving(small(A, B)) as server, client_of([server.address], protocol) as client:
        await all_acked(server)
        bad = build.cluster(A, connect_timeout="-1s")
        await server.push_some(CDS, {A: bad, B: build.cluster(B, connect_timeout="3s")})
        await server.wait_nacks(1)
        clusters = client.store.snapshot.clusters
        assert (clusters[A].connect_timeout_s, clusters[B].connect_timeout_s) == (10.0, 3.0)
        lines = {line.name: line for line in client.ledger.lines(client.store.snapshot, {}) if line.type_url == CDS}
        assert (lines[A].state, lines[B].state) == ("NACKED", "ACKED")
        # The stream goes on, and the next version is taken.
        await server.push_some(CDS, {A: build.cluster(A), B: build.cluster(B)})
        assert client.store.snapshot.rejections == ()


@both
async def test_repeated_and_unasked_responses_are_harmless(protocol: Protocol) -> None:
    async with serving(small(A)) as server, client_of([server.address], protocol) as client:
        await all_acked(server)
        before = client.store.snapshot
        packed = build.packed(CDS, small(A)[CDS][A])
        if protocol == "sotw":
            repeated = build.response(CDS, "v0", "old", [small(A)[CDS][A]])
            unasked = build.response("type.googleapis.com/odd", "v0", "odd", [])
        else:
            resource = {"name": A, "version": "v0", "resource": packed}
            repeated = encode(DELTA_RESPONSE, {"type_url": CDS, "nonce": "old", "resources": [resource]})
            unasked = encode(DELTA_RESPONSE, {"type_url": "type.googleapis.com/odd", "nonce": "odd"})
        for payload in (repeated, repeated, unasked):
            await server.send_raw(payload)
        # A nonce that the server does not know any more is its to ignore; the stream serves on.
        await server.push(small(A, B))
        await all_acked(server)
        assert set(client.store.names(CDS)) == {A, B}
        assert client.connects == 1
        assert before.generation < client.store.snapshot.generation


@both
async def test_next_address_takes_over_when_the_first_dies_and_the_first_is_preferred_again(protocol: Protocol) -> None:
    async with (
        serving() as first,
        serving() as second,
        client_of([first.address, second.address], protocol) as client,
    ):
        await all_acked(first)
        served = client.store.snapshot
        await first.stop()
        await second.wait_streams(1)
        await all_acked(second)
        assert (client.address, client.connected) == (second.address, True)
        assert client.store.snapshot.generation == served.generation
        await first.start()
        await second.drop_streams()
        await first.wait_streams(2)
        await all_acked(first)
        assert client.address == first.address


@both
async def test_server_that_accepts_and_says_nothing_is_left_for_the_next(protocol: Protocol) -> None:
    async with serving() as mute, serving() as second:
        mute.mute = True
        async with client_of([mute.address, second.address], protocol, answer_timeout_s=0.2) as client:
            await second.wait_streams(1)
            await all_acked(second)
            assert client.address == second.address
            assert len(mute.nodes) == 1


async def test_server_that_has_nothing_new_to_say_counts_as_connected() -> None:
    """go-control-plane's cache keeps silent when the first request names the version that it has."""
    async with serving() as server, client_of([server.address], "sotw", answer_timeout_s=0.2) as client:
        await all_acked(server)
        server.mute = True
        await server.drop_streams()
        await server.wait_streams(2)
        async with asyncio.timeout(10):
            while client.connects < 2:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        assert client.connected
        assert server.connected == 1


@both
async def test_frozen_server_is_found_by_pings_and_left_for_the_next(
    protocol: Protocol, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The frozen one is asked once more before the next one is.
    monkeypatch.setattr(stream, "CONNECT_TIMEOUT_S", 1.0)
    async with (
        serving() as first,
        Relay(first.address) as relay,
        serving("9-subsets") as second,
        client_of([relay.address, second.address], protocol, open_channel=impatient, answer_timeout_s=1.0) as client,
    ):
        await all_acked(first)
        relay.freeze()
        await second.wait_streams(1)
        await all_acked(second)
        assert holds(client, "9-subsets")


@both
async def test_flipped_bits_cost_streams_and_never_the_client(protocol: Protocol) -> None:
    async with (
        serving("9-subsets") as server,
        Relay(server.address, seed=7) as relay,
        client_of([relay.address], protocol, open_channel=impatient, answer_timeout_s=0.5) as client,
    ):
        await all_acked(server)
        relay.flip = 0.5
        for stage in ("1-default", "9-subsets") * 5:
            server.resources = recorded(stage, ROLE)
            relay.cut()
            known = relay.accepted
            async with asyncio.timeout(20):
                while relay.accepted < known + 2:
                    await asyncio.sleep(0.01)
                    relay.cut()
        assert relay.flipped > 0
        relay.flip = 0.0
        relay.cut()
        async with asyncio.timeout(20):
            while not (client.connected and holds(client, "9-subsets")):  # noqa: ASYNC110
                await asyncio.sleep(0.01)
