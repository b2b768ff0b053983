"""Counters in Envoy's names: a flat list, and its text and JSON forms. Serves nothing."""

import json
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from eastgate.fastpath.loop.cluster_slots import ClusterCounters, TlsCounters
from eastgate.fastpath.loop.histogram import Durations
from eastgate.fastpath.loop.listener_states import ListenerCounters
from eastgate.fastpath.loop.worker_totals import BusyPolls, Inspected
from eastgate.fastpath.match.chain_counts import ChainCounters
from eastgate.fastpath.reason import LABELS, Reason
from eastgate.proxy.membership.dns_clusters import DnsCounters
from eastgate.proxy.membership.health_state import HealthCounters
from eastgate.proxy.membership.outlier import Counters
from eastgate.xds.resources import CircuitBreakers

from . import histograms
from .histograms import Buckets

# server.state of Envoy.
LIVE, DRAINING, PRE_INITIALIZING, INITIALIZING = range(4)
STATE_NAMES = ("LIVE", "DRAINING", "PRE_INITIALIZING", "INITIALIZING")

# Refusals that Envoy counts as no_filter_chain_match.
NO_CHAIN = (
    Reason.NOT_TLS,
    Reason.NO_SNI,
    Reason.MALFORMED_SNI,
    Reason.MALFORMED_HELLO,
    Reason.UNKNOWN_SERVER_NAME,
    Reason.ALPN_MISMATCH,
    Reason.MANY_PROTOCOLS,
    Reason.ADDRESS_MISMATCH,
)
# Refusals before a filter chain is found. Envoy counts a connection from there on. LIMIT is none of them: it may
# concern the upstream side as well.
BEFORE_CHAIN = (
    *NO_CHAIN,
    Reason.IDLE_PROBE,
    Reason.HELLO_TIMEOUT,
    Reason.TRUNCATED_HELLO,
    Reason.HELLO_TOO_LARGE,
    Reason.MALFORMED_PROXY_HEADER,
    Reason.SILENT,
    Reason.OVERLOAD,
)
# Ends of a served connection, as opposed to refusals.
ENDED = (
    Reason.NONE,
    Reason.IDLE_TIMEOUT,
    Reason.DURATION_TIMEOUT,
    Reason.UPSTREAM_RESET,
    Reason.CLIENT_RESET,
)


NO_POLLS = BusyPolls(0, 0, 0)
# Field of process_pages.memory_bytes -> Envoy's gauge.
MEMORY_GAUGES = {
    "allocated": "memory_allocated",
    "heap_size": "memory_heap_size",
    "total_physical_bytes": "memory_physical_size",
}
NO_HANDSHAKES = TlsCounters(0, 0, 0, 0, 0)
# Envoy's names where ours differ.
TLS_NAMES = {"handshakes": "handshake", "resumed": "session_reused"}
# Handshakes with clients that failed, by Envoy's counter of them. Envoy has no timeout of its own for them.
CLIENT_TLS_FAILURES = {
    "fail_verify_error": (Reason.TLS_UNKNOWN_CA, Reason.TLS_EXPIRED),
    "fail_verify_san": (Reason.TLS_WRONG_NAME,),
    "fail_verify_no_cert": (Reason.TLS_NO_CERTIFICATE,),
    "connection_error": (Reason.TLS_VERSION, Reason.TLS_HELLO_CHANGED, Reason.TLS_REFUSED, Reason.TLS_FAILED),
}


@dataclass(frozen=True, slots=True)
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


