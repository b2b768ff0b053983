"""Snapshot -> tables of the fast path: the only line that control side and data side share.

Tables are compiled in slices, so that a large push leaves the loop free in between and can be given up for a newer
one; then everything is published in one turn, clusters before routes. What did not change is not compiled again. What
cannot be compiled is rejected by name; its last good table stays published.
"""

from collections import deque
from collections.abc import Callable, Collection, Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from json import dumps
from struct import pack
from time import monotonic
from types import MappingProxyType

from eastgate.fastpath.loop.cluster_slots import ClusterCounters, ClusterSlots
from eastgate.fastpath.match.chains import DEFAULT_CONNECT_ATTEMPTS, ChainSpec
from eastgate.fastpath.match.route_table import RouteTable
from eastgate.fastpath.reason import Reason
from eastgate.fastpath.tables.cluster_table import ClusterTable
from eastgate.insight.cluster_model import ZONED, Census
from eastgate.proxy.control_errors import ControlErrors, Part
from eastgate.proxy.log import Log
from eastgate.proxy.membership.endpoint_flags import FAILED, Judge, as_discovered, combined, endpoint_keys, judged
from eastgate.proxy.membership.endpoint_health import EndpointHealth
from eastgate.proxy.membership.slow_start import FULL_WEIGHTS, Ramp, Weights, follow
from eastgate.proxy.slices import Errand, Steps, finish
from eastgate.xds.errors import XdsError
from eastgate.xds.hashing import endpoint_hash_keys
from eastgate.xds.resources import (
    Assignment,
    Cluster,
    Columns,
    Criteria,
    FilterChain,
    Listener,
    Locality,
    LocalityEntry,
    OutlierDetection,
    Snapshot,
)
from eastgate.xds.subsets import EndpointMetadata, endpoint_metadata

from .subsets import select, subset_columns

# Bit of Columns.flags.
TLS_MODE_ISTIO = 1

# Looking at a cluster that did not change, and writing the specification of a chain, take 0.5 to 2 us.
LOOKS_PER_SLICE = 256
CHAINS_PER_SLICE = 64

# A hashed table of more endpoints or entries than these takes milliseconds: it is made on a thread.
HASHED_ROWS = 4096
HASHED_ENTRIES = 131072


@dataclass(frozen=True, slots=True)
class CompiledCluster:
    """What is known of one cluster. ``table`` None: no endpoints (warming, or no route needs them). One of
    type ORIGINAL_DST has a table and no assignment. ``assignment`` is the one in use, which holds endpoints that
    discovery has removed from ``discovered`` and that their health checks keep; ``flags`` by row, see endpoint_flags.
    ``ramp`` only with slow start. ``local``: what was known of the local cluster; ``census`` only of that one itself.

    ``closed`` says why its connections are refused although there is a table; empty when they are not.
    """

    cluster: Cluster
    assignment: Assignment | None
    table: ClusterTable | None
    slot: int
    closed: str = ""
    flags: bytes = b""
    discovered: Assignment | None = None
    ramp: Ramp | None = None
    local: Census | None = None
    census: Census | None = None

    @property
    def failed(self) -> bytes:
        """endpoint_health.Cause by row, as compiled; empty when there are none."""
        return bytes(bits & FAILED for bits in self.flags)

    @property
    def weights(self) -> Weights:
        """Of endpoints in slow start, as compiled."""
        return self.ramp.weights if self.ramp is not None else FULL_WEIGHTS


@dataclass(frozen=True, slots=True)
class CompiledListener:
    """One listener's route table; ``cluster_names``, of clusters and views, hold the slots that it refers to."""

    listener: Listener
    routes: RouteTable
    cluster_names: tuple[str, ...]


def view_name(cluster: str, criteria: Criteria) -> str:
    """Name of the slot of a cluster for connections with these criteria; no cluster has such a name."""
    return f"{cluster}\0{dumps(criteria)}" if criteria else cluster


def chain_targets(chain: FilterChain, slots: Mapping[str, int]) -> tuple[tuple[int, int], ...]:
    """(slot, weight) of each cluster of a chain, or of the view of it that the chain asks for."""
    if not chain.criteria:
        return tuple((slots[cluster], weight) for cluster, weight in chain.clusters)
    both = zip(chain.clusters, chain.criteria, strict=True)
    return tuple((slots[view_name(cluster, criteria)], weight) for (cluster, weight), criteria in both)


