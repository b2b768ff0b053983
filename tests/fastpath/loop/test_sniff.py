"""What is known of a client belongs to that client."""

import socket
from contextlib import suppress

import pytest
from eastgate.fastpath.reason import Reason

from ..driven_engine import SERVICE, ClosedPort, Gateway, client_hello

HELLO = client_hello()


@pytest.fixture(params=[0, 1], ids=lambda count: f"workers={count}")
def gateway(closed_port: ClosedPort, request: pytest.FixtureRequest) -> object:
    """Its one endpoint refuses."""
    made = Gateway(closed_port(), workers=request.param)
    yield made
    made.close()


@pytest.mark.parametrize("data", [b"", b"\x16\x03", b"GET / HTTP/1.0\r\n\r\n"])
@pytest.mark.parametrize("recorded", [True, False])
def test_record_holds_nothing_of_another_client(gateway: Gateway, data: bytes, recorded: bool) -> None:
    gateway.engine.record_events(recorded)
    with gateway.connect(HELLO) as first:
        assert gateway.end_of(first) == "RST"
    with gateway.connect(data) as second:
        with suppress(OSError):
            # What is no hello has been refused by now.
            second.shutdown(socket.SHUT_WR)
        gateway.until(lambda: len(gateway.events) == 2)
    failed, other = gateway.events
    assert (failed.reason, failed.server_name, failed.alpn) == (Reason.CONNECT_FAILED, SERVICE, ("istio",))
    assert (other.server_name, other.alpn) == ("", ())


def test_record_of_a_hello_that_is_refused_holds_its_own_name(gateway: Gateway) -> None:
    with gateway.connect(HELLO) as first:
        assert gateway.end_of(first) == "RST"
    with gateway.connect(client_hello("other.example", ("h2",))) as second:
        assert gateway.end_of(second) == "RST"
    gateway.until(lambda: len(gateway.events) == 2)
    assert (gateway.events[1].server_name, gateway.events[1].alpn) == ("other.example", ("h2",))
