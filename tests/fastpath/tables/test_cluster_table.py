"""Compile and pick: rules of selection, endpoint states, refusals. Against the oracle: tests/differential."""

import dataclasses
import gc
import pickle
from array import array
from collections import Counter
from typing import Any

import pytest
from eastgate.fastpath.reason import Reason
from eastgate.fastpath.tables.cluster_table import ClusterTable
from eastgate.xds.columns import Columns, LocalityEntry
from eastgate.xds.resources import Hashing
from hypothesis import given, settings
from hypothesis import strategies as st

from ...columns import columns, failed
from ...oracle.shares import Endpoint, LocalityName

UNHEALTHY, DRAINING, DEGRADED = 2, 3, 5
ZONES: list[LocalityName] = [("r1", f"z{i}", "") for i in range(8)]


def endpoints(count: int, **fields: Any) -> list[Endpoint]:
    """`count` endpoints with addresses of their own in the priority's network."""
    network = fields.get("priority", 0)
    return [Endpoint(f"10.{network}.{i >> 8}.{i & 255}:80", **fields) for i in range(count)]


def picks_of(table: ClusterTable, count: int) -> list[int]:
    """As many picks in bulk."""
    out = array("I", bytes(4 * count))
    table.pick_many(out)
    return list(out)


def test_no_endpoints_is_a_refusal() -> None:
    table = ClusterTable.compile(columns([]))
    assert table.pick() == -Reason.NO_ENDPOINTS
    assert picks_of(table, 2) == [0xFFFFFFFF] * 2
    assert len(table.shares()) == 0


def test_none_healthy_with_panic_off_is_a_refusal() -> None:
    table = ClusterTable.compile(columns(endpoints(3, eds_health=UNHEALTHY)), panic_threshold=0)
    assert table.pick() == -Reason.NONE_HEALTHY
    assert list(table.shares()) == [0.0] * 3


def test_all_unhealthy_is_panic_and_uses_all() -> None:
    table = ClusterTable.compile(columns(endpoints(4, eds_health=UNHEALTHY)))
    assert list(table.shares()) == [0.25] * 4
    assert table.priorities() == ((4, 0, 0, 0, 100, 0, 0, True),)


@pytest.mark.parametrize("policy", ["ROUND_ROBIN", "LEAST_REQUEST", "RANDOM"])
def test_fail_on_panic_refuses_what_falls_to_a_priority_in_panic(policy: str) -> None:
    # P0: 140 * 1 / 5 = 28; P1: 140 * 3 / 6 = 70, not below 50 %. Of the 98 P0 has 29 %, and refuses them.
    rows = [*endpoints(1), *endpoints(5, eds_health=UNHEALTHY)[1:]]
    rows += [*endpoints(3, priority=1), *endpoints(6, priority=1, eds_health=UNHEALTHY)[3:]]
    plain = ClusterTable.compile(columns(rows), policy=policy)
    table = ClusterTable.compile(columns(rows), policy=policy, fail_on_panic=True)
    load = plain.priorities()[0][4]
    assert table.priorities() == plain.priorities()
    assert [row[7] for row in table.priorities()] == [True, False]
    assert (plain.refused, table.refused) == (0.0, load / 100)
    assert list(table.shares()) == [0.0] * 5 + list(plain.shares())[5:]
    assert table.finds_endpoints()
    picks = picks_of(table, 100_000)
    # RANDOM leaves to chance what others take in turns: seven standard deviations.
    assert picks.count(0xFFFFFFFF) == pytest.approx(load * 1000, abs=1000 if policy == "RANDOM" else 50)
    assert set(picks) - {0xFFFFFFFF} == {5, 6, 7}
    assert {pick for pick in (table.pick() for _ in range(1000)) if pick < 0} == {-Reason.PANIC}


