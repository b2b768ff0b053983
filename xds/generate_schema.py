"""Write schema.py from the field metadata of envoy-data-plane: `python -m eastgate.xds.generate_schema`.

A development tool. A running proxy never imports this module, nor the package that it reads.
"""

import dataclasses
import importlib
import sys
import warnings
from pathlib import Path
from typing import Any

API = "envoy_data_plane"
TLS = "envoy.extensions.transport_sockets.tls.v3."

# Messages that are read or written field by field. A field of any other message type is known and opaque: its bytes
# are kept unread, so that its presence can be reported.
HONOURED = (
    "envoy.service.discovery.v3.DiscoveryRequest",
    "envoy.service.discovery.v3.DiscoveryResponse",
    "envoy.service.discovery.v3.DeltaDiscoveryRequest",
    "envoy.service.discovery.v3.DeltaDiscoveryResponse",
    "envoy.service.discovery.v3.Resource",
    "google.protobuf.Any",
    "google.rpc.Status",
    "envoy.config.core.v3.Node",
    "envoy.config.core.v3.Locality",
    "envoy.config.core.v3.Address",
    "envoy.config.core.v3.SocketAddress",
    "envoy.config.core.v3.Pipe",
    "envoy.config.core.v3.TypedExtensionConfig",
    "envoy.type.v3.Percent",
    "envoy.config.core.v3.RuntimeDouble",
    "envoy.config.cluster.v3.Cluster",
    "envoy.config.cluster.v3.Cluster.EdsClusterConfig",
    "envoy.config.cluster.v3.Cluster.LeastRequestLbConfig",
    "envoy.config.cluster.v3.Cluster.RoundRobinLbConfig",
    "envoy.config.cluster.v3.Cluster.CommonLbConfig",
    "envoy.config.cluster.v3.Cluster.CommonLbConfig.LocalityWeightedLbConfig",
    "envoy.config.cluster.v3.Cluster.CommonLbConfig.ConsistentHashingLbConfig",
    "envoy.config.cluster.v3.Cluster.SlowStartConfig",
    "envoy.config.cluster.v3.Cluster.RingHashLbConfig",
    "envoy.config.cluster.v3.Cluster.MaglevLbConfig",
    "envoy.config.cluster.v3.Cluster.CommonLbConfig.ZoneAwareLbConfig",
    "envoy.config.cluster.v3.Cluster.CustomClusterType",
    "envoy.config.cluster.v3.Cluster.RefreshRate",
    "envoy.config.cluster.v3.Cluster.OriginalDstLbConfig",
    "envoy.extensions.clusters.dns.v3.DnsCluster",
    "envoy.extensions.clusters.dns.v3.DnsCluster.RefreshRate",
    "envoy.extensions.network.dns_resolver.cares.v3.CaresDnsResolverConfig",
    "envoy.config.core.v3.DnsResolutionConfig",
    "envoy.config.core.v3.DnsResolverOptions",
    "envoy.config.endpoint.v3.ClusterLoadAssignment",
    "envoy.config.endpoint.v3.LocalityLbEndpoints",
    "envoy.config.endpoint.v3.LbEndpoint",
    "envoy.config.endpoint.v3.Endpoint",
    "envoy.config.endpoint.v3.Endpoint.HealthCheckConfig",
    "envoy.config.endpoint.v3.Endpoint.AdditionalAddress",
    "envoy.config.core.v3.Metadata",
    "envoy.config.cluster.v3.Cluster.LbSubsetConfig",
    "envoy.config.cluster.v3.Cluster.LbSubsetConfig.LbSubsetSelector",
    "envoy.config.core.v3.HealthCheck",
    "envoy.config.core.v3.HealthCheck.Payload",
    "envoy.config.core.v3.HealthCheck.HttpHealthCheck",
    "envoy.config.core.v3.HealthCheck.GrpcHealthCheck",
    "envoy.config.core.v3.HealthCheck.TcpHealthCheck",
    "envoy.config.core.v3.HeaderValueOption",
    "envoy.config.core.v3.HeaderValue",
    "envoy.type.v3.Int64Range",
    "envoy.type.matcher.v3.StringMatcher",
    "envoy.config.cluster.v3.CircuitBreakers",
    "envoy.config.cluster.v3.CircuitBreakers.Thresholds",
    "envoy.config.cluster.v3.OutlierDetection",
    "envoy.config.cluster.v3.UpstreamConnectionOptions",
    "envoy.config.cluster.v3.UpstreamConnectionOptions.HappyEyeballsConfig",
    "envoy.config.core.v3.TcpKeepalive",
    "envoy.config.core.v3.BindConfig",
    "envoy.config.core.v3.ExtraSourceAddress",
    "envoy.config.core.v3.SocketOptionsOverride",
    "envoy.config.cluster.v3.LoadBalancingPolicy",
    "envoy.config.cluster.v3.LoadBalancingPolicy.Policy",
    "envoy.extensions.load_balancing_policies.round_robin.v3.RoundRobin",
    "envoy.extensions.load_balancing_policies.least_request.v3.LeastRequest",
    "envoy.extensions.load_balancing_policies.random.v3.Random",
    "envoy.extensions.load_balancing_policies.ring_hash.v3.RingHash",
    "envoy.extensions.load_balancing_policies.maglev.v3.Maglev",
    "envoy.extensions.load_balancing_policies.common.v3.ConsistentHashingLbConfig",
    "envoy.extensions.load_balancing_policies.common.v3.SlowStartConfig",
    "envoy.extensions.load_balancing_policies.common.v3.LocalityLbConfig",
    "envoy.extensions.load_balancing_policies.common.v3.LocalityLbConfig.LocalityWeightedLbConfig",
    "envoy.extensions.load_balancing_policies.common.v3.LocalityLbConfig.ZoneAwareLbConfig",
    "envoy.extensions.load_balancing_policies.common.v3.LocalityLbConfig.ZoneAwareLbConfig.ForceLocalZone",
    "envoy.config.listener.v3.Listener",
    "envoy.config.listener.v3.AdditionalAddress",
    "envoy.config.core.v3.SocketOption",
    "envoy.config.listener.v3.ListenerFilter",
    "envoy.config.listener.v3.ListenerFilterChainMatchPredicate",
    "envoy.config.listener.v3.ListenerFilterChainMatchPredicate.MatchSet",
    "envoy.config.listener.v3.FilterChain",
    "envoy.config.listener.v3.FilterChainMatch",
    "envoy.config.core.v3.CidrRange",
    "envoy.config.listener.v3.Filter",
    "envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy",
    "envoy.type.v3.HashPolicy",
    "envoy.type.v3.HashPolicy.SourceIp",
    "envoy.type.v3.HashPolicy.FilterState",
    "envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy.WeightedCluster",
    "envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy.WeightedCluster.ClusterWeight",
    "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
    "envoy.extensions.filters.network.http_connection_manager.v3.HttpFilter",
    "envoy.extensions.filters.network.http_connection_manager.v3.Rds",
    "envoy.config.route.v3.RouteConfiguration",
    "envoy.config.route.v3.VirtualHost",
    "envoy.config.route.v3.Route",
    "envoy.config.route.v3.RouteMatch",
    "envoy.config.route.v3.HeaderMatcher",
    "envoy.config.route.v3.RouteAction",
    "envoy.config.route.v3.WeightedCluster",
    "envoy.config.route.v3.WeightedCluster.ClusterWeight",
    "envoy.config.route.v3.RedirectAction",
    "envoy.config.route.v3.DirectResponseAction",
    "envoy.type.matcher.v3.RegexMatcher",
    "envoy.type.matcher.v3.StringMatcher",
    "envoy.config.core.v3.DataSource",
    "envoy.config.core.v3.ConfigSource",
    "envoy.config.core.v3.ApiConfigSource",
    "envoy.config.core.v3.GrpcService",
    "envoy.config.core.v3.GrpcService.EnvoyGrpc",
    "envoy.config.core.v3.TransportSocket",
    "envoy.config.cluster.v3.Cluster.TransportSocketMatch",
    f"{TLS}DownstreamTlsContext",
    f"{TLS}UpstreamTlsContext",
    f"{TLS}CommonTlsContext",
    f"{TLS}CommonTlsContext.CombinedCertificateValidationContext",
    f"{TLS}TlsParameters",
    f"{TLS}SdsSecretConfig",
    f"{TLS}Secret",
    f"{TLS}TlsCertificate",
    f"{TLS}CertificateValidationContext",
    f"{TLS}SubjectAltNameMatcher",
    "envoy.config.accesslog.v3.AccessLog",
    "envoy.config.accesslog.v3.AccessLogFilter",
    "envoy.config.accesslog.v3.AndFilter",
    "envoy.config.accesslog.v3.OrFilter",
    "envoy.config.accesslog.v3.ComparisonFilter",
    "envoy.config.accesslog.v3.StatusCodeFilter",
    "envoy.config.accesslog.v3.DurationFilter",
    "envoy.config.accesslog.v3.ResponseFlagFilter",
    "envoy.config.core.v3.RuntimeUInt32",
    "envoy.extensions.access_loggers.file.v3.FileAccessLog",
    "envoy.config.core.v3.SubstitutionFormatString",
    "envoy.extensions.filters.listener.proxy_protocol.v3.ProxyProtocol",
    "envoy.extensions.filters.listener.tls_inspector.v3.TlsInspector",
    "envoy.extensions.filters.network.set_filter_state.v3.Config",
    "envoy.extensions.filters.common.set_filter_state.v3.FilterStateValue",
    "envoy.extensions.filters.network.rbac.v3.RBAC",
    "envoy.extensions.filters.http.rbac.v3.RBAC",
    "envoy.config.rbac.v3.RBAC",
    "envoy.config.rbac.v3.Policy",
    "envoy.config.rbac.v3.Permission",
    "envoy.config.rbac.v3.Permission.Set",
    "envoy.config.rbac.v3.Principal",
    "envoy.config.rbac.v3.Principal.Set",
    "envoy.config.rbac.v3.Principal.Authenticated",
    "envoy.type.v3.Int32Range",
)

