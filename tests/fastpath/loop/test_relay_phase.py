"""How a relayed connection ends."""

import socket
import struct
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from eastgate.fastpath.reason import Reason

from ..driven_engine import Gateway, accept, client_hello, upstream

HELLO = client_hello()


@pytest.fixture
def server() -> Iterator[socket.socket]:
    with upstream() as listening:
        yield listening


@pytest.fixture(params=[0, 1], ids=lambda count: f"workers={count}")
def gateway(server: socket.socket, request: pytest.FixtureRequest) -> Iterator[Gateway]:
    made = Gateway(server.getsockname(), workers=request.param)
    yield made
    made.close()


def test_duration_that_is_over_before_the_connect_ends_the_connection(gateway: Gateway) -> None:
    gateway.engine.publish_routes(gateway.listener, gateway.route_to(gateway.slot, max_duration_ms=1))
    with gateway.connect() as client:
        gateway.until(lambda: gateway.engine.active_connections() == 1)
        time.sleep(0.005)
        client.sendall(HELLO)
        gateway.until(lambda: gateway.engine.active_connections() == 0)
        assert [event.reason for event in gateway.events] == [Reason.DURATION_TIMEOUT]
    assert gateway.slots.counters(gateway.slot).cx_active == 0


@pytest.mark.parametrize(
    ("who", "half_closed", "reason"),
    [
        ("endpoint", False, Reason.UPSTREAM_RESET),
        ("endpoint", True, Reason.UPSTREAM_RESET),
        ("client", False, Reason.CLIENT_RESET),
    ],
)
def test_reset_is_named_by_who_did_it(
    gateway: Gateway, server: socket.socket, who: str, half_closed: bool, reason: Reason
) -> None:
    with gateway.connect(HELLO) as client:
        gateway.until(lambda: gateway.table.state(0)[0])
        with accept(server) as endpoint:
            assert gateway.receive(endpoint, len(HELLO)) == HELLO
            if half_closed:
                client.shutdown(socket.SHUT_WR)
                assert gateway.receive(endpoint, 1) == b""
            going, staying = (endpoint, client) if who == "endpoint" else (client, endpoint)
            going.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            going.close()
            assert gateway.end_of(staying) == "RST"
    gateway.until(lambda: gateway.events)
    assert [event.reason for event in gateway.events] == [reason]


def test_orderly_end_has_no_reason(gateway: Gateway, server: socket.socket) -> None:
    with gateway.connect(HELLO) as client:
        gateway.until(lambda: gateway.table.state(0)[0])
        with accept(server) as endpoint:
            assert gateway.receive(endpoint, len(HELLO)) == HELLO
        assert gateway.end_of(client) == "FIN"
    gateway.until(lambda: gateway.events)
    assert [event.reason for event in gateway.events] == [Reason.NONE]


def keepalive_s(here: tuple[str, int], there: tuple[str, int]) -> float:
    """When the kernel asks the peer of this socket whether it lives; 0 when it does not. See proc_net_tcp."""
    local, remote = (f"{socket.inet_aton(host)[::-1].hex().upper()}:{port:04X}" for host, port in (here, there))
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        _, own, other, _, _, timer, *_ = line.split()
        if (own, other) == (local, remote):
            kind, left = timer.split(":")
            return int(left, 16) / 100 if kind == "02" else 0.0
    raise AssertionError(f"no connection {here} to {there}")


@pytest.mark.parametrize("first", ["client", "endpoint"])
def test_half_closed_captured_connections_are_kept_alive(server: socket.socket, first: str) -> None:
    """netfilter would forget them after a minute."""
    gateway = Gateway(server.getsockname(), workers=1, original_dst=True)
    with gateway.connect(HELLO) as client:
        gateway.until(lambda: gateway.table.state(0)[0])
        with accept(server) as endpoint:
            assert gateway.receive(endpoint, len(HELLO)) == HELLO
            closing, other = (client, endpoint) if first == "client" else (endpoint, client)
            closing.shutdown(socket.SHUT_WR)
            assert gateway.receive(other, 1) == b""
            for peer in (client, endpoint):
                here, there = peer.getpeername(), peer.getsockname()
                gateway.until(lambda here=here, there=there: 0 < keepalive_s(here, there) <= 30)
            other.sendall(b"late")
            assert gateway.receive(closing, 4) == b"late"
    gateway.close()
