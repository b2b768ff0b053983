"""What nodes get beyond the recorded stages: peer authentication, named ports, weighted routes, families, outages."""

from collections.abc import Iterable
from typing import Any

import pytest
from eastgate.mesh.control_plane import resources
from eastgate.mesh.errors import MeshError
from eastgate.mesh.mesh_file import MeshFile, parse
from eastgate.mesh.messages import CDS, EDS, LDS
from eastgate.mesh.model import Mesh, port_protocol
from eastgate.mesh.node_view import NodeRefusedError, node_view
from eastgate.xds.resources import Locality
from envoy_data_plane.envoy.config.cluster.v3 import Cluster, ClusterLbPolicy
from envoy_data_plane.envoy.config.endpoint.v3 import ClusterLoadAssignment
from envoy_data_plane.envoy.config.listener.v3 import Listener
from envoy_data_plane.envoy.extensions.filters.network.tcp_proxy.v3 import TcpProxy

MESH = """\
kind: Mesh
clusters:
  a:
    network: na
    gateways: [{address: 198.51.100.1}]
    nodes: {n1: {region: r1, zone: z1}, n2: {region: r1, zone: z2}}
    workloads:
      - {name: web-1, address: 10.1.0.1, node: n1, labels: {app: web, version: v1}, role: echo}
      - {name: web-2, address: 10.1.0.2, node: n2, labels: {app: web, version: v2}, role: echo, ports: {http: 9090}}
      - {name: client, address: 10.1.0.9, node: n1, role: client}
  b:
    network: nb
    gateways: [{address: 198.51.100.2}]
    nodes: {n1: {region: r2}}
    workloads:
      - {name: web-3, address: 10.2.0.1, node: n1, labels: {app: web, version: v1}, role: echo, ports: {http: 9191}}
services:
  - name: web
    selector: {app: web}
    ports:
      - {name: tcp, port: 80, targetPort: 8080}
      - {name: tcp-named, port: 81, targetPort: http}
      - {name: dns, port: 53, protocol: UDP}
"""
HOST = "web.default.svc.cluster.local"


def applied(kind: str, spec: str, *, group: str = "networking.istio.io/v1", name: str = "x") -> str:
    return f"---\napiVersion: {group}\nkind: {kind}\nmetadata: {{name: {name}}}\nspec: {spec}\n"


def sent(mesh: Mesh, *, cluster: str = "a", network: str = "na", kind: str = "sidecar", **metadata: Any) -> Any:
    meta = {"CLUSTER_ID": cluster, "NETWORK": network, **metadata}
    return resources(
        mesh, node_view(f"{kind}~10.1.0.9~client.default~default.svc.cluster.local", meta, Locality(), mesh)
    )


def endpoints(mesh: Mesh, name: str, **node: Any) -> list[tuple[str, int, int]]:
    """(address, weight, priority) of all endpoints of one cluster."""
    message = ClusterLoadAssignment.parse(sent(mesh, **node)[EDS][name])
    found = []
    for entry in message.endpoints:
        for one in entry.lb_endpoints:
            assert one.endpoint
            assert one.endpoint.address
            address = one.endpoint.address.socket_address
            assert address
            found.append((f"{address.address}:{address.port_value}", one.load_balancing_weight or 0, entry.priority))
    return found


def read(*documents: str) -> MeshFile:
    return parse(MESH + "".join(documents), "mesh.yaml")


def addresses(found: Iterable[tuple[str, int, int]]) -> list[str]:
    return [address for address, _, _ in found]


def test_a_named_target_port_is_each_workloads_own_and_who_lacks_it_is_left_out() -> None:
    assert endpoints(read().mesh, f"outbound|81||{HOST}") == [("10.1.0.2:9090", 1, 0), ("198.51.100.2:15443", 1, 0)]


def test_udp_ports_have_no_cluster() -> None:
    assert not [name for name in sent(read().mesh)[CDS] if "|53|" in name]


