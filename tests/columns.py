"""Build columns from plain endpoints: what tests and benches of the fast path compile."""

from array import array
from collections.abc import Mapping, Sequence
from ipaddress import ip_address

from eastgate.xds.columns import Columns, Locality, LocalityEntry

from .oracle.shares import Endpoint, LocalityName


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
        flags=bytes(len(endpoints)),
        localities=tuple(LocalityEntry(Locality(*name), p, weights.get((p, name))) for p, name in places),
        names=tuple(names),
    )


def failed(endpoints: Sequence[Endpoint]) -> bytes:
    """The `failed` argument of compile."""
    return bytes(e.failed for e in endpoints)
