"""The native loop with real sockets on loopback: every phase, every refusal, both ends of a connection."""

import hashlib
import os
import resource
import socket
import stat
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from eastgate.fastpath.match.chains import ChainSpec
from eastgate.fastpath.match.route_table import RouteTable
from eastgate.fastpath.reason import Reason
from eastgate.fastpath.tables.cluster_table import ClusterTable

from ..driven_engine import (
    SERVICE,
    ClosedPort,
    Gateway,
    accept,
    accepted,
    client_hello,
    columns,
    established,
    upstream,
    with_workers,
)

HELLO = client_hello()


pytestmark = with_workers(0, 1, 4)


@pytest.mark.parametrize("first", ["downstream", "upstream"])
def test_half_close_travels_and_the_other_direction_stays_open(
    gateway: Gateway, server: socket.socket, first: str
) -> None:
    client, endpoint = established(gateway, server)
    closing, other = (client, endpoint) if first == "downstream" else (endpoint, client)
    with client, endpoint:
        closing.shutdown(socket.SHUT_WR)
        assert gateway.receive(other, 1) == b""
        other.sendall(b"after your FIN")
        assert gateway.receive(closing, 14) == b"after your FIN"
        other.shutdown(socket.SHUT_WR)
        assert gateway.receive(closing, 1) == b""
        gateway.until(lambda: gateway.engine.active_connections() == 0)
    event = gateway.events[-1]
    assert (event.reason, event.cluster, event.server_name) == (Reason.NONE, SERVICE, SERVICE)
    sent = 14 if first == "upstream" else 0
    assert (event.rx_bytes, event.tx_bytes) == (len(HELLO) + sent, 14 - sent)


@pytest.mark.parametrize("way", ["up", "down"])
def test_bulk_arrives_byte_exact_through_a_slow_reader(gateway: Gateway, server: socket.socket, way: str) -> None:
    client, endpoint = established(gateway, server)
    writer, reader = (client, endpoint) if way == "up" else (endpoint, client)
    block = os.urandom(1 << 20)
    total, sent = 24 << 20, 0
    want, got, received = hashlib.sha256(), hashlib.sha256(), 0
    with client, endpoint:

        def fill() -> bool:
            nonlocal sent
            before = sent
            try:
                while sent < total:
                    chunk = block[sent % len(block) :]
                    taken = writer.send(chunk)
                    want.update(chunk[:taken])
                    sent += taken
            except BlockingIOError:
                pass
            return sent in (before, total)

        # The reader takes nothing until the writer is stuck: everything between must wait in kernel queues.
        before_kb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        gateway.until(fill)
        assert sent < total
        assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before_kb < 4096
        while received < total:
            fill()
            chunk = gateway.receive(reader, min(total - received, 65536, max(sent - received, 1)))
            got.update(chunk)
            received += len(chunk)
        assert got.digest() == want.digest()


def test_routes_look_at_the_addresses_of_the_socket(server: socket.socket) -> None:
    gateway = Gateway(server.getsockname(), host="0.0.0.0")
    here, client_side = (socket.inet_aton("127.0.1.1"), 32), (socket.inet_aton("127.0.0.2"), 32)
    for chain, served in (
        ({"destination_prefixes": (here,)}, True),
        ({"destination_prefixes": (client_side,)}, False),
        ({"source_prefixes": (client_side,), "direct_source_prefixes": (client_side,)}, True),
        ({"source_prefixes": (here,)}, False),
        ({"direct_source_prefixes": (here,)}, False),
        ({"source_type": "EXTERNAL"}, True),
        ({"source_type": "SAME_IP_OR_LOOPBACK"}, False),
    ):
        gateway.engine.publish_routes(gateway.listener, gateway.route_to(gateway.slot, **chain))
        before = gateway.refused(Reason.ADDRESS_MISMATCH)
        with socket.create_connection(("127.0.1.1", gateway.address[1]), source_address=("127.0.0.2", 0)) as client:
            client.setblocking(False)
            client.sendall(HELLO)
            if served:
                accepted(gateway, server).close()
            else:
                assert gateway.end_of(client) == "RST"
        assert gateway.refused(Reason.ADDRESS_MISMATCH) - before == (not served), chain
    gateway.close()


