"""A limit of connections per endpoint: who comes later waits for one of them to end, in order, and then is served."""

import socket
from collections.abc import Iterator
from contextlib import ExitStack

import pytest
from eastgate.fastpath.loop.cluster_slots import ClusterCounters
from eastgate.fastpath.reason import Reason
from eastgate.fastpath.tables.cluster_table import ClusterTable

from ..driven_engine import Gateway, accept, accepted, client_hello, columns, upstream, with_workers

HELLO = client_hello()


pytestmark = with_workers(0, 1)


@pytest.fixture
def server() -> Iterator[socket.socket]:
    with upstream() as listening:
        listening.setblocking(False)
        yield listening


@pytest.fixture
def gateway(server: socket.socket) -> Iterator[Gateway]:
    made = Gateway(server.getsockname())
    limit(made, 1)
    yield made
    made.close()


def limit(gateway: Gateway, most: int, **settings: int) -> None:
    gateway.slots.publish(gateway.slot, gateway.table, max_per_endpoint=most, **settings)


def counters(gateway: Gateway) -> ClusterCounters:
    return gateway.slots.counters(gateway.slot)


def comes(gateway: Gateway, server: socket.socket) -> socket.socket:
    """Upstream end of the next connection, whose hello has been read."""
    endpoint = accepted(gateway, server)
    assert gateway.receive(endpoint, len(HELLO)) == HELLO
    return endpoint


def cut(peer: socket.socket) -> None:
    """Reset the connection: nothing of it is left."""
    peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    peer.close()


def nobody_comes(gateway: Gateway, server: socket.socket) -> bool:
    for _ in range(3):
        gateway.turn(0.01)
    try:
        accept(server).close()
    except BlockingIOError:
        return True
    return False


def waiting(gateway: Gateway, count: int) -> None:
    """Until so many wait, which are pending and not active."""
    gateway.until(lambda: counters(gateway).pending_active == count)


def test_later_ones_wait_and_are_served_in_order(gateway: Gateway, server: socket.socket) -> None:
    with ExitStack() as stack:
        first = stack.enter_context(gateway.connect(HELLO))
        end = comes(gateway, server)
        clients = []
        for number in range(1, 4):
            clients.append(stack.enter_context(gateway.connect(HELLO)))
            waiting(gateway, number)
        assert nobody_comes(gateway, server)
        assert (counters(gateway).cx_active, counters(gateway).cx_overflow) == (1, 3)
        first.close()
        end.close()
        for number, client in enumerate(clients, 1):
            with comes(gateway, server) as end:
                end.sendall(b"%d" % number)
                assert gateway.receive(client, 1) == b"%d" % number
                assert nobody_comes(gateway, server)
                client.close()
        gateway.until(lambda: counters(gateway).cx_active == 0)
    found = counters(gateway)
    # As in Envoy, who finds no room counts: those that came, and twice who is next when one is let in and connected.
    assert (found.cx_total, found.cx_overflow, found.pending_active, found.cx_connect_fail) == (4, 7, 0, 0)
    gateway.until(lambda: len(gateway.events) == 4)
    assert [event.reason for event in gateway.events] == [Reason.NONE] * 4


@pytest.mark.parametrize("first_event", ["end", "leaving"])
def test_who_goes_in_the_turn_that_wakes_it_keeps_nobody_behind_it_waiting(
    gateway: Gateway, server: socket.socket, workers: int, first_event: str
) -> None:
    if workers:
        pytest.skip("which events share a turn can be chosen without threads only")
    with ExitStack() as stack:
        first, second, third = (stack.enter_context(gateway.connect(HELLO)) for _ in range(3))
        end = stack.enter_context(comes(gateway, server))
        waiting(gateway, 2)
        # All of it is there before the next turn.
        if first_event == "leaving":
            cut(second)
        cut(end)
        cut(first)
        if first_event == "end":
            cut(second)
        next_end = stack.enter_context(comes(gateway, server))
        next_end.sendall(b"3")
        assert gateway.receive(third, 1) == b"3"


