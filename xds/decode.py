"""The one door from bytes of a resource to what the rest of eastgate sees: resource type URLs and their decoders."""

from .assignment import decode_assignment as decode_endpoints
from .assignment import read_text
from .columns import EndpointFlag
from .decode_chain import Chains, DecodedChain
from .decode_cluster import decode_cluster
from .decode_listener import decode_listener, listener_steps
from .decode_route import Hosts, decode_route, route_steps
from .errors import XdsError
from .health_check import endpoint_checks
from .resources import Assignment
from .secret_store import SDS

CDS = "type.googleapis.com/envoy.config.cluster.v3.Cluster"
EDS = "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment"
LDS = "type.googleapis.com/envoy.config.listener.v3.Listener"
RDS = "type.googleapis.com/envoy.config.route.v3.RouteConfiguration"

# What operators call a type, in errors, logs and statistics.
SHORT_NAMES = {CDS: "CDS", EDS: "EDS", LDS: "LDS", RDS: "RDS", SDS: "SDS"}

_OWN_CHECK, _TLS_MODE_ISTIO = int(EndpointFlag.OWN_HEALTH_CHECK), int(EndpointFlag.TLS_MODE_ISTIO)


def decode_assignment(raw: bytes) -> Assignment:
    """Decode the bytes inside the Any. Raises XdsError("EDS", name, reason)."""
    made = decode_endpoints(raw)
    flags = made.columns.flags
    if _OWN_CHECK in flags or _OWN_CHECK | _TLS_MODE_ISTIO in flags:
        try:
            endpoint_checks(raw)
        except ValueError as error:
            raise XdsError("EDS", made.cluster_name, f"health_check_config: {error}") from None
    return made


__all__ = [
    "CDS",
    "EDS",
    "LDS",
    "RDS",
    "SDS",
    "SHORT_NAMES",
    "Chains",
    "DecodedChain",
    "Hosts",
    "decode_assignment",
    "decode_cluster",
    "decode_listener",
    "decode_route",
    "listener_steps",
    "read_text",
    "route_steps",
]
