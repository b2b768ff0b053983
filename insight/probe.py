"""One ClientHello as Istio sends it to a gateway: what answered, or how it was refused. Judges; prints nothing.

A gateway that works passes the hello on, so the certificate that comes back is the pod's: one of the mesh, with a
SPIFFE URI. Anything else that answers stands before the gateway, or in its place: an L7 load balancer that ends TLS has
a certificate of its own, knows none of Istio's protocols (alert 120), or chooses one of HTTP's; one without TLS answers
the hello with an HTTP error. A gateway that refuses closes without a byte.
"""

import socket
import ssl
import time
from collections.abc import Callable, Sequence
from dataclasses import field, replace
from datetime import UTC, datetime
from enum import StrEnum

from eastgate.xds.outside_text import may_be_host
from eastgate.xds.record import record

from .certificate import Certificate, read_certificate
from .errors import InsightError

# Address and seconds.
Connector = Callable[[tuple[str, int], float], socket.socket]
RECORD_TYPES = (0x14, 0x15, 0x16, 0x17)
# Of an answer that is no TLS, so much says what it is.
PLAIN_BYTES = 256
HTTP_PROTOCOLS = ("h2", "http/1.1", "http/1.0")
# What Istio's TCP clients offer; the filter that the first one stands for says nothing before data comes.
ISTIO_PROTOCOLS = ("istio-peer-exchange", "istio")
# RFC 8446 section 6, RFC 7301: what is sent in clear before any certificate.
ALERT_RECORD, ALERT_BYTES = 0x15, 7
ALERTS = {40: "HANDSHAKE_FAILURE", 70: "PROTOCOL_VERSION", 112: "UNRECOGNIZED_NAME", 120: "NO_APPLICATION_PROTOCOL"}
CERTIFICATE_ALERTS = ("CERTIFICATE_REQUIRED", "BAD_CERTIFICATE", "UNKNOWN_CA", "HANDSHAKE_FAILURE")


class Verdict(StrEnum):
    """What became of the hello. The values are public: they stand in JSON."""

    MESH = "mesh"
    """A certificate of the mesh came back: a pod answered."""
    EXPIRED = "expired"
    """The same, and the certificate is not valid now."""
    FOREIGN = "foreign"
    """Somebody else ended TLS: no certificate of a mesh, or a protocol of HTTP."""
    HTTP = "http"
    """Plain HTTP."""
    NOT_TLS = "not_tls"
    """Other bytes."""
    ALERT = "alert"
    """A TLS alert before any certificate."""
    CLOSED = "closed"
    """An end without a byte: how a gateway refuses."""
    SILENT = "silent"
    """Nothing within the time."""
    UNREACHABLE = "unreachable"
    """No TCP connection."""


class CannotConnectError(OSError):
    """There is no connection, as somebody else says who was to make it."""


@record
class Hello:
    """What is said. ``certificate`` and ``key``: files of a client certificate, empty for none."""

    server_name: str
    protocols: tuple[str, ...] = ISTIO_PROTOCOLS
    certificate: str = ""
    key: str = ""


@record
class Answer:
    """``detail``: the cause in words. ``then``: what came after the handshake. ``local``: address that the peer saw,
    unless something between has changed it. ``began``: seconds since 1970."""

    target: str
    server_name: str
    verdict: Verdict
    detail: str = ""
    certificate: Certificate | None = None
    tls_version: str = ""
    protocol: str = ""
    then: str = ""
    local: str = ""
    began: float = field(default=0.0, compare=False)

    @property
    def reached(self) -> bool:
        """Whether a pod of the mesh answered."""
        return self.verdict is Verdict.MESH


