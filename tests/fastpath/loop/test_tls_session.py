"""TLS on one socket, against itself and against Python's TLS."""

import os
import socket
import ssl
import struct
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from eastgate.fastpath.loop.tls_socket import Tickets
from eastgate.fastpath.match.client_hello import parse
from eastgate.fastpath.tls.context import Context, alpn_wire
from eastgate.fastpath.tls.context_spec import ContextSpec
from eastgate.fastpath.tls.failure import TlsFailure
from eastgate.xds.tls_records import NameMatch

from tests.support.authority import Authority, Identity, rsa_key
from tests.support.tls_pair import Ours, Pair, Theirs, read_exactly
from tests.support.waiting import until

SERVER = "spiffe://cluster.local/ns/a/sa/server"
CLIENT = "spiffe://cluster.local/ns/a/sa/client"
ROOT = Authority("root")
HOUR = timedelta(hours=1)


def server_spec(identity: Identity | None = None, **changes: object) -> ContextSpec:
    identity = identity or ROOT.issue(SERVER)
    spec = ContextSpec(
        is_server=True,
        chain=identity.chain,
        private_key=identity.key,
        roots=ROOT.pem,
        requires_certificate=True,
        names=(NameMatch("prefix", "spiffe://cluster.local/", "URI"),),
        protocols=("istio-peer-exchange", "h2", "http/1.1"),
    )
    return replace(spec, **changes)  # type: ignore[arg-type]


def client_spec(identity: Identity | None = None, **changes: object) -> ContextSpec:
    identity = identity or ROOT.issue(CLIENT)
    spec = ContextSpec(
        is_server=False,
        chain=identity.chain,
        private_key=identity.key,
        roots=ROOT.pem,
        names=(NameMatch("exact", SERVER, "URI"),),
        protocols=("istio-peer-exchange", "istio"),
        server_name="outbound_.80_._.a.b.svc.cluster.local",
    )
    return replace(spec, **changes)  # type: ignore[arg-type]


@pytest.fixture
def sockets() -> Iterator[tuple[socket.socket, socket.socket]]:
    left, right = socket.socketpair()
    yield left, right
    left.close()
    right.close()


Sockets = tuple[socket.socket, socket.socket]


def ours(sockets: Sockets, client: ContextSpec | None = None, server: ContextSpec | None = None) -> Pair:
    return Pair(
        Ours(sockets[0], Context.build(client or client_spec())),
        Ours(sockets[1], Context.build(server or server_spec())),
    )


def carries(pair: Pair) -> bool:
    """Whether what the client says arrives."""
    pair.client.send(b"ping")
    return pair.server.receive() == b"ping"


def failures(pair: Pair) -> tuple[TlsFailure, TlsFailure]:
    """What client and server say after a handshake that at least one of them refuses."""
    for end in (pair.client, pair.server) * 10:
        try:
            end.handshake()
            # A client of TLS 1.3 has ended its handshake before the server judges it.
            end.receive()
        except ConnectionError:
            pass
        except ssl.SSLError:
            pass
    ends = (pair.client, pair.server)
    client, server = (end.tls.failure if isinstance(end, Ours) else TlsFailure.TLS_FINE for end in ends)
    return client, server


@pytest.mark.parametrize("version", ["1.2", "1.3"])
def test_both_sides_learn_who_the_other_is(sockets: Sockets, version: str) -> None:
    pair = ours(sockets, client_spec(minimum_version=version, maximum_version=version)).shake()
    assert isinstance(pair.client, Ours)
    assert isinstance(pair.server, Ours)
    assert pair.client.tls.version == pair.server.tls.version == version
    assert pair.client.tls.peer_identity == SERVER
    assert pair.server.tls.peer_identity == CLIENT


def test_rsa_keys_work(sockets: Sockets) -> None:
    identity = ROOT.issue(SERVER, key=rsa_key())
    pair = ours(sockets, server=server_spec(identity)).shake()
    pair.client.send(b"ping")
    assert pair.server.receive() == b"ping"


