"""One address in several entries of an assignment: what Envoy loses, and the cluster as it was meant.

istiod names a gateway once per locality of the pods behind it. Envoy keeps the first entry of an address and drops the
others with their weight, as eastgate does. Worked example: one gateway with weights 12, 15 and 18. Envoy keeps 12 and
33 are lost; added up it is 45. Entries of different priorities each keep the sum of their own priority.
"""

from collections import Counter
from dataclasses import replace

from eastgate.xds.record import record
from eastgate.xds.resources import Locality, LocalityEntry

from .cluster_model import MERGED, ClusterModel, Endpoint


@record
class Duplicate:
    """An address that occurs more than once. ``kept`` of the weights counts, ``lost`` does not."""

    address: str
    entries: tuple[Endpoint, ...]

    @property
    def kept(self) -> int:
        return self.entries[0].weight

    @property
    def lost(self) -> int:
        return sum(endpoint.weight for endpoint in self.entries[1:])


def duplicates_of(model: ClusterModel) -> tuple[Duplicate, ...]:
    """Addresses that occur more than once, in message order."""
    counts = Counter(endpoint.address for endpoint in model.endpoints)
    repeated: dict[str, list[Endpoint]] = {address: [] for address, count in counts.items() if count > 1}
    for endpoint in model.endpoints:
        if endpoint.address in repeated:
            repeated[endpoint.address].append(endpoint)
    return tuple(Duplicate(address, tuple(entries)) for address, entries in repeated.items())


def merged(model: ClusterModel) -> ClusterModel:
    """The cluster with one endpoint per address and priority, its weight the sum of theirs.

    It stays where its first entry is. The weight of the other localities moves there with it, in proportion. A second
    priority of an address becomes an address of its own ("ADDRESS at P1"), as Envoy's rule would drop it.
    """
    weights: Counter[tuple[int, Locality]] = Counter()
    for endpoint in model.endpoints:
        weights[endpoint.priority, endpoint.locality] += endpoint.weight
    entries = {(entry.priority, entry.locality): entry for entry in model.localities}
    moved: dict[tuple[int, Locality], int] = {}
    kept: dict[tuple[str, int], Endpoint] = {}
    seen: dict[str, int] = {}
    for endpoint in model.endpoints:
        first_priority = seen.setdefault(endpoint.address, endpoint.priority)
        key = endpoint.address, endpoint.priority
        if key not in kept:
            name = endpoint.address if endpoint.priority == first_priority else f"{key[0]}{MERGED}{key[1]}"
            kept[key] = endpoint._replace(address=name)
            continue
        first = kept[key]
        kept[key] = first._replace(weight=first.weight + endpoint.weight)
        source, target = (endpoint.priority, endpoint.locality), (first.priority, first.locality)
        entry = entries.get(source)
        if source != target and entry is not None and entry.weight:
            part = round(entry.weight * endpoint.weight / weights[source])
            moved[target] = moved.get(target, 0) + part
            moved[source] = moved.get(source, 0) - part
    localities = tuple(
        LocalityEntry(entry.locality, entry.priority, max(0, (entry.weight or 0) + moved[place]) or None)
        if place in moved
        else entry
        for place, entry in entries.items()
    )
    return replace(model, endpoints=tuple(kept.values()), localities=localities)
