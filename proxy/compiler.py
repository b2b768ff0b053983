"""Snapshot -> tables of the fast path: the only line that control side and data side share.

Clusters are published before routes, all in one turn of the loop. What did not change is not compiled again. What
cannot be compiled is rejected by name; its last good table stays published.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from eastgate.fastpath.chains import ChainSpec
from eastgate.fastpath.cluster_slots import ClusterCounters, ClusterSlots
from eastgate.fastpath.cluster_table import ClusterTable
from eastgate.fastpath.reason import Reason
from eastgate.fastpath.route_table import RouteTable
from eastgate.xds.errors import XdsError
from eastgate.xds.resources import Assignment, Cluster, FilterChain, Listener, Snapshot

from .log import Log

# Bit of Columns.flags.
TLS_MODE_ISTIO = 1

# Endpoints by address come with these types; the others would have to be resolved or read off the connection.
ROUTABLE_TYPES = ("EDS", "STATIC")


@dataclass(frozen=True, slots=True)
class CompiledCluster:
    """What is known of one cluster. ``table`` None: no endpoints (warming, or of a type that needs resolving).

    ``closed`` says why its connections are refused although there is a table; empty when they are not.
    """

    cluster: Cluster
    assignment: Assignment | None
    table: ClusterTable | None
    slot: int
    closed: str = ""


@dataclass(frozen=True, slots=True)
class CompiledListener:
    """One listener's route table; ``cluster_names`` hold the slots that it refers to."""

    listener: Listener
    routes: RouteTable
    cluster_names: tuple[str, ...]


def chain_spec(chain: FilterChain, slots: Mapping[str, int], *, name: str) -> ChainSpec:
    """The fast path's form of a chain; `slots` maps the names of its clusters."""
    return ChainSpec(
        name=chain.name or name,
        destination_port=chain.match.destination_port,
        server_names=chain.match.server_names,
        transport_protocol=chain.match.transport_protocol,
        application_protocols=chain.match.application_protocols,
        targets=tuple((slots[cluster], weight) for cluster, weight in chain.clusters),
        refusal=Reason.POLICY if chain.refusal or chain.match.unsupported else Reason.NONE,
        idle_timeout_ms=round(chain.idle_timeout_s * 1000),
        max_duration_ms=round(chain.max_downstream_connection_duration_s * 1000),
    )


def compile_table(cluster: Cluster, assignment: Assignment, previous: ClusterTable | None) -> ClusterTable:
    """Table of a cluster with its endpoints. Raises ValueError naming the field for what cannot be compiled."""
    return ClusterTable.compile(
        assignment.columns,
        policy=cluster.lb_policy,
        overprovisioning_factor=assignment.overprovisioning_factor,
        panic_threshold=cluster.healthy_panic_threshold_percent,
        locality_weighted=cluster.locality_weighted,
        weighted_priority_health=assignment.weighted_priority_health,
        choice_count=cluster.least_request_choice_count,
        previous=previous,
    )


def wants_tls(cluster: Cluster, assignment: Assignment) -> bool:
    """Whether this proxy itself would have to speak TLS to the cluster's endpoints, which a gateway does not.

    Forwarding to them as they are would hand on in the clear what was meant to be encrypted. SNI-DNAT clusters carry
    the client's own TLS and never ask for it.
    """
    if cluster.upstream_tls == "BY_TLS_MODE":
        return any(flags & TLS_MODE_ISTIO for flags in assignment.columns.flags)
    return cluster.upstream_tls == "ALWAYS"