def test_peer_authentication_that_disables_mtls_hides_remote_workloads() -> None:
    disabled = applied("PeerAuthentication", "{mtls: {mode: DISABLE}}", group="security.istio.io/v1")
    assert addresses(endpoints(read(disabled).mesh, f"outbound|80||{HOST}")) == ["10.1.0.1:8080", "10.1.0.2:8080"]


def test_peer_authentication_of_a_port_wins_over_its_workload() -> None:
    spec = "{selector: {matchLabels: {version: v1}}, mtls: {mode: DISABLE}, portLevelMtls: {8080: {mode: STRICT}}}"
    only = applied("PeerAuthentication", spec, group="security.istio.io/v1")
    assert "198.51.100.2:15443" in addresses(endpoints(read(only).mesh, f"outbound|80||{HOST}"))


def test_a_rule_that_disables_tls_hides_remote_workloads_and_takes_the_tls_away() -> None:
    mesh = read(applied("DestinationRule", "{host: web, trafficPolicy: {tls: {mode: DISABLE}}}")).mesh
    assert addresses(endpoints(mesh, f"outbound|80||{HOST}")) == ["10.1.0.1:8080", "10.1.0.2:8080"]
    cluster = Cluster.parse(sent(mesh)[CDS][f"outbound|80||{HOST}"])
    assert cluster.transport_socket_matches == []
    assert cluster.transport_socket is None


def test_a_rule_that_demands_mtls_has_one_socket_for_all_endpoints() -> None:
    mesh = read(applied("DestinationRule", "{host: web, trafficPolicy: {tls: {mode: ISTIO_MUTUAL, sni: other}}}")).mesh
    cluster = Cluster.parse(sent(mesh)[CDS][f"outbound|80||{HOST}"])
    assert cluster.transport_socket
    assert cluster.transport_socket_matches == []


def test_a_node_without_a_network_reaches_networks_through_their_gateways() -> None:
    found = addresses(endpoints(read().mesh, f"outbound|80||{HOST}", network=""))
    # One entry for each locality behind it.
    assert found == ["198.51.100.1:15443", "198.51.100.1:15443", "198.51.100.2:15443"]


def test_cross_network_weights_follow_the_number_of_gateways() -> None:
    two = MESH.replace("[{address: 198.51.100.2}]", "[{address: 198.51.100.2}, {address: 198.51.100.3}]")
    mesh = parse(two, "mesh.yaml").mesh
    assert endpoints(mesh, f"outbound|80||{HOST}") == [
        ("10.1.0.1:8080", 2, 0),
        ("10.1.0.2:8080", 2, 0),
        ("198.51.100.2:15443", 1, 0),
        ("198.51.100.3:15443", 1, 0),
    ]


def test_a_tcp_route_splits_by_weight_for_the_clients_that_it_matches() -> None:
    subsets = applied("DestinationRule", "{host: web, subsets: [{name: v1, labels: {version: v1}}]}", name="web")
    route = applied(
        "VirtualService",
        "{hosts: [web], tcp: [{match: [{sourceLabels: {topology.istio.io/cluster: a}, port: 80}], route:"
        " [{destination: {host: web, subset: v1}, weight: 75}, {destination: {host: web, port: {number: 81}},"
        " weight: 25}]}]}",
    )
    mesh = read(subsets, route).mesh
    listeners = {name: Listener.parse(data) for name, data in sent(mesh)[LDS].items()}
    proxy = TcpProxy.parse(listeners["240.240.0.1_80"].filter_chains[0].filters[-1].typed_config.value)  # type: ignore[union-attr]
    assert proxy.weighted_clusters
    assert [(one.name, one.weight) for one in proxy.weighted_clusters.clusters] == [
        (f"outbound|80|v1|{HOST}", 75),
        (f"outbound|81||{HOST}", 25),
    ]
    other = Listener.parse(sent(mesh, cluster="b", network="nb")[LDS]["240.240.0.1_80"])
    assert TcpProxy.parse(other.filter_chains[0].filters[-1].typed_config.value).cluster == f"outbound|80||{HOST}"  # type: ignore[union-attr]


