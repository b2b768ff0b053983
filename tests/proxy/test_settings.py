"""Every wrong flag is one line that names it, with exit code 2, before any port opens."""

from pathlib import Path

import pytest
from eastgate.proxy.errors import SettingsError
from eastgate.proxy.settings import gateway_settings
from eastgate.xds.resources import Locality

from ..support.gateway_process import run_command

GOOD = ["gateway", "--discovery", "127.0.0.1:15010"]
WRONG = [
    (["gateway"], "--discovery", "missing"),
    (["gateway", "--discovery", "istiod"], "--discovery", "HOST:PORT"),
    (["gateway", "--discovery", "istiod:http"], "--discovery", "port 'http'"),
    (["gateway", "--discovery", "::1:15010"], "--discovery", "brackets"),
    ([*GOOD, "--admin", "0.0.0.0:15000"], "--admin", "loopback"),
    ([*GOOD, "--status", "15021"], "--status", "HOST:PORT"),
    ([*GOOD, "--admin", "127.0.0.1:99999"], "--admin", "port '99999'"),
    ([*GOOD, "--node-id", "router~10.0.0.1~pod"], "--node-id", "four fields"),
    ([*GOOD, "--node-id", "sidecar~10.0.0.1~pod.ns~ns.svc.cluster.local"], "--node-id", "router"),
    ([*GOOD, "--node-id", "router~ten~pod.ns~ns.svc.cluster.local"], "--node-id", "'ten'"),
    ([*GOOD, "--label", "istio"], "--label", "KEY=VALUE"),
    ([*GOOD, "--meta", "A=1", "--meta", "A=2"], "--meta", "twice"),
    ([*GOOD, "--locality", "/zone"], "--locality", "REGION"),
    ([*GOOD, "--workers", "-1"], "--workers", "between 0 and 256"),
    ([*GOOD, "--workers", "two"], "--workers", "expected a whole number from 0 to 256"),
    ([*GOOD, "--busy-poll", "1001"], "--busy-poll", "between 0 and 1000"),
    ([*GOOD, "--busy-poll", "50", "--workers", "0"], "--busy-poll", "--workers 1 or more"),
    ([*GOOD, "--drain-time", "-1"], "--drain-time", "between"),
    ([*GOOD, "--max-connections", "0"], "--max-connections", "between"),
    ([*GOOD, "--access-log", "/nowhere/access.log"], "--access-log", "cannot be written"),
    (["gateway", "--discovery", "unix:"], "--discovery", "unix:PATH"),
    (["gateway", "--discovery", "istiod..svc:15010"], "--discovery", "'istiod..svc' is no name of a host"),
    ([*GOOD, "--status", f"{'a' * 64}:15021"], "--status", "is no name of a host"),
    ([*GOOD, "--meta", "OWNER=\udcff"], "node 'OWNER'", "is no text in UTF-8"),
    ([*GOOD, "--discovery-root-cert", "/nowhere/root.pem"], "--discovery-root-cert", "cannot be read"),
    ([*GOOD, "--token-file", "/nowhere/token"], "--token-file", "plaintext"),
    ([*GOOD, "--client-cert", "/nowhere/cert.pem"], "--client-cert", "plaintext"),
    ([*GOOD, "--client-key", "/nowhere/key.pem"], "--client-key", "plaintext"),
    ([*GOOD, "--xds-protocol", "rest"], "--xds-protocol", "rest"),
    ([*GOOD, "--state-dir", "/dev/null/state"], "--state-dir", "cannot be made"),
    ([*GOOD, "--state-max-age", "0"], "--state-max-age", "between"),
    ([*GOOD, "--log-level", "loud"], "--log-level 'loud'", "expected one of debug"),
    ([*GOOD, "--seed", "-1"], "--seed '-1'", "between 0 and 2^64-1"),
    ([*GOOD, "--drain-time", "nan"], "--drain-time 'nan'", "between 0 and 86400"),
    ([*GOOD, "--admin", "https://127.0.0.1:15000"], "--admin", "plain HTTP"),
    ([*GOOD, "--frobnicate"], "--frobnicate", "No such option"),
]


