"""What is left of a step of the Makefile that failed: nothing that the next try takes for done."""

import subprocess
from pathlib import Path

ROOT = Path(__file__).parents[2]

# As Debian's python3 without python3-venv: the links are made before pip cannot be.
WITHOUT_ENSUREPIP = """#!/bin/sh
[ "$1" = -m ] || exit 0
mkdir -p "$3/bin" && ln -sf "$0" "$3/bin/python" && echo "ensurepip is not available" && exit 1
"""


def environment(folder: Path) -> subprocess.CompletedProcess[str]:
    """As `make dev` begins."""
    words = ("make", "-f", ROOT / "Makefile", "-C", folder, f"PYTHON={folder}/python3", folder / ".venv/bin/python")
    return subprocess.run(words, capture_output=True, text=True, check=False)


def test_an_environment_without_pip_is_made_again(tmp_path):
    python = tmp_path / "python3"
    python.write_text(WITHOUT_ENSUREPIP)
    python.chmod(0o755)
    first = environment(tmp_path)
    assert first.returncode == 2
    assert "ensurepip is not available" in first.stdout
    python.write_text(WITHOUT_ENSUREPIP.replace("exit 1", "exit 0"))
    second = environment(tmp_path)
    assert second.returncode == 0, second.stderr
    assert "== virtual environment" in second.stdout
