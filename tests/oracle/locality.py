"""Locality weights and the scheduler that walks them (Envoy: locality_wrr.cc)."""

from collections.abc import Sequence

from .edf import EdfScheduler


def effective_weight(weight: int, eligible: int, total: int, excluded: int, overprovisioning_factor: int) -> float:
    """Weight of a locality after losing hosts, in doubles and in Envoy's order of operations."""
    available = total - excluded
    if available == 0:
        return 0.0
    ratio = 1.0 * eligible / available
    return weight * min(1.0, (overprovisioning_factor / 100.0) * ratio)


class LocalityScheduler:
    """Chooses a locality per pick; None when there is none to choose."""

    def __init__(self, weights: Sequence[float], seed: int) -> None:
        self.index = [index for index, weight in enumerate(weights) if weight > 0]
        self.weights = [weights[index] for index in self.index]
        self.scheduler = EdfScheduler.with_picks(self.weights, seed) if self.index else None

    def pick(self) -> int | None:
        """Index of the locality."""
        if self.scheduler is None:
            return None
        return self.index[self.scheduler.pick(self.weights.__getitem__)]
