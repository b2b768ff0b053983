"""Which rule holds for a service, a subset and a port, beyond istio's vectors."""

from typing import Any

from eastgate.mesh.clusters import outlier_detection
from eastgate.mesh.istio import DestinationRuleSpec, MeshConfig, OutlierDetection, Policy, ServiceSettingsEntry
from eastgate.mesh.model import Mesh, Resource, Service, ServicePort
from eastgate.mesh.policy import (
    effective,
    is_cluster_local,
    is_locality_weighted,
    locality_choice,
)
from eastgate.mesh.rules import rule_of


def rule(name: str, namespace: str = "default", **spec: Any) -> Resource:
    return Resource("DestinationRule", namespace, name, DestinationRuleSpec.model_validate(spec), frozenset({"c"}))


def mesh(*rules: Resource) -> Mesh:
    return Mesh(clusters={}, services=(), workloads=(), gateways=(), resources=rules)


SERVICE = Service("a", "default", (ServicePort(80, 80),), {}, frozenset({"c"}))


def test_rule_of_the_clients_namespace_wins_over_the_services_and_the_roots() -> None:
    own = rule("own", "client", host="a.default.svc.cluster.local")
    services = rule("services", host="a")
    root = rule("root", "istio-system", host="*.svc.cluster.local")
    assert rule_of(mesh(root, services, own), "c", SERVICE, "client") is own
    assert rule_of(mesh(root, services, own), "c", SERVICE, "other") is services
    assert rule_of(mesh(root), "c", SERVICE, "other") is root
    assert rule_of(mesh(services), "another cluster", SERVICE, "other") is None


def test_most_specific_host_wins_within_a_namespace() -> None:
    wide, narrow = rule("wide", host="*.cluster.local"), rule("narrow", host="*.default.svc.cluster.local")
    exact = rule("exact", host="a.default.svc.cluster.local")
    assert rule_of(mesh(wide, narrow), "c", SERVICE, "default") is narrow
    assert rule_of(mesh(exact, narrow), "c", SERVICE, "default") is exact


def test_a_subset_replaces_part_by_part_and_a_port_replaces_all() -> None:
    spec = {
        "host": "a",
        "trafficPolicy": {
            "loadBalancer": {"simple": "ROUND_ROBIN"},
            "outlierDetection": {},
            "portLevelSettings": [{"port": {"number": 443}, "loadBalancer": {"simple": "RANDOM"}}],
        },
        "subsets": [{"name": "v1", "trafficPolicy": {"loadBalancer": {"simple": "LEAST_REQUEST"}}}],
    }
    found = rule("a", **spec)
    v1 = effective(found, "v1", 80).policy
    assert v1.load_balancer
    assert (v1.load_balancer.simple, v1.outlier_detection is not None) == ("LEAST_REQUEST", True)
    port = effective(found, "", 443).policy
    assert port.load_balancer
    assert (port.load_balancer.simple, port.outlier_detection) == ("RANDOM", None)
    both = effective(found, "v1", 443).policy
    assert both.load_balancer
    assert (both.load_balancer.simple, both.outlier_detection) == ("LEAST_REQUEST", None)


def test_locality_weighted_needs_a_rule_that_is_in_force() -> None:
    def weighted(setting: dict[str, Any], *, outlier: bool) -> bool:
        policy = Policy.model_validate({"loadBalancer": {"localityLbSetting": setting}})
        return is_locality_weighted(locality_choice(policy, "", MeshConfig()), outlier_detection=outlier)

    failover = {"failover": [{"from": "a", "to": "b"}]}
    assert weighted(failover, outlier=True)
    assert not weighted(failover, outlier=False)
    assert weighted({"distribute": [{"from": "a", "to": {"a": 100}}]}, outlier=False)
    assert not weighted({}, outlier=True)


def test_most_specific_cluster_local_setting_wins() -> None:
    def entry(host: str, value: bool) -> ServiceSettingsEntry:
        return ServiceSettingsEntry.model_validate({"hosts": [host], "settings": {"clusterLocal": value}})

    config = MeshConfig.model_construct(
        service_settings=[entry("*.default.svc.cluster.local", True), entry("a.default.svc.cluster.local", False)]
    )
    assert is_cluster_local("b.default.svc.cluster.local", config)
    assert not is_cluster_local("a.default.svc.cluster.local", config)
    assert is_cluster_local("dns.kube-system.svc.cluster.local", MeshConfig())
    assert is_cluster_local("istiod.istio-system.svc.cluster.local", MeshConfig())


def test_durations_become_whole_messages() -> None:
    found = outlier_detection(OutlierDetection.model_validate({"interval": "1m30s", "baseEjectionTime": "500ms"}))
    assert (found.interval.total_seconds(), found.base_ejection_time.total_seconds()) == (90.0, 0.5)  # type: ignore[union-attr]
