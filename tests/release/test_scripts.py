"""What the scripts of a release say when they cannot. `.ci/run` makes a wheel with them."""

import subprocess
from pathlib import Path

import pytest
import yaml
from eastgate.mesh.mesh_file import load

ROOT = Path(__file__).parents[2]


def complaint(script: str, *words: str) -> str:
    run = subprocess.run([ROOT / "release" / script, *words], capture_output=True, text=True, check=False)
    assert run.returncode == 2
    assert run.stdout == ""
    [sentence] = run.stderr.splitlines()
    return sentence


@pytest.mark.parametrize("words", [(), ("folder",)])
def test_wheels_want_a_folder_and_a_python(words, tmp_path):
    assert complaint("wheels.sh", *(str(tmp_path / word) for word in words)) == "wheels.sh: expected FOLDER PYTHON..."


def test_a_python_that_is_not_there_is_named_before_anything_is_built(tmp_path):
    assert complaint("wheels.sh", str(tmp_path), "python3.99") == "wheels.sh: no python3.99 on PATH"
    assert list(tmp_path.iterdir()) == []


def test_a_wheel_that_is_not_there_is_named():
    assert complaint("bare-root.sh", "none.whl") == (
        "bare-root.sh: expected WHEEL [PYTHON_FOLDER], and none.whl is no file"
    )


def test_what_a_bare_root_runs_crosses_a_gateway():
    """`bare-root.sh` believes the exit code of this scenario."""
    file = ROOT / "release/smoke.yaml"
    assert load(str(file)).scenario
    *_, scenario = yaml.safe_load_all(file.read_text())
    assert scenario["steps"][0]["expect"] == {"east": 0.5, "west": 0.5}
