"""How a relayed connection ends."""

import socket
import struct
import time
from collections.abc import Iterator

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
