"""What a client says first: only what a listener filter asks for, and known of that client alone."""

import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import pytest
from eastgate.fastpath.match.chains import NO_INSPECTION, ChainSpec, Inspection
from eastgate.fastpath.match.proxy_counts import ProxyCounts
from eastgate.fastpath.match.route_table import RouteTable
from eastgate.fastpath.reason import Reason

from ..driven_engine import SERVICE, ClosedPort, Gateway, accept, client_hello, upstream

HELLO = client_hello()


@pytest.fixture(params=[0, 1], ids=lambda count: f"workers={count}")
def gateway(closed_port: ClosedPort, request: pytest.FixtureRequest) -> object:
    """Its one endpoint refuses."""
    made = Gateway(closed_port(), workers=request.param)
    yield made
    made.close()


@pytest.mark.parametrize("data", [b"", b"\x16\x03", b"GET / HTTP/1.0\r\n\r\n"])
@pytest.mark.parametrize("recorded", [True, False])
def test_record_holds_nothing_of_another_client(gateway: Gateway, data: bytes, recorded: bool) -> None:
    gateway.engine.record_events(recorded)
    with gateway.connect(HELLO) as first:
        assert gateway.end_of(first) == "RST"
    with gateway.connect(data) as second:
        with suppress(OSError):
            # What is no hello has been refused by now.
            second.shutdown(socket.SHUT_WR)
        gateway.until(lambda: len(gateway.events) == 2)
    failed, other = gateway.events
    assert (failed.reason, failed.server_name, failed.alpn) == (Reason.CONNECT_FAILED, SERVICE, ("istio",))
    assert (other.server_name, other.alpn) == ("", ())


def test_record_of_a_hello_that_is_refused_holds_its_own_name(gateway: Gateway) -> None:
    with gateway.connect(HELLO) as first:
        assert gateway.end_of(first) == "RST"
    with gateway.connect(client_hello("other.example", ("h2",))) as second:
        assert gateway.end_of(second) == "RST"
    gateway.until(lambda: len(gateway.events) == 2)
    assert (gateway.events[1].server_name, gateway.events[1].alpn) == ("other.example", ("h2",))


def raw_routes(gateway: Gateway) -> RouteTable:
    """TLS goes to nobody, everything else to the endpoint."""
    return RouteTable.compile(
        [
            ChainSpec(name="tls", transport_protocol="tls", targets=((63, 1),)),
            ChainSpec(name="raw", transport_protocol="raw_buffer", targets=((gateway.slot, 1),)),
        ]
    )


@pytest.fixture
def server() -> Iterator[socket.socket]:
    with upstream() as listening:
        yield listening


@contextmanager
def listening(server: socket.socket, **listen: object) -> Iterator[Gateway]:
    gateway = Gateway(server.getsockname(), **listen)
    gateway.engine.publish_routes(gateway.listener, raw_routes(gateway))
    try:
        yield gateway
    finally:
        gateway.close()


def test_without_an_inspector_the_server_may_speak_first(server: socket.socket) -> None:
    with listening(server, inspect_tls=False, defer_accept=True) as gateway, gateway.connect() as client:
        gateway.until(lambda: gateway.table.state(0)[0])
        with accept(server) as endpoint:
            endpoint.sendall(b"220 ready")
            assert gateway.receive(client, 9) == b"220 ready"
        assert gateway.engine.listener_counters(gateway.listener).cx_pre_active == 0


@pytest.mark.parametrize("data", [HELLO, b"\x16\x03\x01\xff\xff\x00", bytes(20_000), b"\x16\x03\x01\x40\x00" * 4000])
def test_without_an_inspector_any_bytes_are_raw(server: socket.socket, data: bytes) -> None:
    with listening(server, inspect_tls=False) as gateway, gateway.connect(data) as client:
        gateway.until(lambda: gateway.table.state(0)[0])
        with accept(server) as endpoint:
            assert gateway.receive(endpoint, len(data)) == data
            endpoint.sendall(b"yes")
            assert gateway.receive(client, 3) == b"yes"


@pytest.mark.parametrize("said", [b"", HELLO[:100]], ids=["silent", "begun"])
def test_who_has_not_said_enough_in_time_goes_on_where_the_listener_says_so(server: socket.socket, said: bytes) -> None:
    with listening(server, hello_timeout_ms=50, continue_on_timeout=True) as gateway, gateway.connect(said) as client:
        gateway.until(lambda: gateway.table.state(0)[0])
        with accept(server) as endpoint:
            endpoint.sendall(b"220 ready")
            assert gateway.receive(client, 9) == b"220 ready"
            # Single bytes pass, though the rest of a hello was waited for.
            client.sendall(b"x")
            assert gateway.receive(endpoint, len(said) + 1) == said + b"x"


SILENT = {"hello_timeout_ms": 0, "continue_on_timeout": True, "silent_timeout_ms": 50}


def test_a_silent_client_goes_on_as_plain_text_where_no_time_is_configured(server: socket.socket) -> None:
    with listening(server, **SILENT) as gateway, gateway.connect() as client:
        gateway.until(lambda: gateway.table.state(0)[0])
        with accept(server) as endpoint:
            endpoint.sendall(b"220 ready")
            assert gateway.receive(client, 9) == b"220 ready"


