"""To which endpoints of a cluster TLS is spoken. Reads transport sockets and istiod's choice between two of them.

istiod writes transport_socket_matches: TLS to endpoints whose metadata says tlsMode istio, plain text to the others.
The first match that an endpoint's metadata holds wins; what fits none gets the cluster's own transport socket.
"""

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from .message import read
from .tls_records import PLAIN, UpstreamTls
from .tls_settings import tls_settings

_MATCH = "envoy.config.cluster.v3.Cluster.TransportSocketMatch"
_ISTIO = {"tlsMode": "istio"}


def upstream_tls(cluster: Mapping[str, Any]) -> UpstreamTls:
    """Of a Cluster as message.read answers it. Raises XdsError."""
    matches = tuple(cluster.get("transport_socket_matches", ()))
    if not matches and "transport_socket" not in cluster:
        return PLAIN
    return _chosen(matches, cluster.get("transport_socket", b""))


@lru_cache(maxsize=1024)
def _chosen(matches: tuple[bytes, ...], own: bytes) -> UpstreamTls:
    mesh = others = tls_settings(own) if own else None
    for raw in reversed(matches):
        one = read(_MATCH, raw)
        name, wanted = one.get("name", ""), one.get("match", {})
        if "transport_socket" not in one:
            return UpstreamTls(refusal=f"transport_socket_matches {name}: no transport socket")
        settings = tls_settings(one["transport_socket"])
        if wanted not in ({}, _ISTIO):
            return UpstreamTls(refusal=f"transport_socket_matches {name}: only tlsMode istio is looked for")
        mesh = settings
        if not wanted:
            others = settings
    return UpstreamTls(mesh, others)
