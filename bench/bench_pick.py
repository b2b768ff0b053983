"""What a pick costs, beside random.choices and the oracle. `python -P -m pytest bench/bench_pick.py`.

A pick is shorter than a timer can see: every round makes many, and `ns_per_pick` in extra_info is the median round
divided by their number. "engine" calls table_pick through a pointer from a native loop, as the engine does.
"""

import random
from array import array
from itertools import accumulate
from time import perf_counter
from typing import Any

import pytest
from eastgate.fastpath.tables.cluster_table import ClusterTable
from eastgate.xds.resources import Hashing

from tests.columns import columns
from tests.oracle.hash_tables import Maglev, Ring, normalised
from tests.oracle.policies import RoundRobin, WeightedLeastRequest
from tests.oracle.priority import choose_priority
from tests.oracle.shares import Endpoint

from .clusters import SIZES, oracle_cluster, weighted_columns

PICKS = 200_000


def measure(benchmark: Any, call: Any, *arguments: Any, picks: int, rounds: int = 15) -> None:
    """Time rounds of `picks` picks and note nanoseconds per pick."""
    benchmark.pedantic(call, args=arguments, rounds=rounds, warmup_rounds=2)
    benchmark.extra_info["ns_per_pick"] = round(benchmark.stats.stats.median / picks * 1e9, 3)


def weighted(size: int, policy: str = "ROUND_ROBIN", *, equal: bool = False) -> ClusterTable:
    """Three priorities of six localities, locality weighting on."""
    return ClusterTable.compile(
        weighted_columns(size, equal=equal), policy=policy, locality_weighted=True, panic_threshold=0, seed=1
    )


@pytest.mark.benchmark(group="pick: weighted round robin, 3 priorities x 6 localities")
@pytest.mark.parametrize("size", SIZES)
def test_engine_pick(benchmark: Any, size: int) -> None:
    table = weighted(size)
    benchmark.extra_info["schedule"] = table.schedule()
    benchmark.extra_info["bytes_per_endpoint"] = round(table.memory() / size, 1)
    measure(benchmark, table.spin, PICKS, picks=PICKS)


@pytest.mark.benchmark(group="pick: weighted round robin, 3 priorities x 6 localities")
@pytest.mark.parametrize("size", SIZES)
def test_pick_many(benchmark: Any, size: int) -> None:
    table = weighted(size)
    out = array("I", bytes(4 * PICKS))
    measure(benchmark, table.pick_many, out, picks=PICKS)


@pytest.mark.benchmark(group="pick: weighted round robin, 3 priorities x 6 localities")
@pytest.mark.parametrize("size", SIZES)
def test_random_choices(benchmark: Any, size: int) -> None:
    sums = list(accumulate(weighted(size).shares()))
    rows = range(size)
    measure(benchmark, lambda: [random.choices(rows, cum_weights=sums) for _ in range(2_000)], picks=2_000)


@pytest.mark.benchmark(group="pick: weighted round robin, 3 priorities x 6 localities")
@pytest.mark.parametrize("size", SIZES[:3])
def test_oracle(benchmark: Any, size: int) -> None:
    cluster = oracle_cluster(size)
    state = cluster.state.priorities
    loads = ([p.healthy_load for p in state], [p.degraded_load for p in state])
    sources = {}
    for priority in range(3):
        for part, members in cluster.lists(priority, "healthy"):
            source = RoundRobin(seed=1)
            source.refresh([cluster.endpoints[i].weight for i in members])
            sources.setdefault(priority, []).append((float(part), source))
    rng = random.Random(1)

    def pick() -> None:
        for _ in range(20):
            priority, _availability = choose_priority(rng.getrandbits(64), *loads)
            lists = sources[priority]
            rng.choices([s for _, s in lists], [p for p, _ in lists])[0].pick()

    measure(benchmark, pick, picks=20, rounds=10)


@pytest.mark.benchmark(group="pick: plain round robin")
@pytest.mark.parametrize("size", SIZES)
def test_engine_pick_equal_weights(benchmark: Any, size: int) -> None:
    table = ClusterTable.compile(columns([Endpoint(f"10.0.{i >> 8}.{i & 255}:80") for i in range(size)]))
    measure(benchmark, table.spin, PICKS, picks=PICKS)


@pytest.mark.benchmark(group="pick: least request, equal weights, 18 lists")
@pytest.mark.parametrize("size", SIZES[1:])
def test_engine_pick_least_request(benchmark: Any, size: int) -> None:
    measure(benchmark, weighted(size, "LEAST_REQUEST", equal=True).spin, PICKS, picks=PICKS)