@pytest.mark.parametrize("policy", ["ROUND_ROBIN", "LEAST_REQUEST"])
def test_fail_on_panic_beside_one_endpoint_and_weights(policy: str) -> None:
    rows = [*endpoints(4, eds_health=UNHEALTHY), *endpoints(1), *endpoints(1, priority=1)]
    rows += endpoints(2, priority=1, eds_health=UNHEALTHY)[1:]
    rows[0] = dataclasses.replace(rows[0], address="10.9.9.9:80")
    table = ClusterTable.compile(columns(rows), policy=policy, fail_on_panic=True, overprovisioning_factor=100)
    # P0 20, P1 50, together 70: 28 % (cut down) and the rest.
    load = table.priorities()[0][4]
    assert table.refused == load / 100 > 0
    assert picks_of(table, 100_000).count(0xFFFFFFFF) == pytest.approx(load * 1000, abs=50)
    uneven = [dataclasses.replace(one, weight=1 + row) for row, one in enumerate(endpoints(3, priority=1))]
    uneven += endpoints(6, priority=1, eds_health=UNHEALTHY)[3:]
    table = ClusterTable.compile(
        columns([*rows[:5], *uneven]), policy=policy, fail_on_panic=True, overprovisioning_factor=100
    )
    picks = picks_of(table, 100_000)
    for row, share in enumerate(table.shares()):
        assert picks.count(row) == pytest.approx(share * 100_000, abs=50)
    assert table.refused > 0


def test_fail_on_panic_with_all_in_panic_and_without_endpoints() -> None:
    table = ClusterTable.compile(columns(endpoints(4, eds_health=UNHEALTHY)), fail_on_panic=True)
    assert (table.pick(), table.refused, table.finds_endpoints()) == (-Reason.PANIC, 1.0, False)
    assert list(table.shares()) == [0.0] * 4
    assert ClusterTable.compile(columns([]), fail_on_panic=True).pick() == -Reason.NO_ENDPOINTS
    off = ClusterTable.compile(columns(endpoints(3, eds_health=UNHEALTHY)), panic_threshold=0, fail_on_panic=True)
    assert (off.pick(), off.refused) == (-Reason.NONE_HEALTHY, 0.0)


@pytest.mark.parametrize("policy", ["RING_HASH", "MAGLEV"])
def test_policies_that_hash_know_no_fail_on_panic(policy: str) -> None:
    table = ClusterTable.compile(columns(endpoints(4, eds_health=UNHEALTHY)), policy=policy, fail_on_panic=True)
    assert (table.refused, table.finds_endpoints(), table.pick() >= 0) == (0.0, True, True)
    assert sum(table.shares()) == pytest.approx(1)
    nobody = ClusterTable.compile(
        columns(endpoints(4, eds_health=UNHEALTHY)), policy=policy, panic_threshold=0, fail_on_panic=True
    )
    assert not nobody.finds_endpoints()


def test_draining_endpoints_take_panic_traffic_only() -> None:
    table = ClusterTable.compile(columns([*endpoints(1), *endpoints(1, priority=1, eds_health=DRAINING)]))
    assert list(table.shares()) == [1.0, 0.0]
    table = ClusterTable.compile(columns(endpoints(2, eds_health=DRAINING)))
    assert list(table.shares()) == [0.5, 0.5]


def test_two_endpoints_alternate() -> None:
    picks = picks_of(ClusterTable.compile(columns(endpoints(2)), seed=4), 10)
    assert picks in ([0, 1] * 5, [1, 0] * 5)


def test_weights_of_70_and_30_are_exact_in_every_ten() -> None:
    rows = [Endpoint("10.0.0.1:80", weight=70), Endpoint("10.0.0.2:80", weight=30)]
    for seed in range(20):
        table = ClusterTable.compile(columns(rows), seed=seed)
        for _ in range(3):
            assert Counter(table.pick() for _ in range(10)) == {0: 7, 1: 3}


def test_first_pick_has_no_bias() -> None:
    rows = columns([Endpoint("10.0.0.1:80", weight=70), Endpoint("10.0.0.2:80", weight=30)])
    first = Counter(ClusterTable.compile(rows, seed=seed).pick() for seed in range(2_000))
    # Standard deviation sqrt(2000 * 0.7 * 0.3) = 20.5; five of them are 103.
    assert abs(first[0] - 1_400) < 103


def test_bulk_and_single_picks_go_on_from_each_other() -> None:
    for rows in (endpoints(7), [dataclasses.replace(e, weight=i + 1) for i, e in enumerate(endpoints(50))]):
        one, other = (ClusterTable.compile(columns(rows), seed=9) for _ in range(2))
        mixed = [*picks_of(one, 11), one.pick(), *picks_of(one, 5)]
        assert mixed == [other.pick() for _ in range(17)]


def test_spin_counts_endpoints_found() -> None:
    assert ClusterTable.compile(columns(endpoints(3))).spin(100) == 100
    assert ClusterTable.compile(columns([])).spin(100) == 0


