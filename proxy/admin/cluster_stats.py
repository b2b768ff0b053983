"""Counters of clusters, in Envoy's names."""

from collections.abc import Iterator
from dataclasses import field

from eastgate.fastpath.loop.cluster_slots import ClusterCounters, TlsCounters
from eastgate.proxy.membership.dns_clusters import DnsCounters
from eastgate.proxy.membership.health_state import HealthCounters
from eastgate.proxy.membership.outlier import Counters, EjectionType
from eastgate.xds.record import record
from eastgate.xds.resources import CircuitBreakers

from .stat import Group, Shorts, Stat, histogram, names_of, shorts, stat_part

NO_HANDSHAKES = TlsCounters(0, 0, 0, 0, 0)
# Envoy's names where ours differ.
TLS_NAMES = {"handshakes": "handshake", "resumed": "session_reused"}


@record
class ClusterStats:
    """One cluster: traffic counters and what its table says of its endpoints."""

    counters: ClusterCounters
    total: int = 0
    healthy: int = 0
    degraded: int = 0
    excluded: int = 0
    changes: int = 0
    """How often endpoints came or went"""
    warming: bool = False
    dns: DnsCounters | None = None
    health: HealthCounters | None = None
    outlier: Counters | None = None
    """None: the cluster has no outlier detection"""
    circuit_breakers: CircuitBreakers = field(default_factory=CircuitBreakers)
    assignments: tuple[int, int] | None = None
    """How often EDS brought its endpoints: accepted, rejected; None for other types"""
    panic_picks: int = 0
    secured: bool = False
    """Some of its endpoints are spoken to with TLS"""


FAMILY = "envoy_cluster"
CONNECTIONS = shorts(
    "upstream_cx_total",
    "upstream_cx_destroy",
    "upstream_cx_destroy_local",
    "upstream_cx_destroy_remote",
    # Envoy's word for established ones, also where nobody makes requests.
    "upstream_cx_destroy_with_active_rq",
    "upstream_cx_destroy_local_with_active_rq",
    "upstream_cx_destroy_remote_with_active_rq",
    "upstream_cx_connect_fail",
    "upstream_cx_connect_timeout",
    "upstream_cx_connect_attempts_exceeded",
    "upstream_cx_none_healthy",
    "upstream_cx_overflow",
    "upstream_rq_pending_overflow",
    "upstream_cx_rx_bytes_total",
    "upstream_cx_tx_bytes_total",
    gauges=("upstream_cx_active", "upstream_rq_pending_active"),
)
MEMBERSHIP = shorts(
    "membership_change",
    "lb_healthy_panic",
    gauges=("membership_total", "membership_healthy", "membership_degraded", "membership_excluded", "warming_state"),
)
TLS = shorts(*(f"ssl.{TLS_NAMES.get(short, short)}" for short in TlsCounters._fields))
ASSIGNMENTS = shorts("update_attempt", "update_success", "update_rejected")
RESOLUTION = shorts("update_attempt", "update_success", "update_failure", "update_empty")
HEALTH_CHECKS = shorts(
    *(f"health_check.{short}" for short in ("attempt", "success", "failure", "passive_failure", "network_failure")),
    "health_check.verify_cluster",
    gauges=("health_check.healthy", "health_check.degraded"),
)
BREAKERS = shorts(gauges=("circuit_breakers.default.cx_open", "circuit_breakers.default.rq_pending_open"))
REMAINING = shorts(gauges=("circuit_breakers.default.remaining_cx", "circuit_breakers.default.remaining_pending"))
EJECTIONS = shorts(
    *(f"outlier_detection.ejections_{short}" for short in ("enforced_total", "overflow")),
    *(f"outlier_detection.ejections_detected_{kind.value}" for kind in EjectionType),
    *(f"outlier_detection.ejections_enforced_{kind.value}" for kind in EjectionType),
    *(f"outlier_detection.ejections_{short}" for short in ("total", "consecutive_5xx", "success_rate")),
    gauges=("outlier_detection.ejections_active",),
)
DURATIONS = shorts("upstream_cx_connect_ms", "upstream_cx_length_ms")
EVERY = names_of(
    FAMILY,
    (CONNECTIONS, MEMBERSHIP, TLS, ASSIGNMENTS, RESOLUTION, HEALTH_CHECKS, BREAKERS, REMAINING, EJECTIONS, DURATIONS),
)
"""What a cluster may have."""


