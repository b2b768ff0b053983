"""Rules about what clients send through gateways, by the dumps of one side and of both."""

from dataclasses import replace

import pytest
from eastgate.insight.cluster_model import ChainModel, ClusterModel, Endpoint, NodeModel, ProxyModel
from eastgate.insight.doctor import examine
from eastgate.insight.findings import Finding
from eastgate.insight.read_dump import read_document
from eastgate.xds.resources import Locality, LocalityEntry

from ..support import dumps
from .test_routing_rules import CLIENT, EAST, GATEWAY, HOST, POD, WAY, client, gateway, web

RULES = {"sni-override", "detour-in-network", "remote-pods-suspected", "remote-pods-direct", "sni-cluster-without-mtls"}
FAR = POD._replace(address="10.2.0.1:8080", workload="web;shop;web;;east")
EASTWEST = ClusterModel("outbound|15443||istio-eastwestgateway.istio-system.svc.cluster.local", endpoints=(POD,))
SNI = f"outbound_.80_._.{HOST}"


def found(*proxies: ProxyModel) -> list[Finding]:
    return [one for one in examine(proxies) if one.rule in RULES]


def test_a_server_name_of_its_own_does_not_pass_a_gateway() -> None:
    model = replace(web(POD, WAY), server_name="db.example.com")
    (one,) = found(client(model))
    assert (one.rule, one.severity, one.addresses) == ("sni-override", "error", (WAY.address,))
    assert f"says db.example.com to the gateway {WAY.address}, which routes {SNI}" in one.evidence
    # Pods of the own network take any name, and Istio's own name is right.
    assert found(client(replace(model, endpoints=(POD,)))) == []
    assert found(client(replace(model, server_name=SNI))) == []


def test_server_names_are_read_where_istiod_writes_them() -> None:
    tls = {"name": "envoy.transport_sockets.tls", "typed_config": {"@type": "x.UpstreamTlsContext", "sni": "db"}}
    mesh = {**dumps.cluster(), "transport_socket_matches": [
        {"name": "tlsMode-disabled", "match": {"tlsMode": "other"}, "transport_socket": {"name": "raw"}},
        {"name": "tlsMode-istio", "match": {"tlsMode": "istio"}, "transport_socket": tls},
    ]}  # fmt: skip
    own = {**dumps.cluster("own"), "transport_socket": tls}
    proxy = read_document(dumps.config_dump([mesh, own, dumps.cluster("plain")], []), "x")
    assert {name: model.server_name for name, model in proxy.clusters.items()} == {
        dumps.NAME: "db",
        "own": "db",
        "plain": "",
    }


def test_a_gateway_in_the_clients_own_network_is_a_detour() -> None:
    through = client(web(POD, WAY))
    far = gateway("")
    assert far.node
    (one,) = found(through, replace(far, node=replace(far.node, network="net-w")))
    assert (one.rule, one.addresses) == ("detour-in-network", (WAY.address,))
    assert found(through, far) == []


@pytest.mark.parametrize(
    ("pods", "others", "severity", "why"),
    [
        # Nothing speaks against one flat network.
        ((POD, FAR), (), "", ""),
        ((POD, FAR), (EASTWEST,), "warning", "there is an east-west gateway"),
        ((POD, FAR), (ClusterModel("outbound|80||b.c.svc.d", endpoints=(WAY,)),), "warning", "other services have"),
        ((POD, FAR._replace(connects=4, connect_failures=4)), (), "error", "all 4 connects to them failed"),
        # They answer, whatever else there is.
        ((POD, FAR._replace(connects=4, connect_failures=3)), (EASTWEST,), "", ""),
        # The only one of another cluster is its gateway.
        ((POD, WAY), (EASTWEST,), "", ""),
    ],
)
def test_another_clusters_pods_are_suspected_from_one_side(
    pods: tuple[Endpoint, ...], others: tuple[ClusterModel, ...], severity: str, why: str
) -> None:
    said = [one for one in found(client(web(*pods), *others)) if one.rule == "remote-pods-suspected"]
    assert [one.severity for one in said] == [severity] * bool(severity)
    assert all(why in one.evidence and FAR.address in one.addresses for one in said)


def test_the_own_clusters_gateway_among_the_dumps_tells_that_there_are_networks() -> None:
    own = replace(gateway(""), node=replace(GATEWAY, cluster_id="west", network="net-w", network_view="net-w"))
    assert [one.rule for one in found(client(web(POD, FAR)), own)] == ["remote-pods-suspected"]
    # With the other side's dump the same is certain, and said once.
    assert [one.rule for one in found(client(web(POD, FAR)), own, gateway(""))] == ["remote-pods-direct"]


def emptied(
    *pods: Endpoint, host: str = HOST, others: tuple[ClusterModel, ...] = (), weight: int | None = None
) -> ProxyModel:
    """A gateway that has pods of a service, and none behind the name that other networks say."""
    place = (LocalityEntry(EAST, 0, weight),)
    name = f"outbound_.80_._.{host}"
    models = (ClusterModel(name, localities=place), ClusterModel(f"outbound|80||{host}", endpoints=pods), *others)
    chain = ChainModel("0.0.0.0_15443", name, (name,), server_names=(name,))
    clusters = {one.name: one for one in models}
    return ProxyModel("gateway", clusters, GATEWAY, (chain,), has_configuration=True, has_endpoints=True)


PLAIN = Endpoint("10.2.0.1:8080", 0, EAST, 1, "HEALTHY", tls_mode=False, workload="web;shop;web;;east")


def test_a_port_without_mtls_leaves_nobody_behind_the_gateways_name() -> None:
    (one,) = found(emptied(PLAIN))
    assert (one.rule, one.severity, one.cluster) == ("sni-cluster-without-mtls", "warning", SNI)
    assert one.yaml == "spec: {portLevelMtls: {8080: {mode: STRICT}}}"
    # The pod takes mTLS on another port: it has a sidecar, and this port was switched off.
    other = ClusterModel(f"outbound|90||{HOST}", endpoints=(PLAIN._replace(address="10.2.0.1:9090", tls_mode=True),))
    (one,) = found(emptied(PLAIN, others=(other,)))
    assert one.severity == "error"


def test_a_gateway_that_asks_for_no_more_than_it_routes_to_is_told_by_the_locality_that_stayed() -> None:
    """As an eastgate gateway's own dump is: it does not have the pods."""
    (one,) = found(emptied())
    assert (one.rule, one.severity, one.cluster, one.yaml) == ("sni-cluster-without-mtls", "warning", SNI, "")
    assert one.evidence.startswith("us-east-1/us-east-1a: a locality of pods")


@pytest.mark.parametrize(
    "proxy",
    [
        # A distribute rule leaves the locality its weight.
        emptied(weight=1),
        emptied(PLAIN._replace(tls_mode=True)),
        emptied(PLAIN, host="kube-dns.kube-system.svc.cluster.local"),
        # The gateway's own service, and one of another gateway of Istio's.
        emptied(PLAIN._replace(address="10.2.0.200:15443")),
        emptied(PLAIN, others=(ClusterModel(f"outbound|15021||{HOST}"),)),
    ],
)
def test_what_is_meant_to_be_empty_is_not_named(proxy: ProxyModel) -> None:
    assert found(proxy) == []


def test_addresses_of_nodes() -> None:
    assert GATEWAY.host == "10.2.0.200"
    assert NodeModel("x", "sidecar", "", "", "", Locality()).host == ""
    assert CLIENT.host == "10.1.0.9"
