"""No connection is lost to a dead endpoint: the next one of the same cluster is tried. With real sockets."""

import socket
import struct
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace

import pytest
from eastgate.fastpath.reason import Reason
from eastgate.fastpath.tables import spill
from eastgate.fastpath.tables.cluster_table import ClusterTable
from eastgate.xds.resources import Columns, Locality, LocalityEntry

from ..driven_engine import ClosedPort, Gateway, accept, client_hello, columns, gateway_to, upstream, with_workers

HELLO = client_hello()
CONNECTIONS = 12


pytestmark = with_workers(0, 1, 4)


@pytest.fixture
def server() -> Iterator[socket.socket]:
    with upstream(backlog=64) as listening:
        yield listening


def unanswered(backlog: list[socket.socket]) -> socket.socket:
    """A listener with a full backlog: further handshakes get no answer."""
    server = socket.create_server(("127.0.0.1", 0), backlog=0)
    for _ in range(3):
        filler = socket.socket()
        filler.setblocking(False)
        filler.connect_ex(server.getsockname())
        backlog.append(filler)
    return server


def served(gateway: Gateway, server: socket.socket, count: int) -> None:
    """`count` connections one after the other, each of which must reach the endpoint that listens."""
    for _ in range(count):
        with gateway.connect(HELLO) as client:
            gateway.until(lambda: gateway.table.state(gateway.live)[0] == 1)  # type: ignore[attr-defined]
            with accept(server) as endpoint:
                assert gateway.receive(endpoint, len(HELLO)) == HELLO
                endpoint.sendall(b"served")
                assert gateway.receive(client, 6) == b"served"
        gateway.until(lambda: gateway.engine.active_connections() == 0)


def failing_over(
    *addresses: tuple[str, int], live: int, policy: str = "ROUND_ROBIN", timeout_ms: int = 5000
) -> Gateway:
    """`live`: the row of the endpoint that answers."""
    gateway = gateway_to(*addresses, policy=policy, slot={"connect_timeout_ms": timeout_ms})
    gateway.live = live  # type: ignore[attr-defined]
    return gateway


@pytest.mark.parametrize("policy", ["ROUND_ROBIN", "LEAST_REQUEST"])
@pytest.mark.parametrize("dead", [1, 2])
def test_refusing_endpoints_cost_no_connection(
    server: socket.socket, closed_port: ClosedPort, policy: str, dead: int
) -> None:
    # 127.0.0.2 has no listener at the port either.
    addresses = [closed_port(), ("127.0.0.2", server.getsockname()[1])][:dead]
    gateway = failing_over(*addresses, server.getsockname(), live=dead, policy=policy)
    served(gateway, server, CONNECTIONS)
    assert sum(gateway.engine.listener_counters(gateway.listener).refused) == 0
    failures = [gateway.table.state(number) for number in range(dead)]
    assert all(total == failed == consecutive for _, total, failed, consecutive in failures)
    assert gateway.table.state(dead) == (0, CONNECTIONS, 0, 0)
    counters = gateway.slots.counters(gateway.slot)
    assert counters.cx_connect_fail == sum(failed for _, _, failed, _ in failures) > 0
    assert counters.cx_total == CONNECTIONS + counters.cx_connect_fail
    assert (counters.cx_active, counters.pending_active) == (0, 0)
    # Nobody is tried twice while another candidate is left.
    assert max(event.attempts for event in gateway.events) <= dead + 1
    assert sum(event.attempts for event in gateway.events) == counters.cx_total
    gateway.close()


def test_an_endpoint_that_does_not_answer_costs_its_timeout_only(server: socket.socket) -> None:
    fillers: list[socket.socket] = []
    with unanswered(fillers) as silent:
        gateway = failing_over(silent.getsockname(), server.getsockname(), live=1, timeout_ms=60)
        served(gateway, server, 4)
        counters = gateway.slots.counters(gateway.slot)
        assert counters.cx_connect_timeout == counters.cx_connect_fail > 0
        assert counters.cx_attempts_exceeded == 0
        assert gateway.refused(Reason.CONNECT_TIMEOUT) == 0
        gateway.close()
    for filler in fillers:
        filler.close()


