"""Columns of plain endpoints: what tests and benches of the fast path compile."""

from collections.abc import Mapping, Sequence
from ipaddress import ip_address

from eastgate.xds.columns import Columns, EndpointRow, Family, Locality, LocalityEntry, columns_of

from .oracle.shares import Endpoint, LocalityName


def columns(
    endpoints: Sequence[Endpoint], locality_weights: Mapping[tuple[int, LocalityName], int | None] | None = None
) -> Columns:
    """Columns of `endpoints` in their order; addresses are host:port, [host]:port or unix:path."""
    weights = locality_weights or {}
    places = dict.fromkeys((endpoint.priority, endpoint.locality) for endpoint in endpoints)
    entries = [LocalityEntry(Locality(*name), p, weights.get((p, name))) for p, name in places]
    return columns_of(map(_row, endpoints), entries)


def _row(endpoint: Endpoint) -> EndpointRow:
    family, port = Family.UNIX, 0
    if endpoint.address.startswith("unix:"):
        address = endpoint.address.removeprefix("unix:").encode()
    else:
        host, _, digits = endpoint.address.rpartition(":")
        address, port = ip_address(host.strip("[]")).packed, int(digits)
        family = Family.IPV4 if len(address) == 4 else Family.IPV6
    return EndpointRow(
        family, address, port, endpoint.weight, endpoint.eds_health, endpoint.priority, Locality(*endpoint.locality)
    )


def failed(endpoints: Sequence[Endpoint]) -> bytes:
    """The `failed` argument of compile."""
    return bytes(e.failed for e in endpoints)