# Fields whose bytes are wanted as they are: resources and chains are compared by bytes before anything is read,
# endpoints have a reader of their own, and transport sockets, metadata and where configuration comes from are read only
# where they matter.
OPAQUE_FIELDS = {
    ("envoy.service.discovery.v3.DiscoveryResponse", "resources"),
    ("envoy.service.discovery.v3.Resource", "resource"),
    ("envoy.config.cluster.v3.Cluster", "load_assignment"),
    ("envoy.config.route.v3.RouteConfiguration", "virtual_hosts"),
    ("envoy.config.route.v3.RouteMatch", "headers"),
    ("envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager", "route_config"),
    ("envoy.config.route.v3.DirectResponseAction", "body"),
    ("envoy.extensions.filters.network.http_connection_manager.v3.Rds", "config_source"),
    ("envoy.config.cluster.v3.Cluster", "lrs_server"),
    ("envoy.config.cluster.v3.Cluster", "transport_socket"),
    ("envoy.config.cluster.v3.Cluster", "transport_socket_matches"),
    ("envoy.config.cluster.v3.Cluster.EdsClusterConfig", "eds_config"),
    ("envoy.config.cluster.v3.Cluster.TransportSocketMatch", "transport_socket"),
    ("envoy.config.listener.v3.FilterChain", "transport_socket"),
    (f"{TLS}DownstreamTlsContext", "common_tls_context"),
    (f"{TLS}UpstreamTlsContext", "common_tls_context"),
    (f"{TLS}CommonTlsContext", "tls_certificates"),
    (f"{TLS}CommonTlsContext", "validation_context"),
    (f"{TLS}CommonTlsContext", "tls_certificate_sds_secret_configs"),
    (f"{TLS}CommonTlsContext", "validation_context_sds_secret_config"),
    (f"{TLS}CommonTlsContext.CombinedCertificateValidationContext", "default_validation_context"),
    (f"{TLS}CommonTlsContext.CombinedCertificateValidationContext", "validation_context_sds_secret_config"),
    ("envoy.config.cluster.v3.Cluster", "metadata"),
    ("envoy.service.discovery.v3.Resource", "metadata"),
    ("envoy.config.endpoint.v3.LocalityLbEndpoints", "metadata"),
    ("envoy.config.endpoint.v3.LbEndpoint", "metadata"),
    ("envoy.config.listener.v3.Listener", "metadata"),
    ("envoy.config.listener.v3.FilterChain", "metadata"),
    ("envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy", "metadata_match"),
    ("envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy.WeightedCluster.ClusterWeight", "metadata_match"),
    # The same bytes stand on every chain: they are read once.
    ("envoy.config.listener.v3.Listener", "access_log"),
    ("envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy", "access_log"),
    ("envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager", "access_log"),
    ("envoy.config.route.v3.DirectResponseAction", "body_format"),
    ("envoy.extensions.filters.common.set_filter_state.v3.FilterStateValue", "format_string"),
    ("envoy.config.listener.v3.Listener", "filter_chains"),
    ("envoy.config.listener.v3.Listener", "default_filter_chain"),
}

