"""Hand-made resources in Envoy's own message classes, for what no recording holds. Shaped like istiod's."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import timedelta

from envoy_data_plane.envoy.config.cluster.v3 import (
    CircuitBreakers,
    CircuitBreakersThresholds,
    Cluster,
    ClusterCommonLbConfig,
    ClusterDiscoveryType,
    ClusterEdsClusterConfig,
    ClusterLbPolicy,
    OutlierDetection,
)
from envoy_data_plane.envoy.config.core.v3 import (
    Address,
    AggregatedConfigSource,
    ApiVersion,
    ConfigSource,
    HealthStatus,
    Locality,
    SocketAddress,
)
from envoy_data_plane.envoy.config.endpoint.v3 import (
    ClusterLoadAssignment,
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
from envoy_data_plane.envoy.extensions.filters.listener.proxy_protocol.v3 import ProxyProtocol
from envoy_data_plane.envoy.extensions.filters.listener.tls_inspector.v3 import TlsInspector
from envoy_data_plane.envoy.extensions.filters.network.tcp_proxy.v3 import TcpProxy
from envoy_data_plane.envoy.type.v3 import HashPolicy, Percent
from envoy_data_plane.google.protobuf import Any as PackedAny

from .recordings import CDS, EDS, LDS, PREFIX, Resources, resource_name

ISTIO_ALPN = ("istio", "istio-peer-exchange", "istio-http/1.0", "istio-http/1.1", "istio-h2")
LISTENER = "eastwest"


def sni(service: str, *, port: int = 80, subset: str = "") -> str:
    """The SNI-DNAT name of a service in the namespace `test`."""
    return f"outbound_.{port}_.{subset}_.{service}.test.svc.cluster.local"


@dataclass(frozen=True, slots=True)
class At:
    """An endpoint of an assignment."""

    address: tuple[str, int]
    health: HealthStatus = HealthStatus.HEALTHY
    weight: int = 1
    priority: int = 0


def address(host: str, port: int) -> Address:
    return Address(socket_address=SocketAddress(address=host, port_value=port))


def cluster(
    name: str,
    *,
    lb_policy: ClusterLbPolicy = ClusterLbPolicy.ROUND_ROBIN,
    connect_timeout_s: float = 10.0,
    max_connections: int = 4294967295,
    outlier_detection: OutlierDetection | None = None,
) -> bytes:
    """An EDS cluster as istiod writes it for a gateway: panic threshold 0, no limits unless given."""
    return bytes(
        Cluster(
            name=name,
            type=ClusterDiscoveryType.EDS,
            eds_cluster_config=ClusterEdsClusterConfig(
                eds_config=ConfigSource(
                    ads=AggregatedConfigSource(),
                    initial_fetch_timeout=timedelta(0),
                    resource_api_version=ApiVersion.V3,
                ),
                service_name=name,
            ),
            connect_timeout=timedelta(seconds=connect_timeout_s),
            lb_policy=lb_policy,
            circuit_breakers=CircuitBreakers(
                thresholds=[
                    CircuitBreakersThresholds(
                        max_connections=max_connections,
                        max_pending_requests=4294967295,
                        max_requests=4294967295,
                        max_retries=4294967295,
                    )
                ]
            ),
            common_lb_config=ClusterCommonLbConfig(healthy_panic_threshold=Percent(value=0)),
            outlier_detection=outlier_detection,
        )
    )


def assignment(name: str, endpoints: Iterable[At]) -> bytes:
    """A ClusterLoadAssignment with one locality per priority."""
    by_priority: dict[int, list[At]] = {}
    for one in endpoints:
        by_priority.setdefault(one.priority, []).append(one)
    return bytes(
        ClusterLoadAssignment(
            cluster_name=name,
            endpoints=[
                LocalityLbEndpoints(
                    locality=Locality(region="r1", zone=f"z{priority}"),
                    priority=priority,
                    lb_endpoints=[
                        LbEndpoint(
                            endpoint=Endpoint(address=address(*one.address)),
                            health_status=one.health,
                            load_balancing_weight=one.weight,
                        )
                        for one in group
                    ],
                )
                for priority, group in sorted(by_priority.items())
            ],
        )
    )


def chain(
    name: str,
    *,
    filters: Sequence[Filter] = (),
    idle_timeout_s: float | None = None,
    max_connect_attempts: int | None = None,
    hash_policy: Sequence[HashPolicy] = (),
) -> FilterChain:
    """An AUTO_PASSTHROUGH chain: one SNI, Istio's ALPNs, tcp_proxy to the cluster of the same name."""
    proxy = TcpProxy(
        stat_prefix=name,
        cluster=name,
        idle_timeout=None if idle_timeout_s is None else timedelta(seconds=idle_timeout_s),
        max_connect_attempts=max_connect_attempts,
        hash_policy=list(hash_policy),
    )
    return FilterChain(
        filter_chain_match=FilterChainMatch(server_names=[name], application_protocols=list(ISTIO_ALPN)),
        filters=[*filters, Filter(name="envoy.filters.network.tcp_proxy", typed_config=pack(proxy))],
        transport_socket_connect_timeout=timedelta(seconds=15),
    )


