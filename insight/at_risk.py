"""How much of a proxy's traffic a finding puts at risk: what findings are ranked by. Finds nothing itself.

A finding is about endpoints, or about all of a cluster. Its part of that cluster is the sum of these endpoints' shares:
`now` as picks go at present, `reached` once every priority before theirs has failed. The cluster's part of the proxy is
that of its connections, where there are counters, among the clusters that something routes to:

    weight = (connects + 1) / (connects of all + number of clusters routed to)

so that a cluster which nobody reached yet, or nobody can reach, still counts as one. Worked example: two clusters with
8 and 0 connects; a finding about a gateway at P1 with half of P1's weight in the first:
    weight 9 / 10; now 0, reached 0.9 x 0.5 = 45 %
"""

from collections.abc import Iterable
from functools import cached_property

from eastgate.xds.record import record

from .cluster_model import ClusterModel, ProxyModel, compile_model
from .findings import Finding
from .routing_rules import routed_clusters

# Rules that say: whoever connects to this cluster, or to this proxy, is refused or led astray at this moment.
AT_PRESENT = frozenset(
    {
        "connections-refused",
        "gateway-without-endpoints",
        "listener-silent",
        "locality-weights-ignored",
        "network-view-missing",
        "never-configured",
        "none-healthy",
        "routed-without-endpoints",
        "same-match",
        "sni-cluster-without-mtls",
        "unknown-cluster",
        "warming-cluster",
    }
)


@record
class AtRisk:
    """Parts of a proxy's connections, 0 to 1: at present, and once failover has come as far as the finding is."""

    now: float
    reached: float


class Risks:
    """The traffic of one proxy, to weigh findings by."""

    def __init__(self, proxy: ProxyModel) -> None:
        self._proxy = proxy

    @cached_property
    def _weights(self) -> dict[str, float]:
        """Part of the proxy's connections by cluster, of those that something routes to."""
        proxy = self._proxy
        routed = routed_clusters(proxy).keys() | proxy.http_clusters
        if not routed:
            # A dump without listeners: whatever has endpoints may be asked for.
            routed = {name for name, model in proxy.clusters.items() if model.endpoints}
        connects = {
            name: sum(one.connects for one in proxy.clusters[name].endpoints) if name in proxy.clusters else 0
            for name in routed
        }
        total = sum(connects.values()) + len(connects)
        return {name: (count + 1) / total for name, count in connects.items()}

    def of(self, finding: Finding) -> AtRisk:
        """What the finding puts at risk here."""
        at_present = finding.rule in AT_PRESENT
        if not finding.cluster:
            # Of listeners and nodes it is not known which connections are theirs: some, or all.
            return AtRisk(float(at_present), float(finding.severity == "error"))
        weight = self._weights.get(finding.cluster, 0.0)
        model = self._proxy.clusters.get(finding.cluster)
        if finding.addresses and model is not None:
            now, reached = endpoint_shares(model, finding.addresses)
            return AtRisk(weight * now, weight * reached)
        return AtRisk(weight * at_present, weight)


def endpoint_shares(model: ClusterModel, addresses: Iterable[str]) -> tuple[float, float]:
    """Sum of these endpoints' shares of picks: at present, and where every priority before theirs is down."""
    wanted = set(addresses)
    rows = [row for row, one in enumerate(model.endpoints) if one.address in wanted]
    try:
        compiled = compile_model(model)
    except ValueError:
        # No shares to know: all of it may be theirs.
        return 1.0, 1.0
    shares = compiled.table.shares()
    now = sum(shares[row] for row in rows)
    first = min((model.endpoints[row].priority for row in rows), default=0)
    before = [row for row, one in enumerate(model.endpoints) if one.priority < first]
    if not before:
        return now, now
    after = compiled.with_down(before).table.shares()
    return now, max(now, sum(after[row] for row in rows))
