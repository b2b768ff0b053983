"""What a push costs from its bytes to the published tables: decode, compare with what is there, compile, publish.

    pytest bench/bench_push.py --benchmark-only

One assignment changes in a gateway with one cluster, in four ways; and a gateway is given 5,000 clusters of 12
endpoints for the first time. `cpu_s` in extra_info is CPU of this process in the median round, and `stages_ms` says
where the time of the first configuration goes. Of a large hashing cluster, `longest_stall_ms` says for how long nothing
else ran on the control thread while its table was made: on the loop, as all tables once were, or aside, as it is now;
`longest_turn_cpu_ms` is what the thread itself did in one turn, whatever else the machine is busy with.
"""

import asyncio
import gc
import statistics
import time
from collections.abc import Callable, Iterable
from functools import cache
from typing import Any

import pytest
from eastgate.fastpath.loop.cluster_slots import ClusterSlots
from eastgate.proxy.compile.compiler import Compiler
from eastgate.proxy.compile.publisher import Publisher
from eastgate.xds.decode import CDS, EDS, LDS
from eastgate.xds.message import encode
from eastgate.xds.store import Store

from tests.support import messages
from tests.support.encoded import METADATA, assignment, endpoint

from .configuration import ROUTED, routed, services

SIZES = (10_000, 100_000)
CLUSTERS, PER_CLUSTER = 5_000, 12


@cache
def plain(size: int, shape: str) -> list[bytes]:
    metadata = METADATA if shape == "metadata" else b""
    return [endpoint(index, metadata=metadata) for index in range(size)]


def one_weight(endpoints: list[bytes], shape: str) -> list[bytes]:
    metadata = METADATA if shape == "metadata" else b""
    return [endpoint(0, metadata=metadata, weight=3), *endpoints[1:]]


def one_health(endpoints: list[bytes], shape: str) -> list[bytes]:
    metadata = METADATA if shape == "metadata" else b""
    return [endpoint(0, metadata=metadata, health=2), *endpoints[1:]]


def one_replaced(endpoints: list[bytes], shape: str) -> list[bytes]:
    metadata = METADATA if shape == "metadata" else b""
    return [*endpoints[:-1], endpoint(len(endpoints), metadata=metadata)]


def all_weights(endpoints: list[bytes], shape: str) -> list[bytes]:
    metadata = METADATA if shape == "metadata" else b""
    return [endpoint(index, metadata=metadata, weight=1 + index % 100) for index in range(len(endpoints))]


CHANGES = {"one weight": one_weight, "one health": one_health, "one replaced": one_replaced, "all weights": all_weights}


class Control:
    """The control side without its stream: what happens in one turn of the loop between a response and its ACK."""

    def __init__(self) -> None:
        self.store = Store(router=True)
        self.slots = ClusterSlots()
        self.compiler = Compiler(self.slots)

    def apply(self, type_url: str, version: str, resources: list[bytes]) -> None:
        applied = self.store.apply(type_url, version, resources)
        assert not applied.rejected, applied.reason
        errors = self.compiler.apply(self.store.snapshot)
        assert not errors, errors


@pytest.mark.parametrize("policy", ["ROUND_ROBIN", "LEAST_REQUEST"])
@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.benchmark(group="push applied: one assignment changes")
def test_push_applied(benchmark: Any, size: int, change: str, policy: str) -> None:
    control, versions = pushed_gateway(size, change, policy, "27 bytes")
    turn = iter(range(10**9))
    apply_in_turn(benchmark, lambda: control.apply(EDS, "v", versions[next(turn) % 2]), size)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.benchmark(group="push applied: one assignment changes")
def test_push_applied_with_metadata(benchmark: Any, size: int) -> None:
    """Endpoints as istiod writes them for injected pods, 141 bytes each."""
    control, versions = pushed_gateway(size, "one health", "ROUND_ROBIN", "metadata")
    turn = iter(range(10**9))
    apply_in_turn(benchmark, lambda: control.apply(EDS, "v", versions[next(turn) % 2]), size)


def pushed_gateway(size: int, change: str, policy: str, shape: str) -> tuple[Control, tuple[list[bytes], list[bytes]]]:
    """A gateway that serves one assignment, and the two versions to push in turn, the changed one first."""
    lb_policy = getattr(messages.ClusterLbPolicy, policy)
    control = Control()
    control.apply(CDS, "v", packed(CDS, (messages.cluster(ROUTED, lb_policy=lb_policy),)))
    endpoints = plain(size, shape)
    before = packed(EDS, (assignment(endpoints, name=ROUTED),))
    after = packed(EDS, (assignment(CHANGES[change](endpoints, shape), name=ROUTED),))
    control.apply(EDS, "v", before)
    assert control.compiler.clusters[ROUTED].table is not None
    return control, (after, before)


