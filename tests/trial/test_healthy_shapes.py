"""Doctor says nothing about healthy meshes, of whatever shape: what the embedded control plane sends, examined."""

from typing import Any

import pytest
import yaml
from eastgate.insight.cluster_model import NodeModel, ProxyModel
from eastgate.insight.doctor import examine
from eastgate.insight.snapshot_model import chains_of, cluster_of
from eastgate.mesh.control_plane import resources
from eastgate.mesh.mesh_file import parse
from eastgate.mesh.messages import CDS, EDS, LDS
from eastgate.mesh.model import Mesh, Workload
from eastgate.trial.prediction import is_gateway, view_of
from eastgate.xds.decode import decode_assignment
from eastgate.xds.decode_cluster import decode_cluster
from eastgate.xds.decode_listener import decode_listener

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
BY_CLUSTER = [{"name": name, "labels": {"topology.istio.io/cluster": name}} for name in ("c0", "c1")]


def cluster(number: int, *, flat: bool, gateways: int) -> Object:
    labels = {"istio": "eastwestgateway"}
    pods: list[Object] = [
        {
            "name": f"web-{at}",
            "namespace": "shop",
            "node": "n",
            "address": f"10.{number}.0.{at}",
            "labels": {"app": "web"},
        }
        for at in (1, 2)
    ]
    pods.append({"name": "client", "namespace": "shop", "node": "n", "address": f"10.{number}.0.9"})
    if not flat:
        pods.append(
            {"name": "ewgw", "namespace": "istio-system", "node": "n", "address": f"10.{number}.0.8", "labels": labels,
             "role": "gateway"}
        )  # fmt: skip
    ways = [{"address": f"192.0.2.{10 * number + at}"} for at in range(gateways)]
    return {
        "network": "flat" if flat else f"net{number}",
        "gateways": [] if flat else ways,
        "nodes": {"n": {"region": f"r{number}", "zone": "z"}},
        "workloads": pods,
    }


def mesh(policy: Object | None, *, count: int = 2, flat: bool = False, gateways: int = 2, **spec: Any) -> Mesh:
    web = {"name": "web", "namespace": "shop", "ports": [{"name": "tcp", "port": 80}], "selector": {"app": "web"}}
    clusters = {f"c{number}": cluster(number, flat=flat, gateways=gateways) for number in range(count)}
    documents: list[Object] = [{"kind": "Mesh", "clusters": clusters, "services": [web]}]
    documents += [] if flat else [GATEWAY]
    if policy is not None:
        documents.append(
            {"apiVersion": "networking.istio.io/v1", "kind": "DestinationRule",
             "metadata": {"name": "web", "namespace": "shop"},
             "spec": {"host": "web", "trafficPolicy": policy, **spec}}
        )  # fmt: skip
    return parse(yaml.safe_dump_all(documents), "x").mesh


def model(of: Mesh, workload: Workload) -> ProxyModel:
    """What the proxy's own dump would say."""
    gateway = is_gateway(workload)
    view = view_of(of, workload, gateway=gateway)
    sent = resources(of, view)
    clusters = {}
    for name, raw in sent[CDS].items():
        assigned = sent[EDS].get(name)
        clusters[name] = cluster_of(decode_cluster(raw), decode_assignment(assigned) if assigned else None)
    chains = tuple(chain for raw in sent[LDS].values() for chain in chains_of(decode_listener(raw)[0]))
    view_text = ",".join(view.requested_networks)
    node = NodeModel(view.name, view.type, view.cluster, view.network, view_text, view.locality)
    return ProxyModel(workload.name, clusters, node, chains, has_configuration=True, has_endpoints=True)


SHAPES = {
    "failover by default": mesh({"outlierDetection": OUTLIER}),
    "failover by region": mesh(
        {"outlierDetection": OUTLIER, "loadBalancer": {"localityLbSetting": {"failover": [{"from": "r0", "to": "r1"}]}}}
    ),
    "failoverPriority": mesh(
        {"outlierDetection": OUTLIER,
         "loadBalancer": {"localityLbSetting": {"failoverPriority": ["topology.istio.io/network"]}}}
    ),
    "distribute": mesh({"loadBalancer": {"localityLbSetting": SPREAD}}),
    "three clusters": mesh({"outlierDetection": OUTLIER}, count=3),
    "three gateways each": mesh({"outlierDetection": OUTLIER}, gateways=3),
    "one flat network": mesh({"outlierDetection": OUTLIER}, flat=True),
    "three on a flat network": mesh({"outlierDetection": OUTLIER}, count=3, flat=True),
    "subsets by cluster": mesh({"outlierDetection": OUTLIER}, subsets=BY_CLUSTER),
    "one cluster": mesh(None, count=1, flat=True),
}  # fmt: skip


@pytest.mark.parametrize("shape", SHAPES)
def test_healthy_meshes_have_no_finding(shape: str) -> None:
    of = SHAPES[shape]
    proxies = [model(of, one) for one in of.workloads if one.name in ("client", "ewgw")]
    assert [(one.rule, one.cluster, one.evidence) for one in examine(proxies)] == []
