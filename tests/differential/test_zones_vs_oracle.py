"""Zone-aware routing against the oracle, on seeded random clusters and local clusters."""

import math
import random
from array import array
from collections import Counter
from dataclasses import dataclass

import pytest
from eastgate.fastpath.tables.cluster_table import ClusterTable

from ..columns import columns, failed
from ..oracle.priority import is_low
from ..oracle.shares import Cluster, Endpoint, LocalityName, Settings, ZonePicks
from ..oracle.zone import ZoneRouting

ZONES = [("r", f"z{number}", "") for number in range(5)]
STATUSES = [1, 1, 1, 1, 2, 3, 5]


@dataclass(frozen=True)
class ZoneAware:
    """Settings as the proxy hands them over."""

    routing_enabled: int = 100
    min_cluster_size: int = 6
    force_min_size: int = 0
    by_weight: bool = False


def random_endpoints(rng: random.Random, net: int, priorities: int) -> list[Endpoint]:
    zones = rng.sample(ZONES, rng.randint(1, 5))
    statuses = rng.choice([[1], STATUSES, [1, 2], [2, 2, 5, 1]])
    return [
        Endpoint(
            f"10.{net}.0.{rng.randint(1, 40)}:80",
            priority=rng.choice([0, 0, rng.randrange(priorities)]),
            locality=rng.choice(zones),
            weight=rng.randint(1, 9),
            eds_health=rng.choice(statuses),
            failed=rng.random() < 0.05,
        )
        for _ in range(rng.randint(0, 30))
    ]


def by_zone(cluster: Cluster, own: LocalityName | None, *, by_weight: bool) -> list[tuple[LocalityName, int]]:
    """Localities of P0 that have endpoints, the proxy's own first, with their healthy ones."""
    hosts = cluster.hosts(0)
    names = {cluster.endpoints[i].locality for i in hosts}
    found = []
    for name in sorted(names, key=lambda one: (one != own, one)):
        healthy = cluster.of_class([i for i in hosts if cluster.endpoints[i].locality == name], "Healthy")
        found.append((name, sum(cluster.endpoints[i].weight for i in healthy) if by_weight else len(healthy)))
    return found


def expected_zones(
    cluster: Cluster, local: Cluster, own: LocalityName | None, settings: ZoneAware, threshold: int
) -> ZonePicks | None:
    """What the oracle says of the zones; None when they are not looked at."""
    upstream, mine = (by_zone(one, own, by_weight=settings.by_weight) for one in (cluster, local))
    healthy = [len(cluster.of_class(cluster.hosts(0), "Healthy"))]
    here = [i for i in cluster.hosts(0) if cluster.endpoints[i].locality == own]
    forced = settings.force_min_size
    numbers = {name: str(name) for name, _ in (*upstream, *mine)}
    routing = ZoneRouting(
        [(numbers[name], count) for name, count in upstream],
        [(numbers[name], count) for name, count in mine],
        has_local=any(name == own for name, _ in upstream),
        minimum=0,
        local_hosts=sum(local.endpoints[i].locality == own for i in local.hosts(0)),
        forcing=bool(forced),
        force=bool(forced) and len(cluster.of_class(here, "Healthy")) >= forced,
    )
    if routing.state == "none" or healthy[0] < settings.min_cluster_size or not settings.routing_enabled:
        return None
    parts = dict(zip([name for name, _ in upstream], routing.parts(), strict=True))
    return ZonePicks(parts, settings.routing_enabled, is_low(local.state.priorities[0], min(100, threshold)))


def compiled(
    endpoints: list[Endpoint], settings: Settings, policy: str, seed: int = 0, **zones: object
) -> ClusterTable:
    return ClusterTable.compile(
        columns(endpoints),
        policy=policy,
        overprovisioning_factor=settings.overprovisioning_factor,
        panic_threshold=settings.panic_threshold,
        fail_on_panic=settings.fail_traffic_on_panic,
        failed=failed(endpoints),
        seed=seed,
        **zones,  # type: ignore[arg-type]
    )


