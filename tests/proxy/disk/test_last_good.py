"""What is kept for the next start: when it is restored, stale, saved, and what a disk that fails costs."""

import asyncio
import errno
from collections.abc import Coroutine
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from eastgate.proxy.disk.last_good import LastGood, identity
from eastgate.proxy.disk.state_file import StateFile
from eastgate.xds.ads import TypeStatistics
from eastgate.xds.errors import XdsError
from eastgate.xds.node import NodeIdentity
from eastgate.xds.resources import Snapshot
from eastgate.xds.store import Store

from ...support.recordings import CDS, EDS, LDS, recorded
from ...xds import istiod as build

NODE = NodeIdentity(type="router", ips=("10.0.0.1",), pod_name="pod-1", namespace="istio-system", cluster_id="c1")


@dataclass
class Stream:
    """As much of an AdsClient as LastGood looks at."""

    statistics: dict[str, TypeStatistics] = field(
        default_factory=lambda: {kind: TypeStatistics() for kind in (CDS, EDS, LDS)}
    )
    connected: bool = True

    def answer(self) -> None:
        for kind in (CDS, LDS):
            self.statistics[kind].applied = True


class Side:
    """A store with its file; `published` is what became visible."""

    def __init__(self, folder: Path) -> None:
        self.store, self.stream = Store(), Stream()
        self.published: list[Snapshot] = []
        self.file = StateFile(str(folder), {"NETWORK": "n1"}, max_age_s=60.0)
        self.kept = LastGood(self.file, self.store, self.stream, publish=self._publish)  # type: ignore[arg-type]

    async def _publish(self, snapshot: Snapshot) -> tuple[XdsError, ...]:
        self.published.append(snapshot)
        return ()

    def fill(self) -> None:
        stage = recorded("2-failover", "anthos-gateway")
        for kind in (CDS, EDS, LDS):
            self.store.apply(kind, "v7", [build.packed(kind, payload) for payload in stage[kind].values()])

    async def saved_on_the_way_out(self) -> None:
        async with asyncio.TaskGroup() as group:
            task = group.create_task(self.kept.run())
            await asyncio.sleep(0)
            task.cancel()


def run(steps: Coroutine[Any, Any, None]) -> None:
    async def in_time() -> None:
        async with asyncio.timeout(30):
            await steps

    asyncio.run(in_time())


def test_another_pod_of_the_same_gateway_has_the_same_configuration() -> None:
    assert identity(NODE) == identity(replace(NODE, ips=("10.0.0.2",), pod_name="pod-2", id=""))
    assert identity(NODE) != identity(replace(NODE, cluster_id="c2"))
    assert identity(NODE) != identity(replace(NODE, type="sidecar", id=""))


def answered_side(folder: Path) -> Side:
    """One that an istiod has sent everything."""
    side = Side(folder)
    side.fill()
    side.stream.answer()
    return side


def test_what_was_saved_is_served_stale_until_both_types_were_answered(tmp_path: Path) -> None:
    async def steps() -> None:
        before = answered_side(tmp_path)
        await before.saved_on_the_way_out()
        after = Side(tmp_path)
        assert after.kept.describe() == {"stale": False}
        await after.kept.restore()
        assert after.published[-1].clusters == before.store.snapshot.clusters
        assert after.kept.stale
        assert after.kept.describe()["stale"] is True
        after.stream.statistics[CDS].applied = True
        assert after.kept.stale
        after.stream.answer()
        assert not after.kept.stale

    run(steps())


def test_what_came_from_the_file_is_not_saved_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def steps() -> None:
        before = answered_side(tmp_path)
        await before.saved_on_the_way_out()
        after = Side(tmp_path)
        await after.kept.restore()
        saved: list[Snapshot] = []
        monkeypatch.setattr(StateFile, "save", lambda _, snapshot: saved.append(snapshot))
        await after.saved_on_the_way_out()
        assert saved == []

    run(steps())


def test_full_disk_is_counted_and_asked_again_with_the_next_change_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    async def steps() -> None:
        side = answered_side(tmp_path)
        monkeypatch.setattr(StateFile, "save", full)
        await side.saved_on_the_way_out()
        assert side.kept.save_failed == 1
        await side.saved_on_the_way_out()
        assert side.kept.save_failed == 1
        side.store.apply(CDS, "v8", [])
        await side.saved_on_the_way_out()
        assert side.kept.save_failed == 2

    run(steps())


def test_without_a_file_nothing_is_restored_or_kept(tmp_path: Path) -> None:
    async def steps() -> None:
        side = Side(tmp_path)
        kept = LastGood(None, side.store, side.stream, publish=side._publish)  # type: ignore[arg-type]
        await kept.restore()
        await kept.run()
        assert (side.published, kept.stale) == ([], False)

    run(steps())
    assert list(tmp_path.iterdir()) == []