def test_a_proxy_header_conveys_the_source_and_not_the_direct_one(server: socket.socket) -> None:
    gateway = Gateway(server.getsockname(), proxy_protocol=(1, 2))
    conveyed, direct = (socket.inet_aton("192.0.2.0"), 24), (socket.inet_aton("127.0.0.0"), 8)
    header = b"PROXY TCP4 192.0.2.7 10.0.0.1 5000 443\r\n"
    chain = {
        "destination_port": 443,
        "destination_prefixes": ((socket.inet_aton("10.0.0.0"), 8),),
        "source_prefixes": (conveyed,),
        "source_ports": (5000,),
        "direct_source_prefixes": (direct,),
    }
    gateway.engine.publish_routes(gateway.listener, gateway.route_to(gateway.slot, **chain))
    with gateway.connect(header + HELLO):
        accepted(gateway, server).close()
    for field, other in (("source_prefixes", direct), ("direct_source_prefixes", conveyed)):
        gateway.engine.publish_routes(gateway.listener, gateway.route_to(gateway.slot, **{**chain, field: (other,)}))
        with gateway.connect(header + HELLO) as client:
            assert gateway.end_of(client) == "RST"
    assert gateway.refused(Reason.ADDRESS_MISMATCH) == 2
    gateway.close()


def test_refused_connect_is_counted_and_named(server: socket.socket) -> None:
    gateway = Gateway(server.getsockname())
    server.close()
    with gateway.connect(HELLO) as client:
        assert gateway.end_of(client) == "RST"
    assert gateway.refused(Reason.CONNECT_FAILED) == 1
    counters = gateway.slots.counters(gateway.slot)
    assert (counters.cx_total, counters.cx_connect_fail, counters.cx_active) == (3, 3, 0)
    assert gateway.table.state(0) == (0, 3, 3, 3)
    assert (gateway.events[-1].server_name, gateway.events[-1].attempts) == (SERVICE, 3)
    gateway.close()


def test_no_healthy_endpoint_and_no_endpoint_are_told_apart(gateway: Gateway, server: socket.socket) -> None:
    down = ClusterTable.compile(columns(server.getsockname(), health=(2,)), panic_threshold=0)
    gateway.slots.publish(gateway.slot, down)
    with gateway.connect(HELLO) as client:
        assert gateway.end_of(client) == "RST"
    gateway.slots.publish(gateway.slot, ClusterTable.compile(columns()))
    with gateway.connect(HELLO) as client:
        assert gateway.end_of(client) == "RST"
    assert (gateway.refused(Reason.NONE_HEALTHY), gateway.refused(Reason.NO_ENDPOINTS)) == (1, 1)
    assert gateway.slots.counters(gateway.slot).cx_none_healthy == 2


def test_panic_that_fails_traffic_is_a_refusal_of_its_own(gateway: Gateway, server: socket.socket) -> None:
    down = ClusterTable.compile(columns(server.getsockname(), health=(2,)), fail_on_panic=True)
    gateway.slots.publish(gateway.slot, down)
    with gateway.connect(HELLO) as client:
        assert gateway.end_of(client) == "RST"
    assert gateway.refused(Reason.PANIC) == 1
    assert gateway.slots.counters(gateway.slot).cx_none_healthy == 1


def test_warming_cluster_is_unknown(gateway: Gateway) -> None:
    gateway.slots.publish(gateway.slot, None)
    with gateway.connect(HELLO) as client:
        assert gateway.end_of(client) == "RST"
    assert gateway.refused(Reason.UNKNOWN_CLUSTER) == 1


def test_circuit_breaker_refuses_over_the_limit_and_recovers(gateway: Gateway, server: socket.socket) -> None:
    gateway.slots.publish(gateway.slot, gateway.table, max_connections=1)
    client, endpoint = established(gateway, server)
    with gateway.connect(HELLO) as second:
        assert gateway.end_of(second) == "RST"
    assert gateway.refused(Reason.OVERFLOW) == 1
    client.close()
    endpoint.close()
    gateway.until(lambda: gateway.slots.counters(gateway.slot).cx_active == 0)
    client, endpoint = established(gateway, server)
    client.close()
    endpoint.close()


def test_stop_accepting_leaves_open_connections(gateway: Gateway, server: socket.socket) -> None:
    client, endpoint = established(gateway, server)
    with client, endpoint:
        gateway.engine.stop_accepting(gateway.listener)
        with pytest.raises(ConnectionRefusedError):
            gateway.connect()
        endpoint.sendall(b"x")
        assert gateway.receive(client, 1) == b"x"


def proxy_header(destination: tuple[str, int]) -> bytes:
    host, port = destination
    return f"PROXY TCP{6 if ':' in host else 4} {host} {host} 40000 {port}\r\n".encode()


