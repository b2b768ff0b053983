"""EDS: the groups of endpoints.py as ClusterLoadAssignments."""

from collections.abc import Iterable
from ipaddress import ip_address

from envoy_data_plane.envoy.config.core.v3 import HealthStatus
from envoy_data_plane.envoy.config.core.v3 import Locality as LocalityPb
from envoy_data_plane.envoy.config.endpoint.v3 import (
    ClusterLoadAssignment,
    Endpoint,
    EndpointAdditionalAddress,
    LbEndpoint,
    LocalityLbEndpoints,
)

from .endpoints import ClusterKey, behind, groups
from .locality import Group
from .messages import address, metadata
from .model import Mesh, Workload
from .node_view import NodeView
from .split_horizon import Seen


def assignment(mesh: Mesh, node: NodeView, key: ClusterKey) -> ClusterLoadAssignment:
    """The assignment of one cluster for one node; no endpoints is an answer, too."""
    return assignment_of(key.name, groups(mesh, node, key))


def assignment_of(name: str, found: Iterable[Group]) -> ClusterLoadAssignment:
    """The assignment of a cluster with these groups."""
    return ClusterLoadAssignment(cluster_name=name, endpoints=[_locality(group) for group in found])


def place_of(seen: object) -> str:
    """Address and port of an endpoint of a group, as dumps write them."""
    assert isinstance(seen, Seen)
    if seen.gateway:
        host, port = seen.gateway.address, seen.gateway.port
    else:
        assert seen.member is not None
        workload, port = behind(seen.member)
        host = workload.address
    return _place(host, port)


def further_places_of(seen: object) -> tuple[str, ...]:
    """The same of the addresses that it has beside its first."""
    assert isinstance(seen, Seen)
    if seen.member is None:
        return ()
    workload, port = behind(seen.member)
    return tuple(_place(one, port) for one in workload.further)


def _place(host: str, port: int) -> str:
    return f"[{ip_address(host)}]:{port}" if ":" in host else f"{host}:{port}"


def health_of(seen: object) -> HealthStatus:
    """Health that an endpoint of a group is sent with; nobody says it of a gateway."""
    assert isinstance(seen, Seen)
    return HealthStatus.UNKNOWN if seen.member is None else _health(behind(seen.member)[0])


def _locality(group: Group) -> LocalityLbEndpoints:
    where = group.locality
    return LocalityLbEndpoints(
        locality=LocalityPb(region=where.region, zone=where.zone, sub_zone=where.sub_zone),
        lb_endpoints=[_endpoint(candidate.endpoint) for candidate in group.candidates],
        load_balancing_weight=group.weight,
        priority=group.priority,
    )


def _health(workload: Workload) -> HealthStatus:
    if not workload.watched:
        return HealthStatus.UNKNOWN
    return HealthStatus.HEALTHY if workload.ready else HealthStatus.UNHEALTHY


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
    istio = {"workload": f";;;;{workload.cluster}" if workload.is_bare else ";".join(names)}
    return LbEndpoint(
        endpoint=Endpoint(
            address=address(workload.address, port),
            additional_addresses=[EndpointAdditionalAddress(address=address(one, port)) for one in workload.further],
        ),
        health_status=health_of(seen),
        metadata=(
            metadata(envoy__transport_socket_match={"tlsMode": "istio"}, istio=istio)
            if seen.member.mtls
            else metadata(istio=istio)
        ),
        load_balancing_weight=seen.weight,
    )
