"""How connections end: what is recorded and given back, and what either side sees of it."""

import socket
import struct

import pytest
from eastgate.fastpath.reason import Reason

from ..driven_engine import Gateway, client_hello, established, with_workers

HELLO = client_hello()
pytestmark = with_workers(0, 1, 4)


def test_reset_of_the_endpoint_reaches_the_client_as_reset(gateway: Gateway, server: socket.socket) -> None:
    client, endpoint = established(gateway, server)
    with client:
        endpoint.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        endpoint.close()
        assert gateway.end_of(client) == "RST"


def test_reset_of_the_client_reaches_the_endpoint_as_reset(gateway: Gateway, server: socket.socket) -> None:
    client, endpoint = established(gateway, server)
    with endpoint:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        client.close()
        assert gateway.end_of(endpoint) == "RST"


REFUSALS = [
    ("wrong server name", client_hello("outbound_.80_._.nobody.default.svc.cluster.local"), Reason.UNKNOWN_SERVER_NAME),
    ("plain host name", client_hello("echo.default.svc.cluster.local"), Reason.UNKNOWN_SERVER_NAME),
    ("no server name", client_hello(None), Reason.NO_SNI),
    ("no ALPN", client_hello(alpn=()), Reason.ALPN_MISMATCH),
    ("h2 only", client_hello(alpn=("h2",)), Reason.ALPN_MISMATCH),
    ("ALPN in capitals", client_hello(alpn=("ISTIO",)), Reason.ALPN_MISMATCH),
    ("Istio's ALPN behind 70 others", client_hello(alpn=(*map(str, range(70)), "istio")), Reason.MANY_PROTOCOLS),
    ("plain HTTP", b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", Reason.NOT_TLS),
    ("server hello", b"\x16\x03\x03\x00\x05\x02\x00\x00\x01\x00", Reason.MALFORMED_HELLO),
]


@pytest.mark.parametrize(("name", "data", "reason"), REFUSALS, ids=[name for name, _, _ in REFUSALS])
def test_refusal_is_named_and_the_client_sees_only_a_reset(
    gateway: Gateway, name: str, data: bytes, reason: Reason
) -> None:
    with gateway.connect(data) as client:
        assert gateway.end_of(client) == "RST"
    assert gateway.refused(reason) == 1
    assert gateway.events[-1].reason == reason
    assert gateway.slots.counters(gateway.slot).cx_total == 0


def test_silent_client_gets_fin_and_a_talker_reset_after_the_hello_timeout(server: socket.socket) -> None:
    gateway = Gateway(server.getsockname(), hello_timeout_ms=60)
    with gateway.connect() as silent, gateway.connect(b"\x16") as talker:
        assert gateway.end_of(silent) == "FIN"
        assert gateway.end_of(talker) == "RST"
        assert gateway.refused(Reason.HELLO_TIMEOUT) == 2
    gateway.close()


def test_half_a_hello_then_fin_is_truncated(gateway: Gateway) -> None:
    with gateway.connect(HELLO[:60]) as client:
        client.shutdown(socket.SHUT_WR)
        assert gateway.end_of(client) == "RST"
    assert gateway.refused(Reason.TRUNCATED_HELLO) == 1


def test_connect_and_close_is_an_idle_probe(gateway: Gateway) -> None:
    gateway.connect().close()
    gateway.until(lambda: gateway.refused(Reason.IDLE_PROBE) == 1)
    assert [event.reason for event in gateway.events] == [Reason.IDLE_PROBE]


@pytest.mark.parametrize("others", [False, True])
def test_idle_probes_that_nobody_asks_for_are_counted_alone(gateway: Gateway, others: bool) -> None:
    gateway.engine.record_events(others)
    gateway.engine.record_probes(False)
    gateway.connect().close()
    gateway.until(lambda: gateway.refused(Reason.IDLE_PROBE) == 1)
    with gateway.connect(HELLO[:60]) as client:
        client.shutdown(socket.SHUT_WR)
        assert gateway.end_of(client) == "RST"
    gateway.until(lambda: bool(gateway.events))
    assert [event.reason for event in gateway.events] == [Reason.TRUNCATED_HELLO]
    assert gateway.engine.events_dropped() == 0


def test_policy_chain_refuses(gateway: Gateway) -> None:
    gateway.engine.publish_routes(gateway.listener, gateway.route_to(gateway.slot, refusal=Reason.POLICY))
    with gateway.connect(HELLO) as client:
        assert gateway.end_of(client) == "RST"
    assert gateway.refused(Reason.POLICY) == 1


def test_close_connections_cuts_and_names_it(gateway: Gateway, server: socket.socket) -> None:
    client, endpoint = established(gateway, server)
    with client, endpoint:
        assert gateway.engine.close_connections() == 1
        gateway.turn()
        assert gateway.events[-1].reason == Reason.DRAINED
