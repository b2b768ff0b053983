"""Build columns from plain endpoints: what tests and benches of the fast path compile."""

from array import array
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from ipaddress import ip_address

from .oracle.shares import Endpoint, LocalityName


@dataclass(frozen=True)
class LocalityEntry:
    """A (priority, locality) of an assignment."""

    locality: LocalityName
    priority: int
    weight: int | None


@dataclass(frozen=True)
class Columns:
    """The buffers that ClusterTable.compile reads."""

    count: int
    family: bytes
    address: bytes
    port: bytes
    weight: bytes
    health: bytes
    priority: bytes
    locality: bytes
    localities: tuple[LocalityEntry, ...]
    names: tuple[bytes, ...] = ()


def columns(
    endpoints: Sequence[Endpoint], locality_weights: Mapping[tuple[int, LocalityName], int | None] | None = None
) -> Columns:
    """Columns of `endpoints` in their order; addresses are host:port, [host]:port or unix:path."""
    weights = locality_weights or {}
    places: dict[tuple[int, LocalityName], int] = {}
    names: dict[bytes, int] = {}
    family, address, port = bytearray(), bytearray(), array("H")
    for endpoint in endpoints:
        places.setdefault((endpoint.priority, endpoint.locality), len(places))
        if endpoint.address.startswith("unix:"):
            number = names.setdefault(endpoint.address.removeprefix("unix:").encode(), len(names))
            family.append(1)
            address += array("I", [number]).tobytes() + bytes(12)
            port.append(0)
            continue
        host, _, number_text = endpoint.address.rpartition(":")
        packed = ip_address(host.strip("[]")).packed
        family.append(4 if len(packed) == 4 else 6)
        address += packed.ljust(16, b"\0")
        port.append(int(number_text))
    return Columns(
        count=len(endpoints),
        family=bytes(family),
        address=bytes(address),
        port=port.tobytes(),
        weight=array("I", [e.weight for e in endpoints]).tobytes(),
        health=bytes(e.eds_health for e in endpoints),
        priority=bytes(e.priority for e in endpoints),
        locality=array("H", [places[e.priority, e.locality] for e in endpoints]).tobytes(),
        localities=tuple(LocalityEntry(name, p, weights.get((p, name))) for p, name in places),
        names=tuple(names),
    )


def failed(endpoints: Sequence[Endpoint]) -> bytes:
    """The `failed` argument of compile."""
    return bytes(e.failed for e in endpoints)
