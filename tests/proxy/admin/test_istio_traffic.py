"""Series of Istio's TCP metrics over real connections: what is counted, and that nothing is lost when things go."""

import socket
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from eastgate.fastpath.match.chain_counts import DESTINATION
from eastgate.fastpath.tables.cluster_table import ClusterTable
from eastgate.proxy.admin.istio_traffic import FAMILIES, IstioTraffic
from eastgate.xds.assignment import decode_assignment
from eastgate.xds.message import encode
from eastgate.xds.resources import Assignment, Cluster

from ...fastpath.driven_engine import SERVICE, upstream
from ...fastpath.loop.test_telemetry import ANSWER, HELLO, Counted

OPENED, CLOSED, SENT, RECEIVED = FAMILIES
NODE = {"WORKLOAD_NAME": "gateway", "NAMESPACE": "istio-system", "ISTIO_VERSION": "1.31.0"}


@pytest.fixture
def server() -> Iterator[socket.socket]:
    with upstream() as listening:
        yield listening


def metadata(istio: dict[str, object]) -> bytes:
    return encode("envoy.config.core.v3.Metadata", {"filter_metadata": {"istio": istio}})


def assignment(*endpoints: tuple[tuple[str, int], str]) -> Assignment:
    """Endpoints with the workload that their metadata names."""
    members = [
        {
            "endpoint": {"address": {"socket_address": {"address": host, "port_value": port}}},
            "metadata": metadata({"workload": f"{workload};b;store;v1;gke"}),
        }
        for (host, port), workload in endpoints
    ]
    said = {"cluster_name": SERVICE, "endpoints": [{"locality": {"zone": "z"}, "lb_endpoints": members}]}
    return decode_assignment(encode("envoy.config.endpoint.v3.ClusterLoadAssignment", said))


CLUSTER = Cluster(
    name=SERVICE,
    type="EDS",
    raw=encode(
        "envoy.config.cluster.v3.Cluster",
        {"name": SERVICE, "metadata": metadata({"services": [{"host": "store.b", "name": "store", "namespace": "b"}]})},
    ),
)


class Metered(Counted):
    """Connections through an engine, and the series that come of them."""

    def __init__(self, *endpoints: tuple[tuple[str, int], str], limit: int = 10_000, **chain: Any) -> None:
        super().__init__(*(address for address, _ in endpoints), **chain)
        self.traffic = IstioTraffic(self.gateway.slots, NODE, lambda: "", limit=limit)
        self.publish(*endpoints)

    def publish(self, *endpoints: tuple[tuple[str, int], str]) -> None:
        found = assignment(*endpoints)
        self.gateway.table = ClusterTable.compile(found.columns, previous=self.gateway.table)
        self.gateway.slots.publish(self.gateway.slot, self.gateway.table)
        self.traffic.published(SERVICE, self.compiled(found))

    def compiled(self, found: Assignment) -> Any:
        """As much of a compiled cluster as is looked at."""
        return SimpleNamespace(cluster=CLUSTER, table=self.gateway.table, assignment=found, slot=self.gateway.slot)

    def talk(self, server: socket.socket) -> None:
        for one in self.open(server):
            one.close()
        self.ended()

    def series(self, *names: str) -> dict[tuple[str, ...], dict[str, int]]:
        """Values by the values of these labels."""
        found: dict[tuple[str, ...], dict[str, int]] = {}
        for stat in self.traffic.stats():
            if stat.family in FAMILIES:
                labels = dict(stat.labels)
                values = found.setdefault(tuple(labels[name] for name in names), dict.fromkeys(FAMILIES, 0))
                values[stat.family] += stat.value
        return found


def test_series_by_workload_of_the_endpoint(server: socket.socket) -> None:
    metered = Metered((server.getsockname(), "store-v1"))
    assert list(metered.traffic.stats()) == []
    metered.talk(server)
    client, endpoint = metered.open(server)
    names = ("reporter", "source_workload", "destination_workload", "destination_service", "response_flags")
    assert metered.series(*names) == {
        ("source", "gateway", "store-v1", "store.b", "-"): {
            OPENED: 2,
            CLOSED: 1,
            SENT: 2 * len(ANSWER),
            RECEIVED: 2 * len(HELLO),
        }
    }
    (build,) = [stat for stat in metered.traffic.stats() if stat.family == "istio_build"]
    assert (build.labels, build.value, build.gauge) == ((("component", "proxy"), ("tag", "1.31.0")), 1, True)
    client.close()
    endpoint.close()
    metered.gateway.close()


def test_nothing_is_lost_when_an_endpoint_or_the_cluster_goes(server: socket.socket) -> None:
    metered = Metered((server.getsockname(), "store-v1"))
    metered.talk(server)
    client, endpoint = metered.open(server)
    metered.publish((("127.0.0.9", 9), "store-v2"))
    endpoint.sendall(ANSWER)
    assert metered.gateway.receive(client, len(ANSWER)) == ANSWER
    once = metered.series("destination_workload")["store-v1",]
    assert (once[OPENED], once[CLOSED], once[SENT]) == (2, 1, 3 * len(ANSWER))
    client.close()
    endpoint.close()
    metered.ended()
    for _ in range(2):
        assert metered.series("destination_workload")["store-v1",] == {**once, CLOSED: 2}
    metered.traffic.published(SERVICE, None)
    assert metered.series("destination_workload")["store-v1",] == {**once, CLOSED: 2}
    # It comes back, and goes on from there.
    metered.publish((server.getsockname(), "store-v1"))
    metered.talk(server)
    assert metered.series("destination_workload")["store-v1",][CLOSED] == 3
    metered.gateway.close()


def test_refused_connections_have_flags(server: socket.socket) -> None:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        metered = Metered((bound.getsockname(), "store-v1"))
        with metered.gateway.connect(HELLO) as client:
            metered.gateway.end_of(client)
    metered.publish()
    with metered.gateway.connect(HELLO) as client:
        metered.gateway.end_of(client)
    found = metered.series("destination_workload", "response_flags")
    assert {labels: (values[OPENED], values[CLOSED]) for labels, values in found.items()} == {
        ("store-v1", "UF,URX"): (1, 1),
        ("unknown", "UH"): (1, 1),
    }
    metered.gateway.close()


def test_beyond_the_limit_there_is_one_series_that_says_so(server: socket.socket) -> None:
    metered = Metered((server.getsockname(), "store-1"), limit=1)
    metered.talk(server)
    for number in range(2, 5):
        metered.publish()
        metered.publish((server.getsockname(), f"store-{number}"))
        metered.talk(server)
        assert metered.series("reporter")["too_many_series",][OPENED] == number - 1
    assert metered.series("destination_workload").keys() == {("store-1",), ("too_many_series",)}
    metered.gateway.close()


def test_destination_counts_by_client(server: socket.socket) -> None:
    metered = Metered((server.getsockname(), ""), telemetry=DESTINATION)
    metered.talk(server)
    names = ("reporter", "source_principal", "destination_workload", "connection_security_policy")
    (found,) = metered.series(*names).items()
    assert found == (
        ("destination", "unknown", "gateway", "none"),
        {OPENED: 1, CLOSED: 1, SENT: len(ANSWER), RECEIVED: len(HELLO)},
    )
    metered.gateway.close()
