"""Rings, Maglev tables and bounded load against the oracle, on seeded random clusters: the same endpoint for a hash."""

import random
from dataclasses import replace

import pytest
from eastgate.fastpath.tables.cluster_table import ClusterTable

from ..columns import columns
from ..oracle.hash_tables import bounded, slots
from ..oracle.hashed_cluster import HashedCluster
from ..oracle.shares import Cluster, Endpoint
from ..vectors.product_tables import Hashing
from .test_cluster_table_vs_oracle import chi_square_limit, compiled, observed, random_cluster

HASHES = 400


def hashes(seed: int) -> list[int]:
    rng = random.Random(seed)
    return [0, (1 << 64) - 1, *(rng.getrandbits(64) for _ in range(HASHES))]


def compiled_pair(seed: int, policy: str) -> tuple[list[Endpoint], HashedCluster, ClusterTable]:
    """A random cluster with random settings as the oracle and the product have it."""
    endpoints, weights, settings = random_cluster(seed)
    # Weights of tens of millions make rings of millions, which the oracle builds for minutes.
    endpoints = [replace(one, weight=min(one.weight, 300)) for one in endpoints]
    rng = random.Random(-seed - 1)
    minimum = rng.choice([1, 7, 64, 300])
    maximum = rng.choice([minimum, 500, 500])
    maximum = max(minimum, maximum)
    function = rng.choice(["XX_HASH", "MURMUR_HASH_2"])
    size = rng.choice([2, 5, 251, 1021])
    own = rng.choice([None, ("r", "z1", ""), ("r", "nowhere", "")])
    oracle = HashedCluster(
        Cluster(endpoints, weights, settings),
        maglev=policy == "MAGLEV",
        sizes=(minimum, maximum),
        hash_function=function.lower(),
        table_size=size,
        own=own,
    )
    hashing = Hashing(function, minimum, maximum, size)
    table = compiled(endpoints, weights, settings, policy=policy, seed=seed, hashing=hashing, own_locality=own)
    return endpoints, oracle, table


@pytest.mark.parametrize("policy", ["RING_HASH", "MAGLEV"])
@pytest.mark.parametrize("seed", range(120))
def test_a_hash_leads_to_the_same_endpoint(seed: int, policy: str) -> None:
    endpoints, oracle, table = compiled_pair(seed, policy)
    for value in hashes(seed):
        row = table.pick_hash(value)
        assert (endpoints[row].address if row >= 0 else None) == oracle.pick(value), value


@pytest.mark.parametrize("policy", ["RING_HASH", "MAGLEV"])
@pytest.mark.parametrize("seed", range(60))
def test_shares_are_those_of_picks_without_a_hash(seed: int, policy: str) -> None:
    _, _, table = compiled_pair(seed, policy)
    shares = list(table.shares())
    picks = 20_000
    counts = observed(table, picks)
    # What is missing to 1 are picks that find nobody.
    pairs = [*zip(counts, shares, strict=True), (picks - sum(counts), 1.0 - sum(shares))]
    used = [(count, share) for count, share in pairs if share > 1e-12]
    assert sum(count for count, _ in used) == picks
    # Cells too small for chi-square are put together.
    big = [(count, share) for count, share in used if share * picks >= 5]
    rest = (picks - sum(count for count, _ in big), 1.0 - sum(share for _, share in big))
    cells = [*big, rest] if rest[1] * picks >= 5 else big
    statistic = sum((count - share * picks) ** 2 / (share * picks) for count, share in cells)
    assert statistic < chi_square_limit(max(len(cells) - 1, 1))


@pytest.mark.parametrize("policy", ["RING_HASH", "MAGLEV"])
@pytest.mark.parametrize("factor", [100, 125, 200])
def test_bounded_load_passes_over_the_same_endpoints(policy: str, factor: int) -> None:
    rng = random.Random(factor)
    endpoints = [Endpoint(f"10.0.0.{number}:80", weight=rng.randint(1, 3)) for number in range(9)]
    hashing = Hashing(minimum_ring_size=64, table_size=251, balance_factor=factor)
    table = ClusterTable.compile(columns(endpoints), policy=policy, hashing=hashing)
    plain = ClusterTable.compile(columns(endpoints), policy=policy, hashing=replace(hashing, balance_factor=0))
    whole = sum(one.weight for one in endpoints)
    active = [0] * len(endpoints)
    stood_back = 0
    for value in hashes(factor):
        # Keys sort as rows do: the list of normalised weights is in the order of rows.
        allowed = [slots(sum(active), factor, one.weight / whole)[1] for one in endpoints]
        overload = {row: active[row] / allowed[row] for row in range(len(endpoints))}
        candidate = plain.pick_hash(value)
        expected = bounded(value, candidate, overload, len(endpoints))
        assert table.pick_hash(value) == expected
        stood_back += expected != candidate
        table.hold(expected)
        active[expected] += 1
        if rng.random() < 0.3:
            gone = rng.choice([row for row, count in enumerate(active) if count])
            table.drop(gone)
            active[gone] -= 1
    assert stood_back > 0


def test_bounded_load_keeps_everybody_below_its_part() -> None:
    endpoints = [Endpoint(f"10.0.0.{number}:80") for number in range(10)]
    table = ClusterTable.compile(columns(endpoints), policy="RING_HASH", hashing=Hashing(balance_factor=110))
    for _ in range(1_000):
        table.hold(table.pick_hash(77))
    # 110 % of 100 each, and the one more that reaches the limit.
    assert max(table.state(row)[0] for row in range(10)) <= 112
    assert table.state(table.pick_hash(77))[0] <= 112


@pytest.mark.parametrize("policy", ["RING_HASH", "MAGLEV"])
@pytest.mark.parametrize("size", [10, 100, 1_000])
def test_a_million_picks_without_a_hash_pass_chi_square(size: int, policy: str) -> None:
    rng = random.Random(size)
    endpoints = [
        Endpoint(f"10.{i >> 8}.{i & 255}.1:80", i % 3, weight=rng.randint(1, 100), eds_health=1 if i % 5 < 3 else 2)
        for i in range(size)
    ]
    table = ClusterTable.compile(columns(endpoints), policy=policy, seed=5)
    shares, picks = list(table.shares()), 1_000_000
    assert sum(shares) == pytest.approx(1.0, abs=1e-9)
    counts = observed(table, picks)
    used = [i for i, share in enumerate(shares) if share * picks >= 5]
    assert sum(counts) == picks
    assert all(counts[i] == 0 for i, share in enumerate(shares) if share == 0)
    statistic = sum((counts[i] - shares[i] * picks) ** 2 / (shares[i] * picks) for i in used)
    assert statistic < chi_square_limit(len(used) - 1)
