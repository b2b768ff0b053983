"""HTTP chains through an engine: which cluster a first request chooses, what is offered upstream, what is answered."""

import re
import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack, closing, suppress
from pathlib import Path

import pytest
from eastgate.fastpath.match.chains import ChainSpec, Inspection
from eastgate.fastpath.match.http_routes import HttpRoutes
from eastgate.fastpath.match.http_specs import HeaderSpec, HttpHostSpec, HttpRouteSpec, HttpRoutesSpec
from eastgate.fastpath.match.policy import PolicySet
from eastgate.fastpath.match.route_table import RouteTable
from eastgate.fastpath.reason import Reason
from eastgate.fastpath.tables.cluster_table import ClusterTable
from eastgate.xds.rbac import Policy, Predicate, RbacFilter, Rules

from ...support.accepting import Accepting
from ..driven_engine import ClosedPort, Gateway, columns, with_workers
from .test_handshakes import Chosen
from .tls_ends import CLIENT, ROOT, SERVER, client_context, originating, terminating

pytestmark = with_workers(0, 1)

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
HTTP = Inspection(http=True)
TIMEOUT_S = 10.0


class Named(Accepting):
    """Says its name to whoever connects, then echoes."""

    def __init__(self, name: bytes) -> None:
        self._name = name
        super().__init__()

    def _serve(self, accepted: socket.socket) -> None:
        with accepted, suppress(OSError):
            accepted.sendall(self._name)
            while data := accepted.recv(65536):
                accepted.sendall(data)


class Two:
    """A gateway with the clusters A, B and one that is not known."""

    def __init__(self, workers: int, stack: ExitStack, **listen: object) -> None:
        first, second = (stack.enter_context(closing(Named(name))) for name in (b"A", b"B"))
        self.gateway = Gateway(first.address, workers=workers, **listen)
        stack.callback(self.gateway.engine.close)
        self.a = self.gateway.slot
        self.b = self.gateway.slots.acquire("b")
        self.gateway.slots.publish(self.b, ClusterTable.compile(columns(second.address)))

    def publish(self, *hosts: HttpHostSpec, inspection: Inspection = HTTP, **fields: bool) -> None:
        """An HTTP chain with these hosts; everything else goes to B."""
        chain = ChainSpec(
            name="http",
            application_protocols=("http/1.1", "h2c"),
            transport_protocol="raw_buffer",
            http_routes=HttpRoutes.compile(HttpRoutesSpec(hosts, **fields)),
            is_http=True,
        )
        rest = ChainSpec(name="tcp", targets=((self.b, 1),))
        table = RouteTable.compile([chain], rest, inspection)
        self.gateway.engine.publish_routes(self.gateway.listener, table)

    def answered(self, data: bytes, count: int = 1, bytewise: bool = False) -> bytes:
        with self.gateway.connect() as peer:
            for piece in [data[at : at + 1] for at in range(len(data))] if bytewise else [data]:
                peer.sendall(piece)
                self.gateway.turn(0.0005 if bytewise else 0.02)
            return self.gateway.receive(peer, count)


@pytest.fixture
def two(workers: int) -> Iterator[Two]:
    with ExitStack() as stack:
        yield Two(workers, stack)


def to(slot: int, **fields: object) -> HttpRouteSpec:
    return HttpRouteSpec(**{"path_kind": "any", "targets": ((slot, 1),), **fields})  # type: ignore[arg-type]


def host(*routes: HttpRouteSpec, domains: tuple[str, ...] = ("*",)) -> HttpHostSpec:
    return HttpHostSpec(domains, routes)


def request(authority: str, target: str = "/", *headers: str) -> bytes:
    return "\r\n".join([f"GET {target} HTTP/1.1", f"Host: {authority}", *headers, "", ""]).encode()


@pytest.mark.parametrize("bytewise", [False, True])
@pytest.mark.parametrize("inspect_tls", [False, True])
def test_the_host_chooses(workers: int, bytewise: bool, inspect_tls: bool) -> None:
    with ExitStack() as stack:
        two = Two(workers, stack, inspect_tls=inspect_tls)
        two.publish(host(to(two.a), domains=("a",)), host(to(two.b), domains=("b",)), ignores_port=True)
        for authority, name in (("a", b"A"), ("b:80", b"B")):
            data = request(authority)
            assert two.answered(data, 1 + len(data), bytewise) == name + data


def test_path_and_headers_choose(two: Two) -> None:
    asked = HeaderSpec("x", "exact", "1")
    two.publish(host(to(two.a, path_kind="prefix", path="/a"), to(two.a, headers=(asked,)), to(two.b)))
    assert two.answered(request("h", "/a/b")) == b"A"
    assert two.answered(request("h", "/", "Y: 2", "X: 1")) == b"A"
    assert two.answered(request("h", "/", "Y: 2", "X: 1"), bytewise=True) == b"A"
    assert two.answered(request("h", "/", "Y: 2")) == b"B"


