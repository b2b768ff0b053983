"""Compiled tables against the oracle, on seeded random clusters: exact shares, observed shares, held connections."""

import math
import random
from array import array
from collections import Counter, deque
from dataclasses import replace
from fractions import Fraction
from typing import Any

import pytest
from eastgate.fastpath.tables.cluster_table import ClusterTable

from ..columns import columns, failed
from ..oracle.policies import WeightedLeastRequest, least_request
from ..oracle.shares import Cluster, Endpoint, LocalityName, Settings

STATUSES = [0, 1, 1, 1, 2, 3, 4, 5]


def random_cluster(seed: int) -> tuple[list[Endpoint], dict[tuple[int, LocalityName], int], Settings]:
    """Endpoints with gaps, duplicates, all kinds of health, and settings."""
    rng = random.Random(seed)
    priorities = rng.sample(range(5), rng.randint(1, 3))
    zones = [("r", f"z{i}", "") for i in range(rng.randint(1, 6))]
    statuses = rng.choice([[1], STATUSES, [1, 2], [2, 3], [1, 1, 1, 5]])
    heaviest = rng.choice([1, 3, 100, 10_000_000])
    endpoints = [
        Endpoint(
            f"10.0.{rng.randint(0, 1)}.{rng.randint(1, 60)}:80",
            priority=rng.choice(priorities),
            locality=rng.choice(zones),
            weight=rng.randint(1, heaviest),
            eds_health=rng.choice(statuses),
            failed=rng.random() < 0.1,
        )
        for _ in range(rng.randint(0, 60))
    ]
    weights = {(e.priority, e.locality): rng.choice([0, 1, rng.randint(1, 100)]) for e in endpoints}
    settings = Settings(
        overprovisioning_factor=rng.choice([140, 140, 100, 1, 1_000]),
        panic_threshold=rng.choice([50, 50, 0, 1, 100, 250]),
        locality_weighted=rng.random() < 0.6,
        weighted_priority_health=rng.random() < 0.3,
        fail_traffic_on_panic=rng.random() < 0.3,
    )
    return endpoints, weights, settings


def compiled(
    endpoints: list[Endpoint],
    weights: dict[tuple[int, LocalityName], int],
    settings: Settings,
    *,
    policy: str = "ROUND_ROBIN",
    seed: int = 0,
    **more: Any,
) -> ClusterTable:
    """The table of such a cluster; `more` is for ClusterTable.compile."""
    return ClusterTable.compile(
        columns(endpoints, weights),
        policy=policy,
        overprovisioning_factor=settings.overprovisioning_factor,
        panic_threshold=settings.panic_threshold,
        locality_weighted=settings.locality_weighted,
        weighted_priority_health=settings.weighted_priority_health,
        fail_on_panic=settings.fail_traffic_on_panic,
        factors=array("d", [one.factor for one in endpoints]).tobytes(),
        failed=failed(endpoints),
        seed=seed,
        **more,
    )


def observed(table: ClusterTable, picks: int) -> list[int]:
    """Picks by endpoint."""
    out = array("I", bytes(4 * picks))
    table.pick_many(out)
    counts = Counter(out)
    return [counts[i] for i in range(len(table))]


def chi_square_limit(freedom: int) -> float:
    """Value that chi-square passes with probability 1e-6 (Wilson and Hilferty)."""
    spread = 2 / (9 * freedom)
    return float(freedom * (1 - spread + 4.7534 * math.sqrt(spread)) ** 3)


@pytest.mark.parametrize("seed", range(400))
def test_shares_loads_and_panic_are_those_of_the_oracle(seed: int) -> None:
    endpoints, weights, settings = random_cluster(seed)
    expected = Cluster(endpoints, weights, settings)
    table = compiled(endpoints, weights, settings)
    assert list(table.shares()) == pytest.approx([float(s) for s in expected.shares()], abs=1e-12)
    assert [(p[0], p[1], p[2], p[3], p[4], p[5], p[7]) for p in table.priorities()] == [
        (p.hosts, p.healthy, p.degraded, p.excluded, p.healthy_load, p.degraded_load, p.panic)
        for p in expected.state.priorities
    ]