WELL_KNOWN = {
    "google.protobuf.Any": "any",
    "google.protobuf.Duration": "duration",
    "google.protobuf.Struct": "struct",
    "google.protobuf.Value": "value",
    "google.protobuf.ListValue": "list",
    "google.protobuf.BoolValue": "wrapped bool",
    "google.protobuf.UInt32Value": "wrapped uint32",
    "google.protobuf.Int32Value": "wrapped int32",
    "google.protobuf.UInt64Value": "wrapped uint64",
    "google.protobuf.Int64Value": "wrapped int64",
    "google.protobuf.DoubleValue": "wrapped double",
    "google.protobuf.FloatValue": "wrapped float",
    "google.protobuf.StringValue": "wrapped string",
    "google.protobuf.BytesValue": "wrapped bytes",
}

HEADER = '''"""The messages read and written, as plain tables. Generated by generate_schema.py: do not edit.

A test compares this file with the field metadata of envoy-data-plane. Kinds are protobuf's scalar types, "enum",
"message", "opaque" (known, kept as bytes), "map", and the well-known types: "any", "duration", "struct", "value",
"list", "wrapped <scalar>".
"""
# ruff: noqa: E501
# fmt: off

from typing import NamedTuple


class FieldSchema(NamedTuple):
    """One field. ``type``: message or enum name; ``oneof``: its group; ``key``, ``value``: kinds of a map's entry."""

    number: int
    name: str
    kind: str
    type: str = ""
    repeated: bool = False
    presence: bool = False
    oneof: str = ""
    key: str = ""
    value: str = ""


'''


