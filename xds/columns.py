"""Endpoints of an assignment as typed columns: the contract with fastpath, and the one place that knows their bytes."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from enum import IntEnum, IntFlag
from socket import AF_INET, AF_INET6, inet_ntop
from sys import byteorder
from typing import Any, NamedTuple

from .record import record

EndpointKey = tuple[str, int]
"""(address, port) of an endpoint; a Unix socket by its path and 0"""
Place = tuple[bytes, int, int]
"""(address, port, family) of an endpoint, the address as Columns.packed gives it"""


class Family(IntEnum):
    """Of an address in Columns."""

    UNIX = 1
    IPV4 = 4
    IPV6 = 6


# As plain numbers where every row is looked at.
_UNIX, _IPV4 = int(Family.UNIX), int(Family.IPV4)


class Health(IntEnum):
    """HealthStatus of EDS."""

    UNKNOWN = 0
    HEALTHY = 1
    UNHEALTHY = 2
    DRAINING = 3
    TIMEOUT = 4
    DEGRADED = 5


class EndpointFlag(IntFlag):
    """Bits of Columns.flags."""

    TLS_MODE_ISTIO = 1
    OWN_HEALTH_CHECK = 2


class Locality(NamedTuple):
    """Where endpoints or this proxy run; empty strings where unset."""

    region: str = ""
    zone: str = ""
    sub_zone: str = ""

    def __str__(self) -> str:
        return "/".join(self).rstrip("/")


@record
class LocalityEntry:
    """One (priority, locality) of an assignment; LocalityLbEndpoints with the same pair are merged, last weight wins.

    ``weight`` is None unless the message has both a locality and a load_balancing_weight (Envoy then has no weight).
    """

    locality: Locality
    priority: int
    weight: int | None


@record
class Further:
    """Addresses of endpoints beside the first one, which is what an endpoint is known by; all of them IP addresses.

    ``first`` uint32: by row, and once more behind the last, where its own begin in ``family`` uint8: 4 or 6;
    ``address`` 16 bytes each; ``port`` uint16. Native-endian, in message order.
    """

    first: bytes
    family: bytes
    address: bytes
    port: bytes

    def of_row(self, row: int) -> list[Place]:
        """In their order."""
        begin, end = memoryview(self.first).cast("I")[row : row + 2]
        ports = memoryview(self.port).cast("H")
        return [(self._packed(number), ports[number], self.family[number]) for number in range(begin, end)]

    def take(self, rows: Iterable[int]) -> "Further | None":
        """Those of these rows alone; None where they have none."""
        return further_of([self.of_row(row) for row in rows])

    def _packed(self, number: int) -> bytes:
        return self.address[_ADDRESS * number : _ADDRESS * (number + 1)]


def further_of(rows: Iterable[Sequence[Place]]) -> Further | None:
    """The buffers of what these rows have; None where none has any."""
    first, family, address, port = bytearray(), bytearray(), bytearray(), bytearray()
    for places in rows:
        first += len(family).to_bytes(4, byteorder)
        for packed, number, kind in places:
            family.append(kind)
            address += packed.ljust(_ADDRESS, b"\0")
            port += number.to_bytes(2, byteorder)
    first += len(family).to_bytes(4, byteorder)
    return Further(bytes(first), bytes(family), bytes(address), bytes(port)) if family else None


@record
class Columns:
    """Endpoints of one assignment in message order, as typed native-endian buffers: the contract with fastpath.

    ``family`` uint8: 4, 6, or 1 for a Unix socket path; ``address`` 16 bytes each: network order, IPv4 in the first
    four, or for family 1 a uint32 index into ``names``; ``port`` uint16; ``weight`` uint32 (>= 1); ``health`` uint8,
    EDS HealthStatus; ``priority`` uint8; ``locality`` uint16 index into ``localities``; ``flags`` uint8, bit 0:
    tlsMode istio, bit 1: it has a health_check_config. ``further``: None where no endpoint has more than one address.
    """

    count: int
    family: bytes
    address: bytes
    port: bytes
    weight: bytes
    health: bytes
    priority: bytes
    locality: bytes
    flags: bytes
    localities: tuple[LocalityEntry, ...]
    names: tuple[bytes, ...] = ()
    further: Further | None = None

    @property
    def ports(self) -> "memoryview[int]":
        """By row."""
        return memoryview(self.port).cast("H")

    @property
    def weights(self) -> "memoryview[int]":
        """By row."""
        return memoryview(self.weight).cast("I")

    @property
    def places(self) -> "memoryview[int]":
        """Indexes into ``localities`` by row."""
        return memoryview(self.locality).cast("H")

    def entry(self, row: int) -> LocalityEntry:
        """Priority and locality of an endpoint."""
        return self.localities[self.places[row]]

    def packed(self, row: int) -> bytes:
        """The 16 bytes of an address, or the path of a Unix socket."""
        address = self.address[_ADDRESS * row : _ADDRESS * (row + 1)]
        return self.names[int.from_bytes(address[:4], byteorder)] if self.family[row] == _UNIX else address

    def all_packed(self) -> Iterator[bytes]:
        """Those of all rows."""
        buffer, names = self.address, self.names
        for row, family in enumerate(self.family):
            address = buffer[_ADDRESS * row : _ADDRESS * (row + 1)]
            yield names[int.from_bytes(address[:4], byteorder)] if family == _UNIX else address

    def all_places(self) -> Iterator[Place]:
        """Where the endpoints are, in their order."""
        return zip(self.all_packed(), self.ports, self.family, strict=True)

    def identities(self) -> Iterator[tuple[bytes, int, int, Locality]]:
        """What endpoints are known by in their cluster, from one push to the next: place and locality."""
        where = [entry.locality for entry in self.localities]
        localities = (where[place] for place in self.places)
        return zip(self.all_packed(), self.ports, self.family, localities, strict=True)

    def has_places_of(self, other: "Columns") -> bool:
        """Whether these are the same endpoints in the same order, as far as buffers say so at once."""
        return all(getattr(self, name) == getattr(other, name) for name in _PLACE)

    def has_identities_of(self, other: "Columns") -> bool:
        """The same, and in the same localities."""
        return self.has_places_of(other) and self.locality == other.locality and self.localities == other.localities

    def stored(self, places: Iterable[Place]) -> Iterator[Place]:
        """The same places with the 16 bytes that stand for them in ``address``; a path that is not here gets none's."""
        numbers = {path: number for number, path in enumerate(self.names)}
        for packed, port, family in places:
            known = packed if family != _UNIX else _name_bytes(numbers.get(packed, len(numbers)))
            yield known, port, family

    def host(self, row: int) -> str:
        """The address as text, of a Unix socket its path; bytes that are no UTF-8 as surrogates."""
        return host_text(self.packed(row), self.family[row])

    def key(self, row: int) -> EndpointKey:
        """What stands for an endpoint in its assignment: (address, port), of a Unix socket its path and 0."""
        return self.host(row), self.ports[row]

    def all_keys(self) -> list[EndpointKey]:
        """Those of all rows."""
        host, ports = self.host, self.ports
        return [(host(row), ports[row]) for row in range(self.count)]

    def text(self, row: int) -> str:
        """host:port, [host]:port or the path of a Unix socket, as dumps write them."""
        if self.family[row] == _UNIX:
            return self.packed(row).decode("utf-8", "replace")
        host, port = self.key(row)
        return f"{host}:{port}" if self.family[row] == _IPV4 else f"[{host}]:{port}"

    def further_of(self, row: int) -> list[Place]:
        """The addresses of an endpoint beside its first one."""
        return self.further.of_row(row) if self.further is not None else []

    def further_keys(self, row: int) -> list[EndpointKey]:
        """The same, each as address and port."""
        return [(host_text(packed, family), port) for packed, port, family in self.further_of(row)]

    def further_texts(self, row: int) -> list[str]:
        """The same as `text` has the first one."""
        return [f"[{host}]:{port}" if ":" in host else f"{host}:{port}" for host, port in self.further_keys(row)]

    def take(self, rows: Sequence[int]) -> "Columns":
        """These rows alone, in this order."""
        further = self.further.take(rows) if self.further is not None else None
        taken: dict[str, Any] = {name: _taken(getattr(self, name), width, rows) for name, width in _WIDTHS.items()}
        return replace(self, count=len(rows), further=further, **taken)

    def with_rows(self, other: "Columns", rows: Sequence[int]) -> "Columns":
        """These rows of other columns behind one's own. What is new of their localities has no weight."""
        places = {(one.priority, one.locality): index for index, one in enumerate(self.localities)}
        entries, names = list(self.localities), list(self.names)
        address, locality = bytearray(self.address), bytearray(self.locality)
        for row in rows:
            entry = other.entry(row)
            place = places.setdefault((entry.priority, entry.locality), len(entries))
            if place == len(entries):
                entries.append(replace(entry, weight=None))
            locality += place.to_bytes(2, byteorder)
            packed = other.packed(row)
            if other.family[row] == _UNIX:
                names.append(packed)
                packed = _name_bytes(len(names) - 1)
            address += packed
        same = ("family", "port", "weight", "health", "priority", "flags")
        joined: dict[str, Any] = {
            name: getattr(self, name) + _taken(getattr(other, name), _WIDTHS[name], rows) for name in same
        }
        return Columns(
            self.count + len(rows),
            address=bytes(address),
            locality=bytes(locality),
            localities=tuple(entries),
            names=tuple(names),
            further=self._further_with(other, rows),
            **joined,
        )

    def _further_with(self, other: "Columns", rows: Sequence[int]) -> Further | None:
        if self.further is None and other.further is None:
            return None
        own = [self.further_of(row) for row in range(self.count)]
        return further_of(own + [other.further_of(row) for row in rows])


