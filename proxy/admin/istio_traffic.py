"""Istio's TCP metrics: what workers count by endpoint and by peer, as series with Istio's labels.

Labels are made when somebody asks, of what has had connections alone. An endpoint that leaves takes its counters with
it: they are read on until its last connection has ended, and then kept with their series. Series only grow, also when
endpoints and clusters go; past the limit what is new is counted in one that says so.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from eastgate.fastpath.loop import telemetry
from eastgate.fastpath.loop.cluster_slots import ClusterSlots
from eastgate.fastpath.loop.telemetry import TrafficCounters
from eastgate.fastpath.reason import RESPONSE_FLAGS, Reason
from eastgate.fastpath.tables.cluster_table import ClusterTable
from eastgate.proxy.compile.compiled import CompiledCluster
from eastgate.xds.endpoint_messages import endpoint_messages
from eastgate.xds.record import record
from eastgate.xds.resources import Assignment

from .istio_labels import (
    Labels,
    Local,
    Service,
    Workload,
    cluster_service,
    destination_labels,
    endpoint_workload,
    own_workload,
    source_labels,
    too_many,
)
from .stat import Stat

SERIES_LIMIT = 10_000
FAMILIES = (
    "istio_tcp_connections_opened_total",
    "istio_tcp_connections_closed_total",
    "istio_tcp_sent_bytes_total",
    "istio_tcp_received_bytes_total",
)
FAILED = RESPONSE_FLAGS[Reason.CONNECT_FAILED]
Values = tuple[int, int, int, int]
"""Of FAMILIES."""


@record(frozen=False)
class _Cluster:
    """One cluster as it was published last, and what is read of it when labels are made."""

    compiled: CompiledCluster
    service: Service | None = None
    workloads: tuple[Assignment, list[Workload]] | None = None

    def service_labels(self) -> Service:
        if self.service is None:
            self.service = cluster_service(self.compiled.cluster)
        return self.service

    def workload(self, row: int) -> Workload:
        assignment = self.compiled.assignment
        if assignment is None:
            return Workload()
        if self.workloads is None or self.workloads[0] is not assignment:
            try:
                said = endpoint_messages(assignment.raw)
            except ValueError:
                said = {}
            found = [endpoint_workload(said.get(key, {})) for key in assignment.columns.all_keys()]
            self.workloads = assignment, found
        return self.workloads[1][row]


@record
class _Departed:
    """Endpoints that are in no table any more. ``table`` keeps their counters alive."""

    table: ClusterTable
    row: int
    workload: Workload
    service: Service


class IstioTraffic:
    """``published`` is an observer of the compiler. ``node``: metadata of our node; ``principal``: of our certificate,
    as it is now. Control thread only.
    """

    def __init__(
        self,
        slots: ClusterSlots,
        node: Mapping[str, Any],
        principal: Callable[[], str],
        *,
        limit: int = SERIES_LIMIT,
    ) -> None:
        self._slots = slots
        self._version = str(node.get("ISTIO_VERSION", ""))
        self._workload = own_workload(node)
        self._principal = principal
        self._limit = limit
        self._clusters: dict[str, _Cluster] = {}
        self._departed: list[_Departed] = []
        # What left, by series; and which series there are.
        self._kept: dict[Labels, Values] = {}
        self._series: dict[Labels, None] = {}

    def published(self, name: str, compiled: CompiledCluster | None) -> None:
        """A cluster has a new table; None: it is gone."""
        before = self._clusters.get(name)
        if before is not None and (old := before.compiled.table) is not None:
            new = compiled.table if compiled is not None else None
            if new is not old:
                service = before.service_labels
                for row in telemetry.departed(old, new):
                    self._departed.append(_Departed(old, row, before.workload(row), service()))
        if compiled is None:
            if before is not None:
                self._keep_cluster(before)
                del self._clusters[name]
            return
        following = _Cluster(compiled)
        if before is not None and before.compiled.cluster is compiled.cluster:
            following.service = before.service
            following.workloads = before.workloads
        self._clusters[name] = following

    def stats(self) -> Iterator[Stat]:
        """All series; none where no chain has istio.stats."""
        self._settle()
        totals = dict(self._kept)
        for labels, values in self._live():
            _add(totals, self._admitted(labels), values)
        for labels, values in totals.items():
            tail = "".join(f".{name}.{value}" for name, value in labels)
            for family, value in zip(FAMILIES, values, strict=True):
                yield Stat(f"istiocustom.{family}{tail}", value, family, labels)
        if totals:
            labels = (("component", "proxy"), ("tag", self._version or "unknown"))
            tail = "".join(f".{name}.{value}" for name, value in labels)
            yield Stat(f"istiocustom.istio_build{tail}", 1, "istio_build", labels, gauge=True)

    def _local(self) -> Local:
        return Local(self._workload, self._principal())

    def _admitted(self, labels: Labels) -> Labels:
        """The series that these labels count in."""
        if labels not in self._series:
            if len(self._series) >= self._limit:
                return too_many()
            self._series[labels] = None
        return labels

    def _settle(self) -> None:
        """Keep what endpoints have counted whose last connection has ended."""
        open_ones = []
        for one in self._departed:
            found = telemetry.of_row(one.table, one.row)
            if found.opened != found.closed:
                open_ones.append(one)
                continue
            for labels, values in _endpoint_series(self._local(), one.workload, one.service, found):
                _add(self._kept, self._admitted(labels), values)
        self._departed = open_ones

    def _live(self) -> Iterator[tuple[Labels, Values]]:
        local = self._local()
        for one in self._departed:
            found = telemetry.of_row(one.table, one.row)
            yield from _endpoint_series(local, one.workload, one.service, found)
        for cluster in self._clusters.values():
            if cluster.compiled.table is not None:
                for row, found in telemetry.of_endpoints(cluster.compiled.table):
                    yield from _endpoint_series(local, cluster.workload(row), cluster.service_labels(), found)
            yield from self._cluster_series(local, cluster)

    def _cluster_series(self, local: Local, cluster: _Cluster) -> Iterator[tuple[Labels, Values]]:
        unserved, peers = telemetry.of_cluster(self._slots, cluster.compiled.slot)
        service = cluster.service_labels
        inbound = cluster.compiled.cluster.name.startswith("inbound") or bool(peers)
        for reason, count in unserved.items():
            flags = RESPONSE_FLAGS[Reason(reason)]
            if inbound:
                labels = destination_labels(local, "", service(), flags)
            else:
                labels = source_labels(local, Workload(), "", service(), flags)
            yield labels, (count, count, 0, 0)
        for peer in peers:
            values = (peer.opened, peer.closed, peer.sent, peer.received)
            yield destination_labels(local, peer.principal, service(), "-"), values

    def _keep_cluster(self, cluster: _Cluster) -> None:
        """Keep what a cluster that left has counted beside its endpoints."""
        for labels, values in self._cluster_series(self._local(), cluster):
            _add(self._kept, self._admitted(labels), values)


def _endpoint_series(
    local: Local, workload: Workload, service: Service, found: TrafficCounters
) -> Iterator[tuple[Labels, Values]]:
    if found.opened:
        values = (found.opened, found.closed, found.sent, found.received)
        yield source_labels(local, workload, found.principal, service, "-"), values
    if found.failed:
        yield source_labels(local, workload, "", service, FAILED), (found.failed, found.failed, 0, 0)


def _add(totals: dict[Labels, Values], labels: Labels, values: Values) -> None:
    opened, closed, sent, received = totals.get(labels, (0, 0, 0, 0))
    totals[labels] = (opened + values[0], closed + values[1], sent + values[2], received + values[3])
