"""No hot function takes 5 % more instructions than bench/results/callgrind.json says: `make callgrind`."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.mark.skipif(shutil.which("valgrind") is None, reason="valgrind is not installed")
def test_hot_functions_take_no_more_instructions_than_are_kept() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "bench.callgrind"], cwd=ROOT, capture_output=True, text=True, timeout=280, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