def test_p1_takes_what_p0_cannot() -> None:
    rows = [*endpoints(4), *endpoints(3, priority=1)]
    rows[0] = dataclasses.replace(rows[0], eds_health=UNHEALTHY)
    rows[1] = dataclasses.replace(rows[1], failed=True)
    table = ClusterTable.compile(columns(rows), failed=failed(rows))
    # P0: 140 * 2 / 4 = 70; the rest to three.
    assert list(table.shares()) == pytest.approx([0, 0, 0.35, 0.35, 0.1, 0.1, 0.1], abs=1e-15)
    assert table.schedule() == ("cycle", 20)


def test_priorities_may_have_gaps() -> None:
    table = ClusterTable.compile(columns([*endpoints(1, priority=3), *endpoints(1, priority=127)]))
    assert list(table.shares()) == [1.0, 0.0]
    assert len(table.priorities()) == 128


def test_degraded_endpoints_take_what_healthy_ones_leave() -> None:
    rows = [*endpoints(1), *[dataclasses.replace(e, eds_health=DEGRADED) for e in endpoints(3)[1:]]]
    # 140 * 1 / 3 = 46 healthy, 140 * 2 / 3 = 93 degraded: 46 and the remaining 54.
    assert list(ClusterTable.compile(columns(rows)).shares()) == pytest.approx([0.46, 0.27, 0.27])


def test_localities_share_by_effective_weight() -> None:
    rows = [dataclasses.replace(e, locality=ZONES[0]) for e in endpoints(5)]
    rows = [dataclasses.replace(e, eds_health=UNHEALTHY) if i > 1 else e for i, e in enumerate(rows)]
    rows.append(Endpoint("10.9.0.1:80", locality=ZONES[1]))
    weights = {(0, ZONES[0]): 1, (0, ZONES[1]): 2}
    table = ClusterTable.compile(columns(rows, weights), locality_weighted=True, panic_threshold=0)
    # 1.4 * 2 / 5 = 0.56 against 2.
    assert list(table.shares()) == pytest.approx([0.28 / 2.56] * 2 + [0] * 3 + [2 / 2.56])


def test_localities_without_weight_are_one_flat_list() -> None:
    rows = [Endpoint("10.0.0.1:80", locality=ZONES[0]), Endpoint("10.0.0.2:80", locality=ZONES[1], weight=3)]
    table = ClusterTable.compile(columns(rows), locality_weighted=True)
    assert list(table.shares()) == [0.25, 0.75]


def test_last_weight_of_a_repeated_locality_wins() -> None:
    given_columns = columns(
        [Endpoint("10.0.0.1:80", locality=ZONES[0]), Endpoint("10.0.0.2:80", locality=ZONES[1])],
        {(0, ZONES[0]): 9, (0, ZONES[1]): 1},
    )
    repeated = (*given_columns.localities, LocalityEntry(ZONES[0], 0, 3))
    table = ClusterTable.compile(dataclasses.replace(given_columns, localities=repeated), locality_weighted=True)
    assert list(table.shares()) == [0.75, 0.25]


def test_duplicates_are_never_picked_and_never_counted() -> None:
    rows = [Endpoint("10.0.0.1:80"), Endpoint("10.0.0.2:80"), Endpoint("10.0.0.1:80", priority=1)]
    for _ in range(2):
        table = ClusterTable.compile(columns(rows))
        assert list(table.shares()) == [0.5, 0.5, 0.0]
        assert [p[0] for p in table.priorities()] == [2]
        table.hold(0)
        assert table.state(2)[0] == 1
        # A later table of the same rows knows them again.
        follower = ClusterTable.compile(columns(rows), previous=table)
        assert list(follower.shares()) == [0.5, 0.5, 0.0]
        assert follower.state(2)[0] == 1


def test_compile_is_the_same_for_the_same_seed() -> None:
    rows = columns([dataclasses.replace(e, weight=1 + i * i) for i, e in enumerate(endpoints(40))])
    for policy in ("ROUND_ROBIN", "LEAST_REQUEST"):
        one, other = (ClusterTable.compile(rows, policy=policy, seed=3) for _ in range(2))
        assert picks_of(one, 100) == picks_of(other, 100)


def test_nobody_with_a_positive_share_starves() -> None:
    rows = [dataclasses.replace(e, weight=1 if i else 20_000) for i, e in enumerate(endpoints(100))]
    table = ClusterTable.compile(columns(rows))
    assert table.schedule()[0] == "alias"
    # Shares of 1 / 20,099: met once in 2.62 * 20,099 picks.
    assert len(set(picks_of(table, 53_000))) == 100


