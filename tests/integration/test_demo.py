"""`eastgate demo` and `eastgate mesh run` as a user starts them: real gateways, control planes and mTLS on loopback."""

import json
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest

from ..support.gateway_process import EASTGATE, run_command
from ..support.waiting import until

STAGES = {
    "default": {"gke": 0.5, "anthos": 0.5},
    "locality failover": {"anthos": 1},
    "one local workload drained, unready endpoints hidden": {"anthos": 1},
    "one local workload drained, unready endpoints sent": {"anthos": 0.7, "gke": 0.3},
    "both local workloads drained": {"gke": 1},
    "recovery": {"anthos": 1},
    "failoverPriority": {"anthos": 1},
    "distribute 80/20": {"anthos": 0.8, "gke": 0.2},
    "clusterLocal": {"anthos": 1},
    "per-cluster subset": {"anthos": 1},
}
MESH = """\
kind: Mesh
options: {metadata_exchange: false}
clusters:
  here:
    network: here
    workloads:
      - {name: echo, labels: {app: echo}, role: echo}
      - {name: client, role: client}
  there:
    network: there
    workloads:
      - {name: echo, labels: {app: echo}, role: echo}
      - {name: gateway, labels: {istio: eastwestgateway}, role: gateway}
services:
  - {name: echo, ports: [{name: tcp, port: 80, targetPort: 8080}], selector: {app: echo}}
---
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: cross-network}
spec:
  selector: {istio: eastwestgateway}
  servers:
    - {port: {number: 15443, protocol: TLS}, bind: 127.0.0.1, tls: {mode: AUTO_PASSTHROUGH}, hosts: ["*.local"]}
---
kind: Scenario
client: here/client
service: echo
connections: 40
steps:
"""


def session_processes(session: int) -> list[int]:
    """Processes whose parent or ancestor is `session`, by /proc."""
    parents = {}
    for path in Path("/proc").iterdir():
        if path.name.isdigit():
            try:
                parents[int(path.name)] = int((path / "stat").read_text().rpartition(")")[2].split()[1])
            except (OSError, IndexError):
                continue
    found = {session}
    while more := {pid for pid, parent in parents.items() if parent in found} - found:
        found |= more
    return sorted(found - {session})


def test_every_stage_of_the_demo_is_as_expected() -> None:
    run = run_command("demo", "--json", "--connections", "200")
    assert run.returncode == 0, run.stdout + run.stderr
    assert run.stderr == ""
    stages = json.loads(run.stdout)["stages"]
    assert {one["name"]: one["expected"] for one in stages} == STAGES
    for one in stages:
        assert one["ok"], one
        assert one["connections"] == 200
        assert one["errors"] == {}
        assert sum(one["observed"].values()) == pytest.approx(1)
        # Answers of the other cluster came through its gateway, by the gateway's own count.
        assert one["via_gateway"] == round(one["observed"]["gke"] * 200)
        assert sum(row["share"] for row in one["endpoints"]) == pytest.approx(1)
        assert {"address", "priority", "locality", "weight", "health", "share"} <= set(one["endpoints"][0])


def run_steps(tmp_path: Path, steps: str, *arguments: str) -> tuple[subprocess.CompletedProcess[str], list[Any]]:
    file = tmp_path / "mesh.yaml"
    file.write_text(MESH + steps)
    run = run_command("mesh", "run", str(file), "--json", *arguments)
    return run, json.loads(run.stdout)["stages"] if run.stdout else []


def test_a_gateway_fails_and_comes_back(tmp_path: Path) -> None:
    steps = (
        "  - {name: both, expect: {here: 0.5, there: 0.5}}\n"
        "  - {name: gateway down, fail: [{gateway: there}], expect: {here: 0.5, refused: 0.5}}\n"
        "  - {name: gateway up, repair: [{gateway: there}], expect: {here: 0.5, there: 0.5}}\n"
    )
    run, stages = run_steps(tmp_path, steps)
    assert run.returncode == 0, run.stdout + run.stderr
    assert [one["ok"] for one in stages] == [True, True, True]
    assert set(stages[1]["errors"]) == {"ConnectionRefusedError"}


def test_a_share_that_is_off_is_exit_code_1(tmp_path: Path) -> None:
    run, stages = run_steps(tmp_path, "  - {name: wrong, expect: {here: 1}}\n")
    assert run.returncode == 1
    assert not stages[0]["ok"]
    assert run.stderr.splitlines() == ["eastgate: not as expected: wrong"]


def test_a_bad_file_is_one_line_and_exit_code_2(tmp_path: Path) -> None:
    run, _ = run_steps(tmp_path, "  - {name: wrong, drain: [here/nobody]}\n")
    assert run.returncode == 2
    (line,) = run.stderr.splitlines()
    assert line.startswith(f"eastgate: {tmp_path}/mesh.yaml:30: 'here/nobody' means no workloads")
    run = run_command("mesh", "run", str(tmp_path / "nothing.yaml"))
    assert (run.returncode, run.stderr.count("\n")) == (2, 1)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_nothing_is_left_running(number: signal.Signals) -> None:
    process = subprocess.Popen([EASTGATE, "demo"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    # Two workload processes and two gateways.
    until(lambda: len(session_processes(process.pid)) >= 4, "the parts run")
    children = session_processes(process.pid)
    process.send_signal(number)
    process.wait(30)
    until(lambda: not any(running(pid) for pid in children), "all parts have ended")
    if number != signal.SIGKILL:
        assert process.returncode == 130


def running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_serve_follows_the_file_and_keeps_the_last_good_mesh(tmp_path: Path) -> None:
    file = tmp_path / "mesh.yaml"
    file.write_text(MESH.rpartition("---")[0])
    log = tmp_path / "log"
    command = [EASTGATE, "mesh", "serve", str(file), "--listen", "127.0.0.1:0"]
    with log.open("w") as stderr, subprocess.Popen(command, stderr=stderr) as process:
        try:
            until(lambda: "serving" in log.read_text(), "it serves")
            file.write_text(file.read_text().replace("network: there", "netwrok: there"))
            until(lambda: "last good mesh stays" in log.read_text(), "the bad file is named")
            assert f"{file}:10: unknown key 'netwrok'" in log.read_text()
            file.write_text(file.read_text().replace("netwrok", "network"))
            until(lambda: "mesh file read again" in log.read_text(), "the good file is read")
        finally:
            process.terminate()
    assert process.returncode == 0