def test_bytes_go_both_ways_past_a_full_socket(sockets: Sockets) -> None:
    pair = ours(sockets).shake()
    data = bytes(range(256)) * 16384
    for sender, receiver in ((pair.client, pair.server), (pair.server, pair.client)):
        assert isinstance(sender, Ours)
        sent, received = 0, b""
        while len(received) < len(data):
            if sent < len(data):
                sent += sender.send(data[sent : sent + 200_000])
            else:
                sender.tls.flush()
            received += receiver.receive(30_000) or b""
        assert received == data


def test_a_full_socket_takes_nothing_more_until_it_was_flushed(sockets: Sockets) -> None:
    pair = ours(sockets).shake()
    assert isinstance(pair.client, Ours)
    sent = 0
    while taken := pair.client.send(bytes(65536)):
        sent += taken
    assert pair.client.send(b"x") == 0
    assert not pair.client.tls.flush()
    assert read_exactly(pair.server, 100_000)[:100_000] == bytes(100_000)
    assert len(read_exactly(pair.server, sent)) > 0
    assert pair.client.tls.flush()


def test_peer_exchange_is_neither_offered_nor_chosen(sockets: Sockets) -> None:
    # The server's list holds nothing else that the client offers: no protocol, and no alert.
    pair = ours(sockets).shake()
    assert isinstance(pair.client, Ours)
    assert pair.client.tls.protocol == ""
    pair.client.send(b"ping")
    assert pair.server.receive() == b"ping"


def test_server_chooses_in_its_own_order(sockets: Sockets) -> None:
    pair = ours(sockets, client_spec(protocols=("http/1.1", "istio", "h2"))).shake()
    assert isinstance(pair.client, Ours)
    assert pair.client.tls.protocol == "h2"


def test_peer_exchange_alone_is_no_protocol_for_a_stock_client(sockets: Sockets, tmp_path: Path) -> None:
    client = python_client(tmp_path)
    client.set_alpn_protocols(["istio-peer-exchange"])
    pair = Pair(Theirs(sockets[0], client), Ours(sockets[1], Context.build(server_spec()))).shake()
    assert isinstance(pair.client, Theirs)
    assert pair.client.tls.selected_alpn_protocol() is None


def python_client(folder: Path, identity: Identity | None = None) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.load_verify_locations(cadata=ROOT.pem.decode())
    load(context, identity or ROOT.issue(CLIENT), folder)
    return context


def load(context: ssl.SSLContext, identity: Identity, folder: Path) -> None:
    (folder / "chain.pem").write_bytes(identity.chain)
    (folder / "key.pem").write_bytes(identity.key)
    context.load_cert_chain(folder / "chain.pem", folder / "key.pem")


