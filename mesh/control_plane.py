"""What the istiod of one cluster would send to a node: all resources of a mesh, by type and name, as bytes."""

from collections.abc import Mapping
from typing import Any

from eastgate.xds.resources import Locality
from envoy_data_plane.envoy.config.cluster.v3 import ClusterDiscoveryType

from .assignments import assignment
from .clusters import black_hole, keys, outbound_cluster, sidecar_clusters
from .listeners import has_passthrough, listeners
from .messages import CDS, EDS, LDS
from .model import Mesh
from .node_view import NodeView, node_view


def view_of(node: Any, mesh: Mesh) -> NodeView:
    """The node (envoy-data-plane's Node) as mesh/ understands it. Raises NodeRefusedError."""
    where = node.locality
    locality = Locality(where.region, where.zone, where.sub_zone) if where else Locality()
    return node_view(node.id, node.metadata.to_dict() if node.metadata else {}, locality, mesh)


def resources(mesh: Mesh, node: NodeView) -> Mapping[str, Mapping[str, bytes]]:
    """Type URL -> name -> bytes inside the Any. EDS holds every assignment that the clusters refer to."""
    wanted = list(keys(mesh, node, sni_dnat=False))
    if has_passthrough(mesh, node):
        wanted += keys(mesh, node, sni_dnat=True)
    clusters = [outbound_cluster(mesh, node, key) for key in wanted] + [black_hole()]
    if node.type == "sidecar":
        clusters += sidecar_clusters(mesh, node)
    return {
        CDS: {cluster.name: bytes(cluster) for cluster in clusters},
        EDS: {
            key.name: bytes(assignment(mesh, node, key))
            for key, cluster in zip(wanted, clusters, strict=False)
            if cluster.type == ClusterDiscoveryType.EDS
        },
        LDS: {listener.name: bytes(listener) for listener in listeners(mesh, node)},
    }