def test_http_2_is_routed_by_its_address_and_not_waited_for(two: Two) -> None:
    # A gRPC client says no more before it has seen our SETTINGS.
    two.publish(host(to(two.a), domains=("svc", "127.0.0.1")), host(to(two.b)), ignores_port=True)
    assert two.answered(PREFACE, 1 + len(PREFACE)) == b"A" + PREFACE
    two.publish(host(to(two.a), domains=("svc", "10.0.0.1")), host(to(two.b)), ignores_port=True)
    assert two.answered(PREFACE) == b"B"


def test_what_is_no_http_takes_the_chain_behind(two: Two) -> None:
    two.publish(host(to(two.a)))
    assert two.answered(b"ruok\n") == two.answered(b"GET / HTTP/1.0\r\n\r\n") == b"B"


def test_without_an_inspector_a_chain_of_http_reads_for_itself(workers: int) -> None:
    with ExitStack() as stack:
        two = Two(workers, stack, inspect_tls=False)
        chain = ChainSpec(
            name="http",
            http_routes=HttpRoutes.compile(HttpRoutesSpec((host(to(two.a), domains=("a",)), host(to(two.b))))),
            is_http=True,
        )
        two.gateway.engine.publish_routes(two.gateway.listener, RouteTable.compile([chain]))
        for bytewise in (False, True):
            assert two.answered(request("a"), 1, bytewise) == b"A"


def test_a_request_without_a_host_goes_nowhere(workers: int) -> None:
    with ExitStack() as stack:
        two = Two(workers, stack, hello_timeout_ms=100, continue_on_timeout=True)
        two.publish(host(to(two.a)))
        with two.gateway.connect(b"GET / HTTP/1.1\r\nAccept: x\r\n") as peer:
            # Not the default chain, which would be plain text.
            assert two.gateway.end_of(peer) == "RST"
            assert two.gateway.refused(Reason.HELLO_TIMEOUT) == 1
        with two.gateway.connect(b"GET / HTTP/1.1\r\nx: " + bytes(1) * 20000) as peer:
            assert two.gateway.end_of(peer) == "RST"
        assert status(two.answered(b"GET / HTTP/1.1\r\n\r\n", 1 << 16)) == (b"HTTP/1.1 400 Bad Request", b"Bad Request")
        assert two.gateway.refused(Reason.BAD_REQUEST) == 2


def status(answer: bytes) -> tuple[bytes, bytes]:
    """Status line and body; the head is whole and says how long the body is."""
    head, _, body = answer.partition(b"\r\n\r\n")
    found = re.search(rb"content-length: (\d+)", head)
    assert found is not None
    assert int(found[1]) == len(body)
    assert b"connection: close" in head
    assert b"server: envoy" in head
    assert re.search(rb"date: \w{3}, \d\d \w{3} \d{4} \d\d:\d\d:\d\d GMT", head)
    return head.split(b"\r\n")[0], body


def test_a_refused_request_is_answered_as_by_envoy(two: Two, closed_port: ClosedPort) -> None:
    dead = two.gateway.slots.acquire("dead")
    two.gateway.slots.publish(dead, ClusterTable.compile(columns(closed_port())))
    none = two.gateway.slots.acquire("none")
    two.gateway.slots.publish(none, ClusterTable.compile(columns()))
    domains = {"dead": dead, "none": none, "unknown": 63}
    two.publish(*(host(to(slot), domains=(name,)) for name, slot in domains.items()))
    expected = {
        "nobody": (b"HTTP/1.1 404 Not Found", b""),
        "none": (b"HTTP/1.1 503 Service Unavailable", b"no healthy upstream"),
        "unknown": (b"HTTP/1.1 503 Service Unavailable", b""),
        "dead": (
            b"HTTP/1.1 503 Service Unavailable",
            b"upstream connect error or disconnect/reset before headers. reset reason: remote connection failure",
        ),
    }
    for authority, answer in expected.items():
        # More than it has read: what the client goes on to send must not take the answer away.
        assert status(two.answered(request(authority) + b"body" * 10, 1 << 16)) == answer, authority
    two.gateway.until(lambda: two.gateway.engine.active_connections() == 0)
    assert two.gateway.refused(Reason.NO_ROUTE) == 1


def test_http_2_and_what_is_no_denial_are_closed(two: Two) -> None:
    two.publish(host(to(two.a), domains=("a",)), host(HttpRouteSpec("any"), domains=("closed",)))
    for data in (PREFACE, request("closed")):
        with two.gateway.connect(data) as peer:
            assert two.gateway.end_of(peer) == "RST"
    assert two.gateway.refused(Reason.NO_ROUTE) == two.gateway.refused(Reason.POLICY) == 1


