"""The end of a filter chain whose connections a VirtualService leads: one cluster, or several by weight."""

from datetime import timedelta

from envoy_data_plane.envoy.config.core.v3 import Metadata
from envoy_data_plane.envoy.config.listener.v3 import Filter
from envoy_data_plane.envoy.extensions.filters.network.tcp_proxy.v3 import (
    TcpProxyWeightedCluster,
    TcpProxyWeightedClusterClusterWeight,
)

from .filters import ends_in, stats, tcp_proxy
from .messages import config_path, metadata
from .model import Mesh
from .node_view import NodeView
from .routes import Route, cluster_of

TLS_HANDSHAKE = timedelta(seconds=15)


def routed_filters(mesh: Mesh, node: NodeView, route: Route, port: int) -> list[Filter]:
    """Filters of a chain with this route, for connections to a port."""
    resource = route.resource
    targets = [(*cluster_of(mesh, node, resource, one.destination, port), one) for one in route.destinations]
    (service, name, first), *more = targets
    # The rule of the first one counts for all, without its subset.
    proxy = tcp_proxy(mesh, node, service, "" if more else first.destination.subset, name)
    if more:
        proxy.cluster = None
        proxy.stat_prefix = f"{resource.name}.{resource.namespace}"
        proxy.weighted_clusters = TcpProxyWeightedCluster(
            clusters=[
                TcpProxyWeightedClusterClusterWeight(name=name, weight=one.weight)
                for _, name, one in targets
                if one.weight
            ]
        )
    return [*stats(mesh, node), ends_in(proxy)]


def where_from(route: Route) -> Metadata:
    """Which VirtualService a chain comes from, as istiod writes it."""
    one = route.resource
    return metadata(istio={"config": config_path(one.kind, one.namespace, one.name)})
