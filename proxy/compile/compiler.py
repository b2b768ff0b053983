"""Snapshot -> tables of the fast path: the only line that control side and data side share.

What a resource is to become is planned by cluster_plan and listener_plan; tables are compiled in slices, so that a
large push leaves the loop free in between and can be given up for a newer one; then everything is published in one
turn, clusters before routes. What did not change is not compiled again. What cannot be compiled is rejected by name;
its last good table stays published.
"""

from collections import deque
from collections.abc import Callable, Collection, Generator, Iterator, Mapping
from time import monotonic
from types import MappingProxyType

from eastgate.fastpath.loop.cluster_slots import ClusterCounters, ClusterSlots
from eastgate.fastpath.match.chain_counts import ChainCounters
from eastgate.fastpath.tables.zones import Census
from eastgate.proxy.control_errors import ControlErrors, Part
from eastgate.proxy.log import Log
from eastgate.proxy.membership.endpoint_flags import Judge, Live, as_discovered, combined
from eastgate.proxy.membership.endpoint_health import EndpointHealth
from eastgate.proxy.membership.slow_start import Ramp, follow
from eastgate.proxy.slices import Steps, finish
from eastgate.xds.access_log import AccessLogSpec
from eastgate.xds.bind_config import NO_BIND, Bind
from eastgate.xds.errors import XdsError
from eastgate.xds.resources import Assignment, Cluster, Listener, Locality, Snapshot
from eastgate.xds.secret import Secret
from eastgate.xds.tls_records import SecretRef

from .chain_numbers import ChainNumbers
from .changes import Changes, Outcomes, fault_reason
from .cluster_plan import looks_at_zones, plan_cluster
from .cluster_tables import census_of_local, table_steps, takes_long
from .cluster_views import ClusterViews
from .compiled import CompiledCluster, CompiledListener
from .http_plan import routed, used_routes
from .listener_plan import clashes, plan_listener
from .listener_tables import ListenerTables
from .notices import NoticeBook, cluster_notices
from .places import places_of_clusters
from .slot_book import LOOKS_PER_SLICE, SlotBook
from .tls_contexts import TlsContexts


def no_secrets() -> Mapping[SecretRef, Secret]:
    return {}


def unlogged(_: tuple[AccessLogSpec, ...]) -> int:
    return 0


def nothing_resolved(_: Cluster) -> Assignment | None:
    return None


