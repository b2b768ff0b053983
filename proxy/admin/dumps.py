"""Configuration and endpoints in the JSON shapes of Envoy's admin interface. Pure functions of what is accepted.

Resources are rendered from the bytes that istiod sent, with the field names of the .proto files. Fields that eastgate
does not read are left out; every resource lists them under "eastgate_unread" rather than hide that they exist. Where
envoy-data-plane is installed, rendering.py shows them as well.
"""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Any

from eastgate.fastpath.tables.cluster_table import ClusterTable
from eastgate.insight.dump_fields import flat_address
from eastgate.proxy.compile.compiled import CompiledCluster
from eastgate.proxy.compile.notices import Notices
from eastgate.proxy.membership import endpoint_flags
from eastgate.proxy.membership.endpoint_health import EndpointKey, key_of
from eastgate.proxy.membership.outlier import NOT_EVALUATED, Detector
from eastgate.proxy.open_listener import OpenListener
from eastgate.xds.columns import Columns, EndpointFlag, Family, Health, LocalityEntry
from eastgate.xds.decode import CDS, EDS, LDS, RDS, SDS, decode_assignment
from eastgate.xds.endpoint_messages import endpoint_messages
from eastgate.xds.errors import XdsError
from eastgate.xds.hashing import endpoint_hash_keys
from eastgate.xds.message import read
from eastgate.xds.resources import UNLIMITED, Assignment

NO_NOTICES: Mapping[tuple[str, str], Notices] = MappingProxyType({})
MESSAGE_OF = {
    CDS: "envoy.config.cluster.v3.Cluster",
    LDS: "envoy.config.listener.v3.Listener",
    RDS: "envoy.config.route.v3.RouteConfiguration",
    SDS: "envoy.extensions.transport_sockets.tls.v3.Secret",
}
VIRTUAL_HOST = "envoy.config.route.v3.VirtualHost"
CHAIN = "envoy.config.listener.v3.FilterChain"
NO_RATE = {"value": -1.0}
# Endpoints of one cluster whose names are read out of the bytes of their assignment: some milliseconds.
HOSTNAMES_READ = 1000
DetectorOf = Callable[[str], Detector[EndpointKey] | None]
# Field of envoy.admin.v3.HostHealthStatus and word in health_flags, by bit.
FLAG_NAMES = {
    endpoint_flags.FAILED_ACTIVE_CHECK: ("failed_active_health_check", "failed_active_hc"),
    endpoint_flags.FAILED_OUTLIER_CHECK: ("failed_outlier_check", "failed_outlier_check"),
    endpoint_flags.DEGRADED_ACTIVE_CHECK: ("failed_active_degraded_check", "degraded_active_hc"),
    endpoint_flags.PENDING_REMOVAL: ("pending_dynamic_removal", "pending_dynamic_removal"),
    endpoint_flags.PENDING_FIRST_CHECK: ("pending_active_hc", "pending_active_hc"),
    endpoint_flags.EXCLUDED_BY_ANSWER: ("excluded_via_immediate_hc_fail", "excluded_via_immediate_hc_fail"),
    endpoint_flags.CHECK_TIMED_OUT: ("active_hc_timeout", "active_hc_timeout"),
}
EDS_FLAGS = {
    "HEALTHY": "",
    "UNKNOWN": "",
    "DEGRADED": "/degraded_eds_health",
    "DRAINING": "/eds_status_draining",
}


def no_detector(name: str) -> None:
    """For clusters that nobody watches."""


def timestamp(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3] + "Z"


def render(type_url: str, raw: bytes) -> dict[str, Any]:
    """A resource as JSON with its @type; bytes that can no longer be read give only the error."""
    try:
        if type_url == EDS:
            return assignment_json(decode_assignment(raw))
        message = read(MESSAGE_OF[type_url], raw)
        if type_url == LDS:
            for field in ("filter_chains", "default_filter_chain"):
                if isinstance(message.get(field), bytes):
                    message[field] = read(CHAIN, message[field])
                elif field in message:
                    message[field] = [
                        read(CHAIN, chain) if isinstance(chain, bytes) else chain for chain in message[field]
                    ]
        if type_url == RDS and "virtual_hosts" in message:
            message["virtual_hosts"] = [read(VIRTUAL_HOST, host) for host in message["virtual_hosts"]]
    except XdsError as error:
        return {"@type": type_url, "eastgate_error": str(error)}
    unread: list[str] = []
    shown = readable(message, "", unread)
    return {"@type": type_url, **shown, **({"eastgate_unread": unread} if unread else {})}