# ---- least request


def test_least_request_takes_the_idle_one_of_two_draws() -> None:
    table = ClusterTable.compile(columns(endpoints(2)), policy="LEAST_REQUEST")
    table.hold(0)
    counts = Counter(picks_of(table, 20_000))
    # The busy one is taken only when both draws hit it: a quarter. Standard deviation 61.
    assert abs(counts[0] - 5_000) < 306


def test_choice_count_draws_more() -> None:
    table = ClusterTable.compile(columns(endpoints(2)), policy="LEAST_REQUEST", choice_count=4)
    table.hold(0)
    counts = Counter(picks_of(table, 20_000))
    # (1/2)^4 of 20,000; standard deviation 34.
    assert abs(counts[0] - 1_250) < 171


def test_least_request_ties_are_uniform() -> None:
    table = ClusterTable.compile(columns(endpoints(5)), policy="LEAST_REQUEST")
    counts = Counter(picks_of(table, 50_000))
    assert all(abs(counts[i] - 10_000) < 450 for i in range(5))


def test_weighted_least_request_divides_weight_by_active_connections() -> None:
    rows = [Endpoint("10.0.0.1:80", weight=3), Endpoint("10.0.0.2:80", weight=1)]
    table = ClusterTable.compile(columns(rows), policy="LEAST_REQUEST")
    for _ in range(2):
        table.hold(0)
    # 3 / 3 against 1 / 1
    counts = Counter(picks_of(table, 1_000))
    assert abs(counts[0] - 500) <= 3


def test_least_request_of_single_endpoint_lists_needs_no_draw() -> None:
    rows = [Endpoint("10.0.0.1:80", locality=ZONES[0]), Endpoint("10.0.0.2:80", locality=ZONES[1])]
    weights = {(0, ZONES[0]): 3, (0, ZONES[1]): 1}
    table = ClusterTable.compile(columns(rows, weights), policy="LEAST_REQUEST", locality_weighted=True)
    assert table.schedule() == ("cycle", 4)
    assert list(table.shares()) == [0.75, 0.25]


def test_full_scan_takes_the_idlest_and_draws_among_equals() -> None:
    table = ClusterTable.compile(columns(endpoints(5)), policy="LEAST_REQUEST", full_scan=True)
    for row in (0, 3):
        table.hold(row)
    counts = Counter(picks_of(table, 30_000))
    # Three are idle: a third each, standard deviation 82.
    assert counts.keys() == {1, 2, 4}
    assert all(abs(count - 10_000) < 410 for count in counts.values())
    for row in (1, 2, 4):
        table.hold(row)
        table.hold(row)
    assert set(picks_of(table, 100)) == {0, 3}


def test_full_scan_has_no_say_where_weights_differ() -> None:
    rows = [Endpoint("10.0.0.1:80", weight=3), Endpoint("10.0.0.2:80", weight=1)]
    table = ClusterTable.compile(columns(rows), policy="LEAST_REQUEST", full_scan=True)
    table.hold(0)
    # 3 / 2 against 1 / 1
    assert abs(Counter(picks_of(table, 1_000))[0] - 600) <= 3


@pytest.mark.parametrize(("bias", "share"), [(0.0, 3 / 4), (0.5, 3 / 5), (1.0, 3 / 7), (2.0, 3 / 19)])
def test_bias_says_how_much_active_connections_count(bias: float, share: float) -> None:
    rows = [Endpoint("10.0.0.1:80", weight=3), Endpoint("10.0.0.2:80", weight=1)]
    table = ClusterTable.compile(columns(rows), policy="LEAST_REQUEST", active_request_bias=bias)
    for _ in range(3):
        table.hold(0)
    # 3 / 4 ** bias against 1.
    assert abs(Counter(picks_of(table, 10_000))[0] - 10_000 * share) <= 3


# ---- random


def test_random_ignores_the_weights_of_endpoints() -> None:
    rows = [Endpoint("10.0.0.1:80", weight=9), Endpoint("10.0.0.2:80"), Endpoint("10.0.0.3:80")]
    table = ClusterTable.compile(columns(rows), policy="RANDOM", seed=2)
    assert list(table.shares()) == pytest.approx([1 / 3] * 3)
    counts = Counter(picks_of(table, 30_000))
    # Standard deviation sqrt(30000 * 1/3 * 2/3) = 82; five of them.
    assert all(abs(counts[i] - 10_000) < 410 for i in range(3))


