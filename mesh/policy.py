"""Which rules hold for a service, a subset and a port: DestinationRules and mesh settings, as istiod merges them.

Pure functions. Source of the rules: istio, pilot/pkg/networking/core/cluster_traffic_policy.go and
loadbalancer/loadbalancer.go (GetEffectiveLbSetting).
"""

from dataclasses import dataclass

from .istio import DestinationRuleSpec, LocalityLbSetting, MeshConfig, Policy, Subset, ZoneAwareLbSetting
from .locality import LocalitySetting
from .model import (
    DOMAIN,
    HOSTNAME_LABEL,
    NETWORK_LABEL,
    REGION_LABEL,
    SUB_ZONE_LABEL,
    ZONE_LABEL,
    Mesh,
    Resource,
    Service,
)

SAME_ZONE = (NETWORK_LABEL, REGION_LABEL, ZONE_LABEL)
TRAFFIC_DISTRIBUTION = {
    "PreferClose": SAME_ZONE,
    "PreferSameZone": SAME_ZONE,
    "PreferSameNode": (*SAME_ZONE, SUB_ZONE_LABEL, HOSTNAME_LABEL),
}
"""failoverPriority that a service's trafficDistribution stands for."""


def full_host(host: str, namespace: str) -> str:
    """A host of a rule in `namespace` in full: a short service name is one of that namespace."""
    return host if "." in host or host.startswith("*") else f"{host}.{namespace}.svc.{DOMAIN}"


def covers(pattern: str, host: str) -> bool:
    """Whether a host or "*", "*.suffix" covers `host`."""
    if pattern.startswith("*"):
        return host.endswith(pattern[1:])
    return pattern == host


def rule_of(mesh: Mesh, cluster: str, service: Service, namespace: str) -> Resource | None:
    """The DestinationRule that a proxy of `namespace` applies to the service, None: none.

    Looked for in the proxy's namespace, the service's, the root namespace; the most specific host wins.
    """
    rules = mesh.of_kind("DestinationRule", cluster)
    for place in dict.fromkeys((namespace, service.namespace, mesh.config.root_namespace)):
        found = [(_host(rule), rule) for rule in rules if rule.namespace == place and covers(_host(rule), service.host)]
        if found:
            return max(found, key=lambda pair: (not pair[0].startswith("*"), len(pair[0])))[1]
    return None


def _host(rule: Resource) -> str:
    assert isinstance(rule.spec, DestinationRuleSpec)
    return full_host(rule.spec.host, rule.namespace)


@dataclass(frozen=True, slots=True)
class Effective:
    """A merged policy. ``subset``: its definition, None for the whole service. ``rule``: where it comes from."""

    policy: Policy
    rule: Resource | None = None
    subset: Subset | None = None


def subsets(rule: Resource | None) -> tuple[str, ...]:
    """Names of the subsets that a rule defines."""
    return tuple(one.name for one in rule.spec.subsets) if rule and isinstance(rule.spec, DestinationRuleSpec) else ()


def effective(rule: Resource | None, subset: str, port: int) -> Effective:
    """The policy of one subset ("": the service) and port: the subset's settings win over the rule's, each whole, and
    the port's over both; of a port's settings nothing is inherited but what the port leaves out entirely.
    """
    if rule is None:
        return Effective(Policy())
    spec = rule.spec
    assert isinstance(spec, DestinationRuleSpec)
    chosen = next((one for one in spec.subsets if one.name == subset), None)
    layers = [spec.traffic_policy, *([chosen.traffic_policy] if chosen else [])]
    fields = tuple(Policy.model_fields)
    merged: dict[str, object] = {}
    for layer in layers:
        merged.update((name, getattr(layer, name)) for name in fields if getattr(layer, name) is not None)
        for entry in layer.port_level_settings:
            if entry.port.number == port:
                # A port's settings replace the whole policy; what is missing there is Istio's default again.
                merged = {name: getattr(entry, name) for name in fields if getattr(entry, name) is not None}
    return Effective(Policy.model_construct(None, **merged), rule, chosen)