def test_who_leaves_while_waiting_is_passed_over(gateway: Gateway, server: socket.socket) -> None:
    with gateway.connect(HELLO) as first, comes(gateway, server) as end:
        leaving = gateway.connect(HELLO)
        waiting(gateway, 1)
        with gateway.connect(HELLO) as staying:
            waiting(gateway, 2)
            cut(leaving)
            waiting(gateway, 1)
            assert gateway.refused(Reason.CLIENT_GONE) == 1
            first.close()
            end.close()
            with comes(gateway, server) as last:
                last.sendall(b"x")
                assert gateway.receive(staying, 1) == b"x"


def test_pending_limit_refuses_those_that_would_wait(gateway: Gateway, server: socket.socket) -> None:
    limit(gateway, 1, max_pending=1)
    with gateway.connect(HELLO), comes(gateway, server), gateway.connect(HELLO):
        waiting(gateway, 1)
        with gateway.connect(HELLO) as third:
            assert gateway.end_of(third) == "RST"
        assert gateway.refused(Reason.OVERFLOW) == 1
        assert counters(gateway).pending_overflow == 1


def test_waiting_ones_are_not_active_for_the_limit_of_the_cluster(gateway: Gateway, server: socket.socket) -> None:
    limit(gateway, 1, max_connections=2)
    with gateway.connect(HELLO), comes(gateway, server), ExitStack() as stack:
        for number in range(1, 4):
            stack.enter_context(gateway.connect(HELLO))
            waiting(gateway, number)
        assert gateway.refused(Reason.OVERFLOW) == 0


@pytest.mark.parametrize("most", [0, 1])
def test_worker_without_a_connection_makes_one_whatever_the_limit(
    gateway: Gateway, server: socket.socket, most: int
) -> None:
    limit(gateway, most)
    for _ in range(3):
        with gateway.connect(HELLO) as client, comes(gateway, server):
            client.close()
        gateway.until(lambda: counters(gateway).cx_active == 0)
    assert counters(gateway).cx_overflow == (3 if most == 0 else 0)


def test_limit_is_for_each_endpoint(gateway: Gateway, server: socket.socket) -> None:
    with upstream() as other, ExitStack() as stack:
        other.setblocking(False)
        gateway.table = ClusterTable.compile(columns(server.getsockname(), other.getsockname()))
        limit(gateway, 1)
        for _ in range(2):
            stack.enter_context(gateway.connect(HELLO))
        ends = [stack.enter_context(comes(gateway, one)) for one in (server, other)]
        stack.enter_context(gateway.connect(HELLO))
        waiting(gateway, 1)
        assert nobody_comes(gateway, server)
        assert nobody_comes(gateway, other)
        for end in ends:
            cut(end)
        gateway.until(lambda: counters(gateway).pending_active == 0)


def test_limit_that_is_lifted_lets_all_go_on_at_the_next_end(gateway: Gateway, server: socket.socket) -> None:
    with gateway.connect(HELLO) as first, comes(gateway, server) as end, ExitStack() as stack:
        for number in range(1, 4):
            stack.enter_context(gateway.connect(HELLO))
            waiting(gateway, number)
        limit(gateway, 4294967295)
        first.close()
        end.close()
        for _ in range(3):
            stack.enter_context(comes(gateway, server))
        assert counters(gateway).cx_active == 3


def test_failed_connect_takes_those_that_wait_to_another_endpoint(gateway: Gateway, server: socket.socket) -> None:
    with upstream(backlog=0) as deaf, ExitStack() as stack:
        # A backlog that is full: the handshake gets no answer, and the endpoint stays connecting.
        fillers = [stack.enter_context(socket.socket()) for _ in range(3)]
        for filler in fillers:
            filler.setblocking(False)
            filler.connect_ex(deaf.getsockname())
        # Only the deaf one is healthy at first.
        both = (deaf.getsockname(), server.getsockname())
        gateway.table = ClusterTable.compile(columns(*both, health=(1, 2)), panic_threshold=0)
        limit(gateway, 1, connect_timeout_ms=300)
        clients = []
        for number in range(1, 4):
            clients.append(stack.enter_context(gateway.connect(HELLO)))
            waiting(gateway, number)
        assert counters(gateway).cx_active == 1
        gateway.table = ClusterTable.compile(columns(*both, health=(2, 1)), panic_threshold=0, previous=gateway.table)
        limit(gateway, 1, connect_timeout_ms=300)
        for _ in clients:
            end = comes(gateway, server)
            assert counters(gateway).cx_active == 1
            cut(end)
        gateway.until(lambda: counters(gateway).cx_active == 0)
    found = counters(gateway)
    assert (found.cx_connect_fail, found.cx_connect_timeout, found.pending_active) == (1, 1, 0)


