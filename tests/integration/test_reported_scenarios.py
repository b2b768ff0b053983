"""Scenarios after public reports, and the example of a flat network, on real gateways and control planes."""

import json
from pathlib import Path

import pytest

from ..support.gateway_process import run_command

ROOT = Path(__file__).parents[2]
CASES = ROOT / "tests/data/mesh/cases"
FLAT = ROOT / "docs/examples/flat-network.yaml"


@pytest.mark.parametrize(
    "file",
    [CASES / "03-root-ns-catchall-run.yaml", CASES / "30-subset-tls-disable-run.yaml", FLAT],
    ids=lambda file: file.stem,
)
def test_every_step_is_as_expected(file: Path) -> None:
    done = run_command("mesh", "run", str(file), "--connections", "150", "--json")
    stages = json.loads(done.stdout)["stages"]
    assert [one["name"] for one in stages if not one["ok"]] == []
    assert done.returncode == 0
    through = [one["via_gateway"] for one in stages]
    assert through == [0] * len(stages) if file is FLAT else all(through)
