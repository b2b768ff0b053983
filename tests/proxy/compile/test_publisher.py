"""When snapshots become visible: in slices, the newest only, routes in the same turn as clusters."""

import asyncio
import threading
from dataclasses import replace

import pytest
from eastgate.fastpath.loop.cluster_slots import ClusterSlots
from eastgate.proxy.compile import cluster_tables, notices, publisher
from eastgate.proxy.compile.cluster_tables import HASHED_ENTRIES, HASHED_ROWS, compile_table, takes_long
from eastgate.proxy.compile.compiler import Compiler
from eastgate.proxy.compile.publisher import Publisher
from eastgate.proxy.membership.endpoint_health import Cause, key_of
from eastgate.proxy.slices import Errand, Steps, finish
from eastgate.xds.resources import Assignment, Cluster, Hashing, Snapshot

from ...columns import columns
from ...oracle.shares import Endpoint
from .test_compiler import NAME, SEALED, assignment, chain, cluster, listener, many, snapshot


class Published:
    """A publisher that notes how many clusters and routes there were whenever routes were published."""

    def __init__(self) -> None:
        self.slots = ClusterSlots()
        self.compiler = Compiler(self.slots)
        self.seen: list[tuple[int, int]] = []
        self.publisher = Publisher(self.compiler, self.note)

    def note(self) -> tuple[str, ...]:
        self.seen.append((len(self.compiler.clusters), len(self.compiler.listeners["l"].routes)))
        return ()


