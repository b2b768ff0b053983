"""Which DestinationRule a proxy applies to a service: lookup order, merging, exportTo and workloadSelector of istiod.

Pure functions. Source of the rules: istio, pilot/pkg/model/push_context.go (setDestinationRules, destinationRule),
destination_rule.go (mergeDestinationRule) and sidecar.go (SidecarScope.DestinationRule).

Rules of one namespace for one host are merged: subsets are united, the older one's where a name stands twice, and the
trafficPolicy is that of the oldest rule that has one, whole. A wildcard and an exact host are never merged.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from .istio import DestinationRuleSpec
from .model import DOMAIN, Mesh, Resource, Service

PUBLIC, PRIVATE = "*", "."


def full_host(host: str, namespace: str) -> str:
    """A host of a rule in `namespace` in full: a short service name is one of that namespace."""
    return host if "." in host or host.startswith("*") else f"{host}.{namespace}.svc.{DOMAIN}"


def covers(pattern: str, host: str) -> bool:
    """Whether a host or "*", "*.suffix" covers `host`."""
    if pattern.startswith("*"):
        return host.endswith(pattern[1:])
    return pattern == host


def spec_of(rule: Resource) -> DestinationRuleSpec:
    """The spec of a DestinationRule."""
    assert isinstance(rule.spec, DestinationRuleSpec)
    return rule.spec


def rule_of(
    mesh: Mesh, cluster: str, service: Service, namespace: str, labels: Mapping[str, str] | None = None
) -> Resource | None:
    """The merged DestinationRule that a proxy of `namespace` with `labels` applies to the service, None: none.

    The proxy's namespace is asked first, then the service's, then the root namespace; a proxy of the root namespace
    finds there first only what is exported to nobody else. Whoever is asked and has a rule for the host ends the
    search, also when no workloadSelector of it fits.
    """
    root = mesh.config.root_namespace
    default = frozenset(mesh.config.default_destination_rule_export_to)
    own = [one for one in _covering(mesh, cluster, namespace, service.host) if _is_for_own(one)]
    if namespace == root:
        own = [one for one in own if _is_private(one, default)]
    merged = _most_specific(own, service.host)
    if merged is None:
        for place in (service.namespace, root):
            covering = _covering(mesh, cluster, place, service.host)
            exported = [one for one in covering if not _is_private(one, default)]
            merged = tuple(one for one in _most_specific(exported, service.host) or () if _reaches(one, namespace))
            if merged:
                break
    return _selected(merged or (), namespace, labels or {})


def _covering(mesh: Mesh, cluster: str, namespace: str, host: str) -> list[Resource]:
    """DestinationRules of a namespace whose host covers `host`."""
    by_host = mesh.known(("rules", cluster), lambda: _by_host(mesh.of_kind("DestinationRule", cluster)))
    wild = [
        one for pattern, found in by_host.get((namespace, "*"), {}).items() if covers(pattern, host) for one in found
    ]
    return [*by_host.get((namespace, ""), {}).get(host, ()), *wild]


def _by_host(rules: Iterable[Resource]) -> dict[tuple[str, str], dict[str, list[Resource]]]:
    """Rules by namespace, apart where their host is a wildcard, then by host."""
    found: dict[tuple[str, str], dict[str, list[Resource]]] = {}
    for rule in rules:
        host = full_host(spec_of(rule).host, rule.namespace)
        key = rule.namespace, "*" if host.startswith("*") else ""
        found.setdefault(key, {}).setdefault(host, []).append(rule)
    return found


def exports(rule: Resource) -> frozenset[str]:
    """exportTo of a rule; one with a workloadSelector is never exported."""
    spec = spec_of(rule)
    return frozenset((PRIVATE,)) if spec.workload_selector else frozenset(spec.export_to)


def _is_for_own(rule: Resource) -> bool:
    to = exports(rule)
    return not to or bool(to & {PUBLIC, PRIVATE, rule.namespace})


def _is_private(rule: Resource, default: frozenset[str]) -> bool:
    to = exports(rule)
    return (not to and PRIVATE in default) or (len(to) == 1 and bool(to & {PRIVATE, rule.namespace}))


def _reaches(rule: Resource, namespace: str) -> bool:
    to = exports(rule)
    return not to or bool(to & {PUBLIC, namespace})


def _most_specific(rules: Iterable[Resource], host: str) -> tuple[Resource, ...] | None:
    """The merged rules of the most specific host that covers `host`; several where they could not be merged."""
    by_host: dict[str, list[Resource]] = {}
    for rule in rules:
        by_host.setdefault(full_host(spec_of(rule).host, rule.namespace), []).append(rule)
    found = [pattern for pattern in by_host if covers(pattern, host)]
    if not found:
        return None
    return _merged(by_host[max(found, key=lambda pattern: (not pattern.startswith("*"), len(pattern)))])


@dataclass(slots=True)
class _Entry:
    rule: Resource
    to: frozenset[str]
    labels: Mapping[str, str] | None


def _merged(rules: list[Resource]) -> tuple[Resource, ...]:
    """Rules of one host and namespace, those with a workloadSelector first, then by age, merged where istiod does."""
    ordered = sorted(rules, key=lambda one: (spec_of(one).workload_selector is None, one.created, one.name))
    entries: list[_Entry] = []
    for rule in ordered:
        selector = spec_of(rule).workload_selector
        incoming = _Entry(rule, exports(rule), selector.match_labels if selector else None)
        apart = True
        for entry in entries:
            # What the last entry says counts, as in istiod's loop.
            apart = not _is_alike(entry, incoming)
            if _takes_in(entry, incoming):
                entry.rule = _united(entry.rule, rule)
        if apart:
            entries.append(incoming)
    return tuple(entry.rule for entry in entries)


def _takes_in(entry: _Entry, incoming: _Entry) -> bool:
    """Whether a younger rule is merged into an entry: it is exported as far, and to whom both select."""
    if incoming.to != entry.to and not (entry.to and incoming.to >= entry.to):
        return False
    return incoming.labels is None or entry.labels is None or incoming.labels == entry.labels


def _is_alike(entry: _Entry, incoming: _Entry) -> bool:
    """Whether nothing of a younger rule is left to stand for itself beside this entry."""
    return _takes_in(entry, incoming) and (incoming.to == entry.to or incoming.labels == entry.labels)


def _united(older: Resource, younger: Resource) -> Resource:
    spec, more = spec_of(older), spec_of(younger)
    names = {one.name for one in spec.subsets}
    changes: dict[str, object] = {"subsets": [*spec.subsets, *(one for one in more.subsets if one.name not in names)]}
    if spec.traffic_policy is None:
        changes["traffic_policy"] = more.traffic_policy
    return replace(older, spec=spec.model_copy(update=changes))


def _selected(rules: Iterable[Resource], namespace: str, labels: Mapping[str, str]) -> Resource | None:
    """The first rule whose workloadSelector fits the proxy, else the last one without a selector."""
    general = None
    for rule in rules:
        selector = spec_of(rule).workload_selector
        if selector is None:
            general = rule
        elif rule.namespace == namespace and selector.match_labels.items() <= labels.items():
            return rule
    return general
