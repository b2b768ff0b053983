"""The client against a server in the test's hands: order of requests, publish before ACK, reconnects."""

import asyncio
from collections.abc import Iterable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from eastgate.xds.ads import AdsClient
from eastgate.xds.envelope import WRAPPER
from eastgate.xds.errors import XdsError
from eastgate.xds.message import encode
from eastgate.xds.resources import Snapshot
from eastgate.xds.store import Store

from . import istiod as build
from .istiod import CDS, EDS, LDS, Istiod, router

A = "outbound_.80_._.a.default.svc.cluster.local"
B = "outbound_.80_._.b.default.svc.cluster.local"


def assignment(name: str, address: str = "10.0.0.1") -> bytes:
    return build.assignment(name, [build.locality_endpoints("r1", [build.endpoint(address)])])


async def no_sleep(_: float) -> None:
    await asyncio.sleep(0)


@asynccontextmanager
async def running(addresses: Iterable[str], **options: Any):
    client = AdsClient(list(addresses), router(), Store(), sleep=no_sleep, **options)
    async with asyncio.TaskGroup() as group:
        group.create_task(client.run())
        try:
            yield client
        finally:
            async with asyncio.timeout(10):
                await client.close()


async def test_client_asks_for_clusters_then_assignments_then_listeners() -> None:
    async with Istiod() as istiod, running([istiod.address]) as client:
        stream = await istiod.stream()
        first = await stream.request()
        assert first["type_url"] == CDS
        assert first["node"]["id"] == "router~10.0.0.7~gateway-a.gateway~gateway.svc.cluster.local"
        assert first["node"]["metadata"]["REQUESTED_NETWORK_VIEW"] == "n1"
        stream.send(CDS, "v1", "n1", [build.cluster(A), build.cluster("outbound|80||a.default.svc.cluster.local")])
        ack, names, listeners = [await stream.request() for _ in range(3)]
        assert ack == {"version_info": "v1", "type_url": CDS, "response_nonce": "n1"}
        assert names == {"type_url": EDS, "resource_names": [A]}
        assert listeners == {"type_url": LDS}
        stream.send(EDS, "v1", "n2", [assignment(A)])
        assert (await stream.request())["response_nonce"] == "n2"
        stream.send(LDS, "v1", "n3", [build.listener("0.0.0.0_15443", [build.chain(A)])])
        assert await stream.request() == {"version_info": "v1", "type_url": LDS, "response_nonce": "n3"}
        snapshot = client.store.snapshot
        assert set(snapshot.assignments) == {A}
        assert snapshot.listeners["0.0.0.0_15443"].filter_chains[0].clusters == ((A, 1),)
        assert snapshot.versions == {CDS: "v1", EDS: "v1", LDS: "v1"}
        assert client.connected
        assert client.statistics[EDS].update_success == 1


async def test_snapshot_is_published_before_the_ack() -> None:
    published = asyncio.Event()
    go_on = asyncio.Event()

    async def on_snapshot(_: Snapshot) -> None:
        published.set()
        await go_on.wait()

    async with Istiod() as istiod, running([istiod.address], on_snapshot=on_snapshot):
        stream = await istiod.stream()
        await stream.request()
        stream.send(CDS, "v1", "n1", [build.cluster(A)])
        await published.wait()
        assert stream.no_request()
        go_on.set()
        assert (await stream.request())["response_nonce"] == "n1"


async def test_unchanged_response_is_acknowledged_but_not_published() -> None:
    snapshots: list[Snapshot] = []

    async with Istiod() as istiod, running([istiod.address], on_snapshot=snapshots.append):
        stream = await istiod.stream()
        await stream.request()
        for number in range(2):
            stream.send(CDS, f"v{number}", f"n{number}", [build.cluster(A)])
        versions = [(await stream.request()).get("version_info") for _ in range(4)]
        assert versions == ["v0", None, None, "v1"]
        assert [one.generation for one in snapshots] == [1]


