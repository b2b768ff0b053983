"""What this machine lacks is one sentence; a lab that was stopped half-way is not mistaken for one that is up."""

import os
from pathlib import Path

import pytest

from lab import build
from lab import lab as lab_module
from lab.errors import LabError
from lab.lab import Lab, obstacle
from lab.settings import read_settings


def test_without_root_there_is_no_lab(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert obstacle().startswith("the lab needs root")


def test_without_cgroup_v1_there_is_no_lab(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(lab_module, "CGROUPS", tmp_path)
    assert "cgroup v1" in obstacle()


def test_missing_packages_are_named_to_whoever_may_not_install_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setattr(build.shutil, "which", lambda name, path: None if name in {"containerd", "runc"} else name)
    with pytest.raises(LabError, match="missing: containerd runc; install them, or run this as root"):
        build.install_packages()


def test_only_one_process_handles_a_lab(tmp_path: Path) -> None:
    settings = read_settings({"EASTGATE_LAB_STATE": str(tmp_path / "state")})
    with (
        Lab(settings).alone(),
        pytest.raises(LabError, match="another process"),
        Lab(settings).alone(),
    ):
        pass
    with Lab(settings).alone():
        pass


def test_end_of_what_never_was_is_no_error(tmp_path: Path) -> None:
    lab = Lab(read_settings({"EASTGATE_LAB_STATE": str(tmp_path)}))
    lab.down()
    lab.down()
    assert list(lab.status()) == ["gke: down", "anthos: down"]


def test_logs_are_kept_in_the_place_of_earlier_ones(tmp_path: Path) -> None:
    lab = Lab(read_settings({"EASTGATE_LAB_STATE": str(tmp_path / "state")}))
    pod = lab.nodes["gke"].folder / "var-log/pods/a"
    pod.mkdir(parents=True)
    (pod / "0.log").write_text("said")
    (pod / "secret.key").write_text("never")
    kept = tmp_path / "kept"
    (kept / "old").mkdir(parents=True)
    lab.save_logs(kept)
    assert [str(path.relative_to(kept)) for path in kept.rglob("*") if path.is_file()] == ["gke/var-log/pods/a/0.log"]
