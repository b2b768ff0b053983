"""What is kept in bench/results: documents show it, and hot functions take no more instructions than it says."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def run(*arguments: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", *arguments], cwd=ROOT, capture_output=True, text=True, timeout=280, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_documents_show_what_was_measured() -> None:
    run("bench.documents", "--check")


@pytest.mark.skipif(shutil.which("valgrind") is None, reason="valgrind is not installed")
def test_hot_functions_take_no_more_instructions_than_are_kept() -> None:
    run("bench.callgrind")
