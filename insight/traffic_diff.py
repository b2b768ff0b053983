"""What the step from one configuration to another does to traffic, in shares. Reads no files and prints nothing.

Shares are those of the tables that both sides compile into. A cluster's `moved` is the part of its new connections that
go elsewhere afterwards: half the sum of all differences. With two endpoints at 50 % each, and one of them gone:
    A 50 % -> 100 %, B 50 % -> 0 %: (50 + 50) / 2 = 50 points move.
"""

from collections.abc import Iterator, Mapping, Sequence

from eastgate.xds.record import record
from eastgate.xds.resources import Locality

from .cluster_model import ChainModel, ClusterModel, Endpoint, ProxyModel, compile_model

# Below this a share has not changed: what two compilations of equal weights may differ by.
LEAST = 1e-9
# Endpoints and listed things that a sentence names.
NAMED = 3
SETTINGS = (
    "type",
    "policy",
    "overprovisioning_factor",
    "panic_threshold",
    "fail_on_panic",
    "slow_start_ms",
    "locality_weighted",
    "choice_count",
)


@record
class EndpointChange:
    """One address. ``before`` and ``after`` are shares of 0 to 1, None where it is not in that configuration, or where
    there are no shares to know. ``facts``: what else is different, as "priority 0 -> 1".
    """

    address: str
    before: float | None
    after: float | None
    present: tuple[bool, bool]
    facts: tuple[str, ...]

    @property
    def points(self) -> float:
        """Percentage points gained."""
        return 100 * ((self.after or 0.0) - (self.before or 0.0))


@record
class ClusterChange:
    """``kind``: added, removed or changed. ``moved`` in percentage points; None where shares are not known.

    ``priorities``: percent of connections by priority, before and after. ``serves``: whether a connection finds an
    endpoint, before and after.
    """

    name: str
    kind: str
    moved: float | None
    endpoints: tuple[EndpointChange, ...]
    settings: tuple[str, ...]
    priorities: tuple[tuple[int, float, float], ...]
    serves: tuple[bool, bool]
    sentence: str


@record
class ChainChange:
    """A filter chain. ``kind``: added, removed or changed; then it leads to other clusters."""

    listener: str
    name: str
    kind: str
    before: tuple[str, ...]
    after: tuple[str, ...]

    @property
    def sentence(self) -> str:
        where = f"listener {self.listener}: chain {self.name or '(any)'}"
        if self.kind == "changed":
            return f"{where} leads to {', '.join(self.after)}, no longer to {', '.join(self.before)}"
        clusters = self.after or self.before
        return f"{where} {self.kind}" + (f", to {', '.join(clusters)}" if clusters else "")


@record
class Difference:
    """Everything that differs, clusters by how much of their traffic moves."""

    clusters: tuple[ClusterChange, ...]
    chains: tuple[ChainChange, ...]


def difference(before: ProxyModel, after: ProxyModel) -> Difference:
    """Compare two configurations, of one proxy at two times or of two proxies."""
    names = sorted({*before.clusters, *after.clusters})
    found = [change_of(name, before.clusters.get(name), after.clusters.get(name)) for name in names]
    changes = sorted(filter(None, found), key=lambda one: (-(one.moved or 0.0), one.name))
    return Difference(tuple(changes), tuple(chain_changes(before.chains, after.chains)))


def change_of(name: str, before: ClusterModel | None, after: ClusterModel | None) -> ClusterChange | None:
    """None when nothing differs."""
    if before is not None and after is not None and same(before, after):
        return None
    old, new = shares_of(before), shares_of(after)
    endpoints = tuple(endpoint_changes(before, after, old, new))
    settings = tuple(setting_changes(before, after))
    kind = "added" if before is None else "removed" if after is None else "changed"
    if kind == "changed" and not endpoints and not settings:
        return None
    known = old is not None and new is not None
    moved = sum(abs(one.points) for one in endpoints) / 2 if known and kind == "changed" else None
    serves = bool(old and any(old.values())), bool(new and any(new.values()))
    if moved is not None and serves[0] != serves[1]:
        # All of it goes, or comes: there is no other side to halve.
        moved *= 2
    priorities = tuple(priority_changes(before, after, old, new)) if known else ()
    change = ClusterChange(name, kind, moved, endpoints, settings, priorities, serves, "")
    return ClusterChange(name, kind, moved, endpoints, settings, priorities, serves, sentence(change))


