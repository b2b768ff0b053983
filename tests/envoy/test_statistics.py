"""The same traffic and the same pushes are counted under the same names, with the same values, as by real Envoy."""

import socket
from collections.abc import Iterator
from contextlib import closing, suppress
from datetime import UTC, datetime

import pytest
from eastgate.xds.decode import CDS
from envoy_data_plane.envoy.config.cluster.v3 import Cluster, ClusterDiscoveryType
from envoy_data_plane.envoy.config.endpoint.v3 import ClusterLoadAssignment
from envoy_data_plane.envoy.config.listener.v3 import Listener

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
    *("membership_change", "membership_total", "membership_healthy", "lb_healthy_panic"),
    *("update_attempt", "update_success", "update_rejected"),
}
# Of the stat_prefix of the chain. What an endpoint sends before its client leaves is not the same each time.
TCP = {"downstream_cx_total", "downstream_cx_rx_bytes_total", "downstream_cx_no_route", "idle_timeout"}


@pytest.fixture(scope="module")
def endpoints() -> Iterator[list[Endpoint]]:
    made = [Endpoint((host, 0), tls=TestCa().server_context(host)) for host in ("127.0.0.1", "127.0.0.2")]
    yield made
    for endpoint in made:
        endpoint.close()


def connect(address: tuple[str, int], server_name: str) -> socket.socket:
    """A client that has said whom it wants, and has an answer or its end."""
    return connect_with(address, client_hello(server_name))


def connect_with(address: tuple[str, int], said: bytes) -> socket.socket:
    """The same with other first bytes."""
    peer = socket.create_connection(address, 10)
    peer.settimeout(10)
    peer.sendall(said)
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


def updates(proxy: ProxyProcess) -> dict[str, int]:
    """What the streams say of their updates: the version as a number, and that the last one was just now."""
    found = {}
    for prefix in ("cluster_manager.cds", "listener_manager.lds"):
        found[f"{prefix}.version"] = proxy.stat(f"{prefix}.version")
        age_s = datetime.now(UTC).timestamp() - proxy.stat(f"{prefix}.update_time") / 1000
        found[f"{prefix}.update_time is now"] = abs(age_s) < 300
        families = proxy.get("/stats/prometheus")[1]
        name = f"envoy_{prefix.replace('.', '_')}_update_duration"
        assert f"# TYPE {name} histogram" in families
        [durations] = [line for line in families.splitlines() if line.startswith(f"{name}_count")]
        count, success = int(durations.rpartition(" ")[2]), proxy.stat(f"{prefix}.update_success")
        # Envoy's are added up every five seconds.
        assert count == success if proxy.kind.startswith("eastgate") else count <= success
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
                cluster, tcp = (proxy.stats(f"{kind}.{NAME.replace(':', '_')}.") for kind in ("cluster", "tcp"))
                steps.append(
                    {
                        **listener_counters(proxy),
                        **{name: cluster[name] for name in CLUSTER},
                        **{f"tcp.{name}": tcp[name] for name in TCP},
                        **updates(proxy),
                        **{f"tls_inspector.{name}": value for name, value in proxy.stats("tls_inspector.").items()},
                    }
                )

            for _ in range(SERVED):
                connect(address, NAME).close()
            for _ in range(UNKNOWN):
                connect(address, "unknown.test").close()
            for said in (b"GET / HTTP/1.1\r\n\r\n", client_hello(None), client_hello(NAME, alpn=())):
                connect_with(address, said).close()
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
    assert ours[0]["no_filter_chain_match"] == UNKNOWN + 3
    assert ours[0]["tls_inspector.tls_not_found"] == 1
    assert ours[0]["tls_inspector.tls_found"] - ours[0]["tls_inspector.alpn_found"] == 1
    assert [one["membership_change"] for one in ours] == [1, 1, 1, 2, 3, 3]


@pytest.mark.parametrize("kind", ["envoy", "eastgate"])
def test_counters_of_a_listener_go_by_its_stat_prefix(kind: str, endpoints: list[Endpoint]) -> None:
    named = Listener.parse(messages.listener([messages.chain(NAME)]))
    named.stat_prefix = "my:own"
    pods = [messages.At(endpoint.address) for endpoint in endpoints]
    server = ReplayThread(messages.resources({NAME: pods}, listeners=[bytes(named)]))
    with closing(server), start(kind, server.address) as proxy:
        address = proxy.wait_ready().bound_address(messages.LISTENER)
        connect(address, NAME).close()
        proxy.wait_stat("listener.my_own.downstream_cx_total", 1)
        metrics = proxy.get("/stats/prometheus")[1].replace('{envoy_listener_address="', '{listener_address="')
        assert 'envoy_listener_downstream_cx_total{listener_address="my_own"} 1' in metrics


def test_an_address_that_is_named_twice_is_one_member_here(endpoints: list[Endpoint]) -> None:
    at = messages.At(endpoints[0].address)
    named = ClusterLoadAssignment.parse(messages.assignment(NAME, [at, at]))
    resources = messages.resources({NAME: []})
    resources[CDS][NAME] = bytes(Cluster(name=NAME, type=ClusterDiscoveryType.STATIC, load_assignment=named))
    found = {}
    server = ReplayThread(resources)
    try:
        for kind in ("eastgate", "envoy"):
            with start(kind, server.address) as proxy:
                proxy.wait_ready()
                found[kind] = proxy.stat(f"cluster.{NAME.replace(':', '_')}.membership_total")
    finally:
        server.close()
    assert found == {"eastgate": 1, "envoy": 2}