@pytest.mark.parametrize("policy", ["ROUND_ROBIN", "LEAST_REQUEST"])
@pytest.mark.parametrize("seed", range(100))
def test_shares_in_slow_start_are_those_of_the_oracle(seed: int, policy: str) -> None:
    endpoints, weights, settings = random_cluster(seed)
    rng = random.Random(seed)
    endpoints = [replace(one, factor=rng.choice([1.0, 0.1, rng.uniform(0.001, 1)])) for one in endpoints]
    shares = [float(share) for share in Cluster(endpoints, weights, settings).shares()]
    table = compiled(endpoints, weights, settings, policy=policy, seed=seed)
    # Weights are rounded to a millionth of the lightest endpoint's, or what 32 bits leave of it.
    assert list(table.shares()) == pytest.approx(shares, abs=1e-6)
    picks = 20_000
    for count, share in zip(observed(table, picks), shares, strict=True):
        assert abs(count - share * picks) <= 6 * math.sqrt(share * picks) + 3


def exact_shares(cluster: Cluster, policy: str) -> list[float]:
    """What the oracle says of a policy."""
    return [float(share) for share in (cluster.random_shares() if policy == "RANDOM" else cluster.shares())]


@pytest.mark.parametrize("seed", range(200))
def test_shares_of_random_are_those_of_the_oracle(seed: int) -> None:
    endpoints, weights, settings = random_cluster(seed)
    expected = exact_shares(Cluster(endpoints, weights, settings), "RANDOM")
    table = compiled(endpoints, weights, settings, policy="RANDOM")
    assert list(table.shares()) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("policy", ["ROUND_ROBIN", "LEAST_REQUEST", "RANDOM"])
@pytest.mark.parametrize("seed", range(40))
def test_observed_shares_follow_the_exact_ones(seed: int, policy: str) -> None:
    endpoints, weights, settings = random_cluster(seed)
    shares = exact_shares(Cluster(endpoints, weights, settings), policy)
    table = compiled(endpoints, weights, settings, policy=policy, seed=seed)
    picks = 100_000
    counts = observed(table, picks)
    if sum(shares) == 0:
        assert sum(counts) == 0
        return
    assert all(counts[i] == 0 for i, share in enumerate(shares) if share == 0)
    for i, share in enumerate(shares):
        # Six standard deviations of independent draws, and a few picks for the least; round robin stays far below.
        assert abs(counts[i] - share * picks) <= 6 * math.sqrt(share * picks) + 3


def big_cluster(size: int) -> tuple[list[Endpoint], dict[tuple[int, LocalityName], int], Settings]:
    """Three priorities of six localities each, weights 1 to 100."""
    rng = random.Random(size)
    endpoints = [
        Endpoint(
            f"10.{i >> 16}.{i >> 8 & 255}.{i & 255}:80",
            priority=i % 3,
            locality=("r", f"z{i // 3 % 6}", ""),
            weight=rng.randint(1, 100),
            eds_health=1 if rng.random() < 0.55 else 2,
        )
        for i in range(size)
    ]
    weights = {(p, ("r", f"z{z}", "")): rng.randint(1, 100) for p in range(3) for z in range(6)}
    return endpoints, weights, Settings(locality_weighted=True)


@pytest.mark.parametrize("policy", ["ROUND_ROBIN", "LEAST_REQUEST", "RANDOM"])
@pytest.mark.parametrize("size", [10, 100, 1_000])
def test_a_million_picks_pass_chi_square(size: int, policy: str) -> None:
    endpoints, weights, settings = big_cluster(size)
    shares = exact_shares(Cluster(endpoints, weights, settings), policy)
    picks = 1_000_000
    counts = observed(compiled(endpoints, weights, settings, policy=policy, seed=1), picks)
    used = [i for i, share in enumerate(shares) if share > 0]
    assert sum(counts[i] for i in used) == picks
    statistic = sum((counts[i] - shares[i] * picks) ** 2 / (shares[i] * picks) for i in used)
    assert statistic < chi_square_limit(len(used) - 1)
    if policy == "ROUND_ROBIN":
        assert sum(abs(counts[i] / picks - shares[i]) for i in used) / 2 < 0.001


