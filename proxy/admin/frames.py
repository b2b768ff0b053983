"""Frames between the proxy and a process of its own: 4 bytes of length, big-endian, and the payload."""

from collections.abc import Iterator
from typing import BinaryIO

LENGTH_BYTES = 4


def framed(payload: bytes) -> bytes:
    return len(payload).to_bytes(LENGTH_BYTES, "big") + payload


def frames(source: BinaryIO) -> Iterator[bytes]:
    """Payloads until the source ends."""
    while header := source.read(LENGTH_BYTES):
        yield source.read(int.from_bytes(header, "big"))
