"""Endpoints that a test can ask what they are and what arrived, behind TLS or plain, and the client of both.

A connection begins with one command line, then follows what the command says:

| command | the endpoint |
|---|---|
| WHO | answers its own address, a blank, and the digest of the plain hello in front (`-` behind TLS); more may follow |
| SINK n | reads n bytes, answers their SHA-256; more may follow |
| SOURCE n | answers n bytes of pattern(); more may follow |
| ECHO | sends back everything up to the client's end, then ends too |
| DIGEST | reads up to the client's end, then answers the SHA-256 and ends: the client half-closes first |
| SPEAK n | sends n bytes of pattern(), ends its side, then reads to the client's end: the endpoint half-closes first |
| RESET | sends one byte and resets the connection |
| HOLD | reads nothing more until the test calls release() |

A plain endpoint stands where a gateway passes TLS through, so each connection begins with a ClientHello that nobody
answers; it is cut off in front of the command line.
"""

import hashlib
import socket
import ssl
import struct
import tempfile
import threading
from collections import Counter
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self

BLOCK = bytes(range(251)) * 1044  # 251 is prime: no shift by a power of two goes unnoticed.
TIMEOUT_S = 60.0
CHUNK = 1 << 18


def pattern(count: int) -> bytes:
    """`count` bytes that both ends can make."""
    return (BLOCK * (count // len(BLOCK) + 1))[:count]


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


class TestCa:
    """A certificate authority for one test run. Its certificates name the endpoint by address."""

    __test__ = False

    def __init__(self) -> None:
        from cryptography import x509
        from cryptography.hazmat.primitives.asymmetric import ec

        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "eastgate test CA")])
        self._root = self._certificate(self._name, self._key.public_key(), ca=True)

    def server_context(self, host: str, alpn: tuple[str, ...] = ("istio",)) -> ssl.SSLContext:
        """Present a certificate for this address; choose among these ALPNs."""
        from cryptography import x509
        from cryptography.hazmat.primitives import serialization
        from cryptography.hazmat.primitives.asymmetric import ec

        key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, host)])
        certificate = self._certificate(name, key.public_key(), ca=False, host=host)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        with tempfile.NamedTemporaryFile(suffix=".pem") as file:
            file.write(certificate.public_bytes(serialization.Encoding.PEM))
            file.write(
                key.private_bytes(
                    serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
                )
            )
            file.flush()
            context.load_cert_chain(file.name)
        if alpn:
            context.set_alpn_protocols(list(alpn))
        return context

    def client_context(self, alpn: tuple[str, ...] = ("istio",)) -> ssl.SSLContext:
        """Trust this authority only. The SNI is the mesh's name and not the endpoint's, so that is not compared."""
        from cryptography.hazmat.primitives import serialization

        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.load_verify_locations(cadata=self._root.public_bytes(serialization.Encoding.PEM).decode())
        if alpn:
            context.set_alpn_protocols(list(alpn))
        return context

    def write_root(self, path: Path) -> Path:
        from cryptography.hazmat.primitives import serialization

        path.write_bytes(self._root.public_bytes(serialization.Encoding.PEM))
        return path

    def _certificate(self, subject, public_key, *, ca: bool, host: str = ""):  # type: ignore[no-untyped-def]
        from cryptography import x509
        from cryptography.hazmat.primitives import hashes

        now = datetime.now(UTC)
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(public_key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(hours=1))
            .not_valid_after(now + timedelta(days=1))
            .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
        )
        if host:
            names = [
                x509.IPAddress(ip_address(host)),
                x509.UniformResourceIdentifier("spiffe://cluster.local/ns/test/sa/echo"),
            ]
            builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
        return builder.sign(self._key, hashes.SHA256())


class Peer(Protocol):
    """One end of a byte stream whose two directions end one by one."""

    def send(self, data: bytes) -> None: ...
    def receive(self) -> bytes:
        """Some bytes; empty when the other end has ended its side."""

    def end(self) -> None:
        """End this side; the other one goes on."""

    def close(self) -> None: ...