@dataclass(frozen=True, slots=True)
class StreamStats:
    """One resource type of the xDS stream, under Envoy's prefix (cluster_manager.cds and so on). ``resources``: how
    many the ledger has in each state; ``rejections``: rejected versions of single resources.
    """

    prefix: str
    update_attempt: int
    update_success: int
    update_rejected: int
    update_failure: int
    version: str
    kind: str = ""
    rejections: int = 0
    resources: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ProcessStats:
    """Everything that is counted, at one moment."""

    state: int
    uptime_s: int
    workers_started: bool
    connected: bool
    connects: int = 0
    listeners: Mapping[str, ListenerCounters] = field(default_factory=dict)
    clusters: Mapping[str, ClusterStats] = field(default_factory=dict)
    streams: tuple[StreamStats, ...] = ()
    events_dropped: int = 0
    pipes_refused: int = 0
    busy_polls: BusyPolls = NO_POLLS
    memory_pressure: float | None = None
    """Part of the cgroup's memory limit that is in use; None without a limit"""
    shedding: bool = False
    access_log_failed: int = 0
    access_log_dropped: int = 0
    stale: bool = False
    state_save_failed: int = 0
    journal: tuple[int, int, int] = (0, 0, 0)
    """Pushes recorded, lost to a slow disk, and refused by it."""
    days_until_first_cert_expiring: int | None = None
    control_errors: Mapping[str, int] = field(default_factory=dict)
    """Faults by part."""
    terminating: Collection[str] = ()
    """Names of listeners with chains that terminate TLS"""
    chains: Mapping[str, ChainCounters] = field(default_factory=dict)
    """By stat_prefix"""
    inspected: Inspected | None = None
    workers: int = 0
    memory: Mapping[str, int] = field(default_factory=dict)
    """See process_pages"""
    istio: "Iterable[Stat]" = ()
    """Istio's metrics; taken once"""
    watchdog: tuple[tuple[int, int], ...] = ()
    """By worker: turns that did not end in time, and those of them that lasted"""


Labels = tuple[tuple[str, str], ...]


class Kind(StrEnum):
    """What a stat is, in Prometheus' words."""

    COUNTER = "counter"
    GAUGE = "gauge"
    HISTOGRAM = "histogram"


@dataclass(frozen=True, slots=True)
class Stat:
    """One value: Envoy's flat name, its Prometheus family and labels, and whether it can fall."""

    name: str
    value: int
    family: str
    labels: Labels = ()
    gauge: bool = False
    help: str = ""
    durations: Durations | None = None
    """Of a histogram, whose value is how many there are"""

    @property
    def kind(self) -> Kind:
        if self.durations is not None:
            return Kind.HISTOGRAM
        return Kind.GAUGE if self.gauge else Kind.COUNTER


# Verdicts of RBAC filters, in the order of ListenerCounters.rbac; Envoy's names but for LOG.
RBAC = ("allowed", "denied", "shadow_allowed", "shadow_denied", "logged")


def stat_part(name: str) -> str:
    """A name as a part of a counter's: colons become underscores, as Envoy has it for listeners and clusters."""
    return name.replace(":", "_")


def _histogram(prefix: str, family: str, short: str, labels: Labels, durations: Durations) -> Stat:
    return Stat(f"{prefix}.{short}", sum(durations.counts), f"{family}_{short}", labels, durations=durations)


def _listener(name: str, counters: ListenerCounters) -> Iterator[Stat]:
    address = stat_part(name)
    labels = (("listener_address", address),)
    refused = counters.refused

    def stat(short: str, value: int, *, gauge: bool = False) -> Stat:
        return Stat(f"listener.{address}.{short}", value, f"envoy_listener_{short}", labels, gauge)

    # Those that wait for their chain count in both.
    active = counters.cx_active - counters.cx_pre_active
    total = counters.cx_total - counters.cx_pre_active - sum(refused[reason] for reason in BEFORE_CHAIN)
    yield stat("downstream_cx_total", total)
    yield stat("downstream_cx_active", active, gauge=True)
    yield stat("downstream_cx_destroy", total - active)
    yield stat("downstream_pre_cx_active", counters.cx_pre_active, gauge=True)
    yield stat("downstream_pre_cx_timeout", refused[Reason.HELLO_TIMEOUT])
    yield stat("downstream_listener_filter_remote_close", refused[Reason.IDLE_PROBE] + refused[Reason.TRUNCATED_HELLO])
    yield stat("downstream_cx_overflow", refused[Reason.LIMIT])
    yield stat("downstream_cx_overload_reject", refused[Reason.OVERLOAD])
    yield stat("no_filter_chain_match", sum(refused[reason] for reason in NO_CHAIN))
    yield _histogram(f"listener.{address}", "envoy_listener", "downstream_cx_length_ms", labels, counters.length_ms)
    # What Envoy does not count by listener.
    for short, value in (
        ("accepted_total", counters.cx_total),
        ("rx_bytes_total", counters.rx_bytes),
        ("tx_bytes_total", counters.tx_bytes),
    ):
        yield Stat(f"listener.{address}.eastgate.{short}", value, f"eastgate_listener_{short}", labels)
    if any(counters.rbac):
        for short, value in zip(RBAC, counters.rbac, strict=True):
            yield Stat(f"listener.{address}.rbac.{short}", value, f"envoy_listener_rbac_{short}", labels)
    for reason in Reason:
        if reason is Reason.REASON_COUNT or reason in ENDED:
            continue
        yield Stat(
            f"listener.{address}.refused.{LABELS[reason]}",
            refused[reason],
            "eastgate_refused_connections_total",
            (*labels, ("reason", LABELS[reason])),
            help="Connections refused, by reason",
        )