def has_tls_mode(rule: Resource | None, port: int) -> str:
    """TLS mode that any part of the rule sets for the port, empty: none. The last one that was set counts."""
    mode = ""
    for subset in ("", *subsets(rule)):
        tls = effective(rule, subset, port).policy.tls
        mode = tls.mode if tls else mode
    return mode


@dataclass(frozen=True, slots=True)
class LocalityChoice:
    """The locality setting in force. ``winner``: "dr.locality", "dr.zoneAware", "service.<trafficDistribution>",
    "mesh.locality" or "mesh.zoneAware", empty: none. ``routing_enabled``: None unless zone aware.
    """

    setting: LocalitySetting | None = None
    winner: str = ""
    routing_enabled: bool | None = None
    weighted: bool = False

    @property
    def forced(self) -> bool:
        """Whether priorities apply without outlier detection."""
        return self.setting is not None and self.setting.forced


def _from_locality(setting: LocalityLbSetting, winner: str) -> LocalityChoice:
    if not setting.enabled:
        return LocalityChoice()
    plain = LocalitySetting(
        distribute=tuple((rule.origin, rule.to) for rule in setting.distribute),
        failover=tuple((rule.origin, rule.to) for rule in setting.failover or ()),
        failover_priority=tuple(setting.failover_priority or ()),
    )
    asks = setting.failover is not None or setting.failover_priority is not None or bool(setting.distribute)
    return LocalityChoice(plain, winner, weighted=asks)


def _from_zone_aware(setting: ZoneAwareLbSetting, winner: str) -> LocalityChoice:
    rules = tuple((rule.origin, rule.to) for rule in setting.failover)
    plain = LocalitySetting(failover=rules, zone_aware=setting.enabled, forced=setting.enabled)
    return LocalityChoice(plain if setting.enabled else None, winner, routing_enabled=setting.enabled)


def locality_choice(policy: Policy, traffic_distribution: str, config: MeshConfig) -> LocalityChoice:
    """Which locality setting wins: the rule's, then the service's trafficDistribution, then the mesh's.

    A setting that is switched off where it stands is not looked for elsewhere.
    """
    balancer = policy.load_balancer
    if balancer and balancer.zone_aware_lb_setting:
        return _from_zone_aware(balancer.zone_aware_lb_setting, "dr.zoneAware")
    if balancer and balancer.locality_lb_setting:
        return _from_locality(balancer.locality_lb_setting, "dr.locality")
    if traffic_distribution in TRAFFIC_DISTRIBUTION:
        keys = TRAFFIC_DISTRIBUTION[traffic_distribution]
        setting = LocalitySetting(failover_priority=keys, forced=True)
        return LocalityChoice(setting, f"service.{traffic_distribution}", weighted=True)
    if config.zone_aware_lb_setting:
        return _from_zone_aware(config.zone_aware_lb_setting, "mesh.zoneAware")
    if config.locality_lb_setting:
        return _from_locality(config.locality_lb_setting, "mesh.locality")
    return LocalityChoice()


def is_locality_weighted(choice: LocalityChoice, *, outlier_detection: bool) -> bool:
    """Whether the cluster balances by locality weights: with distribute, or with a failover that is in force."""
    if choice.setting is None or not choice.weighted:
        return False
    return bool(choice.setting.distribute) or outlier_detection or choice.setting.forced


def is_cluster_local(host: str, config: MeshConfig) -> bool:
    """Whether a service is kept inside each cluster: the most specific of the mesh's settings and Istio's defaults."""
    defaults = (f"*.kube-system.svc.{DOMAIN}", f"kubernetes.default.svc.{DOMAIN}")
    entries = [(pattern, True) for pattern in (*defaults, f"istiod.{config.root_namespace}.svc.{DOMAIN}")]
    entries += [(host, entry.settings.cluster_local) for entry in config.service_settings for host in entry.hosts]
    matching = [(not p.startswith("*"), len(p), at, value) for at, (p, value) in enumerate(entries) if covers(p, host)]
    return max(matching)[3] if matching else False