def chain_spec(chain: FilterChain, slots: Mapping[str, int], *, name: str) -> ChainSpec:
    """The fast path's form of a chain; `slots` maps the names of its clusters, and those of views of them."""
    return ChainSpec(
        name=chain.name or name,
        destination_port=chain.match.destination_port,
        destination_prefixes=chain.match.destination_prefixes,
        server_names=chain.match.server_names,
        transport_protocol=chain.match.transport_protocol,
        application_protocols=chain.match.application_protocols,
        direct_source_prefixes=chain.match.direct_source_prefixes,
        source_type=chain.match.source_type,
        source_prefixes=chain.match.source_prefixes,
        source_ports=chain.match.source_ports,
        targets=chain_targets(chain, slots),
        refusal=Reason.POLICY if chain.refusal or chain.match.unsupported else Reason.NONE,
        idle_timeout_ms=round(chain.idle_timeout_s * 1000),
        max_duration_ms=round(chain.max_downstream_connection_duration_s * 1000),
        max_connect_attempts=chain.max_connect_attempts or DEFAULT_CONNECT_ATTEMPTS,
        hash_source_ip=chain.hash_source_ip,
    )


def hash_keys(cluster: Cluster, assignment: Assignment) -> list[bytes | None] | None:
    """By row, what is hashed for an endpoint instead of its address; None when it is the address everywhere."""
    if cluster.hashing is None:
        return None
    keys = endpoint_hash_keys(assignment.raw, use_hostname=cluster.hashing.use_hostname)
    return [keys.get(key) for key in endpoint_keys(assignment.columns)] if keys else None


def compile_table(
    cluster: Cluster,
    assignment: Assignment,
    previous: ClusterTable | None,
    flags: bytes = b"",
    own_locality: Locality | None = None,
    weights: Weights = FULL_WEIGHTS,
    local: Census | None = None,
) -> ClusterTable:
    """Table of a cluster with its endpoints. Raises ValueError naming the field for what cannot be compiled.

    ``own_locality``: where this proxy runs, None when that is not known. ``weights``: of endpoints in slow start;
    ``local``: census of the local cluster where zones are looked at.
    """
    columns, failed = judged(assignment.columns, flags)
    return ClusterTable.compile(
        columns,
        policy=cluster.lb_policy,
        overprovisioning_factor=assignment.overprovisioning_factor,
        panic_threshold=cluster.healthy_panic_threshold_percent,
        locality_weighted=cluster.locality_weighted,
        weighted_priority_health=assignment.weighted_priority_health,
        choice_count=cluster.least_request_choice_count,
        active_request_bias=cluster.least_request_bias,
        full_scan=cluster.least_request_full_scan,
        hashing=cluster.hashing,
        hash_keys=hash_keys(cluster, assignment),
        own_locality=own_locality,
        fail_on_panic=cluster.fail_traffic_on_panic,
        factors=weights.factors,
        by_weight=weights.by_weight,
        zone_aware=cluster.zone_aware,
        local=local,
        previous=previous,
        failed=failed,
    )