class EndpointRow(NamedTuple):
    """One endpoint on its way into Columns. ``address``: network order, or the path of a Unix socket."""

    family: Family
    address: bytes
    port: int = 0
    weight: int = 1
    health: int = Health.UNKNOWN
    priority: int = 0
    locality: Locality = Locality()
    flags: int = 0
    further: tuple[Place, ...] = ()


def host_text(packed: bytes, family: int) -> str:
    """What `Columns.packed` gives as text, as Envoy writes it; of a path what is no UTF-8 as surrogates."""
    if family == _UNIX:
        return packed.decode("utf-8", "surrogateescape")
    return inet_ntop(AF_INET, packed[:4]) if family == _IPV4 else inet_ntop(AF_INET6, packed)


def columns_of(rows: Iterable[EndpointRow], localities: Sequence[LocalityEntry] = ()) -> Columns:
    """The buffers of these endpoints; what is not among ``localities`` comes behind them, without a weight.

    Raises OverflowError for a number that does not fit into its column.
    """
    entries = list(localities)
    places = {(one.priority, one.locality): index for index, one in enumerate(entries)}
    names: dict[bytes, int] = {}
    further = []
    buffers = {name: bytearray() for name in _WIDTHS}
    for row in rows:
        place = places.setdefault((row.priority, row.locality), len(entries))
        if place == len(entries):
            entries.append(LocalityEntry(row.locality, row.priority, None))
        packed = row.address
        if row.family == _UNIX:
            packed = _name_bytes(names.setdefault(packed, len(names)))
        numbers = {
            "family": row.family, "port": row.port, "weight": row.weight, "health": row.health,
            "priority": row.priority, "locality": place, "flags": row.flags,
        }  # fmt: skip
        for name, number in numbers.items():
            buffers[name] += int(number).to_bytes(_WIDTHS[name], byteorder)
        buffers["address"] += packed.ljust(_ADDRESS, b"\0")
        further.append(row.further)
    columns: dict[str, Any] = {name: bytes(buffer) for name, buffer in buffers.items()}
    columns["further"] = further_of(further)
    return Columns(len(buffers["family"]), localities=tuple(entries), names=tuple(names), **columns)


# Columns that say where endpoints are.
_PLACE = ("family", "address", "port", "names")
# Bytes of a row.
_ADDRESS = 16
_WIDTHS = {
    "family": 1, "address": _ADDRESS, "port": 2, "weight": 4, "health": 1, "priority": 1, "locality": 2, "flags": 1,
}  # fmt: skip


def _name_bytes(number: int) -> bytes:
    """What stands for a name in ``address``."""
    return number.to_bytes(4, byteorder).ljust(_ADDRESS, b"\0")


def _taken(column: bytes, width: int, rows: Sequence[int]) -> bytes:
    return b"".join(column[width * row : width * (row + 1)] for row in rows)
