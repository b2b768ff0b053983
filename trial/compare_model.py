"""One cluster as the configuration of a gateway on loopback: the same shares, endpoints that answer here."""

from collections.abc import Mapping, Sequence
from datetime import timedelta
from itertools import groupby

from eastgate.insight.answer import find_cluster
from eastgate.insight.cluster_model import ClusterModel
from eastgate.insight.dump_source import proxies
from eastgate.insight.read_cluster import read_cluster, with_assignment
from eastgate.mesh.assignments import assignment
from eastgate.mesh.clusters import outbound_cluster
from eastgate.mesh.connection_pool import unlimited
from eastgate.mesh.endpoints import ClusterKey
from eastgate.mesh.mesh_file import load
from eastgate.mesh.messages import CDS, EDS, LDS, address, from_ads, pack
from eastgate.mesh.model import Mesh
from eastgate.mesh.scenario import Scenario
from eastgate.proxy.errors import MeshFileError, SettingsError, TrialError
from eastgate.xds.resources import Hashing, Locality
from envoy_data_plane.envoy.config.cluster.v3 import (
    CircuitBreakers,
    Cluster,
    ClusterCommonLbConfig,
    ClusterCommonLbConfigConsistentHashingLbConfig,
    ClusterCommonLbConfigLocalityWeightedLbConfig,
    ClusterCommonLbConfigZoneAwareLbConfig,
    ClusterDiscoveryType,
    ClusterEdsClusterConfig,
    ClusterLbPolicy,
    ClusterLeastRequestLbConfig,
    ClusterMaglevLbConfig,
    ClusterRingHashLbConfig,
    ClusterRingHashLbConfigHashFunction,
)
from envoy_data_plane.envoy.config.core.v3 import HealthStatus, Metadata, TransportSocket
from envoy_data_plane.envoy.config.core.v3 import Locality as LocalityPb
from envoy_data_plane.envoy.config.endpoint.v3 import (
    ClusterLoadAssignment,
    ClusterLoadAssignmentPolicy,
    Endpoint,
    LbEndpoint,
    LocalityLbEndpoints,
)
from envoy_data_plane.envoy.config.listener.v3 import (
    Filter,
    FilterChain,
    FilterChainMatch,
    Listener,
    ListenerFilter,
)
from envoy_data_plane.envoy.extensions.filters.listener.tls_inspector.v3 import TlsInspector
from envoy_data_plane.envoy.extensions.filters.network.tcp_proxy.v3 import TcpProxy
from envoy_data_plane.envoy.type.v3 import Percent

from .stand_ins import view_of, with_addresses

SERVER_NAME = "outbound_.80_._.compared.default.svc.cluster.local"
HOST = "127.0.0.1"
SUPPORTED = {
    "ROUND_ROBIN": ClusterLbPolicy.ROUND_ROBIN,
    "LEAST_REQUEST": ClusterLbPolicy.LEAST_REQUEST,
    "RANDOM": ClusterLbPolicy.RANDOM,
    "RING_HASH": ClusterLbPolicy.RING_HASH,
    "MAGLEV": ClusterLbPolicy.MAGLEV,
}


def model_of_mesh(mesh: Mesh, scenario: Scenario) -> ClusterModel:
    """The scenario's service as its client sees it."""
    node = view_of(mesh, scenario.client, gateway=False)
    key = ClusterKey(scenario.service, scenario.port)
    cluster = outbound_cluster(mesh, node, key)
    # What decides no share, and what the package cannot show as JSON.
    cluster.filters, cluster.transport_socket_matches, cluster.transport_socket = [], [], None
    return with_assignment(read_cluster(cluster.to_dict()), assignment(mesh, node, key).to_dict())


def loopback_resources(model: ClusterModel, ports: Sequence[int]) -> Mapping[str, Mapping[str, bytes]]:
    """Configuration of a gateway with this one cluster, its endpoints at these ports of loopback, in their order.

    Raises TrialError for a policy that is not compared.
    """
    if model.policy not in SUPPORTED:
        raise TrialError(f"{model.name}: policy {model.policy} is not compared, only {', '.join(SUPPORTED)}")
    rows = [(one.priority, one.locality, port, one) for one, port in zip(model.endpoints, ports, strict=True)]
    weights = {(entry.priority, Locality(*entry.locality)): entry.weight for entry in model.localities}
    entries = []
    # Message order decides which of two entries of one locality counts: it is kept.
    for (priority, where), members in groupby(rows, key=lambda row: row[:2]):
        entries.append(
            LocalityLbEndpoints(
                locality=LocalityPb(region=where.region, zone=where.zone, sub_zone=where.sub_zone),
                priority=priority,
                load_balancing_weight=weights.get((priority, where)),
                lb_endpoints=[
                    LbEndpoint(
                        endpoint=Endpoint(address=address(HOST, port)),
                        health_status=HealthStatus["UNHEALTHY" if one.failed else one.health],
                        load_balancing_weight=one.weight,
                        # What is hashed stays what it was, whatever port stands for the endpoint here.
                        metadata=_hash_key(one.hash_key or one.plain_address) if model.hashes else None,
                    )
                    for _, _, port, one in members
                ],
            )
        )
    assignment_message = ClusterLoadAssignment(
        cluster_name=SERVER_NAME,
        endpoints=entries,
        policy=ClusterLoadAssignmentPolicy(
            overprovisioning_factor=model.overprovisioning_factor,
            weighted_priority_health=model.weighted_priority_health,
        ),
    )
    return {
        CDS: {SERVER_NAME: bytes(_cluster(model))},
        EDS: {SERVER_NAME: bytes(assignment_message)},
        LDS: {"compared": bytes(_listener())},
    }