def apply_in_turn(benchmark: Any, call: Callable[[], None], size: int) -> None:
    benchmark.pedantic(call, rounds=20 if size > 10_000 else 60, iterations=1, warmup_rounds=4)
    benchmark.extra_info["ns_per_endpoint"] = round(benchmark.stats.stats.median / size * 1e9, 1)


@pytest.mark.parametrize("where", ["on the loop", "aside"])
@pytest.mark.parametrize("policy", ["RING_HASH", "MAGLEV"])
@pytest.mark.benchmark(group="push applied: 100,000 endpoints of a hashing cluster")
def test_hashed_push_stalls(benchmark: Any, policy: str, where: str) -> None:
    control, versions = pushed_gateway(100_000, "all weights", policy, "27 bytes")
    turn = iter(range(10**9))
    stalls: list[tuple[float, float]] = []

    async def push() -> None:
        publisher = Publisher(control.compiler, lambda: None)
        applied = control.store.apply(EDS, "v", versions[next(turn) % 2])
        assert not applied.rejected, applied.reason
        async with asyncio.TaskGroup() as group:
            watching = group.create_task(watch(stalls))
            await asyncio.sleep(0)
            if where == "aside":
                assert await publisher.publish(control.store.snapshot) == ()
            else:
                assert control.compiler.apply(control.store.snapshot) == ()
            await asyncio.sleep(0)
            watching.cancel()

    benchmark.pedantic(lambda: asyncio.run(push()), rounds=10, iterations=1, warmup_rounds=1)
    walls, turns = zip(*stalls, strict=True)
    benchmark.extra_info["longest_stall_ms"] = round(max(walls) * 1e3, 2)
    benchmark.extra_info["median_stall_ms"] = round(statistics.median(walls) * 1e3, 2)
    benchmark.extra_info["longest_turn_cpu_ms"] = round(max(turns) * 1e3, 2)


async def watch(stalls: list[tuple[float, float]]) -> None:
    """Note, when cancelled, the longest time between two turns of the loop, and the most CPU of its thread in one."""
    longest, last = 0.0, time.perf_counter()
    most, before = 0.0, time.thread_time()
    try:
        while True:
            await asyncio.sleep(0)
            now, spent = time.perf_counter(), time.thread_time()
            longest, last = max(longest, now - last), now
            most, before = max(most, spent - before), spent
    finally:
        stalls.append((longest, most))


def packed(type_url: str, payloads: Iterable[bytes]) -> list[bytes]:
    """The Anys of a response."""
    return [encode("google.protobuf.Any", {"type_url": type_url, "value": one}) for one in payloads]


@pytest.fixture(scope="module")
def configuration() -> dict[str, list[bytes]]:
    found = routed(9, 0, more=services(CLUSTERS, PER_CLUSTER))
    return {type_url: packed(type_url, named.values()) for type_url, named in found.items()}


@pytest.mark.parametrize("chains", ["with chains", "clusters and endpoints only"])
@pytest.mark.benchmark(group="first configuration: 5,000 clusters x 12 endpoints")
def test_first_configuration(benchmark: Any, configuration: dict[str, list[bytes]], chains: str) -> None:
    types = [CDS, EDS, LDS] if chains == "with chains" else [CDS, EDS]
    spent: list[float] = []
    stages: dict[str, list[float]] = {}

    def configure() -> Control:
        control = Control()
        for type_url in types:
            begun = time.process_time()
            applied = control.store.apply(type_url, "v", configuration[type_url])
            decoded = time.process_time()
            errors = control.compiler.apply(control.store.snapshot)
            compiled = time.process_time()
            assert not applied.rejected, applied.reason
            assert not errors, errors
            short = type_url.rpartition(".")[2]
            stages.setdefault(f"accept {short}", []).append((decoded - begun) * 1e3)
            stages.setdefault(f"compile after {short}", []).append((compiled - decoded) * 1e3)
        spent.append(time.process_time())
        return control

    def measured() -> Control:
        begun = time.process_time()
        control = configure()
        spent[-1] -= begun
        return control

    gc.collect()
    control = benchmark.pedantic(measured, rounds=7, iterations=1, warmup_rounds=1)
    assert len(control.compiler.clusters) == CLUSTERS + 1
    assert all(one.table is not None for one in control.compiler.clusters.values())
    benchmark.extra_info["cpu_s"] = round(statistics.median(spent), 3)
    benchmark.extra_info["stages_ms"] = {name: round(statistics.median(ms), 1) for name, ms in stages.items()}
