"""TLS on either leg of a connection through an engine: bytes, ends, reasons, sessions, and what is counted."""

import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, suppress
from pathlib import Path
from typing import Any

import pytest
from eastgate.fastpath.match.chains import ChainSpec
from eastgate.fastpath.match.route_table import RouteTable
from eastgate.fastpath.reason import Reason

from ...support.authority import Identity
from ...support.tls_pair import Ours
from ..driven_engine import SERVICE, Gateway, client_hello, with_workers
from .tls_ends import CLIENT, OTHER, ROOT, SERVER, Server, client_context, originating, running, terminating

pytestmark = with_workers(0, 1)

MEBIBYTE = bytes(range(256)) * 4096
TIMEOUT_S = 10.0
CHUNK = 65536


def in_thread(gateway: Gateway, work: Callable[[], object]) -> Any:
    """The answer of what blocks, while the engine has its turns."""
    answer: list[Any] = []

    def run() -> None:
        try:
            answer.append(work())
        except OSError as error:
            answer.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    gateway.until(lambda: not thread.is_alive())
    if isinstance(answer[0], OSError):
        raise answer[0]
    return answer[0]


def exchange(sock: socket.socket, data: bytes) -> bytes:
    """Send, and read as much, in turns: OpenSSL's objects are for one thread at a time."""
    received = bytearray()
    for at in range(0, len(data), CHUNK):
        piece = data[at : at + CHUNK]
        sock.sendall(piece)
        while len(received) < at + len(piece):
            if not (more := sock.recv(65536)):
                return bytes(received)
            received += more
    return bytes(received)


def both_ways_at_once(sock: socket.socket, data: bytes) -> bytes:
    """Send from a thread and read in this one: a plain socket may."""

    def send() -> None:
        with suppress(OSError):
            sock.sendall(data)

    sender = threading.Thread(target=send)
    sender.start()
    received = bytearray()
    while len(received) < len(data) and (piece := sock.recv(65536)):
        received += piece
    sender.join()
    return bytes(received)


def sealed_exchange(gateway: Gateway, context: ssl.SSLContext, data: bytes) -> bytes:
    def work() -> bytes:
        with (
            socket.create_connection(gateway.address, TIMEOUT_S) as raw,
            context.wrap_socket(raw, server_hostname=SERVICE) as tls,
        ):
            return exchange(tls, data)

    answered: bytes = in_thread(gateway, work)
    return answered


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Callable[[Identity | None], Server]]:
    with ExitStack() as stack:
        yield lambda identity: stack.enter_context(closing(Server(tmp_path, identity)))


Servers = Callable[[Identity | None], Server]


def test_clients_tls_ends_here_and_bytes_are_the_same(workers: int, server: Servers, tmp_path: Path) -> None:
    endpoint = server(None)
    with running(workers, endpoint.address, down=terminating()) as gateway:
        for data in (b"x", MEBIBYTE):
            assert sealed_exchange(gateway, client_context(tmp_path, ROOT.issue(CLIENT)), data) == data
    assert endpoint.received == [1, len(MEBIBYTE)]


def test_tls_of_client_and_of_endpoint_are_two(workers: int, server: Servers, tmp_path: Path) -> None:
    endpoint = server(ROOT.issue(SERVER))
    with running(workers, endpoint.address, down=terminating(), up=originating()) as gateway:
        for data in (b"x", MEBIBYTE):
            assert sealed_exchange(gateway, client_context(tmp_path, ROOT.issue(CLIENT)), data) == data


def test_bulk_goes_sealed_both_ways_at_once(workers: int, server: Servers) -> None:
    endpoint, data = server(ROOT.issue(SERVER)), client_hello() + 8 * MEBIBYTE
    with running(workers, endpoint.address, up=originating()) as gateway, socket.socket() as peer:
        peer.settimeout(TIMEOUT_S)
        peer.connect(gateway.address)
        assert in_thread(gateway, lambda: both_ways_at_once(peer, data)) == data
        peer.close()
    assert endpoint.received == [len(data)]


