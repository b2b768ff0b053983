"""Doctor says nothing about healthy meshes, of whatever shape: what the embedded control plane sends, as its dump."""

from typing import Any

import pytest
import yaml
from eastgate.insight.cluster_model import ProxyModel
from eastgate.insight.doctor import examine
from eastgate.insight.read_dump import read_document
from eastgate.mesh.control_plane import resources
from eastgate.mesh.mesh_file import parse
from eastgate.mesh.messages import CDS, EDS, LDS, RDS
from eastgate.mesh.model import Mesh, Workload
from eastgate.proxy.admin.message_json import MessageReader
from eastgate.trial.prediction import is_gateway
from eastgate.trial.stand_ins import view_of

from ..support import dumps

Object = dict[str, Any]
GATEWAY = {
    "apiVersion": "networking.istio.io/v1",
    "kind": "Gateway",
    "metadata": {"name": "cross-network", "namespace": "istio-system"},
    "spec": {
        "selector": {"istio": "eastwestgateway"},
        "servers": [
            {"port": {"number": 15443, "name": "tls", "protocol": "TLS"}, "tls": {"mode": "AUTO_PASSTHROUGH"},
             "hosts": ["*.local"]}
        ],
    },
}  # fmt: skip
OUTLIER = {"consecutive5xxErrors": 5, "maxEjectionPercent": 100}
SPREAD = {
    "distribute": [{"from": "r0/*", "to": {"r0/*": 80, "r1/*": 20}}, {"from": "*", "to": {"r0/*": 20, "r1/*": 80}}]
}
DUAL_STACK = {"defaultConfig": {"proxyMetadata": {"ISTIO_DUAL_STACK": "true"}}}
BY_CLUSTER = [{"name": name, "labels": {"topology.istio.io/cluster": name}} for name in ("c0", "c1")]


def cluster(
    number: int, *, flat: bool, gateways: int, port: int = 15443, v6: bool = False, both: bool = False
) -> Object:
    """A cluster with two pods of web, a client, and unless the network is flat a gateway.

    ``v6``: the first address of each is of IPv6, and gateways'; ``both``: pods have one of the other family too.
    """
    labels = {"istio": "eastwestgateway"}

    def address(at: int) -> Object:
        found = [f"10.{number}.0.{at}", f"2001:db8:{number}::{at:x}"]
        first, other = found[::-1] if v6 else found
        return {"address": first, "additional_addresses": [other] if both else []}

    pods: list[Object] = [
        {"name": f"web-{at}", "namespace": "shop", "node": "n", **address(at), "labels": {"app": "web"}}
        for at in (1, 2)
    ]
    pods.append({"name": "client", "namespace": "shop", "node": "n", **address(9)})
    if not flat:
        pods.append(
            {"name": "ewgw", "namespace": "istio-system", "node": "n", **address(8), "labels": labels,
             "role": "gateway"}
        )  # fmt: skip
    outside = "2001:db8:ffff::{:x}" if v6 else "192.0.2.{}"
    ways = [{"address": outside.format(10 * number + at), "port": port} for at in range(gateways)]
    return {
        "network": "flat" if flat else f"net{number}",
        "gateways": [] if flat else ways,
        "nodes": {"n": {"region": f"r{number}", "zone": "z"}},
        "workloads": pods,
    }


def applied(kind: str, name: str, spec: Object) -> Object:
    return {
        "apiVersion": "networking.istio.io/v1",
        "kind": kind,
        "metadata": {"name": name, "namespace": "shop"},
        "spec": spec,
    }


def mesh(
    policy: Object | None,
    *,
    count: int = 2,
    v6: tuple[int, ...] = (),
    web: Object | None = None,
    more: tuple[Object, ...] = (),
    config: Object | None = None,
    subsets: list[Object] | None = None,
    **place: Any,
) -> Mesh:
    """So many clusters with a service each has pods of. ``v6``: those whose addresses are of IPv6."""
    settings = {"flat": False, "gateways": 2, **place}
    service = {"name": "web", "namespace": "shop", "ports": [{"name": "tcp", "port": 80}], "selector": {"app": "web"}}
    clusters = {f"c{number}": cluster(number, v6=number in v6, **settings) for number in range(count)}
    documents: list[Object] = [
        {"kind": "Mesh", "meshConfig": config or {}, "clusters": clusters, "services": [{**service, **(web or {})}]}
    ]
    documents += [*([] if settings["flat"] else [GATEWAY]), *more]
    if policy is not None:
        rule = {"host": "web", "trafficPolicy": policy, **({"subsets": subsets} if subsets else {})}
        documents.append(applied("DestinationRule", "web", rule))
    return parse(yaml.safe_dump_all(documents), "x").mesh


READER = MessageReader()
URL = "type.googleapis.com/envoy.config."
TYPES = {
    CDS: f"{URL}cluster.v3.Cluster",
    EDS: f"{URL}endpoint.v3.ClusterLoadAssignment",
    LDS: f"{URL}listener.v3.Listener",
    RDS: f"{URL}route.v3.RouteConfiguration",
}


def model(of: Mesh, workload: Workload) -> ProxyModel:
    """What the proxy's own dump would say."""
    gateway = is_gateway(workload)
    view = view_of(of, workload, gateway=gateway)
    sent = resources(of, view)
    shown = {kind: [READER.read(TYPES[kind], raw) for raw in sent.get(kind, {}).values()] for kind in TYPES}
    place = workload.locality
    node = {
        "id": f"{view.type}~{workload.address}~{workload.name}.{workload.namespace}~x",
        "metadata": {
            "CLUSTER_ID": workload.cluster,
            "NETWORK": workload.network,
            **({"REQUESTED_NETWORK_VIEW": workload.network} if gateway else {}),
        },
        "locality": {"region": place.region, "zone": place.zone},
    }
    document = dumps.config_dump(shown[CDS], shown[EDS], listeners=shown[LDS], routes=shown[RDS], node=node)
    return read_document(document, f"{workload.cluster}/{workload.name}")