def chains_of(mesh: Mesh, listener: str) -> list[tuple[list[str], list[str], str]]:
    """Subnets and server names of each chain, the default last, and the cluster that it leads to."""
    found = Listener.parse(sent(mesh)[LDS][listener])
    chains = [*found.filter_chains, *([found.default_filter_chain] if found.default_filter_chain else [])]
    told = []
    for chain in chains:
        match = chain.filter_chain_match
        ranges = [f"{one.address_prefix}/{one.prefix_len}" for one in match.prefix_ranges] if match else []
        proxy = TcpProxy.parse(chain.filters[-1].typed_config.value)  # type: ignore[union-attr]
        told.append((ranges, list(match.server_names) if match else [], proxy.cluster or ""))
    return told


def led(routes: str) -> Mesh:
    return read(applied("VirtualService", f"{{hosts: [web], {routes}}}")).mesh


TO_81 = "route: [{destination: {host: web, port: {number: 81}}}]"


def test_a_tcp_route_of_subnets_is_a_chain_beside_that_of_the_service() -> None:
    """As istiod writes them: sorted, host bits kept; what goes elsewhere is still the service's."""
    near = f"tcp: [{{match: [{{destinationSubnets: [10.9.0.7/16]}}, {{destinationSubnets: [10.8.0.1]}}], {TO_81}}}]"
    own = f"outbound|80||{HOST}"
    subnets = (["10.8.0.1/32", "10.9.0.7/16"], [], f"outbound|81||{HOST}")
    assert chains_of(led(near), "240.240.0.1_80") == [subnets, ([], [], own)]
    # A match without subnets ends them, and takes all of its route.
    one_of_all = near.replace("{destinationSubnets: [10.8.0.1]}", "{port: 80}")
    assert chains_of(led(one_of_all), "240.240.0.1_80") == [([], [], f"outbound|81||{HOST}")]
    # What istiod takes for any address ends nothing, and matches everything: no default is reached beside it.
    anything = near.replace("10.9.0.7/16", "0.0.0.0/0").replace(", {destinationSubnets: [10.8.0.1]}", "")
    assert chains_of(led(anything), "240.240.0.1_80") == [([], [], f"outbound|81||{HOST}"), ([], [], own)]


def test_a_subnet_is_an_address_or_a_range() -> None:
    for text in ("10.0.0.0/33", "web.example.com", "10.0.0.0/255.0.0.0", ""):
        with pytest.raises(MeshError, match="destinationSubnets"):
            led(f'tcp: [{{match: [{{destinationSubnets: ["{text}"]}}], {TO_81}}}]')


def proxy_of(mesh: Mesh, listener: str, cluster: str = "", **node: Any) -> TcpProxy:
    """The tcp_proxy of a listener's first chain, or of the chain that leads to this cluster."""
    proxies = [
        TcpProxy.parse(chain.filters[-1].typed_config.value)  # type: ignore[union-attr]
        for chain in Listener.parse(sent(mesh, **node)[LDS][listener]).filter_chains
    ]
    return next(proxy for proxy in proxies if cluster in ("", proxy.cluster))


def hashed(proxy: TcpProxy) -> list[str]:
    """What a proxy's connections are hashed by."""
    return ["source_ip" if one.source_ip is not None else "?" for one in proxy.hash_policy]


SOURCE = "{consistentHash: {useSourceIp: true}}"
ROUTERS = applied(
    "Gateway",
    "{servers: [{port: {number: 15443, name: tls, protocol: TLS}, tls: {mode: AUTO_PASSTHROUGH}, hosts: ['*.local']}]}",
)


