from collections.abc import Sequence
from typing import final

def classify_health(eds_status: int, *, failed: bool = False) -> tuple[str, bool]:
    """Return ("healthy" | "degraded" | "unhealthy", excluded). ValueError for a status that EDS does not define."""

def choose_priority(hash_value: int, healthy_load: Sequence[int], degraded_load: Sequence[int]) -> tuple[int, bool]:
    """Return (priority, degraded) for a 64-bit hash or random value."""

def effective_locality_weight(
    weight: int, *, eligible: int, total: int, excluded: int = 0, overprovisioning_factor: int = 140
) -> float:
    """Return the weight of a locality after losing endpoints; 0.0 when none is eligible."""

@final
class PriorityLoads:
    """Loads and panic of one load balancer, updated priority by priority as Envoy does. Not thread safe."""

    panic_threshold: int
    def __init__(self, *, panic_threshold: int = 50) -> None: ...
    def update(
        self,
        priority: int,
        *,
        hosts: int,
        healthy: int,
        degraded: int = 0,
        excluded: int = 0,
        overprovisioning_factor: int = 140,
        weights: tuple[int, int, int, int] | None = None,
    ) -> None:
        """Replace one priority and recompute all loads. `weights`: sums of endpoint weights (all, healthy, degraded,
        excluded), given when weighted_priority_health is on. ValueError for counts that cannot be.
        """
    @property
    def healthy_load(self) -> tuple[int, ...]: ...
    @property
    def degraded_load(self) -> tuple[int, ...]: ...
    @property
    def availability(self) -> tuple[tuple[int, int], ...]:
        """(healthy, degraded) percent of each priority, before normalising."""
    @property
    def panic(self) -> tuple[bool, ...]: ...
    def is_low(self, priority: int) -> bool:
        """Whether the priority by itself is below the panic threshold, the others left aside."""
