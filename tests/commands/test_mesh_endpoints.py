"""`mesh endpoints`: JSON has what the text shows, and what takes long says how far it is."""

import json
import re
from pathlib import Path

import pytest
from click.testing import CliRunner
from eastgate.commands import mesh_diff, mesh_endpoints, mesh_run
from eastgate.mesh import documents

from ..support.gateway_process import run_command

MESH = """\
kind: Mesh
clusters:
  west:
    workloads:
      - {name: web-1, address: 10.1.0.1, labels: {app: web}}
      - {name: client, address: 10.1.0.9, labels: {app: client}}
services:
  - {name: web, ports: [{name: tcp, port: 80, targetPort: 8080}], selector: {app: web}}
  - {name: db, ports: [{name: tcp, port: 5432}], selector: {app: db}}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: web}
spec:
  hosts: [web]
  tcp:
    - route:
        - {destination: {host: web}, weight: 3}
        - {destination: {host: db, port: {number: 5432}}, weight: 1}
"""
WEB, DB = "web.default.svc.cluster.local", "db.default.svc.cluster.local"


def test_json_has_endpoints_and_routes(tmp_path: Path) -> None:
    file = tmp_path / "mesh.yaml"
    file.write_text(MESH)
    asked = ("mesh", "endpoints", str(file), "--client", "west/client", "--json")
    found = json.loads(run_command(*asked).stdout)
    assert {one["cluster"]: one["address"] for one in found["endpoints"]} == {
        f"outbound|80||{WEB}": "10.1.0.1:8080",
        f"outbound|5432||{DB}": "",
    }
    parts = {f"outbound|80||{WEB}": 0.75, f"outbound|5432||{DB}": 0.25}
    assert found["routes"] == [{"host": WEB, "port": 80, "which": "", "parts": parts}]
    # Of one cluster only.
    one = json.loads(run_command(*asked, "--cluster", DB).stdout)
    assert one == {"endpoints": [row for row in found["endpoints"] if DB in row["cluster"]], "routes": []}


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (["--client", "west/client", "--cluster", "wbe"], "no cluster with 'wbe' in its name"),
        (["--gateway", "west/web-1"], "no cluster: no Gateway that leads to a service selects it"),
        (["--client", "west/client", "--json"], "no cluster: it sees no service"),
    ],
)
def test_an_empty_table_says_why(arguments: list[str], why: str, tmp_path: Path) -> None:
    file = tmp_path / "mesh.yaml"
    file.write_text(MESH if "--json" not in arguments else MESH[: MESH.index("services:")])
    result = CliRunner().invoke(mesh_endpoints.command, [str(file), *arguments])
    assert result.exit_code == 0
    assert result.stderr.startswith("eastgate: note: west/default/")
    assert result.stderr.endswith(f" has {why}\n")


def test_a_long_reading_says_how_far_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file of some ten megabytes takes longer than people wait without a word; a small one is read in silence."""
    file = tmp_path / "mesh.yaml"
    file.write_text(MESH)
    told = f"eastgate: reading {file}: 100 % of {len(MESH)} bytes\n"
    asked = (
        (mesh_endpoints.command, [str(file), "--client", "west/client"]),
        (mesh_diff.command, [str(file), str(file)]),
        (mesh_diff.command, [str(tmp_path), str(file)]),
    )
    # Longer than any machine takes for this one.
    monkeypatch.setattr(documents, "TELL_S", 600.0)
    for command, arguments in asked:
        assert CliRunner().invoke(command, arguments).stderr == ""
    monkeypatch.setattr(documents, "TELL_S", 0.0)
    for command, arguments in asked:
        result = CliRunner().invoke(command, arguments)
        assert result.exit_code == 0
        assert told in result.stderr
        assert "reading" not in result.stdout
    # A file without a scenario is read, and not run.
    assert told in CliRunner().invoke(mesh_run.command, [str(file)]).stderr


def test_a_long_prediction_says_how_far_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the two clusters of one client, and of all that a change may concern."""
    old, new = tmp_path / "old.yaml", tmp_path / "new.yaml"
    old.write_text(MESH)
    new.write_text(MESH.replace("weight: 3", "weight: 9"))
    monkeypatch.setattr(documents, "TELL_S", 0.0)
    one = CliRunner().invoke(mesh_endpoints.command, [str(old), "--client", "west/client"])
    told = [line for line in one.stderr.splitlines() if "predicting" in line]
    assert told == [f"eastgate: predicting west/default/client: {percent} %" for percent in (0, 50)]
    both = CliRunner().invoke(mesh_diff.command, [str(old), str(new)])
    far = re.findall(r"predicting what moves from \S+ to \S+: (\d+) %", both.stderr)
    assert far == sorted(far, key=int)
    assert len(far) > len(told)
    assert "predicting" not in one.stdout + both.stdout