EXTERNAL = tuple(
    applied("ServiceEntry", f"entry-{number}", {"ports": [{"number": 443, "name": "tls", "protocol": "TLS"}], **spec})
    for number, spec in enumerate(
        (
            {"hosts": ["api.example.com"], "resolution": "DNS"},
            {"hosts": ["db.example.com"], "resolution": "STATIC", "addresses": ["198.51.100.1"],
             "endpoints": [{"address": "198.51.100.7"}, {"address": "198.51.100.8"}]},
            {"hosts": ["*.example.org"], "resolution": "NONE"},
            {"hosts": ["round.example.com"], "resolution": "DNS_ROUND_ROBIN"},
        )
    )
)  # fmt: skip
LOCAL = {"serviceSettings": [{"settings": {"clusterLocal": True}, "hosts": ["*.shop.svc.cluster.local"]}]}
FAILOVER = {"outlierDetection": OUTLIER}
SHAPES = {
    "failover by default": mesh(FAILOVER),
    "failover by region": mesh(
        {"outlierDetection": OUTLIER, "loadBalancer": {"localityLbSetting": {"failover": [{"from": "r0", "to": "r1"}]}}}
    ),
    "failoverPriority": mesh(
        {"outlierDetection": OUTLIER,
         "loadBalancer": {"localityLbSetting": {"failoverPriority": ["topology.istio.io/network"]}}}
    ),
    "distribute": mesh({"loadBalancer": {"localityLbSetting": SPREAD}}),
    "three clusters": mesh(FAILOVER, count=3),
    "three gateways each": mesh(FAILOVER, gateways=3),
    "one flat network": mesh(FAILOVER, flat=True),
    "three on a flat network": mesh(FAILOVER, count=3, flat=True),
    "subsets by cluster": mesh(FAILOVER, subsets=BY_CLUSTER),
    "one cluster": mesh(None, count=1, flat=True),
    "one cluster with a rule": mesh(FAILOVER, count=1, flat=True),
    "services outside of the mesh": mesh(FAILOVER, more=EXTERNAL),
    "a headless service": mesh(FAILOVER, web={"headless": True}),
    "one gateway each": mesh(FAILOVER, gateways=1),
    "gateways behind node ports": mesh(FAILOVER, port=31443),
    "IPv6": mesh(FAILOVER, v6=(0, 1)),
    "IPv6 beside IPv4": mesh(FAILOVER, v6=(1,), both=True),
    "dual stack": mesh(FAILOVER, both=True, web={"families": ["IPv4", "IPv6"]}, config=DUAL_STACK),
    "clusterLocal": mesh(FAILOVER, config=LOCAL),
    "clusterLocal without a rule": mesh(None, config=LOCAL),
    "a service of one cluster alone": mesh(FAILOVER, web={"clusters": ["c0"]}),
    "HTTP": mesh(FAILOVER, web={"ports": [{"name": "http", "port": 80}]}),
}  # fmt: skip


def proxies_of(shape: str) -> list[ProxyModel]:
    of = SHAPES[shape]
    return [model(of, one) for one in of.workloads if one.name in ("client", "ewgw")]


@pytest.mark.parametrize("shape", SHAPES)
def test_healthy_meshes_have_no_finding(shape: str) -> None:
    proxies = proxies_of(shape)
    assert all(one.clusters and one.chains for one in proxies)
    assert [(one.rule, one.cluster, one.evidence) for one in examine(proxies)] == []


@pytest.mark.parametrize("shape", SHAPES)
def test_their_endpoints_are_seen(shape: str) -> None:
    """Nothing is found where nothing is read: each client has the service, and where it is."""
    for one in proxies_of(shape):
        for name in one.clusters:
            if name.startswith("outbound|80||web.") and one.source.endswith("/client"):
                model = one.clusters[name]
                assert model.type == "ORIGINAL_DST" or model.endpoints, (one.source, name)
                assert all(endpoint.cluster_id for endpoint in model.endpoints)


def test_dual_stack_endpoints_are_no_finding() -> None:
    """With ISTIO_DUAL_STACK an endpoint and a listener have further addresses beside their first."""
    entries = [dumps.locality("tokyo", dumps.places(2)), dumps.locality("osaka", [dumps.gateway()], priority=1)]
    for place in entries:
        for at, one in enumerate(place["lb_endpoints"]):
            other = {"socket_address": {"address": f"2001:db8::{at + 1}", "port_value": 8080}}
            one["endpoint"]["additional_addresses"] = [{"address": other}]
    cluster = {**dumps.cluster(outlier={"max_ejection_percent": 100}), "dns_lookup_family": "ALL"}
    document = dumps.config_dump([cluster], [dumps.assignment(*entries)])
    proxy = read_document(document, "x")
    assert len(proxy.clusters[dumps.NAME].endpoints) == 3
    assert examine([proxy]) == ()


def test_gateways_of_a_family_that_a_client_does_not_have_are_found() -> None:
    """From istiod 1.31 on they are not sent, and so nothing is of what is behind them."""
    for client, remote in (("c0/client", "r1/z"), ("c1/client", "r0/z")):
        of = mesh(FAILOVER, v6=(1,))
        workload = next(one for one in of.workloads if f"{one.cluster}/{one.name}" == client)
        (found,) = examine([model(of, workload)])
        assert (found.rule, found.evidence) == ("remote-without-mtls", f"{remote}: neither endpoints nor weight")
        assert "an IP family that the proxy does not have" in found.cause
