"""One hello, and what a mesh, a balancer, a web server or nobody makes of it: real sockets, no gateway yet."""

import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from eastgate.insight.certificate import Certificate
from eastgate.insight.errors import InsightError
from eastgate.insight.probe import Answer, Hello, Verdict, judged, probe

from ..support.authority import HOUR, Authority, Identity

NAME = "outbound_.80_._.echo.test.svc.cluster.local"
POD = "spiffe://cluster.local/ns/test/sa/echo"
Serve = Callable[[socket.socket], None]


@contextmanager
def serving(serve: Serve) -> Iterator[tuple[str, int]]:
    """An address on loopback whose connections are served one after the other."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def run() -> None:
            with suppress(OSError):
                while True:
                    connection, _ = listener.accept()
                    with connection, suppress(OSError):
                        serve(connection)

        thread = threading.Thread(target=run, daemon=True)
        thread.start()
        yield listener.getsockname()[:2]
        listener.shutdown(socket.SHUT_RDWR)
        thread.join()


@pytest.fixture(scope="module")
def authority() -> Authority:
    return Authority("mesh root")


def context(
    folder: Path, identity: Identity, *protocols: str, roots: str = "", newest: ssl.TLSVersion | None = None
) -> ssl.SSLContext:
    """A server's; ``roots`` has it demand certificates."""
    file = folder / "server.pem"
    file.write_bytes(identity.chain + identity.key)
    found = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    found.load_cert_chain(file)
    if protocols:
        found.set_alpn_protocols(list(protocols))
    if roots:
        found.verify_mode = ssl.CERT_REQUIRED
        found.load_verify_locations(cadata=roots)
    if newest is not None:
        found.maximum_version = newest
    return found


def over(tls: ssl.SSLContext, *, greeting: bytes = b"") -> Serve:
    """TLS, then a greeting, then reading to the end."""

    def serve(connection: socket.socket) -> None:
        with suppress(ssl.SSLError), tls.wrap_socket(connection, server_side=True) as wrapped:
            wrapped.sendall(greeting)
            while wrapped.recv(1024):
                pass

    return serve


def hold(connection: socket.socket) -> None:
    while connection.recv(65536):
        pass


def answering(text: bytes) -> Serve:
    def serve(connection: socket.socket) -> None:
        connection.recv(65536)
        connection.sendall(text)

    return serve


def ask(address: tuple[str, int], *protocols: str, **files: str) -> Answer:
    hello = Hello(NAME, protocols, **files) if protocols else Hello(NAME, **files)
    return probe(address, hello, timeout_s=2.0, wait_s=0.3)


def test_a_pod_of_the_mesh_is_told_by_its_certificate(authority: Authority, tmp_path: Path) -> None:
    with serving(over(context(tmp_path, authority.issue(POD), "istio"))) as address:
        answer = ask(address)
    assert (answer.verdict, answer.protocol, answer.tls_version) == (Verdict.MESH, "istio", "TLSv1.3")
    assert answer.certificate is not None
    assert answer.certificate.spiffe == POD
    assert answer.certificate.issuer == "CN=mesh root"
    assert answer.then == "taken: nothing speaks against it"


def test_mtls_asks_for_a_certificate_and_takes_one(authority: Authority, tmp_path: Path) -> None:
    client = authority.issue("spiffe://cluster.local/ns/test/sa/client")
    stranger = Authority("another root").issue("spiffe://elsewhere/ns/test/sa/client")
    files = {}
    for name, identity in (("client", client), ("stranger", stranger)):
        files[name] = tmp_path / f"{name}.pem"
        files[name].write_bytes(identity.chain + identity.key)
    with serving(over(context(tmp_path, authority.issue(POD), "istio", roots=authority.pem.decode()))) as address:
        without, known, unknown = ask(address), ask(address, certificate=str(files["client"])), None
        unknown = ask(address, certificate=str(files["stranger"]))
    assert (without.verdict, without.then.partition(",")[0]) == (Verdict.MESH, "asks for a client certificate")
    assert (known.verdict, known.then) == (Verdict.MESH, "taken: nothing speaks against it")
    assert (unknown.verdict, unknown.then) == (Verdict.MESH, "refused: TLS alert unknown ca")


def test_a_server_that_speaks_first_is_heard(authority: Authority, tmp_path: Path) -> None:
    with serving(over(context(tmp_path, authority.issue(POD), "istio"), greeting=b"220 hello")) as address:
        assert ask(address).then == "it speaks: 9 bytes"


def test_a_balancer_with_its_own_certificate_is_no_mesh(authority: Authority, tmp_path: Path) -> None:
    with serving(over(context(tmp_path, authority.issue("*.example.com")))) as address:
        answer = ask(address)
    assert (answer.verdict, answer.reached) == (Verdict.FOREIGN, False)
    assert answer.certificate is not None
    assert answer.certificate.names == ("*.example.com",)


