"""Turn the bytes of a Cluster into resources.Cluster: what is honoured, warned about or rejected. Keeps no state.

docs/xds-support.md lists every field. What would send traffic elsewhere than Envoy would is rejected by name or named
in a warning; a policy that eastgate does not have is never replaced by another one.
"""

from collections.abc import Mapping, Sequence
from dataclasses import fields as dataclass_fields
from functools import lru_cache
from typing import Any

from .assignment import decode_assignment, read_text
from .bind_config import Bind, decode_bind_config
from .config_source import fetch_timeout_s
from .dns import DNS_CLUSTER, decode_dns
from .errors import XdsError
from .fields import (
    CHOICES_MAX,
    KEEPALIVE_PROBES_MAX,
    KEEPALIVE_S_MAX,
    PORT_MAX,
    checked_text,
    checked_texts,
    clamped,
    number,
    percent,
    printable,
    runtime_double,
    seconds,
    type_name,
    whole_percent,
)
from .happy_eyeballs import decode_happy_eyeballs
from .hashing import check_hashing, decode_hashing
from .health_check import decode_health_checks
from .message import read
from .resources import (
    UNLIMITED,
    CircuitBreakers,
    Cluster,
    HealthCheck,
    OutlierDetection,
    SlowStart,
    TcpKeepalive,
    ZoneAware,
)
from .secret_refs import cluster_secret_refs
from .subsets import decode_subsets
from .tls_records import PLAIN, UpstreamTls
from .upstream_tls import upstream_tls
from .wire import unknown_fields

KIND = "CDS"
_MESSAGE = "envoy.config.cluster.v3.Cluster"
_TYPES = ("EDS", "STATIC", "STRICT_DNS", "LOGICAL_DNS", "ORIGINAL_DST")
_DNS_TYPES = ("STRICT_DNS", "LOGICAL_DNS")
_POLICIES = ("ROUND_ROBIN", "LEAST_REQUEST", "RANDOM", "RING_HASH", "MAGLEV")
_EXTENSIONS = "envoy.extensions.load_balancing_policies."
_POLICY_OF_EXTENSION = {
    f"{_EXTENSIONS}round_robin.v3.RoundRobin": "ROUND_ROBIN",
    f"{_EXTENSIONS}least_request.v3.LeastRequest": "LEAST_REQUEST",
    f"{_EXTENSIONS}random.v3.Random": "RANDOM",
    f"{_EXTENSIONS}ring_hash.v3.RingHash": "RING_HASH",
    f"{_EXTENSIONS}maglev.v3.Maglev": "MAGLEV",
    f"{_EXTENSIONS}cluster_provided.v3.ClusterProvided": "CLUSTER_PROVIDED",
}
# Of gRPC alone: Envoy goes on to the next policy of the list.
_NOT_ENVOYS = (f"{_EXTENSIONS}pick_first.v3.PickFirst",)
_INERT_FILTERS = ("istio.metadata_exchange", "envoy.filters.network.upstream.metadata_exchange")

# Fields that change what happens to a connection and that eastgate does not honour.
_WARNINGS = {
    "upstream_config": "the upstream extension is not used",
    "close_connections_on_host_health_failure": "connections to failed endpoints are not closed",
    "lrs_server": "load is reported to nobody",
    "lrs_report_endpoint_metrics": "load is reported to nobody",
    "per_connection_buffer_high_watermark_timeout": "no connection is closed for what waits in it",
    "preconnect_policy": "connections are opened when clients come",
    "transport_socket_matcher": "TLS to endpoints is not originated",
}
_UNBOUND_CHECKS = "upstream_bind_config: checks by gRPC come from where the kernel chooses"
_COMMON_LB_WARNINGS = {
    "close_connections_on_host_set_change": "connections are not closed when endpoints change",
}
# As Envoy says, settings that load_balancing_policy has places of its own for.
_PARTIAL_FIELDS = ("zone_aware_lb_config", "locality_weighted_lb_config", "consistent_hashing_lb_config")
_ORIGINAL_DST = {
    "use_http_header": "TCP connections have no headers",
    "metadata_key": "destinations are not taken from metadata",
}
_PER_HOST_FIELDS = ("priority", "max_connections", "track_remaining")
_PERCENT_FIELDS = ("max_ejection_percent", "failure_percentage_threshold")
_DURATIONS = {
    "interval_s": "interval",
    "base_ejection_time_s": "base_ejection_time",
    "max_ejection_time_s": "max_ejection_time",
}


