"""Connections find their endpoint by the hash of their client's address, PROXY headers included. With real sockets."""

import socket
from collections.abc import Iterator
from contextlib import ExitStack

import pytest
from eastgate.fastpath.tables.cluster_table import ClusterTable
from eastgate.fastpath.tables.hashing import source_ip_hash
from eastgate.xds.resources import Hashing

from ..driven_engine import Gateway, accept, client_hello, gateway_to, upstream, with_workers

HELLO = client_hello()
ENDPOINTS = 5


pytestmark = with_workers(0, 2)


@pytest.fixture
def servers() -> Iterator[list[socket.socket]]:
    with ExitStack() as stack:
        yield [stack.enter_context(upstream(backlog=64)) for _ in range(ENDPOINTS)]


def hashed_gateway(
    servers: list[socket.socket], policy: str, *, hashed: bool = True, balance_factor: int = 0, **listen: object
) -> Gateway:
    hashing = Hashing(table_size=251, balance_factor=balance_factor)
    gateway = gateway_to(*(server.getsockname() for server in servers), policy=policy, hashing=hashing, **listen)
    gateway.engine.publish_routes(gateway.listener, gateway.route_to(gateway.slot, hash_source_ip=hashed))
    return gateway


def held(gateway: Gateway) -> list[int]:
    """Active connections by endpoint."""
    return [gateway.table.state(number)[0] for number in range(ENDPOINTS)]


def taken_by(gateway: Gateway, servers: list[socket.socket], source: str, data: bytes = HELLO) -> int:
    """Endpoint that a connection from `source` gets."""
    with socket.create_connection(gateway.address, source_address=(source, 0)) as client:
        client.sendall(data)
        gateway.until(lambda: sum(held(gateway)) == 1)
        found = held(gateway).index(1)
        with accept(servers[found]) as endpoint:
            assert gateway.receive(endpoint, len(HELLO)) == HELLO
    gateway.until(lambda: gateway.engine.active_connections() == 0)
    return found


@pytest.mark.parametrize("policy", ["RING_HASH", "MAGLEV"])
def test_a_source_always_gets_the_endpoint_of_its_hash(servers: list[socket.socket], policy: str) -> None:
    gateway = hashed_gateway(servers, policy)
    sources = [f"127.0.{number}.{7 * number + 1}" for number in range(20)]
    expected = [gateway.table.pick_hash(source_ip_hash(source)) for source in sources]
    assert len(set(expected)) > 1
    for _ in range(2):
        assert [taken_by(gateway, servers, source) for source in sources] == expected
    gateway.close()


def test_without_a_hash_policy_connections_get_random_hashes(servers: list[socket.socket]) -> None:
    gateway = hashed_gateway(servers, "MAGLEV", hashed=False)
    # All 30 at one of five endpoints: 5 ** -29.
    assert len({taken_by(gateway, servers, "127.0.0.1") for _ in range(30)}) > 1
    gateway.close()


def test_the_address_of_a_proxy_header_is_hashed(servers: list[socket.socket]) -> None:
    gateway = hashed_gateway(servers, "RING_HASH", proxy_protocol=(1, 2))
    for conveyed in ("203.0.113.9", "203.0.113.77", "198.51.100.3", "198.51.100.200"):
        header = f"PROXY TCP4 {conveyed} 192.0.2.1 1000 15443\r\n".encode()
        assert taken_by(gateway, servers, "127.0.0.1", header + HELLO) == gateway.table.pick_hash(
            source_ip_hash(conveyed)
        )
    for conveyed in ("2001:db8::1", "2001:db8::77", "::ffff:203.0.113.9"):
        header = f"PROXY TCP6 {conveyed} 2001:db8::2 1000 15443\r\n".encode()
        assert taken_by(gateway, servers, "127.0.0.1", header + HELLO) == gateway.table.pick_hash(
            source_ip_hash(conveyed)
        )
    gateway.close()


def test_a_mapped_client_of_a_dual_stack_listener_is_hashed_as_ipv4(servers: list[socket.socket]) -> None:
    gateway = hashed_gateway(servers, "RING_HASH", host="::", ipv6_only=False)
    gateway.address = ("127.0.0.1", gateway.address[1])
    for number in range(6):
        source = f"127.0.1.{number + 1}"
        assert taken_by(gateway, servers, source) == gateway.table.pick_hash(source_ip_hash(source))
    gateway.close()


def test_a_dead_endpoint_hands_its_sources_to_the_next(servers: list[socket.socket]) -> None:
    gateway = hashed_gateway(servers, "RING_HASH")
    source = "127.0.0.9"
    first = gateway.table.pick_hash(source_ip_hash(source))
    servers[first].close()
    following = [gateway.table.pick_hash(source_ip_hash(source), attempt) for attempt in range(1, 50)]
    expected = next(row for row in following if row != first)
    with socket.create_connection(gateway.address, source_address=(source, 0)) as client:
        client.sendall(HELLO)
        gateway.until(lambda: gateway.table.state(expected)[0] == 1)
        with accept(servers[expected]) as endpoint:
            assert gateway.receive(endpoint, len(HELLO)) == HELLO
    gateway.close()


def test_bounded_load_counts_the_cluster_and_moves_what_is_too_much(servers: list[socket.socket]) -> None:
    gateway = hashed_gateway(servers, "RING_HASH", balance_factor=100)
    with ExitStack() as clients:
        for number in range(10):
            client = socket.create_connection(gateway.address, source_address=("127.0.0.9", 0))
            clients.enter_context(client)
            client.sendall(HELLO)
            gateway.until(lambda: sum(held(gateway)) == number + 1)  # noqa: B023
        # By a table of the same endpoints, whose picks are held as the connections are.
        table = ClusterTable.compile(
            gateway.table.columns, policy="RING_HASH", hashing=Hashing(table_size=251, balance_factor=100)
        )
        for _ in range(10):
            table.hold(table.pick_hash(source_ip_hash("127.0.0.9")))
        assert held(gateway) == [table.state(number)[0] for number in range(ENDPOINTS)]
        # Of 10 connections each of five may have 2, and who has that takes one more.
        assert max(held(gateway)) <= 3
    gateway.close()