def imported(message: str) -> Any:
    """The package's class of a message: nested names are joined, as in ClusterCommonLbConfig."""
    parts = message.split(".")
    first_class = next(index for index, part in enumerate(parts) if part[0].isupper())
    module = importlib.import_module(".".join([API, *parts[:first_class]]))
    name = "".join(parts[first_class:])
    # RBAC is Rbac there.
    return next(kind for found, kind in vars(module).items() if found.lower() == name.lower())


class Generator:
    """Collects message and enum tables. Message names are those that the package registered for Any."""

    def __init__(self) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            self.classes = {message: imported(message) for message in HONOURED}
            pool = importlib.import_module(f"{API}.message_pool").default_message_pool
        self.name_of: dict[Any, str] = {kind: url.rsplit("/", 1)[1] for kind, url in pool.type_to_url.items()}
        self.enums: dict[str, dict[int, str]] = {}

    def messages(self) -> dict[str, list[tuple[Any, ...]]]:
        return {message: self.fields(message, kind) for message, kind in self.classes.items()}

    def fields(self, message: str, kind: Any) -> list[tuple[Any, ...]]:
        rows = [self.field(message, kind, field) for field in dataclasses.fields(kind)]
        return sorted(rows)

    def field(self, message: str, kind: Any, field: Any) -> tuple[Any, ...]:
        meta = field.metadata["betterproto"]
        # The package appends an underscore to Python's keywords.
        name = field.name.rstrip("_")
        field_kind, type_name, key, value = meta.proto_type, "", "", ""
        if meta.proto_type == "map":
            key = meta.map_meta[0].proto_type
            entry_type = kind._type_hint(field.name).__args__[1]
            value, type_name = self.resolved(meta.map_meta[1], entry_type)
        else:
            # The annotation is Type, list[Type] or Type | None, perhaps inside Annotated: the class is the innermost.
            hint = kind._type_hint(field.name)
            while getattr(hint, "__args__", None):
                hint = hint.__args__[0]
            field_kind, type_name = self.resolved(meta, hint)
        if (message, field.name) in OPAQUE_FIELDS:
            field_kind, type_name = "opaque", ""
        return (
            meta.number,
            name,
            field_kind,
            type_name,
            bool(meta.repeated),
            bool(meta.optional) or field_kind in ("message", "opaque"),
            meta.group or "",
            key,
            value,
        )

    def resolved(self, meta: Any, hint: Any) -> tuple[str, str]:
        """Kind and type name of a field or map value."""
        if meta.proto_type == "enum":
            name = f"{hint.__module__.removeprefix(API + '.')}.{hint.__name__}"
            self.enums[name] = {member.value: member.proto_name or member.name for member in hint}
            return "enum", name
        if meta.proto_type != "message":
            return meta.proto_type, ""
        message = self.name_of.get(meta.unwrap() if meta.unwrap else hint, "")
        if message in WELL_KNOWN:
            return WELL_KNOWN[message], ""
        return ("message", message) if message in self.classes else ("opaque", "")