@pytest.mark.parametrize("seed", range(600))
def test_shares_by_zone_are_those_of_the_oracle(seed: int) -> None:
    rng = random.Random(seed)
    settings = Settings(
        overprovisioning_factor=rng.choice([140, 100]),
        panic_threshold=rng.choice([50, 0, 30, 100]),
        fail_traffic_on_panic=rng.random() < 0.5,
    )
    zone_aware = ZoneAware(rng.choice([100, 100, 0, 1, 37]), rng.choice([6, 0, 2]), rng.choice([0, 0, 1, 3]))
    zone_aware = ZoneAware(*list(vars(zone_aware).values())[:3], by_weight=rng.random() < 0.3)
    own = rng.choice([*ZONES, *ZONES, None, ("elsewhere", "", "")])
    endpoints, locals_ = random_endpoints(rng, 0, 3), random_endpoints(rng, 1, 1)
    local = compiled(locals_, settings, "ROUND_ROBIN")
    cluster = Cluster(endpoints, {}, settings)
    cluster.zones = expected_zones(cluster, Cluster(locals_, {}, settings), own, zone_aware, settings.panic_threshold)
    policy = rng.choice(["ROUND_ROBIN", "LEAST_REQUEST", "RANDOM"])
    table = compiled(endpoints, settings, policy, seed, own_locality=own, zone_aware=zone_aware, local=local.census())
    shares = [float(share) for share in (cluster.random_shares() if policy == "RANDOM" else cluster.shares())]
    assert table.zoned == (cluster.zones is not None)
    assert list(table.shares()) == pytest.approx(shares, abs=1e-12)
    if endpoints and sum(shares):
        assert table.refused == pytest.approx(1 - sum(shares), abs=1e-12)
    out = array("I", bytes(4 * 20_000))
    table.pick_many(out)
    counts = Counter(out)
    for row, share in enumerate(shares):
        assert abs(counts[row] - share * 20_000) <= 6 * math.sqrt(share * 20_000) + 3
        assert share or not counts[row]


def test_random_configurations_look_at_zones_often_enough() -> None:
    """The test above would show little if its clusters were all too small."""
    seen: Counter[str] = Counter()
    for seed in range(600):
        rng = random.Random(seed)
        rng.choice([140, 100]), rng.choice([50, 0, 30, 100]), rng.random()
        endpoints, locals_ = random_endpoints(rng, 0, 3), random_endpoints(rng, 1, 1)
        cluster = Cluster(endpoints, {}, Settings())
        zones = expected_zones(cluster, Cluster(locals_, {}, Settings()), ZONES[0], ZoneAware(), 50)
        seen[
            "none" if zones is None else "low" if zones.local_low else "direct" if 1 in zones.parts.values() else "part"
        ] += 1
    assert min(seen[kind] for kind in ("none", "low", "direct", "part")) >= 10, seen


@pytest.mark.parametrize("policy", ["RING_HASH", "MAGLEV"])
def test_policies_that_hash_look_at_no_zones(policy: str) -> None:
    members = [Endpoint(f"10.0.0.{n}:80", locality=ZONES[n % 2]) for n in range(10)]
    census = compiled(members, Settings(), "ROUND_ROBIN").census()
    assert compiled(members, Settings(), "RANDOM", own_locality=ZONES[0], local=census).zoned
    assert not compiled(members, Settings(), policy, own_locality=ZONES[0], local=census).zoned


def test_weighted_localities_look_at_no_zones() -> None:
    members = [Endpoint(f"10.0.0.{n}:80", locality=ZONES[n % 2]) for n in range(10)]
    census = compiled(members, Settings(), "ROUND_ROBIN").census()
    table = ClusterTable.compile(columns(members), own_locality=ZONES[0], local=census, locality_weighted=True)
    assert not table.zoned
