"""Endpoints as people write them, and the columns that a table is compiled from. For Python callers: what comes by xDS
arrives as columns, and no endpoint is an object there.
"""

from collections.abc import Iterable, Mapping
from ipaddress import ip_address
from typing import NamedTuple

from eastgate.xds.columns import Columns, EndpointRow, Family, Health, Locality, LocalityEntry, columns_of

__all__ = ("Endpoint", "Locality", "columns_of_endpoints", "hash_keys_of")

MOST_LOCALITIES = 65535
LARGEST_WEIGHT = 0xFFFFFFFF
LARGEST_PRIORITY = 127


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


def columns_of_endpoints(
    endpoints: Iterable[Endpoint], locality_weights: Mapping[tuple[int, Locality], int] | None = None
) -> Columns:
    """The columns. ``locality_weights``: by (priority, locality). Raises ValueError naming the endpoint."""
    given = dict(locality_weights or {})
    rows = [_row(number, Endpoint(*one)) for number, one in enumerate(endpoints)]
    places: dict[tuple[int, Locality], int] = {}
    for number, row in enumerate(rows):
        if places.setdefault((row.priority, row.locality), len(places)) >= MOST_LOCALITIES:
            raise ValueError(f"endpoint {number}: more than {MOST_LOCALITIES} localities")
    if unknown := next((place for place in given if place not in places), None):
        raise ValueError(f"locality_weights: no endpoint at priority {unknown[0]} in {tuple(unknown[1])}")
    for place, weight in given.items():
        if not 0 < weight <= LARGEST_WEIGHT:
            raise ValueError(f"locality_weights: {weight} of {place} is outside 1..{LARGEST_WEIGHT}")
    return columns_of(rows, [LocalityEntry(place[1], place[0], given.get(place)) for place in places])


def hash_keys_of(endpoints: Iterable[Endpoint]) -> list[bytes | None]:
    """By row, what hashing policies know an endpoint by; None for its address."""
    return [one.hash_key.encode() or None for one in (Endpoint(*each) for each in endpoints)]


def _row(number: int, one: Endpoint) -> EndpointRow:
    """Raises ValueError."""
    _check(number, one)
    family, packed, port = _packed(number, one.address)
    return EndpointRow(family, packed, port, one.weight, Health[one.health], one.priority, Locality(*one.locality))


def _packed(number: int, text: str) -> tuple[Family, bytes, int]:
    """(family, address, port). Raises ValueError."""
    if text.startswith("unix:"):
        return Family.UNIX, text.removeprefix("unix:").encode(), 0
    host, mark, digits = text.rpartition(":")
    try:
        address = ip_address(host.removeprefix("[").removesuffix("]"))
        port = int(digits) if mark and digits.isdecimal() else -1
    except ValueError:
        port = -1
    if not 0 <= port <= 65535:
        raise ValueError(
            f"endpoint {number}: {text!r} is no address: expected HOST:PORT with an IP address, or unix:PATH"
        )
    return Family.IPV4 if address.version == 4 else Family.IPV6, address.packed, port


def _check(number: int, one: Endpoint) -> None:
    """Raises ValueError."""
    if not 0 < one.weight <= LARGEST_WEIGHT:
        raise ValueError(f"endpoint {number}: weight {one.weight} is outside 1..{LARGEST_WEIGHT}")
    if not 0 <= one.priority <= LARGEST_PRIORITY:
        raise ValueError(f"endpoint {number}: priority {one.priority} is outside 0..{LARGEST_PRIORITY}")
    if one.health not in Health.__members__:
        raise ValueError(f"endpoint {number}: health {one.health!r} is none of {', '.join(Health.__members__)}")