def decode_cluster(raw: bytes) -> Cluster:
    """Decode the bytes inside the Any. Raises XdsError("CDS", name, reason) for a cluster that cannot be accepted."""
    name = ""
    try:
        message = read(_MESSAGE, raw)
        name = message.get("name", "")
        return _cluster(name, message, raw)
    except XdsError as error:
        raise XdsError(KIND, error.resource or read_text(raw, 1), error.reason, malformed=error.malformed) from None
    except ValueError as error:
        raise XdsError(KIND, name, str(error)) from None


def _cluster(name: str, message: Mapping[str, Any], raw: bytes) -> Cluster:
    if not name:
        raise ValueError("no name")
    checked_texts(message, "name", "alt_stat_name")
    service_name = checked_text("service_name", message.get("eds_cluster_config", {}).get("service_name", ""))
    kind, dns_config = _type(message)
    if kind == "EDS" and "eds_cluster_config" not in message:
        raise ValueError("type EDS without eds_cluster_config")
    warnings = _unheeded(message)
    assignment, dns = None, None
    if kind == "STATIC":
        # Without one it has no endpoints, as BlackHoleCluster: known, and open to nobody.
        assignment = decode_assignment(message.get("load_assignment", b""), KIND, name)
    if kind in _DNS_TYPES:
        dns = decode_dns(name, dns_config, first_only=kind == "LOGICAL_DNS", warnings=warnings)
    common_lb = message.get("common_lb_config", {})
    check_hashing(kind, common_lb)
    policy, policy_config, locality_config = _policy(message)
    has_endpoints = kind == "EDS" or dns is not None or (assignment is not None and assignment.columns.count > 0)
    warnings += _check_policy(kind, policy, message, has_endpoints=has_endpoints)
    warnings += _unheeded_inside(message, common_lb)
    spoken = upstream_tls(message)
    warnings += [f"transport_socket: {warning}" for one in spoken.settings for warning in one.warnings]
    return Cluster(
        name=name,
        type=kind,
        eds_service_name=service_name if kind == "EDS" else "",
        initial_fetch_timeout_s=_initial_fetch_timeout(message["eds_cluster_config"]) if kind == "EDS" else 0.0,
        connect_timeout_s=seconds(message, "connect_timeout", 5.0, positive=True),
        lb_policy=policy,
        least_request_choice_count=min(number(policy_config, "choice_count", 2, low=2), CHOICES_MAX),
        least_request_bias=_active_request_bias(policy_config),
        least_request_full_scan=_full_scan(policy_config),
        hashing=decode_hashing(
            policy, policy_config, policy_config if "load_balancing_policy" in message else common_lb, warnings
        ),
        slow_start=_slow_start(policy, policy_config),
        healthy_panic_threshold_percent=_panic_threshold(common_lb),
        locality_weighted="locality_weighted_lb_config" in locality_config,
        fail_traffic_on_panic=locality_config.get("zone_aware_lb_config", {}).get("fail_traffic_on_panic", False),
        zone_aware=_zone_aware(locality_config.get("zone_aware_lb_config", {}), warnings),
        circuit_breakers=_circuit_breakers(kind, message.get("circuit_breakers", {}), warnings),
        outlier_detection=_outlier_detection(message.get("outlier_detection"), warnings),
        health_check=_health_check(kind, spoken, message.get("health_checks", ()), warnings),
        # As in Envoy, load_balancing_policy wins over lb_policy with all that belongs to it.
        subsets=None if "load_balancing_policy" in message else decode_subsets(message.get("lb_subset_config")),
        ignore_health_on_host_removal=message.get("ignore_health_on_host_removal", False),
        ignore_new_hosts_until_first_check=common_lb.get("ignore_new_hosts_until_first_hc", False),
        tcp_keepalive=_tcp_keepalive(message.get("upstream_connection_options", {}).get("tcp_keepalive")),
        happy_eyeballs=decode_happy_eyeballs(message.get("upstream_connection_options", {})),
        load_assignment=assignment,
        bind=_bind(message, warnings),
        upstream_port_override=_port_override(message, warnings) if kind == "ORIGINAL_DST" else 0,
        dns=dns,
        alt_stat_name=message.get("alt_stat_name", ""),
        upstream_tls=spoken,
        secrets=cluster_secret_refs(message),
        warnings=tuple(map(printable, warnings)),
        raw=raw,
    )


