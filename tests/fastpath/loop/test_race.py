"""Endpoints with several addresses: the next one when one fails or does not answer. With real sockets."""

import socket
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from ipaddress import ip_address

import pytest
from eastgate.fastpath.reason import Reason
from eastgate.fastpath.tables.cluster_table import ClusterTable
from eastgate.xds.columns import Columns, EndpointRow, Family, Place, columns_of

from ..driven_engine import ClosedPort, Gateway, accept, client_hello, gateway_to, upstream, with_workers
from .test_upstream import unanswered

HELLO = client_hello()
Address = tuple[str, int]

pytestmark = with_workers(0, 1, 4)


def place(address: Address) -> Place:
    """As columns have it."""
    host = ip_address(address[0])
    return host.packed, address[1], Family.IPV4 if host.version == 4 else Family.IPV6


def endpoints(*each: Sequence[Address]) -> Columns:
    """Endpoints by their addresses, of which the first is what they are known by."""
    rows = []
    for addresses in each:
        (packed, port, family), *further = map(place, addresses)
        rows.append(EndpointRow(Family(family), packed, port, further=tuple(further)))
    return columns_of(rows)


def racing(*each: Sequence[Address], timeout_ms: int = 5000, **slot: int) -> Gateway:
    """A gateway in front of these endpoints."""
    gateway = gateway_to(each[0][0][:2])
    gateway.table = ClusterTable.compile(endpoints(*each))
    gateway.slots.publish(gateway.slot, gateway.table, connect_timeout_ms=timeout_ms, **slot)
    return gateway


@pytest.fixture
def server() -> Iterator[socket.socket]:
    with upstream(backlog=64) as listening:
        yield listening


@pytest.fixture
def silent() -> Iterator[socket.socket]:
    fillers: list[socket.socket] = []
    with ExitStack() as stack:
        yield stack.enter_context(unanswered(fillers))
        for filler in fillers:
            filler.close()


def relayed(gateway: Gateway, server: socket.socket) -> None:
    """One connection that `server` answers; it has ended afterwards."""
    with gateway.connect(HELLO) as client:
        gateway.until(lambda: sum(gateway.table.state(row)[0] for row in range(len(gateway.table))) == 1)
        with accept(server) as endpoint:
            assert gateway.receive(endpoint, len(HELLO)) == HELLO
            endpoint.sendall(b"served")
            assert gateway.receive(client, 6) == b"served"
    gateway.until(lambda: gateway.engine.active_connections() == 0)


def text(address: Address) -> str:
    return f"[{address[0]}]:{address[1]}" if ":" in address[0] else f"{address[0]}:{address[1]}"


@pytest.mark.parametrize("dead", [1, 3])
def test_an_address_that_refuses_is_followed_by_the_next(
    server: socket.socket, closed_port: ClosedPort, dead: int
) -> None:
    gateway = racing([*(closed_port() for _ in range(dead)), server.getsockname()])
    relayed(gateway, server)
    # As Envoy counts: each address is a connection, and one endpoint was connected to, without a failure.
    assert gateway.table.state(0) == (0, dead + 1, 0, 0)
    counters = gateway.slots.counters(gateway.slot)
    assert (counters.cx_total, counters.cx_connect_fail) == (dead + 1, 0)
    assert (counters.cx_active, counters.pending_active) == (0, 0)
    assert [event.attempts for event in gateway.events] == [1]
    gateway.close()


def test_an_address_that_does_not_answer_is_followed_after_a_while(
    server: socket.socket, silent: socket.socket
) -> None:
    gateway = racing([silent.getsockname(), server.getsockname()])
    relayed(gateway, server)
    (event,) = gateway.events
    # What it is known by, whichever of its addresses was connected to.
    assert event.upstream == text(silent.getsockname())
    # 300 ms, to which the wheel adds a tick of 17 ms at most; the upper bound is far below the timeout of 5 s.
    assert 0.3 <= event.connect_duration < 4
    assert gateway.table.state(0) == (0, 2, 0, 0)
    gateway.close()


def test_an_address_that_answers_late_is_still_in_the_race() -> None:
    fillers: tuple[list[socket.socket], list[socket.socket]] = ([], [])
    with unanswered(fillers[0]) as late, unanswered(fillers[1]) as never:
        gateway = racing([late.getsockname(), never.getsockname()])
        with gateway.connect(HELLO):
            gateway.until(lambda: gateway.slots.counters(gateway.slot).cx_total == 2)
            # With room again the next SYN, a second after the first, is answered.
            for filler in fillers[0]:
                filler.close()
            late.accept()[0].close()
            gateway.until(lambda: gateway.table.state(0)[0] == 1)
            # What is not accepted yet is reset.
            late.close()
        gateway.until(lambda: gateway.engine.active_connections() == 0)
        assert gateway.table.state(0) == (0, 2, 0, 0)
        gateway.close()
    for filler in fillers[1]:
        filler.close()


