"""Series by cluster, priority and locality over real connections: nothing is lost when endpoints move or go."""

import socket
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from eastgate.fastpath.tables.cluster_table import ClusterTable
from eastgate.proxy.admin.spill import FAMILIES, TOO_MANY, Spill
from eastgate.xds.assignment import decode_assignment
from eastgate.xds.message import encode
from eastgate.xds.resources import Assignment

from ...fastpath.driven_engine import SERVICE, upstream
from ...fastpath.loop.test_telemetry import ANSWER, HELLO, Counted

ELSEWHERE = ("127.0.0.9", 9)
# Of one connection that was opened, spoken through and closed.
ONE = (1, 0, len(ANSWER), len(HELLO))
Endpoint = tuple[tuple[str, int], int]


@pytest.fixture
def server() -> Iterator[socket.socket]:
    with upstream() as listening:
        yield listening


def assignment(*endpoints: Endpoint) -> Assignment:
    """Addresses with their priorities, whose localities have their numbers."""
    groups = [
        {
            "locality": {"region": "r", "zone": "z"},
            "priority": priority,
            "lb_endpoints": [{"endpoint": {"address": {"socket_address": {"address": host, "port_value": port}}}}],
        }
        for (host, port), priority in endpoints
    ]
    said = {"cluster_name": SERVICE, "endpoints": groups}
    return decode_assignment(encode("envoy.config.endpoint.v3.ClusterLoadAssignment", said))


class Metered(Counted):
    def __init__(self, *endpoints: Endpoint, **settings: Any) -> None:
        super().__init__(*(address for address, _ in endpoints), telemetry=0)
        self.now = 0.0
        self.spill = Spill(clock=lambda: self.now, **settings)
        self.publish(*endpoints)

    def publish(self, *endpoints: Endpoint, name: str = SERVICE) -> None:
        found = assignment(*endpoints)
        table = ClusterTable.compile(found.columns, previous=self.gateway.table)
        if name == SERVICE:
            self.gateway.table = table
            self.gateway.slots.publish(self.gateway.slot, table)
        cluster = SimpleNamespace(alt_stat_name="")
        compiled: Any = SimpleNamespace(cluster=cluster, table=table, assignment=found)
        self.spill.published(name, compiled)

    def talk(self, server: socket.socket) -> None:
        for one in self.open(server):
            one.close()
        self.ended()

    def series(self) -> dict[tuple[str, str], tuple[int, ...]]:
        """Values in the order of FAMILIES, by priority and locality."""
        found: dict[tuple[str, str], dict[str, int]] = {}
        for stat in self.spill.stats():
            if not stat.gauge:
                labels = dict(stat.labels)
                found.setdefault((labels["priority"], labels["locality"]), {})[stat.family] = stat.value
        return {
            place: tuple(values[f"eastgate_cluster_{short}_total"] for short, _ in FAMILIES.values())
            for place, values in found.items()
        }


def test_nothing_is_shown_of_what_nobody_was_sent_to(server: socket.socket) -> None:
    metered = Metered((server.getsockname(), 0))
    assert metered.series() == {}
    metered.talk(server)
    assert metered.series() == {("0", "r/z"): ONE}
    metered.gateway.close()


def test_what_was_counted_stays_with_the_priority_it_was_counted_for(server: socket.socket) -> None:
    here = server.getsockname()
    metered = Metered((here, 0))
    metered.talk(server)
    # Sent as the next priority now, behind one that cannot take anything: the first of both has no endpoint.
    metered.publish((here, 1))
    assert metered.series()["0", "r/z"] == ONE
    metered.talk(server)
    assert metered.series() == {("0", "r/z"): ONE, ("1", "r/z"): ONE}
    metered.publish((here, 0))
    metered.talk(server)
    assert metered.series() == {("0", "r/z"): tuple(2 * value for value in ONE), ("1", "r/z"): ONE}
    metered.gateway.close()


def test_endpoint_that_left_goes_on_counting_until_its_last_connection_ends(server: socket.socket) -> None:
    metered = Metered((server.getsockname(), 0))
    client, endpoint = metered.open(server)
    metered.publish((ELSEWHERE, 0))
    endpoint.sendall(ANSWER)
    assert metered.gateway.receive(client, len(ANSWER)) == ANSWER
    total = (1, 0, 2 * len(ANSWER), len(HELLO))
    for later in (0.0, 100.0, 200.0):
        metered.now = later
        assert metered.series() == {("0", "r/z"): total}
        assert metered.spill.as_json(SERVICE)[0]["active"] == 1
    client.close()
    endpoint.close()
    metered.ended()
    # Kept, and the table let go.
    for _ in range(2):
        assert metered.series() == {("0", "r/z"): total}
        assert metered.spill.as_json(SERVICE)[0]["active"] == 0
    metered.gateway.close()


def test_cluster_that_goes_takes_its_series_with_it(server: socket.socket) -> None:
    metered = Metered((server.getsockname(), 0))
    metered.talk(server)
    metered.spill.published(SERVICE, None)
    assert metered.series() == {}
    metered.gateway.close()


def test_series_beyond_the_limit_are_counted_in_one_that_says_so(server: socket.socket) -> None:
    metered = Metered((server.getsockname(), 0), limit=1)
    metered.talk(server)
    # Its states are those of the first: so it has had a connection too.
    metered.publish((server.getsockname(), 0), name="other")
    assert metered.series() == {("0", "r/z"): ONE, (TOO_MANY, TOO_MANY): ONE}
    metered.gateway.close()


def test_loads_are_shown_of_clusters_with_several_priorities(server: socket.socket) -> None:
    metered = Metered((server.getsockname(), 0))
    assert [stat for stat in metered.spill.stats() if stat.gauge] == []
    metered.publish((server.getsockname(), 0), (ELSEWHERE, 1))
    loads = {dict(stat.labels)["priority"]: stat.value for stat in metered.spill.stats() if stat.gauge}
    assert loads == {"0": 100, "1": 0}
    metered.gateway.close()
