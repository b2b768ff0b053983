"""Clients that an admin, status or metrics port may meet: they do not read, do not finish, do not stop, or ask nastily.

Each is a context manager that lasts until it is left. All of it is on loopback and needs no privilege.
"""

import socket
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from http.client import HTTPConnection, HTTPException
from types import TracebackType
from typing import Self

Address = tuple[str, int]

PATIENCE_S = 10
METRICS = "/stats/prometheus"


def request(path: str, *lines: str, method: str = "GET") -> bytes:
    """The head of a request to loopback."""
    return "\r\n".join((f"{method} {path} HTTP/1.1", "Host: 127.0.0.1", *lines, "", "")).encode("latin-1")


NASTY: tuple[bytes, ...] = (
    request("/nowhere"),
    request("/../../etc/passwd"),
    request("/stats?filter=("),
    request("/stats?format=nothing&type=nobody"),
    request("/config_dump?resource=nothing"),
    request("/quitquitquit"),
    request("/%00%ff%2e%2e"),
    request("/" + "a" * 65536),
    request("/", *("X-Y: z" for _ in range(500))),
    request("/", "X-Y: " + "z" * 65536),
    request("/ready", "Host: elsewhere.example"),
    request("/ready", "Sec-Fetch-Site: cross-site"),
    request("/logging", "Content-Length: -1", method="POST"),
    request("/logging", "Transfer-Encoding: chunked", method="POST") + b"zz\r\n",
    request("/", method="F" * 100),
    b"GET / HTTP/9.9\r\n\r\n",
    b"GET /\r\n\r\n",
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(506),
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
)
"""Each is cheap to answer. None may change anything, in Envoy either, whose admin takes whatever is a POST."""


def asked(address: Address, path: str) -> socket.socket:
    """A client that has asked and reads nothing; its kernel takes little."""
    peer = socket.socket()
    peer.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    peer.settimeout(PATIENCE_S)
    peer.connect(address)
    peer.sendall(request(path))
    return peer


@contextmanager
def slow_readers(address: Address, count: int = 64, path: str = METRICS) -> Iterator[None]:
    """Clients that ask for the counters and read none of them."""
    with ExitStack() as stack:
        for _ in range(count):
            stack.enter_context(asked(address, path))
        yield


@contextmanager
def half_requests(address: Address, count: int = 256) -> Iterator[None]:
    """Clients that begin a request and say no more."""
    with ExitStack() as stack:
        for _ in range(count):
            stack.enter_context(socket.create_connection(address, PATIENCE_S)).sendall(b"GET / HTTP/1.1\r\nA: ")
        yield


class Flood:
    """Clients that ask as fast as they are answered, until it is left; each works through `one` by itself."""

    def __init__(self, one: Callable[[threading.Event], Iterator[None]], clients: int) -> None:
        self.over = threading.Event()
        self._each = [0] * clients
        self._threads = [threading.Thread(target=self._go, args=(one, index)) for index in range(clients)]

    @property
    def done(self) -> int:
        """Requests that were answered, or whose connection was closed."""
        return sum(self._each)

    def _go(self, one: Callable[[threading.Event], Iterator[None]], index: int) -> None:
        for _ in one(self.over):
            self._each[index] += 1

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.over.set()
        for thread in self._threads:
            thread.join()


def scrapes(address: Address, clients: int = 4, path: str = METRICS) -> Flood:
    """Scrapers without a pause between two scrapes."""

    def one(over: threading.Event) -> Iterator[None]:
        while not over.is_set():
            connection = HTTPConnection(*address, timeout=PATIENCE_S)
            with suppress(OSError, HTTPException):
                while not over.is_set():
                    connection.request("GET", path)
                    connection.getresponse().read()
                    yield
            connection.close()

    return Flood(one, clients)


def nasty_requests(address: Address, clients: int = 4, said: Sequence[bytes] = NASTY) -> Flood:
    """Clients that send what nobody should, one connection each."""

    def one(over: threading.Event) -> Iterator[None]:
        while not over.is_set():
            for data in said:
                with suppress(OSError), socket.create_connection(address, PATIENCE_S) as peer:
                    # Refused before all of it was sent: that is an answer.
                    with suppress(ConnectionError):
                        peer.sendall(data)
                        peer.recv(65536)
                    yield
                if over.is_set():
                    return

    return Flood(one, clients)
