"""HTTP connection managers as istiod gives them to sidecars, for clients and for inbound chains.

Source of the rules: istio, pilot/pkg/networking/core/listener_builder.go (buildHTTPConnectionManager) and tracing.go.
"""

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from envoy_data_plane.envoy.config.core.v3 import Http2ProtocolOptions, HttpProtocolOptions
from envoy_data_plane.envoy.config.listener.v3 import Filter
from envoy_data_plane.envoy.config.route.v3 import RouteConfiguration
from envoy_data_plane.envoy.extensions.filters.http.cors.v3 import Cors
from envoy_data_plane.envoy.extensions.filters.http.fault.v3 import HttpFault
from envoy_data_plane.envoy.extensions.filters.http.grpc_stats.v3 import FilterConfig as GrpcStats
from envoy_data_plane.envoy.extensions.filters.http.grpc_web.v3 import GrpcWeb
from envoy_data_plane.envoy.extensions.filters.http.router.v3 import Router
from envoy_data_plane.envoy.extensions.filters.network.http_connection_manager.v3 import (
    HttpConnectionManager,
    HttpConnectionManagerForwardClientCertDetails,
    HttpConnectionManagerPathWithEscapedSlashesAction,
    HttpConnectionManagerSetCurrentClientCertDetails,
    HttpConnectionManagerTracing,
    HttpConnectionManagerUpgradeConfig,
    HttpFilter,
    Rds,
    RequestIdExtension,
)
from envoy_data_plane.envoy.extensions.request_id.uuid.v3 import UuidRequestIdConfig
from envoy_data_plane.envoy.type.metadata.v3 import (
    MetadataKey,
    MetadataKeyPathSegment,
    MetadataKind,
    MetadataKindRequest,
)
from envoy_data_plane.envoy.type.tracing.v3 import CustomTag, CustomTagLiteral, CustomTagMetadata
from envoy_data_plane.envoy.type.v3 import Percent
from envoy_data_plane.google.protobuf import Any as PackedAny

from .filters import EXCHANGE, STATS, stats_config
from .messages import PREFIX, from_ads, pack, typed_struct
from .model import Mesh
from .node_view import NodeView
from .tls_contexts import HTTP2

NAME = "envoy.filters.network.http_connection_manager"
SAMPLED = 1.0
"""Percentage of requests that are traced, Istio's default."""
DRY_RUN = "envoy.filters.http.rbac"
# Which protocol of the client becomes which ALPN inside mesh mTLS: HTTP/1.0, 1.1 and 2 as Envoy numbers them.
ALPN_OVERRIDES = (
    (0, ("istio-http/1.0", "istio", "http/1.0")),
    (1, ("istio-http/1.1", "istio", "http/1.1")),
    (2, ("istio-h2", "istio", "h2")),
)
CLIENT_PEERS: dict[str, Any] = {
    "upstream_propagation": [{"istio_headers": {}}],
    "upstream_discovery": [{"istio_headers": {}}, {"workload_discovery": {}}],
}
SERVER_PEERS: dict[str, Any] = {
    "downstream_discovery": [{"istio_headers": {}}, {"workload_discovery": {}}],
    "downstream_propagation": [{"istio_headers": {}}],
}


def client_manager(mesh: Mesh, node: NodeView, listener: str, routes: str, protocol: str) -> Filter:
    """For a listener of clients; ``routes``: name of its RouteConfiguration."""
    manager = _manager(node, f"outbound_{listener};")
    manager.rds = Rds(config_source=from_ads(), route_config_name=routes)
    manager.http_filters = _http_filters(mesh, node, (), protocol, inbound=False)
    return Filter(name=NAME, typed_config=pack(manager))


def server_manager(
    mesh: Mesh, node: NodeView, prefix: str, routes: RouteConfiguration, policies: Sequence[HttpFilter], protocol: str
) -> Filter:
    """For an inbound chain. ``prefix``: of its statistics; ``policies``: filters of authorization policies."""
    manager = _manager(node, f"{prefix};")
    manager.route_config = routes
    manager.http_filters = _http_filters(mesh, node, policies, protocol, inbound=True)
    manager.server_name = "istio-envoy"
    manager.forward_client_cert_details = HttpConnectionManagerForwardClientCertDetails.APPEND_FORWARD
    manager.set_current_client_cert_details = HttpConnectionManagerSetCurrentClientCertDetails(
        subject=True, dns=True, uri=True
    )
    if protocol in HTTP2:
        manager.http2_protocol_options = Http2ProtocolOptions()
    return Filter(name=NAME, typed_config=pack(manager))


