"""Which clusters listeners and routes lead to."""

from eastgate.xds.decode_listener import decode_listener
from eastgate.xds.decode_route import decode_route
from eastgate.xds.wanted import routed_clusters

from ..support.recordings import LDS, RDS, recorded


def test_clusters_of_routes_are_led_to_as_those_of_chains_are():
    resources = recorded("9-subsets", "gke-sidecar")
    listeners = [decode_listener(raw)[0] for raw in resources[LDS].values()]
    routes = [decode_route(raw)[0] for raw in resources[RDS].values()]
    alone = routed_clusters(listeners)
    # Inline ones of inbound chains, and those of tcp_proxy.
    assert {"InboundPassthroughCluster", "PassthroughCluster"} <= alone
    subset = "outbound|80|gke|echo-svc.default.svc.cluster.local"
    assert subset not in alone
    assert subset in routed_clusters(listeners, routes)