def _unheeded(message: Mapping[str, Any]) -> list[str]:
    """Warnings of fields of the cluster itself that do not do what they say."""
    # Also an empty message is one that is set.
    warnings = [f"{field}: {what}" for field, what in _WARNINGS.items() if message.get(field, False) is not False]
    if not message.get("wait_for_warm_on_init", True):
        warnings.append("wait_for_warm_on_init: a cluster is used when it is warm, and not before")
    return warnings


def _bind(message: Mapping[str, Any], warnings: list[str]) -> Bind | None:
    config = message.get("upstream_bind_config")
    return decode_bind_config(config, warnings) if config is not None else None


def _unheeded_inside(message: Mapping[str, Any], common_lb: Mapping[str, Any]) -> list[str]:
    """Warnings of what stands in messages of it: settings of balancing, filters, fields that nobody knows."""
    filters = [read_text(one, 1) for one in message.get("filters", ())]
    asks_grpc = any("grpc_health_check" in one for one in message.get("health_checks", ()))
    return [
        *(f"common_lb_config.{field}: {what}" for field, what in _COMMON_LB_WARNINGS.items() if field in common_lb),
        *(f"filters: upstream filter {name} is not run" for name in filters if name not in _INERT_FILTERS),
        *([_UNBOUND_CHECKS] if "upstream_bind_config" in message and asks_grpc else []),
        *(f"{path}: unknown field" for path in unknown_fields(message)),
    ]


def _check_policy(kind: str, policy: str, message: Mapping[str, Any], *, has_endpoints: bool) -> list[str]:
    """Warnings of a policy that decides nothing; ValueError for one that would and is not there, or does not go with
    the type.
    """
    if (policy == "CLUSTER_PROVIDED") != (kind == "ORIGINAL_DST"):
        raise ValueError(f"lb_policy {policy} does not go with cluster type {kind} (ORIGINAL_DST has CLUSTER_PROVIDED)")
    if kind == "ORIGINAL_DST":
        if message.get("lb_subset_config", {}).get("subset_selectors"):
            raise ValueError("lb_subset_config: an ORIGINAL_DST cluster has no endpoints to select")
        return []
    if policy in _POLICIES:
        return []
    if has_endpoints:
        raise ValueError(f"lb_policy {policy} is not supported (supported: {', '.join(_POLICIES)})")
    return [f"lb_policy: {policy} is not supported"]


def _type(message: Mapping[str, Any]) -> tuple[str, Mapping[str, Any]]:
    """The type, and the message that holds the settings of a DNS cluster: its own, or those of the extension."""
    extension = message.get("cluster_type")
    if extension is None:
        kind = message.get("type", "STATIC")
        if kind not in _TYPES:
            raise ValueError(f"cluster type {kind} is not supported")
        return kind, message
    config = extension.get("typed_config", {})
    if type_name(config) != DNS_CLUSTER:
        raise ValueError(f"cluster_type {extension.get('name', '')} is not supported")
    kind = "LOGICAL_DNS" if config.get("all_addresses_in_single_endpoint") else "STRICT_DNS"
    return kind, {**config, "load_assignment": message.get("load_assignment", b"")}


def _initial_fetch_timeout(eds_cluster_config: Mapping[str, Any]) -> float:
    return _timeout_of(eds_cluster_config.get("eds_config", b""))