def _manager(node: NodeView, prefix: str) -> HttpConnectionManager:
    idle = node.idle_timeout_s
    return HttpConnectionManager(
        stat_prefix=prefix,
        common_http_protocol_options=(
            None if idle is None else HttpProtocolOptions(idle_timeout=timedelta(seconds=idle))
        ),
        tracing=_tracing(node),
        use_remote_address=False,
        proxy_100_continue=True,
        upgrade_configs=[HttpConnectionManagerUpgradeConfig(upgrade_type="websocket")],
        stream_idle_timeout=timedelta(0),
        normalize_path=True,
        request_id_extension=RequestIdExtension(
            typed_config=pack(UuidRequestIdConfig(use_request_id_for_trace_sampling=True))
        ),
        path_with_escaped_slashes_action=HttpConnectionManagerPathWithEscapedSlashesAction.KEEP_UNCHANGED,
    )


def _http_filters(
    mesh: Mesh, node: NodeView, policies: Sequence[HttpFilter], protocol: str, *, inbound: bool
) -> list[HttpFilter]:
    found = []
    if mesh.options.metadata_exchange:
        peers = SERVER_PEERS if inbound else CLIENT_PEERS
        config = typed_struct("io.istio.http.peer_metadata.Config", peers)
        found.append(HttpFilter(name=EXCHANGE, typed_config=config))
    found += policies
    if protocol == "grpc-web":
        found.append(HttpFilter(name="envoy.filters.http.grpc_web", typed_config=pack(GrpcWeb())))
    counting = GrpcStats(emit_filter_state=True, stats_for_all_methods=False)
    found.append(HttpFilter(name="envoy.filters.http.grpc_stats", typed_config=pack(counting)))
    if mesh.options.alpn_filter and not inbound:
        found.append(HttpFilter(name="istio.alpn", typed_config=_alpn_config()))
    found += [
        HttpFilter(name="envoy.filters.http.fault", typed_config=pack(HttpFault())),
        HttpFilter(name="envoy.filters.http.cors", typed_config=pack(Cors())),
    ]
    if counted := stats_config(mesh, node, inbound=inbound):
        found.append(HttpFilter(name=STATS, typed_config=counted))
    return [*found, HttpFilter(name="envoy.filters.http.router", typed_config=pack(Router()))]


def _field(number: int, value: bytes) -> bytes:
    """A length-delimited field of protobuf; numbers and lengths here are below 128, one byte each."""
    return bytes((number << 3 | 2, len(value))) + value


def _alpn_config() -> PackedAny:
    """Configuration of Istio's own filter, a message that no package has a class for."""
    value = b""
    for protocol, names in ALPN_OVERRIDES:
        entry = bytes((8, protocol)) if protocol else b""
        value += _field(1, entry + b"".join(_field(2, name.encode()) for name in names))
    return PackedAny(type_url=PREFIX + "istio.envoy.config.filter.http.alpn.v2alpha1.FilterConfig", value=value)


def _tracing(node: NodeView) -> HttpConnectionManagerTracing:
    whole = Percent(value=100.0)
    return HttpConnectionManagerTracing(
        client_sampling=whole,
        random_sampling=Percent(value=SAMPLED),
        overall_sampling=whole,
        custom_tags=[*_dry_run_tags(), *_service_tags(node)],
    )


def _dry_run_tags() -> list[CustomTag]:
    kinds = (("name", "effective_policy_id"), ("result", "engine_result"))
    return [
        CustomTag(
            tag=f"istio.authorization.dry_run.{action}_policy.{word}",
            metadata=CustomTagMetadata(
                kind=MetadataKind(request=MetadataKindRequest()),
                metadata_key=MetadataKey(
                    key=DRY_RUN, path=[MetadataKeyPathSegment(key=f"istio_dry_run_{action}_shadow_{what}")]
                ),
            ),
        )
        for action in ("allow", "deny")
        for word, what in kinds
    ]


def _service_tags(node: NodeView) -> list[CustomTag]:
    tags = {
        "canonical_revision": node.labels.get("service.istio.io/canonical-revision") or "latest",
        "canonical_service": node.labels.get("service.istio.io/canonical-name") or "unknown",
        "cluster_id": node.cluster,
        "mesh_id": node.mesh_id or "unknown",
        "namespace": node.namespace,
    }
    return [CustomTag(tag=f"istio.{name}", literal=CustomTagLiteral(value=value)) for name, value in tags.items()]