def client_context(hello: Hello) -> ssl.SSLContext:
    """Checks nobody: what answers is to be seen. Raises InsightError for files that are no certificate and key."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if hello.protocols:
        context.set_alpn_protocols(list(hello.protocols))
    if hello.certificate:
        try:
            context.load_cert_chain(hello.certificate, hello.key or None)
        except (OSError, ssl.SSLError) as error:
            reason = error.strerror or getattr(error, "reason", "") or error
            raise InsightError(f"--cert {hello.certificate}: {reason} (a PEM chain, and --key its key?)") from None
    return context


def probe(
    address: tuple[str, int],
    hello: Hello,
    *,
    timeout_s: float = 5.0,
    wait_s: float = 1.0,
    connect: Connector = socket.create_connection,
) -> Answer:
    """Say the hello and see what comes. ``wait_s``: how long a refusal may take after the handshake.

    Raises InsightError for a certificate or a server name that cannot be used.
    """
    context = client_context(hello)
    unanswered = Answer(flat(address), hello.server_name, Verdict.UNREACHABLE, began=datetime.now(UTC).timestamp())
    if not may_be_host(address[0]):
        return replace(unanswered, detail=f"cannot connect: {address[0]!r} is no name of a host")
    try:
        with connect(address, timeout_s) as connection:
            name = connection.getsockname()
            # Of one that begins elsewhere nobody here knows the address.
            known = replace(unanswered, local=flat(name) if isinstance(name, tuple) else "")
            return _Conversation(connection, context, known, time.monotonic() + timeout_s).run(wait_s)
    except CannotConnectError as error:
        return replace(unanswered, detail=f"cannot connect: {error}")
    except OSError as error:
        reason = "no answer" if isinstance(error, TimeoutError) else error.strerror or str(error)
        return replace(unanswered, detail=f"cannot connect: {reason}")


def flat(name: Sequence[object]) -> str:
    """host:port of a socket's name."""
    host = str(name[0])
    return f"[{host}]:{name[1]}" if ":" in host else f"{host}:{name[1]}"


