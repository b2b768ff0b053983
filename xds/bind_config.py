"""upstream_bind_config of a cluster: the addresses that connections to its endpoints come from.

Rules of Envoy's BindConfig: the address of the endpoint's family holds, and where none is of that family the kernel
chooses; there are at most two, one of each family.
"""

import socket
from collections.abc import Mapping
from typing import Any, NamedTuple

from .fields import PORT_MAX, number

_WARNINGS = {
    "freebind": "not set",
    "socket_options": "not set",
    "local_address_selector": "the address of the endpoint's family is taken",
}


class SourceAddress(NamedTuple):
    """An address to connect from: 4 or 16 bytes in network order. Port 0: any."""

    address: bytes
    port: int


def decode_bind_config(config: Mapping[str, Any], warnings: list[str]) -> tuple[SourceAddress, ...]:
    """Those addresses, the first one first. Raises ValueError for what Envoy rejects, too."""
    warnings += [f"upstream_bind_config.{field}: {what}" for field, what in _WARNINGS.items() if config.get(field)]
    extra = config.get("extra_source_addresses", ())
    if any(one.get("socket_options") for one in extra):
        warnings.append("upstream_bind_config.extra_source_addresses.socket_options: not set")
    more = [*(one.get("address", {}) for one in extra), *config.get("additional_source_addresses", ())]
    if "source_address" not in config:
        if more:
            raise ValueError("upstream_bind_config: extra_source_addresses without source_address")
        return ()
    found = [_source("source_address", config["source_address"])]
    found += [_source("extra_source_addresses", one) for one in more]
    if len({len(one.address) for one in found}) != len(found):
        raise ValueError("upstream_bind_config: two source addresses of one IP version")
    return tuple(found)


def _source(field: str, message: Mapping[str, Any]) -> SourceAddress:
    text = message.get("address", "")
    try:
        address = socket.inet_pton(socket.AF_INET6 if ":" in text else socket.AF_INET, text)
    except (OSError, ValueError):
        raise ValueError(f"upstream_bind_config.{field}: {text!r} is not an IP address") from None
    return SourceAddress(address, number(message, "port_value", 0, high=PORT_MAX))
