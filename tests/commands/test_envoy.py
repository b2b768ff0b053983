"""The arguments of `eastgate-envoy`: those of every pilot-agent since 1.10, and what is wrong with others."""

import json
import re
import subprocess
from pathlib import Path

import pytest

from ..support.pilot_agent import ARGUMENTS, ENVOY, RECORDED

COMMON = ("--drain-time-s", "45", "--max-obj-name-len", "189", "--concurrency", "2", "-l", "warning")
OLD = ("--restart-epoch", "0", "--service-cluster", "a.b", "--service-node", "sidecar~1.2.3.4~a.b~b.svc.cluster.local")
# By release of pilot-agent, as its pod logs show them.
BY_RELEASE = {
    "1.10": (*COMMON, *OLD, "--parent-shutdown-time-s", "60", "--bootstrap-version", "3", "--log-format", "%Y %v"),
    "1.14": (*COMMON, *OLD, "--parent-shutdown-time-s", "60", "--disable-hot-restart", "--drain-strategy", "immediate"),
    "1.20": (*ARGUMENTS, "--log-format", "%Y-%m-%dT%T.%fZ\t%l\tenvoy %n %g:%#\t%v\tthread=%t"),
    "1.27": ARGUMENTS,
    "1.29": (*ARGUMENTS, "--file-flush-min-size-kb", "64", "--enable-core-dump"),
    "with =": ("--drain-time-s=45", "--concurrency=2", "--log-level=warning", "--component-log-level=misc:error"),
}


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([ENVOY, *arguments], capture_output=True, text=True, timeout=60, check=False)


@pytest.mark.parametrize("release", BY_RELEASE)
def test_arguments_of_each_release_are_taken(release: str) -> None:
    ended = run("-c", str(RECORDED), "--mode", "validate", *BY_RELEASE[release])
    assert (ended.returncode, ended.stdout) == (0, f"configuration '{RECORDED}' OK\n")


def test_a_flag_that_nobody_knows_is_warned_about() -> None:
    ended = run("-c", str(RECORDED), "--mode", "validate", "--brand-new", "5", "--other-one=x", *ARGUMENTS)
    assert (ended.returncode, ended.stdout) == (0, f"configuration '{RECORDED}' OK\n")
    assert re.findall(r"flag=(\S+)", ended.stderr) == ["--brand-new", '"--other-one=x"']


def test_version_line_has_the_shape_that_tools_cut() -> None:
    ended = run("--version")
    assert ended.returncode == 0
    found = re.search(r"version: (\S+)", ended.stdout)
    assert found
    assert len(found[1].split("/")) == 5
    assert "eastgate" in found[1]


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ((), "eastgate-envoy: --config-path: missing"),
        (("-c", "/nowhere.json"), "eastgate-envoy: --config-path /nowhere.json: cannot be read"),
        (("-c", str(RECORDED), "--mode", "sing"), "eastgate-envoy: Invalid value for '--mode'"),
        (("-c", str(RECORDED), "--concurrency", "many"), "eastgate-envoy: Invalid value for '--concurrency'"),
        (("-c", str(RECORDED), "-l", "loud"), "eastgate-envoy: --log-level 'loud'"),
        (("-c", str(RECORDED), "--log-path", "/nowhere/log"), "eastgate-envoy: log file /nowhere/log"),
    ],
)
def test_bad_arguments_end_with_1_and_one_line(arguments: tuple[str, ...], reason: str) -> None:
    ended = run(*arguments)
    assert ended.returncode == 1
    assert ended.stderr.startswith(reason)
    assert ended.stderr.count("\n") == 1


@pytest.mark.parametrize("metadata", [{"X": "\ud800"}, {"LABELS": {"app": "\udfff"}}, {"X": [{"\ud800": 1}]}])
def test_validate_refuses_metadata_that_cannot_be_sent(tmp_path: Path, metadata: dict[str, object]) -> None:
    said = json.loads(RECORDED.read_text())
    said["node"]["metadata"] = metadata
    file = tmp_path / "bootstrap.json"
    file.write_text(json.dumps(said))
    ended = run("-c", str(file), "--mode", "validate")
    assert (ended.returncode, ended.stdout) == (1, "")
    assert re.fullmatch(r"eastgate-envoy: node .* is no text in UTF-8\n", ended.stderr)


def test_validate_opens_no_socket_and_tells_what_is_wrong(tmp_path: Path) -> None:
    file = tmp_path / "bootstrap.json"
    file.write_text('{"node": {"id": "sidecar~1.2.3.4~a.b~c"}, "dynamic_resources": {}}')
    ended = run("-c", str(file), "--mode", "validate")
    assert ended.returncode == 1
    assert ended.stderr == (f"eastgate-envoy: --config-path {file}: dynamic_resources.ads_config: is missing\n")