class _Conversation:
    """One handshake over a socket, with the bytes of the other side in hand. ``known``: the answer so far."""

    def __init__(self, connection: socket.socket, context: ssl.SSLContext, known: Answer, end: float) -> None:
        self._socket, self._known, self._end = connection, known, end
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        try:
            self._tls = context.wrap_bio(self._incoming, self._outgoing, server_hostname=known.server_name)
        except ValueError as error:
            raise InsightError(f"{known.server_name!r} cannot be a server name: {error}") from None
        self._first = b""

    def run(self, wait_s: float) -> Answer:
        """The handshake as far as it goes, and what comes after it."""
        while True:
            try:
                self._tls.do_handshake()
                break
            except ssl.SSLWantReadError:
                if (ended := self._exchange()) is not None:
                    return ended
            except ssl.SSLError as error:
                return self._failed(error)
        return self._answered(wait_s)

    def _exchange(self) -> Answer | None:
        """Send what is to be sent and read more; an answer where there is no more handshake to come."""
        try:
            self._flush()
            self._socket.settimeout(max(0.001, self._end - time.monotonic()))
            data = self._socket.recv(65536)
        except TimeoutError:
            if self._first:
                return self._said(Verdict.SILENT, "the handshake was begun and not ended")
            return self._said(Verdict.SILENT, "connected, and not a byte came back")
        except CannotConnectError:
            raise
        except OSError as error:
            return self._said(Verdict.CLOSED, f"{(error.strerror or str(error)).lower()}, {self._after()}")
        if not data:
            return self._said(Verdict.CLOSED, f"closed, {self._after()}")
        self._first = self._first or data[:PLAIN_BYTES]
        if self._first[0] not in RECORD_TYPES:
            return self._said(*plain_answer(self._first))
        self._incoming.write(data)
        return None

    def _said(self, verdict: Verdict, detail: str) -> Answer:
        return replace(self._known, verdict=verdict, detail=detail)

    def _after(self) -> str:
        return "in the middle of the handshake" if self._first else "without a byte"

    def _flush(self) -> None:
        if data := self._outgoing.read():
            self._socket.sendall(data)

    def _failed(self, error: ssl.SSLError) -> Answer:
        reason = self._plain_alert() or alert_name(error)
        if reason == "NO_APPLICATION_PROTOCOL":
            return self._said(Verdict.FOREIGN, "it ends TLS itself and knows none of Istio's protocols")
        certificate = reason in CERTIFICATE_ALERTS
        detail = f"TLS alert {reason.lower().replace('_', ' ')}" + (" (does it want --cert and --key?)" * certificate)
        return self._said(Verdict.ALERT, detail)

    def _plain_alert(self) -> str:
        """The alert that came in the place of a ServerHello, where Python has no name for its error; else empty."""
        is_alert = len(self._first) == ALERT_BYTES and self._first[0] == ALERT_RECORD
        return ALERTS.get(self._first[-1], "") if is_alert else ""

    def _answered(self, wait_s: float) -> Answer:
        """The handshake is over on this side: whose certificate, and whether the other side agrees."""
        protocol = self._tls.selected_alpn_protocol() or ""
        raw = self._tls.getpeercert(binary_form=True)
        certificate = read_certificate(raw) if raw else None
        verdict, detail = judged(certificate, protocol, datetime.now(UTC))
        return replace(
            self._said(verdict, detail),
            certificate=certificate,
            tls_version=self._tls.version() or "",
            protocol=protocol,
            then=self._then(wait_s),
        )

    def _then(self, wait_s: float) -> str:
        """In TLS 1.3 a server looks at the client's certificate after the client is done."""
        end = time.monotonic() + wait_s
        try:
            self._flush()
            while (left := end - time.monotonic()) > 0:
                self._socket.settimeout(left)
                data = self._socket.recv(65536)
                if not data:
                    return "closed after the handshake"
                self._incoming.write(data)
                try:
                    return f"it speaks: {len(self._tls.read(65536))} bytes"
                except ssl.SSLWantReadError:
                    continue
        except TimeoutError:
            pass
        except ssl.SSLError as error:
            reason = alert_name(error)
            if reason == "CERTIFICATE_REQUIRED":
                return "asks for a client certificate, as mTLS does (--cert and --key go further)"
            return f"refused: TLS alert {reason.lower().replace('_', ' ')}"
        except OSError as error:
            return f"ended after the handshake: {error.strerror}"
        return "taken: nothing speaks against it"


def alert_name(error: ssl.SSLError) -> str:
    """OpenSSL's name of an alert without what it puts in front."""
    name = str(getattr(error, "reason", "") or error)
    return name.rpartition("ALERT_")[2] if "ALERT_" in name else name


def plain_answer(first: bytes) -> tuple[Verdict, str]:
    """Of bytes that are no TLS record."""
    line = first.splitlines()[0].decode("latin-1") if first.splitlines() else ""
    if line.startswith("HTTP/"):
        return Verdict.HTTP, f"it speaks HTTP and answers the hello with {line!r}"
    return Verdict.NOT_TLS, f"no TLS: begins with {first[:16]!r}"


def judged(certificate: Certificate | None, protocol: str, now: datetime) -> tuple[Verdict, str]:
    """Whether it is a pod of the mesh that answered."""
    if certificate is None or not certificate.spiffe:
        return Verdict.FOREIGN, "it ends TLS itself, with a certificate of no mesh"
    if protocol in HTTP_PROTOCOLS:
        return Verdict.FOREIGN, f"it chose {protocol}, which no sidecar does beside Istio's protocols"
    if now > certificate.not_after:
        return Verdict.EXPIRED, f"its certificate ended {certificate.not_after:%Y-%m-%d %H:%M} UTC"
    if now < certificate.not_before:
        return (
            Verdict.EXPIRED,
            f"its certificate begins {certificate.not_before:%Y-%m-%d %H:%M} UTC: look at the clocks",
        )
    return Verdict.MESH, ""