def prefix_of(name: str) -> str:
    """How the names of its counters begin; ``name``: the cluster's, or its alt_stat_name."""
    return f"cluster.{stat_part(name)}."


def cluster_stats(name: str, stats: ClusterStats) -> Iterator[Stat | Group]:
    """``name``: the cluster's, or its alt_stat_name."""
    shown = stat_part(name)
    labels = (("cluster_name", shown.removesuffix(";")),)
    counters = stats.counters
    # One that never had a connection has none: a mesh has thousands of them.
    for (short, _), durations in zip(DURATIONS, (counters.connect_ms, counters.length_ms), strict=True):
        if durations is not None:
            yield histogram(f"cluster.{shown}", FAMILY, short, labels, durations)
    parts: list[Shorts] = [CONNECTIONS, MEMBERSHIP, BREAKERS]
    breakers, remaining = _circuit_breakers(counters, stats.circuit_breakers)
    values = [*_connections(counters), *_membership(stats), *breakers]
    if stats.circuit_breakers.track_remaining:
        parts.append(REMAINING)
        values += remaining
    if stats.secured:
        parts.append(TLS)
        values += counters.tls or NO_HANDSHAKES
    if stats.assignments is not None:
        accepted, rejected = stats.assignments
        parts.append(ASSIGNMENTS)
        # The one that is waited for counts too.
        values += (accepted + rejected + 1, accepted, rejected)
    if (dns := stats.dns) is not None:
        parts.append(RESOLUTION)
        values += (dns.attempt, dns.success, dns.failure, dns.empty)
    if stats.health is not None:
        parts.append(HEALTH_CHECKS)
        values += _health_checks(stats.health)
    if stats.outlier is not None:
        parts.append(EJECTIONS)
        values += _ejections(stats.outlier)
    yield Group(prefix_of(name), labels, names_of(FAMILY, tuple(parts)), tuple(values))


def _connections(counters: ClusterCounters) -> tuple[int, ...]:
    ended = counters.ended
    return (
        counters.cx_total,
        sum(ended),
        ended.attempts_by_us + ended.relays_by_us,
        ended.attempts_by_endpoint + ended.relays_by_endpoint,
        ended.relays_by_us + ended.relays_by_endpoint,
        ended.relays_by_us,
        ended.relays_by_endpoint,
        counters.cx_connect_fail,
        counters.cx_connect_timeout,
        counters.cx_attempts_exceeded,
        counters.cx_none_healthy,
        counters.cx_overflow,
        counters.pending_overflow,
        counters.rx_bytes,
        counters.tx_bytes,
        counters.cx_active,
        counters.pending_active,
    )


def _membership(stats: ClusterStats) -> tuple[int, ...]:
    changed = (stats.changes, stats.panic_picks)
    return (*changed, stats.total, stats.healthy, stats.degraded, stats.excluded, int(stats.warming))


def _health_checks(health: HealthCounters) -> tuple[int, ...]:
    # The filter that would let an endpoint fail itself is an HTTP one.
    passive = 0
    checks = (health.attempt, health.success, health.failure, passive, health.network_failure, health.verify_cluster)
    return (*checks, health.healthy, health.degraded)


def _circuit_breakers(counters: ClusterCounters, limits: CircuitBreakers) -> tuple[tuple[int, int], tuple[int, int]]:
    """Whether they are open, and what is left until they are: of connections, of pending ones."""
    active, pending = counters.cx_active, counters.pending_active
    most, most_pending = limits.max_connections, limits.max_pending_requests
    return (int(active >= most), int(pending >= most_pending)), (max(0, most - active), max(0, most_pending - pending))


def _ejections(counters: Counters) -> tuple[int, ...]:
    return (
        counters.enforced_total,
        counters.overflow,
        *(counters.detected[kind] for kind in EjectionType),
        *(counters.enforced[kind] for kind in EjectionType),
        counters.total,
        counters.consecutive_5xx,
        counters.success_rate,
        counters.active,
    )