async def test_bad_cluster_is_rejected_by_name_with_the_previous_version() -> None:
    async with Istiod() as istiod, running([istiod.address]) as client:
        stream = await istiod.stream()
        await stream.request()
        stream.send(CDS, "v1", "n1", [build.cluster(A)])
        for _ in range(3):
            await stream.request()
        stream.send(CDS, "v2", "n2", [build.cluster(A, connect_timeout="-1s"), build.cluster(B)])
        nack = await stream.request()
        assert nack["version_info"] == "v1"
        assert nack["response_nonce"] == "n2"
        assert nack["error_detail"]["code"] == 3
        assert nack["error_detail"]["message"] == f"CDS {A} rejected: connect_timeout is -1s, must be above 0s"
        assert (await stream.request())["resource_names"] == [A, B]
        assert client.store.snapshot.clusters[A].connect_timeout_s == 10.0
        assert client.statistics[CDS].update_rejected == 1


async def test_what_cannot_be_compiled_is_rejected_and_taken_back() -> None:
    def on_snapshot(snapshot: Snapshot) -> list[XdsError]:
        bad = [one for one in snapshot.clusters.values() if one.connect_timeout_s == 3.0]
        return [XdsError("CDS", one.name, "does not compile") for one in bad]

    async with Istiod() as istiod, running([istiod.address], on_snapshot=on_snapshot) as client:
        stream = await istiod.stream()
        await stream.request()
        stream.send(CDS, "v1", "n1", [build.cluster(A)])
        for _ in range(3):
            await stream.request()
        stream.send(CDS, "v2", "n2", [build.cluster(A, connect_timeout="3s")])
        nack = await stream.request()
        assert (nack["version_info"], nack["error_detail"]["message"]) == ("v1", f"CDS {A} rejected: does not compile")
        snapshot = client.store.snapshot
        assert snapshot.clusters[A].connect_timeout_s == 10.0
        assert snapshot.versions == {CDS: "v1"}
        assert [(one.name, one.version) for one in snapshot.rejections] == [(A, "v2")]


async def test_reconnect_keeps_configuration_and_begins_with_empty_nonces() -> None:
    async with Istiod() as istiod, running([istiod.address]) as client:
        stream = await istiod.stream()
        await stream.request()
        stream.send(CDS, "v1", "n1", [build.cluster(A)])
        for _ in range(3):
            await stream.request()
        stream.send(EDS, "v1", "n2", [assignment(A)])
        await stream.request()
        before = client.store.snapshot
        stream.end()
        stream = await istiod.stream()
        requests = [await stream.request() for _ in range(3)]
        assert "node" in requests[0]
        assert [one.get("response_nonce") for one in requests] == [None, None, None]
        assert [(one["type_url"], one.get("version_info")) for one in requests] == [
            (CDS, "v1"),
            (EDS, "v1"),
            (LDS, None),
        ]
        assert requests[1]["resource_names"] == [A]
        assert client.store.snapshot is before


async def test_next_address_is_tried_when_one_does_not_answer() -> None:
    async with Istiod() as istiod, Istiod() as gone:
        dead = gone.address
        await gone._server.stop(None)
        async with running([dead, istiod.address]) as client:
            stream = await istiod.stream()
            await stream.request()
            stream.send(CDS, "v1", "n1", [])
            await stream.request()
            assert client.address == istiod.address
            assert client.statistics[CDS].update_failure == 1


async def test_undecodable_response_ends_the_stream_not_the_client() -> None:
    async with Istiod() as istiod, running([istiod.address]) as client:
        stream = await istiod.stream()
        await stream.request()
        stream.responses.put_nowait(b"\xff")
        second = await istiod.stream()
        assert "node" in await second.request()
        assert client.last_error.startswith("DiscoveryResponse rejected: malformed message")


async def test_close_while_nobody_answers_returns() -> None:
    waiting = asyncio.Event()

    async def sleep(_: float) -> None:
        waiting.set()
        await asyncio.Event().wait()

    client = AdsClient(["127.0.0.1:1"], router(), Store(), sleep=sleep)
    async with asyncio.TaskGroup() as group:
        group.create_task(client.run())
        await waiting.wait()
        assert not client.connected
        assert "refused" in client.last_error
        await client.close()
        await client.close()


