"""Limits at the accept: who is turned away, and who has to make room."""

import socket
from collections.abc import Iterator

import pytest
from eastgate.fastpath.loop.cluster_slots import ClusterSlots
from eastgate.fastpath.loop.engine import Engine
from eastgate.fastpath.reason import LABELS, RESPONSE_FLAGS, Reason

from ..driven_engine import Gateway, accept, client_hello, upstream

HELLO = client_hello()


@pytest.fixture
def server() -> Iterator[socket.socket]:
    with upstream() as listening:
        yield listening


@pytest.fixture(params=[0, 1], ids=lambda count: f"workers={count}")
def gateway(server: socket.socket, request: pytest.FixtureRequest) -> Iterator[Gateway]:
    """Three may be silent."""
    made = Gateway(server.getsockname(), workers=request.param, max_silent=3)
    yield made
    made.close()


def silent(gateway: Gateway, data: bytes = b"") -> socket.socket:
    """A connection that the engine has accepted, and that is not routed."""
    before = gateway.engine.listener_counters(gateway.listener).cx_total
    client = gateway.connect(data)
    gateway.until(lambda: gateway.engine.listener_counters(gateway.listener).cx_total > before)
    return client


def test_oldest_silent_connection_makes_room_for_the_newest(gateway: Gateway, server: socket.socket) -> None:
    clients = [silent(gateway) for _ in range(5)]
    assert [gateway.end_of(client) for client in clients[:2]] == ["FIN", "FIN"]
    gateway.until(lambda: gateway.engine.active_connections() == 3)
    assert gateway.refused(Reason.SILENT) == 2
    assert [event.reason for event in gateway.events] == [Reason.SILENT] * 2
    # The newest is as good as any.
    clients[4].sendall(HELLO)
    gateway.until(lambda: gateway.table.state(0)[0])
    with accept(server) as endpoint:
        assert gateway.receive(endpoint, len(HELLO)) == HELLO
        for client in clients:
            client.close()


def test_half_a_hello_is_silent_too(gateway: Gateway) -> None:
    clients = [silent(gateway, HELLO[:100]) for _ in range(4)]
    assert gateway.end_of(clients[0]) == "RST"
    assert gateway.refused(Reason.SILENT) == 1
    for client in clients:
        client.close()


def test_relays_do_not_count_as_silent_and_are_not_touched(gateway: Gateway, server: socket.socket) -> None:
    relayed = []
    for number in range(5):
        client = gateway.connect(HELLO)
        gateway.until(lambda number=number: gateway.table.state(0)[0] == number + 1)
        relayed.append((client, accept(server)))
    clients = [silent(gateway) for _ in range(3)]
    assert gateway.refused(Reason.SILENT) == 0
    clients.append(silent(gateway))
    gateway.until(lambda: gateway.refused(Reason.SILENT) == 1)
    for client, endpoint in relayed:
        client.sendall(b"still here")
        assert gateway.receive(endpoint, len(HELLO) + 10) == HELLO + b"still here"
        client.close()
        endpoint.close()
    for client in clients:
        client.close()


def test_who_says_enough_at_once_takes_no_silent_place(gateway: Gateway, server: socket.socket) -> None:
    clients = [silent(gateway) for _ in range(3)]
    speaking = gateway.connect(HELLO)
    gateway.until(lambda: gateway.table.state(0)[0])
    # With a thread the hello may come after the accept; then, and only then, somebody had to go.
    assert gateway.workers or gateway.refused(Reason.SILENT) == 0
    for peer in (*clients, speaking, accept(server)):
        peer.close()


def test_silent_gauge_returns_to_zero(gateway: Gateway) -> None:
    clients = [silent(gateway) for _ in range(6)]
    for client in clients:
        client.close()
    gateway.until(lambda: gateway.engine.active_connections() == 0)
    assert gateway.engine.listener_counters(gateway.listener).cx_pre_active == 0
    # Room for three again.
    clients = [silent(gateway) for _ in range(3)]
    assert gateway.refused(Reason.SILENT) == 3
    for client in clients:
        client.close()


def test_silent_has_a_name_and_the_flag_of_an_overload() -> None:
    assert (LABELS[Reason.SILENT], RESPONSE_FLAGS[Reason.SILENT]) == ("silent", "OM")


def test_limit_of_silent_connections_is_positive() -> None:
    with pytest.raises(ValueError, match="max_silent 0 is not positive"):
        Engine(ClusterSlots(1), seed=1, max_silent=0)