def _cluster(name: str, stats: ClusterStats) -> Iterator[Stat]:
    counters = stats.counters
    shown = stat_part(stats.stat_name or name)
    labels = (("cluster_name", shown.removesuffix(";")),)

    def stat(short: str, value: int, *, gauge: bool = False) -> Stat:
        family = f"envoy_cluster_{short.replace('.', '_')}"
        return Stat(f"cluster.{shown}.{short}", value, family, labels, gauge)

    yield stat("upstream_cx_total", counters.cx_total)
    yield stat("upstream_cx_active", counters.cx_active, gauge=True)
    yield stat("upstream_cx_destroy", max(0, counters.cx_total - counters.cx_active))
    yield stat("upstream_cx_connect_fail", counters.cx_connect_fail)
    yield stat("upstream_cx_connect_timeout", counters.cx_connect_timeout)
    yield stat("upstream_cx_none_healthy", counters.cx_none_healthy)
    yield stat("upstream_cx_overflow", counters.cx_overflow)
    yield stat("upstream_rq_pending_active", counters.pending_active, gauge=True)
    yield stat("upstream_rq_pending_overflow", counters.pending_overflow)
    yield stat("upstream_cx_rx_bytes_total", counters.rx_bytes)
    yield stat("upstream_cx_tx_bytes_total", counters.tx_bytes)
    # One that never had a connection has none: a mesh has thousands of them.
    for short, durations in (("connect_ms", counters.connect_ms), ("length_ms", counters.length_ms)):
        if durations is not None:
            yield _histogram(f"cluster.{shown}", "envoy_cluster", f"upstream_cx_{short}", labels, durations)
    yield stat("membership_change", stats.changes)
    yield stat("membership_total", stats.total, gauge=True)
    yield stat("membership_healthy", stats.healthy, gauge=True)
    yield stat("membership_degraded", stats.degraded, gauge=True)
    yield stat("membership_excluded", stats.excluded, gauge=True)
    yield stat("warming_state", int(stats.warming), gauge=True)
    yield stat("lb_healthy_panic", stats.panic_picks)
    if stats.secured:
        for short, value in (counters.tls or NO_HANDSHAKES)._asdict().items():
            yield stat(f"ssl.{TLS_NAMES.get(short, short)}", value)
    if stats.assignments is not None:
        accepted, rejected = stats.assignments
        # The one that is waited for counts too.
        yield stat("update_attempt", accepted + rejected + 1)
        yield stat("update_success", accepted)
        yield stat("update_rejected", rejected)
    if stats.dns is not None:
        yield stat("update_attempt", stats.dns.attempt)
        yield stat("update_success", stats.dns.success)
        yield stat("update_failure", stats.dns.failure)
        yield stat("update_empty", stats.dns.empty)
    if stats.health is not None:
        health = stats.health
        yield stat("health_check.attempt", health.attempt)
        yield stat("health_check.success", health.success)
        yield stat("health_check.failure", health.failure)
        # The filter that would let an endpoint fail itself is an HTTP one.
        yield stat("health_check.passive_failure", 0)
        yield stat("health_check.network_failure", health.network_failure)
        yield stat("health_check.verify_cluster", health.verify_cluster)
        yield stat("health_check.healthy", health.healthy, gauge=True)
        yield stat("health_check.degraded", health.degraded, gauge=True)
    limits = stats.circuit_breakers
    for short, left_name, active, limit in (
        ("cx_open", "remaining_cx", counters.cx_active, limits.max_connections),
        ("rq_pending_open", "remaining_pending", counters.pending_active, limits.max_pending_requests),
    ):
        yield stat(f"circuit_breakers.default.{short}", int(active >= limit), gauge=True)
        if limits.track_remaining:
            yield stat(f"circuit_breakers.default.{left_name}", max(0, limit - active), gauge=True)
    if stats.outlier is not None:
        yield stat("outlier_detection.ejections_active", stats.outlier.active, gauge=True)
        for short, value in _ejections(stats.outlier):
            yield stat(f"outlier_detection.ejections_{short}", value)


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


