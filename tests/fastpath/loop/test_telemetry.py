"""What connections count for Istio's metrics and by stat_prefix, and what their events carry for access logs."""

import socket
from collections.abc import Iterator

import pytest
from eastgate.fastpath.loop.telemetry import departed, of_cluster, of_endpoints, of_row
from eastgate.fastpath.match.chain_counts import DESTINATION, SOURCE, ChainCounts
from eastgate.fastpath.reason import Reason
from eastgate.fastpath.tables.cluster_table import ClusterTable

from ..driven_engine import SERVICE, ClosedPort, Gateway, accept, client_hello, columns, upstream, with_workers

pytestmark = with_workers(0, 1)
HELLO = client_hello()
ANSWER = b"an answer"


@pytest.fixture
def server() -> Iterator[socket.socket]:
    with upstream() as listening:
        yield listening


class Counted:
    """A gateway whose chain counts, and one connection after the other through it."""

    def __init__(self, *endpoints: tuple[str, int], telemetry: int = SOURCE, log: int = 0, **chain: object) -> None:
        self.gateway = Gateway(*endpoints)
        self.gateway.engine.record_events(False)
        self.counts = ChainCounts(SERVICE)
        self.routes = self.gateway.route_to(
            self.gateway.slot, counts=self.counts, telemetry=telemetry, log=log, **chain
        )
        self.gateway.engine.publish_routes(self.gateway.listener, self.routes)

    def open(self, server: socket.socket) -> tuple[socket.socket, socket.socket]:
        """A connection through which both sides have spoken."""
        client = self.gateway.connect(HELLO)
        self.gateway.until(lambda: self.gateway.table.state(0)[0] == 1)
        endpoint = accept(server)
        assert self.gateway.receive(endpoint, len(HELLO)) == HELLO
        endpoint.sendall(ANSWER)
        assert self.gateway.receive(client, len(ANSWER)) == ANSWER
        return client, endpoint

    def ended(self) -> None:
        self.gateway.until(lambda: self.gateway.engine.active_connections() == 0)


def test_endpoint_counts_connections_and_bytes_while_they_are_open(server: socket.socket) -> None:
    counted = Counted(server.getsockname())
    assert of_endpoints(counted.gateway.table) == []
    client, endpoint = counted.open(server)
    ((row, found),) = of_endpoints(counted.gateway.table)
    assert (row, found) == (0, (1, 0, len(ANSWER), len(HELLO), 0, ""))
    assert counted.counts.counters()[:3] == (1, len(HELLO), len(ANSWER))
    client.close()
    endpoint.close()
    counted.ended()
    assert of_row(counted.gateway.table, 0).closed == 1
    counted.gateway.close()


def test_chain_without_telemetry_counts_for_its_prefix_alone(server: socket.socket) -> None:
    counted = Counted(server.getsockname(), telemetry=0)
    for one in counted.open(server):
        one.close()
    counted.ended()
    assert of_endpoints(counted.gateway.table) == []
    assert of_cluster(counted.gateway.slots, counted.gateway.slot) == ({}, [])
    assert counted.counts.counters().cx_total == 1
    counted.gateway.close()


def test_endpoint_that_was_tried_in_vain_counts_that(closed_port: ClosedPort) -> None:
    counted = Counted(closed_port())
    with counted.gateway.connect(HELLO) as client:
        assert counted.gateway.end_of(client) == "RST"
    ((_, found),) = of_endpoints(counted.gateway.table)
    assert (found.opened, found.closed, found.failed) == (0, 0, 1)
    counted.gateway.close()


def test_connections_without_an_endpoint_count_with_their_cluster() -> None:
    counted = Counted()
    with counted.gateway.connect(HELLO) as client:
        assert counted.gateway.end_of(client) == "RST"
    unserved, peers = of_cluster(counted.gateway.slots, counted.gateway.slot)
    assert (unserved, peers) == ({Reason.NO_ENDPOINTS: 1}, [])
    counted.gateway.close()


def test_unknown_cluster_is_no_route(server: socket.socket) -> None:
    counted = Counted(server.getsockname())
    counted.gateway.slots.publish(counted.gateway.slot, None)
    with counted.gateway.connect(HELLO) as client:
        assert counted.gateway.end_of(client) == "RST"
    assert counted.counts.counters().no_route == 1
    counted.gateway.close()


def test_destination_counts_by_peer_and_plain_ones_are_nobody(server: socket.socket) -> None:
    counted = Counted(server.getsockname(), telemetry=DESTINATION)
    for one in counted.open(server):
        one.close()
    counted.ended()
    assert of_endpoints(counted.gateway.table) == []
    _, (peer,) = of_cluster(counted.gateway.slots, counted.gateway.slot)
    assert peer == (1, 1, len(ANSWER), len(HELLO), 0, "")
    counted.gateway.close()


def test_endpoint_that_left_is_counted_until_its_last_connection(server: socket.socket) -> None:
    counted = Counted(server.getsockname())
    gateway = counted.gateway
    client, endpoint = counted.open(server)
    before = gateway.table
    same = ClusterTable.compile(columns(server.getsockname()), previous=before)
    assert departed(before, same) == []
    gateway.table = ClusterTable.compile(columns(("127.0.0.9", 9)), previous=same)
    gateway.slots.publish(gateway.slot, gateway.table)
    assert departed(same, gateway.table) == departed(same, None) == [0]
    endpoint.sendall(ANSWER)
    assert gateway.receive(client, len(ANSWER)) == ANSWER
    assert of_row(before, 0)[:3] == (1, 0, 2 * len(ANSWER))
    client.close()
    endpoint.close()
    counted.ended()
    assert of_row(before, 0).closed == 1
    gateway.close()


def test_idle_timeout_counts_with_the_prefix(server: socket.socket) -> None:
    counted = Counted(server.getsockname(), idle_timeout_ms=50)
    client, endpoint = counted.open(server)
    counted.ended()
    assert counted.counts.counters().idle_timeout == 1
    client.close()
    endpoint.close()
    counted.gateway.close()


def test_only_connections_of_logged_chains_have_events(server: socket.socket) -> None:
    counted = Counted(server.getsockname(), log=7)
    gateway = counted.gateway
    client, endpoint = counted.open(server)
    client_address, upstream_local = client.getsockname(), endpoint.getpeername()
    client.close()
    endpoint.close()
    gateway.until(lambda: gateway.events)
    (event,) = gateway.events
    assert (event.log, event.reason, event.server_name) == (7, Reason.NONE, SERVICE)
    assert event.direct_source == f"127.0.0.1:{client_address[1]}"
    assert event.upstream_local == f"127.0.0.1:{upstream_local[1]}"
    assert (event.downstream_peer, event.upstream_peer) == ("", "")
    gateway.close()
    other = Counted(server.getsockname())
    for one in other.open(server):
        one.close()
    other.ended()
    assert other.gateway.events == []
    other.gateway.close()