def readable(value: Any, path: str, unread: list[str]) -> Any:
    """The value without what was not decoded; the paths of that go to `unread`."""
    if isinstance(value, dict):
        result = {}
        for key, item in value.items():
            inner = f"{path}.{key}".lstrip(".")
            if key in ("@value", "@unknown"):
                continue
            if isinstance(item, bytes) or (isinstance(item, list) and any(isinstance(one, bytes) for one in item)):
                unread.append(inner)
            else:
                result[key] = readable(item, inner, unread)
        return result
    if isinstance(value, list):
        return [readable(item, f"{path}[{index}]", unread) for index, item in enumerate(value)]
    return value


def endpoint_address(columns: Columns, row: int) -> dict[str, Any]:
    """envoy.config.core.v3.Address of one endpoint."""
    if columns.family[row] == Family.UNIX:
        return {"pipe": {"path": columns.packed(row).decode("utf-8", "backslashreplace")}}
    return {"socket_address": {"address": columns.host(row), "port_value": columns.ports[row]}}


def further_addresses(columns: Columns, row: int) -> list[dict[str, Any]]:
    """The same of the addresses that an endpoint has beside its first."""
    return [{"socket_address": {"address": host, "port_value": port}} for host, port in columns.further_keys(row)]


def eds_health_status(health: int) -> str:
    """istioctl prints UNKNOWN for a missing status; Envoy says HEALTHY for what EDS left open."""
    return Health(health).name if Health.UNHEALTHY <= health < len(Health) else Health.HEALTHY.name


def locality_json(entry: LocalityEntry) -> dict[str, str]:
    return {key: value for key, value in entry.locality._asdict().items() if value}


def hostnames(compiled: CompiledCluster) -> Mapping[tuple[str, int], str]:
    """Names of endpoints that have one, by key. Of very large assignments they are not read."""
    if compiled.assignment is None or compiled.assignment.columns.count > HOSTNAMES_READ:
        return {}
    try:
        found = endpoint_messages(compiled.assignment.raw)
    except ValueError:
        return {}
    names = ((key, one.get("endpoint", {}).get("hostname", "")) for key, one in found.items())
    return {key: name for key, name in names if name}


def host_status(
    columns: Columns,
    row: int,
    table: ClusterTable | None,
    share: float,
    *,
    flags: int = 0,
    weight_factor: float = 1.0,
    hostname: str = "",
) -> dict[str, Any]:
    """One entry of host_statuses, with the endpoint's share of new connections beside Envoy's fields, and in slow start
    the part of its weight that it has."""
    active, total, failed, _ = table.state(row) if table is not None else (0, 0, 0, 0)
    entry, further = columns.entry(row), further_addresses(columns, row)
    status: dict[str, Any] = {"eds_health_status": eds_health_status(columns.health[row])}
    status |= {name: True for bit, (name, _) in FLAG_NAMES.items() if flags & bit}
    return {
        "address": endpoint_address(columns, row),
        "stats": [
            {"name": "cx_connect_fail", "value": str(failed)},
            {"name": "cx_total", "value": str(total)},
            {"name": "cx_active", "value": str(active), "type": "GAUGE"},
        ],
        "health_status": status,
        "weight": columns.weights[row],
        "priority": entry.priority,
        "locality": locality_json(entry),
        **({"hostname": hostname} if hostname else {}),
        **({"eastgate_additional_addresses": further} if further else {}),
        "eastgate_share": share,
        **({"eastgate_weight_factor": weight_factor} if weight_factor != 1.0 else {}),
    }


