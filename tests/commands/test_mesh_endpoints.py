"""`mesh endpoints`: JSON has what the text shows."""

import json
from pathlib import Path

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
