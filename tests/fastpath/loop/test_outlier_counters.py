"""Failures in a row, by the functions that workers count with: what crosses a threshold, and nothing is lost."""

import dataclasses
import threading

import pytest
from eastgate.fastpath.loop import outlier_counters
from eastgate.fastpath.loop.cluster_slots import ClusterSlots
from eastgate.fastpath.tables.cluster_table import ClusterTable

from ...columns import columns
from ...oracle.shares import Endpoint

FAILURES, GATEWAY = outlier_counters.FAILURES, outlier_counters.GATEWAY


def rows(count: int) -> list[Endpoint]:
    return [Endpoint(f"10.0.{n >> 8}.{n & 255}:80") for n in range(count)]


class Cluster:
    """A published cluster of `count` endpoints."""

    def __init__(self, count: int = 3, *, failures: int = 0, gateway: int = 0) -> None:
        self.slots = ClusterSlots(4)
        self.slot = self.slots.acquire("c")
        self.publish(ClusterTable.compile(columns(rows(count))), failures=failures, gateway=gateway)

    def publish(self, table: ClusterTable, *, failures: int, gateway: int) -> None:
        self.table = table
        self.slots.publish(self.slot, table, failure_threshold=failures, gateway_threshold=gateway)

    def end(self, row: int, connected: bool, times: int = 1) -> None:
        for _ in range(times):
            outlier_counters.record(self.slots, self.slot, self.table, row, connected)


def test_threshold_is_told_once_until_it_is_set_back() -> None:
    cluster = Cluster(failures=3)
    cluster.end(1, False, 2)
    assert cluster.slots.take_dirty() == []
    cluster.end(1, False, 2)
    assert cluster.slots.take_dirty() == ["c"]
    assert outlier_counters.take_crossed(cluster.table) == [(1, FAILURES)]
    cluster.end(1, False, 10)
    assert (cluster.slots.take_dirty(), outlier_counters.take_crossed(cluster.table)) == ([], [])
    outlier_counters.reset_failures(cluster.table, 1, FAILURES)
    cluster.end(1, False, 3)
    assert (cluster.slots.take_dirty(), outlier_counters.take_crossed(cluster.table)) == (["c"], [(1, FAILURES)])


def test_success_begins_anew_and_counters_are_set_back_one_by_one() -> None:
    cluster = Cluster(failures=3, gateway=2)
    for connected in (False, True, False, True):
        cluster.end(0, connected)
    assert cluster.slots.take_dirty() == []
    cluster.end(0, False, 2)
    assert outlier_counters.take_crossed(cluster.table) == [(0, GATEWAY)]
    outlier_counters.reset_failures(cluster.table, 0, GATEWAY)
    cluster.end(0, False)
    assert outlier_counters.take_crossed(cluster.table) == [(0, FAILURES)]
    cluster.end(0, False)
    assert outlier_counters.take_crossed(cluster.table) == [(0, GATEWAY)]


def test_counter_that_comes_round_crosses_nothing_that_is_off() -> None:
    cluster = Cluster(1, failures=1 << 20)
    cluster.end(0, False, (1 << 16) + 5)
    assert (cluster.slots.take_dirty(), outlier_counters.take_crossed(cluster.table)) == ([], [])


def test_what_was_crossed_follows_the_endpoint_to_the_next_table() -> None:
    cluster = Cluster(3, failures=1)
    cluster.end(2, False)
    moved = [*rows(1), dataclasses.replace(rows(3)[2], priority=1), *rows(3)[2:]]
    cluster.publish(ClusterTable.compile(columns(moved), previous=cluster.table), failures=1, gateway=0)
    assert outlier_counters.host_count(cluster.table) == 2
    assert cluster.slots.take_dirty() == ["c"]
    assert outlier_counters.take_crossed(cluster.table) == [(1, FAILURES)]


def test_volumes_are_of_one_interval_and_follow_the_endpoint() -> None:
    cluster = Cluster(200)
    cluster.end(0, True, 3)
    cluster.end(0, False)
    cluster.end(150, False, 2)
    assert outlier_counters.take_volumes(cluster.table, 0) == [(0, 3, 4), (150, 0, 2)]
    assert outlier_counters.take_volumes(cluster.table, 0) == []
    cluster.end(150, True, 4)
    cluster.end(0, True, 3)
    turned = list(reversed(rows(200)))
    cluster.publish(ClusterTable.compile(columns(turned), previous=cluster.table), failures=0, gateway=0)
    assert outlier_counters.take_volumes(cluster.table, 4) == [(49, 4, 4)]
    # Those below the minimum are of an interval that has ended all the same.
    assert outlier_counters.take_volumes(cluster.table, 0) == []


def test_restart_forgets_all_of_it() -> None:
    cluster = Cluster(2, failures=2, gateway=1)
    cluster.end(0, False)
    cluster.end(1, True)
    outlier_counters.restart(cluster.table)
    assert outlier_counters.take_crossed(cluster.table) == []
    assert outlier_counters.take_volumes(cluster.table, 0) == []
    cluster.end(0, False)
    assert outlier_counters.take_crossed(cluster.table) == [(0, GATEWAY)]


def test_cluster_that_left_while_dirty_is_told_and_freed() -> None:
    cluster = Cluster(1, failures=1)
    cluster.end(0, False)
    cluster.slots.release(cluster.slot)
    assert cluster.slots.take_dirty() == ["c"]
    again = Cluster(1, failures=1)
    again.end(0, False)
    del again


def test_bad_arguments_are_refused() -> None:
    cluster = Cluster()
    with pytest.raises(IndexError):
        outlier_counters.reset_failures(cluster.table, 3, FAILURES)
    with pytest.raises(ValueError, match="failure_threshold"):
        cluster.publish(cluster.table, failures=-1, gateway=0)
    with pytest.raises(TypeError):
        outlier_counters.take_crossed(None)  # type: ignore[arg-type]


def test_nothing_is_lost_between_threads() -> None:
    cluster = Cluster(64, failures=1)
    told: set[int] = set()
    done = threading.Event()

    def fail() -> None:
        for row in range(64):
            cluster.end(row, False)
        done.set()

    thread = threading.Thread(target=fail)
    thread.start()
    while not done.is_set() or cluster.slots.take_dirty():
        told |= {row for row, _ in outlier_counters.take_crossed(cluster.table)}
    thread.join()
    assert told | {row for row, _ in outlier_counters.take_crossed(cluster.table)} == set(range(64))