def test_endpoint_that_goes_sends_those_that_wait_elsewhere(gateway: Gateway, server: socket.socket) -> None:
    with gateway.connect(HELLO) as first, comes(gateway, server) as end, upstream() as other:
        other.setblocking(False)
        with gateway.connect(HELLO):
            waiting(gateway, 1)
            gateway.table = ClusterTable.compile(columns(other.getsockname()), previous=gateway.table)
            limit(gateway, 1)
            first.close()
            end.close()
            comes(gateway, other).close()


def test_endpoint_that_moved_in_the_table_is_found_again(gateway: Gateway, server: socket.socket) -> None:
    with upstream() as other, gateway.connect(HELLO) as first, comes(gateway, server) as end, gateway.connect(HELLO):
        waiting(gateway, 1)
        moved = columns(other.getsockname(), server.getsockname())
        gateway.table = ClusterTable.compile(moved, previous=gateway.table)
        limit(gateway, 1)
        first.close()
        end.close()
        comes(gateway, server).close()


def test_cluster_that_goes_refuses_those_that_wait(gateway: Gateway, server: socket.socket) -> None:
    with gateway.connect(HELLO) as first, comes(gateway, server) as end, gateway.connect(HELLO) as second:
        waiting(gateway, 1)
        gateway.slots.publish(gateway.slot, None)
        first.close()
        end.close()
        assert gateway.end_of(second) == "RST"
    assert gateway.refused(Reason.UNKNOWN_CLUSTER) == 1


def test_duration_limit_ends_the_waiting(gateway: Gateway, server: socket.socket) -> None:
    with gateway.connect(HELLO), comes(gateway, server):
        # For those that come from now on.
        gateway.engine.publish_routes(gateway.listener, gateway.route_to(gateway.slot, max_duration_ms=100))
        with gateway.connect(HELLO) as second:
            waiting(gateway, 1)
            assert gateway.end_of(second) == "RST"
        gateway.until(lambda: gateway.refused(Reason.DURATION_TIMEOUT) == 1)
        assert counters(gateway).pending_active == 0


def test_closing_ends_the_waiting(gateway: Gateway, server: socket.socket) -> None:
    with gateway.connect(HELLO), comes(gateway, server), gateway.connect(HELLO), gateway.connect(HELLO):
        waiting(gateway, 2)
        assert gateway.engine.close_connections() == 3
        assert (counters(gateway).pending_active, counters(gateway).cx_active) == (0, 0)


def test_many_endpoints_at_their_limit() -> None:
    """More queues than the first size of their table."""
    with ExitStack() as stack:
        servers = [stack.enter_context(upstream()) for _ in range(200)]
        for one in servers:
            one.setblocking(False)
        gateway = Gateway(*(one.getsockname() for one in servers))
        limit(gateway, 1)
        clients = [stack.enter_context(gateway.connect(HELLO)) for _ in servers]
        ends = [stack.enter_context(comes(gateway, one)) for one in servers]
        late = [stack.enter_context(gateway.connect(HELLO)) for _ in servers]
        waiting(gateway, len(late))
        for client in clients:
            client.close()
        for end in ends:
            end.close()
        for one in servers:
            stack.enter_context(comes(gateway, one))
        assert (counters(gateway).cx_total, counters(gateway).pending_active) == (400, 0)
        gateway.close()