def test_a_balancer_that_chooses_http_is_no_sidecar(authority: Authority, tmp_path: Path) -> None:
    with serving(over(context(tmp_path, authority.issue(POD), "h2", "http/1.1"))) as address:
        answer = ask(address, "istio", "http/1.1")
    assert (answer.verdict, answer.protocol) == (Verdict.FOREIGN, "http/1.1")


def test_an_alert_for_want_of_a_protocol_is_a_balancers(tmp_path: Path) -> None:
    def serve(connection: socket.socket) -> None:
        connection.recv(65536)
        connection.sendall(bytes((0x15, 3, 3, 0, 2, 2, 120)))

    with serving(serve) as address:
        answer = ask(address)
    assert (answer.verdict, answer.detail) == (
        Verdict.FOREIGN,
        "it ends TLS itself and knows none of Istio's protocols",
    )


@pytest.mark.parametrize(
    ("serve", "verdict", "detail"),
    [
        (answering(b"HTTP/1.1 400 Bad Request\r\nServer: x\r\n\r\n"), Verdict.HTTP, "'HTTP/1.1 400 Bad Request'"),
        (answering(b"SSH-2.0-x\r\n"), Verdict.NOT_TLS, "begins with b'SSH-2.0-x"),
        (answering(bytes((0x15, 3, 3, 0, 2, 2, 40))), Verdict.ALERT, "TLS alert handshake failure"),
        (lambda connection: None, Verdict.CLOSED, "without a byte"),
        (answering(b""), Verdict.CLOSED, "closed, without a byte"),
        (answering(bytes((0x16, 3, 3, 0, 90, 2))), Verdict.CLOSED, "in the middle of the handshake"),
    ],
)
def test_other_answers_have_names(serve: Serve, verdict: Verdict, detail: str) -> None:
    with serving(serve) as address:
        answer = ask(address)
    assert answer.verdict is verdict
    assert detail in answer.detail


def test_silence_has_an_end() -> None:
    with serving(hold) as address:
        answer = probe(address, Hello(NAME), timeout_s=0.2)
    assert (answer.verdict, answer.detail) == (Verdict.SILENT, "connected, and not a byte came back")


def test_nobody_listening_is_said() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        answer = ask(taken.getsockname())
    assert (answer.verdict, answer.detail) == (Verdict.UNREACHABLE, "cannot connect: Connection refused")


def test_a_name_that_no_resolver_takes_is_said() -> None:
    for host in ("a..b", "a" * 64):
        answer = probe((host, 15443), Hello("sni"))
        assert answer.verdict is Verdict.UNREACHABLE
        assert answer.detail == f"cannot connect: {host!r} is no name of a host"


def test_tls_1_2_shows_whose_certificate_it_is(authority: Authority, tmp_path: Path) -> None:
    tls = context(tmp_path, authority.issue(POD), "istio", newest=ssl.TLSVersion.TLSv1_2)
    with serving(over(tls)) as address:
        answer = ask(address)
    assert (answer.verdict, answer.tls_version) == (Verdict.MESH, "TLSv1.2")


def test_dates_of_a_pods_certificate_count(authority: Authority, tmp_path: Path) -> None:
    for starts, ends, words in ((-2 * HOUR, -HOUR, "its certificate ended"), (HOUR, 2 * HOUR, "look at the clocks")):
        with serving(over(context(tmp_path, authority.issue(POD, starts=starts, ends=ends), "istio"))) as address:
            answer = ask(address)
        assert (answer.verdict, words in answer.detail) == (Verdict.EXPIRED, True)


def test_a_certificate_without_names_is_nobodys() -> None:
    now = datetime.now(UTC)
    bare = Certificate("CN=x", "CN=x", (), (), now - timedelta(1), now + timedelta(1))
    assert judged(bare, "", now)[0] is Verdict.FOREIGN
    assert judged(None, "", now)[0] is Verdict.FOREIGN


def test_files_and_names_that_cannot_be_used_are_one_line(tmp_path: Path) -> None:
    (tmp_path / "x.pem").write_text("no certificate")
    for path, reason in (("/nowhere.pem", "No such file"), (str(tmp_path / "x.pem"), "x.pem")):
        with pytest.raises(InsightError, match=f"--cert .*{reason}"):
            probe(("127.0.0.1", 1), Hello(NAME, certificate=path))
    with serving(hold) as address, pytest.raises(InsightError, match="cannot be a server name"):
        probe(address, Hello(f"outbound_.80_._.{'x' * 64}.test"))