@pytest.mark.parametrize(
    ("policy", "subset", "whole", "of_subset"),
    [
        (f"{{loadBalancer: {SOURCE}}}", "", ["source_ip"], ["source_ip"]),
        (f"{{loadBalancer: {SOURCE}}}", "{loadBalancer: {simple: ROUND_ROBIN}}", ["source_ip"], []),
        (f"{{loadBalancer: {SOURCE}}}", "{outlierDetection: {}}", ["source_ip"], ["source_ip"]),
        ("null", f"{{loadBalancer: {SOURCE}}}", [], ["source_ip"]),
        ("{loadBalancer: {consistentHash: {httpHeaderName: x}}}", "", [], []),
        # istiod asks no settings of ports.
        (f"{{portLevelSettings: [{{port: {{number: 80}}, loadBalancer: {SOURCE}}}]}}", "", [], []),
    ],
)
def test_source_addresses_are_hashed_where_istiod_says_so(
    policy: str, subset: str, whole: list[str], of_subset: list[str]
) -> None:
    """In a sidecar's listeners and in a gateway's chains."""
    one = f"{{name: v1, labels: {{version: v1}}, trafficPolicy: {subset or 'null'}}}"
    rule = applied("DestinationRule", f"{{host: web, trafficPolicy: {policy}, subsets: [{one}]}}")
    mesh = read(rule, ROUTERS).mesh
    assert hashed(proxy_of(mesh, "240.240.0.1_80")) == whole
    for name, expected in (("", whole), ("v1", of_subset)):
        found = proxy_of(mesh, "0.0.0.0_15443", f"outbound_.80_.{name}_.{HOST}", kind="router")
        assert hashed(found) == expected


def test_a_weighted_route_hashes_by_the_first_destinations_rule_without_its_subset() -> None:
    one = f"{{name: v1, labels: {{version: v1}}, trafficPolicy: {{loadBalancer: {SOURCE}}}}}"
    routed = applied(
        "VirtualService",
        "{hosts: [web], tcp: [{route: [{destination: {host: web, subset: v1}, weight: 100},"
        " {destination: {host: web, port: {number: 81}}, weight: 0}]}]}",
        name="split",
    )
    rule = "{{host: web, trafficPolicy: {}, subsets: [{}]}}"
    for policy, expected in (("null", []), (f"{{loadBalancer: {SOURCE}}}", ["source_ip"])):
        mesh = read(applied("DestinationRule", rule.format(policy, one)), routed).mesh
        proxy = proxy_of(mesh, "240.240.0.1_80")
        assert hashed(proxy) == expected
        assert proxy.stat_prefix == "split.default"
        assert proxy.weighted_clusters
        assert [cluster.name for cluster in proxy.weighted_clusters.clusters] == [f"outbound|80|v1|{HOST}"]


@pytest.mark.parametrize(
    ("hashing", "policy", "ring", "table"),
    [
        ("{useSourceIp: true}", ClusterLbPolicy.RING_HASH, 1024, None),
        ("{useSourceIp: true, minimumRingSize: 64}", ClusterLbPolicy.RING_HASH, 64, None),
        ("{useSourceIp: true, ringHash: {minimumRingSize: 4096}}", ClusterLbPolicy.RING_HASH, 4096, None),
        ("{useSourceIp: true, ringHash: {}}", ClusterLbPolicy.RING_HASH, None, None),
        ("{useSourceIp: true, maglev: {tableSize: 1009}}", ClusterLbPolicy.MAGLEV, None, 1009),
    ],
)
def test_consistent_hash_becomes_a_ring_or_a_table(
    hashing: str, policy: ClusterLbPolicy, ring: int | None, table: int | None
) -> None:
    file = read(
        applied("DestinationRule", f"{{host: web, trafficPolicy: {{loadBalancer: {{consistentHash: {hashing}}}}}}}")
    )
    assert file.findings == ()
    cluster = Cluster.parse(sent(file.mesh)[CDS][f"outbound|80||{HOST}"])
    assert cluster.lb_policy == policy
    assert (cluster.ring_hash_lb_config.minimum_ring_size if cluster.ring_hash_lb_config else None) == ring
    assert (cluster.maglev_lb_config.table_size if cluster.maglev_lb_config else None) == table