def plain_chain(target: str) -> FilterChain:
    """A chain for every connection, TLS or not: tcp_proxy to the cluster."""
    proxy = TcpProxy(stat_prefix=target, cluster=target)
    return FilterChain(filters=[Filter(name="envoy.filters.network.tcp_proxy", typed_config=pack(proxy))])


def listener(
    chains: Sequence[FilterChain],
    *,
    name: str = LISTENER,
    host: str = "127.0.0.1",
    port: int = 0,
    hello_timeout_s: float | None = None,
    proxy_protocol: bool = False,
    tls_inspector: bool = True,
    continue_on_timeout: bool = False,
) -> bytes:
    """A listener on a free port of loopback unless told otherwise."""
    inspector = ListenerFilter(name="envoy.filters.listener.tls_inspector", typed_config=pack(TlsInspector()))
    filters = [inspector] if tls_inspector else []
    if proxy_protocol:
        filters.insert(
            0, ListenerFilter(name="envoy.filters.listener.proxy_protocol", typed_config=pack(ProxyProtocol()))
        )
    return bytes(
        Listener(
            name=name,
            address=address(host, port),
            filter_chains=list(chains),
            listener_filters=filters,
            listener_filters_timeout=None if hello_timeout_s is None else timedelta(seconds=hello_timeout_s),
            continue_on_listener_filters_timeout=continue_on_timeout,
        )
    )


def pack(message: object) -> PackedAny:
    """An Any of a message of envoy-data-plane."""
    packed = PackedAny.pack(message)  # type: ignore[arg-type]
    assert packed.type_url.startswith(PREFIX), packed.type_url
    return packed


def resources(
    services: dict[str, Sequence[At]], *, listeners: Sequence[bytes] | None = None, **cluster_settings: int | float
) -> Resources:
    """A whole configuration: per service its cluster, its assignment and its chain on one listener."""
    found = listeners if listeners is not None else [listener([chain(name) for name in services])]
    return {
        CDS: {name: cluster(name, **cluster_settings) for name in services},  # type: ignore[arg-type]
        EDS: {name: assignment(name, endpoints) for name, endpoints in services.items()},
        LDS: {resource_name(one): one for one in found},
    }


def for_stock_envoy(recorded: Resources) -> Resources:
    """The same without what only Istio's build of Envoy knows, or what only pilot-agent could answer.

    The first: metadata exchange on clusters, istio.stats on chains. The second: secrets, without which clusters that
    originate TLS stay warming for ever; no chain of a gateway leads to one of these.
    """
    kept: Resources = {CDS: {}, EDS: recorded[EDS], LDS: {}}
    for name, payload in recorded[CDS].items():
        parsed = Cluster.parse(payload)
        parsed.filters = [one for one in parsed.filters if not one.name.startswith("istio.")]
        parsed.transport_socket_matches = []
        parsed.transport_socket = None
        kept[CDS][name] = bytes(parsed)
    for name, payload in recorded[LDS].items():
        parsed_listener = Listener.parse(payload)
        for one in parsed_listener.filter_chains:
            one.filters = [each for each in one.filters if not each.name.startswith("istio.")]
        kept[LDS][name] = bytes(parsed_listener)
    return kept