def _stream(stream: StreamStats) -> Iterator[Stat]:
    for short in ("update_attempt", "update_success", "update_rejected", "update_failure"):
        name = f"{stream.prefix}.{short}"
        yield Stat(name, getattr(stream, short), "envoy_" + name.replace(".", "_").replace("-", "_"))
    kind = stream.kind.lower()
    labels = (("type", stream.kind),)
    for state, count in stream.resources.items():
        name = f"eastgate.xds.{kind}.{state.lower()}"
        yield Stat(
            name,
            count,
            "eastgate_xds_resources",
            (*labels, ("state", state.lower())),
            gauge=True,
            help="Resources by state in the ACK/NACK ledger",
        )
    if kind:
        yield Stat(
            f"eastgate.xds.{kind}.rejections",
            stream.rejections,
            "eastgate_xds_rejections_total",
            labels,
            help="Rejected versions of single resources",
        )


def _inspector(found: Inspected) -> Iterator[Stat]:
    for short, value in (
        *found._asdict().items(),
        ("sni_not_found", found.tls_found - found.sni_found),
        ("alpn_not_found", found.tls_found - found.alpn_found),
    ):
        yield Stat(f"tls_inspector.{short}", value, f"envoy_tls_inspector_{short}")


def _chain(prefix: str, counters: ChainCounters) -> Iterator[Stat]:
    shown = stat_part(prefix)
    labels = (("tcp_prefix", shown),)
    for short, value in (
        ("downstream_cx_total", counters.cx_total),
        ("downstream_cx_rx_bytes_total", counters.rx_bytes),
        ("downstream_cx_tx_bytes_total", counters.tx_bytes),
        ("downstream_cx_no_route", counters.no_route),
        ("idle_timeout", counters.idle_timeout),
        ("max_downstream_connection_duration", counters.max_duration),
    ):
        yield Stat(f"tcp.{shown}.{short}", value, f"envoy_tcp_{short}", labels)


def _listener_tls(name: str, counters: ListenerCounters) -> Iterator[Stat]:
    address = stat_part(name)
    labels = (("listener_address", address),)
    for short, value in (
        ("handshake", counters.tls_handshakes),
        ("session_reused", counters.tls_resumed),
        *((short, sum(counters.refused[one] for one in reasons)) for short, reasons in CLIENT_TLS_FAILURES.items()),
    ):
        yield Stat(f"listener.{address}.ssl.{short}", value, f"envoy_listener_ssl_{short}", labels)


def _watchdog(misses: tuple[tuple[int, int], ...]) -> Iterator[Stat]:
    for place, short in enumerate(("watchdog_miss", "watchdog_mega_miss")):
        yield Stat(f"workers.{short}", sum(one[place] for one in misses), f"envoy_workers_{short}")
        for number, one in enumerate(misses):
            name, labels = f"server.worker_{number}.{short}", (("worker_id", str(number)),)
            yield Stat(name, one[place], f"envoy_server_worker_{short}", labels)


