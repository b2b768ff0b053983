"""What connections of a cluster may be: limits, timeouts, probes, HTTP version. Shared by both directions of a sidecar.

Source of the rules: istio, pilot/pkg/networking/core/cluster_traffic_policy.go.
"""

from datetime import timedelta

from envoy_data_plane.envoy.config.cluster.v3 import (
    CircuitBreakers,
    CircuitBreakersThresholds,
    UpstreamConnectionOptions,
)
from envoy_data_plane.envoy.config.core.v3 import (
    Http1ProtocolOptions,
    Http2ProtocolOptions,
    HttpProtocolOptions,
    UpstreamHttpProtocolOptions,
)
from envoy_data_plane.envoy.config.core.v3 import TcpKeepalive as TcpKeepalivePb
from envoy_data_plane.envoy.extensions.upstreams.http.v3 import HttpProtocolOptions as UpstreamHttpOptions
from envoy_data_plane.envoy.extensions.upstreams.http.v3 import (
    HttpProtocolOptionsExplicitHttpConfig,
    HttpProtocolOptionsUseDownstreamHttpConfig,
)

from .istio import Policy, TcpKeepalive
from .model import Mesh
from .node_view import NodeView
from .tls_contexts import HTTP2

HTTP_OPTIONS = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"
UNLIMITED = 4294967295


def connect_timeout(mesh: Mesh, policy: Policy) -> timedelta:
    """How long a connection may take: as the rule says, else the mesh."""
    tcp = policy.connection_pool.tcp if policy.connection_pool else None
    seconds = tcp.connect_timeout if tcp and tcp.connect_timeout is not None else mesh.config.connect_timeout
    return timedelta(seconds=seconds)


def circuit_breakers(policy: Policy) -> CircuitBreakers:
    """Limits of the rule; without them there is none."""
    threshold = unlimited()
    pool = policy.connection_pool
    if pool and pool.tcp and pool.tcp.max_connections:
        threshold.max_connections = pool.tcp.max_connections
    if pool and pool.http:
        threshold.max_pending_requests = pool.http.http1_max_pending_requests or UNLIMITED
        threshold.max_requests = pool.http.http2_max_requests or UNLIMITED
        threshold.max_retries = pool.http.max_retries or UNLIMITED
    return CircuitBreakers(thresholds=[threshold])


def unlimited() -> CircuitBreakersThresholds:
    """No limit at all, which Envoy must be told."""
    return CircuitBreakersThresholds(
        max_connections=UNLIMITED, max_pending_requests=UNLIMITED, max_requests=UNLIMITED, max_retries=UNLIMITED
    )


def keepalive_options(mesh: Mesh, policy: Policy) -> UpstreamConnectionOptions | None:
    """Probes of idle connections, where the rule or the mesh asks for them."""
    tcp = policy.connection_pool.tcp if policy.connection_pool else None
    rule: TcpKeepalive | None = tcp.tcp_keepalive if tcp and tcp.tcp_keepalive else mesh.config.tcp_keepalive
    if rule is None:
        return None
    return UpstreamConnectionOptions(
        tcp_keepalive=TcpKeepalivePb(
            keepalive_probes=rule.probes,
            keepalive_time=None if rule.time is None else int(rule.time),
            keepalive_interval=None if rule.interval is None else int(rule.interval),
        )
    )


def with_checked_names(
    options: UpstreamHttpOptions | None, policy: Policy, *, sni_dnat: bool
) -> UpstreamHttpOptions | None:
    """By which name HTTP asks a server for TLS of the rule's own, where the rule does not say it."""
    tls = policy.tls
    if sni_dnat or tls is None or not tls.originates or tls.credential_name or tls.sni:
        return options
    options = options or _http1()
    options.upstream_http_protocol_options = UpstreamHttpProtocolOptions(
        auto_sni=True, auto_san_validation=not tls.subject_alt_names and not tls.insecure_skip_verify
    )
    return options


def with_timeouts(options: UpstreamHttpOptions | None, policy: Policy) -> UpstreamHttpOptions | None:
    """Timeouts of connections, which istiod writes into the HTTP options of every cluster."""
    tcp = policy.connection_pool.tcp if policy.connection_pool else None
    if tcp is None or (tcp.idle_timeout is None and tcp.max_connection_duration is None):
        return options
    options = options or _http1()
    options.common_http_protocol_options = HttpProtocolOptions(
        idle_timeout=None if tcp.idle_timeout is None else timedelta(seconds=tcp.idle_timeout),
        max_connection_duration=None
        if tcp.max_connection_duration is None
        else timedelta(seconds=tcp.max_connection_duration),
    )
    return options


def _http1() -> UpstreamHttpOptions:
    """What Envoy wants to be told where there are options at all."""
    return UpstreamHttpOptions(
        explicit_http_config=HttpProtocolOptionsExplicitHttpConfig(http_protocol_options=Http1ProtocolOptions())
    )


def downstream_protocol(common: HttpProtocolOptions | None = None) -> UpstreamHttpOptions:
    """HTTP options of a cluster whose clients choose the version."""
    return UpstreamHttpOptions(
        use_downstream_protocol_config=HttpProtocolOptionsUseDownstreamHttpConfig(
            http_protocol_options=Http1ProtocolOptions(), http2_protocol_options=Http2ProtocolOptions()
        ),
        common_http_protocol_options=common,
    )


def http_options(protocol: str, node: NodeView) -> UpstreamHttpOptions | None:
    """HTTP options of a cluster by the protocol of its port."""
    if protocol in HTTP2:
        return UpstreamHttpOptions(
            explicit_http_config=HttpProtocolOptionsExplicitHttpConfig(http2_protocol_options=Http2ProtocolOptions())
        )
    if protocol == "auto" and node.type == "sidecar":
        return downstream_protocol()
    return None
