"""Workers that see connects fail: marks that no full ring loses, a wake-up that needs no event. With real sockets."""

import select
import socket
import time

from eastgate.fastpath.loop import outlier_counters
from eastgate.fastpath.tables.cluster_table import ClusterTable

from ..driven_engine import (
    DEADLINE_S,
    SERVICE,
    ClosedPort,
    Gateway,
    accept,
    client_hello,
    columns,
    gateway_to,
    upstream,
    with_workers,
)

HELLO = client_hello()


pytestmark = with_workers(0, 1, 4)


def counting(*addresses: tuple[str, int], failures: int, timeout_ms: int = 5000, events: int = 4096) -> Gateway:
    """A gateway that marks an endpoint at so many failures in a row."""
    slot = {"failure_threshold": failures, "connect_timeout_ms": timeout_ms}
    return gateway_to(*addresses, slot=slot, event_capacity=events)


def turn(gateway: Gateway, wait_s: float = 0.02) -> None:
    """As Gateway.turn, but nobody takes events."""
    select.select([gateway.engine.fileno()], [], [], wait_s)
    gateway.engine.turn()


def fail(gateway: Gateway, connections: int) -> None:
    """Connections to endpoints that refuse, until each has been counted at each of its attempts."""
    before = sum(gateway.table.state(row)[2] for row in range(len(gateway.table)))
    clients = [gateway.connect(HELLO) for _ in range(connections)]
    deadline = time.monotonic() + DEADLINE_S
    while sum(gateway.table.state(row)[2] for row in range(len(gateway.table))) < before + 3 * connections:
        assert time.monotonic() < deadline
        turn(gateway)
    for client in clients:
        client.close()


def visit(gateway: Gateway, server: socket.socket) -> None:
    """A connection that is served, after it may have met endpoints that refuse."""
    with gateway.connect(HELLO):
        gateway.until(lambda: any(gateway.table.state(row)[0] for row in range(len(gateway.table))))
        accept(server).close()
    gateway.until(lambda: gateway.engine.active_connections() == 0)


def test_threshold_is_crossed_by_attempts_and_success_begins_anew(closed_port: ClosedPort) -> None:
    with upstream(backlog=64) as server:
        gateway = counting(closed_port(), server.getsockname(), failures=4)
        while gateway.table.state(0)[2] < 3:
            visit(gateway, server)
        assert gateway.slots.take_dirty() == []
        while gateway.table.state(0)[2] < 4:
            visit(gateway, server)
        assert gateway.slots.take_dirty() == [SERVICE]
        assert outlier_counters.take_crossed(gateway.table) == [(0, outlier_counters.FAILURES)]
        gateway.close()
    # The same endpoint fails three times, answers, and fails three times more.
    refusing = closed_port()
    gateway = counting(refusing, failures=4)
    fail(gateway, 1)
    with socket.create_server(refusing) as server:
        server.settimeout(DEADLINE_S)
        visit(gateway, server)
    fail(gateway, 1)
    assert gateway.table.state(0)[2:] == (6, 3)
    assert gateway.slots.take_dirty() == []
    gateway.close()


def test_marks_outlive_rings_that_overflow_and_tables_that_change(closed_port: ClosedPort) -> None:
    addresses = [closed_port() for _ in range(20)]
    gateway = counting(*addresses, failures=1, events=1)
    for _ in range(12):
        fail(gateway, 20)
    assert gateway.engine.events_dropped() > 200
    moved = ClusterTable.compile(columns(*reversed(addresses)), previous=gateway.table)
    gateway.slots.publish(gateway.slot, moved, failure_threshold=1)
    assert gateway.slots.take_dirty() == [SERVICE]
    assert [row for row, _ in outlier_counters.take_crossed(moved)] == list(range(20))
    gateway.close()


def test_timeout_counts_as_a_failure() -> None:
    with socket.create_server(("127.0.0.1", 0), backlog=0) as server:
        fillers = [socket.socket() for _ in range(3)]
        for filler in fillers:
            filler.setblocking(False)
            filler.connect_ex(server.getsockname())
        gateway = counting(server.getsockname(), failures=3, timeout_ms=30)
        fail(gateway, 1)
        assert gateway.slots.take_dirty() == [SERVICE]
        gateway.close()
        for filler in fillers:
            filler.close()


def test_control_side_is_woken_though_it_takes_no_events(workers: int, closed_port: ClosedPort) -> None:
    if not workers:
        return  # whoever hosts the loop looks after each turn
    gateway = counting(closed_port(), failures=6)
    fail(gateway, 1)
    # The ring has said that there are events, and says no more until they are taken.
    gateway.engine.turn()
    assert gateway.slots.take_dirty() == []
    with gateway.connect(HELLO):
        dirty: list[str] = []
        while not dirty:
            assert select.select([gateway.engine.fileno()], [], [], DEADLINE_S)[0]
            gateway.engine.turn()
            dirty = gateway.slots.take_dirty()
    assert dirty == [SERVICE]
    gateway.close()