def denying() -> PolicySet:
    any_ = Predicate("any")
    return PolicySet.compile([RbacFilter(Rules("DENY", (Policy("p", (any_,), (any_,)),)), is_http=True)])


DENIED = (b"HTTP/1.1 403 Forbidden", b"RBAC: access denied")


def test_a_denied_request_is_answered(two: Two) -> None:
    chain = ChainSpec(name="http", targets=((two.a, 1),), is_http=True, policies=denying())
    two.gateway.engine.publish_routes(two.gateway.listener, RouteTable.compile([chain], None, HTTP))
    assert status(two.answered(request("a"), 1 << 16)) == DENIED
    with two.gateway.connect(b"ruok\n") as peer:
        assert two.gateway.end_of(peer) == "RST"
    two.gateway.until(lambda: len(two.gateway.events) == 2)
    assert [one.policy for one in two.gateway.events] == ["p", "p"]


@pytest.mark.parametrize("inspection", [Inspection(tls_skipped=((0, 65536),)), Inspection()], ids=["nothing", "tls"])
@pytest.mark.parametrize("bytewise", [False, True])
def test_a_denied_request_is_answered_where_no_filter_looked_for_it(
    two: Two, inspection: Inspection, bytewise: bool
) -> None:
    """istiod's inbound chains of HTTP ports: of plain text they ask no more than that it is not TLS."""
    chain = ChainSpec(name="http", targets=((two.a, 1),), is_http=True, policies=denying())
    two.gateway.engine.publish_routes(two.gateway.listener, RouteTable.compile([chain], None, inspection))
    assert status(two.answered(request("a"), 1 << 16, bytewise=bytewise)) == DENIED
    for data in (b"ruok\n", PREFACE):
        with two.gateway.connect(data) as peer:
            assert two.gateway.end_of(peer) == "RST"
    two.gateway.until(lambda: two.gateway.engine.active_connections() == 0)
    assert two.gateway.refused(Reason.POLICY) == 3


@pytest.mark.parametrize("data", [request("a"), PREFACE, b""])
def test_a_denied_request_through_tls_is_read_before_it_is_answered(two: Two, tmp_path: Path, data: bytes) -> None:
    chain = ChainSpec(name="http", targets=((two.a, 1),), is_http=True, policies=denying(), tls=terminating())
    two.gateway.engine.publish_routes(two.gateway.listener, RouteTable.compile([chain], None, HTTP))
    context = client_context(tmp_path, ROOT.issue(CLIENT))
    answers: list[bytes] = []

    def talk() -> None:
        received = b""
        with (
            suppress(OSError),
            socket.create_connection(two.gateway.address, TIMEOUT_S) as raw,
            context.wrap_socket(raw, server_hostname="svc.example") as tls,
        ):
            tls.sendall(data[:5])
            tls.sendall(data[5:])
            if not data:
                tls.unwrap()
            while more := tls.recv(65536):
                received += more
        answers.append(received)

    thread = threading.Thread(target=talk)
    thread.start()
    two.gateway.until(lambda: not thread.is_alive())
    assert (status(answers[0]) == DENIED) if data == request("a") else answers[0] == b""
    two.gateway.until(lambda: two.gateway.engine.active_connections() == 0)
    assert two.gateway.refused(Reason.POLICY) == 1


ALPN = {
    b"GET / HTTP/1.1\r\nHost: a\r\n\r\n": "istio-http/1.1",
    b"GET / HTTP/1.0\r\n\r\n": "istio-http/1.0",
    PREFACE: "istio-h2",
    b"ruok\n": "istio",
}


@pytest.mark.parametrize("data", ALPN)
@pytest.mark.parametrize("sets_alpn", [True, False])
def test_what_is_offered_goes_by_the_request(workers: int, tmp_path: Path, data: bytes, sets_alpn: bool) -> None:
    with closing(Chosen(tmp_path, ROOT.issue(SERVER))) as endpoint:
        gateway = Gateway(endpoint.address, workers=workers, inspect_tls=False)
        try:
            gateway.slots.publish(gateway.slot, gateway.table, mesh_tls=originating(), mesh=b"\1")
            chain = ChainSpec(name="http", targets=((gateway.slot, 1),), is_http=True, sets_alpn=sets_alpn)
            gateway.engine.publish_routes(gateway.listener, RouteTable.compile([chain], None, HTTP))
            with gateway.connect(data) as peer:
                assert gateway.receive(peer, len(data)) == data
        finally:
            gateway.engine.close()
        # A stock server takes the chain of HTTP by it, with its rules on paths.
        assert endpoint.chosen == [ALPN[data] if sets_alpn else "istio"]
