"""Everything that a process counts, and as a flat list in Envoy's names. Serves nothing."""

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import field

from eastgate.fastpath.loop.listener_states import ListenerCounters
from eastgate.fastpath.loop.worker_totals import BusyPolls, Inspected
from eastgate.fastpath.match.chain_counts import ChainCounters
from eastgate.fastpath.match.proxy_counts import Proxied
from eastgate.fastpath.tables.hashing import xxh64
from eastgate.xds.record import record

from .cluster_stats import EVERY, ClusterStats, cluster_stats, prefix_of
from .histograms import durations_of_ms
from .listener_stats import chain_stats, inspector_stats, listener_stats, listener_tls_stats, proxied_stats
from .stat import Choice, Group, Stat, histogram, one_by_one

# server.state of Envoy.
LIVE, DRAINING, PRE_INITIALIZING, INITIALIZING = range(4)
STATE_NAMES = ("LIVE", "DRAINING", "PRE_INITIALIZING", "INITIALIZING")

NO_POLLS = BusyPolls(0, 0, 0)
# Field of process_pages.memory_bytes -> Envoy's gauge.
MEMORY_GAUGES = {
    "allocated": "memory_allocated",
    "heap_size": "memory_heap_size",
    "total_physical_bytes": "memory_physical_size",
}


@record
class StreamStats:
    """One resource type of the xDS stream, under Envoy's prefix (cluster_manager.cds and so on). ``resources``: how
    many the ledger has in each state; ``rejections``: rejected versions of single resources. ``updated_ms``: when the
    last success was, in Unix time; ``durations_ms``: see TypeStatistics.
    """

    prefix: str
    update_attempt: int
    update_success: int
    update_rejected: int
    update_failure: int
    version: str
    kind: str = ""
    rejections: int = 0
    updated_ms: int = 0
    durations_ms: Mapping[int, int] = field(default_factory=dict)
    resources: Mapping[str, int] = field(default_factory=dict)


@record
class ProcessStats:
    """Everything that is counted, at one moment."""

    state: int
    uptime_s: int
    workers_started: bool
    connected: bool
    connects: int = 0
    listeners: Mapping[str, ListenerCounters] = field(default_factory=dict)
    clusters: Mapping[str, ClusterStats] = field(default_factory=dict)
    """Counted when they are asked for; those that left meanwhile are missing"""
    stat_names: Mapping[str, str] = field(default_factory=dict)
    """Of clusters that are shown by another name"""
    warming: Collection[str] = ()
    """Names of clusters that wait for endpoints"""
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
    proxied: Mapping[str, Proxied] = field(default_factory=dict)
    """By stat_prefix of the filter"""
    workers: int = 0
    memory: Mapping[str, int] = field(default_factory=dict)
    """See process_pages"""
    further: Iterable[Stat] = ()
    """Made by other parts; taken once"""
    watchdog: tuple[tuple[int, int], ...] = ()
    """By worker: turns that did not end in time, and those of them that lasted"""


def _stream(stream: StreamStats) -> Iterator[Stat]:
    family = "envoy_" + stream.prefix.replace(".", "_").replace("-", "_")
    for short in ("update_attempt", "update_success", "update_rejected", "update_failure"):
        yield Stat(f"{stream.prefix}.{short}", getattr(stream, short), f"{family}_{short}")
    if stream.kind:
        # As Envoy has them: the number of a version is the hash of its text, and none of either is 0.
        number = xxh64(stream.version.encode()) if stream.version else 0
        for short, value in (("update_time", stream.updated_ms), ("version", number)):
            yield Stat(f"{stream.prefix}.{short}", value, f"{family}_{short}", gauge=True)
        yield histogram(stream.prefix, family, "update_duration", (), durations_of_ms(stream.durations_ms))
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


def _watchdog(misses: tuple[tuple[int, int], ...]) -> Iterator[Stat]:
    for place, short in enumerate(("watchdog_miss", "watchdog_mega_miss")):
        yield Stat(f"workers.{short}", sum(one[place] for one in misses), f"envoy_workers_{short}")
        for number, one in enumerate(misses):
            name, labels = f"server.worker_{number}.{short}", (("worker_id", str(number)),)
            yield Stat(name, one[place], f"envoy_server_worker_{short}", labels)


def stats_of(process: ProcessStats) -> Iterator[Stat]:
    """All stats, one by one."""
    return one_by_one(counted(process, Choice()))


def counted(process: ProcessStats, choice: Choice) -> Iterator[Stat | Group | None]:
    """All stats, by what they are about. None stands for a cluster that has none of those chosen: it is not counted."""

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
    yield gauge("cluster_manager.active_clusters", len(process.clusters) - len(process.warming))
    yield gauge("cluster_manager.warming_clusters", len(process.warming))
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
        yield from inspector_stats(process.inspected)
    if process.proxied:
        yield from proxied_stats(process.proxied)
    for prefix, chain in process.chains.items():
        yield chain_stats(prefix, chain)
    yield from process.further
    for stream in process.streams:
        yield from _stream(stream)
    for name, counters in process.listeners.items():
        yield from listener_stats(name, counters)
        if name in process.terminating:
            yield from listener_tls_stats(name, counters)
    yield from _clusters(process, choice)


def _clusters(process: ProcessStats, choice: Choice) -> Iterator[Stat | Group | None]:
    for name in process.clusters:
        shown = process.stat_names.get(name) or name
        if choice.may_have(prefix_of(shown), EVERY) and (stats := process.clusters.get(name)) is not None:
            yield from cluster_stats(shown, stats)
        else:
            yield None
