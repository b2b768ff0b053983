"""Ring hash and Maglev over a whole assignment: priority, list of hosts, table, host (Envoy: thread_aware_lb_impl)."""

from .hash_tables import Host, Maglev, Ring, normalised
from .priority import choose_priority
from .shares import Cluster, LocalityName


class HashedCluster:
    """A load balancer that finds hosts by the hash of a connection."""

    def __init__(
        self,
        cluster: Cluster,
        *,
        maglev: bool,
        sizes: tuple[int, int] = (64, 8388608),
        hash_function: str = "xx_hash",
        table_size: int = 251,
        own: LocalityName | None = None,
    ) -> None:
        self.cluster, self.own = cluster, own
        self.tables: list[Ring | Maglev | None] = []
        for priority in range(len(cluster.state.priorities)):
            weights = self.weights_of(priority)
            if not weights:
                self.tables.append(None)
            elif maglev:
                self.tables.append(Maglev(weights, table_size))
            else:
                self.tables.append(Ring(weights, *sizes, hash_function))

    def weights_of(self, priority: int) -> list[tuple[str, float]]:
        """Normalised weights by address."""
        cluster = self.cluster
        hosts = cluster.hosts(priority)
        panic = cluster.state.priorities[priority].panic
        usable = hosts if panic else cluster.of_class(hosts, "Healthy")
        if not cluster.settings.locality_weighted:
            return normalised([self.host(i) for i in usable]) if usable else []
        names = sorted({cluster.endpoints[i].locality for i in hosts}, key=lambda name: (name != self.own, name))
        weights = [cluster.locality_weights.get((priority, name), 0) for name in names]
        if sum(weights) == 0:
            return []
        members = [[self.host(i) for i in usable if cluster.endpoints[i].locality == name] for name in names]
        return normalised([], members, weights)

    def host(self, index: int) -> Host:
        """Key and weight."""
        return self.cluster.endpoints[index].address, self.cluster.endpoints[index].weight

    def pick(self, value: int) -> str | None:
        """Address of the host."""
        state = self.cluster.state.priorities
        priority, _ = choose_priority(value, [p.healthy_load for p in state], [p.degraded_load for p in state])
        table = self.tables[priority]
        return table.pick(value) if table is not None else None
