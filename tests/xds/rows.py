"""Columns as rows that a person can read, for comparison with what a message says."""

import struct
from ipaddress import ip_address
from typing import NamedTuple

from eastgate.xds.resources import Columns, Locality


class Row(NamedTuple):
    address: str
    port: int
    weight: int
    health: int
    priority: int
    locality: Locality
    tls_mode_istio: bool


def rows_of(columns: Columns) -> list[Row]:
    """Every endpoint; checks on the way that all buffers have the length that `count` asks for."""
    widths = {"family": 1, "address": 16, "port": 2, "weight": 4, "health": 1, "priority": 1, "locality": 2, "flags": 1}
    for name, width in widths.items():
        assert len(getattr(columns, name)) == width * columns.count, name
    ports = struct.unpack(f"={columns.count}H", columns.port)
    weights = struct.unpack(f"={columns.count}I", columns.weight)
    localities = struct.unpack(f"={columns.count}H", columns.locality)
    rows = []
    for index in range(columns.count):
        raw = columns.address[16 * index : 16 * index + 16]
        family = columns.family[index]
        if family == 4:
            assert raw[4:] == bytes(12)
            address = str(ip_address(raw[:4]))
        elif family == 6:
            address = str(ip_address(raw))
        else:
            assert family == 1
            address = "unix:" + columns.names[struct.unpack("=I", raw[:4])[0]].decode()
        entry = columns.localities[localities[index]]
        assert entry.priority == columns.priority[index]
        rows.append(
            Row(
                address,
                ports[index],
                weights[index],
                columns.health[index],
                columns.priority[index],
                entry.locality,
                columns.flags[index] == 1,
            )
        )
    return rows
