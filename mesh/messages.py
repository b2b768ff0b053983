"""Small pieces of xDS messages that clusters, endpoints and listeners share."""

from collections.abc import Iterable, Mapping
from datetime import timedelta
from typing import Any

import betterproto2
from envoy_data_plane.envoy.config.core.v3 import (
    Address,
    AggregatedConfigSource,
    ApiConfigSource,
    ApiConfigSourceApiType,
    ApiVersion,
    ConfigSource,
    GrpcService,
    GrpcServiceEnvoyGrpc,
    Metadata,
    SocketAddress,
)
from envoy_data_plane.envoy.config.listener.v3 import AdditionalAddress
from envoy_data_plane.google.protobuf import Any as PackedAny
from envoy_data_plane.google.protobuf import Struct

PREFIX = "type.googleapis.com/"
EXCHANGE_ALPN = "istio-peer-exchange"
CDS = PREFIX + "envoy.config.cluster.v3.Cluster"
EDS = PREFIX + "envoy.config.endpoint.v3.ClusterLoadAssignment"
LDS = PREFIX + "envoy.config.listener.v3.Listener"
RDS = PREFIX + "envoy.config.route.v3.RouteConfiguration"


def pack(message: betterproto2.Message) -> PackedAny:
    """The message inside an Any."""
    return PackedAny.pack(message)


def typed_struct(kind: str, content: Mapping[str, Any]) -> PackedAny:
    """A message of Istio's own as udpa.type.v1.TypedStruct, by its type's name and its content as JSON has it."""
    # A TypedStruct has the fields of an Any; the package has no class for it.
    inner = PackedAny(type_url=PREFIX + kind, value=bytes(Struct.from_dict(dict(content))))
    return PackedAny(type_url=PREFIX + "udpa.type.v1.TypedStruct", value=bytes(inner))


def address(host: str, port: int) -> Address:
    """A TCP address."""
    return Address(socket_address=SocketAddress(address=host, port_value=port))


def additional(hosts: Iterable[str], port: int) -> list[AdditionalAddress]:
    """Addresses of a listener beside its first."""
    return [AdditionalAddress(address=address(host, port)) for host in hosts]


def metadata(**namespaces: Mapping[str, Any]) -> Metadata:
    """Filter metadata; a namespace with dots is given with double underscores."""
    found = {name.replace("__", "."): Struct.from_dict(dict(content)) for name, content in namespaces.items()}
    return Metadata(filter_metadata=found)


def from_ads() -> ConfigSource:
    """Fetched over the same stream, without a limit of waiting."""
    return ConfigSource(
        ads=AggregatedConfigSource(), initial_fetch_timeout=timedelta(0), resource_api_version=ApiVersion.V3
    )


def from_sds() -> ConfigSource:
    """Fetched from the agent's SDS server, which every Istio bootstrap calls sds-grpc."""
    return ConfigSource(
        api_config_source=ApiConfigSource(
            api_type=ApiConfigSourceApiType.GRPC,
            grpc_services=[GrpcService(envoy_grpc=GrpcServiceEnvoyGrpc(cluster_name="sds-grpc"))],
            set_node_on_first_message_only=True,
            transport_api_version=ApiVersion.V3,
        ),
        initial_fetch_timeout=timedelta(0),
        resource_api_version=ApiVersion.V3,
    )


def config_path(kind: str, namespace: str, name: str) -> str:
    """How istiod names the resource that a piece of configuration comes from."""
    words = "".join(f"-{c.lower()}" if c.isupper() else c for c in kind).lstrip("-")
    return f"/apis/networking.istio.io/v1/namespaces/{namespace}/{words}/{name}"
