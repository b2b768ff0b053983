"""Clusters that only sidecars have: those that pass on what nobody is for, and one for each of their own ports.

Source of the rules: istio, pilot/pkg/networking/core/cluster.go (buildInboundClusters) and cluster_builder.go.
"""

from collections.abc import Iterable
from dataclasses import replace
from datetime import timedelta

from envoy_data_plane.envoy.config.cluster.v3 import (
    CircuitBreakers,
    Cluster,
    ClusterCommonLbConfig,
    ClusterDiscoveryType,
    ClusterLbPolicy,
)
from envoy_data_plane.envoy.config.core.v3 import (
    BindConfig,
    ExtraSourceAddress,
    HttpProtocolOptions,
    SocketAddress,
)
from envoy_data_plane.envoy.config.endpoint.v3 import ClusterLoadAssignment, Endpoint, LbEndpoint, LocalityLbEndpoints

from .clusters import service_metadata
from .connection_pool import (
    HTTP_OPTIONS,
    circuit_breakers,
    connect_timeout,
    downstream_protocol,
    http_options,
    keepalive_options,
    unlimited,
    with_timeouts,
)
from .endpoints import target_port
from .families import family_of
from .filters import INBOUND_PASSTHROUGH, PASSTHROUGH, upstream_exchange
from .istio import Policy
from .messages import address, pack
from .model import Mesh, Service, ServicePort, port_protocol
from .node_view import LOOPBACKS, WILDCARDS, NodeView
from .policy import Effective, effective
from .rules import rule_of, spec_of
from .scope import Scope, scope_of
from .sidecar import IngressEntry

IDLE = timedelta(seconds=300)
NEVER_CLEANED_UP = timedelta(seconds=9223372035)


def sidecar_clusters(mesh: Mesh, node: NodeView) -> list[Cluster]:
    """Passthrough clusters, and the inbound ones: of a Sidecar's ports, else of the node's services.

    With INTERCEPTION_MODE NONE services have no inbound listener, and so no cluster.
    """
    scope = scope_of(mesh, node)
    found = _passthrough(mesh, node)
    services = _served(mesh, node)
    if scope.ingress:
        return [*found, *(_ingress_cluster(mesh, node, scope, entry, services) for entry in scope.ingress)]
    if node.interception == "NONE":
        return found
    return [*found, *(_inbound_cluster(mesh, node, number, behind) for number, behind in services.items())]


def _passthrough(mesh: Mesh, node: NodeView) -> list[Cluster]:
    found = [_original_destination(mesh, name) for name in (PASSTHROUGH, INBOUND_PASSTHROUGH)]
    outbound, inbound = found
    outbound.filters = upstream_exchange(mesh)
    inbound.upstream_bind_config = _from(node.sources(passthrough=True))
    for cluster in found:
        # Both are counted under one name, as istiod has it.
        cluster.alt_stat_name = f"{PASSTHROUGH};"
        options = downstream_protocol(HttpProtocolOptions(idle_timeout=IDLE))
        cluster.typed_extension_protocol_options[HTTP_OPTIONS] = pack(options)
    return found


def _original_destination(mesh: Mesh, name: str) -> Cluster:
    return Cluster(
        name=name,
        alt_stat_name=f"{name};",
        type=ClusterDiscoveryType.ORIGINAL_DST,
        connect_timeout=timedelta(seconds=mesh.config.connect_timeout),
        lb_policy=ClusterLbPolicy.CLUSTER_PROVIDED,
        circuit_breakers=CircuitBreakers(thresholds=[unlimited()]),
        upstream_connection_options=keepalive_options(mesh, Policy()),
    )


def _from(sources: tuple[str, ...]) -> BindConfig:
    """Where connections to the application come from: rules that redirect leave them alone. One of each family."""
    first, *extra = (SocketAddress(address=one, port_value=0) for one in sources)
    return BindConfig(source_address=first, extra_source_addresses=[ExtraSourceAddress(address=one) for one in extra])


Served = tuple[Service, ServicePort]


def _served(mesh: Mesh, node: NodeView) -> dict[int, list[Served]]:
    """Services of the node and their ports, by the port where the workload listens for them."""
    found: dict[int, list[Served]] = {}
    for service in mesh.services if node.workload else ():
        assert node.workload
        if service.selects(node.workload):
            for port in service.ports:
                target = target_port(node.workload, port)
                if target and port.protocol != "udp":
                    found.setdefault(target, []).append((service, port))
    return found


def _inbound_cluster(
    mesh: Mesh, node: NodeView, number: int, behind: Iterable[Served], policy: Policy | None = None
) -> Cluster:
    """The first service decides: its rule's connection pool holds here as well as at its clients."""
    (service, port), *_ = served = list(behind)
    rule = rule_of(mesh, node.cluster, service, node.namespace, node.labels)
    if rule and spec_of(rule).traffic_policy is None:
        rule = None
    pool = policy or Policy(connection_pool=effective(rule, "", port.number).policy.connection_pool)
    cluster = _original_destination(mesh, f"inbound|{number}||")
    cluster.upstream_bind_config = _from(node.sources())
    cluster.cleanup_interval = NEVER_CLEANED_UP
    cluster.common_lb_config = ClusterCommonLbConfig()
    cluster.connect_timeout = connect_timeout(mesh, pool)
    cluster.circuit_breakers = circuit_breakers(pool)
    cluster.upstream_connection_options = keepalive_options(mesh, pool)
    # Those on another service port are not told of, as istiod has it.
    told = {one.host: one for one, own in served if own.number == port.number}
    cluster.metadata = service_metadata(Effective(pool, rule), tuple(told.values()))
    options = with_timeouts(http_options(port.protocol, node), pool)
    if options:
        cluster.typed_extension_protocol_options[HTTP_OPTIONS] = pack(options)
    return cluster


def _ingress_cluster(
    mesh: Mesh, node: NodeView, scope: Scope, entry: IngressEntry, services: dict[int, list[Served]]
) -> Cluster:
    """A Sidecar's port: to its default endpoint, or where the client wanted to go."""
    assert scope.resource
    number = entry.port.number
    port = ServicePort(number, number, port_protocol("", entry.port.protocol, "TCP"), entry.port.name)
    own = Service(scope.resource.name, scope.resource.namespace, (port,), {}, frozenset())
    title = f"{scope.resource.name}.{scope.resource.namespace}"
    real = services.get(number, [(replace(own, hostname=title), port)])[0][0]
    cluster = _inbound_cluster(mesh, node, number, [(real, port)])
    if entry.endpoint is None:
        return cluster
    host, target = entry.endpoint
    if host in WILDCARDS:
        # The pod itself, at its address of this family.
        same = (one for one in node.addresses if family_of(one) == family_of(host))
        host = next(same, LOOPBACKS[WILDCARDS.index(host)])
    endpoint = LbEndpoint(endpoint=Endpoint(address=address(host, target)))
    cluster.type = ClusterDiscoveryType.STATIC
    cluster.lb_policy = ClusterLbPolicy.ROUND_ROBIN
    cluster.cleanup_interval = None
    cluster.load_assignment = ClusterLoadAssignment(
        cluster_name=cluster.name, endpoints=[LocalityLbEndpoints(lb_endpoints=[endpoint])]
    )
    if host in LOOPBACKS:
        cluster.upstream_bind_config = None
    return cluster
