"""Which secrets a transport socket names, and where they are to be asked for. Reads no secret."""

from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Any

from .config_source import fetch_timeout_s, source_of
from .fields import type_name
from .message import read
from .tls_records import SecretRef

_TLS = "envoy.extensions.transport_sockets.tls.v3."
_CONTEXTS = (f"{_TLS}DownstreamTlsContext", f"{_TLS}UpstreamTlsContext")
_SDS_SECRET_CONFIG = f"{_TLS}SdsSecretConfig"


def secret_refs(transport_socket: bytes) -> tuple[SecretRef, ...]:
    """Secrets that the bytes of a TransportSocket name: certificates first. Empty for a socket without TLS.

    Raises XdsError for bytes that are no TransportSocket.
    """
    config = read("envoy.config.core.v3.TransportSocket", transport_socket).get("typed_config", {})
    common = config.get("common_tls_context")
    return () if common is None or type_name(config) not in _CONTEXTS else _named(common)


def cluster_secret_refs(cluster: Mapping[str, Any]) -> tuple[SecretRef, ...]:
    """Secrets that a Cluster names, as message.read answers it. Raises XdsError."""
    sockets: list[bytes] = list(_present(cluster, "transport_socket"))
    for match in cluster.get("transport_socket_matches", ()):
        sockets += _present(read("envoy.config.cluster.v3.Cluster.TransportSocketMatch", match), "transport_socket")
    found = [ref for socket in sockets for ref in secret_refs(socket)]
    return _shared(tuple(dict.fromkeys(found)))


def _present(message: Mapping[str, Any], field: str) -> Iterable[bytes]:
    return (message[field],) if field in message else ()


@lru_cache(maxsize=256)
def _named(common_tls_context: bytes) -> tuple[SecretRef, ...]:
    # A mesh has thousands of clusters with few different contexts.
    common = read(f"{_TLS}CommonTlsContext", common_tls_context)
    combined = common.get("combined_validation_context", {})
    found = [
        *common.get("tls_certificate_sds_secret_configs", ()),
        *_present(common, "validation_context_sds_secret_config"),
        *_present(combined, "validation_context_sds_secret_config"),
    ]
    return _shared(tuple(ref for ref in map(secret_ref, found) if ref.name))


@lru_cache(maxsize=256)
def secret_ref(raw: bytes) -> SecretRef:
    """Read the bytes of an SdsSecretConfig. Raises XdsError, or ValueError for a timeout that is none."""
    # Contexts that differ, by the names that they accept, still name the same two secrets.
    message = read(_SDS_SECRET_CONFIG, raw)
    config = message.get("sds_config")
    return SecretRef(message.get("name", ""), source_of(config), fetch_timeout_s(config))


@lru_cache(maxsize=256)
def _shared(refs: tuple[SecretRef, ...]) -> tuple[SecretRef, ...]:
    return refs
