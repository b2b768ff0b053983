"""Explain a cluster's shares: who gets how much, by which arithmetic, and why somebody gets nothing. Prints nothing.

Every load, availability and share is read off the ClusterTable that a proxy would pick from; the sentences put the
model's counts beside those numbers. Worked example, P0 with 1 of 2 healthy and P1 with 1 of 1:
    P0: 1 of 2 healthy: 140 % x 1 / 2 = 70 % available; takes 70 %
    P1: 1 of 1 healthy: 140 % x 1 / 1, at most 100: 100 % available; of the 30 % left over it takes 30 %
"""

from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

from eastgate.fastpath.tables.priority_load import PriorityLoads, classify_health, effective_locality_weight
from eastgate.xds.record import record
from eastgate.xds.resources import Locality

from .cluster_model import HEALTH_NAMES, ClusterModel, CompiledModel, Endpoint, describe_localities


class EndpointShare(NamedTuple):
    """``share`` of the cluster's new connections, 0 to 1; ``reason`` says why it is 0, or why it is not although the
    endpoint is not healthy; ``weight_factor``: what slow start leaves of its weight at this moment;
    ``additional_addresses``: its addresses beside the first one."""

    address: str
    priority: int
    locality: str
    weight: int
    health: str
    share: float
    reason: str
    weight_factor: float = 1.0
    additional_addresses: tuple[str, ...] = ()


@record
class PriorityShare:
    """One priority. ``load_percent`` of picks go to it; ``arithmetic`` says how that comes about."""

    priority: int
    healthy: int
    total: int
    degraded: int
    draining: int
    availability_percent: int
    load_percent: int
    panic: bool
    localities: str
    gateways: tuple[str, ...]
    arithmetic: tuple[str, ...]


@record
class LocalityShare:
    """One (priority, locality) of a cluster that weighs its localities."""

    priority: int
    locality: str
    weight: int
    healthy: int
    total: int
    share: float
    arithmetic: str


@record
class Explanation:
    """``notes`` qualify all numbers, as "at equal load" does. ``refused``: no pick finds an endpoint;
    ``refused_share``: part of picks that find none.
    """

    cluster: str
    policy: str
    overprovisioning_factor: int
    panic_threshold: int
    locality_weighted: bool
    refused: bool
    refused_share: float
    priorities: tuple[PriorityShare, ...]
    localities: tuple[LocalityShare, ...]
    endpoints: tuple[EndpointShare, ...]
    notes: tuple[str, ...]


def explain(compiled: CompiledModel) -> Explanation:
    """Explain a compiled cluster."""
    model, shares = compiled.model, compiled.table.shares()
    refused = not compiled.picks()
    priorities = explain_priorities(compiled, refused=refused)
    return Explanation(
        cluster=model.name,
        policy=model.policy,
        overprovisioning_factor=model.overprovisioning_factor,
        panic_threshold=model.panic_threshold,
        locality_weighted=model.locality_weighted,
        refused=refused,
        refused_share=1.0 if refused else compiled.table.refused,
        priorities=priorities,
        localities=explain_localities(compiled, shares, priorities),
        endpoints=explain_endpoints(compiled, shares, priorities, refused=refused),
        notes=(*notes_of(model, compiled.table.refused), *zone_notes(compiled, shares)),
    )


