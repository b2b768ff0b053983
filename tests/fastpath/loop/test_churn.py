"""Shares while endpoints are refreshed all the time: nobody starves because a new table begins anew (envoy#10064)."""

import random
from array import array

import pytest
from eastgate.fastpath.tables.cluster_table import ClusterTable

from ...columns import columns
from ...oracle.policies import RoundRobin
from ...oracle.shares import Endpoint

HEAVY, LIGHT = 128, 10
WEIGHTS = [1000] * HEAVY + [100] * LIGHT
DUE = 100 * LIGHT / sum(WEIGHTS)
REFRESHES, PICKS = 5000, 10


def endpoints(scale: int) -> list[Endpoint]:
    """The same shares with other weights, so that every refresh makes another table."""
    return [Endpoint(f"10.0.{i >> 8}.{i & 255}:80", weight=weight * scale) for i, weight in enumerate(WEIGHTS)]


@pytest.mark.acceptance(feature="first picks")
@pytest.mark.parametrize("policy", ["ROUND_ROBIN", "LEAST_REQUEST"])
@pytest.mark.parametrize("seed", range(2))
def test_light_endpoints_get_their_share_although_every_ten_picks_refresh(policy: str, seed: int) -> None:
    rng = random.Random(seed)
    sides = [columns(endpoints(scale)) for scale in (1, 2)]
    table, light, first_light = None, 0, 0
    out = array("I", bytes(4 * PICKS))
    for number in range(REFRESHES):
        # A worker's place in a table is left to chance, as a seed is here.
        table = ClusterTable.compile(sides[number % 2], policy=policy, previous=table, seed=rng.getrandbits(64))
        table.pick_many(out)
        light += sum(index >= HEAVY for index in out)
        first_light += out[0] >= HEAVY
    assert light / (REFRESHES * PICKS) == pytest.approx(DUE, rel=0.15)
    # The first pick after a refresh is a pick as any other: 39 are due, give or take 6.
    assert 39 - 6 * 6.2 < first_light < 39 + 6 * 6.2
    assert first_light > 0


@pytest.mark.acceptance(feature="first picks")
def test_envoys_rule_would_not_pass() -> None:
    # Its balancer keeps one seed for ever, so that each refresh repeats the same ten picks.
    shares = []
    for seed in range(40):
        source, light = RoundRobin(seed * 7919 + 11), 0
        for _ in range(20):
            source.refresh(WEIGHTS)
            light += sum(source.pick() >= HEAVY for _ in range(PICKS))
        shares.append(light / (20 * PICKS))
    assert sum(abs(share - DUE) > 0.15 * DUE for share in shares) > 30
