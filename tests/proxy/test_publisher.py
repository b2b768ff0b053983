"""When snapshots become visible: in slices, the newest only, routes in the same turn as clusters."""

import asyncio

import pytest
from eastgate.fastpath.cluster_slots import ClusterSlots
from eastgate.proxy import publisher
from eastgate.proxy.compiler import Compiler
from eastgate.proxy.publisher import Publisher
from eastgate.xds.resources import Snapshot

from .test_compiler import NAME, assignment, chain, cluster, listener, many, snapshot


class Published:
    """A publisher that notes how many clusters and routes there were whenever routes were published."""

    def __init__(self) -> None:
        self.slots = ClusterSlots()
        self.compiler = Compiler(self.slots)
        self.seen: list[tuple[int, int]] = []
        self.publisher = Publisher(self.compiler, self.note)

    def note(self) -> None:
        self.seen.append((len(self.compiler.clusters), len(self.compiler.listeners["l"].routes)))


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
    refresh = made.compiler.refresh

    def noted(name: str) -> None:
        order.append(f"{name} with {len(made.seen)} snapshots")
        refresh(name)

    made.compiler.refresh = noted  # type: ignore[method-assign]
    async with asyncio.TaskGroup() as group:
        group.create_task(made.publisher.publish(snapshots))
        for _ in range(5):
            await asyncio.sleep(0)
        assert not made.seen
        made.publisher.refresh(["one"])
        assert not order
    assert order == ["one with 1 snapshots"]
