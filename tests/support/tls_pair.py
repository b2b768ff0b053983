"""Two ends of TLS on one socket pair, ours or OpenSSL's by way of Python, driven in turns without a thread."""

import socket
import ssl
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Self

from eastgate.fastpath.loop.tls_socket import Tickets, TlsSocket
from eastgate.fastpath.tls.context import Context

TURNS = 200


@dataclass
class Ours:
    """An end of ours."""

    socket: socket.socket
    context: Context
    held: bytes = b""
    server_name: str | None = None
    alpn: bytes | None = None
    tickets: Tickets | None = None
    tls: TlsSocket = field(init=False)

    def __post_init__(self) -> None:
        self.socket.setblocking(False)
        self.tls = TlsSocket(self.context, self.socket.fileno(), self.held, self.server_name, self.alpn, self.tickets)

    def handshake(self) -> bool:
        """Whether it is done."""
        self.tls.ready()
        return self.tls.handshake()

    def send(self, data: bytes) -> int:
        """Bytes taken."""
        return self.tls.send(data)

    def receive(self, length: int = 65536) -> bytes | None:
        """None: nothing yet."""
        self.tls.ready()
        return self.tls.receive(length)

    def end(self) -> None:
        """close_notify."""
        self.tls.end()


class Theirs:
    """Python's TLS on the other end. ``outgoing`` is what it would send, so that a test may cut it."""

    def __init__(self, sock: socket.socket, context: ssl.SSLContext, *, server_name: str | None = None) -> None:
        self.socket = sock
        self.socket.setblocking(False)
        self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        is_server = context.protocol == ssl.PROTOCOL_TLS_SERVER
        self.tls = context.wrap_bio(self.incoming, self.outgoing, server_side=is_server, server_hostname=server_name)

    def flush(self) -> None:
        """Send what it made."""
        if data := self.outgoing.read():
            self.socket.setblocking(True)
            self.socket.sendall(data)
            self.socket.setblocking(False)

    def fill(self) -> None:
        """Hand it what has arrived."""
        try:
            while data := self.socket.recv(65536):
                self.incoming.write(data)
            self.incoming.write_eof()
        except BlockingIOError:
            pass

    def handshake(self) -> bool:
        """Whether it is done."""
        self.fill()
        try:
            self.tls.do_handshake()
        except ssl.SSLWantReadError:
            return False
        finally:
            self.flush()
        return True

    def send(self, data: bytes) -> int:
        """All of it."""
        self.tls.write(data)
        self.flush()
        return len(data)

    def receive(self, length: int = 65536) -> bytes | None:
        """None: nothing yet."""
        self.fill()
        try:
            return self.tls.read(length)
        except ssl.SSLWantReadError:
            return None

    def end(self) -> None:
        """close_notify."""
        with suppress(ssl.SSLWantReadError):
            self.tls.unwrap()
        self.flush()


End = Ours | Theirs


@dataclass
class Pair:
    """Client and server on a socket pair."""

    client: End
    server: End

    def shake(self) -> Self:
        """Handshake of both. What an end raises goes up, after the other has had its turn."""
        done: set[int] = set()
        for _ in range(TURNS):
            for end in (self.client, self.server):
                if id(end) not in done and end.handshake():
                    done.add(id(end))
            if len(done) == 2:
                return self
        raise AssertionError("the handshake does not end")


def read_exactly(end: End, length: int) -> bytes:
    """So many bytes, which have been sent already."""
    data = b""
    for _ in range(TURNS * 50):
        piece = end.receive()
        if piece == b"":
            break
        data += piece or b""
        if len(data) >= length:
            break
    return data