class PlainPeer:
    """A TCP socket. Behind a gateway the hello in front of everything is sent, or cut off, here."""

    def __init__(self, connection: socket.socket) -> None:
        self.socket = connection

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def receive(self) -> bytes:
        return self.socket.recv(CHUNK)

    def end(self) -> None:
        self.socket.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        self.socket.close()


class TlsPeer:
    """TLS whose write side ends with close_notify and FIN while the read side goes on, which ssl.SSLSocket cannot."""

    def __init__(self, connection: socket.socket, context: ssl.SSLContext, *, server_name: str | None = None) -> None:
        self.socket = connection
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        server_side = context.protocol == ssl.PROTOCOL_TLS_SERVER
        self._tls = context.wrap_bio(
            self._incoming, self._outgoing, server_side=server_side, server_hostname=server_name
        )
        while True:
            try:
                self._tls.do_handshake()
                break
            except ssl.SSLWantReadError:
                self._flush()
                self._feed()
        self._flush()

    @property
    def alpn(self) -> str:
        return self._tls.selected_alpn_protocol() or ""

    @property
    def address_in_certificate(self) -> str:
        """The address that the other end's certificate names."""
        certificate = self._tls.getpeercert() or {}
        return next((str(value) for kind, value in certificate.get("subjectAltName", ()) if kind == "IP Address"), "")

    def send(self, data: bytes) -> None:
        view = memoryview(data)
        for at in range(0, len(view), CHUNK):
            self._tls.write(view[at : at + CHUNK])
            self._flush()

    def receive(self) -> bytes:
        while True:
            try:
                return self._tls.read(CHUNK)
            except ssl.SSLWantReadError:
                self._flush()
                self._feed()
            except ssl.SSLZeroReturnError:
                return b""

    def end(self) -> None:
        # The answer to a close_notify may come much later: only ours is written here.
        with suppress(ssl.SSLWantReadError):
            self._tls.unwrap()
        self._flush()
        self.socket.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        self.socket.close()

    def _flush(self) -> None:
        if data := self._outgoing.read():
            self.socket.sendall(data)

    def _feed(self) -> None:
        if data := self.socket.recv(CHUNK):
            self._incoming.write(data)
        else:
            # A FIN without close_notify is a truncation, and read() says so.
            self._incoming.write_eof()


class Reader:
    """Lines and counted bytes out of a Peer."""

    def __init__(self, peer: Peer, ahead: bytes = b"") -> None:
        self._peer = peer
        self._ahead = ahead

    def line(self) -> bytes:
        """Up to the next newline, without it; what there is if the stream ends before."""
        while b"\n" not in self._ahead:
            data = self._peer.receive()
            if not data:
                break
            self._ahead += data
        line, _, self._ahead = self._ahead.partition(b"\n")
        return line

    def some(self) -> bytes:
        ahead, self._ahead = self._ahead, b""
        return ahead or self._peer.receive()

    def exactly(self, count: int) -> bytes:
        """`count` bytes, or fewer at the end of the stream."""
        parts, left = [], count
        while left:
            data = self.some()
            if not data:
                break
            parts.append(data[:left])
            self._ahead = data[left:]
            left -= len(parts[-1])
        return b"".join(parts)

    def digest(self, count: int | None = None) -> str:
        """SHA-256 of the next `count` bytes, or of everything up to the end."""
        digest, left = hashlib.sha256(), count
        while left is None or left:
            data = self.some()
            if not data:
                break
            if left is not None:
                data, self._ahead = data[:left], data[left:]
                left -= len(data)
            digest.update(data)
        return digest.hexdigest()


