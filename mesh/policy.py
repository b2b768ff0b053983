"""What a rule says for a subset and a port, and which mesh settings hold beside it, as istiod merges them.

Which rule it is stands in rules.py.

Pure functions. Source of the rules: istio, pilot/pkg/networking/core/cluster_traffic_policy.go and
loadbalancer/loadbalancer.go (GetEffectiveLbSetting).
"""

from dataclasses import dataclass

from .istio import LocalityLbSetting, MeshConfig, Policy, PortPolicy, Subset, TrafficPolicy, ZoneAwareLbSetting
from .locality import LocalitySetting
from .model import (
    DOMAIN,
    HOSTNAME_LABEL,
    NETWORK_LABEL,
    REGION_LABEL,
    SUB_ZONE_LABEL,
    ZONE_LABEL,
    Resource,
)
from .rules import covers, spec_of

SAME_ZONE = (NETWORK_LABEL, REGION_LABEL, ZONE_LABEL)
TRAFFIC_DISTRIBUTION = {
    "PreferClose": SAME_ZONE,
    "PreferSameZone": SAME_ZONE,
    "PreferSameNode": (*SAME_ZONE, SUB_ZONE_LABEL, HOSTNAME_LABEL),
}
"""failoverPriority that a service's trafficDistribution stands for."""


@dataclass(frozen=True, slots=True)
class Effective:
    """A merged policy. ``subset``: its definition, None for the whole service. ``rule``: where it comes from."""

    policy: Policy
    rule: Resource | None = None
    subset: Subset | None = None


def subsets(rule: Resource | None) -> tuple[str, ...]:
    """Names of the subsets that a rule defines."""
    return tuple(one.name for one in spec_of(rule).subsets) if rule else ()


def effective(rule: Resource | None, subset: str, port: int) -> Effective:
    """The policy of one subset ("": the service) and port: the subset's settings win over the rule's, each whole, and
    the port's over both; of a port's settings nothing is inherited but what the port leaves out entirely.
    """
    if rule is None:
        return Effective(Policy())
    spec = spec_of(rule)
    chosen = next((one for one in spec.subsets if one.name == subset), None)
    layers = [layer for layer in (spec.traffic_policy, chosen.traffic_policy if chosen else None) if layer]
    fields = tuple(Policy.model_fields)
    merged: dict[str, object] = {}
    for layer in layers:
        entry = port_settings(layer, port)
        if entry:
            # A port's settings replace the whole policy; what is missing there is Istio's default again.
            merged = {}
        of = entry or layer
        merged.update((name, getattr(of, name)) for name in fields if getattr(of, name) is not None)
    return Effective(Policy.model_construct(None, **merged), rule, chosen)


def port_settings(policy: TrafficPolicy, port: int) -> PortPolicy | None:
    """The first settings of a port, None: none."""
    return next((one for one in policy.port_level_settings if one.port.number == port), None)


def tls_mode(rule: Resource | None, subset: str, port: int) -> str:
    """TLS mode that a rule asks for, for one subset ("": the service) and port; empty: none, the endpoints decide.

    Of the subset, else of the rule; in either the port's own word counts first. Another subset's is not asked: istiod
    decides for each cluster (pilot/pkg/xds/endpoints/mtls_checker.go).
    """
    if rule is None:
        return ""
    spec = spec_of(rule)
    chosen = next((one.traffic_policy for one in spec.subsets if one.name == subset), None)
    for policy in (chosen, spec.traffic_policy):
        if policy:
            entry = port_settings(policy, port)
            tls = entry.tls if entry and entry.tls else policy.tls
            if tls:
                return tls.mode
    return ""


@dataclass(frozen=True, slots=True)
class LocalityChoice:
    """The locality setting in force. ``winner``: "dr.locality", "dr.zoneAware", "service.<trafficDistribution>",
    "mesh.locality" or "mesh.zoneAware", empty: none. ``routing_enabled``: None unless zone aware.
    """

    setting: LocalitySetting | None = None
    winner: str = ""
    routing_enabled: bool | None = None
    weighted: bool = False
    min_cluster_size: int | None = None

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
    plain = LocalitySetting(
        failover=rules,
        failover_priority=tuple(setting.failover_priority),
        zone_aware=setting.enabled,
        forced=setting.enabled,
    )
    return LocalityChoice(
        plain if setting.enabled else None,
        winner,
        routing_enabled=setting.enabled,
        min_cluster_size=setting.min_cluster_size,
    )


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
