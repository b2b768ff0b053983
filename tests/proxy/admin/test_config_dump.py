"""The document that /config_dump makes piece by piece: its sections, what queries leave of them, and its fallback."""

import json
from collections.abc import AsyncGenerator, Iterable
from typing import Any

import pytest
from eastgate.proxy.admin import config_dump
from eastgate.proxy.admin.config_dump import BadQueryError, NotFoundError, Query
from eastgate.proxy.admin.message_json import MessageReader, answer
from eastgate.proxy.admin.rendering import Render, Resource, plain
from eastgate.xds.decode import CDS, EDS, LDS, RDS
from eastgate.xds.store import Store
from envoy_data_plane.google.protobuf import Any as PackedAny

from ...support import messages
from ...support.recordings import Resources, recorded

FIRST, SECOND = messages.sni("first"), messages.sni("second")


def stored(resources: Resources, *types: str) -> Store:
    """A store that has accepted these resources."""
    store = Store()
    for type_url in types or (CDS, LDS, EDS, RDS):
        packed = [bytes(PackedAny(type_url=type_url, value=raw)) for raw in resources.get(type_url, {}).values()]
        store.apply(type_url, f"{type_url[-4:]}-1", packed)
    return store


@pytest.fixture(scope="module")
def texts() -> Render:
    """What the process that renders dumps makes of resources."""
    reader = MessageReader()

    async def answers(resources: Iterable[Resource]) -> AsyncGenerator[bytes, None]:
        for type_url, raw in resources:
            yield answer(reader, type_url, raw)

    return answers


@pytest.fixture
def store() -> Store:
    return stored(messages.resources({FIRST: [messages.At(("127.0.0.1", 80))], SECOND: []}))


async def dump(store: Store, texts: Render, **parameters: str) -> list[dict[str, Any]]:
    bootstrap, query = {"node": {"id": "n"}}, Query.parse(parameters)
    pieces = [piece async for piece in config_dump.chunks(store.snapshot, bootstrap, query, texts=texts)]
    configs: list[dict[str, Any]] = json.loads(b"".join(pieces))["configs"]
    return configs


def kinds(configs: list[dict[str, Any]]) -> list[str]:
    return [one["@type"].rpartition(".")[2] for one in configs]


async def test_what_was_never_accepted_is_shown_with_what_failed(store: Store, texts: Render) -> None:
    # lb_policy CLUSTER_PROVIDED, which is none of those that are served.
    bad = messages.cluster("bad") + bytes((6 << 3, 6))
    store.apply(CDS, "next", [bytes(PackedAny(type_url=CDS, value=bad))])
    assert [one.name for one in store.snapshot.rejections] == ["bad"]
    configs = await dump(store, texts)
    (entry,) = next(one for one in configs if "ClustersConfigDump" in one["@type"])["dynamic_warming_clusters"]
    assert "cluster" not in entry
    assert entry["error_state"]["failed_configuration"]["name"] == "bad"
    assert "lb_policy" in entry["error_state"]["details"]


async def test_sections_hold_every_accepted_resource(store: Store, texts: Render) -> None:
    bootstrap, clusters, endpoints, listeners, *rest = await dump(store, texts, include_eds="")
    assert bootstrap["bootstrap"] == {"node": {"id": "n"}}
    assert [one["cluster"]["name"] for one in clusters["dynamic_active_clusters"]] == [FIRST, SECOND]
    assert clusters["dynamic_active_clusters"][0]["version_info"] == "ster-1"
    assert "dynamic_warming_clusters" not in clusters
    (first, _) = endpoints["dynamic_endpoint_configs"]
    (locality,) = first["endpoint_config"]["endpoints"]
    assert locality["lb_endpoints"][0]["health_status"] == "HEALTHY"
    (listener,) = listeners["dynamic_listeners"]
    assert listener["active_state"]["listener"]["filter_chains"][0]["filters"][0]["typed_config"]["cluster"] == FIRST
    assert kinds(rest) == ["ScopedRoutesConfigDump", "RoutesConfigDump", "SecretsConfigDump"]


