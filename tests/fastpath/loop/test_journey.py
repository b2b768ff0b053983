"""A connection from phase to phase: in pieces, past publishes, and with a timer in each."""

import select
import socket
import struct
import time

import pytest
from eastgate.fastpath.reason import Reason
from eastgate.fastpath.tables.cluster_table import ClusterTable

from ..driven_engine import (
    DEADLINE_S,
    SERVICE,
    Gateway,
    accept,
    accepted,
    client_hello,
    columns,
    established,
    upstream,
    with_workers,
)

HELLO = client_hello()
pytestmark = with_workers(0, 1, 4)


def test_hello_reaches_the_endpoint_unchanged_and_answers_come_back(gateway: Gateway, server: socket.socket) -> None:
    client, endpoint = established(gateway, server)
    with client, endpoint:
        endpoint.sendall(b"Anthos!!!")
        assert gateway.receive(client, 9) == b"Anthos!!!"
        client.sendall(b"more")
        assert gateway.receive(endpoint, 4) == b"more"


def test_hello_in_single_bytes_passes(gateway: Gateway, server: socket.socket) -> None:
    client = gateway.connect()
    client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    with client:
        for byte in HELLO:
            client.send(bytes([byte]))
            gateway.turn(0)
        with accepted(gateway, server) as endpoint:
            assert gateway.receive(endpoint, len(HELLO)) == HELLO


def test_waiting_for_the_rest_of_a_hello_does_not_spin(gateway: Gateway, server: socket.socket) -> None:
    with gateway.connect(HELLO[:100]):
        gateway.until(lambda: gateway.engine.listener_counters(gateway.listener).cx_pre_active == 1)
        gateway.until(lambda: gateway.engine.turn() == 0)
        # What is there to be read and is not wanted would be told of in each turn.
        assert [gateway.engine.turn() for _ in range(20)] == [0] * 20
        handled, deadline = 0, time.monotonic() + DEADLINE_S
        with gateway.connect(HELLO):
            while not select.select([server], [], [], 0.001)[0]:
                handled += gateway.engine.turn()
                assert time.monotonic() < deadline
            accept(server).close()
        # Somebody else was served meanwhile; a thread that spins would have handled thousands.
        assert handled + gateway.engine.turn() < 50


PROXY_HEADERS = {
    "v1": b"PROXY TCP4 192.0.2.7 198.51.100.1 40000 15443\r\n",
    "v2": b"\r\n\r\n\x00\r\nQUIT\n\x21\x11\x00\x0c"
    + socket.inet_aton("192.0.2.7")
    + socket.inet_aton("198.51.100.1")
    + struct.pack("!HH", 40000, 15443),
}


@pytest.mark.parametrize("version", PROXY_HEADERS)
@pytest.mark.parametrize("pieces", [1, 7])
def test_proxy_header_is_consumed_and_conveys_the_client(server: socket.socket, version: str, pieces: int) -> None:
    gateway = Gateway(server.getsockname(), proxy_protocol=(1, 2))
    data = PROXY_HEADERS[version] + HELLO
    with gateway.connect() as client:
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        step = -(-len(data) // pieces)
        for at in range(0, len(data), step):
            client.sendall(data[at : at + step])
            gateway.turn(0)
        gateway.until(lambda: gateway.slots.counters(gateway.slot).cx_active == 1)
        with accept(server) as endpoint:
            assert gateway.receive(endpoint, len(HELLO)) == HELLO
    gateway.until(lambda: gateway.engine.active_connections() == 0)
    assert gateway.events[-1].downstream == "192.0.2.7:40000"
    gateway.close()


def test_connect_timeout_is_counted_and_named() -> None:
    # A backlog of one that is full: further handshakes get no answer.
    with upstream(backlog=0) as server:
        fillers = [socket.socket() for _ in range(3)]
        for filler in fillers:
            filler.setblocking(False)
            filler.connect_ex(server.getsockname())
        gateway = Gateway(server.getsockname())
        gateway.engine.publish_routes(gateway.listener, gateway.route_to(gateway.slot, max_connect_attempts=2))
        gateway.slots.publish(gateway.slot, gateway.table, connect_timeout_ms=80)
        with gateway.connect(HELLO) as client:
            assert gateway.end_of(client) == "RST"
        assert gateway.refused(Reason.CONNECT_TIMEOUT) == 1
        assert gateway.slots.counters(gateway.slot).cx_connect_timeout == 2
        gateway.close()
        for filler in fillers:
            filler.close()


def test_open_connection_survives_every_kind_of_publish(gateway: Gateway, server: socket.socket) -> None:
    client, endpoint = established(gateway, server)
    with client, endpoint:
        gateway.slots.publish(gateway.slot, ClusterTable.compile(columns()))
        gateway.engine.publish_routes(gateway.listener, gateway.route_to(gateway.slot, refusal=Reason.POLICY))
        gateway.slots.release(gateway.slot)
        gateway.until(lambda: gateway.slots.reclaim() == 0)
        assert gateway.slots.acquire("another cluster") == gateway.slot
        endpoint.sendall(b"still here")
        assert gateway.receive(client, 10) == b"still here"
        assert gateway.slots.counters(gateway.slot).rx_bytes == 0
    gateway.until(lambda: gateway.engine.active_connections() == 0)
    assert gateway.events[-1].cluster == SERVICE


def kept_busy(gateway: Gateway, client: socket.socket, endpoint: socket.socket, idle_s: float) -> bool:
    """Bytes come through for three times as long as a connection may be idle. False: this machine once took so long
    that it may have ended.
    """
    began = before = time.monotonic()
    while (sent := time.monotonic()) < began + 3 * idle_s:
        endpoint.sendall(b"x")
        received = gateway.receive(client, 1)
        # At least what lay between two messages for the engine.
        if time.monotonic() - before > 0.9 * idle_s:
            return False
        assert received == b"x"
        before = sent
        gateway.turn(idle_s / 8)
    return True


def test_idle_connection_ends_and_a_busy_one_does_not(gateway: Gateway, server: socket.socket) -> None:
    idle_s, was_busy = 0.12, False
    while not was_busy:
        routes = gateway.route_to(gateway.slot, idle_timeout_ms=round(idle_s * 1000))
        gateway.engine.publish_routes(gateway.listener, routes)
        ended = gateway.refused(Reason.IDLE_TIMEOUT)
        client, endpoint = established(gateway, server)
        with client, endpoint:
            if was_busy := kept_busy(gateway, client, endpoint, idle_s):
                assert gateway.end_of(client) == "FIN"
                assert gateway.refused(Reason.IDLE_TIMEOUT) == ended + 1
        gateway.until(lambda: gateway.engine.active_connections() == 0)
        # A slower machine is asked for less.
        idle_s *= 2
        assert idle_s < DEADLINE_S


def test_duration_limit_ends_a_busy_connection(gateway: Gateway, server: socket.socket) -> None:
    # Long enough to be relayed at all, on a machine with other things to do.
    gateway.engine.publish_routes(gateway.listener, gateway.route_to(gateway.slot, max_duration_ms=1000))
    client, endpoint = established(gateway, server)
    with client, endpoint:

        def chatting() -> bool:
            try:
                endpoint.send(b"x")
                client.recv(1)
            except (BlockingIOError, ConnectionResetError, BrokenPipeError):
                pass
            return gateway.refused(Reason.DURATION_TIMEOUT) == 1

        gateway.until(chatting)