def notes_of(model: ClusterModel, refused: float) -> list[str]:
    notes = []
    if refused and model.fail_on_panic:
        notes.append(
            f"fail_traffic_on_panic: {refused:.0%} of all connections are refused while their priority is in panic"
        )
    if model.warming:
        notes.append("warming: connections are refused until its endpoints have arrived; shares are those from then on")
    if model.resolves_names and not all(endpoint.is_address for endpoint in model.endpoints):
        notes.append(
            f"{model.type}: each name counts as one endpoint here; the running proxy has one per address (/clusters)"
        )
    if model.subset_fallback:
        notes.append(
            "lb_subset_config: shares are those of connections without metadata_match; others get a subset's endpoints"
        )
    if model.slow_start_ms:
        new = sum(endpoint.weight_factor != 1.0 for endpoint in model.endpoints)
        notes.append(
            f"slow start, window {model.slow_start_ms / 1000:g} s: shares are those of this moment, with"
            f" {new} endpoint{'s' if new != 1 else ''} in it"
            if new
            else f"slow start, window {model.slow_start_ms / 1000:g} s: shares are those with nobody in it"
        )
    if model.policy == "LEAST_REQUEST":
        notes.append("LEAST_REQUEST: shares hold at equal load; a busier endpoint gets fewer new connections")
    if model.hashes:
        table = "ring" if model.policy == "RING_HASH" else "table"
        notes.append(
            f"{model.policy}: shares are parts of all hashes, read off the {table}; where tcp_proxy hashes source"
            " addresses a client keeps its endpoint, other connections get random hashes"
        )
        if model.hashing is not None and model.hashing.balance_factor:
            notes.append(
                f"hash_balance_factor {model.hashing.balance_factor} %: an endpoint that holds more than its part of"
                " the connections is passed over; shares are those while nobody does"
            )
    if model.policy == "RANDOM":
        notes.append("RANDOM: weights of endpoints count nowhere, only those of localities")
    if model.weighted_priority_health:
        notes.append("weighted_priority_health: availability counts weights, not endpoints")
    for endpoint in model.gateways():
        if endpoint.weight > 1:
            notes.append(
                f"{endpoint.address} is a gateway of weight {endpoint.weight}: pods behind it that are not ready still"
                " count in that weight, and their health is not known here"
            )
            break
    return notes


def zone_notes(compiled: CompiledModel, shares: Sequence[float]) -> list[str]:
    """What zone-aware routing does; nothing where there is no local cluster."""
    model, own = compiled.model, compiled.model.own_locality
    if model.census is None:
        return []
    if not compiled.table.zoned:
        return [
            "zone-aware routing does nothing here: it takes two localities of P0 and of the local cluster, endpoints of"
            f" the local cluster where this proxy runs ({own or 'not known'}), and"
            f" {model.zone_aware.min_cluster_size} healthy endpoints at P0"
        ]
    rows = [(one, share) for one, share in zip(model.endpoints, shares, strict=True) if one.priority == 0]
    whole = sum(share for _, share in rows)
    here = sum(share for one, share in rows if one.locality == own)
    notes = [f"zone-aware routing: {here / whole if whole else 0:.1%} of P0's connections stay in {own}"]
    if compiled.table.refused and not model.fail_on_panic:
        notes.append(f"{compiled.table.refused:.1%} of all connections find nobody in the zone that is drawn for them")
    return notes


def explain_priorities(compiled: CompiledModel, *, refused: bool) -> tuple[PriorityShare, ...]:
    """All priorities of the table, from its own counts and loads."""
    model = compiled.model
    members: dict[int, list[Endpoint]] = {}
    for row, endpoint in enumerate(model.endpoints):
        if compiled.first_of[row] == row:
            members.setdefault(endpoint.priority, []).append(endpoint)
    found: list[PriorityShare] = []
    table = compiled.table.priorities()
    loads = compiled.loads()
    available = availability_of(compiled)
    together = sum(map(sum, available))
    taken = 0
    for priority, (total, healthy, degraded, excluded, load, degraded_load, availability, panic) in enumerate(table):
        if panic and load + degraded_load and compiled.table.refused:
            text = (
                f"panic: too few are healthy here and elsewhere, so {load + degraded_load} % of all connections are"
                " refused (fail_traffic_on_panic)"
            )
        elif refused:
            text = "nobody to pick: connections are refused"
        elif loads[priority] != load + degraded_load:
            text = "what each could take is cut to 0 %: its healthy endpoints take everything"
        elif panic and load + degraded_load:
            text = (
                f"panic: too few are healthy here and elsewhere, so {load + degraded_load} % go to all {total},"
                " whatever their health"
            )
        else:
            text = load_text(load, degraded_load, available[priority], taken=taken, together=together)
        if model.hashes and degraded_load and not refused and not panic:
            who = "its healthy ones take that too" if healthy else "nobody takes that: those connections are refused"
            text += f"; {model.policy} never uses degraded endpoints: {who}"
        found.append(
            PriorityShare(
                priority=priority,
                healthy=healthy,
                total=total,
                degraded=degraded,
                draining=excluded,
                availability_percent=availability,
                load_percent=loads[priority],
                panic=panic,
                localities=describe_localities([one.locality for one in members.get(priority, ())]),
                gateways=tuple(
                    dict.fromkeys(one.address for one in members.get(priority, ()) if model.is_gateway(one))
                ),
                arithmetic=(
                    availability_text(model, total, healthy, degraded, excluded, available[priority]),
                    text,
                ),
            )
        )
        taken += load
    return tuple(found)


