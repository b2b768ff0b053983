"""EDS: the groups of endpoints.py as ClusterLoadAssignments."""

from envoy_data_plane.envoy.config.core.v3 import HealthStatus
from envoy_data_plane.envoy.config.core.v3 import Locality as LocalityPb
from envoy_data_plane.envoy.config.endpoint.v3 import (
    ClusterLoadAssignment,
    Endpoint,
    LbEndpoint,
    LocalityLbEndpoints,
)

from .endpoints import ClusterKey, behind, groups
from .locality import Group
from .messages import address, metadata
from .model import Mesh
from .node_view import NodeView
from .split_horizon import Seen


def assignment(mesh: Mesh, node: NodeView, key: ClusterKey) -> ClusterLoadAssignment:
    """The assignment of one cluster for one node; no endpoints is an answer, too."""
    found = groups(mesh, node, key)
    return ClusterLoadAssignment(cluster_name=key.name, endpoints=[_locality(group) for group in found])


def _locality(group: Group) -> LocalityLbEndpoints:
    where = group.locality
    return LocalityLbEndpoints(
        locality=LocalityPb(region=where.region, zone=where.zone, sub_zone=where.sub_zone),
        lb_endpoints=[_endpoint(candidate.endpoint) for candidate in group.candidates],
        load_balancing_weight=group.weight,
        priority=group.priority,
    )


def _endpoint(seen: object) -> LbEndpoint:
    assert isinstance(seen, Seen)
    if seen.gateway:
        return LbEndpoint(
            endpoint=Endpoint(address=address(seen.gateway.address, seen.gateway.port)),
            metadata=metadata(
                envoy__transport_socket_match={"tlsMode": "istio"}, istio={"workload": f";;;;{seen.gateway.cluster}"}
            ),
            load_balancing_weight=seen.weight,
        )
    assert seen.member is not None
    workload, port = behind(seen.member)
    names = (workload.name, workload.namespace, workload.canonical_name, workload.canonical_revision, workload.cluster)
    istio = {"workload": ";".join(names)}
    return LbEndpoint(
        endpoint=Endpoint(address=address(workload.address, port)),
        health_status=HealthStatus.HEALTHY if workload.ready else HealthStatus.UNHEALTHY,
        metadata=(
            metadata(envoy__transport_socket_match={"tlsMode": "istio"}, istio=istio)
            if seen.member.mtls
            else metadata(istio=istio)
        ),
        load_balancing_weight=seen.weight,
    )
