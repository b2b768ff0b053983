"""The user's own kubectl: what it says, and what is said where it cannot be run."""

from pathlib import Path

import pytest
from eastgate.mesh import importing
from eastgate.mesh.errors import MeshError
from eastgate.mesh.importing import run_kubectl


def program(folder: Path, script: str, mode: int = 0o755) -> str:
    made = folder / "kubectl"
    made.write_text(f"#!/bin/sh\n{script}\n")
    made.chmod(mode)
    return str(made)


def test_kubectl_is_run_with_the_context_and_its_answer_is_taken(tmp_path: Path) -> None:
    assert run_kubectl(program(tmp_path, 'echo "$@"'), "east")(("get", "pods")) == "--context east get pods\n"


@pytest.mark.parametrize(
    ("script", "mode", "said"),
    [
        ("echo no such context >&2; exit 1", 0o755, "--context east: no such context"),
        ("exit 3", 0o755, "--context east: exit code 3"),
        ("sleep 10", 0o755, "--context east: no answer within 0 s"),
        ("", 0o644, ": Permission denied (clusters are read through your own kubectl)"),
    ],
)
def test_a_kubectl_that_fails_is_one_line_with_its_cause(
    script: str, mode: int, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importing, "KUBECTL_S", 0.3)
    with pytest.raises(MeshError) as failed:
        run_kubectl(program(tmp_path, script, mode), "east")(("get", "pods"))
    assert str(failed.value).startswith(str(tmp_path / "kubectl"))
    assert str(failed.value).endswith(said)


def test_a_missing_kubectl_is_named() -> None:
    with pytest.raises(MeshError, match=r"^no-such-kubectl: not found on PATH \(clusters are read"):
        run_kubectl("no-such-kubectl", "east")(("get", "pods"))