def to_original_destination(gateway: Gateway, **settings: int) -> None:
    """The service's cluster goes to where clients wanted to; its table's endpoint is nobody's address."""
    gateway.table = ClusterTable.compile(columns(("192.0.2.1", 9)))
    gateway.slots.publish(gateway.slot, gateway.table, original_dst=True, **settings)


@pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_INET6])
def test_original_destination_is_connected_to(family: int) -> None:
    host = "::1" if family == socket.AF_INET6 else "127.0.0.9"
    with upstream(family, host) as server:
        gateway = Gateway(proxy_protocol=(1, 2))
        to_original_destination(gateway)
        # The port that a client wanted is what chains match; this one's takes any.
        with gateway.connect(proxy_header(server.getsockname()[:2]) + HELLO) as client:
            gateway.until(lambda: gateway.table.state(0)[0] == 1)
            with accept(server) as endpoint:
                assert gateway.receive(endpoint, len(HELLO)) == HELLO
                endpoint.sendall(b"here")
                assert gateway.receive(client, 4) == b"here"
        gateway.until(lambda: gateway.engine.active_connections() == 0)
        shown = f"[{host}]" if ":" in host else host
        assert gateway.events[-1].upstream == f"{shown}:{server.getsockname()[1]}"
        assert gateway.table.state(0) == (0, 1, 0, 0)
        gateway.close()


def test_original_destination_with_another_port(server: socket.socket) -> None:
    gateway = Gateway(proxy_protocol=(1, 2))
    to_original_destination(gateway, port_override=server.getsockname()[1])
    with gateway.connect(proxy_header(("127.0.0.1", 9)) + HELLO):
        gateway.until(lambda: gateway.table.state(0)[0] == 1)
        with accept(server) as endpoint:
            assert gateway.receive(endpoint, len(HELLO)) == HELLO
    gateway.close()
    with pytest.raises(ValueError, match=r"port_override 65536 is outside 0\.\.65535"):
        gateway.slots.publish(gateway.slot, gateway.table, original_dst=True, port_override=65536)


def test_connection_that_wanted_to_come_here_has_no_original_destination(workers: int) -> None:
    # Nothing redirected it, and connecting to where it came would go round in circles.
    gateway = Gateway(original_dst=True)
    to_original_destination(gateway)
    with gateway.connect(HELLO) as client:
        assert gateway.end_of(client) == "RST"
    assert gateway.refused(Reason.LOOP) == 1
    looping = Gateway(proxy_protocol=(1, 2))
    to_original_destination(looping)
    with looping.connect(proxy_header(looping.address) + HELLO) as client:
        assert looping.end_of(client) == "RST"
    assert looping.refused(Reason.LOOP) == 1
    assert looping.slots.counters(looping.slot).cx_none_healthy == 1
    gateway.close()
    looping.close()


V4, V6 = socket.inet_aton("127.0.0.6"), socket.inet_pton(socket.AF_INET6, "::6")


@pytest.mark.parametrize("sources", [[(V4, 0)], [(V6, 0), (V4, 0)], [(V4, 0), (socket.inet_aton("127.0.0.7"), 0)]])
def test_connections_come_from_the_source_of_the_endpoints_family(
    server: socket.socket, sources: list[tuple[bytes, int]]
) -> None:
    gateway = Gateway(server.getsockname())
    gateway.slots.publish(gateway.slot, gateway.table, sources=sources)
    client, endpoint = established(gateway, server)
    with client, endpoint:
        assert endpoint.getpeername()[0] == "127.0.0.6"
    gateway.close()


def test_a_source_of_another_family_leaves_the_choice_to_the_kernel(server: socket.socket) -> None:
    gateway = Gateway(server.getsockname())
    gateway.slots.publish(gateway.slot, gateway.table, sources=[(V6, 0)])
    client, endpoint = established(gateway, server)
    with client, endpoint:
        assert endpoint.getpeername()[0] == "127.0.0.1"
    gateway.close()


def test_a_source_that_this_host_has_not_is_a_failed_connect(server: socket.socket) -> None:
    gateway = Gateway(server.getsockname())
    # TEST-NET-1 is nobody's.
    gateway.slots.publish(gateway.slot, gateway.table, sources=[(socket.inet_aton("192.0.2.1"), 0)])
    with gateway.connect(HELLO) as client:
        assert gateway.end_of(client) == "RST"
    assert gateway.refused(Reason.CONNECT_FAILED) == 1
    gateway.close()


