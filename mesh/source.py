"""What an ADS server of a cluster answers from: the mesh as it is now."""

from collections.abc import Mapping
from typing import Any

from .control_plane import resources, view_of
from .model import Mesh
from .node_view import NodeRefusedError


class MeshSource:
    """Resources per node. ``cluster``: only nodes of this cluster are served; empty: of all. Owner: the event loop."""

    def __init__(self, mesh: Mesh, cluster: str = "") -> None:
        self.mesh = mesh
        self._cluster = cluster

    def resources(self, node: Any) -> Mapping[str, Mapping[str, bytes]]:
        """Type URL -> name -> bytes. Raises NodeRefusedError."""
        view = view_of(node, self.mesh)
        if self._cluster and view.cluster != self._cluster:
            raise NodeRefusedError(f"node {node.id!r}: CLUSTER_ID {view.cluster!r}, and this is {self._cluster!r}")
        return resources(self.mesh, view)