def cluster_status(
    name: str, compiled: CompiledCluster, detector: Detector[EndpointKey] | None = None
) -> dict[str, Any]:
    """One entry of cluster_statuses."""
    cluster = compiled.cluster
    limits = cluster.circuit_breakers
    status: dict[str, Any] = {
        "name": name,
        "added_via_api": True,
        "circuit_breakers": {
            "thresholds": [
                {"max_connections": limits.max_connections, "max_pending_requests": limits.max_pending_requests}
            ]
        },
        "observability_name": cluster.alt_stat_name or name,
        "eastgate_policy": cluster.lb_policy,
    }
    if limits.max_connections_per_endpoint != UNLIMITED:
        per_host = [{"max_connections": limits.max_connections_per_endpoint}]
        status["circuit_breakers"]["per_host_thresholds"] = per_host
    if cluster.assignment_name:
        status["eds_service_name"] = cluster.assignment_name
    if compiled.assignment is not None:
        columns = compiled.assignment.columns
        shares = compiled.table.shares() if compiled.table is not None else [0.0] * columns.count
        flags = compiled.flags or bytes(columns.count)
        if compiled.table is not None and compiled.table.refused:
            status["eastgate_refused_share"] = compiled.table.refused
        weights, names = compiled.weights, hostnames(compiled)
        keys = columns.all_keys() if names else []
        status["host_statuses"] = [
            host_status(
                columns,
                row,
                compiled.table,
                shares[row],
                flags=flags[row],
                weight_factor=weights.factor(row),
                hostname=names.get(keys[row], "") if names else "",
            )
            for row in range(columns.count)
        ]
        if detector is not None:
            add_rates(status, columns, detector)
    return status


def add_rates(status: dict[str, Any], columns: Columns, detector: Detector[EndpointKey]) -> None:
    """What the last interval said of success rates; as Envoy, only where there was one."""
    prefix = "local_origin_success_rate" if detector.split else "success_rate"
    found = detector.local_origin if detector.split else detector.external
    if found is not NOT_EVALUATED:
        status[f"{prefix}_ejection_threshold"] = {"value": found.threshold}
    if detector.success_rates:
        for row, host in enumerate(status["host_statuses"]):
            rate = detector.success_rates.get(key_of(columns, row))
            if rate is not None:
                host[prefix] = {"value": rate}


def clusters_json(clusters: Mapping[str, CompiledCluster], detector_of: DetectorOf = no_detector) -> Iterator[str]:
    """The JSON text of envoy.admin.v3.Clusters, a piece for each cluster."""
    yield '{\n "cluster_statuses": ['
    separator = "\n"
    for name, compiled in clusters.items():
        yield separator + json.dumps(cluster_status(name, compiled, detector_of(name)), indent=1)
        separator = ",\n"
    yield "\n ]\n}\n"


def clusters_text(clusters: Mapping[str, CompiledCluster], detector_of: DetectorOf = no_detector) -> Iterator[str]:
    """`cluster::address::key::value` lines, a piece for each cluster."""
    for key, compiled in clusters.items():
        detector = detector_of(key)
        status = cluster_status(key, compiled, detector)
        name = status["observability_name"].removesuffix(";")
        limits = status["circuit_breakers"]["thresholds"][0]
        lines = [
            f"{name}::observability_name::{status['observability_name']}",
            f"{name}::default_priority::max_connections::{limits['max_connections']}",
            f"{name}::default_priority::max_pending_requests::{limits['max_pending_requests']}",
            *(
                f"{name}::default_priority::max_connections_per_host::{one['max_connections']}"
                for one in status["circuit_breakers"].get("per_host_thresholds", ())
            ),
            f"{name}::added_via_api::true",
        ]
        if "eds_service_name" in status:
            lines.append(f"{name}::eds_service_name::{status['eds_service_name']}")
        if "eastgate_refused_share" in status:
            lines.append(f"{name}::refused_share::{status['eastgate_refused_share']:.6f}")
        if detector is not None:
            for prefix, found in (("", detector.external), ("local_origin_", detector.local_origin)):
                lines.append(f"{name}::outlier::{prefix}success_rate_average::{found.average:g}")
                lines.append(f"{name}::outlier::{prefix}success_rate_ejection_threshold::{found.threshold:g}")
        for host in status.get("host_statuses", ()):
            lines += [f"{name}::{flat_address(host['address'])}::{line}" for line in _host_lines(host)]
        yield "".join(line + "\n" for line in lines)