def test_random_takes_priority_and_place_from_one_draw() -> None:
    # P0: 50 of 100 healthy, 70 %. Draws below 70 of 100 are P0's, and draw % 50 the place: places 0 to 19 have the
    # draws 0..19 and 50..69, the others one draw of 100.
    rows = [dataclasses.replace(e, eds_health=1 if i < 50 else UNHEALTHY) for i, e in enumerate(endpoints(100))]
    table = ClusterTable.compile(columns([*rows, *endpoints(1, priority=1)]), policy="RANDOM")
    shares = list(table.shares())
    assert shares[:50] == pytest.approx([0.02] * 20 + [0.01] * 30)
    assert (sum(shares[50:100]), shares[100]) == (0.0, pytest.approx(0.3))
    assert table.schedule() == ("random", 2)


def test_random_without_anybody_healthy_and_without_panic_is_a_refusal() -> None:
    table = ClusterTable.compile(columns(endpoints(3, eds_health=UNHEALTHY)), policy="RANDOM", panic_threshold=0)
    assert table.pick() == -Reason.NONE_HEALTHY
    assert list(table.shares()) == [0.0] * 3


def test_random_in_panic_uses_all_of_the_priority() -> None:
    table = ClusterTable.compile(columns(endpoints(7, eds_health=UNHEALTHY)), policy="RANDOM")
    assert list(table.shares()) == pytest.approx([1 / 7] * 7)
    assert set(picks_of(table, 1_000)) == set(range(7))


# ---- ring hash and Maglev


@pytest.mark.parametrize("policy", ["RING_HASH", "MAGLEV"])
def test_degraded_endpoints_are_never_found_by_a_hash(policy: str) -> None:
    # 46 % healthy, 54 % for the degraded ones, which get none of it: the healthy table of P0 serves both.
    rows = [*endpoints(2), *[dataclasses.replace(e, eds_health=DEGRADED) for e in endpoints(5)[2:]]]
    table = ClusterTable.compile(columns(rows), policy=policy)
    assert set(picks_of(table, 2_000)) == {0, 1}
    assert list(table.shares())[2:] == [0.0] * 3
    only = ClusterTable.compile(columns([dataclasses.replace(e, eds_health=DEGRADED) for e in rows]), policy=policy)
    assert only.pick() == -Reason.NONE_HEALTHY


@pytest.mark.parametrize("policy", ["RING_HASH", "MAGLEV"])
def test_a_list_that_is_empty_refuses_its_part_of_the_hashes(policy: str) -> None:
    rows = [*endpoints(2, eds_health=DEGRADED), *endpoints(2, priority=1)]
    # P0 could take 0 % healthy and 100 % degraded, P1 100 %: P1 has all, as healthy endpoints come first.
    assert set(picks_of(ClusterTable.compile(columns(rows), policy=policy), 500)) == {2, 3}
    rows = [*endpoints(2, eds_health=DEGRADED), *endpoints(4, priority=1)]
    rows[3:] = [dataclasses.replace(e, eds_health=UNHEALTHY) for e in rows[3:]]
    table = ClusterTable.compile(columns(rows), policy=policy, panic_threshold=0)
    # P1: 140 / 4 = 35 %; the rest would go to P0's degraded ones.
    assert table.priorities()[0][5] == 65
    found = Counter(table.pick_hash(value) for value in range(100))
    assert found == {2: 35, -Reason.NONE_HEALTHY: 65}
    assert list(table.shares()) == pytest.approx([0, 0, 0.35, 0, 0, 0])


@pytest.mark.parametrize("policy", ["RING_HASH", "MAGLEV"])
def test_one_endpoint_needs_no_table(policy: str) -> None:
    table = ClusterTable.compile(columns(endpoints(1)), policy=policy)
    assert (table.schedule()[0], table.hash_entries()) == ("constant", [])
    assert table.pick_hash(7) == 0


@pytest.mark.parametrize("policy", ["RING_HASH", "MAGLEV"])
def test_weighted_localities_without_any_weight_have_nobody(policy: str) -> None:
    table = ClusterTable.compile(columns(endpoints(3)), policy=policy, locality_weighted=True)
    assert table.pick() == -Reason.NONE_HEALTHY


