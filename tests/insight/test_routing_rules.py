"""Rules about routes that lead to no endpoint, over one proxy and over a client beside its gateways."""

from dataclasses import replace

from eastgate.insight.cluster_model import ChainModel, ClusterModel, Endpoint, NodeModel, ProxyModel
from eastgate.insight.doctor import examine
from eastgate.insight.findings import Finding
from eastgate.xds.resources import Locality, LocalityEntry

HOST = "web.shop.svc.cluster.local"
EAST = Locality("us-east-1", "us-east-1a")
CLIENT = NodeModel("sidecar~10.1.0.9~client.shop~shop.svc.cluster.local", "sidecar", "west", "net-w", "", Locality("r"))
GATEWAY = NodeModel("router~10.2.0.200~gw.x~x.svc.cluster.local", "router", "east", "net-e", "net-e", EAST)
POD = Endpoint("10.1.0.1:8080", 0, Locality("r"), 1, "HEALTHY", tls_mode=True, workload="web;shop;web;;west")
WAY = Endpoint("192.0.2.2:15443", 0, EAST, 2, "UNKNOWN", tls_mode=True, workload=";;;;east")
RULES = {"routed-without-endpoints", "partial-distribute", "same-match", "gateway-lacks-cluster", "remote-pods-direct"}


def client(*clusters: ClusterModel, routed: str = "", chains: tuple[ChainModel, ...] = ()) -> ProxyModel:
    led = (ChainModel("240.240.0.1_80", "", (routed,)),) if routed else ()
    known = {one.name: one for one in clusters}
    return ProxyModel("client", known, CLIENT, (*led, *chains), has_configuration=True, has_endpoints=True)


def gateway(*subsets: str, host: str = HOST) -> ProxyModel:
    names = [f"outbound_.80_.{subset}_.{host}" for subset in subsets]
    known = {name: ClusterModel(name, endpoints=(POD,)) for name in names}
    chains = tuple(ChainModel("0.0.0.0_15443", name, (name,)) for name in names)
    return ProxyModel("gateway", known, GATEWAY, chains, has_configuration=True, has_endpoints=True)


def web(*endpoints: Endpoint, subset: str = "", emptied: tuple[LocalityEntry, ...] = ()) -> ClusterModel:
    places = tuple(LocalityEntry(one.locality, one.priority, one.weight) for one in endpoints)
    return ClusterModel(f"outbound|80|{subset}|{HOST}", endpoints=endpoints, localities=(*places, *emptied))


def found(*proxies: ProxyModel) -> list[Finding]:
    return [one for one in examine(proxies) if one.rule in RULES]


def test_a_routed_subset_that_selects_nobody_is_named() -> None:
    (one,) = found(client(web(POD), web(subset="east"), routed=web(subset="east").name))
    assert (one.rule, one.severity) == ("routed-without-endpoints", "error")
    assert "labels of subset east" in one.cause


def test_a_service_that_a_distribute_rule_emptied_names_the_localities() -> None:
    empty = web(emptied=(LocalityEntry(EAST, 0, 2),))
    (one,) = found(client(empty, routed=empty.name))
    assert "emptied: us-east-1/us-east-1a" in one.evidence
    assert "distribute" in one.cause
    assert one.fix == f"name these localities in distribute.to for {HOST}: us-east-1/us-east-1a"


def test_localities_without_a_name_are_to_get_one() -> None:
    """No distribute rule can name the empty locality, which nodes without labels have."""
    nameless = LocalityEntry(Locality(), 0, 2)
    label = "topology.kubernetes.io/region"
    (alone,) = found(client(web(emptied=(nameless,)), routed=web().name))
    assert label in alone.fix
    assert "distribute.to" not in alone.fix
    (beside,) = found(client(web(POD, emptied=(nameless, LocalityEntry(EAST, 0, 2)))))
    assert beside.fix.startswith(f"name these localities in distribute.to for {HOST}: us-east-1/us-east-1a; give")
    assert label in beside.fix


