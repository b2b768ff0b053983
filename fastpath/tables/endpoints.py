"""Endpoints as people write them, and the buffers that a table is compiled from. For Python callers: what comes by xDS
arrives as buffers, and no endpoint is an object there.
"""

from array import array
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from ipaddress import ip_address
from typing import NamedTuple

UNIX, IPV4, IPV6 = 1, 4, 6
ADDRESS_BYTES = 16
MOST_LOCALITIES = 65535
LARGEST_WEIGHT = 0xFFFFFFFF
LARGEST_PRIORITY = 127
# HealthStatus of EDS by number.
HEALTH_NAMES = ("UNKNOWN", "HEALTHY", "UNHEALTHY", "DRAINING", "TIMEOUT", "DEGRADED")


class Locality(NamedTuple):
    """Where an endpoint is. Empty texts: not known."""

    region: str = ""
    zone: str = ""
    sub_zone: str = ""


class Endpoint(NamedTuple):
    """One address of a cluster: `host:port`, `[host]:port` or `unix:path`. ``health``: as EDS names it. ``hash_key``:
    what hashing policies know it by; empty for its address.
    """

    address: str
    weight: int = 1
    priority: int = 0
    locality: Locality = Locality()
    health: str = "HEALTHY"
    hash_key: str = ""


class LocalityEntry(NamedTuple):
    """A locality of one priority. ``weight``: None where none is given."""

    locality: Locality
    priority: int
    weight: int | None


@dataclass(frozen=True, slots=True)
class EndpointColumns:
    """Endpoints in their order, as typed buffers: ``family`` uint8, ``address`` 16 bytes each, ``port`` uint16,
    ``weight`` uint32, ``health`` and ``priority`` uint8, ``locality`` uint16 (an index of ``localities``).
    """

    count: int
    family: bytes
    address: bytes
    port: bytes
    weight: bytes
    health: bytes
    priority: bytes
    locality: bytes
    localities: tuple[LocalityEntry, ...]
    names: tuple[bytes, ...]
    flags: bytes = field(default=b"", repr=False)


def columns_of(
    endpoints: Iterable[Endpoint], locality_weights: Mapping[tuple[int, Locality], int] | None = None
) -> EndpointColumns:
    """The buffers. ``locality_weights``: by (priority, locality). Raises ValueError naming the endpoint."""
    rows = [Endpoint(*one) for one in endpoints]
    given = dict(locality_weights or {})
    places: dict[tuple[int, Locality], int] = {}
    names: dict[bytes, int] = {}
    family, address, port, locality = bytearray(), bytearray(), array("H"), array("H")
    for row, one in enumerate(rows):
        kind, packed, number = _packed(row, one.address, names)
        family.append(kind)
        address += packed
        port.append(number)
        _check(row, one)
        place = one.priority, Locality(*one.locality)
        if places.setdefault(place, len(places)) >= MOST_LOCALITIES:
            raise ValueError(f"endpoint {row}: more than {MOST_LOCALITIES} localities")
        locality.append(places[place])
    if unknown := next((place for place in given if place not in places), None):
        raise ValueError(f"locality_weights: no endpoint at priority {unknown[0]} in {tuple(unknown[1])}")
    for place, weight in given.items():
        if not 0 < weight <= LARGEST_WEIGHT:
            raise ValueError(f"locality_weights: {weight} of {place} is outside 1..{LARGEST_WEIGHT}")
    return EndpointColumns(
        count=len(rows),
        family=bytes(family),
        address=bytes(address),
        port=port.tobytes(),
        weight=array("I", [one.weight for one in rows]).tobytes(),
        health=bytes(HEALTH_NAMES.index(one.health) for one in rows),
        priority=bytes(one.priority for one in rows),
        locality=locality.tobytes(),
        localities=tuple(LocalityEntry(place[1], place[0], given.get(place)) for place in places),
        names=tuple(names),
        flags=bytes(len(rows)),
    )


def hash_keys_of(endpoints: Iterable[Endpoint]) -> list[bytes | None]:
    """By row, what hashing policies know an endpoint by; None for its address."""
    return [one.hash_key.encode() or None for one in (Endpoint(*each) for each in endpoints)]


def _packed(row: int, text: str, names: dict[bytes, int]) -> tuple[int, bytes, int]:
    """(family, 16 bytes, port). Raises ValueError."""
    if text.startswith("unix:"):
        number = names.setdefault(text.removeprefix("unix:").encode(), len(names))
        return UNIX, array("I", [number]).tobytes() + bytes(ADDRESS_BYTES - 4), 0
    host, mark, digits = text.rpartition(":")
    try:
        address = ip_address(host.removeprefix("[").removesuffix("]"))
        port = int(digits) if mark and digits.isdecimal() else -1
    except ValueError:
        port = -1
    if not 0 <= port <= 65535:
        raise ValueError(f"endpoint {row}: {text!r} is no address: expected HOST:PORT with an IP address, or unix:PATH")
    return IPV4 if address.version == 4 else IPV6, address.packed.ljust(ADDRESS_BYTES, b"\0"), port


def _check(row: int, one: Endpoint) -> None:
    """Raises ValueError."""
    if not 0 < one.weight <= LARGEST_WEIGHT:
        raise ValueError(f"endpoint {row}: weight {one.weight} is outside 1..{LARGEST_WEIGHT}")
    if not 0 <= one.priority <= LARGEST_PRIORITY:
        raise ValueError(f"endpoint {row}: priority {one.priority} is outside 0..{LARGEST_PRIORITY}")
    if one.health not in HEALTH_NAMES:
        raise ValueError(f"endpoint {row}: health {one.health!r} is none of {', '.join(HEALTH_NAMES)}")