@pytest.mark.parametrize("attempts", [1, 2, 5])
def test_attempts_of_the_chain_bound_the_search(closed_port: ClosedPort, attempts: int) -> None:
    dead = [closed_port() for _ in range(8)]
    gateway = failing_over(*dead, live=0)
    gateway.engine.publish_routes(gateway.listener, gateway.route_to(gateway.slot, max_connect_attempts=attempts))
    with gateway.connect(HELLO) as client:
        assert gateway.end_of(client) == "RST"
    assert gateway.refused(Reason.CONNECT_FAILED) == 1
    counters = gateway.slots.counters(gateway.slot)
    assert (counters.cx_total, counters.cx_connect_fail, counters.pending_active) == (attempts, attempts, 0)
    assert counters.cx_attempts_exceeded == 1
    assert [gateway.table.state(number)[1] for number in range(8)].count(1) == attempts
    assert gateway.events[-1].attempts == attempts
    last = gateway.events[-1].upstream
    assert last in [f"{host}:{port}" for host, port in dead]
    gateway.close()


def test_unreachable_path_is_followed_by_the_next_endpoint(server: socket.socket) -> None:
    gateway = failing_over(("/nowhere/socket", 0), server.getsockname(), live=1)
    served(gateway, server, 4)
    assert gateway.table.state(0)[2] > 0
    gateway.close()


def test_the_next_endpoint_comes_from_the_newest_table(server: socket.socket) -> None:
    fillers: list[socket.socket] = []
    with unanswered(fillers) as silent:
        gateway = failing_over(silent.getsockname(), live=0, timeout_ms=150)
        with gateway.connect(HELLO):
            gateway.until(lambda: gateway.slots.counters(gateway.slot).pending_active == 1)
            gateway.table = ClusterTable.compile(columns(server.getsockname()), previous=gateway.table)
            gateway.slots.publish(gateway.slot, gateway.table)
            gateway.until(lambda: gateway.table.state(0)[0] == 1)
        gateway.close()
    for filler in fillers:
        filler.close()


def test_a_slot_given_away_meanwhile_gets_none_of_the_attempts(server: socket.socket) -> None:
    fillers: list[socket.socket] = []
    with unanswered(fillers) as silent:
        gateway = failing_over(silent.getsockname(), live=0, timeout_ms=150)
        with gateway.connect(HELLO) as client:
            gateway.until(lambda: gateway.slots.counters(gateway.slot).pending_active == 1)
            gateway.slots.release(gateway.slot)
            gateway.until(lambda: gateway.slots.reclaim() == 0)
            other = ClusterTable.compile(columns(server.getsockname()))
            assert gateway.slots.acquire("another tenant") == gateway.slot
            gateway.slots.publish(gateway.slot, other)
            assert gateway.end_of(client) == "RST"
        assert gateway.refused(Reason.CONNECT_TIMEOUT) == 1
        assert other.state(0) == (0, 0, 0, 0)
        gateway.close()
    for filler in fillers:
        filler.close()


def by_priority(*priorities: list[tuple[str, int]]) -> Columns:
    """Healthy endpoints by priority, each priority a locality of its own."""
    numbers = [number for number, addresses in enumerate(priorities) for _ in addresses]
    return replace(
        columns(*(address for addresses in priorities for address in addresses)),
        priority=bytes(numbers),
        locality=struct.pack(f"={len(numbers)}H", *numbers),
        localities=tuple(LocalityEntry(Locality(f"r{number}", "z1"), number, 1) for number in range(len(priorities))),
    )


