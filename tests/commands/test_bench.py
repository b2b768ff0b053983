"""`eastgate bench`, and the benchmark file of the docs, which has to run where there is no checkout."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

from ..support.gateway_process import run_command

EXAMPLE = Path(__file__).parents[2] / "docs" / "examples" / "bench_selection.py"


def test_selection_as_json_and_as_a_table() -> None:
    words = ("bench", "selection", "--policy", "RANDOM", "--size", "10")
    run = run_command(*words, "--json")
    assert run.returncode == 0, run.stderr
    assert [one["picker"] for one in json.loads(run.stdout)["measured"]] == ["RANDOM", "random.choices"]
    lines = run_command(*words).stdout.splitlines()
    assert [line.split()[0] for line in lines] == ["ns", "RANDOM", "random.choices"]


def test_the_example_runs_outside_the_checkout(tmp_path: Path) -> None:
    shutil.copy(EXAMPLE, tmp_path)
    run = subprocess.run(
        [sys.executable, "-P", "-m", "pytest", "-q", "--benchmark-disable", EXAMPLE.name],
        cwd=tmp_path, capture_output=True, text=True, check=False, timeout=120, env={**os.environ, "PYTHONPATH": ""},
    )  # fmt: skip
    assert run.returncode == 0, run.stdout + run.stderr
    assert "22 passed" in run.stdout