def test_a_gateway_with_nobody_behind_any_chain_is_told_about_its_network() -> None:
    gate = gateway("", "v1")
    nobody = {name: ClusterModel(name) for name in gate.clusters}
    (one,) = examine([replace(gate, clusters=nobody)])
    assert (one.rule, one.severity, one.cluster, one.now) == ("gateway-without-endpoints", "error", "", 1.0)
    assert "2 clusters, and none has an endpoint; NETWORK net-e, REQUESTED_NETWORK_VIEW net-e" in one.evidence
    name = next(iter(nobody))
    for healthy in ({**nobody, name: gate.clusters[name]}, {**nobody, name: ClusterModel(name, warming=True)}, {}):
        rules = [found.rule for found in examine([replace(gate, clusters=healthy)])]
        assert "gateway-without-endpoints" not in rules
    assert examine([replace(gate, clusters=nobody, has_endpoints=False)]) == ()


def test_a_locality_that_a_distribute_rule_emptied_is_named_once() -> None:
    emptied = client(web(POD, emptied=(LocalityEntry(EAST, 0, 2),)))
    (one,) = (each for each in examine([emptied]) if str(EAST) in f"{each.evidence} {each.fix}")
    assert (one.rule, one.severity) == ("partial-distribute", "warning")
    assert one.fix.startswith(f"name these localities in distribute.to for {HOST}: us-east-1/us-east-1a")


def test_endpoints_without_mtls_behind_another_network_are_the_likely_cause() -> None:
    empty = web(emptied=(LocalityEntry(EAST, 0, None),))
    (one,) = found(client(empty, routed=empty.name))
    assert "mTLS" in one.cause
    # A subset whose locality istiod left there has pods with its labels: labels are not the cause.
    subset = web(subset="v1", emptied=(LocalityEntry(EAST, 0, None),))
    (of_subset,) = found(client(web(POD), subset, routed=subset.name))
    assert (of_subset.cluster, of_subset.cause) == (subset.name, one.cause)


def test_a_service_without_pods_is_a_warning_and_the_clusters_own_are_none() -> None:
    (one,) = found(client(web(), routed=web().name))
    assert one.severity == "warning"
    system = ClusterModel("outbound|443||kubernetes.default.svc.cluster.local")
    assert found(client(system, routed=system.name)) == []


def test_a_route_of_a_gateway_that_leads_to_nobody_is_named_and_what_it_has_for_other_networks_is_not() -> None:
    sni = f"outbound_.80_._.{HOST}"
    clusters = {one.name: one for one in (web(), ClusterModel(sni))}
    chains = (ChainModel("0.0.0.0_15443", sni, (sni,)), ChainModel("0.0.0.0_15012", "", (web().name,)))
    proxy = ProxyModel("gateway", clusters, GATEWAY, chains, has_configuration=True, has_endpoints=True)
    (one,) = found(proxy)
    assert (one.rule, one.severity, one.cluster) == ("routed-without-endpoints", "warning", web().name)
    assert one.evidence == "0.0.0.0_15012 leads here; no endpoints"


def test_a_subset_that_only_the_client_knows_is_named() -> None:
    whole, subset = web(POD, WAY), web(WAY, subset="v2")
    (one,) = found(client(whole, subset, routed=subset.name), gateway("", "v1"))
    assert (one.rule, one.severity, one.cluster) == ("gateway-lacks-cluster", "error", subset.name)
    assert "no subset v2" in one.cause
    assert found(client(whole, subset, routed=subset.name), gateway("", "v2")) == []


def test_a_service_that_the_gateway_does_not_know_is_named() -> None:
    (one,) = found(client(web(POD, WAY)), gateway("", host="other.shop.svc.cluster.local"))
    assert "does not know the service" in one.cause


def test_a_gateway_of_another_port_is_known_by_its_metadata() -> None:
    way = WAY._replace(address="192.0.2.2:443")
    (one,) = found(client(web(POD, way)), gateway("", host="other.shop.svc.cluster.local"))
    assert one.rule == "gateway-lacks-cluster"


def test_pods_of_another_network_are_named_and_those_of_the_own_are_not() -> None:
    far = POD._replace(address="10.2.0.1:8080", workload="web;shop;web;;east")
    direct = client(web(POD, far))
    (one,) = found(direct, gateway(""))
    assert one.rule == "remote-pods-direct"
    assert "net-e" in one.evidence
    flat = gateway("")
    assert flat.node
    assert found(direct, replace(flat, node=replace(flat.node, network="net-w"))) == []


def test_two_chains_with_one_match_are_named_once() -> None:
    chains = tuple(ChainModel("0.0.0.0_15443", name, (web().name,), '{"server_names": ["a"]}') for name in "abc")
    (one,) = found(client(web(POD), chains=chains))
    assert (one.rule, one.severity) == ("same-match", "error")
    assert "chains a and b" in one.evidence
