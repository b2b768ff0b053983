"""CPUs that a cgroup grants, read from files as Linux writes them."""

import os
from pathlib import Path

import pytest
from eastgate.proxy import cpus


@pytest.fixture(autouse=True)
def eight_usable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)))


def granted(tmp_path: Path, membership: str, files: dict[str, str]) -> int:
    (tmp_path / "membership").write_text(membership)
    for name, text in files.items():
        path = tmp_path / "mount" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return cpus.granted_cpus(tmp_path / "membership", tmp_path / "mount")


@pytest.mark.parametrize(
    ("membership", "files", "wanted"),
    [
        ("0::/pod/one\n", {"pod/one/cpu.max": "200000 100000\n"}, 2),
        ("0::/pod/one\n", {"pod/one/cpu.max": "150000 100000\n"}, 2),
        ("0::/pod/one\n", {"pod/one/cpu.max": "10000 100000\n"}, 1),
        ("0::/pod/one\n", {"pod/one/cpu.max": "max 100000\n"}, 8),
        ("0::/pod/one\n", {"pod/one/cpu.max": "max 100000\n", "pod/cpu.max": "300000 100000\n"}, 3),
        ("0::/host/path\n", {"cpu.max": "400000 100000\n"}, 4),
        ("0::/\n", {"cpu.max": "6400000 100000\n"}, 8),
        (
            "4:memory:/a\n3:cpu,cpuacct:/a\n",
            {"cpu/a/cpu.cfs_quota_us": "300000\n", "cpu/a/cpu.cfs_period_us": "100000\n"},
            3,
        ),
        ("3:cpu,cpuacct:/a\n", {"cpu/a/cpu.cfs_quota_us": "-1\n", "cpu/a/cpu.cfs_period_us": "100000\n"}, 8),
        ("0::/pod/one\n", {"pod/one/cpu.max": "what is this\n"}, 8),
        ("nonsense\n", {}, 8),
    ],
)
def test_smallest_limit_on_the_way_up_counts(
    tmp_path: Path, membership: str, files: dict[str, str], wanted: int
) -> None:
    assert granted(tmp_path, membership, files) == wanted


def test_without_cgroups_it_is_what_the_process_may_be_scheduled_on(tmp_path: Path) -> None:
    assert cpus.granted_cpus(tmp_path / "absent", tmp_path) == 8