def spilling(
    *priorities: list[tuple[str, int]], live: int, policy: str = "ROUND_ROBIN", slot: dict[str, int] | None = None
) -> Gateway:
    """`live`: the row of the endpoint that answers."""
    gateway = gateway_to(("127.0.0.1", 1))
    gateway.table = ClusterTable.compile(by_priority(*priorities), policy=policy)
    gateway.slots.publish(gateway.slot, gateway.table, **slot or {})  # type: ignore[arg-type]
    gateway.live = live  # type: ignore[attr-defined]
    return gateway


@pytest.mark.parametrize("policy", ["ROUND_ROBIN", "LEAST_REQUEST", "RANDOM", "RING_HASH", "MAGLEV"])
@pytest.mark.parametrize("dead", [1, 2])
def test_a_dead_priority_costs_no_connection_while_another_has_somebody(
    server: socket.socket, closed_port: ClosedPort, policy: str, dead: int
) -> None:
    gateway = spilling([closed_port() for _ in range(dead)], [server.getsockname()], live=dead, policy=policy)
    # By its loads no pick leads there.
    assert gateway.table.shares()[dead] == 0
    served(gateway, server, CONNECTIONS)
    assert sum(gateway.engine.listener_counters(gateway.listener).refused) == 0
    # Each one met all that its priority has first, and the other one last.
    assert [gateway.table.state(row)[1] for row in range(dead + 1)] == [CONNECTIONS] * (dead + 1)
    assert {event.attempts for event in gateway.events} == {dead + 1}
    tallies = spill.by_locality(gateway.table)
    assert (tallies[0].connections, tallies[0].failures) == (0, dead * CONNECTIONS)
    assert (tallies[1].connections, tallies[1].failures) == (CONNECTIONS, 0)
    gateway.close()


def test_a_client_whose_hash_leads_to_a_dead_priority_stays_with_one_endpoint_of_the_next(
    closed_port: ClosedPort,
) -> None:
    with ExitStack() as stack:
        servers = [stack.enter_context(upstream(backlog=64)) for _ in range(4)]
        gateway = spilling([closed_port()], [one.getsockname() for one in servers], live=0, policy="MAGLEV")
        gateway.engine.publish_routes(gateway.listener, gateway.route_to(gateway.slot, hash_source_ip=True))
        taken = []
        for number in range(24):
            source = f"127.0.0.{2 + number % 8}"
            with socket.create_connection(gateway.address, source_address=(source, 0)) as client:
                client.sendall(HELLO)
                gateway.until(lambda: any(gateway.table.state(row)[0] for row in range(1, 5)))
                taken.append(next(row for row in range(1, 5) if gateway.table.state(row)[0]))
                accept(servers[taken[-1] - 1]).close()
            gateway.until(lambda: gateway.engine.active_connections() == 0)
        assert taken[:8] == taken[8:16] == taken[16:]
        assert len(set(taken)) > 1
        gateway.close()


def test_the_next_priority_takes_nobody_while_its_own_has_an_untried_endpoint(
    server: socket.socket, closed_port: ClosedPort
) -> None:
    with upstream(backlog=64) as other:
        gateway = spilling([closed_port(), server.getsockname()], [other.getsockname()], live=1)
        served(gateway, server, CONNECTIONS)
        assert gateway.table.state(0)[2] > 0
        assert gateway.table.state(2)[1] == 0
        gateway.close()


def test_without_an_attempt_left_no_other_priority_is_asked(server: socket.socket, closed_port: ClosedPort) -> None:
    gateway = spilling([closed_port()], [server.getsockname()], live=1)
    gateway.engine.publish_routes(gateway.listener, gateway.route_to(gateway.slot, max_connect_attempts=1))
    with gateway.connect(HELLO) as client:
        assert gateway.end_of(client) == "RST"
    assert gateway.refused(Reason.CONNECT_FAILED) == 1
    assert gateway.table.state(1)[1] == 0
    gateway.close()