def test_a_source_port_is_taken(server: socket.socket, closed_port: ClosedPort) -> None:
    _, port = closed_port()
    gateway = Gateway(server.getsockname())
    gateway.slots.publish(gateway.slot, gateway.table, sources=[(V4, port)])
    client, endpoint = established(gateway, server)
    with client, endpoint:
        assert endpoint.getpeername() == ("127.0.0.6", port)
    gateway.close()


@pytest.mark.parametrize(
    ("source", "reason"), [((b"123", 0), "3 bytes are no IP address"), ((V4, 65536), "source port 65536 is outside")]
)
def test_a_source_that_is_none_is_refused(source: tuple[bytes, int], reason: str) -> None:
    gateway = Gateway(("127.0.0.1", 9))
    with pytest.raises(ValueError, match=reason):
        gateway.slots.publish(gateway.slot, gateway.table, sources=[source])
    gateway.close()


def test_missing_proxy_header_is_refused_by_name(server: socket.socket) -> None:
    gateway = Gateway(server.getsockname(), proxy_protocol=(1, 2))
    with gateway.connect(HELLO) as client:
        assert gateway.end_of(client) == "RST"
    assert gateway.refused(Reason.MALFORMED_PROXY_HEADER) == 1
    gateway.close()


def test_ipv6_on_both_sides() -> None:
    with upstream(socket.AF_INET6, "::1") as server:
        gateway = Gateway(server.getsockname()[:2], host="::1")
        client, endpoint = established(gateway, server)
        with client, endpoint:
            endpoint.sendall(b"six")
            assert gateway.receive(client, 3) == b"six"
        gateway.until(lambda: gateway.engine.active_connections() == 0)
        assert gateway.events[-1].downstream.startswith("[::1]:")
        gateway.close()


def test_dual_stack_listener_shows_ipv4_clients_as_ipv4(server: socket.socket) -> None:
    gateway = Gateway(server.getsockname(), host="::", ipv6_only=False)
    gateway.address = ("127.0.0.1", gateway.address[1])
    client, endpoint = established(gateway, server)
    client.close()
    endpoint.close()
    gateway.until(lambda: gateway.engine.active_connections() == 0)
    assert gateway.events[-1].downstream.startswith("127.0.0.1:")
    gateway.close()


def test_unix_socket_endpoint(tmp_path: Path) -> None:
    path = str(tmp_path / "endpoint")
    with upstream(socket.AF_UNIX, path) as server:
        gateway = Gateway((path, 0))
        client, endpoint = established(gateway, server)
        with client, endpoint:
            endpoint.sendall(b"local")
            assert gateway.receive(client, 5) == b"local"
        gateway.close()


def test_connection_limit_refuses_and_recovers(server: socket.socket, workers: int) -> None:
    from eastgate.fastpath.loop.engine import Engine

    gateway = Gateway(server.getsockname())
    small = Engine(gateway.slots, seed=2, workers=workers, max_connections=1)
    listener = small.listen("127.0.0.1", 0, routes=gateway.routes)
    gateway.engine.close()
    gateway.engine, gateway.listener, gateway.address = small, listener, small.bound_address(listener)
    with gateway.connect():
        gateway.until(lambda: small.active_connections() == 1)
        with gateway.connect() as second:
            assert gateway.end_of(second) == "RST"
    assert gateway.refused(Reason.LIMIT) == 1
    gateway.until(lambda: small.active_connections() == 0)
    client, endpoint = established(gateway, server)
    client.close()
    endpoint.close()
    gateway.close()


def test_running_out_of_descriptors_pauses_accepting_and_resumes(gateway: Gateway, server: socket.socket) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with socket.socket() as client:
        highest = os.open("/dev/null", os.O_RDONLY)
        os.close(highest)
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (highest, hard))
            client.connect(gateway.address)
            gateway.until(lambda: gateway.refused(Reason.LIMIT) >= 1)
            before = gateway.refused(Reason.LIMIT)
            handled = 0
            for _ in range(50):
                time.sleep(0.001)
                handled += gateway.engine.turn()
            # At most one look every ACCEPT_RETRY_MS: the timer, and the listener that it puts back.
            assert handled <= 6
            assert gateway.refused(Reason.LIMIT) - before <= 2
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        client.sendall(HELLO)
        gateway.until(lambda: gateway.slots.counters(gateway.slot).cx_active == 1)


