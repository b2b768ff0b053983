"""The one door from bytes of a resource to what the rest of eastgate sees: resource type URLs and their decoders."""

from .assignment import decode_assignment, read_text
from .decode_cluster import decode_cluster
from .decode_listener import Chains, DecodedChain, decode_listener, listener_steps
from .decode_route import Hosts, decode_route, route_steps
from .secret_store import SDS

CDS = "type.googleapis.com/envoy.config.cluster.v3.Cluster"
EDS = "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment"
LDS = "type.googleapis.com/envoy.config.listener.v3.Listener"
RDS = "type.googleapis.com/envoy.config.route.v3.RouteConfiguration"

# What operators call a type, in errors, logs and statistics.
SHORT_NAMES = {CDS: "CDS", EDS: "EDS", LDS: "LDS", RDS: "RDS", SDS: "SDS"}

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
