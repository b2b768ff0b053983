"""Commands that ask the proxy of a pod, as an operator runs them."""

import json
import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from importlib.metadata import entry_points
from pathlib import Path

import pytest

from ..support import dumps
from ..support.admin_pages import envoy_pages, serving
from ..support.fake_kubectl import install, pod
from ..support.gateway_process import EASTGATE, run_command
from ..support.waiting import until

ECHO = "outbound|80||echo-tcp.default.svc.cluster.local"


@pytest.fixture(scope="module")
def kubectl(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    with serving(envoy_pages("anthos-sidecar")) as sidecar, serving(envoy_pages("gke-gateway")) as gateway:
        echo = {"pods": [pod("echo")], "admins": {"default/echo": sidecar}}
        router = pod("gw", namespace="istio-system", args=("proxy", "router"))
        gke = {"pods": [router, pod("silent")], "admins": {"istio-system/gw": gateway}}
        yield install(tmp_path_factory.mktemp("kubectl"), {"anthos": echo, "gke": gke})


def test_endpoints_and_explain_of_a_pod_of_stock_envoy(kubectl: dict[str, str]) -> None:
    run = run_command("endpoints", "--pod", "echo", "--cluster", ECHO, **kubectl)
    assert run.returncode == 0, run.stderr
    assert "10.100.10.6:15443" in run.stdout
    run = run_command("explain", ECHO, "--pod", "echo.default", "--context", "anthos", "--json", **kubectl)
    assert json.loads(run.stdout)["cluster"] == ECHO


def test_doctor_of_one_pod_is_that_of_its_dumps(kubectl: dict[str, str]) -> None:
    files = [f"--dump={dumps.ENVOY / 'anthos-sidecar' / name}.json" for name in ("config_dump", "clusters")]
    said = [run_command("doctor", *one, "--json", **kubectl) for one in (files, ["--pod", "echo"])]
    by_files, by_pod = ([{**one, "proxies": ""} for one in json.loads(run.stdout)["findings"]] for run in said)
    assert by_files == by_pod


def test_doctor_walks_the_mesh_and_reports_once(kubectl: dict[str, str]) -> None:
    run = run_command("doctor", "--mesh", "--context", "anthos", "--context", "gke", **kubectl)
    assert run.returncode == 1, run.stderr
    assert "in pod echo.default (anthos), pod gw.istio-system (gke)" in run.stdout.splitlines()[0]
    assert "[pod echo.default (anthos)]" in run.stdout
    lines = run.stderr.splitlines()
    assert "eastgate: asking proxies: 3 of 3 (silent.default)" in lines
    assert any(line.startswith("eastgate: note: pod silent.default (gke): /clusters?format=json: ") for line in lines)


def test_diff_between_a_dump_and_a_pod(kubectl: dict[str, str], tmp_path: Path) -> None:
    before = str(dumps.ENVOY / "anthos-sidecar" / "config_dump.json")
    run = run_command("diff", before, "--pod", "echo", "--cluster", ECHO, **kubectl)
    assert (run.returncode, run.stderr) == (0, "")
    assert "to   pod echo.default, now" in run.stdout


@pytest.mark.parametrize(
    ("words", "code", "reason"),
    [
        (["doctor", "--pod", "nobody"], 1, '--pod nobody: kubectl: Error from server (NotFound): pods "nobody" not'),
        (["doctor", "--pod", "echo", "--kubectl", "no-such"], 1, "--pod echo: no-such: not found on PATH"),
        (["doctor", "--pod", "echo", "--dump", "x"], 2, "--pod and --dump"),
        (["doctor", "--pod", "echo", "--mesh"], 2, "--pod and --mesh"),
        (["endpoints", "--context", "gke"], 2, "--context and --kubeconfig are for --pod"),
        (["diff", "a", "b", "--pod", "echo"], 2, "--pod: it is AFTER"),
        (["doctor", "--mesh", "--context", "nowhere"], 1, 'kubectl: error: context "nowhere" does not exist'),
    ],
)  # fmt: skip
def test_what_is_wrong_is_one_line(kubectl: dict[str, str], words: list[str], code: int, reason: str) -> None:
    run = run_command(*words, **kubectl)
    assert run.returncode == code, run.stderr
    (line,) = run.stderr.splitlines()
    assert reason in line


def test_kubectl_finds_it_as_a_plugin() -> None:
    (plugin,) = entry_points(group="console_scripts", name="kubectl-eastgate")
    assert plugin.load() is entry_points(group="console_scripts", name="eastgate")["eastgate"].load()


def forwarding() -> set[int]:
    """Processes that forward a port of the fake pod of stock Envoy."""
    found = set()
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):
            words = path.read_bytes().split(b"\0")
            if b"pod/echo" in words and b":15000" in words and words[0]:
                found.add(int(path.parent.name))
    return found


def descendants(process: int) -> set[int]:
    """Children of a process."""
    found = set()
    with suppress(OSError):
        for path in Path(f"/proc/{process}/task").iterdir():
            found |= set(map(int, (path / "children").read_text().split()))
    return found


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGKILL])
def test_no_forwarded_port_outlives_the_command(kubectl: dict[str, str], number: signal.Signals) -> None:
    # What runs these tests may ignore a signal, and who ignores it hands that on.
    command = ["env", "--default-signal=INT,HUP", EASTGATE, "page", "--pod", "echo"]
    # To the process alone: a terminal's Ctrl-C would end kubectl by itself.
    with subprocess.Popen(
        command, env={**os.environ, **kubectl}, stdout=subprocess.PIPE, text=True, start_new_session=True
    ) as run:
        try:
            assert run.stdout is not None
            assert "page at http://" in run.stdout.readline()
            children = descendants(run.pid) & forwarding()
            assert len(children) == 1
            run.send_signal(number)
            run.wait(20)
        finally:
            run.kill()
    until(lambda: not children & forwarding(), "kubectl has ended")