def _hash_key(key: str) -> Metadata:
    return Metadata.from_dict({"filter_metadata": {"envoy.lb": {"hash_key": key}}})


def _set_hashing(cluster: Cluster, model: ClusterModel) -> None:
    hashing = model.hashing or Hashing()
    if model.policy == "RING_HASH":
        cluster.ring_hash_lb_config = ClusterRingHashLbConfig(
            minimum_ring_size=hashing.minimum_ring_size,
            maximum_ring_size=hashing.maximum_ring_size,
            hash_function=ClusterRingHashLbConfigHashFunction[hashing.hash_function],
        )
    else:
        cluster.maglev_lb_config = ClusterMaglevLbConfig(table_size=hashing.table_size)
    if hashing.balance_factor and cluster.common_lb_config:
        cluster.common_lb_config.consistent_hashing_lb_config = ClusterCommonLbConfigConsistentHashingLbConfig(
            hash_balance_factor=hashing.balance_factor
        )


def sidecar_resources(
    model: ClusterModel, ports: Sequence[int], socket: TransportSocket | None
) -> Mapping[str, Mapping[str, bytes]]:
    """The same of a sidecar whose clients come in plaintext, and whose endpoints speak TLS so; None: they do not."""
    found = loopback_resources(model, ports)
    cluster = Cluster.parse(found[CDS][SERVER_NAME])
    cluster.transport_socket = socket
    cluster.circuit_breakers = CircuitBreakers(thresholds=[unlimited()])
    return {
        **found,
        CDS: {SERVER_NAME: bytes(cluster)},
        LDS: {"compared": bytes(plain_listener("compared", SERVER_NAME))},
    }


def server_resources(ports: Sequence[int], socket: TransportSocket) -> Mapping[str, Mapping[str, bytes]]:
    """Of the servers' sidecar: a listener with TLS for each application, named by its number."""
    clusters, listeners = {}, {}
    for number, port in enumerate(ports):
        name = f"inbound|{number}||"
        endpoint = LbEndpoint(endpoint=Endpoint(address=address(HOST, port)))
        clusters[name] = bytes(
            Cluster(
                name=name,
                type=ClusterDiscoveryType.STATIC,
                connect_timeout=timedelta(seconds=10),
                circuit_breakers=CircuitBreakers(thresholds=[unlimited()]),
                load_assignment=ClusterLoadAssignment(
                    cluster_name=name, endpoints=[LocalityLbEndpoints(lb_endpoints=[endpoint])]
                ),
            )
        )
        listeners[str(number)] = bytes(plain_listener(str(number), name, socket))
    return {CDS: clusters, LDS: listeners}


def plain_listener(name: str, cluster: str, socket: TransportSocket | None = None) -> Listener:
    """One chain, for everybody; with a transport socket it ends TLS."""
    proxy = TcpProxy(stat_prefix=name, cluster=cluster)
    filters = [Filter(name="envoy.filters.network.tcp_proxy", typed_config=pack(proxy))]
    chain = FilterChain(filters=filters, transport_socket=socket)
    return Listener(name=name, address=address(HOST, 0), filter_chains=[chain])


def _cluster(model: ClusterModel) -> Cluster:
    common = ClusterCommonLbConfig(healthy_panic_threshold=Percent(value=float(model.panic_threshold)))
    if model.locality_weighted:
        common.locality_weighted_lb_config = ClusterCommonLbConfigLocalityWeightedLbConfig()
    elif model.fail_on_panic:
        common.zone_aware_lb_config = ClusterCommonLbConfigZoneAwareLbConfig(fail_traffic_on_panic=True)
    cluster = Cluster(
        name=SERVER_NAME,
        type=ClusterDiscoveryType.EDS,
        eds_cluster_config=ClusterEdsClusterConfig(eds_config=from_ads(), service_name=SERVER_NAME),
        connect_timeout=timedelta(seconds=10),
        lb_policy=SUPPORTED[model.policy],
        common_lb_config=common,
    )
    if model.policy == "LEAST_REQUEST":
        cluster.least_request_lb_config = ClusterLeastRequestLbConfig(choice_count=model.choice_count)
    if model.hashes:
        _set_hashing(cluster, model)
    return cluster


def _listener() -> Listener:
    proxy = TcpProxy(stat_prefix=SERVER_NAME, cluster=SERVER_NAME)
    inspector = ListenerFilter(name="envoy.filters.listener.tls_inspector", typed_config=pack(TlsInspector()))
    return Listener(
        name="compared",
        address=address(HOST, 0),
        listener_filters=[inspector],
        filter_chains=[
            FilterChain(
                filter_chain_match=FilterChainMatch(server_names=[SERVER_NAME], application_protocols=["istio"]),
                filters=[Filter(name="envoy.filters.network.tcp_proxy", typed_config=pack(proxy))],
            )
        ],
    )


def distinct(model: ClusterModel) -> list[str]:
    """Addresses in order of appearance; a gateway may stand in several localities."""
    return list(dict.fromkeys(one.plain_address for one in model.endpoints))


def model_of(file: str, step: str, dumps: Sequence[str], cluster: str) -> ClusterModel:
    """The cluster that the command line names. Raises EastgateError, MeshError or InsightError."""
    if dumps:
        return find_cluster(proxies("", dumps), cluster)[1]
    loaded = load(file)
    if loaded.scenario is None:
        raise MeshFileError(f"{file}: no document of kind Scenario, which names client and service")
    meshes = {"": loaded.mesh, **{one.name: one.mesh for one in loaded.scenario.steps}}
    if step not in meshes:
        raise SettingsError("--step", step, f"no such step; there are {', '.join(name for name in meshes if name)}")
    return model_of_mesh(with_addresses(meshes[step]), loaded.scenario)