@pytest.fixture(autouse=True)
def yield_at_every_step(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(publisher, "SLICE_S", 0.0)


async def test_others_run_while_a_snapshot_is_compiled() -> None:
    made = Published()
    turns = 0

    async def count() -> None:
        nonlocal turns
        while not made.seen:
            turns += 1
            await asyncio.sleep(0)

    async with asyncio.TaskGroup() as group:
        group.create_task(count())
        assert await made.publisher.publish(many(100)) == ()
    assert turns > 100
    assert made.seen == [(100, 100)]


async def test_newer_snapshot_supersedes_one_that_is_being_compiled() -> None:
    made = Published()
    newest = many(10)
    async with asyncio.TaskGroup() as group:
        older = group.create_task(made.publisher.publish(many(100)))
        for _ in range(20):
            await asyncio.sleep(0)
        assert not made.seen
        newer = group.create_task(made.publisher.publish(newest))
    assert (older.result(), newer.result()) == ((), ())
    assert made.seen == [(10, 10)]
    assert len(made.slots) == 10


async def test_both_callers_hear_what_could_not_be_compiled() -> None:
    made = Published()
    bad = snapshot(cluster(), assignment(("10.0.0.1", 80), factor=0), listener(chain()))
    async with asyncio.TaskGroup() as group:
        older = group.create_task(made.publisher.publish(many(100)))
        await asyncio.sleep(0)
        newer = group.create_task(made.publisher.publish(bad))
    for one in (older, newer):
        assert [(error.kind, error.resource) for error in one.result()] == [("EDS", NAME)]


async def test_cancelled_publishing_leaves_everything_as_it_was() -> None:
    made = Published()
    async with asyncio.TaskGroup() as group:
        task = group.create_task(made.publisher.publish(many(100)))
        for _ in range(20):
            await asyncio.sleep(0)
        task.cancel()
    assert (made.seen, len(made.slots)) == ([], 0)
    await made.publisher.publish(many(5))
    assert made.seen == [(5, 5)]


async def test_slots_are_given_back_behind_the_routes() -> None:
    made = Published()
    await made.publisher.publish(many(50))
    await made.publisher.publish(Snapshot(listeners=many(1).listeners))
    assert made.seen == [(50, 50), (0, 1)]
    # The name that the listener still routes to.
    assert len(made.slots) == 1


async def test_cluster_that_changed_by_itself_waits_for_a_snapshot_that_is_being_compiled() -> None:
    made = Published()
    snapshots = many(50)
    order: list[str] = []
    refresh_steps = made.compiler.refresh_steps

    def noted(name: str) -> Steps[None]:
        order.append(f"{name} with {len(made.seen)} snapshots")
        return refresh_steps(name)

    made.compiler.refresh_steps = noted  # type: ignore[method-assign]
    async with asyncio.TaskGroup() as group:
        group.create_task(made.publisher.publish(snapshots))
        for _ in range(5):
            await asyncio.sleep(0)
        assert not made.seen
        made.publisher.refresh(["one"])
        assert not order
    assert order == ["one with 1 snapshots"]


# ---- tables that take long


def crowd(first: int = 0, **fields: object) -> tuple[Cluster, Assignment]:
    """A hashing cluster of one endpoint more than the loop is held for."""
    rows = columns(
        [Endpoint(f"10.{n >> 16}.{n >> 8 & 255}.{n & 255}:80") for n in range(first, first + HASHED_ROWS + 1)]
    )
    one = cluster(**{"lb_policy": "RING_HASH", "healthy_panic_threshold_percent": 0, **fields})
    return one, replace(assignment(), columns=rows)  # type: ignore[arg-type]


class Threads:
    """Where tables are compiled; `held` has them wait."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.seen: list[bool] = []
        self.begun = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self.free = threading.Event()
        self.free.set()
        monkeypatch.setattr(cluster_tables, "compile_table", self._compile)

    def _compile(self, *arguments: object) -> object:
        self.seen.append(threading.current_thread() is threading.main_thread())
        self._loop.call_soon_threadsafe(self.begun.set)
        assert self.free.wait(10)
        return compile_table(*arguments)  # type: ignore[arg-type]


@pytest.mark.parametrize("policy", ["RING_HASH", "MAGLEV"])
async def test_large_hashed_table_is_compiled_aside_and_the_old_one_serves_on(
    policy: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    made, threads = Published(), Threads(monkeypatch)
    one, endpoints = crowd(lb_policy=policy)
    routed = listener(chain())
    assert await made.publisher.publish(snapshot(one, endpoints, routed)) == ()
    before = made.compiler.clusters[NAME].table
    threads.free.clear()
    threads.begun.clear()
    _, others = crowd(7, lb_policy=policy)
    async with asyncio.TaskGroup() as group:
        publishing = group.create_task(made.publisher.publish(snapshot(one, others, routed)))
        await threads.begun.wait()
        for _ in range(100):
            await asyncio.sleep(0)
        assert made.compiler.clusters[NAME].table is before
        assert not publishing.done()
        threads.free.set()
    assert threads.seen == [False, False]
    after = made.compiler.clusters[NAME].table
    assert after is not None
    direct = compile_table(one, others, None)
    hashes = [number * 0x9E3779B97F4A7C15 & 0xFFFFFFFFFFFFFFFF for number in range(10_000)]
    assert [after.pick_hash(value) for value in hashes] == [direct.pick_hash(value) for value in hashes]


async def test_large_hashed_table_that_cannot_be_compiled_is_rejected_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    made, threads = Published(), Threads(monkeypatch)
    one, endpoints = crowd(hashing=Hashing(balance_factor=50))
    (error,) = await made.publisher.publish(snapshot(one, endpoints, listener(chain())))
    assert (error.kind, error.resource) == ("EDS", NAME)
    assert "hash_balance_factor is 50" in error.reason
    assert threads.seen == [False]


async def test_newer_snapshot_supersedes_one_whose_table_is_being_compiled_aside(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made, threads = Published(), Threads(monkeypatch)
    threads.free.clear()
    async with asyncio.TaskGroup() as group:
        group.create_task(made.publisher.publish(snapshot(*crowd(), listener(chain()))))
        await threads.begun.wait()
        group.create_task(made.publisher.publish(many(5)))
        await asyncio.sleep(0)
        threads.free.set()
    assert made.seen == [(5, 5)]
    assert len(made.slots) == 5


async def test_health_of_a_large_hashing_cluster_is_compiled_aside_too(monkeypatch: pytest.MonkeyPatch) -> None:
    made, threads = Published(), Threads(monkeypatch)
    one, endpoints = crowd()
    await made.publisher.publish(snapshot(one, endpoints, listener(chain())))
    before = made.compiler.clusters[NAME].table
    made.compiler.health.mark(NAME, key_of(endpoints.columns, 3), Cause.FAILED_OUTLIER_CHECK, True)
    published = asyncio.Event()
    made.compiler.observers.append(lambda *_: published.set())
    async with asyncio.TaskGroup() as group:
        running = group.create_task(made.publisher.run())
        made.publisher.refresh([NAME])
        assert made.compiler.clusters[NAME].table is before
        await published.wait()
        running.cancel()
    table = made.compiler.clusters[NAME].table
    assert table is not None
    assert (table.shares()[3], threads.seen) == (0.0, [False, False])


def test_errands_are_done_at_once_where_nobody_waits() -> None:
    def steps() -> Steps[int]:
        yield None
        errand = Errand(lambda: 42)
        yield errand
        return errand.result()

    assert finish(steps()) == 42


@pytest.mark.parametrize(
    ("fields", "weights", "long"),
    [
        ({"lb_policy": "ROUND_ROBIN"}, [1] * (HASHED_ROWS + 1), False),
        ({"lb_policy": "MAGLEV"}, [1] * (HASHED_ROWS + 1), True),
        ({"lb_policy": "MAGLEV"}, [1, 1], False),
        ({"lb_policy": "MAGLEV", "hashing": Hashing(table_size=5_000_011)}, [1, 1], True),
        ({"lb_policy": "RING_HASH"}, [1, 1], False),
        ({"lb_policy": "RING_HASH", "hashing": Hashing(minimum_ring_size=HASHED_ENTRIES + 1)}, [1, 1], True),
        ({"lb_policy": "RING_HASH"}, [1, HASHED_ENTRIES + 1], True),
        ({"lb_policy": "RING_HASH"}, [], False),
    ],
)
def test_what_takes_long_is_known_before(fields: dict[str, object], weights: list[int], long: bool) -> None:
    rows = columns([Endpoint(f"10.0.{n >> 8}.{n & 255}:80", weight=weight) for n, weight in enumerate(weights)])
    assert takes_long(cluster(**fields), replace(assignment(), columns=rows)) is long  # type: ignore[arg-type]


async def test_refusal_that_lasts_is_told_by_the_running_publisher(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing else has to happen: no push, and no change of health."""
    monkeypatch.setattr(notices, "PATIENCE_S", 0.05)
    made = Published()
    running = asyncio.ensure_future(made.publisher.run())
    # It waits for what there is to do before anything is published.
    await asyncio.sleep(0)
    sealed = snapshot(cluster(upstream_tls=SEALED), assignment(("10.0.0.1", 80)), listener(chain()))
    await made.publisher.publish(sealed)
    assert "connections will be refused" not in caplog.text
    async with asyncio.timeout(10):
        while "connections will be refused" not in caplog.text:  # noqa: ASYNC110 - a log line wakes nobody
            await asyncio.sleep(0.01)
    running.cancel()


@pytest.mark.parametrize("turns", range(4))
async def test_cancelled_while_it_is_being_woken_it_ends(turns: int) -> None:
    """A process that is told to stop when a secret has just come would go on for ever otherwise."""
    made = Published()
    running = asyncio.ensure_future(made.publisher.run())
    # A refusal that is told later, if it lasts: until then it waits with a time limit.
    sealed = snapshot(cluster(upstream_tls=SEALED), assignment(("10.0.0.1", 80)), listener(chain()))
    await made.publisher.publish(sealed)
    await asyncio.sleep(0.01)
    made.publisher.recompile()
    for _ in range(turns):
        await asyncio.sleep(0)
    running.cancel()
    async with asyncio.timeout(10):
        await asyncio.wait([running])
    assert running.cancelled()
