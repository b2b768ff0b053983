"""Where connections went so far, by priority and locality, as a proxy counted them of the endpoints it has now."""

from collections.abc import Iterable

from eastgate.xds.record import record

from .cluster_model import Endpoint


@record
class SoFar:
    """``connects``: attempts, of which ``failures`` failed; ``share`` of the attempts of the cluster, 0 to 1."""

    priority: int
    locality: str
    connects: int
    failures: int
    share: float


def so_far(endpoints: Iterable[Endpoint]) -> tuple[SoFar, ...]:
    """In order of priorities; nothing where nobody has connected, or the dump does not say. An address counts once."""
    places: dict[tuple[int, str], list[int]] = {}
    seen: set[str] = set()
    for one in endpoints:
        if one.address in seen:
            continue
        seen.add(one.address)
        counted = places.setdefault((one.priority, str(one.locality)), [0, 0])
        counted[0] += one.connects
        counted[1] += one.connect_failures
    total = sum(connects for connects, _ in places.values())
    if not total:
        return ()
    return tuple(
        SoFar(priority, locality, connects, failures, connects / total)
        for (priority, locality), (connects, failures) in sorted(places.items())
    )
