from eastgate.proxy.serving import routed_dns_clusters
from eastgate.xds.resources import Cluster, DnsSettings, FilterChain, FilterChainMatch, Listener, Snapshot

NAMED = DnsSettings(template=b"", targets=())


def cluster(name: str, dns: DnsSettings | None) -> Cluster:
    return Cluster(name=name, type="STRICT_DNS" if dns is not None else "EDS", dns=dns)


def snapshot(*led_to: str, **clusters: DnsSettings | None) -> Snapshot:
    """Clusters of these names, and a listener that leads to some of them."""
    chains = tuple(FilterChain(name, FilterChainMatch(), ((name, 1),)) for name in led_to)
    return Snapshot(
        clusters={name: cluster(name, dns) for name, dns in clusters.items()},
        listeners={"one": Listener(name="one", addresses=(), filter_chains=chains)},
    )


def test_only_names_that_something_leads_to_are_resolved() -> None:
    found = routed_dns_clusters(snapshot("used", "plain", used=NAMED, unused=NAMED, plain=None))
    assert found.keys() == {"used"}


def test_the_local_cluster_is_resolved_without_a_route() -> None:
    assert routed_dns_clusters(snapshot(zones=NAMED, other=NAMED), "zones").keys() == {"zones"}


def test_without_names_nothing_is_looked_for() -> None:
    assert routed_dns_clusters(snapshot("plain", plain=None), "plain") == {}