def stats_of(process: ProcessStats) -> Iterator[Stat]:
    """All stats, grouped by what they are about."""

    def gauge(name: str, value: int) -> Stat:
        return Stat(name, value, "envoy_" + name.replace(".", "_"), gauge=True)

    yield gauge("server.state", process.state)
    yield gauge("server.live", int(process.state == LIVE))
    yield gauge("server.uptime", process.uptime_s)
    yield gauge("server.concurrency", max(1, process.workers))
    yield gauge("server.hot_restart_epoch", 0)
    yield gauge("server.total_connections", sum(one.cx_active for one in process.listeners.values()))
    for field_name, name in MEMORY_GAUGES.items():
        if field_name in process.memory:
            yield gauge(f"server.{name}", process.memory[field_name])
    yield gauge("listener_manager.workers_started", int(process.workers_started))
    yield gauge("listener_manager.total_listeners_active", len(process.listeners))
    yield gauge("cluster_manager.active_clusters", sum(not stats.warming for stats in process.clusters.values()))
    yield gauge("cluster_manager.warming_clusters", sum(stats.warming for stats in process.clusters.values()))
    yield gauge("control_plane.connected_state", int(process.connected))
    yield Stat("eastgate.xds.streams", process.connects, "eastgate_xds_streams_total", help="ADS streams that answered")
    if process.days_until_first_cert_expiring is not None:
        yield gauge("server.days_until_first_cert_expiring", process.days_until_first_cert_expiring)
    yield Stat("eastgate.configuration_stale", int(process.stale), "eastgate_configuration_stale", gauge=True)
    yield Stat("eastgate.state_save_failed", process.state_save_failed, "eastgate_state_save_failed_total")
    for short, value in zip(("recorded", "lost", "failed"), process.journal, strict=True):
        yield Stat(f"eastgate.journal.{short}", value, f"eastgate_journal_{short}_total")
    yield Stat("eastgate.events_dropped", process.events_dropped, "eastgate_events_dropped_total")
    if process.memory_pressure is not None:
        yield gauge("overload.envoy.resource_monitors.cgroup_memory.pressure", round(100 * process.memory_pressure))
    yield gauge("overload.envoy.overload_actions.reject_incoming_connections.active", int(process.shedding))
    yield Stat("eastgate.pipes_refused", process.pipes_refused, "eastgate_pipes_refused_total")
    for short, value in process.busy_polls._asdict().items():
        yield Stat(f"eastgate.busy_poll.{short}", value, f"eastgate_busy_poll_{short}_total")
    yield Stat("eastgate.access_log_failed", process.access_log_failed, "eastgate_access_log_failed_total")
    yield Stat("eastgate.access_log_dropped", process.access_log_dropped, "eastgate_access_log_dropped_total")
    for part, count in process.control_errors.items():
        yield Stat(
            f"eastgate.control_errors.{part}",
            count,
            "eastgate_control_errors_total",
            (("part", part),),
            help="Faults of the control side that were caught",
        )
    yield from _watchdog(process.watchdog)
    if process.inspected is not None:
        yield from _inspector(process.inspected)
    for prefix, chain in process.chains.items():
        yield from _chain(prefix, chain)
    yield from process.istio
    for stream in process.streams:
        yield from _stream(stream)
    for name, counters in process.listeners.items():
        yield from _listener(name, counters)
        if name in process.terminating:
            yield from _listener_tls(name, counters)
    for name, stats in process.clusters.items():
        yield from _cluster(name, stats)


# ?type= of /stats, as Envoy spells them -> which stats.
TYPES: dict[str, frozenset[Kind]] = {
    "All": frozenset(Kind),
    "Counters": frozenset((Kind.COUNTER,)),
    "Gauges": frozenset((Kind.GAUGE,)),
    "Histograms": frozenset((Kind.HISTOGRAM,)),
    "TextReadouts": frozenset(),
}


def select(
    stats: Iterable[Stat],
    *,
    matches: Callable[[str], bool] | None = None,
    used_only: bool = False,
    kinds: Collection[Kind] = frozenset(Kind),
) -> Iterator[Stat | None]:
    """Stats of these kinds with a name that matches, None for others; `used_only` leaves out what never counted.

    Gauges always count as used: a server.state of 0 means LIVE.
    """
    for stat in stats:
        wanted = stat.kind in kinds and (stat.gauge or stat.value or not used_only)
        yield stat if wanted and (matches is None or matches(stat.name)) else None


def as_text(stats: Iterable[Stat], versions: Mapping[str, str], form: Buckets = Buckets.NONE) -> Iterator[str]:
    """`name: value` lines, version texts first and histograms last."""
    for name, text in sorted(versions.items()):
        if text:
            yield f'{name}: "{text}"\n'
    last = []
    for stat in stats:
        if stat.durations is None:
            yield f"{stat.name}: {stat.value}\n"
        else:
            last.append(stat)
    for stat in last:
        if stat.durations is not None:
            yield f"{stat.name}: {histograms.as_text(stat.durations, form)}\n"


def as_json(stats: Iterable[Stat], form: Buckets = Buckets.NONE) -> Iterator[str]:
    """The JSON text of all stats, a piece for each; all histograms are one element, as in Envoy."""
    yield '{\n "stats": ['
    separator = "\n"
    last = []
    for stat in stats:
        if stat.durations is not None:
            last.append((stat.name, stat.durations))
            continue
        yield f'{separator}  {{"name": {json.dumps(stat.name)}, "value": {stat.value}}}'
        separator = ",\n"
    if last:
        yield f"{separator}  "
        yield from histograms.json_pieces(last, form)
    yield "\n ]\n}\n"