def same(before: ClusterModel, after: ClusterModel) -> bool:
    return (
        before.endpoints == after.endpoints
        and before.localities == after.localities
        and not any(setting_changes(before, after))
        and before.weighted_priority_health == after.weighted_priority_health
    )


def shares_of(model: ClusterModel | None) -> dict[str, float] | None:
    """Share by address; None where there are none to know. A repeated address counts once, as in the table."""
    if model is None:
        return {}
    shares: Sequence[float | None]
    if model.configured:
        try:
            shares = list(compile_model(model).table.shares()) if model.endpoints else []
        except ValueError:
            return None
    else:
        shares = [endpoint.stated_share for endpoint in model.endpoints]
    found: dict[str, float] = {}
    for endpoint, share in zip(model.endpoints, shares, strict=True):
        if share is None:
            return None
        found[endpoint.address] = found.get(endpoint.address, 0.0) + share
    return found


def by_address(model: ClusterModel | None) -> dict[str, Endpoint]:
    """The first endpoint of each address, which is the one that counts."""
    found: dict[str, Endpoint] = {}
    for endpoint in model.endpoints if model is not None else ():
        found.setdefault(endpoint.address, endpoint)
    return found


def endpoint_changes(
    before: ClusterModel | None,
    after: ClusterModel | None,
    old: Mapping[str, float] | None,
    new: Mapping[str, float] | None,
) -> Iterator[EndpointChange]:
    """Endpoints that came, went, or differ; the largest gain or loss first."""
    was, now = by_address(before), by_address(after)
    found = []
    for address in {**was, **now}:
        one, other = was.get(address), now.get(address)
        facts = tuple(fact_changes(one, other)) if one and other else ()
        share = old.get(address) if old is not None else None
        then = new.get(address) if new is not None else None
        if one is None or other is None or facts or abs((share or 0.0) - (then or 0.0)) > LEAST:
            found.append(EndpointChange(address, share, then, (one is not None, other is not None), facts))
    yield from sorted(found, key=lambda change: (-abs(change.points), change.address))


def fact_changes(before: Endpoint, after: Endpoint) -> Iterator[str]:
    """What decides an endpoint's share, where it differs."""
    pairs = (
        ("priority", before.priority, after.priority),
        ("locality", before.locality, after.locality),
        ("weight", before.weight, after.weight),
        ("health", before.state, after.state),
    )
    return (f"{name} {str(one) or '-'} -> {str(other) or '-'}" for name, one, other in pairs if one != other)


def setting_changes(before: ClusterModel | None, after: ClusterModel | None) -> Iterator[str]:
    """Settings of a cluster, and weights of its localities, that differ."""
    if before is None or after is None:
        return
    for name in SETTINGS:
        one, other = getattr(before, name), getattr(after, name)
        if one != other:
            yield f"{name.replace('_', ' ')} {one} -> {other}"
    if before.warming != after.warming:
        yield "warms: it waits for its endpoints" if after.warming else "no longer warms"
    if before.locality_weighted and after.locality_weighted:
        yield from locality_weight_changes(before, after)


def locality_weight_changes(before: ClusterModel, after: ClusterModel) -> Iterator[str]:
    """Weights of localities that differ. Istio's are the sums of their endpoints: those say nothing of their own."""
    sides = []
    for model in (before, after):
        sums: dict[tuple[int, Locality], int] = {}
        for endpoint in model.endpoints:
            place = endpoint.priority, endpoint.locality
            sums[place] = sums.get(place, 0) + endpoint.weight
        weights = {(entry.priority, entry.locality): entry.weight or 0 for entry in model.localities}
        sides.append((weights, sums))
    (was, summed), (now, summed_now) = sides
    for place in was:
        if place not in now or was[place] == now[place]:
            continue
        if was[place] != summed.get(place, 0) or now[place] != summed_now.get(place, 0):
            where = str(place[1]) or "no locality"
            yield f"weight of {where} at P{place[0]} {was[place] or 'none'} -> {now[place] or 'none'}"


