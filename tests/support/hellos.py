"""First flights of TLS clients, and of clients that are none."""

import socket
import ssl
import struct
from collections.abc import Sequence
from contextlib import suppress


def client_context(alpn: Sequence[str] = ("istio",)) -> ssl.SSLContext:
    """A client that trusts anybody, for tests that look at the gateway and not at the endpoint's certificate."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    if alpn:
        context.set_alpn_protocols(list(alpn))
    return context


def client_hello(
    server_name: str | None,
    alpn: Sequence[str] = ("istio",),
    *,
    newest: ssl.TLSVersion = ssl.TLSVersion.MAXIMUM_SUPPORTED,
) -> bytes:
    """What Python's own TLS client sends first."""
    context = client_context(alpn)
    context.maximum_version = newest
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    with suppress(ssl.SSLWantReadError):
        context.wrap_bio(incoming, outgoing, server_hostname=server_name).do_handshake()
    return outgoing.read()


def in_records(hello: bytes, size: int) -> bytes:
    """The same handshake message in records of at most `size` bytes each."""
    message = hello[5:]
    pieces = [message[at : at + size] for at in range(0, len(message), size)]
    return b"".join(b"\x16\x03\x01" + len(piece).to_bytes(2, "big") + piece for piece in pieces)


def padded(hello: bytes, total: int) -> bytes:
    """The hello with an extension that nobody knows (RFC 8701) so that it is `total` bytes long, in one record."""
    extra = total - len(hello) - 4
    extension = b"\xfa\xfa" + extra.to_bytes(2, "big") + bytes(extra)
    body = bytearray(hello[9:] + extension)
    # Behind version and random: session id, cipher suites, compression methods, then the length of all extensions.
    at = 34
    at += 1 + body[at]
    at += 2 + int.from_bytes(body[at : at + 2], "big")
    at += 1 + body[at]
    length = int.from_bytes(body[at : at + 2], "big") + len(extension)
    body[at : at + 2] = length.to_bytes(2, "big")
    message = b"\x01" + len(body).to_bytes(3, "big") + bytes(body)
    return b"\x16\x03\x01" + len(message).to_bytes(2, "big") + message


def proxy_v1(source: tuple[str, int], destination: tuple[str, int]) -> bytes:
    """A PROXY header in text for a TCP connection over IPv4 or IPv6."""
    family = "TCP6" if ":" in source[0] else "TCP4"
    return f"PROXY {family} {source[0]} {destination[0]} {source[1]} {destination[1]}\r\n".encode()


def proxy_v2(source: tuple[str, int], destination: tuple[str, int], *, tlvs: bytes = b"") -> bytes:
    """A binary PROXY header for a TCP connection over IPv4 or IPv6."""
    family, kind = (socket.AF_INET6, b"\x21") if ":" in source[0] else (socket.AF_INET, b"\x11")
    addresses = socket.inet_pton(family, source[0]) + socket.inet_pton(family, destination[0])
    body = addresses + struct.pack("!HH", source[1], destination[1]) + tlvs
    return b"\r\n\r\n\x00\r\nQUIT\n\x21" + kind + len(body).to_bytes(2, "big") + body