@pytest.mark.parametrize("said", [HELLO[:1], HELLO[:100]], ids=["a byte", "begun"])
def test_a_slow_hello_never_becomes_plain_text(server: socket.socket, said: bytes) -> None:
    with listening(server, **SILENT) as gateway, gateway.connect(said) as slow:
        gateway.until(lambda: gateway.engine.listener_counters(gateway.listener).cx_total == 1)
        # Who came later is served: the time of the first one is over.
        with gateway.connect(), gateway.connect():
            gateway.until(lambda: gateway.table.state(0)[0] == 2)
            assert gateway.engine.listener_counters(gateway.listener).cx_pre_active == 1
            slow.sendall(HELLO[len(said) :])
            # Looked at as TLS: no chain has its name.
            gateway.until(lambda: gateway.refused(Reason.UNKNOWN_SERVER_NAME) == 1)
        assert gateway.refused(Reason.HELLO_TIMEOUT) == 0


def test_a_silent_client_waits_on_where_only_tls_is_served(server: socket.socket) -> None:
    with listening(server, **SILENT) as gateway:
        strict = gateway.engine.listen("127.0.0.1", 0, routes=gateway.route_to(gateway.slot), **SILENT)
        with socket.create_connection(gateway.engine.bound_address(strict)) as client:
            gateway.until(lambda: gateway.engine.listener_counters(strict).cx_total == 1)
            with gateway.connect():
                gateway.until(lambda: gateway.table.state(0)[0] == 1)
            assert gateway.engine.listener_counters(strict).cx_pre_active == 1
            client.sendall(HELLO)
            gateway.until(lambda: gateway.engine.listener_counters(strict).cx_pre_active == 0)
        assert sum(gateway.engine.listener_counters(strict).refused) == 0


def test_who_has_not_said_enough_in_time_is_refused_elsewhere(server: socket.socket) -> None:
    with listening(server, hello_timeout_ms=50) as gateway, gateway.connect(HELLO[:100]) as client:
        assert gateway.end_of(client) == "RST"
        assert gateway.refused(Reason.HELLO_TIMEOUT) == 1


def test_without_an_inspector_a_proxy_header_is_taken_all_the_same(server: socket.socket) -> None:
    with listening(server, inspect_tls=False, proxy_protocol=(1, 2)) as gateway:
        header = b"PROXY TCP4 192.0.2.1 192.0.2.2 1000 2000\r\n"
        with gateway.connect(header[:10]) as client:
            gateway.turn()
            client.sendall(header[10:] + b"rest")
            gateway.until(lambda: gateway.table.state(0)[0])
            with accept(server) as endpoint:
                assert gateway.receive(endpoint, 4) == b"rest"
        gateway.until(lambda: gateway.events)
        assert gateway.events[0].downstream == "192.0.2.1:1000"


@pytest.mark.parametrize(("versions", "first"), [((1, 2), b"GET /"), ((2,), b"PROXY TCP4 "), ((1,), b"\r\n")])
def test_where_a_proxy_header_is_optional_others_go_on_without(
    server: socket.socket, versions: tuple[int, ...], first: bytes
) -> None:
    settings = {"proxy_protocol": versions, "proxy_optional": True}
    with listening(server, inspect_tls=False, **settings) as gateway:
        with gateway.connect(first) as client:
            gateway.until(lambda: gateway.table.state(0)[0])
            with accept(server) as endpoint:
                client.sendall(b"rest")
                assert gateway.receive(endpoint, len(first) + 4) == first + b"rest"
            own = client.getsockname()
        gateway.until(lambda: gateway.events)
        assert gateway.events[0].downstream == f"{own[0]}:{own[1]}"


def test_what_an_optional_proxy_header_does_not_take_is_sniffed(server: socket.socket) -> None:
    with listening(server, proxy_protocol=(1, 2), proxy_optional=True) as gateway, gateway.connect(HELLO[:1]) as client:
        gateway.engine.publish_routes(gateway.listener, gateway.route_to(gateway.slot))
        gateway.turn()
        client.sendall(HELLO[1:])
        gateway.until(lambda: gateway.table.state(0)[0])
        with accept(server) as endpoint:
            assert gateway.receive(endpoint, len(HELLO)) == HELLO


@pytest.mark.parametrize(
    ("said", "counted"),
    [
        (b"PROXY TCP4 192.0.2.1", "v1_disallowed"),
        (b"PROXY UNKNOWN " + bytes(200), "not_found_disallowed"),
        (b"\r\n\r\n\0\r\nQUIT\nx", "v2_error"),
        (b"\r\n\r\nx", "not_found_disallowed"),
        (HELLO, "not_found_disallowed"),
    ],
)
def test_what_is_no_proxy_header_of_a_version_that_is_taken_is_refused(
    server: socket.socket, said: bytes, counted: str
) -> None:
    counts, others = ProxyCounts(), ProxyCounts()
    with listening(server, proxy_protocol=(2,), proxy_counts=counts) as gateway, gateway.connect(said) as client:
        gateway.engine.listen("127.0.0.1", 0, routes=raw_routes(gateway), proxy_protocol=(2,), proxy_counts=others)
        assert gateway.end_of(client) == "RST"
        assert gateway.refused(Reason.MALFORMED_PROXY_HEADER) == 1
        assert {name for name, value in counts.counters()._asdict().items() if value} == {counted}
        assert not any(others.counters())


