"""`eastgate doctor` as an operator runs it: exit codes, grouping, choice of what to hear."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from eastgate.insight.doctor import RULE_NAMES

from ..support import dumps
from ..support.gateway_process import run_command

SIDECAR = [f"--dump={dumps.ENVOY / 'anthos-sidecar' / name}.json" for name in ("config_dump", "clusters")]
GATEWAY = [f"--dump={dumps.ENVOY / 'gke-gateway' / name}.json" for name in ("config_dump", "clusters")]
ECHO = "outbound|80||echo-tcp.default.svc.cluster.local"


def clean(folder: Path, **cluster: Any) -> str:
    """A dump in which doctor finds nothing, but for what `cluster` changes."""
    entries = (
        dumps.locality("tokyo", dumps.places(4)),
        dumps.locality("osaka", [dumps.gateway("192.0.2.6:15443"), dumps.gateway("192.0.2.7:15443")], priority=1),
    )
    settings = {"outlier": {"max_ejection_percent": 100}, **cluster}
    return dumps.write(folder, dumps.config_dump([dumps.cluster(**settings)], [dumps.assignment(*entries)]))


def test_recorded_sidecar_is_diagnosed() -> None:
    run = run_command("doctor", *SIDECAR)
    assert run.returncode == 1, run.stderr
    titles = [line for line in run.stdout.splitlines() if line.startswith(("error: ", "warning: "))]
    assert titles == ["error: never-ejected", "warning: no-outlier-detection"]
    assert f"  {ECHO}: max_ejection_percent 10 of 3 endpoints" in run.stdout
    assert run.stdout.splitlines()[-1] == "2 errors, 1 warning"


def test_clean_dump_is_exit_code_0(tmp_path: Path) -> None:
    run = run_command("doctor", "--dump", clean(tmp_path))
    assert run.returncode == 0, run.stdout + run.stderr
    assert run.stdout.splitlines()[-1] == "nothing found"


def test_json_has_evidence_cause_and_fix(tmp_path: Path) -> None:
    run = run_command("doctor", "--dump", clean(tmp_path, outlier={}), "--json")
    assert run.returncode == 1
    (finding,) = json.loads(run.stdout)["findings"]
    assert finding.keys() == {
        "rule", "severity", "cluster", "evidence", "cause", "fix", "yaml", "addresses", "proxies", "now", "reached"
    }  # fmt: skip
    assert (finding["rule"], finding["severity"]) == ("never-ejected", "error")


def test_ignored_rules_do_not_count(tmp_path: Path) -> None:
    run = run_command("doctor", "--dump", clean(tmp_path, outlier={}), "--ignore", "never-ejected")
    assert (run.returncode, run.stdout.splitlines()[-1]) == (0, "nothing found")


def test_findings_of_one_cluster() -> None:
    run = run_command("doctor", *SIDECAR, "--cluster", ECHO, "--json")
    assert {one["cluster"] for one in json.loads(run.stdout)["findings"]} == {ECHO}


def test_client_and_remote_gateway_are_compared(tmp_path: Path) -> None:
    files = [
        dumps.write(tmp_path, dumps.recorded_dump("4-none-ready", role), f"{role}.json")
        for role in ("gke-sidecar", "anthos-gateway")
    ]
    run = run_command("doctor", "--dump", files[0], "--dump", files[1])
    assert run.returncode == 1
    assert "error: remote-weight-counts-unready" in run.stdout
    assert "the gateway refuses all of it" in run.stdout


def test_many_clusters_of_one_rule_are_cut_short(tmp_path: Path) -> None:
    names = [f"outbound|80||s{n}.default.svc.cluster.local" for n in range(9)]
    pods = dumps.locality("tokyo", dumps.places(2))
    document = dumps.config_dump(
        [dumps.cluster(name, outlier={}) for name in names], [dumps.assignment(pods, name=name) for name in names]
    )
    dump = dumps.write(tmp_path, document)
    assert "and 4 more clusters (--all)" in run_command("doctor", "--dump", dump).stdout
    assert names[8] in run_command("doctor", "--dump", dump, "--all").stdout


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["--cluster", "nope"], "unknown cluster 'nope'"),
        (["--ignore", "nonsense"], "--ignore nonsense: no such rule"),
        (["--dump", "/nowhere.json"], "No such file"),
    ],
)
def test_bad_usage_is_exit_code_2_and_one_line(arguments: list[str], reason: str) -> None:
    run = run_command("doctor", *GATEWAY, *arguments)
    assert run.returncode == 2
    (line,) = run.stderr.splitlines()
    assert reason in line


def test_dump_without_eds_says_how_to_take_one(tmp_path: Path) -> None:
    run = run_command("doctor", "--dump", dumps.write(tmp_path, dumps.config_dump([dumps.cluster()], [])))
    assert run.returncode == 2
    assert "include_eds" in run.stderr


def test_every_rule_is_documented() -> None:
    page = (Path(__file__).parents[2] / "docs" / "doctor.md").read_text()
    table = page.partition("| rule | found when |")[2].partition("\n\n")[0]
    assert set(re.findall(r"^\| `([a-z-]+)` \|", table, re.MULTILINE)) == RULE_NAMES


def test_a_folder_of_stock_envoys_dumps() -> None:
    by_files = run_command("doctor", *SIDECAR, "--json")
    by_folder = run_command("doctor", "--dump", str(dumps.ENVOY / "anthos-sidecar"), "--json")
    assert by_folder.returncode == 1, by_folder.stderr
    both = [json.loads(run.stdout)["findings"] for run in (by_files, by_folder)]
    assert [{**one, "proxies": []} for one in both[0]] == [{**one, "proxies": []} for one in both[1]]


def test_two_proxies_of_a_folder_are_named_with_what_was_found_in_them() -> None:
    run = run_command("doctor", "--dump", str(dumps.ENVOY))
    assert "anthos-sidecar, gke-gateway" in run.stdout.splitlines()[0]
    assert "endpoints: 1 of 3 would be 33 % [anthos-sidecar]" in run.stdout


def test_yaml_and_traffic_at_risk_are_printed() -> None:
    run = run_command("doctor", *SIDECAR)
    assert "  yaml:  spec: {trafficPolicy: {outlierDetection: {maxEjectionPercent: 100}}}" in run.stdout
    assert "% when failover comes to it" in run.stdout