def _host_lines(host: Mapping[str, Any]) -> Iterable[str]:
    status = host["health_status"]
    flags = "".join(f"/{text}" for name, text in FLAG_NAMES.values() if status.get(name))
    flags += EDS_FLAGS.get(status["eds_health_status"], "/failed_eds_health")
    for stat in host["stats"]:
        yield f"{stat['name']}::{stat['value']}"
    yield f"hostname::{host.get('hostname', '')}"
    yield f"health_flags::{flags or 'healthy'}"
    yield f"weight::{host['weight']}"
    for part in ("region", "zone", "sub_zone"):
        yield f"{part}::{host['locality'].get(part, '')}"
    yield f"priority::{host['priority']}"
    for part in ("success_rate", "local_origin_success_rate"):
        yield f"{part}::{host.get(part, NO_RATE)['value']:g}"
    yield f"share::{host['eastgate_share']:.6f}"
    if "eastgate_weight_factor" in host:
        yield f"weight_factor::{host['eastgate_weight_factor']:.6f}"


def listeners_json(
    listeners: Mapping[str, OpenListener], notices: Mapping[tuple[str, str], Notices] = NO_NOTICES
) -> dict[str, Any]:
    """envoy.admin.v3.Listeners, with what could not be bound and why, and what of them has no effect or refuses."""
    statuses: list[dict[str, Any]] = []
    for name, entry in listeners.items():
        first = len(statuses)
        for bound in entry.bound.values():
            status: dict[str, Any] = {
                "name": name,
                "local_address": {"socket_address": {"address": bound.host, "port_value": bound.port}},
            }
            if bound.error:
                status["eastgate_error"] = bound.error
            statuses.append(status)
        if entry.skipped:
            statuses.append({"name": name, "eastgate_error": f"skipped: {entry.skipped}"})
        for status in statuses[first:]:
            if told := notices.get(("LDS", name)):
                status["eastgate_notices"] = [one.as_json() for one in told]
    return {"listener_statuses": statuses}


def listeners_text(
    listeners: Mapping[str, OpenListener], notices: Mapping[tuple[str, str], Notices] = NO_NOTICES
) -> str:
    """`name::address:port` lines; what does not listen says why."""
    lines = []
    for status in listeners_json(listeners, notices)["listener_statuses"]:
        where = flat_address(status["local_address"]) if "local_address" in status else "-"
        error = f" ({status['eastgate_error']})" if "eastgate_error" in status else ""
        lines.append(f"{status['name']}::{where}{error}\n")
        lines += [f"{status['name']}::{one['kind']}::{one['text']}\n" for one in status.get("eastgate_notices", ())]
    return "".join(lines)


def assignment_json(assignment: Assignment) -> dict[str, Any]:
    """ClusterLoadAssignment rebuilt from the columns, one locality entry per (priority, locality)."""
    columns = assignment.columns
    localities, weights = columns.places, columns.weights
    entries: list[dict[str, Any]] = []
    for entry in columns.localities:
        shown: dict[str, Any] = {"locality": locality_json(entry), "lb_endpoints": [], "priority": entry.priority}
        if entry.weight is not None:
            shown["load_balancing_weight"] = entry.weight
        entries.append(shown)
    hash_keys = endpoint_hash_keys(assignment.raw, use_hostname=False)
    places = columns.all_keys() if hash_keys else []
    for row in range(columns.count):
        of_mesh = columns.flags[row] & EndpointFlag.TLS_MODE_ISTIO
        further = further_addresses(columns, row)
        metadata = {"envoy.transport_socket_match": {"tlsMode": "istio"}} if of_mesh else {}
        if hash_keys and places[row] in hash_keys:
            metadata["envoy.lb"] = {"hash_key": hash_keys[places[row]].decode()}
        entries[localities[row]]["lb_endpoints"].append(
            {
                "endpoint": {
                    "address": endpoint_address(columns, row),
                    **({"additional_addresses": [{"address": one} for one in further]} if further else {}),
                },
                "health_status": eds_health_status(columns.health[row]),
                "load_balancing_weight": weights[row],
                **({"metadata": {"filter_metadata": metadata}} if metadata else {}),
            }
        )
    return {
        "@type": EDS,
        "cluster_name": assignment.cluster_name,
        "endpoints": entries,
        "policy": {
            "overprovisioning_factor": assignment.overprovisioning_factor,
            **({"weighted_priority_health": True} if assignment.weighted_priority_health else {}),
        },
    }
