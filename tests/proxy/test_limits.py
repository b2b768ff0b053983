"""Connections by descriptors and memory, and when new ones are shed, from files as Linux writes them."""

from pathlib import Path

import pytest
from eastgate.proxy.limits import CONNECTION_BYTES, MOST_CONNECTIONS, OWN_BYTES, Memory, Overload, limits_of

MIB = 1 << 20


@pytest.mark.parametrize("workers", [0, 1, 4, 256])
@pytest.mark.parametrize("descriptors", [1, 16, 64, 300, 1024, 4096, 20_000, 65_536, 1 << 20, 1 << 30])
def test_all_together_stays_within_the_descriptors(descriptors: int, workers: int) -> None:
    limits = limits_of(descriptors, None, workers=workers)
    assert limits.connections >= 1
    pipes = 2 * limits.pipes_of_worker * (workers or 1)
    if descriptors >= 16:
        assert limits.reserve > 0
        assert 2 * limits.connections + pipes + limits.reserve <= descriptors
        # Most of them are for connections.
        assert limits.connections >= min(descriptors // 4 - 1, MOST_CONNECTIONS)
    assert 4 <= limits.admin <= 256


def test_figures_of_usual_machines() -> None:
    assert limits_of(300, None, workers=1).connections == 84
    assert limits_of(1024, None, workers=2).connections == 288
    assert limits_of(1 << 20, None, workers=4).connections == 519_680


def test_memory_counts_where_it_is_less() -> None:
    limits = limits_of(1 << 20, 512 * MIB, workers=1)
    assert (limits.connections, limits.source) == ((512 * MIB - OWN_BYTES) // CONNECTION_BYTES, "memory")
    # Less than the process itself is thought to take: some are served all the same.
    assert limits_of(1 << 20, 64 * MIB, workers=1).connections == 16 * MIB // CONNECTION_BYTES
    assert limits_of(300, 512 * MIB, workers=1).source == "descriptors"


def test_by_hand_wins_and_is_compared() -> None:
    limits = limits_of(300, None, workers=1, asked=5000)
    assert (limits.connections, limits.source, limits.machine) == (5000, "asked", 84)


class Group:
    """A cgroup's files below a mount of our own."""

    def __init__(self, folder: Path, membership: str) -> None:
        self.mount, self._cgroup = folder / "mount", folder / "membership"
        self._cgroup.write_text(membership)

    def write(self, name: str, text: str) -> None:
        path = self.mount / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    def memory(self) -> Memory:
        return Memory(self._cgroup, self.mount)


def test_v2_has_the_tightest_limit_of_all_above(tmp_path: Path) -> None:
    group = Group(tmp_path, "0::/pod/one\n")
    group.write("pod/one/memory.max", "max\n")
    group.write("pod/memory.max", f"{512 * MIB}\n")
    group.write("memory.max", f"{1024 * MIB}\n")
    group.write("pod/memory.current", f"{300 * MIB}\n")
    group.write("pod/memory.stat", f"anon 5\nfile 7\ninactive_file {100 * MIB}\n")
    memory = group.memory()
    assert (memory.limit_bytes, memory.used_bytes()) == (512 * MIB, 200 * MIB)


def test_v1_has_its_own_names(tmp_path: Path) -> None:
    group = Group(tmp_path, "4:memory:/a\n3:cpu,cpuacct:/b\n0::/c\n")
    group.write("memory/a/memory.limit_in_bytes", f"{64 * MIB}\n")
    # No limit, as v1 says it.
    group.write("memory/memory.limit_in_bytes", "9223372036854771712\n")
    group.write("memory/a/memory.usage_in_bytes", f"{50 * MIB}\n")
    group.write("memory/a/memory.stat", f"cache 3\ntotal_inactive_file {10 * MIB}\n")
    memory = group.memory()
    assert (memory.limit_bytes, memory.used_bytes()) == (64 * MIB, 40 * MIB)


@pytest.mark.parametrize("text", ["max\n", "what is this\n", "-1\n", ""])
def test_what_limits_nothing_is_no_limit(tmp_path: Path, text: str) -> None:
    group = Group(tmp_path, "0::/\n")
    group.write("memory.max", text)
    assert group.memory().limit_bytes is None
    assert group.memory().pressure() == 0.0
    assert Memory(tmp_path / "nowhere", tmp_path).limit_bytes is None


def test_shedding_begins_late_and_ends_with_some_room(tmp_path: Path) -> None:
    group = Group(tmp_path, "0::/\n")
    group.write("memory.max", f"{100 * MIB}\n")
    overload = Overload(group.memory())
    seen = []
    for used in (50, 94, 95, 92, 96, 90, 89, 94, 99):
        group.write("memory.current", f"{used * MIB}\n")
        changed = overload.update()
        seen.append((overload.active, changed))
    assert seen == [
        (False, False),
        (False, False),
        (True, True),
        (True, False),
        (True, False),
        (True, False),
        (False, True),
        (False, False),
        (True, True),
    ]
