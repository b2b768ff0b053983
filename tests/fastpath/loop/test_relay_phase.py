"""How a relayed connection ends."""

import socket
import time
from collections.abc import Iterator

import pytest
from eastgate.fastpath.reason import Reason

from ..driven_engine import Gateway, client_hello, upstream

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