@lru_cache(maxsize=64)
def _timeout_of(eds_config: bytes) -> float:
    # A mesh has thousands of clusters with one and the same source.
    return fetch_timeout_s(read("envoy.config.core.v3.ConfigSource", eds_config))


def _health_check(
    kind: str, spoken: UpstreamTls, checks: Sequence[Mapping[str, Any]], warnings: list[str]
) -> HealthCheck | None:
    if kind == "ORIGINAL_DST" and checks:
        warnings.append("health_checks: there are no endpoints to check in an ORIGINAL_DST cluster")
        return None
    made = decode_health_checks(checks, warnings)
    if made is not None and spoken != PLAIN:
        warnings.append("health_checks: checks are made without TLS")
    return made


def _port_override(message: Mapping[str, Any], warnings: list[str]) -> int:
    """upstream_port_override of an ORIGINAL_DST cluster, which has no endpoints of its own."""
    if message.get("load_assignment"):
        raise ValueError("load_assignment: an ORIGINAL_DST cluster has none")
    config = message.get("original_dst_lb_config", {})
    warnings += [
        f"original_dst_lb_config.{field}: {what}" for field, what in _ORIGINAL_DST.items() if config.get(field)
    ]
    return number(config, "upstream_port_override", 0, high=PORT_MAX)


def _policy(message: Mapping[str, Any]) -> tuple[str, Mapping[str, Any], Mapping[str, Any]]:
    """Name of the policy, its own configuration, and the message that may hold locality_weighted_lb_config.

    As in Envoy, load_balancing_policy wins over lb_policy, and the first policy in it that Envoy knows is used.
    """
    extensions = message.get("load_balancing_policy")
    if extensions is None:
        policy = str(message.get("lb_policy", "ROUND_ROBIN"))
        config = message.get(f"{policy.lower()}_lb_config", {})
        locality_config = message.get("common_lb_config", {})
    else:
        if "lb_subset_config" in message:
            raise ValueError("load_balancing_policy cannot be combined with lb_subset_config")
        for field in _PARTIAL_FIELDS:
            if field in message.get("common_lb_config", {}):
                raise ValueError(f"load_balancing_policy cannot be combined with common_lb_config.{field}")
        for candidate in extensions.get("policies", ()):
            config = candidate.get("typed_extension_config", {}).get("typed_config", {})
            extension = type_name(config)
            if extension.startswith(_EXTENSIONS) and extension not in _NOT_ENVOYS:
                break
        else:
            raise ValueError("load_balancing_policy holds no known policy")
        policy = _POLICY_OF_EXTENSION.get(extension, extension.removeprefix(_EXTENSIONS))
        # The two that hash have locality_weighted_lb_config without a message around it.
        locality_config = config.get("locality_lb_config", config)
    return policy, config, locality_config


def _full_scan(config: Mapping[str, Any]) -> bool:
    return bool(config.get("enable_full_scan") or config.get("selection_method") == "FULL_SCAN")


def _active_request_bias(config: Mapping[str, Any]) -> float:
    value = runtime_double(config, "active_request_bias", 1.0)
    # As in Envoy, what is no possible bias is none at all.
    return value if value >= 0 else 1.0


def _zone_aware(said: Mapping[str, Any], warnings: list[str]) -> ZoneAware:
    enabled = percent(said, "routing_enabled", 100.0, where="zone_aware_lb_config")
    basis = said.get("locality_basis", "HEALTHY_HOSTS_NUM")
    if basis not in ("HEALTHY_HOSTS_NUM", "HEALTHY_HOSTS_WEIGHT"):
        warnings.append(f"zone_aware_lb_config.locality_basis: {basis} is not known, endpoints are counted")
    force = 1 if said.get("force_locality_direct_routing") else 0
    if "force_local_zone" in said:
        # As in Envoy, it wins over the older field.
        force = number(said["force_local_zone"], "min_size", 1)
    return ZoneAware(
        whole_percent(enabled), number(said, "min_cluster_size", 6, high=2**64 - 1), force, "WEIGHT" in str(basis)
    )


