"""Exact shares of an assignment, as fractions: which part of all picks each endpoint gets in the long run."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction

from .health import EDS_STATUS, FLAGS_OF_STATUS, coarse_health, is_excluded
from .locality import effective_weight
from .priority import LoadBalancerState, choose_priority

LocalityName = tuple[str, str, str]


@dataclass(frozen=True)
class Endpoint:
    """One LbEndpoint with its place in the message."""

    address: str
    priority: int = 0
    locality: LocalityName = ("", "", "")
    weight: int = 1
    eds_health: int = 1
    failed: bool = False
    factor: float = 1.0
    """what slow start leaves of its weight"""

    @property
    def pick_weight(self) -> Fraction:
        """What decides inside a list."""
        return Fraction(self.weight) * Fraction(self.factor)

    @property
    def flags(self) -> list[str]:
        """Health flags."""
        found = list(FLAGS_OF_STATUS[EDS_STATUS[self.eds_health]])
        return [*found, "FAILED_OUTLIER_CHECK"] if self.failed else found


@dataclass(frozen=True)
class Settings:
    """What the cluster and the assignment's policy say."""

    overprovisioning_factor: int = 140
    panic_threshold: int = 50
    locality_weighted: bool = False
    weighted_priority_health: bool = False
    fail_traffic_on_panic: bool = False


def without_duplicates(endpoints: Sequence[Endpoint]) -> list[int]:
    """Indices of the endpoints that are kept: the first of each address in message order."""
    seen: set[str] = set()
    kept = []
    for index, endpoint in enumerate(endpoints):
        if endpoint.address not in seen:
            seen.add(endpoint.address)
            kept.append(index)
    return kept


@dataclass(frozen=True)
class ZonePicks:
    """Where picks of P0 go that look at zones. ``percent`` of them do; ``local_low``: the local cluster is in panic."""

    parts: Mapping[LocalityName, Fraction]
    percent: int = 100
    local_low: bool = False


class Cluster:
    """A freshly built load balancer over an assignment."""

    def __init__(
        self,
        endpoints: Sequence[Endpoint],
        locality_weights: Mapping[tuple[int, LocalityName], int],
        settings: Settings,
    ) -> None:
        self.endpoints, self.locality_weights, self.settings = endpoints, locality_weights, settings
        self.zones: ZonePicks | None = None
        self.kept = without_duplicates(endpoints)
        self.state = LoadBalancerState(settings.panic_threshold)
        for priority in range(1 + max((endpoints[i].priority for i in self.kept), default=0)):
            hosts = self.hosts(priority)
            lists = (hosts, self.of_class(hosts, "Healthy"), self.of_class(hosts, "Degraded"), self.excluded(hosts))
            sums = [sum(endpoints[i].weight for i in members) for members in lists]
            self.state.update(
                priority,
                hosts=len(lists[0]),
                healthy=len(lists[1]),
                degraded=len(lists[2]),
                excluded=len(lists[3]),
                overprovisioning_factor=settings.overprovisioning_factor,
                weights=(sums[0], sums[1], sums[2], sums[3]) if settings.weighted_priority_health else None,
            )

    def hosts(self, priority: int) -> list[int]:
        """Kept endpoints of a priority, in message order."""
        return [i for i in self.kept if self.endpoints[i].priority == priority]

    def of_class(self, members: Sequence[int], wanted: str) -> list[int]:
        """Those of `members` with that coarse health."""
        return [i for i in members if coarse_health(self.endpoints[i].flags) == wanted]

    def excluded(self, members: Sequence[int]) -> list[int]:
        """Those of `members` that are excluded."""
        return [i for i in members if is_excluded(self.endpoints[i].flags)]

    def lists(self, priority: int, availability: str) -> list[tuple[Fraction, list[int]]]:
        """(part, members) of each list that a pick of this priority and availability may use; parts sum to 1."""
        hosts = self.hosts(priority)
        if self.state.priorities[priority].panic:
            return [] if self.settings.fail_traffic_on_panic else [(Fraction(1), hosts)]
        wanted = availability.capitalize()
        flat = [(Fraction(1), self.of_class(hosts, wanted))]
        if self.zones is not None and priority == 0:
            return self.zone_lists(flat[0][1], self.zones)
        if not self.settings.locality_weighted:
            return flat
        by_locality: dict[LocalityName, list[int]] = {}
        for i in hosts:
            by_locality.setdefault(self.endpoints[i].locality, []).append(i)
        weighted = []
        for name, members in by_locality.items():
            eligible = self.of_class(members, wanted)
            weight = effective_weight(
                self.locality_weights.get((priority, name), 0),
                len(eligible),
                len(members),
                len(self.excluded(members)),
                self.settings.overprovisioning_factor,
            )
            if weight > 0:
                weighted.append((Fraction(weight), eligible))
        total = sum((weight for weight, _ in weighted), Fraction(0))
        return [(weight / total, eligible) for weight, eligible in weighted] or flat

    def zone_lists(self, members: list[int], zones: "ZonePicks") -> list[tuple[Fraction, list[int]]]:
        """Lists of a pick of P0 that may look at zones."""
        gate = Fraction(zones.percent, 100)
        if zones.local_low:
            return [(1 - gate if self.settings.fail_traffic_on_panic else Fraction(1), members)]
        by_zone = [
            (gate * part, [i for i in members if self.endpoints[i].locality == name])
            for name, part in zones.parts.items()
        ]
        return [(1 - gate, members), *by_zone]

    def shares(self) -> list[Fraction]:
        """Part of all picks by endpoint; they sum to 1, or less when some or all picks give no host."""
        found = [Fraction(0)] * len(self.endpoints)
        loads = [(p.healthy_load, p.degraded_load) for p in self.state.priorities]
        if sum(map(sum, loads)) == 0:
            loads[0] = (100, 0)  # choose_priority's last resort
        for priority, pair in enumerate(loads):
            for availability, load in zip(("healthy", "degraded"), pair, strict=True):
                if load == 0:
                    continue
                for part, members in self.lists(priority, availability):
                    total = sum(self.endpoints[i].pick_weight for i in members)
                    for i in members:
                        found[i] += Fraction(load, 100) * part * self.endpoints[i].pick_weight / total
        return found

    def random_shares(self) -> list[Fraction]:
        """The same for the policy RANDOM: one draw is both the bucket of the priority and the index into a list."""
        found = [Fraction(0)] * len(self.endpoints)
        state = self.state.priorities
        loads = ([p.healthy_load for p in state], [p.degraded_load for p in state])
        for bucket in range(100):
            priority, availability = choose_priority(bucket, *loads)
            for part, members in self.lists(priority, availability):
                for turn in range(len(members)):
                    index = (bucket + 100 * turn) % len(members)
                    found[members[index]] += part * Fraction(1, 100 * len(members))
        return found