def test_a_listener_that_does_not_inspect_terminates_too(workers: int, server: Servers, tmp_path: Path) -> None:
    endpoint = server(None)
    gateway = Gateway(endpoint.address, workers=workers, inspect_tls=False)
    try:
        chain = ChainSpec(name="any", targets=((gateway.slot, 1),), tls=terminating())
        gateway.engine.publish_routes(gateway.listener, RouteTable.compile([chain]))
        context = client_context(tmp_path, ROOT.issue(CLIENT))
        assert sealed_exchange(gateway, context, b"over TLS") == b"over TLS"
        with gateway.connect(b"GET / HTTP/1.1\r\n\r\n"):
            gateway.until(lambda: gateway.refused(Reason.TLS_FAILED) == 1)
    finally:
        gateway.engine.close()


def test_a_client_may_end_first(workers: int, server: Servers) -> None:
    endpoint = server(None)
    received: list[bytes] = []
    with running(workers, endpoint.address, down=terminating()) as gateway, socket.socket() as raw:
        raw.connect(gateway.address)
        client = Ours(raw, originating())
        gateway.until(client.handshake)
        client.send(b"last words")
        client.end()

        def ended() -> bool:
            piece = client.receive()
            if piece:
                received.append(piece)
            return piece == b""

        gateway.until(ended)
        assert b"".join(received) == b"last words"
        assert not client.tls.ended_without_notify
        raw.close()


REFUSED = {
    Reason.TLS_UNKNOWN_CA: OTHER.issue(CLIENT),
    Reason.TLS_WRONG_NAME: ROOT.issue("spiffe://other/ns/a/sa/client"),
    Reason.TLS_NO_CERTIFICATE: None,
}


@pytest.mark.parametrize("reason", REFUSED, ids=lambda reason: reason.name)
def test_a_refused_client_is_refused_by_name(workers: int, server: Servers, tmp_path: Path, reason: Reason) -> None:
    endpoint = server(None)
    with running(workers, endpoint.address, down=terminating()) as gateway:
        context = client_context(tmp_path, REFUSED[reason])
        # A client of TLS 1.3 has ended its handshake before it is judged.
        with suppress(ssl.SSLError, ConnectionError):
            assert sealed_exchange(gateway, context, b"x") == b""
        gateway.until(lambda: gateway.refused(reason) == 1)
        (event,) = [one for one in gateway.events if one.reason == reason]
        assert (event.server_name, event.alpn) == (SERVICE, ("istio",))
    assert endpoint.received == []


def test_a_client_that_refuses_us_is_told_apart(workers: int, server: Servers, tmp_path: Path) -> None:
    identity = OTHER.issue(SERVER)
    context = terminating(chain=identity.chain, private_key=identity.key)
    with running(workers, server(None).address, down=context) as gateway:
        with pytest.raises(ssl.SSLError):
            sealed_exchange(gateway, client_context(tmp_path, ROOT.issue(CLIENT)), b"x")
        gateway.until(lambda: gateway.refused(Reason.TLS_REFUSED) == 1)


def test_a_client_that_never_finishes_is_timed_out(workers: int, server: Servers) -> None:
    with running(workers, server(None).address, down=terminating()) as gateway:
        routes = gateway.route_to(gateway.slot, tls=terminating(), handshake_timeout_ms=200)
        gateway.engine.publish_routes(gateway.listener, routes)
        with gateway.connect(client_hello()) as peer:
            gateway.until(lambda: gateway.refused(Reason.TLS_TIMEOUT) == 1)
            assert peer.recv(1) == b"\x16"


