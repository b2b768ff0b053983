"""What is wrong with an Istio resource in this mesh: names that lead nowhere. Pure; says where by path."""

from collections.abc import Iterator

from .documents import Path
from .istio import DestinationRuleSpec, LocalityLbSetting, RouteDestination, TrafficPolicy, VirtualServiceSpec
from .model import Mesh, Resource
from .policy import covers, full_host, subsets

Problem = tuple[Path, str]


def problems(mesh: Mesh, resource: Resource) -> Iterator[Problem]:
    """Errors of one resource, each with the path inside it."""
    spec = resource.spec
    if isinstance(spec, DestinationRuleSpec):
        yield from _host(mesh, resource, spec.host, ("spec", "host"))
        names = [one.name for one in spec.subsets]
        for index, name in enumerate(names):
            if name in names[:index]:
                yield ("spec", "subsets", index, "name"), f"a second subset {name!r}"
    elif isinstance(spec, VirtualServiceSpec):
        for index, host in enumerate(spec.hosts):
            yield from _host(mesh, resource, host, ("spec", "hosts", index))
        for at, tcp in enumerate(spec.tcp):
            yield from _destinations(mesh, resource, tcp.route, ("spec", "tcp", at, "route"))
        for at, http in enumerate(spec.http):
            yield from _destinations(mesh, resource, http.route, ("spec", "http", at, "route"))


def _destinations(mesh: Mesh, resource: Resource, route: list[RouteDestination], path: Path) -> Iterator[Problem]:
    for index, entry in enumerate(route):
        target, where = entry.destination, (*path, index, "destination")
        yield from _host(mesh, resource, target.host, (*where, "host"))
        if target.subset and target.subset not in _subsets(mesh, resource, target.host):
            yield (*where, "subset"), f"no DestinationRule of {target.host} has a subset {target.subset!r}"


def doubts(mesh: Mesh, resource: Resource) -> Iterator[Problem]:
    """What is allowed and yet cannot do what it seems to: regions that no workload is in."""
    spec = resource.spec
    if not isinstance(spec, DestinationRuleSpec):
        return
    regions = {one.locality.region for one in mesh.workloads}
    layers: list[tuple[Path, TrafficPolicy]] = [(("spec", "trafficPolicy"), spec.traffic_policy)]
    layers += [(("spec", "subsets", i, "trafficPolicy"), one.traffic_policy) for i, one in enumerate(spec.subsets)]
    for path, policy in layers:
        setting = policy.load_balancer.locality_lb_setting if policy.load_balancer else None
        if setting:
            where: Path = (*path, "loadBalancer", "localityLbSetting")
            for region in sorted(_regions(setting) - regions):
                yield where, f"no workload is in region {region!r}"
            if (setting.failover or setting.failover_priority) and not policy.outlier_detection:
                yield where, "failover without outlierDetection in the same policy does nothing"


def _regions(setting: LocalityLbSetting) -> set[str]:
    found = {name for rule in setting.failover or () for name in (rule.origin, rule.to)}
    found |= {pattern.partition("/")[0] for rule in setting.distribute for pattern in (rule.origin, *rule.to)}
    return found - {"*"}


def _host(mesh: Mesh, resource: Resource, host: str, path: Path) -> Iterator[Problem]:
    full = full_host(host, resource.namespace)
    if not any(covers(full, service.host) for service in mesh.services):
        yield path, f"unknown host {full}: no service of this mesh has it"


def _subsets(mesh: Mesh, resource: Resource, host: str) -> set[str]:
    full = full_host(host, resource.namespace)
    found: set[str] = set()
    for rule in mesh.resources:
        spec = rule.spec
        if isinstance(spec, DestinationRuleSpec) and covers(full_host(spec.host, rule.namespace), full):
            found.update(subsets(rule))
    return found