def test_a_proxy_header_as_long_as_it_can_say_comes_in_small_pieces(server: socket.socket) -> None:
    header = b"\r\n\r\n\0\r\nQUIT\n\x20\0\xff\xff" + bytes(0xFFFF)
    with listening(server, inspect_tls=False, proxy_protocol=(1, 2)) as gateway, gateway.connect() as client:
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for at in range(0, len(header), 13):
            client.sendall(header[at : at + 13])
            if at % 1300 == 0:
                gateway.turn(0)
        client.sendall(b"rest")
        gateway.until(lambda: gateway.table.state(0)[0])
        with accept(server) as endpoint:
            assert gateway.receive(endpoint, 4) == b"rest"


@pytest.mark.parametrize(("limit", "taken"), [(len(HELLO), True), (len(HELLO) - 1, False)])
def test_a_hello_is_as_long_as_its_listener_allows(server: socket.socket, limit: int, taken: bool) -> None:
    with listening(server, hello_limit=limit) as gateway, gateway.connect(HELLO) as client:
        gateway.engine.publish_routes(gateway.listener, gateway.route_to(gateway.slot))
        if taken:
            gateway.until(lambda: gateway.table.state(0)[0])
        else:
            assert gateway.end_of(client) == "RST"
        assert gateway.refused(Reason.HELLO_TOO_LARGE) == (not taken)


@pytest.mark.parametrize("limit", [0, -1, 16385])
def test_a_limit_of_hellos_that_is_none_is_refused(server: socket.socket, limit: int) -> None:
    with listening(server) as gateway, pytest.raises(ValueError, match=f"hello_limit {limit} is outside"):
        gateway.engine.listen("127.0.0.1", 0, routes=gateway.route_to(gateway.slot), hello_limit=limit)


def inspecting(gateway: Gateway, inspection: Inspection = NO_INSPECTION) -> RouteTable:
    """HTTP/1.1 and HTTP/2 go to the endpoint, everything else to nobody."""
    chain = ChainSpec(
        name="http",
        transport_protocol="raw_buffer",
        application_protocols=("http/1.1", "h2c"),
        targets=((gateway.slot, 1),),
    )
    return RouteTable.compile([chain], ChainSpec(name="tcp", targets=((63, 1),)), inspection)


PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
REQUESTS = {
    b"GET / HTTP/1.1\r\n": True,
    PREFACE: True,
    b"GET / HTTP/1.0\r\n": False,
    b"ruok\n": False,
    b"\x00\x01": False,
}


@pytest.mark.parametrize("data", REQUESTS)
@pytest.mark.parametrize("bytewise", [False, True])
@pytest.mark.parametrize("inspect_tls", [False, True])
def test_an_http_request_is_an_application_protocol(
    server: socket.socket, data: bytes, bytewise: bool, inspect_tls: bool
) -> None:
    with listening(server, inspect_tls=inspect_tls) as gateway:
        gateway.engine.publish_routes(gateway.listener, inspecting(gateway, Inspection(http=True)))
        with gateway.connect() as client:
            for piece in [data[at : at + 1] for at in range(len(data))] if bytewise else [data]:
                with suppress(OSError):
                    client.sendall(piece)
                gateway.turn(0.001)
            if REQUESTS[data]:
                gateway.until(lambda: gateway.table.state(0)[0])
                with accept(server) as endpoint:
                    assert gateway.receive(endpoint, len(data)) == data
            else:
                gateway.until(lambda: gateway.refused(Reason.UNKNOWN_CLUSTER) == 1)
            # Once, however often what came was looked at.
            assert gateway.engine.inspected().tls_not_found == int(inspect_tls)


def test_nobody_looks_at_ports_where_inspectors_are_switched_off(server: socket.socket) -> None:
    with listening(server) as gateway:
        port = gateway.address[1]
        off = Inspection(tls_skipped=((port, port + 1),), http=True, http_skipped=((1, port), (port + 1, 65536)))
        gateway.engine.publish_routes(gateway.listener, inspecting(gateway, off))
        # A ClientHello is looked at by the HTTP inspector alone, and is no request.
        with gateway.connect(HELLO):
            gateway.until(lambda: gateway.refused(Reason.UNKNOWN_CLUSTER) == 1)
        off = Inspection(tls_skipped=((0, 65536),), http=True, http_skipped=((port, port + 1),))
        gateway.engine.publish_routes(gateway.listener, inspecting(gateway, off))
        # Nobody waits for a byte.
        with gateway.connect():
            gateway.until(lambda: gateway.refused(Reason.UNKNOWN_CLUSTER) == 2)
