"""Clusters of the selection benches: three priorities of six localities, seeded."""

import random

from eastgate.xds.columns import Columns

from tests.columns import columns
from tests.oracle.shares import Cluster, Endpoint, LocalityName, Settings

SIZES = (10, 100, 1_000, 10_000)


def endpoints(size: int, *, equal: bool = False) -> list[Endpoint]:
    """Weights 1 to 100, or all 1; six of ten healthy, so that all three priorities take picks."""
    rng = random.Random(size)
    return [
        Endpoint(
            f"10.{i >> 16}.{i >> 8 & 255}.{i & 255}:15443",
            priority=i % 3,
            locality=("region", f"zone-{i // 3 % 6}", ""),
            weight=1 if equal else rng.randint(1, 100),
            eds_health=1 if rng.random() < 0.3 else 2,
        )
        for i in range(size)
    ]


def locality_weights() -> dict[tuple[int, LocalityName], int]:
    """A weight for each of the 18 localities."""
    rng = random.Random(18)
    return {(p, ("region", f"zone-{z}", "")): rng.randint(1, 100) for p in range(3) for z in range(6)}


def weighted_columns(size: int, *, equal: bool = False) -> Columns:
    """Columns of such a cluster."""
    return columns(endpoints(size, equal=equal), locality_weights())


def oracle_cluster(size: int) -> Cluster:
    """The same cluster for the oracle; compile with panic_threshold 0 beside it."""
    return Cluster(endpoints(size), locality_weights(), Settings(panic_threshold=0, locality_weighted=True))