@pytest.mark.parametrize(("arguments", "flag", "cause"), WRONG, ids=[" ".join(a[-2:]) for a, _, _ in WRONG])
def test_wrong_flag_is_one_line_and_exit_code_2(arguments: list[str], flag: str, cause: str) -> None:
    run = run_command(*arguments)
    assert run.returncode == 2, run.stderr
    assert run.stdout == ""
    (line,) = run.stderr.splitlines()
    assert line.startswith("eastgate: ")
    assert flag in line
    assert cause in line


@pytest.mark.parametrize("flag", ["--state-dir", "--record"])
@pytest.mark.parametrize(("mode", "told"), [(0o777, "mode 0777"), (0o1777, "mode 1777"), (0o770, "mode 0770")])
def test_directory_that_others_can_write_to_is_refused(flag: str, mode: int, told: str, tmp_path: Path) -> None:
    tmp_path.chmod(mode)
    run = run_command(*GOOD, flag, str(tmp_path))
    assert run.returncode == 2
    (line,) = run.stderr.splitlines()
    assert f"{flag} '{tmp_path}': can be written to by others ({told})" in line
    # One below it is made for this user alone.
    gateway_settings(discovery=("127.0.0.1:15010",), **{flag[2:].replace("-", "_"): str(tmp_path / "own")})
    assert (tmp_path / "own").stat().st_mode & 0o777 == 0o700


FROM_ENVIRONMENT = [
    ("WORKERS", "300", "must be between 0 and 256"),
    ("RECORD_FILE_MB", "many", "expected a number from 0.01 to 65536"),
    ("XDS_PROTOCOL", "rest", "expected one of sotw, delta"),
    ("ADMIN", "0.0.0.0:1", "loopback"),
    ("LABEL", "a=1 b", "KEY=VALUE"),
    ("CLIENT_CERT", "/nowhere/cert.pem", "plaintext"),
    ("FAST_OPEN", "maybe", "'maybe' is not a valid boolean"),
]


@pytest.mark.parametrize(("variable", "value", "cause"), FROM_ENVIRONMENT, ids=[one[0] for one in FROM_ENVIRONMENT])
def test_wrong_variable_is_named_itself(variable: str, value: str, cause: str) -> None:
    run = run_command("gateway", **{"EASTGATE_DISCOVERY": "127.0.0.1:15010", f"EASTGATE_{variable}": value})
    assert run.returncode == 2
    (line,) = run.stderr.splitlines()
    assert line.startswith(f"eastgate: EASTGATE_{variable}")
    assert value.split()[-1] in line
    assert cause in line


@pytest.mark.parametrize("text", ["127.0.0.1:15999", "http://127.0.0.1:15999", "http://127.0.0.1:15999/"])
def test_admin_means_the_same_to_who_serves_and_who_asks(text: str) -> None:
    assert gateway_settings(discovery=["127.0.0.1:15010"], admin=text).admin == ("127.0.0.1", 15999)


def test_workers_are_as_many_as_there_are_cpus_unless_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("eastgate.proxy.settings.granted_cpus", lambda: 3)
    assert gateway_settings(discovery=["127.0.0.1:15010"]).workers == 3
    assert gateway_settings(discovery=["127.0.0.1:15010"], workers=0).workers == 0


def test_node_id_is_made_up_from_the_rest() -> None:
    settings = gateway_settings(discovery=["127.0.0.1:15010"], namespace="gateway", network="n1")
    kind, ip, workload, domain = settings.node_id.split("~")
    assert (kind, ip, domain) == ("router", "127.0.0.1", "gateway.svc.cluster.local")
    assert workload.endswith(".gateway")
    assert settings.network_view == ("n1",)


def test_given_node_id_wins_and_must_agree() -> None:
    node_id = "router~10.0.0.7~gw-1.edge~edge.svc.cluster.local"
    settings = gateway_settings(discovery=["[::1]:15010"], node_id=node_id, locality="r/z")
    assert (settings.node_id, settings.discovery) == (node_id, ("[::1]:15010",))
    assert settings.locality == Locality("r", "z")
    with pytest.raises(SettingsError, match="--namespace"):
        gateway_settings(discovery=["a:1"], node_id=node_id, namespace="other")