def test_bind_failure_names_the_address(gateway: Gateway) -> None:
    with pytest.raises(OSError, match=r"cannot listen on 192\.0\.2\.1 port 1"):
        gateway.engine.listen("192.0.2.1", 1, routes=gateway.routes)
    with pytest.raises(ValueError, match="'localhost' is not an IPv4 or IPv6 address"):
        gateway.engine.listen("localhost", 1, routes=gateway.routes)


def test_closed_engine_says_so(gateway: Gateway) -> None:
    gateway.engine.close()
    gateway.engine.close()
    with pytest.raises(ValueError, match="the engine is closed"):
        gateway.engine.fileno()


def test_full_event_ring_drops_and_counts(server: socket.socket, workers: int) -> None:
    from eastgate.fastpath.loop.engine import Engine

    gateway = Gateway(server.getsockname())
    small = Engine(gateway.slots, seed=2, workers=workers, event_capacity=2)
    listener = small.listen("127.0.0.1", 0, routes=gateway.routes)
    address = small.bound_address(listener)
    for _ in range(5):
        socket.create_connection(address).close()
    gateway.engine, gateway.listener = small, listener
    gateway.until(lambda: gateway.refused(Reason.IDLE_PROBE) == 5 or small.turn() < 0)
    assert len(gateway.events) + small.events_dropped() == 5
    small.close()


def test_worker_that_always_has_events_keeps_no_other_from_giving_its_own(server: socket.socket, workers: int) -> None:
    if workers < 2:
        pytest.skip("there is one worker")
    gateway = Gateway(server.getsockname(), event_capacity=4)

    def fill() -> set[str]:
        """All rings, as the kernel spreads connections over the workers; the clients."""
        wanted = gateway.refused(Reason.IDLE_PROBE) + 64
        clients = set()
        for _ in range(64):
            with socket.create_connection(gateway.address) as client:
                clients.add("{}:{}".format(*client.getsockname()))
        while gateway.refused(Reason.IDLE_PROBE) < wanted:
            time.sleep(0.001)
        return clients

    first = fill()
    for _ in range(workers):
        assert len(gateway.engine.take_events(4)) == 4
        fill()
    assert first.isdisjoint(event.downstream for event in gateway.engine.take_events())
    gateway.close()


def test_weighted_targets_split_by_weight(gateway: Gateway, server: socket.socket) -> None:
    from eastgate.fastpath.match.chains import ISTIO_ALPN, ChainSpec
    from eastgate.fastpath.match.route_table import RouteTable

    other = gateway.slots.acquire("other")
    gateway.slots.publish(other, ClusterTable.compile(columns()))
    chain = ChainSpec(
        name="split", server_names=(SERVICE,), application_protocols=ISTIO_ALPN, targets=((gateway.slot, 3), (other, 1))
    )
    gateway.engine.publish_routes(gateway.listener, RouteTable.compile([chain]))
    clients = [gateway.connect(HELLO) for _ in range(400)]
    gateway.until(
        lambda: gateway.slots.counters(gateway.slot).cx_total + gateway.slots.counters(other).cx_none_healthy == 400
    )
    # 400 draws at 1/4: mean 100, standard deviation 8.7; 52..148 is 5.5 deviations.
    assert 52 <= gateway.slots.counters(other).cx_none_healthy <= 148
    for client in clients:
        client.close()


def test_deferred_client_is_seen_with_its_first_byte(server: socket.socket) -> None:
    gateway = Gateway(server.getsockname(), defer_accept=True)
    with gateway.connect() as client:
        for _ in range(5):
            gateway.turn()
        assert gateway.engine.listener_counters(gateway.listener).cx_total == 0
        client.sendall(HELLO)
        gateway.until(lambda: gateway.table.state(0)[0] == 1)
        with accept(server) as endpoint:
            assert gateway.receive(endpoint, len(HELLO)) == HELLO
    gateway.close()


def own_sockets() -> Iterator[socket.socket]:
    """A view of each socket of this process."""
    for name in os.listdir("/proc/self/fd"):
        with suppress(OSError):
            if stat.S_ISSOCK(os.stat(int(name)).st_mode):
                view = socket.socket(fileno=os.dup(int(name)))
                with view:
                    yield view


def options_of_listening_sockets(address: tuple[str, int], option: int) -> list[int]:
    """A TCP option of each socket of this process that listens at an address."""
    return [
        view.getsockopt(socket.IPPROTO_TCP, option)
        for view in own_sockets()
        if view.family == socket.AF_INET
        and view.getsockname() == address
        and view.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
    ]