async def test_routes_are_shown_as_envoy_shows_them(texts: Render) -> None:
    resources = recorded("1-default", "anthos-sidecar")
    routes = resources[RDS]
    store = stored(resources)
    (section,) = [one for one in await dump(store, texts) if one["@type"].endswith("RoutesConfigDump") and len(one) > 1]
    dynamic = section["dynamic_route_configs"]
    assert {one["route_config"]["name"] for one in dynamic} == set(routes)
    assert {one["version_info"] for one in dynamic} == {"tion-1"}
    (host, *_) = next(one for one in dynamic if one["route_config"]["name"].startswith("echo"))["route_config"][
        "virtual_hosts"
    ]
    assert host["routes"][0]["route"]["cluster"] == "outbound|80||echo-svc.default.svc.cluster.local"
    # Inline routes are static ones to Envoy.
    assert {one["route_config"]["name"] for one in section["static_route_configs"]} == {"InboundPassthroughCluster"}
    (item,) = await dump(store, texts, resource="dynamic_route_configs", name_regex="15010", mask="version_info")
    assert item == {"@type": config_dump.ADMIN + "RoutesConfigDump.DynamicRouteConfig", "version_info": "tion-1"}
    store.apply(RDS, "bad", [bytes(PackedAny(type_url=RDS, value=routes["15010"] + b"\x12\x01"))])
    (item,) = await dump(store, texts, resource="dynamic_route_configs", name_regex="15010")
    assert item["error_state"]["version_info"] == "bad"
    assert item["route_config"]["virtual_hosts"]


async def test_endpoints_are_shown_when_asked_for(store: Store, texts: Render) -> None:
    assert "EndpointsConfigDump" not in kinds(await dump(store, texts))
    assert kinds(await dump(store, texts, resource="dynamic_endpoint_configs")) == ["DynamicEndpointConfig"] * 2


async def test_mask_leaves_the_named_fields_and_their_sections(store: Store, texts: Render) -> None:
    (section,) = await dump(store, texts, mask="dynamic_active_clusters,static_clusters,dynamic_warming_clusters")
    assert set(section) == {"@type", "dynamic_active_clusters"}
    assert kinds(await dump(store, texts, mask="bootstrap")) == ["BootstrapConfigDump"]
    assert kinds(await dump(store, texts, mask="version_info")) == ["ClustersConfigDump", "ListenersConfigDump"]


async def test_resource_gives_the_items_alone(store: Store, texts: Render) -> None:
    items = await dump(store, texts, resource="dynamic_active_clusters")
    assert kinds(items) == ["DynamicCluster"] * 2
    assert items[1]["cluster"]["name"] == SECOND
    (listener,) = await dump(store, texts, resource="dynamic_listeners", mask="name")
    assert set(listener) == {"@type", "name"}
    assert await dump(store, texts, resource="static_clusters") == []


async def test_name_regex_takes_whole_names(store: Store, texts: Render) -> None:
    assert len(await dump(store, texts, resource="dynamic_active_clusters", name_regex=".*second.*")) == 1
    assert await dump(store, texts, resource="dynamic_active_clusters", name_regex="second") == []


def test_query_that_means_nothing_is_named() -> None:
    with pytest.raises(NotFoundError, match="nothing not found"):
        Query.parse({"resource": "nothing"})
    with pytest.raises(BadQueryError, match=r"\?mask=bootstrap"):
        Query.parse({"resource": "bootstrap"})
    with pytest.raises(BadQueryError, match="name_regex"):
        Query.parse({"name_regex": "("})


async def test_warming_and_rejected_clusters_say_so(texts: Render) -> None:
    good = messages.resources({FIRST: [], SECOND: []})
    store = stored({**good, EDS: {FIRST: good[EDS][FIRST]}})
    section = (await dump(store, texts))[1]
    assert [one["cluster"]["name"] for one in section["dynamic_warming_clusters"]] == [SECOND]
    stored_again = {**good[CDS], FIRST: good[CDS][FIRST] + b"\x12\x7f"}
    store.apply(CDS, "2", [bytes(PackedAny(type_url=CDS, value=raw)) for raw in stored_again.values()])
    (first,) = await dump(store, texts, resource="dynamic_active_clusters")
    assert first["error_state"]["version_info"] == "2"


async def test_without_the_renderer_the_dump_names_what_it_lacks(store: Store, texts: Render) -> None:
    complete = await dump(store, texts, include_eds="")
    configs = await dump(store, plain, include_eds="")
    assert kinds(configs) == kinds(complete)
    (listener,) = configs[3]["dynamic_listeners"]
    assert listener["active_state"]["listener"]["name"] == messages.LISTENER
    assert configs[2]["dynamic_endpoint_configs"][0]["endpoint_config"]["cluster_name"] == FIRST


async def test_reader_who_leaves_ends_the_rendering(store: Store) -> None:
    ended = False

    async def texts(resources: Iterable[Resource]) -> AsyncGenerator[bytes, None]:
        nonlocal ended
        try:
            for _ in resources:
                yield bytes(config_dump.CHUNK_BYTES)
        finally:
            ended = True

    pieces = config_dump.chunks(store.snapshot, {}, Query(), texts=texts)
    async for _ in pieces:
        break
    await pieces.aclose()
    assert ended
