"""Availability, loads and panic of one load balancer that remembers earlier updates (Envoy: load_balancer_impl.cc)."""

from dataclasses import dataclass


@dataclass
class Priority:
    """What a load balancer stores of one priority."""

    hosts: int = 0
    healthy: int = 0
    degraded: int = 0
    excluded: int = 0
    healthy_availability: int = 0
    degraded_availability: int = 0
    healthy_load: int = 0
    degraded_load: int = 0
    panic: bool = False


def is_low(host: Priority, threshold: int) -> bool:
    """Raw panic predicate of one priority, by host counts, degraded hosts counting as available."""
    count = host.hosts - host.excluded
    healthy = 100.0 * host.healthy / count if count else 0.0
    degraded = 100.0 * host.degraded / count if count else 0.0
    return healthy + degraded < threshold


class LoadBalancerState:
    """Priorities of one balancer; updated one at a time, everything derived is recomputed each time."""

    def __init__(self, panic_threshold: int = 50) -> None:
        self.panic_threshold = panic_threshold
        self.priorities: list[Priority] = []

    def update(
        self,
        index: int,
        *,
        hosts: int,
        healthy: int,
        degraded: int = 0,
        excluded: int = 0,
        overprovisioning_factor: int = 140,
        weights: tuple[int, int, int, int] | None = None,
    ) -> None:
        """`weights`: sums over all, healthy, degraded, excluded hosts, with weighted_priority_health."""
        while len(self.priorities) <= index:
            self.priorities.append(Priority())
        changed = self.priorities[index]
        changed.hosts, changed.healthy, changed.degraded, changed.excluded = hosts, healthy, degraded, excluded
        changed.healthy_availability = changed.degraded_availability = 0
        if hosts - excluded > 0:
            if weights is None:
                total, good, half = hosts - excluded, healthy, degraded
            else:
                total, good, half = weights[0] - weights[3], weights[1], weights[2]
            changed.healthy_availability = min(100, overprovisioning_factor * good // total)
            changed.degraded_availability = min(100, overprovisioning_factor * half // total)
        self._recompute_loads()
        self._recompute_panic()

    @property
    def norm(self) -> int:
        """Normalised total availability."""
        return min(100, sum(p.healthy_availability + p.degraded_availability for p in self.priorities))

    def _recompute_loads(self) -> None:
        norm = self.norm
        if norm == 0:
            return  # the loads of before stay
        remaining = 100
        for p in self.priorities:
            p.healthy_load = min(remaining, p.healthy_availability * 100 // norm)
            remaining -= p.healthy_load
        for p in self.priorities:
            p.degraded_load = min(remaining, p.degraded_availability * 100 // norm)
            remaining -= p.degraded_load
        if remaining:
            first_healthy = next((p for p in self.priorities if p.healthy_availability), None)
            if first_healthy is not None:
                first_healthy.healthy_load += remaining
            else:
                next(p for p in self.priorities if p.degraded_availability).degraded_load += remaining

    def _recompute_panic(self) -> None:
        threshold = min(100, self.panic_threshold)
        if threshold == 0 and self.norm == 0:
            self.priorities[0].healthy_load = 100
            return
        for p in self.priorities:
            p.panic = False if self.norm == 100 else is_low(p, threshold)
        if all(p.panic for p in self.priorities):
            total = sum(p.hosts for p in self.priorities)
            if total == 0:
                self.priorities[0].healthy_load = 100
                return
            for p in self.priorities:
                p.healthy_load, p.degraded_load = 100 * p.hosts // total, 0
            first = next(p for p in self.priorities if p.hosts)
            first.healthy_load += 100 - sum(p.healthy_load for p in self.priorities)


def choose_priority(hash_value: int, healthy_load: list[int], degraded_load: list[int]) -> tuple[int, str]:
    """Priority and availability for a hash."""
    bucket = hash_value % 100 + 1
    reached = 0
    for availability, loads in (("healthy", healthy_load), ("degraded", degraded_load)):
        for index, load in enumerate(loads):
            reached += load
            if bucket <= reached:
                return index, availability
    return 0, "healthy"
