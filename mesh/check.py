"""What is wrong with an Istio resource in this mesh, and what of it cannot do what it seems to. Pure; says where.

istiod refuses neither an unknown host nor an unknown subset, and so neither is refused here: a repository's rules are
for more services than a mesh file describes.
"""

from collections.abc import Iterator, Set

from .documents import Path
from .istio import DestinationRuleSpec, LocalityLbSetting, TrafficPolicy
from .model import Mesh, Resource, Workload
from .policy import subsets
from .routes import MESH
from .rules import covers, full_host, rule_of, spec_of
from .service_entries import twin_key
from .service_entry import ServiceEntrySpec
from .virtual_service import RouteDestination, VirtualServiceSpec

Problem = tuple[Path, str]


def problems(mesh: Mesh, resource: Resource) -> Iterator[Problem]:
    """Errors of one resource, as istiod's validation has them, each with the path inside it."""
    spec = resource.spec
    if isinstance(spec, DestinationRuleSpec):
        names = [one.name for one in spec.subsets]
        for index, name in enumerate(names):
            if name in names[:index]:
                yield ("spec", "subsets", index, "name"), f"a second subset {name!r}"
        if spec.workload_selector and set(spec.export_to) - {".", resource.namespace}:
            yield ("spec", "exportTo"), "a rule with a workloadSelector cannot be exported"


def doubts(mesh: Mesh, resource: Resource, external: Set[str] = frozenset()) -> Iterator[Problem]:
    """What is allowed and yet cannot do what it seems to: hosts, subsets and regions that nobody has.

    ``external``: hosts of ServiceEntries.
    """
    spec = resource.spec
    if isinstance(spec, DestinationRuleSpec):
        yield from _unknown_host(mesh, resource, spec.host, ("spec", "host"), external)
        yield from _policies(mesh, resource, spec)
    elif isinstance(spec, VirtualServiceSpec):
        if not spec.gateways or MESH in spec.gateways:
            for index, host in enumerate(spec.hosts):
                yield from _unknown_host(mesh, resource, host, ("spec", "hosts", index), external)
        for kind in ("tcp", "tls"):
            for at, entry in enumerate(getattr(spec, kind)):
                yield from _destinations(mesh, resource, entry.route, ("spec", kind, at, "route"), external)
    elif isinstance(spec, ServiceEntrySpec):
        yield from _twins(mesh, resource, spec)


def _twins(mesh: Mesh, resource: Resource, spec: ServiceEntrySpec) -> Iterator[Problem]:
    """Pods of one name in several clusters, of which an entry has one."""
    if not spec.workload_selector:
        return
    wanted = spec.workload_selector.labels.items()
    named: dict[tuple[str, ...], list[Workload]] = {}
    for one in mesh.workloads:
        if one.ready and not one.is_bare and one.namespace == resource.namespace and wanted <= one.labels.items():
            named.setdefault(twin_key(one), []).append(one)
    for twins in (found for found in named.values() if len(found) > 1):
        clusters = " and ".join(one.cluster for one in twins)
        text = f"pods named {twins[0].name} are in {clusters}: istiod has only the one that it heard of last"
        yield ("spec", "workloadSelector"), text
        return


def _credentials(path: Path, policy: TrafficPolicy | None) -> Iterator[Problem]:
    """Keys that are in a secret of Kubernetes, and so in no mesh file."""
    if policy is None:
        return
    named = [(path, policy.tls)]
    named += [((*path, "portLevelSettings", at), one.tls) for at, one in enumerate(policy.port_level_settings)]
    for where, tls in named:
        if tls and tls.originates and tls.credential_name:
            yield (*where, "tls", "credentialName"), "secrets of Kubernetes are not sent: clusters have no TLS by it"


def _policies(mesh: Mesh, resource: Resource, spec: DestinationRuleSpec) -> Iterator[Problem]:
    regions = mesh.known("regions", lambda: {one.locality.region for one in mesh.workloads})
    layers: list[tuple[Path, TrafficPolicy | None]] = [(("spec", "trafficPolicy"), spec.traffic_policy)]
    layers += [(("spec", "subsets", i, "trafficPolicy"), one.traffic_policy) for i, one in enumerate(spec.subsets)]
    inherited = _inherits_outlier_detection(mesh, resource)
    for path, policy in layers:
        yield from _credentials(path, policy)
        setting = policy.load_balancer.locality_lb_setting if policy and policy.load_balancer else None
        if policy and setting:
            where: Path = (*path, "loadBalancer", "localityLbSetting")
            for region in sorted(_regions(setting) - regions):
                yield where, f"no workload is in region {region!r}"
            if (setting.failover or setting.failover_priority) and not (policy.outlier_detection or inherited):
                yield where, "failover without outlierDetection does nothing"


def _inherits_outlier_detection(mesh: Mesh, resource: Resource) -> bool:
    """Whether the rule that proxies apply has outlierDetection for all subsets: its own, or one it is merged with."""
    spec = spec_of(resource)
    if spec.traffic_policy and spec.traffic_policy.outlier_detection:
        return True
    host = full_host(spec.host, resource.namespace)
    for service in mesh.services:
        if covers(host, service.host):
            for cluster in resource.clusters:
                merged = rule_of(mesh, cluster, service, resource.namespace)
                policy = spec_of(merged).traffic_policy if merged else None
                if policy and policy.outlier_detection:
                    return True
    return False


def _regions(setting: LocalityLbSetting) -> set[str]:
    found = {name for rule in setting.failover or () for name in (rule.origin, rule.to)}
    found |= {pattern.partition("/")[0] for rule in setting.distribute for pattern in (rule.origin, *rule.to)}
    return found - {"*"}


def _is_known(mesh: Mesh, host: str, external: Set[str]) -> bool:
    known = mesh.known("hosts", lambda: frozenset(service.host for service in mesh.services))
    if host in known or host in external:
        return True
    return any(covers(host, one) or covers(one, host) for one in (*known, *external))


def _unknown_host(mesh: Mesh, resource: Resource, host: str, path: Path, external: Set[str]) -> Iterator[Problem]:
    full = full_host(host, resource.namespace)
    if not _is_known(mesh, full, external):
        yield path, f"no service of this mesh has the host {full}"


def _destinations(
    mesh: Mesh, resource: Resource, route: list[RouteDestination], path: Path, external: Set[str]
) -> Iterator[Problem]:
    for index, entry in enumerate(route):
        target, where = entry.destination, (*path, index, "destination")
        full = full_host(target.host, resource.namespace)
        if not _is_known(mesh, full, external):
            yield (*where, "host"), f"no service of this mesh has the host {full}: what goes there is refused"
        elif target.subset and target.subset not in _subsets(mesh, full):
            text = f"no DestinationRule of {target.host} has a subset {target.subset!r}: what goes there is refused"
            yield (*where, "subset"), text


def _subsets(mesh: Mesh, host: str) -> set[str]:
    found: set[str] = set()
    for rule in mesh.resources:
        if isinstance(rule.spec, DestinationRuleSpec) and covers(full_host(rule.spec.host, rule.namespace), host):
            found.update(subsets(rule))
    return found