def priority_changes(
    before: ClusterModel | None,
    after: ClusterModel | None,
    old: Mapping[str, float] | None,
    new: Mapping[str, float] | None,
) -> Iterator[tuple[int, float, float]]:
    """(priority, percent before, percent after) of those that differ."""
    sums: list[dict[int, float]] = [{}, {}]
    for side, (model, shares) in enumerate(((before, old), (after, new))):
        for address, endpoint in by_address(model).items():
            sums[side][endpoint.priority] = sums[side].get(endpoint.priority, 0.0) + (shares or {}).get(address, 0.0)
    for priority in sorted({*sums[0], *sums[1]}):
        one, other = sums[0].get(priority, 0.0), sums[1].get(priority, 0.0)
        if abs(one - other) > LEAST:
            yield priority, 100 * one, 100 * other


def chain_changes(before: Sequence[ChainModel], after: Sequence[ChainModel]) -> Iterator[ChainChange]:
    """Chains by listener and name. Where several share a name, all that they lead to counts."""
    was, now = led_to(before), led_to(after)
    for key in sorted({*was, *now}):
        old, new = was.get(key), now.get(key)
        if old != new:
            kind = "added" if old is None else "removed" if new is None else "changed"
            yield ChainChange(*key, kind, old or (), new or ())


def led_to(chains: Sequence[ChainModel]) -> dict[tuple[str, str], tuple[str, ...]]:
    found: dict[tuple[str, str], tuple[str, ...]] = {}
    for chain in chains:
        key = chain.listener, chain.name
        found[key] = tuple(sorted({*found.get(key, ()), *chain.clusters}))
    return found


def percent(share: float | None) -> str:
    """Without digits that say nothing."""
    return "-" if share is None else f"{100 * share:.1f}".removesuffix(".0") + " %"


def listed(parts: Sequence[str]) -> str:
    return "; ".join(parts[:NAMED]) + (f"; and {len(parts) - NAMED} more" if len(parts) > NAMED else "")


def endpoint_text(change: EndpointChange) -> str:
    """One endpoint in a few words."""
    if change.present[0] and change.present[1]:
        facts = f" ({', '.join(change.facts)})" if change.facts else ""
        return f"{change.address} {percent(change.before)} -> {percent(change.after)}{facts}"
    if change.present[1]:
        return f"{change.address} added with {percent(change.after)}"
    return f"{change.address} removed, it had {percent(change.before)}"


def sentence(change: ClusterChange) -> str:
    """What happens to the traffic of a cluster."""
    count = len(change.endpoints)
    noun = f"{count} endpoint{'s' if count != 1 else ''}"
    if change.kind == "added":
        return f"{change.name}: added, with {noun}" + (
            "" if change.serves[1] or not count else ", none of which serves"
        )
    if change.kind == "removed":
        return f"{change.name}: removed, with {noun}"
    parts = []
    if change.serves == (True, False):
        parts.append("no endpoint takes connections any more: all are refused")
    elif change.serves == (False, True):
        parts.append("connections are served again")
    elif change.moved is None:
        parts.append("its shares are not known")
    elif change.moved > 100 * LEAST:
        parts.append(f"{change.moved:.1f} points of its connections move")
    else:
        parts.append("no connection moves")
    if change.priorities and not (len(change.priorities) == 1 and change.serves[0] != change.serves[1]):
        loads = [f"P{number} {percent(one / 100)} -> {percent(two / 100)}" for number, one, two in change.priorities]
        parts.append(", ".join(loads))
    if change.endpoints:
        parts.append(listed([endpoint_text(one) for one in change.endpoints]))
    if change.settings:
        parts.append(listed(change.settings))
    return f"{change.name}: {'; '.join(parts)}"
