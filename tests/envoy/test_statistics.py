"""The same traffic and the same pushes are counted under the same names, with the same values, as by real Envoy."""

import socket
from collections.abc import Iterator
from contextlib import suppress

import pytest

from ..support import messages
from ..support.gateway_process import ProxyProcess, start
from ..support.hellos import client_hello
from ..support.replay_ads import ReplayThread
from ..support.tls_echo import Endpoint, TestCa
from ..support.waiting import until

# A colon in a name is an underscore in all counters of it.
NAME = "outbound_.80_._.echo:v1.test.svc.cluster.local"
SERVED, UNKNOWN = 20, 3
LISTENER = {"downstream_cx_total", "downstream_cx_active", "downstream_cx_destroy", "no_filter_chain_match"}
CLUSTER = {
    *("upstream_cx_total", "upstream_cx_active", "upstream_cx_destroy", "upstream_cx_connect_fail"),
    *("membership_change", "membership_total", "membership_healthy"),
}


@pytest.fixture(scope="module")
def endpoints() -> Iterator[list[Endpoint]]:
    made = [Endpoint((host, 0), tls=TestCa().server_context(host)) for host in ("127.0.0.1", "127.0.0.2")]
    yield made
    for endpoint in made:
        endpoint.close()


def connect(address: tuple[str, int], server_name: str) -> socket.socket:
    """A client that has said whom it wants, and has an answer or its end."""
    peer = socket.create_connection(address, 10)
    peer.settimeout(10)
    peer.sendall(client_hello(server_name))
    with suppress(ConnectionResetError):
        peer.recv(1)
    return peer


def listener_counters(proxy: ProxyProcess) -> dict[str, int]:
    """Of the listener under test, however its part of the name is made."""
    found = {}
    for name, value in proxy.stats("listener.").items():
        part, _, short = name.rpartition(".")
        if short in LISTENER and not part.startswith("admin") and "worker_" not in part:
            found[short] = value
    return found


def counted(kind: str, endpoints: list[Endpoint]) -> list[dict[str, int]]:
    """Counters after each step."""
    both, one = ([messages.At(endpoint.address) for endpoint in some] for some in (endpoints, endpoints[:1]))
    server = ReplayThread(messages.resources({NAME: both}))
    try:
        with start(kind, server.address) as proxy:
            address = proxy.wait_ready().bound_address(messages.LISTENER)
            steps = []

            def step(total: int) -> None:
                until(lambda: listener_counters(proxy)["downstream_cx_destroy"] == total, "connections have ended")
                cluster = proxy.stats(f"cluster.{NAME.replace(':', '_')}.")
                steps.append({**listener_counters(proxy), **{name: cluster[name] for name in CLUSTER}})

            for _ in range(SERVED):
                connect(address, NAME).close()
            for _ in range(UNKNOWN):
                connect(address, "unknown.test").close()
            step(SERVED)
            held = connect(address, NAME)
            step(SERVED)
            held.close()
            step(SERVED + 1)
            for told in (one, both, list(reversed(both))):
                server.push(messages.resources({NAME: told}))
                server.wait_answered()
                step(SERVED + 1)
            return steps
    finally:
        server.close()


def test_counters_are_envoys(endpoints: list[Endpoint]) -> None:
    ours, envoys = counted("eastgate", endpoints), counted("envoy", endpoints)
    assert ours == envoys
    assert ours[0]["downstream_cx_total"] == SERVED
    assert ours[0]["no_filter_chain_match"] == UNKNOWN
    assert [one["membership_change"] for one in ours] == [1, 1, 1, 2, 3, 3]