class Compiler:
    """Owner of the published tables. Control thread only."""

    def __init__(self, slots: ClusterSlots) -> None:
        self._slots = slots
        self._clusters: dict[str, CompiledCluster] = {}
        self._listeners: dict[str, CompiledListener] = {}
        self._rejected: dict[tuple[str, str], str] = {}
        self._errors: list[XdsError] = []
        # What was rejected last: the same input is not compiled, and complained about, again at the next push.
        self._attempted: dict[tuple[str, str], tuple[object, ...]] = {}
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
        """Publish the clusters of `snapshot` and compile its listeners' routes; the caller publishes those next.

        Returns what could not be compiled this time: the store takes it back, and istiod hears of it by NACK.
        """
        self._errors = []
        for name, cluster in snapshot.clusters.items():
            assignment = cluster.load_assignment
            if cluster.assignment_name:
                assignment = snapshot.assignments.get(cluster.assignment_name)
            self._apply_cluster(name, cluster, assignment)
        for name, listener in snapshot.listeners.items():
            self._apply_listener(name, listener)
        for name in [name for name in self._listeners if name not in snapshot.listeners]:
            self._release_names(self._listeners.pop(name).cluster_names)
            self._forget("LDS", name)
        # Last, so that a slot is not given away while the routes of this snapshot still lead to it.
        for name in [name for name in self._clusters if name not in snapshot.clusters]:
            gone = self._clusters.pop(name)
            self._slots.publish(gone.slot, None)
            self._slots.release(gone.slot)
            self._forget("CDS", name)
        return tuple(self._errors)

    def _apply_cluster(self, name: str, cluster: Cluster, assignment: Assignment | None) -> None:
        known = self._clusters.get(name)
        if known is not None and known.cluster is cluster and known.assignment is assignment:
            return
        if self._was_attempted("CDS", name, (cluster, assignment)):
            return
        table = None
        if assignment is not None and cluster.type in ROUTABLE_TYPES:
            try:
                table = compile_table(cluster, assignment, known.table if known else None)
            except ValueError as error:
                at_fault = "CDS" if known is not None and known.assignment is assignment else "EDS"
                culprit = name if at_fault == "CDS" else cluster.assignment_name or name
                self._errors.append(XdsError(at_fault, culprit, str(error)))
                self._reject("CDS", name, str(error), kept=known is not None and known.table is not None)
                if known is not None:
                    return
        if table is not None:
            self._rejected.pop(("CDS", name), None)
        closed = ""
        if table is not None and assignment is not None and wants_tls(cluster, assignment):
            closed = "its endpoints expect TLS from the proxy, which a gateway does not originate"
        slot = known.slot if known is not None else self._slots.acquire(name)
        keepalive = cluster.tcp_keepalive
        self._slots.publish(
            slot,
            None if closed else table,
            connect_timeout_ms=round(cluster.connect_timeout_s * 1000),
            max_connections=cluster.circuit_breakers.max_connections,
            max_pending=cluster.circuit_breakers.max_pending_requests,
            keepalive_time_s=(keepalive and keepalive.time_s) or 0,
            keepalive_interval_s=(keepalive and keepalive.interval_s) or 0,
            keepalive_probes=(keepalive and keepalive.probes) or 0,
        )
        self._clusters[name] = CompiledCluster(cluster, assignment, table, slot, closed)

    def _apply_listener(self, name: str, listener: Listener) -> None:
        known = self._listeners.get(name)
        if known is not None and known.listener is listener:
            return
        if self._was_attempted("LDS", name, (listener,)):
            return
        chains = [*listener.filter_chains, *filter(None, (listener.default_filter_chain,))]
        names = tuple(dict.fromkeys(cluster for chain in chains for cluster, _ in chain.clusters))
        # A name that CDS has not sent (yet) gets a slot as well: its connections are refused as unknown cluster, and
        # served from the moment that the cluster comes.
        slots = {cluster: self._slots.acquire(cluster) for cluster in names}
        try:
            default = listener.default_filter_chain
            routes = RouteTable.compile(
                [
                    chain_spec(chain, slots, name=f"{name}#{index}")
                    for index, chain in enumerate(listener.filter_chains)
                ],
                chain_spec(default, slots, name=f"{name}#default") if default else None,
            )
        except ValueError as error:
            self._release_names(names)
            self._errors.append(XdsError("LDS", name, str(error)))
            self._reject("LDS", name, str(error), kept=known is not None)
            return
        self._rejected.pop(("LDS", name), None)
        self._listeners[name] = CompiledListener(listener, routes, names)
        if known is not None:
            self._release_names(known.cluster_names)

    def _was_attempted(self, kind: str, name: str, version: tuple[object, ...]) -> bool:
        before = self._attempted.get((kind, name), ())
        self._attempted[kind, name] = version
        same = len(before) == len(version) and all(a is b for a, b in zip(before, version, strict=True))
        return same and (kind, name) in self._rejected

    def _forget(self, kind: str, name: str) -> None:
        self._rejected.pop((kind, name), None)
        self._attempted.pop((kind, name), None)

    def _release_names(self, names: tuple[str, ...]) -> None:
        for name in names:
            # The slot is found by its name: the holder of the route knows no other.
            slot = self._slots.acquire(name)
            self._slots.release(slot)
            self._slots.release(slot)

    def _reject(self, kind: str, name: str, reason: str, *, kept: bool) -> None:
        self._rejected[kind, name] = reason
        self._log.warning("resource not compiled", type=kind, name=name, reason=reason, last_good_serves=kept)