def python_server(folder: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_verify_locations(cadata=ROOT.pem.decode())
    load(context, ROOT.issue(SERVER), folder)
    return context


def test_stock_peers_on_either_side(sockets: Sockets, tmp_path: Path) -> None:
    pair = Pair(Ours(sockets[0], Context.build(client_spec())), Theirs(sockets[1], python_server(tmp_path))).shake()
    # Python's server sends two tickets behind the handshake.
    assert pair.client.receive() is None
    pair.client.send(b"ping")
    assert pair.server.receive() == b"ping"
    pair.server.send(b"pong")
    assert pair.client.receive() == b"pong"


REFUSED = {
    "wrong CA": (client_spec(Authority("other").issue(CLIENT)), server_spec(), TlsFailure.TLS_UNKNOWN_CA),
    "expired": (client_spec(ROOT.issue(CLIENT, starts=-3 * HOUR, ends=-HOUR)), server_spec(), TlsFailure.TLS_EXPIRED),
    "not yet": (
        client_spec(ROOT.issue(CLIENT, starts=HOUR, ends=3 * HOUR)),
        server_spec(),
        TlsFailure.TLS_NOT_YET_VALID,
    ),
    "other domain": (client_spec(ROOT.issue("spiffe://other/ns/a/sa/b")), server_spec(), TlsFailure.TLS_WRONG_NAME),
    "host name only": (client_spec(ROOT.issue("a.example")), server_spec(), TlsFailure.TLS_WRONG_NAME),
    "no name": (client_spec(ROOT.issue()), server_spec(), TlsFailure.TLS_WRONG_NAME),
    "two identities": (client_spec(ROOT.issue(CLIENT, SERVER)), server_spec(), TlsFailure.TLS_TWO_IDENTITIES),
    "no certificate": (
        ContextSpec(is_server=False, roots=ROOT.pem, server_name="a.example"),
        server_spec(),
        TlsFailure.TLS_NO_CERTIFICATE,
    ),
}


@pytest.mark.parametrize("version", ["1.2", "1.3"])
@pytest.mark.parametrize("case", REFUSED)
def test_server_refuses_in_the_handshake_and_says_why(sockets: Sockets, case: str, version: str) -> None:
    client, server, expected = REFUSED[case]
    pair = ours(sockets, replace(client, minimum_version=version, maximum_version=version), server)
    assert failures(pair) == (TlsFailure.TLS_PEER_ALERT, expected)


@pytest.mark.parametrize(
    ("identity", "expected"),
    [
        (ROOT.issue("spiffe://cluster.local/ns/a/sa/other"), TlsFailure.TLS_WRONG_NAME),
        (ROOT.issue(SERVER + "x"), TlsFailure.TLS_WRONG_NAME),
        (Authority("other").issue(SERVER), TlsFailure.TLS_UNKNOWN_CA),
        (ROOT.issue(SERVER, starts=-3 * HOUR, ends=-HOUR), TlsFailure.TLS_EXPIRED),
    ],
)
def test_client_refuses_in_the_handshake_and_says_why(
    sockets: Sockets, identity: Identity, expected: TlsFailure
) -> None:
    assert failures(ours(sockets, server=server_spec(identity))) == (expected, TlsFailure.TLS_PEER_ALERT)


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion:DeprecationWarning")
def test_old_versions_are_refused_by_name(sockets: Sockets, tmp_path: Path) -> None:
    context = python_client(tmp_path)
    context.minimum_version = ssl.TLSVersion.TLSv1
    context.maximum_version = ssl.TLSVersion.TLSv1_1
    context.set_ciphers("ALL:@SECLEVEL=0")
    pair = Pair(Theirs(sockets[0], context), Ours(sockets[1], Context.build(server_spec())))
    assert failures(pair)[1] == TlsFailure.TLS_VERSION


def test_an_intermediate_is_an_anchor_too(sockets: Sockets) -> None:
    intermediate = Authority("intermediate", ROOT)
    identity = intermediate.issue(CLIENT)
    leaf_alone = Identity(identity.chain[: identity.chain.index(b"-----END CERTIFICATE-----") + 26], identity.key)
    assert carries(ours(sockets, client_spec(leaf_alone), server_spec(roots=intermediate.pem)).shake())


def test_each_root_of_a_bundle_counts(sockets: Sockets) -> None:
    old = Authority("old")
    assert carries(ours(sockets, client_spec(old.issue(CLIENT)), server_spec(roots=ROOT.pem + old.pem)).shake())


def first_flight(spec: ContextSpec) -> bytes:
    left, right = socket.socketpair()
    with left, right:
        Ours(left, Context.build(spec)).handshake()
        return right.recv(65536)


def test_sniffed_bytes_come_first_however_they_were_cut(sockets: Sockets) -> None:
    client = Ours(sockets[0], Context.build(client_spec()))
    client.handshake()
    hello = sockets[1].recv(65536)
    parsed = parse(hello)
    server = Ours(
        sockets[1],
        Context.build(server_spec()),
        held=hello,
        server_name=parsed.server_name,
        alpn=alpn_wire(["istio"]),
    )
    assert carries(Pair(client, server).shake())


@pytest.mark.parametrize(
    ("server_name", "alpn"),
    [
        ("outbound_.80_._.a.b.svc.cluster.locax", alpn_wire(["istio"])),
        ("outbound_.80_._.a.b.svc.cluster.local", alpn_wire(["istiO"])),
        ("outbound_.80_._.a.b.svc.cluster.local", alpn_wire(["istio", "h2"])),
        ("outbound_.80_._.a.b.svc.cluster.local", b""),
        ("", alpn_wire(["istio"])),
    ],
)
def test_a_hello_that_is_not_what_was_routed_by_ends(sockets: Sockets, server_name: str, alpn: bytes) -> None:
    server = Ours(sockets[1], Context.build(server_spec()), server_name=server_name, alpn=alpn)
    pair = Pair(Ours(sockets[0], Context.build(client_spec())), server)
    assert failures(pair) == (TlsFailure.TLS_PEER_ALERT, TlsFailure.TLS_HELLO_CHANGED)


def test_the_hello_after_a_retry_is_checked_too(sockets: Sockets) -> None:
    # The client's first key share is of a group that the server does not take.
    client = client_spec(groups="X25519:P-256")
    server = Ours(
        sockets[1],
        Context.build(server_spec(groups="P-256")),
        server_name="outbound_.80_._.a.b.svc.cluster.local",
        alpn=alpn_wire(["istio"]),
    )
    assert carries(Pair(Ours(sockets[0], Context.build(client)), server).shake())


def test_ends_go_one_way_at_a_time(sockets: Sockets) -> None:
    pair = ours(sockets).shake()
    pair.client.send(b"last")
    pair.client.end()
    assert pair.server.receive() == b"last"
    assert pair.server.receive() == b""
    pair.server.send(b"answer")
    assert pair.client.receive() == b"answer"
    pair.server.end()
    assert pair.client.receive() == b""
    assert isinstance(pair.client, Ours)
    assert not pair.client.tls.ended_without_notify


def test_a_fin_between_records_is_an_end(sockets: Sockets) -> None:
    pair = ours(sockets).shake()
    pair.client.send(b"last")
    sockets[0].shutdown(socket.SHUT_WR)
    assert read_exactly(pair.server, 5) == b"last"
    assert isinstance(pair.server, Ours)
    assert pair.server.tls.ended_without_notify


def cut_at(sockets: Sockets, pair: Pair, keep: int) -> TlsFailure | None:
    """The client's next record reaches the server only up to `keep` bytes, then a FIN. None: that was an end."""
    left, right = socket.socketpair()
    with left, right:
        pair.client.send(b"x" * 100)
        record = sockets[1].recv(65536)
        assert len(record) == 5 + 100 + 1 + 16
        # What the server reads now comes from here.
        assert isinstance(pair.server, Ours)
        os.dup2(right.fileno(), sockets[1].fileno())
        left.sendall(record[:keep])
        left.shutdown(socket.SHUT_WR)
        try:
            read_exactly(pair.server, 1000)
        except ConnectionError:
            return pair.server.tls.failure
        return None


@pytest.mark.parametrize("keep", [0, 1, 4, 5, 6, 60, 121, 122])
def test_a_fin_within_a_record_is_a_truncation(sockets: Sockets, keep: int) -> None:
    expected = None if keep in (0, 122) else TlsFailure.TLS_TRUNCATED
    assert cut_at(sockets, ours(sockets).shake(), keep) == expected


@pytest.mark.parametrize("keep", [0, 122])
def test_a_strict_end_takes_no_fin_without_close_notify(sockets: Sockets, keep: int) -> None:
    client, server = client_spec(), server_spec(strict_end=True)
    pair = Pair(Ours(sockets[0], Context.build(client)), Ours(sockets[1], Context.build(server))).shake()
    assert cut_at(sockets, pair, keep) is not None


def test_a_strict_end_takes_a_close_notify(sockets: Sockets) -> None:
    client, server = client_spec(), server_spec(strict_end=True)
    pair = Pair(Ours(sockets[0], Context.build(client)), Ours(sockets[1], Context.build(server))).shake()
    pair.client.send(b"last")
    assert isinstance(pair.client, Ours)
    pair.client.end()
    sockets[0].shutdown(socket.SHUT_WR)
    assert read_exactly(pair.server, 5) == b"last"


def test_who_ends_reads_nothing_from_a_descriptor_that_may_be_another_sockets_by_now() -> None:
    left, right = socket.socketpair()
    with left, right:
        ending = Ours(left, Context.build(client_spec()))
        right.sendall(b"for whoever has the number")
        del ending.tls
        assert left.recv(64) == b"for whoever has the number"


def test_a_reset_is_told_from_an_end() -> None:
    listener = socket.create_server(("127.0.0.1", 0))
    left = socket.create_connection(listener.getsockname())
    right, _ = listener.accept()
    with listener, left, right:
        pair = ours((left, right)).shake()
        left.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        left.close()
        assert isinstance(pair.server, Ours)
        with pytest.raises(ConnectionError):
            read_exactly(pair.server, 1)
        assert pair.server.tls.failure == TlsFailure.TLS_RESET


def test_garbage_is_a_fault_of_the_protocol(sockets: Sockets) -> None:
    server = Ours(sockets[1], Context.build(server_spec()))
    sockets[0].sendall(b"GET / HTTP/1.1\r\n\r\n")
    with pytest.raises(ConnectionError):
        server.handshake()
    assert server.tls.failure == TlsFailure.TLS_PROTOCOL


def test_a_broken_session_stays_broken(sockets: Sockets) -> None:
    pair = ours(sockets).shake()
    sockets[0].sendall(b"\x17\x03\x03\x00\x20" + bytes(32))
    assert isinstance(pair.server, Ours)
    for _ in range(2):
        with pytest.raises(ConnectionError):
            pair.server.receive()
    with pytest.raises(ConnectionError):
        pair.server.send(b"x")
    with pytest.raises(ConnectionError):
        pair.server.end()
    assert pair.server.tls.failure == TlsFailure.TLS_PROTOCOL


def again(client: Context, server: Context, tickets: Tickets) -> Pair:
    """One connection with bytes both ways, ended in order."""
    left, right = socket.socketpair()
    with left, right:
        pair = Pair(Ours(left, client, tickets=tickets), Ours(right, server)).shake()
        pair.client.send(b"ping")
        assert read_exactly(pair.server, 4) == b"ping"
        pair.server.send(b"pong")
        assert read_exactly(pair.client, 4) == b"pong"
    return pair


def resumed(pair: Pair) -> tuple[bool, bool]:
    assert isinstance(pair.client, Ours)
    assert isinstance(pair.server, Ours)
    return pair.client.tls.resumed, pair.server.tls.resumed


@pytest.mark.parametrize("version", ["1.2", "1.3"])
def test_sessions_are_resumed_and_the_peer_stays_known(version: str) -> None:
    client = Context.build(client_spec(minimum_version=version, maximum_version=version))
    server, tickets = Context.build(server_spec()), Tickets()
    assert resumed(again(client, server, tickets)) == (False, False)
    assert tickets
    for _ in range(3):
        pair = again(client, server, tickets)
        assert resumed(pair) == (True, True)
        assert isinstance(pair.client, Ours)
        assert isinstance(pair.server, Ours)
        assert (pair.client.tls.peer_identity, pair.server.tls.peer_identity) == (SERVER, CLIENT)


def test_resumption_can_be_off_on_either_side() -> None:
    for client_resumes, server_resumes in ((False, True), (True, False)):
        client = Context.build(client_spec(resumes=client_resumes))
        server, tickets = Context.build(server_spec(resumes=server_resumes)), Tickets()
        for _ in range(2):
            assert resumed(again(client, server, tickets)) == (False, False)
        assert not tickets


def test_a_session_does_not_outlive_a_rotation_on_either_side() -> None:
    client, server, tickets = Context.build(client_spec()), Context.build(server_spec()), Tickets()
    again(client, server, tickets)
    assert resumed(again(client, Context.build(server_spec()), tickets)) == (False, False)
    again(client, server, tickets)
    assert resumed(again(Context.build(client_spec()), server, tickets)) == (False, False)


def test_a_session_does_not_outlive_the_certificate_that_it_began_with() -> None:
    tickets = Tickets()
    client = Context.build(client_spec(ROOT.issue(CLIENT, ends=timedelta(seconds=2))))
    server = Context.build(server_spec())
    again(client, server, tickets)
    assert resumed(again(client, server, tickets)) == (True, True)
    until(lambda: expired(client, server, tickets), "the session ends with the certificate")


def expired(client: Context, server: Context, tickets: Tickets) -> bool:
    """Whether the server asks for the certificate again, and refuses it."""
    left, right = socket.socketpair()
    with left, right:
        pair = Pair(Ours(left, client, tickets=tickets), Ours(right, server))
        found = failures(pair)
        return found[1] == TlsFailure.TLS_EXPIRED