def test_total_variation_of_the_long_run_is_below_a_tenth_of_a_percent() -> None:
    endpoints, weights, settings = big_cluster(10_000)
    shares = [float(share) for share in Cluster(endpoints, weights, settings).shares()]
    table = compiled(endpoints, weights, settings)
    picks = 20_000_000
    counts = observed(table, picks)
    assert sum(abs(counts[i] / picks - share) for i, share in enumerate(shares)) / 2 < 0.001


# ---- least request under held connections: each connection stays open for a while, so counters steer the picks


def hold_and_pick(table: ClusterTable, picks: int, open_at_once: int) -> list[int]:
    """Counts of picks, with the last `open_at_once` connections open."""
    counts = [0] * len(table)
    held: deque[int] = deque()
    for _ in range(picks):
        if len(held) == open_at_once:
            table.drop(held.popleft())
        endpoint = table.pick()
        table.hold(endpoint)
        held.append(endpoint)
        counts[endpoint] += 1
    return counts


def test_weighted_least_request_under_held_connections_has_envoys_shares() -> None:
    rng = random.Random(11)
    weights = [rng.randint(1, 20) for _ in range(12)]
    endpoints = [Endpoint(f"10.0.0.{i}:80", weight=w) for i, w in enumerate(weights)]
    picks, open_at_once = 20_000, 60
    ours = hold_and_pick(compiled(endpoints, {}, Settings(), policy="LEAST_REQUEST"), picks, open_at_once)
    active = [0] * 12
    model = WeightedLeastRequest(weights, active, seed=99)
    theirs = [0] * 12
    held: deque[int] = deque()
    for _ in range(picks):
        if len(held) == open_at_once:
            active[held.popleft()] -= 1
        picked = model.pick()
        active[picked] += 1
        held.append(picked)
        theirs[picked] += 1
    # Both settle where picks are proportional to weight / (active + 1): far from the shares at equal load.
    assert sum(abs(a - b) for a, b in zip(ours, theirs, strict=True)) / 2 / picks < 0.01
    flat = [picks * w / sum(weights) for w in weights]
    assert sum(abs(a - b) for a, b in zip(theirs, flat, strict=True)) / 2 / picks > 0.05


def test_equal_least_request_under_stuck_connections_has_envoys_shares() -> None:
    size, stuck, picks = 8, {0: 50, 1: 50, 2: 3}, 40_000
    endpoints = [Endpoint(f"10.0.0.{i}:80") for i in range(size)]
    table = compiled(endpoints, {}, Settings(), policy="LEAST_REQUEST")
    active = [0] * size
    for endpoint, count in stuck.items():
        for _ in range(count):
            table.hold(endpoint)
        active[endpoint] = count
    ours = hold_and_pick(table, picks, 10)
    rng = random.Random(3)
    draws = iter(lambda: rng.getrandbits(64), -1)
    theirs = [0] * size
    held: deque[int] = deque()
    for _ in range(picks):
        if len(held) == 10:
            active[held.popleft()] -= 1
        picked = least_request(active, draws)
        active[picked] += 1
        held.append(picked)
        theirs[picked] += 1
    for mine, their in zip(ours, theirs, strict=True):
        assert abs(mine - their) < 8 * math.sqrt(picks / size)


def test_groups_of_least_request_get_their_loads_under_held_connections() -> None:
    # P0 at 2 of 4: 70 %, whatever its connections; the counters steer inside a list only.
    endpoints = [Endpoint(f"10.0.0.{i}:80", eds_health=1 if i < 2 else 2, weight=1 + i) for i in range(4)]
    endpoints += [Endpoint(f"10.0.1.{i}:80", priority=1) for i in range(4)]
    table = compiled(endpoints, {}, Settings(), policy="LEAST_REQUEST")
    counts = hold_and_pick(table, 20_000, 300)
    assert abs(sum(counts[:4]) - 14_000) < 5
    assert sum(Cluster(endpoints, {}, Settings()).shares()[:4]) == Fraction(7, 10)