def takes_long(cluster: Cluster, assignment: Assignment) -> bool:
    """Whether the table of a cluster would hold the loop for long. RING_HASH and MAGLEV do what cannot be cut."""
    if cluster.lb_policy not in ("RING_HASH", "MAGLEV"):
        return False
    columns = assignment.columns
    if columns.count > HASHED_ROWS or not columns.count:
        return columns.count > HASHED_ROWS
    if cluster.hashing is None:
        size = 0
    else:
        size = cluster.hashing.table_size if cluster.lb_policy == "MAGLEV" else cluster.hashing.minimum_ring_size
    if cluster.lb_policy == "RING_HASH":
        # The least part of the ring is one entry at least.
        weights = memoryview(columns.weight).cast("I")
        size = max(size, sum(weights) // max(1, min(weights)))
        parts = [entry.weight for entry in columns.localities if entry.weight] if cluster.locality_weighted else []
        size *= sum(parts) // min(parts) if parts else 1
    return size > HASHED_ENTRIES


def compile_subset(
    compiled: CompiledCluster,
    assignment: Assignment,
    table: ClusterTable,
    rows: Sequence[int],
    own_locality: Locality | None = None,
) -> ClusterTable:
    """Table of some of a cluster's endpoints, which keep their states. Raises ValueError as compile_table does."""
    cluster, subsets = compiled.cluster, compiled.cluster.subsets
    assert subsets is not None
    weighted = cluster.locality_weighted and subsets.locality_weight_aware
    if len(rows) == assignment.columns.count and weighted == cluster.locality_weighted:
        return table
    columns = subset_columns(assignment.columns, rows, scale_weights=weighted and subsets.scale_locality_weight)
    flags = bytes(compiled.flags[row] for row in rows) if compiled.flags else b""
    return compile_table(
        replace(cluster, locality_weighted=weighted),
        replace(assignment, columns=columns),
        table,
        flags,
        own_locality,
        compiled.weights.of_rows(rows),
        compiled.local,
    )


def census_of_local(table: ClusterTable) -> Census:
    """Raises ValueError for endpoints that a local cluster cannot have."""
    if len(table.priorities()) > 1:
        raise ValueError("an endpoint of the local cluster has another priority than 0: zones could not be told apart")
    return table.census()


def stand_in_table(previous: ClusterTable | None) -> ClusterTable:
    """Table of a cluster without endpoints of its own: one that counts connections and is never connected to."""
    localities = (LocalityEntry(Locality(), 0, None),)
    one, word = bytes(1), bytes(2)
    columns = Columns(1, b"\4", bytes(16), word, pack("=I", 1), one, one, word, one, localities)
    return ClusterTable.compile(columns, previous=previous)


def consecutive_thresholds(settings: OutlierDetection | None) -> tuple[int, int]:
    """After how many failed connects in a row workers call, and the same for gateway failures; 0: never."""
    if settings is None:
        return 0, 0
    if settings.split_external_local_origin_errors:
        # What TCP reports is all of local origin: nothing feeds the other two counters.
        return settings.consecutive_local_origin_failure, 0
    return settings.consecutive_5xx, settings.consecutive_gateway_failure


def wants_tls(cluster: Cluster, assignment: Assignment | None) -> bool:
    """Whether this proxy itself would have to speak TLS to the cluster's endpoints, which a gateway does not.

    Forwarding to them as they are would hand on in the clear what was meant to be encrypted. SNI-DNAT clusters carry
    the client's own TLS and never ask for it.
    """
    if cluster.upstream_tls == "BY_TLS_MODE":
        return assignment is not None and any(flags & TLS_MODE_ISTIO for flags in assignment.columns.flags)
    return cluster.upstream_tls == "ALWAYS"


@dataclass(slots=True)
class _Plan:
    """What a snapshot changes, compiled and not yet visible. ``attempts``: what was tried, for its outcome."""

    clusters: dict[str, CompiledCluster] = field(default_factory=dict)
    listeners: dict[str, CompiledListener] = field(default_factory=dict)
    errors: list[XdsError] = field(default_factory=list)
    rejected: dict[tuple[str, str], tuple[str, bool]] = field(default_factory=dict)
    """(kind, name) -> (reason, whether the last good one serves on)"""
    attempts: dict[tuple[str, str], tuple[object, ...]] = field(default_factory=dict)
    acquired: list[str] = field(default_factory=list)
    """Names of all slots that were taken for this plan."""
    local_cluster: str = ""
    """Name of the local cluster, if there is one."""
    viewed: set[str] = field(default_factory=set)
    """Clusters of which routes ask for subsets that they did not ask for before, perhaps."""


def fault_reason(error: Exception | None) -> str:
    """What istiod is told of a fault of ours."""
    return f"it cannot be compiled: {type(error).__name__}: {error}"


def nothing_resolved(_: Cluster) -> Assignment | None:
    return None


class Compiler:
    """Owner of the published tables. Control thread only, one snapshot at a time.

    ``resolved`` answers the endpoints of a cluster whose names are resolved here; None while it does not know them.
    ``judge`` says what else than discovery makes of the endpoints of clusters with health checks. ``own_locality``:
    where this proxy runs, None when that is not known. ``local_cluster``: name of the cluster of the proxies like this
    one, empty without.
    """

    def __init__(
        self,
        slots: ClusterSlots,
        health: EndpointHealth | None = None,
        *,
        resolved: Callable[[Cluster], Assignment | None] = nothing_resolved,
        judge: Judge = as_discovered,
        own_locality: Locality | None = None,
        clock: Callable[[], float] = monotonic,
        local_cluster: str = "",
        errors: ControlErrors | None = None,
    ) -> None:
        self._slots = slots
        self._errors = errors if errors is not None else ControlErrors()
        self.health = health if health is not None else EndpointHealth()
        self.observers: list[Callable[[str, CompiledCluster | None], None]] = []
        """Told of each cluster that was published, and with None of each that left, in the turn in which it happens."""
        self._resolved = resolved
        self._judge = judge
        self._own_locality = own_locality
        self._clock = clock
        self._local_cluster = local_cluster
        self._snapshot = Snapshot()
        self._clusters: dict[str, CompiledCluster] = {}
        # Slots of the subsets that routes ask for, by cluster.
        self._views: dict[str, dict[Criteria, int]] = {}
        # Metadata by row of clusters with subsets, and the assignment that it is of.
        self._metadata: dict[str, tuple[Assignment, list[EndpointMetadata]]] = {}
        self._listeners: dict[str, CompiledListener] = {}
        self._rejected: dict[tuple[str, str], str] = {}
        # What was tried last: the same input is not compiled, and complained about, again at the next push.
        self._attempted: dict[tuple[str, str], tuple[object, ...]] = {}
        # Slots still to be given back: of clusters that left, and of names that a listener's routes no longer hold.
        self._gone: list[tuple[str, CompiledCluster]] = []
        self._unused: dict[str, list[str]] = {}
        self._held: frozenset[str] = frozenset()
        # Slots of subsets: which cluster's, and for which criteria.
        self._view_of: dict[str, tuple[str, Criteria]] = {}
        self._log = Log("compiler")

    @property
    def clusters(self) -> Mapping[str, CompiledCluster]:
        return MappingProxyType(self._clusters)

    @property
    def listeners(self) -> Mapping[str, CompiledListener]:
        return MappingProxyType(self._listeners)

    @property
    def rejected(self) -> Mapping[tuple[str, str], str]:
        """(kind, name) -> reason, of resources whose newest version could not be compiled."""
        return MappingProxyType(self._rejected)

    def counters(self, name: str) -> ClusterCounters:
        """Counters of a known cluster. Raises KeyError."""
        return self._slots.counters(self._clusters[name].slot)

    def apply(self, snapshot: Snapshot) -> tuple[XdsError, ...]:
        """All of `steps` and `tidy` at once."""
        errors = finish(self.steps(snapshot))
        deque(self.tidy(), maxlen=0)
        return errors

    def steps(self, snapshot: Snapshot) -> Steps[tuple[XdsError, ...]]:
        """Compile in slices; with the last one, publish the clusters. The caller publishes the routes in the same turn.

        Nothing is visible before that, and closing the generator leaves everything as it was. Large hashed tables are
        yielded as errands. Returns what could not be compiled this time: the store takes it back, and istiod hears of
        it by NACK.
        """
        yield from self.tidy()
        plan = self._new_plan(snapshot)
        try:
            for index, (name, cluster) in enumerate(self._in_order(snapshot.clusters)):
                changed = yield from self._try_cluster(plan, name, cluster, snapshot)
                if changed or index % LOOKS_PER_SLICE == 0:
                    yield None
            for name, listener in snapshot.listeners.items():
                yield from self._try_listener(plan, name, listener)
                yield None
        except GeneratorExit:
            self._release_names(plan.acquired)
            raise
        self._publish(plan, snapshot)
        return tuple(plan.errors)

    def refresh(self, name: str) -> None:
        """All of `refresh_steps` at once."""
        finish(self.refresh_steps(name))

    def refresh_steps(self, name: str) -> Steps[None]:
        """Compile and publish one cluster of the newest snapshot by itself: its endpoints changed, and not by xDS.

        Only in the publisher's turn, to its end. What cannot be compiled is rejected by name, and the last good table
        stays. Nothing is yielded but an errand, where `takes_long` says so.
        """
        cluster = self._snapshot.clusters.get(name)
        if cluster is None:
            return
        plan = self._new_plan(self._snapshot)
        yield from self._try_cluster(plan, name, cluster, self._snapshot)
        if name == self._local_cluster:
            # Zones of all others may have changed with it.
            for other, one in self._snapshot.clusters.items():
                if other != name:
                    yield from self._try_cluster(plan, other, one, self._snapshot)
        self._publish_clusters(plan)

    def takes_long(self, name: str) -> bool:
        """Whether `refresh` of this cluster would hold the loop for long."""
        known = self._clusters.get(name)
        return known is not None and known.assignment is not None and takes_long(known.cluster, known.assignment)

    def _new_plan(self, snapshot: Snapshot) -> _Plan:
        return _Plan(local_cluster=self._local_cluster if self._local_cluster in snapshot.clusters else "")

    def _in_order(self, clusters: Mapping[str, Cluster]) -> Iterator[tuple[str, Cluster]]:
        """The local cluster first: what is known of it goes into the tables of others."""
        local = clusters.get(self._local_cluster)
        if local is not None:
            yield self._local_cluster, local
        for name, cluster in clusters.items():
            if cluster is not local:
                yield name, cluster

    def _census(self, plan: _Plan, name: str, cluster: Cluster) -> Census | None:
        """What a cluster has to know of the local one; None when it looks at no zones."""
        if name == self._local_cluster or cluster.locality_weighted or cluster.lb_policy not in ZONED:
            return None
        local = plan.clusters.get(plan.local_cluster) or self._clusters.get(plan.local_cluster)
        return local.census if local is not None else None

    def _assignment_of(self, cluster: Cluster, snapshot: Snapshot) -> Assignment | None:
        if cluster.assignment_name:
            return snapshot.assignments.get(cluster.assignment_name)
        return self._resolved(cluster) if cluster.dns is not None else cluster.load_assignment

    def _try_cluster(self, plan: _Plan, name: str, cluster: Cluster, snapshot: Snapshot) -> Steps[bool]:
        """`_plan_cluster`, whose faults cost this cluster its new version, and no other one anything."""
        assignment = self._assignment_of(cluster, snapshot)
        held = len(plan.acquired)
        with self._errors.guard(Part.COMPILE, name) as edge:
            return (yield from self._plan_cluster(plan, name, cluster, assignment))
        self._give_up(plan, held)
        plan.clusters.pop(name, None)
        plan.attempts.setdefault(("CDS", name), (cluster, assignment, b""))
        known = self._clusters.get(name)
        self._reject(plan, "CDS", name, fault_reason(edge.error), kept=known is not None and known.table is not None)
        return True

    def _try_listener(self, plan: _Plan, name: str, listener: Listener) -> Generator[None, None, None]:
        """`_plan_listener`, with the same promise."""
        held = len(plan.acquired)
        reason = ""
        with self._errors.guard(Part.COMPILE, name) as edge:
            try:
                yield from self._plan_listener(plan, name, listener)
            except ValueError as error:
                reason = str(error)
        if reason or edge.error is not None:
            self._give_up(plan, held)
            self._reject(plan, "LDS", name, reason or fault_reason(edge.error), kept=name in self._listeners)

    def _give_up(self, plan: _Plan, held: int) -> None:
        """Give back the slots that were taken for a part of the plan."""
        self._release_names(plan.acquired[held:])
        del plan.acquired[held:]

    @staticmethod
    def _reject(plan: _Plan, kind: str, name: str, reason: str, *, kept: bool) -> None:
        plan.errors.append(XdsError(kind, name, reason))
        plan.rejected[kind, name] = (reason, kept)

    def _plan_cluster(self, plan: _Plan, name: str, cluster: Cluster, assignment: Assignment | None) -> Steps[bool]:
        """Compile a cluster that changed; return whether it did."""
        known = self._clusters.get(name)
        used, flags, waiting = assignment, b"", False
        if assignment is not None and cluster.health_check is not None:
            live = self._judge(cluster, assignment)
            used, flags, waiting = live.assignment, live.flags, live.waiting
        if used is not None:
            flags = combined(flags, self.health.failed(name, used))
        # Without a table although there are endpoints: it waited for their first checks, and they are done.
        settled = known is not None and (known.table is not None or waiting or assignment is None)
        unchanged = known is not None and known.cluster is cluster and known.discovered is assignment
        now = round(self._clock() * 1000)
        growing = known is not None and known.ramp is not None and known.ramp.is_due(now)
        census = self._census(plan, name, cluster)
        same = known is not None and known.flags == flags and (not self._local_cluster or known.local == census)
        if settled and unchanged and same and not growing:
            return False
        if self._was_attempted("CDS", name, (cluster, assignment, flags)):
            return False
        if waiting and known is not None and known.table is not None:
            # What there was serves on until the first checks are done, as in Envoy.
            return False
        if cluster.dns is not None and assignment is None and known is not None and known.table is not None:
            # Warming under new settings: what there was serves on until the first name is answered, as in Envoy.
            return False
        plan.attempts["CDS", name] = (cluster, assignment, flags)
        table = ramp = own_census = None
        if cluster.slow_start is not None and used is not None:
            # As in Envoy, a cluster that CDS changed is a new one.
            begun = known.ramp if known is not None and known.cluster is cluster else None
            with self._errors.guard(Part.SLOW_START, name):
                ramp = follow(cluster.slow_start, used.columns, flags, now, begun)
        if cluster.type == "ORIGINAL_DST":
            table = stand_in_table(known.table if known else None)
        elif assignment is not None and not waiting:
            try:
                before = known.table if known else None
                weights = ramp.weights if ramp is not None else FULL_WEIGHTS
                make = partial(
                    compile_table, cluster, used or assignment, before, flags, self._own_locality, weights, census
                )
                if takes_long(cluster, used or assignment):
                    errand = Errand(make)
                    yield errand
                    table = errand.result()
                else:
                    table = make()
                if name == self._local_cluster:
                    own_census = census_of_local(table)
            except ValueError as error:
                own = not cluster.assignment_name or (known is not None and known.discovered is assignment)
                at_fault = "CDS" if own else "EDS"
                culprit = name if at_fault == "CDS" else cluster.assignment_name or name
                plan.errors.append(XdsError(at_fault, culprit, str(error)))
                plan.rejected["CDS", name] = (str(error), known is not None and known.table is not None)
                if known is not None:
                    return True
        closed = ""
        if table is not None and wants_tls(cluster, assignment):
            closed = "its endpoints expect TLS from the proxy, which a gateway does not originate"
        if known is not None:
            slot = known.slot
        else:
            try:
                slot = self._slots.acquire(name)
            except ValueError as error:
                self._reject(plan, "CDS", name, str(error), kept=False)
                return True
            plan.acquired.append(name)
        plan.clusters[name] = CompiledCluster(
            cluster, used, table, slot, closed, flags, assignment, ramp, census, own_census
        )
        return True

    def _plan_listener(self, plan: _Plan, name: str, listener: Listener) -> Generator[None, None, None]:
        known = self._listeners.get(name)
        if known is not None and known.listener is listener:
            return
        if self._was_attempted("LDS", name, (listener,)):
            return
        plan.attempts["LDS", name] = (listener,)
        chains = [*listener.filter_chains, *filter(None, (listener.default_filter_chain,))]
        names = dict.fromkeys(cluster for chain in chains for cluster, _ in chain.clusters)
        for cluster in names:
            if "\0" in cluster:
                # Behind it stands what tells the views of a cluster apart.
                raise ValueError(f"cluster {cluster!r} of a chain: no name holds a NUL")
        views = dict.fromkeys(
            (cluster, criteria)
            for chain in chains
            if chain.criteria
            for (cluster, _), criteria in zip(chain.clusters, chain.criteria, strict=True)
            if criteria
        )
        # A name that CDS has not sent (yet) gets a slot as well: its connections are refused as unknown cluster, and
        # served from the moment that the cluster comes.
        slots: dict[str, int] = {}
        for index, cluster in enumerate(names, 1):
            slots[cluster] = self._slots.acquire(cluster)
            plan.acquired.append(cluster)
            if index % LOOKS_PER_SLICE == 0:
                yield
        for index, (cluster, criteria) in enumerate(views, 1):
            view = view_name(cluster, criteria)
            slots[view] = self._slots.acquire(view, view_of=slots[cluster])
            plan.acquired.append(view)
            self._views.setdefault(cluster, {})[criteria] = slots[view]
            self._view_of[view] = cluster, criteria
            plan.viewed.add(cluster)
            if index % LOOKS_PER_SLICE == 0:
                yield
        specs = []
        for index, chain in enumerate(listener.filter_chains, 1):
            specs.append(chain_spec(chain, slots, name=f"{name}#{index - 1}"))
            if index % CHAINS_PER_SLICE == 0:
                yield
        default = listener.default_filter_chain
        routes = yield from RouteTable.steps(
            specs, chain_spec(default, slots, name=f"{name}#default") if default else None
        )
        plan.listeners[name] = CompiledListener(listener, routes, tuple(slots))

    def _publish_clusters(self, plan: _Plan) -> None:
        self._attempted.update(plan.attempts)
        for key in plan.attempts:
            if key not in plan.rejected:
                self._rejected.pop(key, None)
        for (kind, name), (reason, kept) in plan.rejected.items():
            self._note_rejected(kind, name, reason, kept=kept)
        for name, cluster in plan.clusters.items():
            self._try_publish(plan, name, cluster)
        for name in plan.viewed - plan.clusters.keys():
            if (known := self._clusters.get(name)) is not None:
                with self._errors.guard(Part.PUBLISH, name):
                    self._publish_tables(name, known)

    def _publish(self, plan: _Plan, snapshot: Snapshot) -> None:
        """The one point at which a snapshot becomes visible: no await, no yield."""
        # Before the clusters: who observes one that is published may ask to have it compiled again.
        self._snapshot = snapshot
        self._publish_clusters(plan)
        for name, compiled in plan.listeners.items():
            known = self._listeners.get(name)
            self._listeners[name] = compiled
            if known is not None:
                self._unused.setdefault(name, []).extend(known.cluster_names)
        for name in [name for name in self._listeners if name not in snapshot.listeners]:
            self._unused.setdefault(name, []).extend(self._listeners.pop(name).cluster_names)
            self._forget("LDS", name)
        for name in self._clusters.keys() - snapshot.clusters.keys():
            self._gone.append((name, self._clusters.pop(name)))
            self.health.retain(name, None)
            self._tell(name, None)

    def hold(self, listeners: Collection[str]) -> None:
        """Keep the slots that these listeners led to before: their new routes are not published, the old ones are."""
        self._held = frozenset(listeners)

    def tidy(self) -> Generator[None, None, None]:
        """Give back, in slices, what the last snapshot no longer has. Call it when the routes are published.

        Not earlier, so that a slot is not given away while a route still leads to it.
        """
        for listener in [name for name in self._unused if name not in self._held]:
            unused = self._unused[listener]
            while unused:
                self._release_names(unused[-LOOKS_PER_SLICE:])
                del unused[-LOOKS_PER_SLICE:]
                yield
            del self._unused[listener]
        while self._gone:
            name, gone = self._gone.pop()
            self._slots.publish(gone.slot, None)
            for slot in self._views.get(name, {}).values():
                self._slots.publish(slot, None)
            self._metadata.pop(name, None)
            self._slots.release(gone.slot)
            self._forget("CDS", name)
            if len(self._gone) % LOOKS_PER_SLICE == 0:
                yield

    def _note_rejected(self, kind: str, name: str, reason: str, *, kept: bool) -> None:
        self._rejected[kind, name] = reason
        self._log.warning("resource not compiled", type=kind, name=name, reason=reason, last_good_serves=kept)

    def _try_publish(self, plan: _Plan, name: str, compiled: CompiledCluster) -> None:
        """Publish a cluster, or keep what there was."""
        known = self._clusters.get(name)
        with self._errors.guard(Part.PUBLISH, name) as edge:
            self._publish_cluster(name, compiled)
            return
        self._clusters.pop(name, None)
        if known is not None:
            self._clusters[name] = known
            with self._errors.guard(Part.PUBLISH, name):
                self._publish_tables(name, known)
        else:
            self._slots.publish(compiled.slot, None)
            self._release_names([name])
        plan.errors.append(XdsError("CDS", name, fault_reason(edge.error)))
        self._note_rejected("CDS", name, fault_reason(edge.error), kept=known is not None and known.table is not None)

    def _publish_cluster(self, name: str, compiled: CompiledCluster) -> None:
        self._publish_tables(name, compiled)
        self._clusters[name] = compiled
        self.health.retain(name, compiled.assignment)
        self._tell(name, compiled)

    def _tell(self, name: str, compiled: CompiledCluster | None) -> None:
        for observer in self.observers:
            with self._errors.guard(Part.PUBLISH, name):
                observer(name, compiled)

    def _publish_tables(self, name: str, compiled: CompiledCluster) -> None:
        """Publish the cluster's table, and those of its subsets that routes ask for."""
        cluster = compiled.cluster
        keepalive = cluster.tcp_keepalive
        failures, gateway = consecutive_thresholds(cluster.outlier_detection)
        publish = partial(
            self._slots.publish,
            connect_timeout_ms=round(cluster.connect_timeout_s * 1000),
            max_connections=cluster.circuit_breakers.max_connections,
            max_pending=cluster.circuit_breakers.max_pending_requests,
            max_per_endpoint=cluster.circuit_breakers.max_connections_per_endpoint,
            keepalive_time_s=(keepalive and keepalive.time_s) or 0,
            keepalive_interval_s=(keepalive and keepalive.interval_s) or 0,
            keepalive_probes=(keepalive and keepalive.probes) or 0,
            original_dst=cluster.type == "ORIGINAL_DST",
            port_override=cluster.upstream_port_override,
            failure_threshold=failures,
            gateway_threshold=gateway,
        )
        table = None if compiled.closed else compiled.table
        publish(compiled.slot, self._view(compiled, table, ()))
        for criteria, slot in self._views.get(name, {}).items():
            publish(slot, self._view(compiled, table, criteria))

    def _view(self, compiled: CompiledCluster, table: ClusterTable | None, criteria: Criteria) -> ClusterTable | None:
        """Table for connections with these criteria; that of all endpoints in a cluster without subsets."""
        cluster, assignment = compiled.cluster, compiled.assignment
        if table is None or assignment is None or cluster.subsets is None:
            return table
        own = self._metadata.get(cluster.name)
        if own is None or own[0] is not assignment:
            said = endpoint_metadata(assignment.raw)
            own = assignment, [said.get(key, {}) for key in endpoint_keys(assignment.columns)]
            self._metadata[cluster.name] = own
        selection = select(cluster.subsets, criteria, own[1])
        try:
            made = compile_subset(compiled, assignment, table, selection.rows, self._own_locality)
            if selection.then_any and not made.finds_endpoints():
                everyone = range(assignment.columns.count)
                made = compile_subset(compiled, assignment, table, everyone, self._own_locality)
        except ValueError as error:
            self._log.warning("subset not compiled", name=cluster.name, criteria=dumps(criteria), reason=str(error))
            return None
        return made

    def _was_attempted(self, kind: str, name: str, version: tuple[object, ...]) -> bool:
        """Whether this very input was rejected before."""
        before = self._attempted.get((kind, name), ())
        same = len(before) == len(version) and all(
            a is b or (isinstance(a, bytes) and a == b) for a, b in zip(before, version, strict=True)
        )
        return same and (kind, name) in self._rejected

    def _forget(self, kind: str, name: str) -> None:
        self._rejected.pop((kind, name), None)
        self._attempted.pop((kind, name), None)

    def _release_names(self, names: Iterable[str]) -> None:
        for name in names:
            # The slot is found by its name: the holder of the route knows no other.
            slot = self._slots.acquire(name)
            self._slots.release(slot)
            self._slots.release(slot)
            if name in self._view_of and name not in self._slots:
                cluster, criteria = self._view_of.pop(name)
                del self._views[cluster][criteria]
                if not self._views[cluster]:
                    del self._views[cluster]
