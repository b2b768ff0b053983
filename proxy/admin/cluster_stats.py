"""Counters of clusters, in Envoy's names."""

from collections.abc import Iterator
from dataclasses import field
from typing import Protocol

from eastgate.fastpath.loop.cluster_slots import ClusterCounters, Ended, TlsCounters
from eastgate.proxy.membership.dns_clusters import DnsCounters
from eastgate.proxy.membership.health_state import HealthCounters
from eastgate.proxy.membership.outlier import Counters
from eastgate.xds.record import record
from eastgate.xds.resources import CircuitBreakers

from .stat import Stat, histogram, stat_part

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
    stat_name: str = ""
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


class Make(Protocol):
    """Makes a stat of one cluster."""

    def __call__(self, short: str, value: int, *, gauge: bool = False) -> Stat: ...


def cluster_stats(name: str, stats: ClusterStats) -> Iterator[Stat]:
    counters = stats.counters
    shown = stat_part(stats.stat_name or name)
    labels = (("cluster_name", shown.removesuffix(";")),)

    def stat(short: str, value: int, *, gauge: bool = False) -> Stat:
        family = f"envoy_cluster_{short.replace('.', '_')}"
        return Stat(f"cluster.{shown}.{short}", value, family, labels, gauge)

    yield from _connections(stat, stats.counters)
    # One that never had a connection has none: a mesh has thousands of them.
    for short, durations in (("connect_ms", counters.connect_ms), ("length_ms", counters.length_ms)):
        if durations is not None:
            yield histogram(f"cluster.{shown}", "envoy_cluster", f"upstream_cx_{short}", labels, durations)
    yield from _membership(stat, stats)
    if stats.secured:
        for short, value in (counters.tls or NO_HANDSHAKES)._asdict().items():
            yield stat(f"ssl.{TLS_NAMES.get(short, short)}", value)
    if stats.assignments is not None:
        yield from _assignments(stat, *stats.assignments)
    if stats.dns is not None:
        yield from _resolution(stat, stats.dns)
    if stats.health is not None:
        yield from _health_checks(stat, stats.health)
    yield from _circuit_breakers(stat, counters, stats.circuit_breakers)
    if stats.outlier is not None:
        yield stat("outlier_detection.ejections_active", stats.outlier.active, gauge=True)
        for short, value in _ejections(stats.outlier):
            yield stat(f"outlier_detection.ejections_{short}", value)


def _connections(stat: Make, counters: ClusterCounters) -> Iterator[Stat]:
    yield stat("upstream_cx_total", counters.cx_total)
    yield stat("upstream_cx_active", counters.cx_active, gauge=True)
    yield from _ends(stat, counters.ended)
    yield stat("upstream_cx_connect_fail", counters.cx_connect_fail)
    yield stat("upstream_cx_connect_timeout", counters.cx_connect_timeout)
    yield stat("upstream_cx_connect_attempts_exceeded", counters.cx_attempts_exceeded)
    yield stat("upstream_cx_none_healthy", counters.cx_none_healthy)
    yield stat("upstream_cx_overflow", counters.cx_overflow)
    yield stat("upstream_rq_pending_active", counters.pending_active, gauge=True)
    yield stat("upstream_rq_pending_overflow", counters.pending_overflow)
    yield stat("upstream_cx_rx_bytes_total", counters.rx_bytes)
    yield stat("upstream_cx_tx_bytes_total", counters.tx_bytes)


def _ends(stat: Make, ended: Ended) -> Iterator[Stat]:
    yield stat("upstream_cx_destroy", sum(ended))
    yield stat("upstream_cx_destroy_local", ended.attempts_by_us + ended.relays_by_us)
    yield stat("upstream_cx_destroy_remote", ended.attempts_by_endpoint + ended.relays_by_endpoint)
    # Envoy's word for established ones, also where nobody makes requests.
    yield stat("upstream_cx_destroy_with_active_rq", ended.relays_by_us + ended.relays_by_endpoint)
    yield stat("upstream_cx_destroy_local_with_active_rq", ended.relays_by_us)
    yield stat("upstream_cx_destroy_remote_with_active_rq", ended.relays_by_endpoint)


def _membership(stat: Make, stats: ClusterStats) -> Iterator[Stat]:
    yield stat("membership_change", stats.changes)
    yield stat("membership_total", stats.total, gauge=True)
    yield stat("membership_healthy", stats.healthy, gauge=True)
    yield stat("membership_degraded", stats.degraded, gauge=True)
    yield stat("membership_excluded", stats.excluded, gauge=True)
    yield stat("warming_state", int(stats.warming), gauge=True)
    yield stat("lb_healthy_panic", stats.panic_picks)


def _assignments(stat: Make, accepted: int, rejected: int) -> Iterator[Stat]:
    # The one that is waited for counts too.
    yield stat("update_attempt", accepted + rejected + 1)
    yield stat("update_success", accepted)
    yield stat("update_rejected", rejected)


def _resolution(stat: Make, dns: DnsCounters) -> Iterator[Stat]:
    yield stat("update_attempt", dns.attempt)
    yield stat("update_success", dns.success)
    yield stat("update_failure", dns.failure)
    yield stat("update_empty", dns.empty)


def _health_checks(stat: Make, health: HealthCounters) -> Iterator[Stat]:
    yield stat("health_check.attempt", health.attempt)
    yield stat("health_check.success", health.success)
    yield stat("health_check.failure", health.failure)
    # The filter that would let an endpoint fail itself is an HTTP one.
    yield stat("health_check.passive_failure", 0)
    yield stat("health_check.network_failure", health.network_failure)
    yield stat("health_check.verify_cluster", health.verify_cluster)
    yield stat("health_check.healthy", health.healthy, gauge=True)
    yield stat("health_check.degraded", health.degraded, gauge=True)


def _circuit_breakers(stat: Make, counters: ClusterCounters, limits: CircuitBreakers) -> Iterator[Stat]:
    for short, left_name, active, limit in (
        ("cx_open", "remaining_cx", counters.cx_active, limits.max_connections),
        ("rq_pending_open", "remaining_pending", counters.pending_active, limits.max_pending_requests),
    ):
        yield stat(f"circuit_breakers.default.{short}", int(active >= limit), gauge=True)
        if limits.track_remaining:
            yield stat(f"circuit_breakers.default.{left_name}", max(0, limit - active), gauge=True)


def _ejections(counters: Counters) -> Iterator[tuple[str, int]]:
    yield "enforced_total", counters.enforced_total
    yield "overflow", counters.overflow
    for kind, value in counters.detected.items():
        yield f"detected_{kind.value}", value
    for kind, value in counters.enforced.items():
        yield f"enforced_{kind.value}", value
    yield "total", counters.total
    yield "consecutive_5xx", counters.consecutive_5xx
    yield "success_rate", counters.success_rate