@pytest.mark.benchmark(group="pick: least request, unequal weights, one list")
@pytest.mark.parametrize("size", [10, 100, 1_000, 10_000])
def test_engine_pick_weighted_least_request(benchmark: Any, size: int) -> None:
    rng = random.Random(size)
    rows = [Endpoint(f"10.0.{i >> 8}.{i & 255}:80", weight=rng.randint(1, 100)) for i in range(size)]
    table = ClusterTable.compile(columns(rows), policy="LEAST_REQUEST")
    measure(benchmark, table.spin, PICKS, picks=PICKS)


@pytest.mark.benchmark(group="pick: least request, unequal weights, one list")
@pytest.mark.parametrize("size", [10, 100, 1_000])
def test_oracle_weighted_least_request(benchmark: Any, size: int) -> None:
    rng = random.Random(size)
    policy = WeightedLeastRequest([rng.randint(1, 100) for _ in range(size)], [0] * size, seed=0)
    measure(benchmark, lambda: [policy.pick() for _ in range(20)], picks=20, rounds=10)


@pytest.mark.benchmark(group="pick: every policy, 3 priorities x 6 localities, to 100,000 endpoints")
@pytest.mark.parametrize("size", [*SIZES, 100_000])
@pytest.mark.parametrize("policy", ["ROUND_ROBIN", "LEAST_REQUEST", "RANDOM", "RING_HASH", "MAGLEV"])
def test_engine_pick_of_every_policy(benchmark: Any, policy: str, size: int) -> None:
    # LEAST_REQUEST with the unequal weights that the others have too: a heap for each list.
    given = weighted_columns(size)
    started = perf_counter()
    table = ClusterTable.compile(given, policy=policy, locality_weighted=True, panic_threshold=0, seed=1)
    benchmark.extra_info["compiled_ms"] = round((perf_counter() - started) * 1000, 2)
    benchmark.extra_info["schedule"] = table.schedule()
    benchmark.extra_info["bytes_per_endpoint"] = round(table.memory() / size, 1)
    measure(benchmark, table.spin, PICKS, picks=PICKS)


@pytest.mark.benchmark(group="pick: by a hash, one list")
@pytest.mark.parametrize("size", [10, 1_000, 100_000])
@pytest.mark.parametrize(("policy", "factor"), [("RING_HASH", 0), ("MAGLEV", 0), ("RING_HASH", 125)])
def test_engine_pick_by_a_hash(benchmark: Any, policy: str, factor: int, size: int) -> None:
    rows = [Endpoint(f"10.{i >> 16}.{i >> 8 & 255}.{i & 255}:80") for i in range(size)]
    table = ClusterTable.compile(columns(rows), policy=policy, hashing=Hashing(balance_factor=factor))
    measure(benchmark, table.spin, PICKS, picks=PICKS)


@pytest.mark.benchmark(group="pick: by a hash, one list")
@pytest.mark.parametrize("size", [10, 1_000])
@pytest.mark.parametrize("policy", ["RING_HASH", "MAGLEV"])
def test_oracle_by_a_hash(benchmark: Any, policy: str, size: int) -> None:
    hosts = normalised([(f"10.0.{i >> 8}.{i & 255}:80", 1) for i in range(size)])
    table = Ring(hosts) if policy == "RING_HASH" else Maglev(hosts)
    rng = random.Random(1)
    measure(benchmark, lambda: [table.pick(rng.getrandbits(64)) for _ in range(200)], picks=200, rounds=10)


@pytest.mark.benchmark(group="pick: one call from Python")
def test_python_pick(benchmark: Any) -> None:
    table = weighted(1_000)

    def loop() -> None:
        pick = table.pick
        for _ in range(PICKS):
            pick()

    measure(benchmark, loop, picks=PICKS)


@pytest.mark.benchmark(group="pick: one call from Python")
def test_empty_loop(benchmark: Any) -> None:
    def loop() -> None:
        for _ in range(PICKS):
            pass

    measure(benchmark, loop, picks=PICKS)


@pytest.mark.benchmark(group="pick: one call from Python")
def test_random_choices_call(benchmark: Any) -> None:
    sums = list(accumulate(weighted(1_000).shares()))
    rows = range(1_000)
    measure(benchmark, lambda: [random.choices(rows, cum_weights=sums) for _ in range(2_000)], picks=2_000)
