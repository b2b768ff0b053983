"""`eastgate demo` and `eastgate mesh run` as a user starts them: real gateways, control planes and mTLS on loopback."""

import doctest
import json
import os
import re
import shlex
import signal
import subprocess
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ..support.gateway_process import EASTGATE, run_command
from ..support.waiting import until

ROOT = Path(__file__).parents[2]
STAGES = {
    "default": {"gke": 0.5, "anthos": 0.5},
    "locality failover": {"anthos": 1},
    "one local workload drained, unready endpoints hidden": {"anthos": 1},
    "one local workload drained, unready endpoints sent": {"anthos": 0.7, "gke": 0.3},
    "both local workloads drained": {"gke": 1},
    "one gateway dies": {"gke": 1},
    "its replacement": {"gke": 1},
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


TRANSCRIPTS = [
    block
    for page in ("README.md", "docs/demo.md")
    for language, block in re.findall(r"^```(.*?)\n(.*?)^```$", (ROOT / page).read_text(), re.MULTILINE | re.DOTALL)
    if not language and block.startswith(("2 clusters", "("))
]
COUNTED = re.compile(r"^(?:observed|mTLS| +\(\d|\d+ of \d+ steps)")
"""Lines whose numbers are another run's own."""


def masked(text: str) -> str:
    """Text with what was counted and measured left out."""
    lines = [re.sub(r"\d[\d.]*", "N", line) if COUNTED.match(line) else line.rstrip() for line in text.splitlines()]
    return "\n".join(lines) + "\n"


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
        # Every connection was one of mesh mTLS at a server's sidecar.
        assert one["handshakes"]["all"] == 200
    # One gateway is killed with a fifth of the connections through: half of that is all that it routed.
    half, died, replaced = stages[4:7]
    for one in half, replaced:
        assert one["through"] == pytest.approx({"gateway-1 of gke": 0.5, "gateway-2 of gke": 0.5}, abs=0.25)
        assert one["ejections"] == []
    assert died["through"]["gateway-1 of gke"] + died["through"]["gateway-2 of gke"] == 1
    assert 0 < died["through"]["gateway-2 of gke"] <= 0.2
    (ejected,) = died["ejections"]
    assert ejected["kind"] == "ejected"
    assert ejected["address"] == "gateway-2 of gke"
    assert ejected["moved"] == pytest.approx(0.5)
    assert {one["stands_for"]: one["share"] for one in died["endpoints"]} == {
        "anthos/echo-1": 0, "anthos/echo-2": 0, "gateway-1 of gke": 1, "gateway-2 of gke": 0,
    }  # fmt: skip
    # Sessions are kept by endpoint: one that is met again is resumed.
    assert stages[1]["handshakes"]["resumed"] > 150


def test_what_documents_show_is_what_is_printed() -> None:
    run = run_command("demo", "--connections", "60")
    assert run.returncode == 0, run.stdout + run.stderr
    assert max(map(len, run.stdout.splitlines())) <= 80
    assert len(TRANSCRIPTS) >= 5
    for told in TRANSCRIPTS:
        # A line of ... stands for any lines, before and after as well.
        wanted = f"...\n{masked(told)}...\n"
        checker = doctest.OutputChecker()
        assert checker.check_output(wanted, f"\n{masked(run.stdout)}\n", doctest.ELLIPSIS), f"{told}\n{run.stdout}"


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


def stopped(process: "subprocess.Popen[str]", number: signal.Signals) -> None:
    """Send a signal, and see that everything ends."""
    children = session_processes(process.pid)
    process.send_signal(number)
    process.communicate(timeout=60)
    until(lambda: not any(running(pid) for pid in children), "all parts have ended", deadline_s=60)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_nothing_is_left_running(number: signal.Signals) -> None:
    process = subprocess.Popen([EASTGATE, "demo"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, text=True)
    # Two processes of workloads, four gateways, four sidecars of servers and one of the client.
    until(lambda: len(session_processes(process.pid)) >= 11, "the parts run", deadline_s=90)
    stopped(process, number)
    assert process.returncode == (-signal.SIGKILL if number == signal.SIGKILL else 130)


# The steps in between change rules alone, not what runs.
@pytest.mark.parametrize("step", [1, 3, 5, 6, 7, 8, len(STAGES)])
def test_nothing_is_left_after_a_step(step: int, tmp_path: Path) -> None:
    command = [EASTGATE, "demo", "--connections", "5"]
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment) as run:
        assert run.stdout is not None
        assert any(line.startswith(f"({step}/{len(STAGES)})") for line in run.stdout), "it ended before"
        stopped(run, signal.SIGINT)
        # The last step may have been the end.
        assert run.returncode == 130 or (step == len(STAGES) and run.returncode == 0)
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def staying() -> "Iterator[subprocess.Popen[str]]":
    command = [EASTGATE, "demo", "--connections", "5", "--stay"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as run:
        try:
            yield run
        finally:
            run.kill()


def test_a_demo_that_stays_up_answers_and_takes_steps(staying: "subprocess.Popen[str]") -> None:
    said, typed = staying.stdout, staying.stdin
    assert said is not None
    assert typed is not None
    line = next(line for line in said if line.startswith("  curl "))
    address = line.split()[1].removeprefix("http://").rstrip("/")
    explain = "".join(next(said) for _ in range(2)).replace("\\\n", "")
    assert next(line for line in said if line.startswith("(1/12)")) == "(1/12) default\n"
    assert {asked(address) for _ in range(8)} == {"GKE!!!", "Anthos!!!"}
    typed.write("5\n13\n")
    typed.flush()
    assert next(said) == "(5/12) both local workloads drained\n"
    assert next(said) == "steps are 1 to 12\n"
    assert {asked(address) for _ in range(8)} == {"GKE!!!"}

    def explained_again() -> Any:
        return json.loads(run_command(*shlex.split(explain)[1:], "--json").stdout)["endpoints"]

    assert sorted(one["share"] for one in explained_again()) == [0, 0, 0.5, 0.5]
    typed.write("6\n")
    typed.flush()
    assert next(said) == "(6/12) one gateway dies\n"
    # Nobody notices, also not who asks first.
    assert {asked(address) for _ in range(8)} == {"GKE!!!"}
    assert sorted(one["share"] for one in explained_again()) == [0, 0, 0, 1]
    stopped(staying, signal.SIGINT)
    # Whoever ends it has seen the whole story.
    assert staying.returncode == 0


def asked(address: str) -> str:
    with urllib.request.urlopen(f"http://{address}/", timeout=10) as answer:
        return str(answer.read().decode().strip())


def test_staying_takes_sidecars(tmp_path: Path) -> None:
    run, _ = run_steps(tmp_path, "  - {name: both, expect: {here: 0.5, there: 0.5}}\n", "--stay")
    assert run.returncode == 2
    (line,) = run.stderr.splitlines()
    assert "--stay" in line
    assert "sidecars: true" in line


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
