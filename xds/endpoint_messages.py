"""What single endpoints of an assignment say beside their columns: read again, and only where somebody asks."""

from collections.abc import Iterator, Mapping
from typing import Any

from .columns import EndpointKey
from .dns import canonical_host
from .errors import XdsError
from .message import read

_ASSIGNMENT = "envoy.config.endpoint.v3.ClusterLoadAssignment"
_METADATA = "envoy.config.core.v3.Metadata"
# The namespace of filter_metadata that load balancing reads.
_NAMESPACE = "envoy.lb"


def endpoint_messages(assignment: bytes) -> dict[EndpointKey, Mapping[str, Any]]:
    """The LbEndpoints of an assignment by key; of equal addresses the first one is the endpoint.

    Raises ValueError for bytes in which only what the columns hold is whole.
    """
    found: dict[EndpointKey, Mapping[str, Any]] = {}
    for one in _lb_endpoints(assignment):
        where = one.get("endpoint", {}).get("address", {})
        place = where.get("socket_address", {})
        host = place.get("address") or where.get("pipe", {}).get("path", "")
        found.setdefault((canonical_host(host), place.get("port_value", 0)), one)
    return found


def load_balancing_metadata(lb_endpoint: Mapping[str, Any]) -> Mapping[str, Any]:
    """What an LbEndpoint says of itself to load balancing. Raises ValueError for bytes that are no metadata."""
    return lb_values(lb_endpoint["metadata"]) if "metadata" in lb_endpoint else {}


def lb_values(metadata: bytes) -> dict[str, Any]:
    """Values of the namespace envoy.lb in the bytes of a Metadata. Raises ValueError for other bytes."""
    try:
        return dict(read(_METADATA, metadata).get("filter_metadata", {}).get(_NAMESPACE, {}))
    except XdsError as error:
        raise ValueError(f"metadata: {error.reason}") from None


def _lb_endpoints(assignment: bytes) -> Iterator[Mapping[str, Any]]:
    try:
        message = read(_ASSIGNMENT, assignment)
    except XdsError as error:
        raise ValueError(error.reason) from None
    for locality in message.get("endpoints", ()):
        yield from locality.get("lb_endpoints", ())
