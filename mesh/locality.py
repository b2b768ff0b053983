"""Locality load balancing as istiod computes it: weights by `distribute`, priorities by `failover` and by labels.

Pure functions over the localities of one service; knows nothing of xDS. Source of the rules: istio,
pilot/pkg/networking/core/loadbalancer. A proxy does not repeat this; it honours the priorities and weights it gets.

Worked example (proxy in r1/z1/s1, failover r1 -> r2): localities r1/z1/s1, r1/z1/s2, r1/z2, r2, r3 have the raw
distances 0 (all equal), 1 (sub zone differs), 2 (zone differs), 3 (other region), 4 (a region that the rule does not
name). Distinct values are replaced by their rank, so a missing step leaves no gap.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from eastgate.xds.resources import Locality

NETWORK_LABEL = "topology.istio.io/network"
LOCALITY_LABELS = ("topology.istio.io/locality", "istio-locality")


@dataclass(frozen=True, slots=True)
class Candidate:
    """One endpoint as locality load balancing sees it: its weight and the labels that failoverPriority compares."""

    weight: int
    labels: Mapping[str, str]
    endpoint: object


@dataclass(frozen=True, slots=True)
class Group:
    """Endpoints of one locality that share a priority. ``weight`` None: unset (an empty group has none)."""

    locality: Locality
    candidates: tuple[Candidate, ...]
    weight: int | None
    priority: int = 0

    @classmethod
    def of(cls, locality: Locality, candidates: Iterable[Candidate]) -> "Group":
        """Candidates of one locality; the group weighs what they weigh together."""
        members = tuple(candidates)
        return cls(locality, members, sum(one.weight for one in members) if members else None)


@dataclass(frozen=True, slots=True)
class LocalitySetting:
    """localityLbSetting of a DestinationRule or of the mesh, or what a service's trafficDistribution stands for.

    ``failover_priority`` None: not set (an empty tuple is set). ``forced``: failover works without outlier detection.
    """

    distribute: tuple[tuple[str, Mapping[str, int]], ...] = ()
    failover: tuple[tuple[str, str], ...] = ()
    failover_priority: tuple[str, ...] = ()
    zone_aware: bool = False
    forced: bool = False


def parse_locality(text: str) -> Locality:
    """Region, zone and sub zone of "r/z/s"; missing parts are empty."""
    parts = [*text.split("/", 2), "", "", ""]
    return Locality(*parts[:3])


def locality_label(labels: Mapping[str, str]) -> str:
    """What a label says of where its pod is, as "region/zone/subzone"; empty: no label says it."""
    text = next((labels[label] for label in LOCALITY_LABELS if labels.get(label)), "")
    # A label's value may not hold slashes.
    return text if "/" in text else text.replace(".", "/")


def matches(locality: Locality, pattern: str) -> bool:
    """Whether a `from` or `to` pattern ("r/z/*", "r", "*") covers the locality; a missing part covers everything."""
    wanted = parse_locality(pattern)
    if wanted.region not in ("*", locality.region):
        return False
    return all(part in ("", "*", own) for part, own in zip(wanted[1:], locality[1:], strict=True))


def _ranked(values: Sequence[int]) -> list[int]:
    rank = {value: index for index, value in enumerate(sorted(set(values)))}
    return [rank[value] for value in values]


def distribute(
    groups: Sequence[Group], proxy: Locality, rules: Iterable[tuple[str, Mapping[str, int]]]
) -> tuple[Group, ...]:
    """Set weights by the first rule whose `from` covers the proxy; groups that no `to` covers lose their endpoints.

    Within one `to` of weight W the groups share it by their own weights, each rounded up: r1/z1/s1 w40 and r1/z1/s2 w20
    at {r1/z1/*: 50} get 34 and 17.
    """
    to = next((targets for origin, targets in rules if matches(proxy, origin)), None)
    if to is None:
        return tuple(groups)
    weights: dict[int, int] = {}
    for pattern, percent in to.items():
        taken = [i for i, group in enumerate(groups) if i not in weights and matches(group.locality, pattern)]
        total = sum(groups[i].weight or 1 for i in taken)
        for i in taken:
            weights[i] = -(-(groups[i].weight or 1) * percent // total)
    return tuple(
        replace(group, weight=weights[i]) if i in weights else replace(group, candidates=())
        for i, group in enumerate(groups)
    )


def _distance(locality: Locality, proxy: Locality, rules: Iterable[tuple[str, str]]) -> int:
    if locality.region == proxy.region:
        if locality.zone != proxy.zone:
            return 2
        return 0 if locality.sub_zone == proxy.sub_zone else 1
    # Only the first rule of the proxy's region counts.
    target = next((to for origin, to in rules if origin == proxy.region), None)
    return 3 if target is None or target == locality.region else 4


def failover(groups: Sequence[Group], proxy: Locality, rules: Sequence[tuple[str, str]]) -> tuple[Group, ...]:
    """Priorities by distance from the proxy; within equal distance the priorities that the groups already have."""
    values = [5 * group.priority + _distance(group.locality, proxy, rules) for group in groups]
    return tuple(replace(group, priority=rank) for group, rank in zip(groups, _ranked(values), strict=True))


def zone_aware(groups: Sequence[Group], proxy: Locality, rules: Sequence[tuple[str, str]]) -> tuple[Group, ...]:
    """Priorities by region alone: own region, region of the failover rule, any other. Zones are left to the proxy."""
    values = []
    for group in groups:
        raw = max(0, _distance(group.locality, proxy, rules) - 2)
        values.append(3 * group.priority + (raw if group.locality.region != proxy.region else 0))
    return tuple(replace(group, priority=rank) for group, rank in zip(groups, _ranked(values), strict=True))


def _overrides(keys: Sequence[str]) -> dict[str, str]:
    """Value by label, of every `label=value` among the keys: it counts for each key of that label; the last one wins.

    istiod takes a key with more than one "=" for its label alone (priorityLabelOverrides).
    """
    parts = (entry.split("=") for entry in keys)
    return {words[0]: words[1] for words in parts if len(words) == 2}


def _label_mismatch(labels: Mapping[str, str], proxy_labels: Mapping[str, str], keys: Sequence[str]) -> int:
    """0 when all labels agree, else the number of labels from the first disagreement on.

    A mismatch of the network as first label adds the number of labels and goes on, so that the rest still orders
    endpoints of other networks. A label that both lack agrees; `key=value` compares with the value.
    """
    remote = 0
    overrides = _overrides(keys)
    for index, entry in enumerate(keys):
        key = entry.partition("=")[0]
        wanted = overrides.get(key, proxy_labels.get(key, ""))
        if labels.get(key, "") == wanted:
            continue
        if index == 0 and entry == NETWORK_LABEL:
            remote = len(keys)
            continue
        return remote + len(keys) - index
    return remote


def failover_priority(
    groups: Sequence[Group], proxy_labels: Mapping[str, str], keys: Sequence[str]
) -> tuple[Group, ...]:
    """Split each group by how far its endpoints' labels agree with the proxy's.

    Priorities are compacted over all groups. Without proxy labels nothing changes.
    """
    if not proxy_labels:
        return tuple(groups)
    split: list[Group] = []
    for group in groups:
        by_raw: dict[int, list[Candidate]] = {}
        for candidate in group.candidates:
            by_raw.setdefault(_label_mismatch(candidate.labels, proxy_labels, keys), []).append(candidate)
        if not by_raw:
            split.append(group)
        for raw in sorted(by_raw):
            members = tuple(by_raw[raw])
            split.append(Group(group.locality, members, sum(c.weight for c in members), raw))
    ranks = iter(_ranked([group.priority for group in split if group.candidates]))
    return tuple(replace(group, priority=next(ranks)) if group.candidates else group for group in split)


def apply(
    groups: Sequence[Group],
    proxy: Locality,
    proxy_labels: Mapping[str, str],
    setting: LocalitySetting | None,
    *,
    outlier_detection: bool,
) -> tuple[Group, ...]:
    """What istiod sends for one cluster to one proxy.

    `distribute` excludes failover. Failover works only with outlier detection in the DestinationRule, or forced.
    """
    if setting is None:
        return tuple(groups)
    if setting.zone_aware:
        if setting.failover_priority:
            groups = failover_priority(groups, proxy_labels, setting.failover_priority)
        return zone_aware(groups, proxy, setting.failover)
    if setting.distribute:
        return distribute(groups, proxy, setting.distribute)
    if not (outlier_detection or setting.forced):
        return tuple(groups)
    if not setting.failover_priority:
        return failover(groups, proxy, setting.failover)
    prioritised = failover_priority(groups, proxy_labels, setting.failover_priority)
    return failover(prioritised, proxy, setting.failover) if setting.failover else prioritised