async def test_large_response_lets_other_tasks_run() -> None:
    turns = 0

    async def count() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    payloads = [build.cluster(f"outbound_.80_._.s{number}.svc") for number in range(3000)]
    client = AdsClient(["127.0.0.1:1"], router(), Store())
    async with asyncio.TaskGroup() as group:
        counter = group.create_task(count())
        await client._take(build.response(CDS, "v1", "n1", payloads))
        counter.cancel()
    # 3,000 clusters take some 20 ms, a slice 1 ms.
    assert turns > 3


async def test_connection_metadata_is_read_for_each_stream() -> None:
    tokens = iter(("one", "two"))

    def metadata(_: str) -> list[tuple[str, str]]:
        return [("authorization", f"Bearer {next(tokens)}")]

    async with Istiod() as istiod, running([istiod.address], metadata=metadata):
        stream = await istiod.stream()
        assert ("authorization", "Bearer one") in istiod.metadata
        stream.end()
        await istiod.stream()
        assert ("authorization", "Bearer two") in istiod.metadata


async def test_what_has_come_to_its_end_is_published_and_no_longer_asked_for() -> None:
    snapshots: list[Snapshot] = []
    async with Istiod() as istiod, running([istiod.address], on_snapshot=snapshots.append) as client:
        stream = await istiod.stream()
        await stream.request()
        wrapper = {"name": A, "ttl": "0.050s", "resource": build.packed(CDS, build.cluster(A))}
        packed = build.packed(WRAPPER, encode("envoy.service.discovery.v3.Resource", wrapper))
        message = {"version_info": "v1", "resources": [packed], "type_url": CDS, "nonce": "n1"}
        stream.responses.put_nowait(encode(build.RESPONSE, message))
        assert [(await stream.request())["type_url"] for _ in range(3)] == [CDS, EDS, LDS]
        # Nothing is said to the client any more: it is the clock that ends the cluster.
        assert await stream.request() == {"type_url": EDS}
        assert [set(one.clusters) for one in snapshots] == [{A}, set()]
        assert client.connected


async def test_exception_behind_the_store_is_a_rejection_and_the_stream_goes_on() -> None:
    def on_snapshot(snapshot: Snapshot) -> None:
        if any(one.connect_timeout_s == 3.0 for one in snapshot.clusters.values()):
            raise KeyError("not foreseen")

    async with Istiod() as istiod, running([istiod.address], on_snapshot=on_snapshot) as client:
        stream = await istiod.stream()
        await stream.request()
        stream.send(CDS, "v1", "n1", [build.cluster(A)])
        for _ in range(3):
            await stream.request()
        stream.send(CDS, "v2", "n2", [build.cluster(A, connect_timeout="3s")])
        reason = (await stream.request())["error_detail"]["message"]
        assert reason.startswith(f"CDS {A} rejected: internal error, please report it: KeyError at test_ads.py:")
        assert client.store.snapshot.clusters[A].connect_timeout_s == 10.0
        stream.send(CDS, "v3", "n3", [build.cluster(A, connect_timeout="4s")])
        assert (await stream.request())["version_info"] == "v3"


async def test_exception_in_the_store_ends_the_stream_not_the_client(monkeypatch: pytest.MonkeyPatch) -> None:
    async with Istiod() as istiod, running([istiod.address]) as client:
        stream = await istiod.stream()
        await stream.request()

        def steps(_: object) -> None:
            raise RuntimeError("not foreseen")

        monkeypatch.setattr(client.store, "steps", steps)
        stream.send(CDS, "v1", "n1", [build.cluster(A)])
        second = await istiod.stream()
        monkeypatch.undo()
        await second.request()
        assert client.last_error.startswith("internal error, please report it: RuntimeError at test_ads.py:")
        second.send(CDS, "v1", "n1", [build.cluster(A)])
        assert (await second.request())["version_info"] == "v1"
