"""What accepted listeners and clusters lead to: names to subscribe to. Pure functions over resources."""

from collections.abc import Iterable, Iterator, Mapping

from .resources import Cluster, FilterChain, Listener
from .route import RouteConfiguration
from .tls_records import SecretRef

SNI_DNAT_PREFIX = "outbound_."


def chains_of(listeners: Iterable[Listener]) -> Iterator[FilterChain]:
    """Every chain, default ones too."""
    for listener in listeners:
        yield from listener.filter_chains
        if listener.default_filter_chain is not None:
            yield listener.default_filter_chain


def routed_clusters(listeners: Iterable[Listener], routes: Iterable[RouteConfiguration] = ()) -> set[str]:
    """Clusters that filter chains name, those of inline routes and of these routes too."""
    found = set().union(*(one.clusters for one in routes))
    for chain in chains_of(listeners):
        found.update(target for target, _ in chain.clusters)
        if chain.route_config is not None:
            found.update(chain.route_config.clusters)
    return found


def named_routes(listeners: Iterable[Listener]) -> frozenset[str]:
    """Route configurations that filter chains name."""
    return frozenset(chain.route_config_name for chain in chains_of(listeners) if chain.route_config_name)


def named_secrets(
    listeners: Iterable[Listener], clusters: Mapping[str, Cluster], routed: set[str] | None
) -> frozenset[SecretRef]:
    """Secrets of chains, and of clusters that something leads to; of all clusters where `routed` is None.

    Where one is named with several timeouts, that of the first holds.
    """
    named = dict.fromkeys(chain.secrets for chain in chains_of(listeners))
    named.update((one.secrets, None) for name, one in clusters.items() if one.secrets and leads_to(name, routed))
    return frozenset(ref for refs in named for ref in refs)


def leads_to(cluster: str, routed: set[str] | None) -> bool:
    """Whether a route of a gateway can lead to a cluster; to any where `routed` is None."""
    return routed is None or cluster.startswith(SNI_DNAT_PREFIX) or cluster in routed
