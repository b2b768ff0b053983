"""Outlier detection at work: counters of the workers in, ejections out, by EndpointHealth and the publisher's turn.

Each cluster with outlier_detection has a Detector and a timer. A worker that sees a threshold crossed marks endpoint
and cluster and wakes the control side, which calls `take`; should the wake-up be lost, the marks are still there at the
next call. A cluster that CDS changed begins anew, as in Envoy, where it is a new one; an update of its endpoints keeps
what is known of those that stay.
"""

from collections.abc import Callable, Mapping
from dataclasses import field
from types import MappingProxyType
from typing import Protocol

from eastgate.fastpath.loop import outlier_counters
from eastgate.fastpath.loop.cluster_slots import ClusterSlots
from eastgate.fastpath.tables.cluster_table import ClusterTable
from eastgate.proxy.control_errors import ControlErrors, Part
from eastgate.proxy.log import Log
from eastgate.xds.record import record
from eastgate.xds.resources import Assignment, Cluster, OutlierDetection

from .endpoint_health import Cause, EndpointHealth, EndpointKey, address_text, key_of, rows_of
from .outlier import Counters, Detector, EjectionType, Verdict, Volume


class Timer(Protocol):
    """What call_later gives."""

    def cancel(self) -> None: ...


class Published(Protocol):
    """What has to be known of a cluster that was published."""

    @property
    def cluster(self) -> Cluster: ...
    @property
    def assignment(self) -> Assignment | None: ...
    @property
    def table(self) -> ClusterTable | None: ...


@record(frozen=False)
class _Watched:
    """One cluster with outlier detection, as of its last publication."""

    cluster: Cluster
    settings: OutlierDetection
    compiled: Published
    table: ClusterTable
    detector: Detector[EndpointKey]
    timer: Timer | None = field(default=None, repr=False)


