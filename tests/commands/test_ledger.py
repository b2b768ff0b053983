"""`eastgate ledger` of files."""

import json
from pathlib import Path

from ..support import dumps
from ..support.gateway_process import run_command

FOLDER = dumps.ENVOY / "gke-gateway"


def test_a_dump_in_the_place_of_a_proxy(tmp_path: Path) -> None:
    """A folder, or the file in it; /clusters beside it says nothing of versions."""
    of_folder = run_command("ledger", "--dump", str(FOLDER), "--type", "lds")
    assert of_folder.stdout.splitlines()[1].split()[:3] == ["LDS", "ACKED", "0.0.0.0_15443"]
    file = run_command("ledger", "--dump", str(FOLDER / "config_dump.json"), "--type", "lds", "--json")
    assert [one["name"] for one in json.loads(file.stdout)["resources"]] == ["0.0.0.0_15443"]
    for path, cause in ((dumps.ENVOY, "a ledger each: name the dump of one proxy"), (tmp_path, "no config_dump")):
        run = run_command("ledger", "--dump", str(path))
        (line,) = run.stderr.splitlines()
        assert (run.returncode, cause in line) == (2, True)


def test_files_and_a_pod_are_too_much() -> None:
    run = run_command("ledger", "--dump", str(FOLDER), "--pod", "a")
    assert (run.returncode, "--pod and --dump" in run.stderr) == (2, True)