def test_an_endpoint_that_is_not_who_it_should_be_is_a_failed_connect(workers: int, server: Servers) -> None:
    bad = server(ROOT.issue("spiffe://cluster.local/ns/a/sa/other"))
    with running(workers, bad.address, up=originating()) as gateway:
        peer = gateway.connect(client_hello())
        gateway.until(lambda: gateway.refused(Reason.UPSTREAM_TLS_WRONG_NAME) == 1)
        counters = gateway.slots.counters(gateway.slot)
        assert counters.cx_connect_fail == counters.cx_total == 3
        peer.close()
    assert bad.received == []


def test_another_endpoint_is_tried_and_gets_every_byte(workers: int, server: Servers) -> None:
    bad, good = server(OTHER.issue(SERVER)), server(ROOT.issue(SERVER))
    hello = client_hello()
    with running(workers, bad.address, good.address, up=originating()) as gateway:
        for _ in range(6):
            with gateway.connect(hello) as peer:
                peer.settimeout(TIMEOUT_S)

                def echoed(peer: socket.socket = peer) -> bytes:
                    data = b""
                    while len(data) < len(hello):
                        data += peer.recv(65536)
                    return data

                assert in_thread(gateway, echoed) == hello
        counters = gateway.slots.counters(gateway.slot)
        assert counters.cx_connect_fail > 0
        assert gateway.refused(Reason.UPSTREAM_TLS_UNKNOWN_CA) == 0
    assert bad.received == []


def test_sessions_with_an_endpoint_are_resumed(workers: int, server: Servers) -> None:
    endpoint = server(ROOT.issue(SERVER))
    hello = client_hello()
    with running(workers, endpoint.address, up=originating()) as gateway:
        for _ in range(4):
            with gateway.connect(hello) as peer:
                peer.settimeout(TIMEOUT_S)
                assert in_thread(gateway, lambda peer=peer: peer.recv(65536))
            gateway.until(lambda: gateway.engine.active_connections() == 0)
        # Another context: another certificate, perhaps other roots.
        gateway.slots.publish(gateway.slot, gateway.table, mesh_tls=originating(), mesh=b"\1")
        with gateway.connect(hello) as peer:
            peer.settimeout(TIMEOUT_S)
            assert in_thread(gateway, lambda: peer.recv(65536))
    assert endpoint.resumed == [False, True, True, True, False]


class Chosen(Server):
    """Notes which ALPN each client offered and which was chosen, with all of Istio's on its list."""

    ALL = ("istio-peer-exchange", "istio-http/1.1", "istio-http/1.0", "istio-h2", "istio", "h2", "http/1.1")

    def __init__(self, folder: Path, identity: Identity) -> None:
        super().__init__(folder, identity)
        self.chosen: list[str | None] = []
        assert self._context is not None
        self._context.set_alpn_protocols(list(self.ALL))

    def _echo(self, accepted: socket.socket) -> None:
        assert isinstance(accepted, ssl.SSLSocket)
        self.chosen.append(accepted.selected_alpn_protocol())
        super()._echo(accepted)


@pytest.mark.parametrize(
    ("own", "chosen"),
    [
        (("istio-peer-exchange", "istio"), "istio"),
        (("istio",), "istio"),
        # Of a cluster of HTTP/2: what is not looked at is TCP, whatever the port is for.
        (("istio-peer-exchange", "istio", "h2"), "istio"),
        # Not the mesh's own.
        (("h2", "http/1.1"), "h2"),
        ((), None),
    ],
)
def test_tcp_offers_istio_alone_within_the_mesh(
    workers: int, tmp_path: Path, own: tuple[str, ...], chosen: str | None
) -> None:
    with closing(Chosen(tmp_path, ROOT.issue(SERVER))) as endpoint:
        hello = client_hello()
        with (
            running(workers, endpoint.address, up=originating(protocols=own)) as gateway,
            gateway.connect(hello) as peer,
        ):
            assert gateway.receive(peer, len(hello)) == hello
            peer.close()
        assert endpoint.chosen == [chosen]