def test_keys_stand_for_endpoints_instead_of_their_addresses() -> None:
    rows, others = endpoints(3), endpoints(3, priority=1)
    others = [dataclasses.replace(e, priority=0) for e in others]
    keys = [b"a", b"b", None]
    by_key, by_key_too = (
        ClusterTable.compile(columns([*given[:2], rows[2]]), policy="RING_HASH", hash_keys=keys)
        for given in (rows, others)
    )
    assert by_key.hash_entries() == by_key_too.hash_entries()
    assert by_key.hash_entries() != ClusterTable.compile(columns(rows), policy="RING_HASH").hash_entries()


def test_unix_sockets_are_hashed_by_their_path() -> None:
    rows = [Endpoint("unix:/run/a"), Endpoint("unix:/run/b")]
    table = ClusterTable.compile(columns(rows), policy="MAGLEV")
    named = ClusterTable.compile(columns(rows), policy="MAGLEV", hash_keys=[b"/run/a", b"/run/b"])
    assert table.hash_entries() == named.hash_entries()


def test_losing_an_endpoint_moves_only_its_hashes() -> None:
    rows = endpoints(10)
    before = ClusterTable.compile(columns(rows), policy="RING_HASH")
    rows[4] = dataclasses.replace(rows[4], eds_health=UNHEALTHY)
    after = ClusterTable.compile(columns(rows), policy="RING_HASH", previous=before)
    # 1024 entries of ten are 1030, and of nine 1026: an endpoint keeps all of its first 103.
    hashes = [(number << 64) // 5_000 for number in range(5_000)]
    moved = [value for value in hashes if before.pick_hash(value) not in (4, after.pick_hash(value))]
    assert len(moved) < 5_000 // 9
    assert 4 not in {after.pick_hash(value) for value in hashes}


# ---- endpoint states


def held(table: ClusterTable) -> list[int]:
    """Active connections by row."""
    return [table.state(i)[0] for i in range(len(table))]


def with_marks(rows: list[Endpoint]) -> ClusterTable:
    """A table whose row i has i + 1 active connections."""
    table = ClusterTable.compile(columns(rows))
    for row in range(len(rows)):
        for _ in range(row + 1):
            table.hold(row)
    return table


def test_states_follow_their_endpoints_to_the_next_table() -> None:
    rows = endpoints(5)
    table = with_marks(rows)
    moved = [rows[4], rows[0], *endpoints(1, priority=7), rows[2]]
    assert held(ClusterTable.compile(columns(moved), previous=table)) == [5, 1, 0, 3]


def test_states_outlive_every_table_they_came_from() -> None:
    rows = endpoints(200)
    table = with_marks(rows)
    for _ in range(5):
        rows = rows[1:] + rows[:1]
        table = ClusterTable.compile(columns(rows), previous=table)
        gc.collect()
    assert held(table) == [(i + 5) % 200 + 1 for i in range(200)]


def test_same_rows_share_their_states_with_the_table_before() -> None:
    rows = endpoints(3)
    table = with_marks(rows)
    sick = [dataclasses.replace(rows[0], eds_health=UNHEALTHY), *rows[1:]]
    follower = ClusterTable.compile(columns(sick), previous=table)
    table.hold(2)
    assert held(follower) == [1, 2, 4]


def test_priority_change_keeps_the_state_and_locality_change_does_not() -> None:
    rows = endpoints(3)
    table = with_marks(rows)
    changed = [
        dataclasses.replace(rows[0], priority=1),
        dataclasses.replace(rows[1], locality=ZONES[1]),
        dataclasses.replace(rows[2], weight=9),
    ]
    assert held(ClusterTable.compile(columns(changed), previous=table)) == [1, 0, 3]


def test_unix_sockets_are_known_by_their_path() -> None:
    table = with_marks([Endpoint("unix:/a"), Endpoint("unix:/b"), Endpoint("10.0.0.1:80")])
    follower = ClusterTable.compile(columns([Endpoint("unix:/b"), Endpoint("unix:/a")]), previous=table)
    assert held(follower) == [2, 1]
    assert [follower.address(i) for i in range(2)] == ["unix:/b", "unix:/a"]


def test_a_dropped_duplicate_hands_on_no_state() -> None:
    rows = [Endpoint("10.0.0.1:80", locality=ZONES[0]), Endpoint("10.0.0.1:80", locality=ZONES[1])]
    table = ClusterTable.compile(columns(rows))
    table.hold(0)
    assert held(ClusterTable.compile(columns(rows[1:]), previous=table)) == [0]
    assert held(ClusterTable.compile(columns(rows[:1]), previous=table)) == [1]


@settings(max_examples=60, deadline=None)
@given(st.lists(st.lists(st.integers(0, 90), max_size=80, unique=True), min_size=2, max_size=6))
def test_states_follow_through_any_series_of_updates(updates: list[list[int]]) -> None:
    known: dict[int, int] = {}
    table: ClusterTable | None = None
    mark = 0
    for update in updates:
        table = ClusterTable.compile(columns([Endpoint(f"10.0.0.{i}:80") for i in update]), previous=table)
        known = {i: known.get(i, 0) for i in update}
        assert held(table) == [known[i] for i in update]
        for row, number in enumerate(update):
            if known[number] == 0:
                mark += 1
                for _ in range(mark % 7 + 1):
                    table.hold(row)
                known[number] = mark % 7 + 1


def test_reset_failures_and_drop() -> None:
    table = ClusterTable.compile(columns(endpoints(1)))
    table.hold(0)
    table.drop(0)
    table.reset_failures(0)
    assert table.state(0) == (0, 0, 0, 0)
    with pytest.raises(ValueError, match="no active connection"):
        table.drop(0)


# ---- refusals and edges


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"policy": "PICK_FIRST"}, "policy 'PICK_FIRST'"),
        ({"overprovisioning_factor": 0}, "overprovisioning_factor 0"),
        ({"panic_threshold": -1}, "panic_threshold -1"),
        ({"choice_count": 1}, "choice_count 1"),
        ({"active_request_bias": -1.0}, "active_request_bias -1.0 is negative"),
        (
            {"policy": "RING_HASH", "hashing": Hashing(minimum_ring_size=20, maximum_ring_size=10)},
            r"size \(20\) > maxi",
        ),
        ({"policy": "RING_HASH", "hashing": Hashing(maximum_ring_size=8388609)}, "outside 0..8388608"),
        ({"policy": "RING_HASH", "hashing": Hashing("SHA1")}, "hash_function 'SHA1'"),
        ({"policy": "MAGLEV", "hashing": Hashing(table_size=65536)}, "must be prime number: table_size is 65536"),
        ({"policy": "MAGLEV", "hashing": Hashing(balance_factor=99)}, "hash_balance_factor is 99"),
        ({"failed": b"\x00"}, "failed: 1 bytes for 2 rows"),
    ],
)
def test_impossible_options_are_refused_by_name(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ClusterTable.compile(columns(endpoints(2)), **options)


def test_panic_threshold_above_100_counts_as_100() -> None:
    rows = [*endpoints(3), Endpoint("10.9.0.1:80", eds_health=UNHEALTHY)]
    # 140 * 3 / 4 = 100: no panic whatever the threshold; at 2 of 4 the total is 70 and 50 % < 100 %.
    assert not ClusterTable.compile(columns(rows), panic_threshold=4_000).priorities()[0][7]
    rows[0] = dataclasses.replace(rows[0], eds_health=UNHEALTHY)
    assert ClusterTable.compile(columns(rows), panic_threshold=4_000).priorities()[0][7]


def test_table_is_made_by_compile_only_and_is_never_pickled() -> None:
    with pytest.raises(TypeError, match="compile"):
        ClusterTable()
    with pytest.raises(TypeError, match="cannot be pickled"):
        pickle.dumps(ClusterTable.compile(columns([])))


def test_previous_must_be_a_table() -> None:
    with pytest.raises(TypeError):
        ClusterTable.compile(columns([]), previous="table")  # type: ignore[arg-type]


def test_addresses_are_text() -> None:
    rows = [Endpoint("10.1.2.3:8080"), Endpoint("[2001:db8::1]:443"), Endpoint("unix:/run/x.sock")]
    table = ClusterTable.compile(columns(rows))
    assert [table.address(i) for i in range(3)] == [e.address for e in rows]
    with pytest.raises(IndexError):
        table.address(3)
    with pytest.raises(IndexError):
        table.state(-1)


def test_pick_many_wants_uint32() -> None:
    table = ClusterTable.compile(columns(endpoints(1)))
    for wrong in (array("Q", [0]), array("f", [0.0]), bytearray(4)):
        with pytest.raises(ValueError, match="uint32"):
            table.pick_many(wrong)
    with pytest.raises(BufferError):
        table.pick_many(memoryview(bytes(4)).cast("I"))
    with pytest.raises(TypeError):
        table.pick_many([0])


def test_memory_of_a_large_table_is_below_64_bytes_an_endpoint() -> None:
    rows = [dataclasses.replace(e, weight=1 + i % 97, locality=ZONES[i % 6]) for i, e in enumerate(endpoints(10_000))]
    table = ClusterTable.compile(columns(rows))
    # And the flags column, one byte, that only xds reads.
    assert table.memory() + 10_000 <= 64 * 10_000


def test_memory_of_a_small_cluster_is_below_2_kb() -> None:
    weighted = [dataclasses.replace(e, weight=1 + i * i) for i, e in enumerate(endpoints(12))]
    for rows in (endpoints(12), weighted):
        for policy in ("ROUND_ROBIN", "LEAST_REQUEST"):
            assert ClusterTable.compile(columns(rows), policy=policy).memory() <= 2_000


HOSTILE_BYTES = st.binary(max_size=48)
ENTRY = st.builds(
    LocalityEntry,
    st.tuples(st.sampled_from("ab"), st.sampled_from("cd"), st.just("")),
    st.integers(-1, 3) | st.integers(),
    st.none() | st.integers(-1, 2**33),
)


@settings(max_examples=400, deadline=None)
@given(
    st.builds(
        Columns,
        count=st.integers(-1, 3),
        family=HOSTILE_BYTES,
        address=HOSTILE_BYTES,
        port=HOSTILE_BYTES,
        weight=HOSTILE_BYTES,
        health=HOSTILE_BYTES,
        priority=HOSTILE_BYTES,
        locality=HOSTILE_BYTES,
        localities=st.lists(ENTRY, max_size=3).map(tuple),
        names=st.lists(st.binary(max_size=120), max_size=2).map(tuple),
    )
)
def test_random_columns_are_refused_or_compiled(hostile: Columns) -> None:
    try:
        table = ClusterTable.compile(hostile)
    except ValueError:
        return
    assert table.pick() < len(table)


def shaped(draw: st.DrawFn) -> Columns:
    """Columns of the right lengths, values mostly in range."""
    count = draw(st.integers(0, 40))
    exact = st.binary(min_size=count, max_size=count)
    places = draw(st.lists(st.tuples(st.integers(0, 130), st.integers(0, 2)), min_size=1, max_size=4))
    number = draw(st.lists(st.integers(0, len(places) - 1), min_size=count, max_size=count))
    weight = st.integers(1, 5) | st.integers(1, 2**32 - 1)
    return Columns(
        count=count,
        family=bytes(draw(st.lists(st.sampled_from([4, 6, 1]), min_size=count, max_size=count))),
        address=bytes(draw(st.binary(min_size=4, max_size=4)) + bytes(12)) * count,
        port=array("H", draw(st.lists(st.integers(0, 3), min_size=count, max_size=count))).tobytes(),
        weight=array("I", draw(st.lists(weight, min_size=count, max_size=count))).tobytes(),
        health=bytes(b % 6 for b in draw(exact)),
        priority=bytes(places[n][0] for n in number),
        locality=array("H", number).tobytes(),
        flags=bytes(count),
        localities=tuple(
            LocalityEntry(ZONES[zone], priority, draw(st.none() | st.integers(0, 2**30))) for priority, zone in places
        ),
        names=(b"/a", b"/b") * draw(st.integers(0, 1)),
    )


@settings(max_examples=400, deadline=None)
@given(
    st.composite(shaped)(),
    st.sampled_from(["ROUND_ROBIN", "LEAST_REQUEST"]),
    st.integers(1, 2**32 - 1) | st.just(140),
    st.integers(0, 101),
    st.booleans(),
    st.booleans(),
    st.booleans(),
)
def test_well_shaped_columns_give_shares_that_sum_to_one_or_nothing(
    rows: Columns, policy: str, factor: int, threshold: int, by_locality: bool, by_weight: bool, fail: bool
) -> None:
    try:
        table = ClusterTable.compile(
            rows,
            policy=policy,
            overprovisioning_factor=factor,
            panic_threshold=threshold,
            locality_weighted=by_locality,
            weighted_priority_health=by_weight,
            fail_on_panic=fail,
        )
    except ValueError:
        return
    shares = list(table.shares())
    picks = picks_of(table, 50)
    if sum(shares) == 0:
        assert set(picks) == {0xFFFFFFFF}
        assert table.pick() in (-Reason.NO_ENDPOINTS, -Reason.NONE_HEALTHY, -Reason.PANIC)
    else:
        assert sum(shares) + table.refused == pytest.approx(1, abs=1e-12)
        assert all(shares[pick] > 0 for pick in picks if pick != 0xFFFFFFFF or not table.refused)
