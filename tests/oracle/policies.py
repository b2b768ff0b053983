"""The policies inside one list of hosts: round robin, least request, random (Envoy: *_lb.cc)."""

from collections.abc import Iterator, Sequence

from .edf import EdfScheduler


class RoundRobin:
    """One host source. Unequal weights: a scheduler; equal ones: an index that survives changes of the list."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.index = seed
        self.weights: list[float] = []
        self.scheduler: EdfScheduler | None = None

    def refresh(self, weights: Sequence[float]) -> None:
        """The host set was updated."""
        self.weights = list(weights)
        self.scheduler = EdfScheduler.with_picks(weights, self.seed) if len(set(weights)) > 1 else None

    def change_weights(self, weights: Sequence[float]) -> None:
        """Weights changed without an update of the host set."""
        self.weights = list(weights)

    def pick(self) -> int:
        """Index of the host."""
        if self.scheduler is not None:
            return self.scheduler.pick(self.weights.__getitem__)
        picked = self.index % len(self.weights)
        self.index += 1
        return picked


class WeightedLeastRequest:
    """Unequal weights: the scheduler with weight / (active + 1) ** bias, evaluated when an entry is put back."""

    def __init__(self, weights: Sequence[int], active: list[int], seed: int, bias: float = 1.0) -> None:
        self.weights, self.active, self.bias = weights, active, bias
        self.scheduler = EdfScheduler.with_picks([self.weight_now(i) for i in range(len(weights))], seed)

    def weight_now(self, index: int) -> float:
        """Weight of a host at this moment."""
        load = float(self.active[index] + 1)
        if self.bias == 1.0:
            return self.weights[index] / load
        return float(self.weights[index]) if self.bias == 0.0 else self.weights[index] / load**self.bias

    def pick(self) -> int:
        """Index of the host."""
        return self.scheduler.pick(self.weight_now)


def least_request(active: Sequence[int], draws: Iterator[int], choice_count: int = 2) -> int:
    """Equal weights: draw with replacement, keep the first with strictly fewer active requests."""
    best = next(draws) % len(active)
    for _ in range(choice_count - 1):
        candidate = next(draws) % len(active)
        if active[candidate] < active[best]:
            best = candidate
    return best


def least_request_full_scan(active: Sequence[int], draws: Iterator[int]) -> int:
    """Scan all; a random one of those with the fewest."""
    best, ties = 0, 1
    for index in range(1, len(active)):
        if active[index] < active[best]:
            best, ties = index, 1
        elif active[index] == active[best]:
            ties += 1
            if next(draws) % ties == 0:
                best = index
    return best


def weighted_cluster(random_value: int, clusters: Sequence[tuple[str, int]]) -> str:
    """Half-open intervals in configuration order."""
    value = random_value % sum(weight for _, weight in clusters)
    for name, weight in clusters:
        if value < weight:
            return name
        value -= weight
    raise AssertionError("weights sum to the modulus")