def _slow_start(policy: str, config: Mapping[str, Any]) -> SlowStart | None:
    if policy not in ("ROUND_ROBIN", "LEAST_REQUEST") or "slow_start_config" not in config:
        return None
    said = config["slow_start_config"]
    window_ms = int(seconds(said, "slow_start_window", 0.0) * 1000)
    least = percent(said, "min_weight_percent", 10.0, where="slow_start_config")
    aggression = runtime_double(said, "aggression", 1.0)
    # As in Envoy, what is no possible aggression is none at all, and so is a window without length.
    return SlowStart(window_ms, aggression if aggression > 0 else 1.0, least) if window_ms else None


def _panic_threshold(common_lb: Mapping[str, Any]) -> int:
    if "healthy_panic_threshold" not in common_lb:
        return 50
    return whole_percent(percent(common_lb, "healthy_panic_threshold", 0.0, where="common_lb_config"))


def _circuit_breakers(kind: str, message: Mapping[str, Any], warnings: list[str]) -> CircuitBreakers:
    values: dict[str, Any] = {}
    for thresholds in message.get("per_host_thresholds", ()):
        unsupported = [field for field in thresholds if field not in _PER_HOST_FIELDS]
        if unsupported:
            what = f"{unsupported[0]} is not supported, by Envoy neither"
            raise ValueError(f"circuit_breakers.per_host_thresholds: {what}")
    for thresholds in message.get("per_host_thresholds", ()):
        if "priority" not in thresholds:
            limit = number(thresholds, "max_connections", UNLIMITED)
            if kind == "ORIGINAL_DST" and limit != UNLIMITED:
                warnings.append("circuit_breakers.per_host_thresholds: destinations have no limits of their own")
            else:
                values["max_connections_per_endpoint"] = limit
            break
    for thresholds in message.get("thresholds", ()):
        if "priority" not in thresholds:
            values["max_connections"] = number(thresholds, "max_connections", 1024)
            values["max_pending_requests"] = number(thresholds, "max_pending_requests", 1024)
            values["track_remaining"] = bool(thresholds.get("track_remaining", False))
            break
    return CircuitBreakers(**values)


def _outlier_detection(message: Mapping[str, Any] | None, warnings: list[str]) -> OutlierDetection | None:
    if message is None:
        return None
    if "monitors" in message:
        warnings.append("outlier_detection.monitors: extensions are not run")
    values: dict[str, Any] = {}
    for field in dataclass_fields(OutlierDetection):
        if field.name in _DURATIONS:
            continue
        if field.name == "max_ejection_time_jitter_s":
            values[field.name] = seconds(message, "max_ejection_time_jitter", 0.0)
        elif field.name in message:
            value = message[field.name]
            if (field.name.startswith("enforcing_") or field.name in _PERCENT_FIELDS) and value > 100:
                raise ValueError(f"outlier_detection.{field.name} is {value}, must be at most 100")
            values[field.name] = value
    interval = seconds(message, "interval", 10.0, positive=True)
    base = seconds(message, "base_ejection_time", 30.0, positive=True)
    # Without a maximum of its own Envoy takes 300 s, or the base where that is longer.
    longest = seconds(message, "max_ejection_time", max(300.0, base), positive=True)
    if longest < base:
        raise ValueError("outlier_detection.max_ejection_time is shorter than base_ejection_time")
    return OutlierDetection(interval_s=interval, base_ejection_time_s=base, max_ejection_time_s=longest, **values)


def _tcp_keepalive(message: Mapping[str, Any] | None) -> TcpKeepalive | None:
    if message is None:
        return None
    # What the kernel would not take at all; 0 is its default there.
    return TcpKeepalive(
        clamped(message, "keepalive_probes", low=0, high=KEEPALIVE_PROBES_MAX),
        clamped(message, "keepalive_time", low=0, high=KEEPALIVE_S_MAX),
        clamped(message, "keepalive_interval", low=0, high=KEEPALIVE_S_MAX),
    )
