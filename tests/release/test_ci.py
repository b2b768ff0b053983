"""Parts of a run of `.ci/run`: what is run again is named and counted, what is left out too."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

# Fails the first time only, or always.
TESTS = """
import pathlib, pytest
@pytest.mark.parametrize("number", range({count}))
def test_unsteady(number):
    mark = pathlib.Path(str(number))
    known = mark.exists()
    mark.touch()
    assert known
def test_of_the_kind():
    assert {steady}
"""


def run(folder: Path, script: str) -> subprocess.CompletedProcess[str]:
    (folder / "build/ci").mkdir(parents=True)
    (folder / "build/ci/tests.log").write_text("1 passed\n")
    lines = ("set -euo pipefail", f"source {ROOT}/.ci/parts.sh", "trap finish EXIT", script)
    environment = {**os.environ, "PYTHON": sys.executable}
    return subprocess.run(
        ["bash", "-c", "\n".join(lines)], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )


@pytest.mark.parametrize(("count", "steady", "code"), [(0, True, 0), (3, True, 0), (4, True, 1), (1, False, 1)])
def test_few_tests_may_pass_when_run_again_and_each_is_named(tmp_path, count, steady, code):
    (tmp_path / "test_it.py").write_text(TESTS.format(count=count, steady=steady))
    ended = run(tmp_path, 'part tests 1 "$PYTHON" -m pytest -q -p no:cacheprovider test_it.py')
    assert ended.returncode == code, ended.stdout
    named = [line for line in ended.stdout.splitlines() if line.startswith("tests: test_it.py")]
    assert named == [f"tests: test_it.py::test_unsteady[{number}]" for number in range(count if steady else 0)]
    assert ("failed once, passed when run again" in ended.stdout) == bool(named)
    assert ("everything passed" in ended.stdout) == (code == 0)


def test_a_part_begins_before_its_minute_or_is_named_as_left_out(tmp_path):
    ended = run(tmp_path, "SECONDS=120\nin_time 3 early 1 echo begun\nin_time 2 late 1 echo never")
    assert ended.returncode == 0
    assert "begun" in ended.stdout
    assert "never" not in ended.stdout
    assert "| late | left out: minute 2 had passed | 1 |" in ended.stdout
    assert "left out for time, make nightly has them: late" in ended.stdout
