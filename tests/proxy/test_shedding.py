from pathlib import Path

import pytest
from eastgate.proxy.limits import Memory
from eastgate.proxy.log import Log
from eastgate.proxy.shedding import LOOK_S, Shedding

LIMIT = 1000


class Group:
    """A cgroup of 1,000 bytes. ``told``: what was asked of the engine."""

    def __init__(self, folder: Path, limit: int | None = LIMIT) -> None:
        self.folder = folder / "group"
        self.folder.mkdir()
        (folder / "cgroup").write_text("0::/group\n")
        if limit is not None:
            (self.folder / "memory.max").write_text(f"{limit}\n")
        self.use(0)
        self.told: list[bool] = []
        self.shedding = Shedding(Memory(folder / "cgroup", folder), self.told.append, Log("test"))

    def use(self, used: int) -> None:
        (self.folder / "memory.current").write_text(f"{used}\n")


def test_connections_are_shed_near_the_limit_and_taken_again_below_it(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    group = Group(tmp_path)
    group.use(960)
    group.shedding.look(1.0)
    assert (group.told, group.shedding.active, group.shedding.pressure) == ([True], True, 0.96)
    # Between both bounds nothing changes, and nothing is said.
    group.use(920)
    group.shedding.look(2.0)
    assert group.told == [True]
    group.use(890)
    group.shedding.look(3.0)
    assert (group.told, group.shedding.active) == ([True, False], False)
    assert ["memory ends" in record.message for record in caplog.records] == [True, False]


def test_memory_is_looked_at_only_so_often(tmp_path: Path):
    group = Group(tmp_path)
    group.shedding.look(1.0)
    group.use(990)
    group.shedding.look(1.0 + LOOK_S / 2)
    assert group.told == []
    group.shedding.look(1.0 + LOOK_S)
    assert group.told == [True]


def test_without_a_limit_nothing_is_shed_and_no_pressure_is_known(tmp_path: Path):
    group = Group(tmp_path, None)
    group.use(1 << 40)
    group.shedding.look(1.0)
    assert (group.told, group.shedding.active, group.shedding.pressure) == ([], False, None)