class Ejections:
    """Owner of the detectors. Control thread only; `clock` gives seconds of the clock that `call_later` goes by."""

    def __init__(
        self,
        health: EndpointHealth,
        slots: ClusterSlots,
        *,
        refresh: Callable[[tuple[str, ...]], None],
        call_later: Callable[[float, Callable[[], None]], Timer],
        clock: Callable[[], float],
        random: Callable[[], int],
        errors: ControlErrors | None = None,
    ) -> None:
        self._errors = errors if errors is not None else ControlErrors()
        self._health = health
        self._slots = slots
        self._refresh = refresh
        self._call_later = call_later
        self._clock = clock
        self._random = random
        self._watched: dict[str, _Watched] = {}
        self._counters: dict[str, Counters] = {}
        self.observers: list[Callable[[str, Verdict[EndpointKey]], None]] = []
        """Told of each verdict, before what it changes is published."""
        self._log = Log("outlier")

    @property
    def counters(self) -> Mapping[str, Counters]:
        """Statistics by cluster, of those that have, or had, outlier detection."""
        return MappingProxyType(self._counters)

    def detector(self, cluster: str) -> Detector[EndpointKey] | None:
        return self._watched[cluster].detector if cluster in self._watched else None

    def take(self) -> None:
        """Eject what workers have found to have failed too often in a row."""
        for name in self._slots.take_dirty():
            if name in self._watched:
                with self._errors.guard(Part.OUTLIER, name):
                    self._take_crossed(name, self._watched[name])

    def health_check_passed(self, cluster: str, key: EndpointKey) -> None:
        """For active health checks, after they have taken back their own cause: an ejection ends with it."""
        watched = self._watched.get(cluster)
        if watched is not None:
            verdict = watched.detector.health_check_passed(key, self._now())
            self._apply(cluster, watched, [verdict] if verdict is not None else [])

    def close(self) -> None:
        for name in tuple(self._watched):
            self._stop(name)

    def _now(self) -> int:
        return round(self._clock() * 1000)

    def published(self, name: str, compiled: Published | None) -> None:
        """A cluster was published, or left."""
        watched = self._watched.get(name)
        if compiled is None:
            self._stop(name)
            self._counters.pop(name, None)
        elif watched is not None and watched.cluster is compiled.cluster:
            if compiled.table is not None and watched.table is not compiled.table:
                self._update(watched, compiled, compiled.table)
        else:
            ejected = self._stop(name)
            if compiled.cluster.outlier_detection is not None and compiled.table is not None:
                self._start(name, compiled, compiled.cluster.outlier_detection, compiled.table)
            if ejected:
                self._refresh((name,))

    def _start(self, name: str, compiled: Published, settings: OutlierDetection, table: ClusterTable) -> None:
        outlier_counters.restart(table)
        detector: Detector[EndpointKey] = Detector(settings, self._counters.setdefault(name, Counters()), self._random)
        detector.set_hosts(outlier_counters.host_count(table))
        watched = self._watched[name] = _Watched(compiled.cluster, settings, compiled, table, detector)
        self._arm(name, watched)

    def _stop(self, name: str) -> bool:
        """Forget a cluster; return whether an endpoint of it was ejected."""
        watched = self._watched.pop(name, None)
        if watched is None:
            return False
        if watched.timer is not None:
            watched.timer.cancel()
        watched.detector.close()
        return self._health.clear(name, Cause.FAILED_OUTLIER_CHECK)

    def _update(self, watched: _Watched, compiled: Published, table: ClusterTable) -> None:
        known = watched.detector.known
        assignment = compiled.assignment
        same = assignment is None or assignment is watched.compiled.assignment
        present = known if assignment is None or same else rows_of(assignment.columns, known)
        watched.detector.set_hosts(outlier_counters.host_count(table), [key for key in known if key not in present])
        watched.compiled, watched.table = compiled, table

    def _arm(self, name: str, watched: _Watched) -> None:
        watched.timer = self._call_later(watched.detector.interval_ms / 1000, lambda: self._tick(name))

    def _tick(self, name: str) -> None:
        watched = self._watched[name]
        with self._errors.guard(Part.OUTLIER, name):
            self._judge(name, watched)
        self._arm(name, watched)

    def _judge(self, name: str, watched: _Watched) -> None:
        # A threshold that was crossed before the end of the interval comes before it.
        self._take_crossed(name, watched)
        settings = watched.settings
        least = min(settings.success_rate_request_volume, settings.failure_percentage_request_volume)
        volumes = [
            Volume(self._key(watched, row), successes, total)
            for row, successes, total in outlier_counters.take_volumes(watched.table, least)
        ]
        split = settings.split_external_local_origin_errors
        verdicts = watched.detector.tick(
            self._now(), external=() if split else volumes, local_origin=volumes if split else ()
        )
        self._apply(name, watched, verdicts)

    def _take_crossed(self, name: str, watched: _Watched) -> None:
        split = watched.detector.split
        verdicts = []
        for row, bits in outlier_counters.take_crossed(watched.table):
            key = self._key(watched, row)
            # The order in which a failed connect counts for Envoy.
            for bit, kind in (
                (outlier_counters.GATEWAY, EjectionType.CONSECUTIVE_GATEWAY_FAILURE),
                (
                    outlier_counters.FAILURES,
                    EjectionType.CONSECUTIVE_LOCAL_ORIGIN_FAILURE if split else EjectionType.CONSECUTIVE_5XX,
                ),
            ):
                if bits & bit and not watched.detector.is_ejected(key):
                    verdicts.append(watched.detector.crossed(key, kind, self._now()))
                    outlier_counters.reset_failures(watched.table, row, bit)
        self._apply(name, watched, [verdict for verdict in verdicts if verdict is not None])

    def _key(self, watched: _Watched, row: int) -> EndpointKey:
        assert watched.compiled.assignment is not None  # there is a table
        return key_of(watched.compiled.assignment.columns, row)

    def _apply(self, name: str, watched: _Watched, verdicts: list[Verdict[EndpointKey]]) -> None:
        changed = False
        for verdict in verdicts:
            self._tell(name, verdict)
            for observer in self.observers:
                observer(name, verdict)
            if not verdict.ejected:
                self._begin_anew(watched, verdict.host)
            if verdict.enforced:
                changed |= self._health.mark(name, verdict.host, Cause.FAILED_OUTLIER_CHECK, verdict.ejected)
        if changed:
            self._refresh((name,))

    def _begin_anew(self, watched: _Watched, host: EndpointKey) -> None:
        assert watched.compiled.assignment is not None  # there is a table
        for row in rows_of(watched.compiled.assignment.columns, [host]).values():
            outlier_counters.reset_failures(watched.table, row, outlier_counters.FAILURES | outlier_counters.GATEWAY)

    def _tell(self, name: str, verdict: Verdict[EndpointKey]) -> None:
        endpoint = address_text(verdict.host)
        kind = verdict.type.value if verdict.type is not None else ""
        if not verdict.ejected:
            self._log.info(
                "endpoint back", cluster=name, endpoint=endpoint, type=kind, ejected_ms=verdict.since_last_ms
            )
        elif verdict.enforced:
            self._log.warning(
                "endpoint ejected", cluster=name, endpoint=endpoint, type=kind, ejections=verdict.ejections
            )
        else:
            self._log.info("endpoint not ejected, by enforcing percentage", cluster=name, endpoint=endpoint, type=kind)
