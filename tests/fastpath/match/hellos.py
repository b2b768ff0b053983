"""ClientHellos for tests: real ones from Python's TLS client, and made up ones whose every length can be wrong."""

import itertools
import ssl
from collections.abc import Iterable, Sequence

from ...support.hellos import client_hello

SERVER_NAME = 0
ALPN = 16
PADDING = 21
LIMIT = 16384


def real_hello(
    server_name: str | None = "a.example",
    alpn: Sequence[str] = (),
    *,
    newest: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3,
) -> bytes:
    """The first flight of a client that offers no ALPN unless it is told to."""
    return client_hello(server_name, alpn, newest=newest)


def number(value: int, size: int) -> bytes:
    return value.to_bytes(size, "big")


def vector(data: bytes, size: int) -> bytes:
    """`data` behind its length in `size` bytes."""
    return number(len(data), size) + data


def extension(kind: int, body: bytes) -> bytes:
    return number(kind, 2) + vector(body, 2)


def server_name_extension(*names: bytes, kind: int = 0) -> bytes:
    return extension(SERVER_NAME, vector(b"".join(number(kind, 1) + vector(name, 2) for name in names), 2))


def alpn_extension(*protocols: bytes) -> bytes:
    return extension(ALPN, vector(b"".join(vector(protocol, 1) for protocol in protocols), 2))


def hello_body(
    *extensions: bytes,
    version: int = 0x0303,
    session: bytes = b"",
    ciphers: bytes = b"\x13\x01",
    compression: bytes = b"\x00",
    extension_block: bool = True,
) -> bytes:
    fixed = number(version, 2) + bytes(32) + vector(session, 1) + vector(ciphers, 2) + vector(compression, 1)
    return fixed + vector(b"".join(extensions), 2) if extension_block else fixed


def handshake(body: bytes, kind: int = 1) -> bytes:
    return number(kind, 1) + vector(body, 3)


def record(payload: bytes, *, kind: int = 22, version: int = 0x0301) -> bytes:
    return number(kind, 1) + number(version, 2) + vector(payload, 2)


def in_records(message: bytes, cuts: Iterable[int] = ()) -> bytes:
    """`message` in one record, or in one more for each place where it is cut."""
    places = [0, *sorted(cuts), len(message)]
    return b"".join(record(message[start:stop]) for start, stop in itertools.pairwise(places))


def hello(*extensions: bytes, cuts: Iterable[int] = (), **body: object) -> bytes:
    return in_records(handshake(hello_body(*extensions, **body)), cuts)  # type: ignore[arg-type]


def message_of(flight: bytes) -> bytes:
    """The handshake message in a flight of whole handshake records."""
    message = b""
    while flight:
        size = int.from_bytes(flight[3:5], "big")
        message += flight[5 : 5 + size]
        flight = flight[5 + size :]
    return message
