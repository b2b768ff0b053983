"""How fast is a pick? Copy this file anywhere: it needs eastgate and pytest-benchmark, and nothing of a checkout.

    pytest bench_selection.py                           a table
    pytest bench_selection.py --benchmark-histogram     a plot, with pytest-benchmark[histogram]
    pytest bench_selection.py --benchmark-json x.json   numbers for programs of your own

A pick is shorter than a timer can see: each round makes PICKS of them. Divide a round's time by PICKS, or read
`ns_per_pick` in `extra_info` of the JSON.
"""

import random
from array import array
from itertools import accumulate
from typing import Any

import pytest
from eastgate.fastpath import ClusterTable, Endpoint, Locality

PICKS = 10_000
SIZES = (10, 1000, 10_000)
POLICIES = ("ROUND_ROBIN", "LEAST_REQUEST", "RANDOM", "RING_HASH", "MAGLEV")


def endpoints(size: int) -> list[Endpoint]:
    """Three zones, weights 1 to 100."""
    draw = random.Random(1)
    return [
        Endpoint(
            f"10.0.{row >> 8}.{row & 255}:80",
            weight=draw.randint(1, 100),
            locality=Locality("eu", f"zone-{row % 3}"),
        )
        for row in range(size)
    ]


def measured(benchmark: Any, call: Any, *arguments: Any) -> None:
    benchmark.pedantic(call, args=arguments, rounds=20, warmup_rounds=2)
    if benchmark.stats is not None:
        benchmark.extra_info["ns_per_pick"] = benchmark.stats.stats.median / PICKS * 1e9


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("policy", POLICIES)
def test_native_picks(benchmark: Any, policy: str, size: int) -> None:
    """As the engine picks, in a native loop."""
    benchmark.group = f"{size} endpoints"
    measured(benchmark, ClusterTable.from_endpoints(endpoints(size), policy=policy, seed=1).spin, PICKS)


@pytest.mark.parametrize("size", SIZES)
def test_picks_into_a_buffer(benchmark: Any, size: int) -> None:
    """For Python programs that want many at once."""
    benchmark.group = f"{size} endpoints"
    out = array("I", bytes(4 * PICKS))
    measured(benchmark, ClusterTable.from_endpoints(endpoints(size), seed=1).pick_many, out)
    assert max(out) < size


@pytest.mark.parametrize("size", SIZES)
def test_plain_python(benchmark: Any, size: int) -> None:
    """What one would write without eastgate."""
    benchmark.group = f"{size} endpoints"
    known = endpoints(size)
    weights = list(accumulate(one.weight for one in known))
    choices = random.Random(1).choices

    def picks() -> None:
        for _ in range(PICKS):
            choices(known, cum_weights=weights)

    measured(benchmark, picks)


def test_shares_are_what_was_asked_for() -> None:
    """A benchmark of a picker that picks the wrong ones says nothing."""
    known = endpoints(100)
    table = ClusterTable.from_endpoints(known, seed=1)
    out = array("I", bytes(4 * 100_000))
    table.pick_many(out)
    total = sum(one.weight for one in known)
    for row, one in enumerate(known):
        assert abs(table.shares()[row] - one.weight / total) < 0.001
        assert abs(out.tolist().count(row) / len(out) - one.weight / total) < 0.001