def options_towards(address: tuple[str, int], *options: tuple[int, int]) -> list[int]:
    """Options of the one socket of this process that is connected to an address."""
    for view in own_sockets():
        with suppress(OSError):
            if view.getpeername() == address:
                return [view.getsockopt(*option) for option in options]
    raise AssertionError(f"no socket is connected to {address}")


def test_options_are_on_at_every_workers_socket(server: socket.socket, workers: int) -> None:
    gateway = Gateway(server.getsockname(), fast_open=True)
    assert options_of_listening_sockets(gateway.address, socket.TCP_FASTOPEN) == [256] * (workers or 1)
    assert options_of_listening_sockets(gateway.address, socket.TCP_USER_TIMEOUT) == [600_000] * (workers or 1)
    assert all(options_of_listening_sockets(gateway.address, socket.TCP_NODELAY))
    with gateway.connect(HELLO):
        gateway.until(lambda: gateway.table.state(0)[0] == 1)
    gateway.close()


def test_a_connection_that_stays_gets_keepalive_as_its_cluster_says(server: socket.socket) -> None:
    gateway = Gateway(server.getsockname())
    gateway.slots.publish(gateway.slot, gateway.table, keepalive_time_s=75, keepalive_probes=3)
    client, endpoint = established(gateway, server)
    alive = (socket.SOL_SOCKET, socket.SO_KEEPALIVE)
    tcp = [(socket.IPPROTO_TCP, name) for name in (socket.TCP_NODELAY, socket.TCP_USER_TIMEOUT)]
    with client, endpoint:
        assert options_towards(server.getsockname(), tcp[0]) == [1]
        gateway.until(lambda: options_towards(server.getsockname(), alive) == [1])
        timing = [(socket.IPPROTO_TCP, name) for name in (socket.TCP_KEEPIDLE, socket.TCP_KEEPCNT)]
        assert options_towards(server.getsockname(), *tcp, *timing) == [1, 600_000, 75, 3]
        client.sendall(b"still")
        assert gateway.receive(endpoint, 5) == b"still"
    gateway.close()


def test_routes_of_a_listener_that_stopped_go_with_the_last_one_to_be_routed(
    gateway: Gateway, server: socket.socket
) -> None:
    def holders() -> int:
        return sys.getrefcount(gateway.routes)

    kept = holders()
    number = gateway.engine.listen("127.0.0.1", 0, routes=gateway.routes)
    with socket.create_connection(gateway.engine.bound_address(number)) as late:
        gateway.until(lambda: gateway.engine.listener_counters(number).cx_total)
        gateway.engine.stop_accepting(number)
        gateway.engine.leave(number)
        gateway.turn()
        assert holders() == kept + 1
        late.sendall(HELLO)
        with accepted(gateway, server) as endpoint:
            assert gateway.receive(endpoint, len(HELLO)) == HELLO
            gateway.until(lambda: holders() == kept)
    with pytest.raises(ValueError, match="no longer accepts"):
        gateway.engine.publish_routes(number, gateway.routes)
    assert gateway.engine.listener_counters(number).cx_total == 1


def test_routes_of_a_listener_that_stopped_and_has_not_left_judge_its_connections(
    gateway: Gateway, server: socket.socket
) -> None:
    number = gateway.engine.listen("127.0.0.1", 0, routes=gateway.routes)
    with socket.create_connection(gateway.engine.bound_address(number)) as late:
        late.sendall(HELLO)
        with accepted(gateway, server) as endpoint:
            assert gateway.receive(endpoint, len(HELLO)) == HELLO
            gateway.engine.stop_accepting(number)
            gateway.engine.publish_routes(number, gateway.routes)
    gateway.until(lambda: gateway.engine.forget(number) is not None)


def test_listeners_that_come_and_go_leave_no_tables_behind(gateway: Gateway) -> None:
    def resident_kb() -> int:
        return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize() // 1024

    def open_and_close(times: int) -> None:
        for _ in range(times):
            table = RouteTable.compile(
                [
                    ChainSpec(name=f"c{chain}", server_names=(f"s{chain}.example",), targets=((gateway.slot, 1),))
                    for chain in range(2000)
                ]
            )
            gateway.engine.stop_accepting(gateway.engine.listen("127.0.0.1", 0, routes=table))
            gateway.turn(0)

    open_and_close(5)
    before = resident_kb()
    open_and_close(40)
    # Each table takes more than 200 kB.
    assert resident_kb() - before < 2000