def field_text(row: tuple[Any, ...]) -> str:
    number, name, kind, type_name, repeated, presence, oneof, key, value = row
    text = f'F({number}, "{name}", "{kind}"'
    for argument, content in (("type", type_name), ("oneof", oneof), ("key", key), ("value", value)):
        text += f', {argument}="{content}"' if content else ""
    for argument, content in (("repeated", repeated), ("presence", presence and not repeated and kind != "map")):
        text += f", {argument}=True" if content else ""
    return text + ")"


def generate() -> str:
    """Return the text of schema.py."""
    generator = Generator()
    lines = [HEADER + "F = FieldSchema\n", "MESSAGES: dict[str, tuple[FieldSchema, ...]] = {"]
    for message, rows in generator.messages().items():
        if not rows:
            lines.append(f'    "{message}": (),')
            continue
        lines.append(f'    "{message}": (')
        lines.extend(f"        {field_text(row)}," for row in rows)
        lines.append("    ),")
    lines += ["}", "", "ENUMS: dict[str, dict[int, str]] = {"]
    for enum, members in sorted(generator.enums.items()):
        lines.append(f'    "{enum}": {{')
        for number, name in sorted(members.items()):
            lines.append(f'        {number}: "{name}",')
        lines.append("    },")
    lines += ["}", ""]
    return "\n".join(lines)


if __name__ == "__main__":
    if __spec__ is None or __spec__.name != "eastgate.xds.generate_schema":
        sys.exit("run this as: python -m eastgate.xds.generate_schema")
    Path(__file__).with_name("schema.py").write_text(generate(), encoding="utf-8")
