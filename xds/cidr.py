"""Ranges of addresses."""

import socket
from collections.abc import Mapping
from typing import Any, NamedTuple

from .fields import number


class CidrRange(NamedTuple):
    """Addresses that share their first ``length`` bits; ``address``: 4 or 16 bytes in network order, the rest is 0."""

    address: bytes
    length: int


def cidr_range(field: str, message: Mapping[str, Any]) -> CidrRange:
    """A CidrRange as Envoy reads it. Raises ValueError naming the field for what is no address."""
    text = message.get("address_prefix", "")
    try:
        address = socket.inet_pton(socket.AF_INET6 if ":" in text else socket.AF_INET, text)
    except (OSError, ValueError):
        raise ValueError(f"{field}: {text!r} is not an IP address") from None
    # A length past the address is the whole of it, as in Envoy.
    bits = 8 * len(address)
    length = min(number(message, "prefix_len", 0, high=128), bits)
    first = int.from_bytes(address, "big") >> (bits - length) << (bits - length)
    return CidrRange(first.to_bytes(len(address), "big"), length)