class Endpoint:
    """A listening endpoint; each connection is served on a thread of its own. `tls` None: a plain one."""

    def __init__(self, address: tuple[str, int], tls: ssl.SSLContext | None) -> None:
        self.connections = 0
        self.digests: Counter[str] = Counter()
        """SHA-256 of what was read after SPEAK, to the client's end."""
        self.ends: Counter[str] = Counter()
        """How connections ended: `end` in order, or the name of the exception."""
        self.accepted_from: list[str] = []
        self._tls = tls
        self._held = threading.Event()
        self._server = socket.create_server(
            address, family=socket.AF_INET6 if ":" in address[0] else socket.AF_INET, backlog=256
        )
        self.address: tuple[str, int] = self._server.getsockname()[:2]
        threading.Thread(target=self._accept, daemon=True, name=f"endpoint {self.name}").start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    @property
    def name(self) -> str:
        host, port = self.address
        return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"

    def release(self) -> None:
        """Let every connection on HOLD read again."""
        self._held.set()

    def close(self) -> None:
        # close() alone does not wake the thread that is in accept().
        with suppress(OSError):
            self._server.shutdown(socket.SHUT_RDWR)
        self._server.close()
        self._held.set()

    def _accept(self) -> None:
        while True:
            try:
                connection, source = self._server.accept()
            except OSError:
                return
            self.connections += 1
            self.accepted_from.append(source[0])
            connection.settimeout(TIMEOUT_S)
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            threading.Thread(target=self._run, args=(connection,), daemon=True).start()

    def _run(self, connection: socket.socket) -> None:
        # The peer may be gone at any point; that is the test's business, not the endpoint's.
        try:
            with connection:
                if self._tls is not None:
                    peer: Peer = TlsPeer(connection, self._tls)
                    reader, hello = Reader(peer), ""
                else:
                    peer = PlainPeer(connection)
                    reader = Reader(peer)
                    hello = sha256(self._cut_hello(reader))
                self._serve(connection, peer, reader, hello)
            self.ends["end"] += 1
        except (OSError, ValueError) as error:
            self.ends[type(error).__name__] += 1

    @staticmethod
    def _cut_hello(reader: Reader) -> bytes:
        """Records up to the end of the handshake message that the first one begins."""
        raw, message = b"", b""
        while len(message) < 4 or len(message) < 4 + int.from_bytes(message[1:4], "big"):
            header = reader.exactly(5)
            if len(header) < 5 or header[0] != 0x16:
                raise ValueError("no hello in front")
            record = reader.exactly(int.from_bytes(header[3:5], "big"))
            raw, message = raw + header + record, message + record
        return raw

    def _serve(self, connection: socket.socket, peer: Peer, reader: Reader, hello: str) -> None:
        while line := reader.line():
            command, *arguments = line.decode().split()
            count = int(arguments[0]) if arguments else 0
            if command == "WHO":
                peer.send(f"{self.name} {hello or '-'}\n".encode())
            elif command == "SINK":
                peer.send(f"{reader.digest(count)}\n".encode())
            elif command == "SOURCE":
                peer.send(pattern(count))
            elif command == "ECHO":
                while data := reader.some():
                    peer.send(data)
                peer.end()
                return
            elif command == "DIGEST":
                peer.send(f"{reader.digest()}\n".encode())
                peer.end()
                return
            elif command == "SPEAK":
                peer.send(pattern(count))
                peer.end()
                self.digests[reader.digest()] += 1
                return
            elif command == "RESET":
                peer.send(b"!")
                reset(connection)
                return
            elif command == "HOLD":
                self._held.wait(TIMEOUT_S)
            else:
                raise ValueError(f"unknown command {command}")


def reset(connection: socket.socket) -> None:
    """Close with RST."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


def connect(address: tuple[str, int], *, timeout_s: float = TIMEOUT_S) -> socket.socket:
    """A TCP connection that sends what it is given at once."""
    connection = socket.create_connection(address, 10)
    connection.settimeout(timeout_s)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return connection