def availability_of(compiled: CompiledModel) -> list[tuple[int, int]]:
    """Percent that the healthy and the degraded endpoints of each priority could take, by the arithmetic that the table
    is compiled with: the table itself shows only both together."""
    model = compiled.model
    table = compiled.table.priorities()
    weights = [Counter[str]() for _ in table]
    if model.weighted_priority_health:
        for row, kind in enumerate(row_classes(compiled)):
            if compiled.first_of[row] == row:
                endpoint = model.endpoints[row]
                weights[endpoint.priority][kind] += max(1, endpoint.weight)
    loads = PriorityLoads(panic_threshold=model.panic_threshold)
    for priority, (total, healthy, degraded, excluded, *_) in enumerate(table):
        by_kind = weights[priority]
        sums = by_kind.total(), by_kind["healthy"], by_kind["degraded"], by_kind["excluded"]
        loads.update(
            priority,
            hosts=total,
            healthy=healthy,
            degraded=degraded,
            excluded=excluded,
            overprovisioning_factor=model.overprovisioning_factor,
            weights=sums if model.weighted_priority_health else None,
        )
    return list(loads.availability)


def availability_text(
    model: ClusterModel, total: int, healthy: int, degraded: int, excluded: int, available: tuple[int, int]
) -> str:
    """How much its healthy endpoints could take, and its degraded ones in reserve."""
    if total == 0:
        return "no endpoints: 0 % available"
    counted = total - excluded

    def formula(part: int, percent: int) -> str:
        if counted == 0:
            return f"{percent} %"
        kept = "their part of the weight" if model.weighted_priority_health else f"{part} / {counted}"
        text = f"{model.overprovisioning_factor} % x {kept}"
        return f"{text}, at most 100: 100 %" if percent == 100 else f"{text} = {percent} %"

    draining = f", {excluded} draining and not counted" if excluded else ""
    text = f"{healthy} of {counted} healthy{draining}: {formula(healthy, available[0])} available"
    return f"{text}, and {degraded} degraded: {formula(degraded, available[1])} in reserve" if degraded else text


def load_text(load: int, degraded_load: int, available: tuple[int, int], *, taken: int, together: int) -> str:
    """How a priority's load follows from what all could take.

    `taken` is what the healthy endpoints of the priorities before it have; `together` what all priorities could take.
    """
    if load == 0 and degraded_load == 0:
        if available == (0, 0):
            return "takes nothing"
        return "takes nothing: others carry 100 %" if taken < 100 else "takes nothing: those before it carry 100 %"
    parts = []
    if together < 100:
        parts.append(f"all priorities together have {together} %, scaled to 100: takes {load} %")
    elif taken == 0 or load == 0:
        parts.append(f"takes {load} %")
    else:
        parts.append(f"of the {100 - taken} % left over it takes {load} %")
    if degraded_load:
        parts.append(f"{degraded_load} % more on degraded endpoints, which the healthy of all priorities leave over")
    return "; ".join(parts)


def row_classes(compiled: CompiledModel) -> list[str]:
    """healthy, degraded, unhealthy or excluded by row, as the table classes them."""
    known: dict[tuple[int, int], str] = {}
    classes = []
    for key in zip(compiled.columns.health, compiled.failed, strict=True):
        if key not in known:
            kind, excluded = classify_health(key[0], failed=bool(key[1]))
            known[key] = "excluded" if excluded else kind
        classes.append(known[key])
    return classes


