"""What the istiod of one cluster would send to a node: all resources of a mesh, by type and name, as bytes."""

from collections.abc import Mapping
from typing import Any

from eastgate.xds.resources import Locality
from envoy_data_plane.envoy.config.cluster.v3 import Cluster, ClusterDiscoveryType
from envoy_data_plane.envoy.config.listener.v3 import Listener
from envoy_data_plane.envoy.config.route.v3 import RouteConfiguration

from .assignments import assignment
from .clusters import black_hole, keys, outbound_cluster
from .inbound import inbound_listeners
from .inbound_clusters import sidecar_clusters
from .listeners import gateway_listeners, has_passthrough
from .messages import CDS, EDS, LDS, RDS
from .model import Mesh
from .node_view import NodeView, node_view
from .outbound import outbound
from .scope import scope_of
from .virtual_hosts import port_routes, sniffed_routes


def view_of(node: Any, mesh: Mesh) -> NodeView:
    """The node (envoy-data-plane's Node) as mesh/ understands it. Raises NodeRefusedError."""
    where = node.locality
    locality = Locality(where.region, where.zone, where.sub_zone) if where else Locality()
    return node_view(node.id, node.metadata.to_dict() if node.metadata else {}, locality, mesh)


def resources(mesh: Mesh, node: NodeView) -> Mapping[str, Mapping[str, bytes]]:
    """Type URL -> name -> bytes inside the Any. EDS and RDS hold everything that clusters and listeners refer to."""
    listeners, routes = _listeners(mesh, node)
    return {
        **cluster_resources(mesh, node),
        LDS: {listener.name: bytes(listener) for listener in listeners},
        RDS: {one.name: bytes(one) for one in routes},
    }


def cluster_resources(mesh: Mesh, node: NodeView, hosts: frozenset[str] | None = None) -> dict[str, dict[str, bytes]]:
    """CDS and EDS alone: what is asked where nobody connects. ``hosts``: only clusters that lead to these."""
    wanted = list(keys(mesh, node, sni_dnat=False, hosts=hosts))
    if has_passthrough(mesh, node):
        wanted += keys(mesh, node, sni_dnat=True, hosts=hosts)
    clusters: list[Cluster] = [outbound_cluster(mesh, node, key) for key in wanted] + [black_hole()]
    if node.type == "sidecar" and hosts is None:
        clusters += sidecar_clusters(mesh, node)
    return {
        CDS: {cluster.name: bytes(cluster) for cluster in clusters},
        EDS: {
            key.name: bytes(assignment(mesh, node, key))
            for key, cluster in zip(wanted, clusters, strict=False)
            if cluster.type == ClusterDiscoveryType.EDS
        },
    }


def _listeners(mesh: Mesh, node: NodeView) -> tuple[list[Listener], list[RouteConfiguration]]:
    if node.type == "router":
        return gateway_listeners(mesh, node), []
    scope = scope_of(mesh, node)
    found = outbound(mesh, node, scope)
    routes = [
        sniffed_routes(mesh, node, scope, service, port) if service else port_routes(mesh, node, scope, port)
        for port, service in found.routes
    ]
    return [*found.listeners, *inbound_listeners(mesh, node, scope)], routes
