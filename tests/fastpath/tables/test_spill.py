"""Tallies by locality, over real connections through an engine."""

import socket
from collections.abc import Iterator

import pytest
from eastgate.fastpath.tables import spill
from eastgate.fastpath.tables.cluster_table import ClusterTable

from ..driven_engine import columns, upstream
from ..loop.test_telemetry import ANSWER, HELLO, Counted


@pytest.fixture
def server() -> Iterator[socket.socket]:
    with upstream() as listening:
        yield listening


def test_connections_and_bytes_while_they_are_open_and_after(server: socket.socket) -> None:
    counted = Counted(server.getsockname(), telemetry=0)
    assert spill.by_locality(counted.gateway.table) == {}
    client, endpoint = counted.open(server)
    assert spill.by_locality(counted.gateway.table) == {0: (1, 0, 1, len(ANSWER), len(HELLO))}
    client.close()
    endpoint.close()
    counted.ended()
    assert spill.of_row(counted.gateway.table, 0) == (1, 0, 0, len(ANSWER), len(HELLO))
    counted.gateway.close()


def test_connect_that_failed() -> None:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        counted = Counted(bound.getsockname(), telemetry=0)
        with counted.gateway.connect(HELLO) as client:
            assert counted.gateway.end_of(client) == "RST"
    ((connections, failures, active, received, sent),) = spill.by_locality(counted.gateway.table).values()
    assert (connections, active, received, sent) == (0, 0, 0, 0)
    assert failures > 0
    counted.gateway.close()


def test_moves_names_what_left_and_nothing_where_all_stand_as_they_did(server: socket.socket) -> None:
    counted = Counted(server.getsockname(), telemetry=0)
    for one in counted.open(server):
        one.close()
    counted.ended()
    table = counted.gateway.table
    same = ClusterTable.compile(columns(server.getsockname()), previous=table)
    assert spill.moves(table, same) == []
    other = ClusterTable.compile(columns(("127.0.0.9", 9)), previous=table)
    tally = (1, 0, 0, len(ANSWER), len(HELLO))
    assert spill.moves(table, other) == [(0, 0, -1, tally)]
    assert spill.moves(table, None) == [(0, 0, -1, tally)]
    # What nobody was sent to is not told.
    assert spill.moves(other, table) == []
    counted.gateway.close()


@pytest.mark.parametrize("wrong", [None, 3, object()])
def test_only_tables_are_taken(wrong: object) -> None:
    with pytest.raises(TypeError):
        spill.by_locality(wrong)  # type: ignore[arg-type]