def explain_localities(
    compiled: CompiledModel, shares: Sequence[float], priorities: Sequence[PriorityShare]
) -> tuple[LocalityShare, ...]:
    """Localities that have endpoints, when the cluster weighs them."""
    model = compiled.model
    if not model.locality_weighted:
        return ()
    weights = locality_weights(model)
    sums: dict[tuple[int, Locality], float] = {}
    counts: dict[tuple[int, Locality], Counter[str]] = {}
    for row, (endpoint, kind) in enumerate(zip(model.endpoints, row_classes(compiled), strict=True)):
        if compiled.first_of[row] == row:
            place = endpoint.priority, endpoint.locality
            sums[place] = sums.get(place, 0.0) + shares[row]
            counts.setdefault(place, Counter())[kind] += 1
    found = []
    for place, share in sorted(sums.items(), key=lambda item: item[0][0]):
        priority, locality = place
        count, weight = counts[place], weights.get(place, 0)
        total, counted = count.total(), count.total() - count["excluded"]
        effective = effective_locality_weight(
            weight,
            eligible=count["healthy"],
            total=total,
            excluded=count["excluded"],
            overprovisioning_factor=model.overprovisioning_factor,
        )
        part = f"min(1, {model.overprovisioning_factor} % x {count['healthy']} / {counted})" if counted else "0"
        text = f"weight {weight} x {part} = {effective:g}"
        if model.hashes:
            whole = sum(weights.get(one, 0) for one in counts if one[0] == priority)
            usable = total if priorities[priority].panic else count["healthy"]
            lost = "" if usable else ", and nobody to take it: the others of the priority do"
            text = f"weight {weight} of {whole}, whatever its health{lost}"
        elif priorities[priority].panic:
            text = f"weight {weight}, ignored in panic"
        found.append(LocalityShare(priority, str(locality), weight, count["healthy"], total, share, text))
    return tuple(found)


def locality_weights(model: ClusterModel) -> dict[tuple[int, Locality], int]:
    """Weight by place; 0 where the assignment gives none."""
    return {(entry.priority, entry.locality): entry.weight or 0 for entry in model.localities}


def explain_endpoints(
    compiled: CompiledModel, shares: Sequence[float], priorities: Sequence[PriorityShare], *, refused: bool
) -> tuple[EndpointShare, ...]:
    """All endpoints in message order, duplicates included."""
    model = compiled.model
    weights = locality_weights(model)
    classes = row_classes(compiled)
    names: dict[Locality, str] = {}
    found = []
    for row, (endpoint, share, kind) in enumerate(zip(model.endpoints, shares, classes, strict=True)):
        locality = names.get(endpoint.locality)
        if locality is None:
            locality = names[endpoint.locality] = str(endpoint.locality)
        if compiled.first_of[row] != row:
            first = model.endpoints[compiled.first_of[row]]
            where = f"P{first.priority} {first.locality}".rstrip()
            reason = f"repeats the address of an endpoint at {where}: only the first counts"
        elif share > 0:
            reason = "panic: health is ignored" if kind != "healthy" and priorities[endpoint.priority].panic else ""
            if kind == "healthy" and endpoint.weight_factor != 1.0:
                reason = f"slow start: {endpoint.weight_factor:.1%} of its weight"
        else:
            reason = zero_reason(
                endpoint,
                kind,
                priorities,
                refused=refused,
                policy=model.policy,
                weightless=model.locality_weighted and not weights.get((endpoint.priority, endpoint.locality)),
                zoned=compiled.table.zoned and endpoint.priority == 0,
            )
        state = displayed_state(compiled, row, endpoint)
        factor = endpoint.weight_factor if kind == "healthy" else 1.0
        place = (endpoint.address, endpoint.priority, locality, endpoint.weight)
        found.append(EndpointShare(*place, state, share, reason, factor, endpoint.further))
    return tuple(found)


def displayed_state(compiled: CompiledModel, row: int, endpoint: Endpoint) -> str:
    """Health of the compiled row, which what-if may have changed."""
    if endpoint.failed:
        return endpoint.state
    return HEALTH_NAMES[compiled.columns.health[row]]


REASONS = {"outlier": "ejected by outlier detection", "active check": "fails its active health check"}


def zero_reason(
    endpoint: Endpoint,
    kind: str,
    priorities: Sequence[PriorityShare],
    *,
    refused: bool,
    weightless: bool,
    zoned: bool,
    policy: str,
) -> str:
    """Why an endpoint that is no duplicate gets nothing."""
    if kind == "excluded":
        return "draining"
    if kind == "unhealthy":
        return REASONS.get(endpoint.failed, "unhealthy")
    if refused:
        return "connections are refused"
    priority = priorities[endpoint.priority]
    if priority.load_percent == 0:
        return f"P{endpoint.priority} has no load"
    if weightless:
        return "its locality has no weight"
    if kind == "degraded":
        hashes = policy in ("RING_HASH", "MAGLEV")
        return f"degraded: never used by {policy}" if hashes else "degraded: the healthy ones suffice"
    if zoned:
        return "zone-aware routing sends nothing to its zone"
    if policy == "RANDOM":
        return "no draw that leads to its priority leads to its place in the list"
    return "its part of the weight is nothing"