def test_an_endpoint_fails_once_however_many_addresses_refuse(server: socket.socket, closed_port: ClosedPort) -> None:
    gateway = racing([closed_port(), closed_port()], [server.getsockname()])
    for _ in range(4):
        relayed(gateway, server)
    active, total, failed, consecutive = gateway.table.state(0)
    assert (active, total, consecutive) == (0, 2 * failed, failed)
    assert failed > 0
    counters = gateway.slots.counters(gateway.slot)
    assert counters.cx_connect_fail == failed
    assert counters.cx_total == 2 * failed + 4
    assert gateway.refused(Reason.CONNECT_FAILED) == 0
    gateway.close()


@pytest.mark.parametrize(("timeout_ms", "tried"), [(100, 1), (500, 2)])
def test_the_timeout_is_that_of_all_addresses(silent: socket.socket, timeout_ms: int, tried: int) -> None:
    gateway = racing([silent.getsockname()] * 4, timeout_ms=timeout_ms)
    gateway.engine.publish_routes(gateway.listener, gateway.route_to(gateway.slot, max_connect_attempts=1))
    with gateway.connect(HELLO) as client:
        assert gateway.end_of(client) == "RST"
    assert gateway.refused(Reason.CONNECT_TIMEOUT) == 1
    counters = gateway.slots.counters(gateway.slot)
    assert (counters.cx_total, counters.cx_connect_timeout, counters.cx_connect_fail) == (tried, 1, 1)
    assert gateway.table.state(0) == (0, tried, 1, 1)
    assert (counters.cx_active, counters.pending_active) == (0, 0)
    gateway.close()


def test_a_client_that_leaves_ends_the_race(silent: socket.socket) -> None:
    gateway = racing([silent.getsockname()] * 4)
    with gateway.connect(HELLO) as client:
        gateway.until(lambda: gateway.slots.counters(gateway.slot).cx_total == 2)
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    gateway.until(lambda: gateway.engine.active_connections() == 0)
    assert gateway.refused(Reason.CLIENT_GONE) == 1
    counters = gateway.slots.counters(gateway.slot)
    assert (counters.cx_active, counters.pending_active, counters.cx_connect_fail) == (0, 0, 0)
    gateway.close()


def test_families_alternate_from_that_of_the_first(closed_port: ClosedPort) -> None:
    with upstream(socket.AF_INET6, "::1") as six, upstream() as four:
        addresses = [closed_port(), four.getsockname(), six.getsockname()]
        gateway = racing(addresses)
        relayed(gateway, six)
        assert gateway.slots.counters(gateway.slot).cx_total == 2
        gateway.slots.publish(gateway.slot, gateway.table, first_family=4, first_family_count=2)
        relayed(gateway, four)
        gateway.slots.publish(gateway.slot, gateway.table, first_family=6)
        relayed(gateway, six)
        assert gateway.slots.counters(gateway.slot).cx_total == 2 + 2 + 1
        gateway.close()


def test_what_the_newest_table_says_holds_for_the_next_connection(
    server: socket.socket, closed_port: ClosedPort
) -> None:
    first = closed_port()
    gateway = racing([first, closed_port()])
    with gateway.connect(HELLO) as client:
        assert gateway.end_of(client) == "RST"
    before = gateway.table.state(0)
    gateway.table = ClusterTable.compile(endpoints([first, server.getsockname()]), previous=gateway.table)
    gateway.slots.publish(gateway.slot, gateway.table)
    # The same endpoint, known by its first address.
    assert gateway.table.state(0) == before
    relayed(gateway, server)
    gateway.close()


def test_a_slot_given_away_meanwhile_gets_none_of_the_attempts(server: socket.socket, silent: socket.socket) -> None:
    gateway = racing([silent.getsockname(), server.getsockname()], timeout_ms=600)
    with gateway.connect(HELLO) as client:
        gateway.until(lambda: gateway.slots.counters(gateway.slot).pending_active == 1)
        gateway.slots.release(gateway.slot)
        gateway.until(lambda: gateway.slots.reclaim() == 0)
        other = ClusterTable.compile(endpoints([server.getsockname()]))
        assert gateway.slots.acquire("another tenant") == gateway.slot
        gateway.slots.publish(gateway.slot, other)
        assert gateway.end_of(client) == "RST"
    assert gateway.refused(Reason.CONNECT_TIMEOUT) == 1
    assert other.state(0) == (0, 0, 0, 0)
    gateway.close()


def test_first_family_is_checked(server: socket.socket) -> None:
    gateway = racing([server.getsockname()])
    with pytest.raises(ValueError, match="first_family: 5 is none of 0, 4, 6"):
        gateway.slots.publish(gateway.slot, gateway.table, first_family=5)
    gateway.close()