class Compiler:
    """Owner of the published tables. Control thread only, one snapshot at a time.

    ``resolved`` answers the endpoints of a cluster whose names are resolved here; None while it does not know them.
    ``judge`` says what else than discovery makes of the endpoints of clusters with health checks. ``own_locality``:
    where this proxy runs, None when that is not known. ``local_cluster``: name of the cluster of the proxies like this
    one, empty without. ``secrets``: those accepted, whenever something is compiled. ``guards_names``: see Role.
    ``log_number``: by which number events name these access logs. ``chain_numbers``: which chains are the same.
    ``bind``: what connections of clusters come from that do not say it themselves.
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
        secrets: Callable[[], Mapping[SecretRef, Secret]] = no_secrets,
        guards_names: bool = True,
        contexts: TlsContexts | None = None,
        errors: ControlErrors | None = None,
        log_number: Callable[[tuple[AccessLogSpec, ...]], int] = unlogged,
        chain_numbers: ChainNumbers | None = None,
        bind: Bind = NO_BIND,
    ) -> None:
        self._slots = slots
        self._chain_numbers = chain_numbers if chain_numbers is not None else ChainNumbers()
        self._secrets = secrets
        self._contexts = contexts if contexts is not None else TlsContexts()
        self._errors = errors if errors is not None else ControlErrors()
        self.health = health if health is not None else EndpointHealth()
        self.observers: list[Callable[[str, CompiledCluster | None], None]] = []
        """Told of each cluster that was published, and with None of each that left, in the turn in which it happens."""
        self._resolved = resolved
        self._judge = judge
        self._own_locality = own_locality
        self._bind = bind
        self._clock = clock
        self._local_cluster = local_cluster
        self._snapshot = Snapshot()
        self._clusters: dict[str, CompiledCluster] = {}
        self._log = Log("compiler")
        self._book = SlotBook(slots)
        self._views = ClusterViews(slots, self._book, self._log)
        self._listener_tables = ListenerTables(self._book, guards_names=guards_names, log_number=log_number)
        self.notices = NoticeBook(clock)
        """What of the published configuration has no effect, and what of it refuses."""
        self._listeners: dict[str, CompiledListener] = {}
        self._outcomes = Outcomes()
        # Slots still to be given back: of clusters that left, and of names that a listener's routes no longer hold.
        self._gone: list[tuple[str, CompiledCluster]] = []
        self._unused: dict[str, list[str]] = {}
        self._held: frozenset[str] = frozenset()

    @property
    def clusters(self) -> Mapping[str, CompiledCluster]:
        return MappingProxyType(self._clusters)

    @property
    def listeners(self) -> Mapping[str, CompiledListener]:
        return MappingProxyType(self._listeners)

    @property
    def rejected(self) -> Mapping[tuple[str, str], str]:
        """(kind, name) -> reason, of resources whose newest version could not be compiled."""
        return self._outcomes.rejected

    def chain_counters(self) -> dict[str, ChainCounters]:
        """By stat_prefix, of chains that are published."""
        return self._listener_tables.chain_counters()

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
            taken = clashes(snapshot.listeners, {name: one.listener for name, one in self._listeners.items()})
            for name, listener in snapshot.listeners.items():
                yield from self._try_listener(plan, name, listener, snapshot, taken.get(name))
                yield None
        except GeneratorExit:
            self._book.release(plan.acquired)
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
        self.notices.tell()

    def takes_long(self, name: str) -> bool:
        """Whether `refresh` of this cluster would hold the loop for long."""
        known = self._clusters.get(name)
        return known is not None and known.assignment is not None and takes_long(known.cluster, known.assignment)

    def _new_plan(self, snapshot: Snapshot) -> Changes:
        return Changes(local_cluster=self._local_cluster if self._local_cluster in snapshot.clusters else "")

    def _in_order(self, clusters: Mapping[str, Cluster]) -> Iterator[tuple[str, Cluster]]:
        """The local cluster first: what is known of it goes into the tables of others."""
        local = clusters.get(self._local_cluster)
        if local is not None:
            yield self._local_cluster, local
        for name, cluster in clusters.items():
            if cluster is not local:
                yield name, cluster

    def _census(self, plan: Changes, name: str, cluster: Cluster) -> Census | None:
        """What a cluster has to know of the local one; None when it looks at no zones."""
        if name == self._local_cluster or not looks_at_zones(cluster):
            return None
        local = plan.clusters.get(plan.local_cluster) or self._clusters.get(plan.local_cluster)
        return local.census if local is not None else None

    def _assignment_of(self, cluster: Cluster, snapshot: Snapshot) -> Assignment | None:
        if cluster.assignment_name:
            return snapshot.assignments.get(cluster.assignment_name)
        return self._resolved(cluster) if cluster.dns is not None else cluster.load_assignment

    def _try_cluster(self, plan: Changes, name: str, cluster: Cluster, snapshot: Snapshot) -> Steps[bool]:
        """Compile a cluster, if it changed; return whether it did. A fault costs this cluster its new version alone."""
        assignment = self._assignment_of(cluster, snapshot)
        held = len(plan.acquired)
        with self._errors.guard(Part.COMPILE, name) as edge:
            return (yield from self._plan_cluster(plan, name, cluster, assignment))
        self._give_up(plan, held)
        plan.clusters.pop(name, None)
        plan.attempts.setdefault(("CDS", name), (cluster, assignment, b""))
        plan.reject("CDS", name, fault_reason(edge.error), kept=self._serves(name))
        return True

    def _serves(self, name: str) -> bool:
        known = self._clusters.get(name)
        return known is not None and known.table is not None

    def _plan_cluster(self, plan: Changes, name: str, cluster: Cluster, assignment: Assignment | None) -> Steps[bool]:
        known = self._clusters.get(name)
        live = self._live(name, cluster, assignment)
        flags = live.flags if live is not None else b""
        waiting = live is not None and live.waiting
        now = round(self._clock() * 1000)
        census = self._census(plan, name, cluster)
        tls = self._contexts.of_cluster(cluster, self._secrets())
        same_tls = known is None or known.spec.tls == tls
        if known is not None and same_tls and not self._has_changed(known, cluster, assignment, live, census, now):
            return False
        if self._outcomes.was_rejected("CDS", name, (cluster, assignment, flags)):
            return False
        if (
            known is not None
            and known.table is not None
            and (waiting or (cluster.dns is not None and assignment is None))
        ):
            # What there was serves on, as in Envoy, until the first checks are done, or the first name is answered.
            return False
        plan.attempts["CDS", name] = (cluster, assignment, flags)
        ramp = self._ramp(known, cluster, live, now)
        spec = plan_cluster(
            cluster,
            assignment,
            live,
            ramp=ramp,
            local=census,
            own_locality=self._own_locality,
            tls=tls,
            bind=self._bind,
        )
        table = own_census = None
        try:
            if cluster.subsets is not None and live is not None:
                # What cannot be read is said now, while the last good assignment can still be kept.
                self._views.metadata_of(name, live.assignment)
            table = yield from table_steps(spec, known.table if known is not None else None)
            if name == self._local_cluster and table is not None:
                own_census = census_of_local(table)
        except ValueError as error:
            table = None
            by_cluster = not cluster.assignment_name or (known is not None and known.spec.discovered is assignment)
            culprit = None if by_cluster else ("EDS", cluster.assignment_name)
            plan.reject("CDS", name, str(error), kept=self._serves(name), culprit=culprit)
            if known is not None:
                return True
        slot = known.slot if known is not None else self._slot_for(plan, name)
        if slot is not None:
            plan.clusters[name] = CompiledCluster(spec, table, slot, own_census)
        return True

    def _live(self, name: str, cluster: Cluster, assignment: Assignment | None) -> Live | None:
        """The endpoints as they are used, and everything that is known of them beside discovery."""
        if assignment is None:
            return None
        live = self._judge(cluster, assignment) if cluster.health_check is not None else Live(assignment)
        marks = self.health.failed(name, live.assignment)
        return Live(live.assignment, combined(live.flags, marks), live.waiting)

    def _has_changed(
        self,
        known: CompiledCluster,
        cluster: Cluster,
        assignment: Assignment | None,
        live: Live | None,
        census: Census | None,
        now: int,
    ) -> bool:
        # Without a table although there are endpoints: it waited for their first checks, and they are done.
        settled = known.table is not None or live is None or live.waiting
        same = known.cluster is cluster and known.spec.discovered is assignment
        same = same and known.flags == (live.flags if live is not None else b"")
        same = same and (not self._local_cluster or known.spec.local == census)
        growing = known.ramp is not None and known.ramp.is_due(now)
        return not settled or not same or growing

    def _ramp(self, known: CompiledCluster | None, cluster: Cluster, live: Live | None, now: int) -> Ramp | None:
        """Slow start; a fault of it costs the slow start alone."""
        if cluster.slow_start is not None and live is not None:
            # As in Envoy, a cluster that CDS changed is a new one.
            begun = known.ramp if known is not None and known.cluster is cluster else None
            with self._errors.guard(Part.SLOW_START, cluster.name):
                return follow(cluster.slow_start, live.assignment.columns, live.flags, now, begun)
        return None

    def _slot_for(self, plan: Changes, name: str) -> int | None:
        try:
            slot = self._book.take(name)
        except ValueError as error:
            plan.reject("CDS", name, str(error), kept=False)
            return None
        plan.acquired.append(name)
        return slot

    def _try_listener(
        self, plan: Changes, name: str, listener: Listener, snapshot: Snapshot, taken: tuple[str, str] | None
    ) -> Generator[None, None, None]:
        """Compile a listener, if it changed. A fault costs this listener its new version alone.

        `taken`: an address of it that another listener has, and which.
        """
        known = self._listeners.get(name)
        tls = self._contexts.of_listener(listener, self._secrets())
        used = used_routes(listener, snapshot)
        version = listener, used, str(taken).encode()
        same = known is not None and known.listener is listener and known.tls == tls and known.used == used
        if same or self._outcomes.was_rejected("LDS", name, version):
            return
        plan.attempts["LDS", name] = version
        if taken is not None:
            address, owner = taken
            plan.reject("LDS", name, f"duplicate address {address}: listener {owner} has it", kept=known is not None)
            return
        held, reason = len(plan.acquired), ""
        with self._errors.guard(Part.COMPILE, name) as edge:
            try:
                done = routed(listener, used)
                numbers = self._chain_numbers.of(listener, used, known)
                slots, routes = yield from self._listener_tables.steps(plan, plan_listener(done), tls, numbers)
                places = yield from places_of_clusters(done, slots)
                plan.listeners[name] = CompiledListener(listener, routes, tuple(slots), tls, used, numbers, places)
            except ValueError as error:
                reason = str(error)
        if reason or edge.error is not None:
            self._give_up(plan, held)
            plan.reject("LDS", name, reason or fault_reason(edge.error), kept=known is not None)

    def _give_up(self, plan: Changes, held: int) -> None:
        """Give back the slots that were taken for a part of the plan."""
        self._book.release(plan.acquired[held:])
        del plan.acquired[held:]

    def _publish_clusters(self, plan: Changes) -> None:
        for name, cluster in plan.clusters.items():
            self._try_publish(plan, name, cluster)
        self._outcomes.note(plan)
        for (kind, name), (reason, kept) in plan.rejected.items():
            self._log.warning("resource not compiled", type=kind, name=name, reason=reason, last_good_serves=kept)
        for name in plan.viewed - plan.clusters.keys():
            if (known := self._clusters.get(name)) is not None:
                with self._errors.guard(Part.PUBLISH, name):
                    self._views.publish(name, known)

    def _publish(self, plan: Changes, snapshot: Snapshot) -> None:
        """The one point at which a snapshot becomes visible: no await, no yield."""
        self._contexts.forget_unasked()
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
            self._outcomes.forget("LDS", name)
        for name in self._clusters.keys() - snapshot.clusters.keys():
            self._gone.append((name, self._clusters.pop(name)))
            self.health.retain(name, None)
            self.notices.forget("CDS", name)
            self._tell(name, None)
        with self._errors.guard(Part.PUBLISH):
            self.notices.note_listeners(self._listeners, snapshot)
            self.notices.tell()

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
                self._book.release(unused[-LOOKS_PER_SLICE:])
                del unused[-LOOKS_PER_SLICE:]
                yield
            del self._unused[listener]
        while self._gone:
            name, gone = self._gone.pop()
            self._views.withdraw(name, gone)
            self._slots.release(gone.slot)
            self._outcomes.forget("CDS", name)
            if len(self._gone) % LOOKS_PER_SLICE == 0:
                yield

    def _try_publish(self, plan: Changes, name: str, compiled: CompiledCluster) -> None:
        """Publish a cluster, or keep what there was."""
        known = self._clusters.get(name)
        with self._errors.guard(Part.PUBLISH, name) as edge:
            self._publish_cluster(name, compiled)
            return
        self._clusters.pop(name, None)
        if known is not None:
            self._clusters[name] = known
            with self._errors.guard(Part.PUBLISH, name):
                self._views.publish(name, known)
        else:
            self._slots.publish(compiled.slot, None)
            self._book.release([name])
        plan.reject("CDS", name, fault_reason(edge.error), kept=self._serves(name))

    def _publish_cluster(self, name: str, compiled: CompiledCluster) -> None:
        self._views.publish(name, compiled)
        self._clusters[name] = compiled
        self.health.retain(name, compiled.assignment)
        self.notices.note("CDS", name, cluster_notices(compiled))
        self._tell(name, compiled)

    def _tell(self, name: str, compiled: CompiledCluster | None) -> None:
        for observer in self.observers:
            with self._errors.guard(Part.PUBLISH, name):
                observer(name, compiled)
