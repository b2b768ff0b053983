"""What a push costs: compiling a table beside the oracle. `python -P -m pytest bench/bench_compile.py`.

`ns_per_endpoint` and `bytes_per_endpoint` stand in extra_info; of a whole snapshot, how long its slices hold the loop:
the longest one, and the last one, which publishes everything.
"""

import dataclasses
import gc
import time
from types import MappingProxyType
from typing import Any

import pytest
from eastgate.fastpath.loop.cluster_slots import ClusterSlots
from eastgate.fastpath.tables.cluster_table import ClusterTable
from eastgate.proxy.compile.compiler import Compiler
from eastgate.xds.resources import Assignment, Cluster, FilterChain, FilterChainMatch, Listener, Snapshot

from tests.columns import columns
from tests.oracle.shares import Endpoint

from .clusters import endpoints, locality_weights, oracle_cluster, weighted_columns

SIZES = (12, 1_000, 10_000, 100_000)


def measure(benchmark: Any, call: Any, size: int, rounds: int = 10) -> None:
    """Time calls and note nanoseconds per endpoint."""
    benchmark.pedantic(call, rounds=rounds, warmup_rounds=1)
    benchmark.extra_info["ns_per_endpoint"] = round(benchmark.stats.stats.median / size * 1e9, 1)


@pytest.mark.benchmark(group="compile: weighted, 3 priorities x 6 localities")
@pytest.mark.parametrize("policy", ["ROUND_ROBIN", "LEAST_REQUEST"])
@pytest.mark.parametrize("size", SIZES)
def test_first_table(benchmark: Any, size: int, policy: str) -> None:
    rows = weighted_columns(size)
    table = ClusterTable.compile(rows, policy=policy, locality_weighted=True)
    benchmark.extra_info["bytes_per_endpoint"] = round(table.memory() / size, 1)
    measure(benchmark, lambda: ClusterTable.compile(rows, policy=policy, locality_weighted=True), size)


@pytest.mark.benchmark(group="compile: after a change of health")
@pytest.mark.parametrize("size", SIZES)
def test_health_changed(benchmark: Any, size: int) -> None:
    rows = weighted_columns(size)
    before = ClusterTable.compile(rows, locality_weighted=True)
    changed = dataclasses.replace(rows, health=bytes([3 - rows.health[0]]) + rows.health[1:])
    measure(benchmark, lambda: ClusterTable.compile(changed, locality_weighted=True, previous=before), size)


@pytest.mark.benchmark(group="compile: after one endpoint left and one came")
@pytest.mark.parametrize("size", SIZES)
def test_endpoints_changed(benchmark: Any, size: int) -> None:
    before = ClusterTable.compile(weighted_columns(size), locality_weighted=True)
    rows = endpoints(size)
    changed = columns([*rows[: size // 2], *rows[size // 2 + 1 :], Endpoint("192.0.2.1:1")], locality_weights())
    table = ClusterTable.compile(changed, locality_weighted=True, previous=before)
    benchmark.extra_info["bytes_per_endpoint"] = round(table.memory() / size, 1)
    measure(benchmark, lambda: ClusterTable.compile(changed, locality_weighted=True, previous=before), size)


@pytest.mark.benchmark(group="compile: exact shares, as explain asks for them")
@pytest.mark.parametrize("size", SIZES)
def test_shares(benchmark: Any, size: int) -> None:
    table = ClusterTable.compile(weighted_columns(size), locality_weighted=True, panic_threshold=0)
    measure(benchmark, table.shares, size)


@pytest.mark.benchmark(group="compile: exact shares, as explain asks for them")
@pytest.mark.parametrize("size", [12, 1_000])
def test_oracle_shares(benchmark: Any, size: int) -> None:
    measure(benchmark, lambda: oracle_cluster(size).shares(), size, rounds=3)


def snapshot(services: int) -> Snapshot:
    """Clusters of twelve endpoints, each with a chain of istiod's shape on one listener."""
    names = [f"outbound_.80_._.service-{number}.default.svc.cluster.local" for number in range(services)]
    rows = weighted_columns(12)
    chains = [
        FilterChain(
            name=name,
            match=FilterChainMatch(server_names=(name,), application_protocols=("istio", "istio-h2")),
            clusters=((name, 1),),
        )
        for name in names
    ]
    return Snapshot(
        clusters=MappingProxyType({name: Cluster(name=name, type="EDS") for name in names}),
        assignments=MappingProxyType({name: Assignment(name, rows, 140, False, 0.0, b"") for name in names}),
        listeners=MappingProxyType(
            {"l": Listener(name="l", addresses=(("127.0.0.1", 15443),), filter_chains=tuple(chains))}
        ),
    )


@pytest.mark.benchmark(group="compile: a first snapshot in slices, 12 endpoints a cluster")
@pytest.mark.parametrize("services", [100, 1_000, 5_000])
def test_slices(benchmark: Any, services: int) -> None:
    whole = snapshot(services)
    # As in a running proxy: what stays is kept away from the garbage collector.
    gc.collect()
    gc.freeze()
    slices: list[float] = []
    published: list[float] = []

    def compile_in_slices() -> None:
        steps = Compiler(ClusterSlots()).steps(whole)
        while True:
            begin = time.perf_counter()
            if next(steps, steps) is steps:
                published.append(time.perf_counter() - begin)
                return
            slices.append(time.perf_counter() - begin)

    benchmark.pedantic(compile_in_slices, rounds=10, warmup_rounds=1)
    gc.unfreeze()
    benchmark.extra_info["longest_slice_ms"] = round(max(slices) * 1e3, 2)
    benchmark.extra_info["publish_ms"] = round(max(published) * 1e3, 2)
