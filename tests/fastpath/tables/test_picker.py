"""What a table's cursor gives, by the kind of its schedule: rows that there are, or a reason."""

from array import array

import pytest
from eastgate.fastpath import Endpoint
from eastgate.fastpath.reason import Reason
from eastgate.fastpath.tables.cluster_table import ClusterTable

NOBODY = 0xFFFFFFFF
TURNS = 1000


def table(count: int, policy: str = "ROUND_ROBIN", *, weighted: bool = False, **settings: object) -> ClusterTable:
    rows = [
        Endpoint(f"10.{row // 62_500}.{row // 250 % 250}.{row % 250}:80", weight=1 + row % 97 if weighted else 1)
        for row in range(count)
    ]
    return ClusterTable.from_endpoints(rows, policy=policy, seed=7, **settings)


KINDS = [
    ("constant", table(1)),
    ("cycle", table(3)),
    ("cycle", table(70_000)),
    ("alias", table(1000, weighted=True)),
    ("least_request", table(50, "LEAST_REQUEST")),
    ("least_request", table(50, "LEAST_REQUEST", weighted=True)),
    ("random", table(50, "RANDOM", weighted=True)),
    ("ring_hash", table(50, "RING_HASH")),
    ("maglev", table(50, "MAGLEV")),
]


@pytest.mark.parametrize(("kind", "one"), KINDS, ids=[f"{kind} of {len(one)}" for kind, one in KINDS])
def test_picks_are_rows_of_the_table(kind: str, one: ClusterTable) -> None:
    assert one.schedule()[0] == kind
    picks = {one.pick() for _ in range(TURNS)}
    assert picks <= set(range(len(one)))
    assert len(picks) == 1 if kind == "constant" else len(picks) > 1


@pytest.mark.parametrize("policy", ["ROUND_ROBIN", "LEAST_REQUEST", "RANDOM"])
@pytest.mark.parametrize("weighted", [False, True])
def test_many_picks_are_those_that_come_one_by_one(policy: str, weighted: bool) -> None:
    # The same seed: both cursors begin at the same place.
    one, many = table(300, policy, weighted=weighted), table(300, policy, weighted=weighted)
    out = array("I", [NOBODY] * TURNS)
    many.pick_many(out)
    assert list(out) == [one.pick() for _ in range(TURNS)]


@pytest.mark.parametrize("health", ["UNHEALTHY", "HEALTHY"])
def test_whoever_has_nobody_says_why(health: str) -> None:
    rows = [Endpoint("10.0.0.1:80", health=health)] if health == "UNHEALTHY" else []
    nobody = ClusterTable.from_endpoints(rows, panic_threshold=0)
    assert nobody.pick() == -(Reason.NONE_HEALTHY if rows else Reason.NO_ENDPOINTS)
    assert nobody.spin(TURNS) == 0
    out = array("I", [0, 0])
    nobody.pick_many(out)
    assert list(out) == [NOBODY, NOBODY]


@pytest.mark.parametrize("policy", ["RING_HASH", "MAGLEV"])
def test_a_hash_leads_to_one_endpoint_and_its_attempts_to_others(policy: str) -> None:
    one = table(20, policy)
    hashes = [index * 0x9E3779B97F4A7C15 % (1 << 64) for index in range(200)]
    assert [one.pick_hash(value) for value in hashes] == [one.pick_hash(value) for value in hashes]
    assert len({one.pick_hash(hashes[0], attempt) for attempt in range(20)}) > 1


def test_a_buffer_of_other_numbers_is_refused() -> None:
    with pytest.raises(ValueError, match="uint32"):
        table(3).pick_many(array("Q", [0]))