def test_timeouts_of_connections_are_those_of_the_whole_rule() -> None:
    """As istiod has it: a subset's own, and a port's, are not asked."""
    pool = "connectionPool: {{tcp: {{idleTimeout: {}}}}}"
    subset = f"{{name: v1, labels: {{version: v1}}, trafficPolicy: {{{pool.format('2s')}}}}}"
    port = f"portLevelSettings: [{{port: {{number: 80}}, {pool.format('3s')}}}]"
    mesh = read(
        applied(
            "DestinationRule", f"{{host: web, trafficPolicy: {{{pool.format('1s')}, {port}}}, subsets: [{subset}]}}"
        ),
        applied("VirtualService", "{hosts: [web], tcp: [{route: [{destination: {host: web, subset: v1}}]}]}"),
    ).mesh
    proxy = proxy_of(mesh, "240.240.0.1_80")
    assert proxy.cluster == f"outbound|80|v1|{HOST}"
    assert proxy.idle_timeout
    assert proxy.idle_timeout.total_seconds() == 1


def test_connection_pool_becomes_limits_and_timeouts() -> None:
    pool = "{tcp: {maxConnections: 7, connectTimeout: 250ms, tcpKeepalive: {time: 75s}}}"
    mesh = read(applied("DestinationRule", f"{{host: web, trafficPolicy: {{connectionPool: {pool}}}}}")).mesh
    cluster = Cluster.parse(sent(mesh)[CDS][f"outbound|80||{HOST}"])
    assert cluster.circuit_breakers
    assert cluster.circuit_breakers.thresholds[0].max_connections == 7
    assert cluster.connect_timeout
    assert cluster.connect_timeout.total_seconds() == 0.25
    assert cluster.upstream_connection_options
    assert cluster.upstream_connection_options.tcp_keepalive
    assert cluster.upstream_connection_options.tcp_keepalive.keepalive_time == 75


def test_a_router_that_no_gateway_selects_has_no_listeners_and_no_sni_dnat_clusters() -> None:
    found = sent(read().mesh, kind="router", LABELS={"istio": "eastwestgateway"})
    assert found[LDS] == {}
    assert not [name for name in found[CDS] if name.startswith("outbound_.")]


@pytest.mark.parametrize(
    ("node_id", "metadata", "said"),
    [
        ("sidecar~10.0.0.1~pod", {}, "not of the form"),
        ("ztunnel~10.0.0.1~p.n~d", {}, "type 'ztunnel'"),
        ("sidecar~10.0.0.1~p.n~d", {"CLUSTER_ID": "c"}, "no cluster of this mesh (a, b)"),
        ("sidecar~10.0.0.1~p.n~d", {}, "'Kubernetes'"),
    ],
)
def test_a_node_that_istiod_would_refuse_is_refused(node_id: str, metadata: dict[str, str], said: str) -> None:
    with pytest.raises(NodeRefusedError) as caught:
        node_view(node_id, metadata, Locality(), read().mesh)
    assert said in str(caught.value)


@pytest.mark.parametrize(
    ("outage", "unready"),
    [("{zone: r1/z2}", ["web-2"]), ("{region: r1}", ["web-1", "web-2"]), ("{region: r2}", ["web-3"])],
)
def test_an_outage_takes_a_zone_or_region_and_a_repair_brings_it_back(outage: str, unready: list[str]) -> None:
    steps = f"  - {{name: down, fail: [{outage}]}}\n  - {{name: up, repair: [{outage}]}}\n"
    scenario = read(f"---\nkind: Scenario\nclient: a/client\nservice: web\nsteps:\n{steps}").scenario
    assert scenario
    down, up = scenario.steps
    assert [one.name for one in down.mesh.workloads if not one.ready] == unready
    assert all(one.ready for one in up.mesh.workloads)


@pytest.mark.parametrize(
    ("name", "app_protocol", "protocol", "expected"),
    [
        ("", "", "TCP", "auto"),
        ("http-web", "", "TCP", "http"),
        ("tcp", "", "TCP", "tcp"),
        ("grpc-web-x", "", "TCP", "grpc"),
        ("anything", "kubernetes.io/h2c", "TCP", "http2"),
        ("http", "tcp", "TCP", "tcp"),
        ("custom", "", "TCP", "auto"),
        ("http", "", "UDP", "udp"),
    ],
)
def test_port_protocol(name: str, app_protocol: str, protocol: str, expected: str) -> None:
    assert port_protocol(name, app_protocol, protocol) == expected
