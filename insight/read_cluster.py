"""Turn a Cluster and its endpoints, as dumps of Envoy and eastgate show them, into a model."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from eastgate.xds.fields import whole_percent
from eastgate.xds.resources import Locality, LocalityEntry, ZoneAware

from .cluster_model import HEALTH_NAMES, ClusterModel, Ejection, Endpoint
from .dump_fields import flat_address, get, number, text
from .read_hashing import endpoint_key, read_hashing, whole

POLICIES = {"round_robin": "ROUND_ROBIN", "least_request": "LEAST_REQUEST", "random": "RANDOM"}
POLICIES |= {"ring_hash": "RING_HASH", "maglev": "MAGLEV"}


def locality_of(message: Mapping[str, Any] | None) -> Locality:
    if not message:
        return Locality()
    return Locality(text(message.get("region", "")), text(message.get("zone", "")), text(get(message, "sub_zone", "")))


def checked(endpoint: Endpoint) -> Endpoint:
    """The endpoint, when its numbers are ones that a proxy can hold. Raises ValueError."""
    if not 0 <= endpoint.priority <= 127:
        raise ValueError(f"priority {endpoint.priority} of {endpoint.address} is outside 0..127")
    if not 0 <= endpoint.weight <= 0xFFFFFFFF:
        raise ValueError(f"weight {endpoint.weight} of {endpoint.address} is outside 0..4294967295")
    return endpoint


def read_policy(cluster: Mapping[str, Any]) -> tuple[str, Mapping[str, Any], Mapping[str, Any]]:
    """Policy, its own settings, and the message that may ask for locality weights.

    As in Envoy, load_balancing_policy wins over lb_policy.
    """
    extensions = get(get(cluster, "load_balancing_policy", {}), "policies", ())
    for entry in extensions:
        config = get(get(entry, "typed_extension_config", {}), "typed_config", {})
        kind = str(config.get("@type", "")).rpartition("/")[2]
        name = kind.removeprefix("envoy.extensions.load_balancing_policies.").partition(".")[0]
        # The two that hash have locality_weighted_lb_config without a message around it.
        return POLICIES.get(name, kind), config, get(config, "locality_lb_config", config)
    policy = str(get(cluster, "lb_policy", "ROUND_ROBIN"))
    return policy, get(cluster, f"{policy.lower()}_lb_config", {}), get(cluster, "common_lb_config", {})


def read_type(cluster: Mapping[str, Any]) -> str:
    """Envoy's enum name, also where DNS is configured as an extension; the name of any other extension."""
    extension = get(cluster, "cluster_type")
    if extension is None:
        return str(get(cluster, "type", "STATIC"))
    config = get(extension, "typed_config", {})
    if str(config.get("@type", "")).endswith(".clusters.dns.v3.DnsCluster"):
        return "LOGICAL_DNS" if get(config, "all_addresses_in_single_endpoint") else "STRICT_DNS"
    return text(extension.get("name", ""))


def read_cluster(cluster: Mapping[str, Any], *, warming: bool = False) -> ClusterModel:
    """A Cluster as config_dump shows it, still without endpoints."""
    policy, settings, locality_settings = read_policy(cluster)
    panic = get(get(cluster, "common_lb_config", {}), "healthy_panic_threshold")
    outlier = get(cluster, "outlier_detection")
    return ClusterModel(
        name=text(cluster["name"]),
        type=read_type(cluster),
        policy=policy,
        panic_threshold=50 if panic is None else whole_percent(float(panic.get("value", 0))),
        locality_weighted=get(locality_settings, "locality_weighted_lb_config") is not None,
        choice_count=max(2, number(settings, "choice_count", 2)),
        hashing=read_hashing(policy, settings, locality_settings, get),
        fail_on_panic=bool(get(get(locality_settings, "zone_aware_lb_config", {}), "fail_traffic_on_panic")),
        zone_aware=read_zone_aware(get(locality_settings, "zone_aware_lb_config", {})),
        slow_start_ms=read_slow_start(policy, settings),
        ejection=None
        if outlier is None
        else Ejection(
            number(outlier, "max_ejection_percent", 10), bool(number(outlier, "always_eject_one_host", False))
        ),
        warming=warming,
        subset_fallback=read_subset_fallback(cluster),
        health_checked=bool(get(cluster, "health_checks")),
        server_name=read_server_name(cluster),
    )


def read_server_name(cluster: Mapping[str, Any]) -> str:
    """What the proxy says to endpoints that take Istio's mTLS; empty for a cluster without TLS."""
    sockets = [
        get(one, "transport_socket", {})
        for one in get(cluster, "transport_socket_matches", ())
        if get(one.get("match") or {}, "tlsMode", "istio") == "istio"
    ]
    chosen = sockets[0] if sockets else get(cluster, "transport_socket", {})
    return text(get(chosen, "typed_config", {}).get("sni", ""))


def read_zone_aware(said: Mapping[str, Any]) -> ZoneAware:
    """Envoy's defaults where a dump says nothing."""
    enabled = get(said, "routing_enabled")
    force = get(said, "force_local_zone")
    return ZoneAware(
        100 if enabled is None else whole_percent(float(enabled.get("value", 0))),
        whole(get(said, "min_cluster_size"), 6),
        int(bool(get(said, "force_locality_direct_routing"))) if force is None else whole(get(force, "min_size"), 1),
        get(said, "locality_basis") == "HEALTHY_HOSTS_WEIGHT",
    )


def read_slow_start(policy: str, settings: Mapping[str, Any]) -> int:
    """Window in milliseconds; 0 without, and for policies that know none."""
    window = get(get(settings, "slow_start_config", {}), "slow_start_window")
    if window is None or policy not in ("ROUND_ROBIN", "LEAST_REQUEST"):
        return 0
    return int(float(str(window).removesuffix("s")) * 1000)


def read_subset_fallback(cluster: Mapping[str, Any]) -> str:
    """Fallback policy of a cluster that has subsets; empty without. load_balancing_policy switches them off."""
    config = get(cluster, "lb_subset_config", {})
    if not get(config, "subset_selectors") or get(cluster, "load_balancing_policy") is not None:
        return ""
    return str(get(config, "fallback_policy", "NO_FALLBACK"))


def read_metadata(metadata: Mapping[str, Any] | None) -> tuple[bool, str | None]:
    """(tlsMode is istio, workload)"""
    fields = get(metadata or {}, "filter_metadata", {})
    workload = fields.get("istio", {}).get("workload")
    tls_mode = fields.get("envoy.transport_socket_match", {}).get("tlsMode") == "istio"
    return tls_mode, None if workload is None else text(workload)


def read_assignment(
    assignment: Mapping[str, Any], *, use_hostname: bool = False
) -> tuple[tuple[Endpoint, ...], tuple[LocalityEntry, ...]]:
    """Endpoints and locality entries of a ClusterLoadAssignment."""
    endpoints, entries = [], {}
    for entry in assignment.get("endpoints", ()):
        locality, priority = locality_of(entry.get("locality")), int(entry.get("priority", 0))
        weight = number(entry, "load_balancing_weight", 0) if "locality" in entry else 0
        # Of several entries for one place the last weight wins, as in Envoy.
        entries[priority, locality] = LocalityEntry(locality, priority, weight or None)
        for one in get(entry, "lb_endpoints", ()):
            health = str(get(one, "health_status", "UNKNOWN"))
            tls_mode, workload = read_metadata(one.get("metadata"))
            found = Endpoint(
                flat_address(one["endpoint"]["address"]),
                priority,
                locality,
                number(one, "load_balancing_weight", 1),
                health if health in HEALTH_NAMES else "UNKNOWN",
                tls_mode=tls_mode,
                workload=workload,
                hash_key=endpoint_key(one, get, use_hostname=use_hostname),
                further=tuple(
                    flat_address(more["address"]) for more in get(one["endpoint"], "additional_addresses", ())
                ),
            )
            endpoints.append(checked(found))
    return tuple(endpoints), tuple(entries.values())


def with_assignment(cluster: ClusterModel, assignment: Mapping[str, Any]) -> ClusterModel:
    """The cluster with the endpoints, and the policy, of its assignment."""
    policy = assignment.get("policy", {})
    use_hostname = cluster.hashing is not None and cluster.hashing.use_hostname
    endpoints, localities = read_assignment(assignment, use_hostname=use_hostname)
    return replace(
        cluster,
        endpoints=endpoints,
        localities=localities,
        overprovisioning_factor=number(policy, "overprovisioning_factor", 140),
        weighted_priority_health=bool(get(policy, "weighted_priority_health", False)),
    )
