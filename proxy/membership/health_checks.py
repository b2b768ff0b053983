"""Active health checks of all clusters: which endpoints are checked, and what that makes of an assignment. No sockets.

Rules, as in Envoy (source/common/upstream/upstream_impl.cc):
- a cluster with a check is warm when each of its first endpoints was checked once, passed or not;
- a new endpoint is failed until its first check, and with ignore_new_hosts_until_first_hc does not count until then;
- an endpoint keeps its health while its address and its own check settings stay, whatever else changes of it;
- an endpoint that discovery removes stays as long as its checks pass, unless EDS called it unhealthy or the cluster has
  ignore_health_on_host_removal;
- endpoints that disable the check are not checked, and count as passing.

Different from Envoy: a cluster that comes again with other settings keeps the health of its endpoints, where Envoy
checks them all anew before the new settings take effect.
"""

import asyncio
from collections.abc import Callable, Collection
from dataclasses import field, replace

from eastgate.proxy.control_errors import REST_S, ControlErrors, Part
from eastgate.proxy.log import Log
from eastgate.xds.bind_config import NO_BIND, Bind
from eastgate.xds.columns import EndpointFlag, Health
from eastgate.xds.health_check import endpoint_checks
from eastgate.xds.record import record
from eastgate.xds.resources import Assignment, Cluster, EndpointCheck, HealthCheck

from . import endpoint_flags as flag
from .check_outcome import Outcome, Probe, Target
from .endpoint_flags import Key, Live
from .endpoint_health import EndpointKey, key_of
from .health_state import EndpointHealth, HealthCounters, Intervals, Transition

OpenProbe = Callable[[HealthCheck, Target], Probe]
EDS_FAILED = (Health.UNHEALTHY, Health.TIMEOUT)
_NO_CHECK = EndpointCheck()
# How often it is told that checks cannot be made.
LOCAL_TOLD_S = 10.0


@record(frozen=False)
class _Session:
    """The checks of one endpoint."""

    key: Key
    own: EndpointCheck
    health: EndpointHealth
    task: asyncio.Task[None] | None = None
    faulted: bool = False
    """Whether a check ended by a fault of ours: nobody waits for its first result any longer."""


@record(frozen=False)
class _Entry:
    """One cluster. ``live`` is what its discovered assignment became the last time that somebody asked."""

    cluster: Cluster
    discovered: Assignment
    keys: list[Key]
    live: Assignment
    live_keys: list[Key]
    counters: HealthCounters
    sessions: dict[Key, _Session] = field(default_factory=dict)
    warm: bool = False


class HealthChecks:
    """Checks while `run` runs. ``changed`` is told a cluster's name when `follow` answers anew for it.

    ``has_traffic`` says whether a cluster ever had a connection. ``bind``: what checks come from where their
    cluster does not say it.
    """

    def __init__(
        self,
        open_probe: OpenProbe,
        *,
        changed: Callable[[str], object],
        has_traffic: Callable[[str], bool],
        random: Callable[[], float],
        errors: ControlErrors | None = None,
        bind: Bind = NO_BIND,
    ) -> None:
        self._bind = bind
        self._errors = errors if errors is not None else ControlErrors()
        self._open_probe = open_probe
        self._changed = changed
        self._has_traffic = has_traffic
        self._random = random
        self._entries: dict[str, _Entry] = {}
        self._group: asyncio.TaskGroup | None = None
        self._dirty: dict[str, None] = {}
        self._woken = asyncio.Event()
        self._local_told_s = -LOCAL_TOLD_S
        self.observers: list[Callable[[str, EndpointKey], object]] = []
        """Told of each check that passes and leaves its endpoint healthy: outlier detection takes it back then."""
        self._log = Log("health")

    @property
    def warming(self) -> frozenset[str]:
        """Clusters whose first endpoints were not all checked yet."""
        return frozenset(name for name, entry in self._entries.items() if not entry.warm)

    def counters(self, name: str) -> HealthCounters | None:
        """None for a cluster without a check."""
        entry = self._entries.get(name)
        if entry is None:
            return None
        healths = [session.health for session in entry.sessions.values()]
        entry.counters.healthy = sum(not health.failed for health in healths)
        entry.counters.degraded = sum(health.degraded for health in healths)
        return entry.counters

    def follow(self, cluster: Cluster, assignment: Assignment) -> Live:
        """Check the endpoints of this assignment from now on; return it as it is to be used.

        After a fault that is as discovery has it.
        """
        if cluster.health_check is None:
            return Live(assignment)
        with self._errors.guard(Part.HEALTH, cluster.name):
            return self._follow(cluster, assignment)
        return Live(assignment)

    def _follow(self, cluster: Cluster, assignment: Assignment) -> Live:
        entry = self._entries.get(cluster.name)
        if entry is None:
            keys = assignment.columns.all_keys()
            entry = _Entry(cluster, assignment, keys, assignment, keys, HealthCounters())
            self._entries[cluster.name] = entry
            self._reconcile(entry)
        elif entry.discovered is not assignment or entry.cluster is not cluster:
            restart = entry.cluster.health_check != cluster.health_check
            before, before_keys = entry.live, entry.live_keys
            entry.cluster, entry.discovered = cluster, assignment
            entry.keys = assignment.columns.all_keys()
            self._keep_removed(entry, before, before_keys)
            self._reconcile(entry, restart=restart)
        else:
            self._keep_removed(entry, entry.live, entry.live_keys)
            self._reconcile(entry)
        return Live(entry.live, self._flags(entry), waiting=not entry.warm)

    def retain(self, names: Collection[str]) -> None:
        """Forget all clusters but these."""
        for name in [name for name in self._entries if name not in names]:
            for session in self._entries.pop(name).sessions.values():
                self._stop(session)

    async def run(self) -> None:
        """Check until cancelled."""
        async with asyncio.TaskGroup() as group:
            self._group = group
            try:
                for entry in self._entries.values():
                    for session in entry.sessions.values():
                        self._start(entry, session)
                while True:
                    await self._woken.wait()
                    self._woken.clear()
                    while self._dirty:
                        # Results that come together are compiled together.
                        name = next(iter(self._dirty))
                        del self._dirty[name]
                        with self._errors.guard(Part.HEALTH, name):
                            self._changed(name)
            finally:
                self._group = None
                for entry in self._entries.values():
                    for session in entry.sessions.values():
                        self._stop(session)

    def _keep_removed(self, entry: _Entry, before: Assignment, keys: list[Key]) -> None:
        """Endpoints that were there before, and that their checks keep although discovery has removed them."""
        present = set(entry.keys)
        kept = []
        if not entry.cluster.ignore_health_on_host_removal and not is_logical(entry.cluster):
            for row, key in enumerate(keys):
                session = entry.sessions.get(key)
                if key in present or session is None or session.health.failed:
                    continue
                if before.columns.health[row] not in EDS_FAILED:
                    kept.append(row)
        live = entry.discovered
        if kept:
            live = replace(live, columns=live.columns.with_rows(before.columns, kept))
        entry.live = live
        entry.live_keys = [*entry.keys, *(keys[row] for row in kept)] if kept else entry.keys

    def _reconcile(self, entry: _Entry, *, restart: bool = False) -> None:
        """Have a session for each endpoint that is checked, and for no other one."""
        check = entry.cluster.health_check
        assert check is not None
        columns = entry.discovered.columns
        own: dict[Key, EndpointCheck] = {}
        if any(bits & EndpointFlag.OWN_HEALTH_CHECK for bits in columns.flags):
            own = endpoint_checks(entry.discovered.raw)
        wanted = {key: own.get(key, _NO_CHECK) for key in entry.keys}
        for key in entry.live_keys[len(entry.keys) :]:
            wanted[key] = entry.sessions[key].own
        if is_logical(entry.cluster) and len(wanted) == len(entry.sessions) == 1 and wanted != entry.sessions.keys():
            # The one endpoint goes by its name: another address is the same endpoint, checked where it is now.
            (moved,), (place,) = entry.sessions.values(), wanted
            self._stop(moved)
            moved.key, entry.sessions = place, {place: moved}
        for key in [key for key in entry.sessions if key not in wanted or wanted[key] != entry.sessions[key].own]:
            self._stop(entry.sessions.pop(key))
        for key, one in wanted.items():
            session = entry.sessions.get(key)
            if one.disabled:
                continue
            if session is None:
                pending = entry.cluster.ignore_new_hosts_until_first_check
                session = entry.sessions[key] = _Session(key, one, EndpointHealth(pending=pending))
            elif restart:
                self._stop(session)
            if session.task is None:
                self._start(entry, session)
        self._warm(entry)

    def _flags(self, entry: _Entry) -> bytes:
        found = bytearray(len(entry.live_keys))
        for row, key in enumerate(entry.live_keys):
            session = entry.sessions.get(key)
            if session is not None:
                health = session.health
                found[row] = (
                    flag.FAILED_ACTIVE_CHECK * health.failed
                    | flag.PENDING_FIRST_CHECK * health.pending
                    | flag.DEGRADED_ACTIVE_CHECK * health.degraded
                    | flag.CHECK_TIMED_OUT * health.timed_out
                    | flag.EXCLUDED_BY_ANSWER * health.withdrawn
                )
            if row >= len(entry.keys):
                found[row] |= flag.PENDING_REMOVAL
        return bytes(found)

    def _warm(self, entry: _Entry) -> bool:
        """Whether the cluster became warm just now."""
        sessions = entry.sessions.values()
        if entry.warm or any(session.health.first_check and not session.faulted for session in sessions):
            return False
        entry.warm = True
        return True

    def _start(self, entry: _Entry, session: _Session) -> None:
        if self._group is not None:
            session.task = self._group.create_task(self._keep_session(entry, session))

    @staticmethod
    def _stop(session: _Session) -> None:
        if session.task is not None:
            session.task.cancel()
            session.task = None

    async def _keep_session(self, entry: _Entry, session: _Session) -> None:
        """Check one endpoint until cancelled. After a fault it keeps the health that it has."""
        while True:
            with self._errors.guard(Part.HEALTH, f"{entry.cluster.name} {session.key[0]}:{session.key[1]}"):
                await self._keep_checking(entry, session)
            session.faulted = True
            if self._warm(entry):
                self._dirty[entry.cluster.name] = None
                self._woken.set()
            await asyncio.sleep(REST_S)

    async def _keep_checking(self, entry: _Entry, session: _Session) -> None:
        check = entry.cluster.health_check
        assert check is not None
        intervals = Intervals(check, self._random)
        probe = self._open_probe(check, target_of(entry.cluster, check, session.key, session.own, self._bind))
        try:
            await asyncio.sleep(intervals.first())
            while True:
                entry.counters.attempt += 1
                outcome: Outcome | None = await probe.check()
                while outcome is not None:
                    # Descriptors that we lack say nothing of an endpoint: it keeps the health that it has.
                    transition = Transition.UNCHANGED if outcome.local else self._note(entry, session, check, outcome)
                    if outcome.local:
                        self._tell_local(outcome)
                    has_traffic = self._has_traffic(entry.cluster.name)
                    wait_s = intervals.following(transition, passed=outcome.passed, has_traffic=has_traffic)
                    outcome = await probe.wait(wait_s)
        finally:
            probe.close()

    def _note(self, entry: _Entry, session: _Session, check: HealthCheck, outcome: Outcome) -> Transition:
        counters, health = entry.counters, session.health
        first, failed_before = health.first_check, health.failed
        counters.verify_cluster += outcome.verified
        if outcome.passed:
            counters.success += 1
            transition = health.passed(check, degraded=outcome.degraded)
        else:
            counters.failure += 1
            counters.network_failure += outcome.network
            transition = health.failed_check(
                check, at_once=outcome.at_once, timed_out=outcome.timed_out, withdrawn=outcome.withdrawn
            )
        changed = health.failed != failed_before or (first and health.failed)
        if changed or (check.log_successes if outcome.passed else check.log_failures):
            self._tell(entry.cluster.name, session, outcome)
        if outcome.passed and not health.failed and self.observers:
            identity = key_of(entry.live.columns, entry.live_keys.index(session.key))
            for observer in self.observers:
                observer(entry.cluster.name, identity)
        if self._warm(entry) or (transition is Transition.CHANGED and entry.warm):
            self._dirty[entry.cluster.name] = None
            self._woken.set()
        return transition

    def _tell_local(self, outcome: Outcome) -> None:
        now_s = asyncio.get_running_loop().time()
        if now_s >= self._local_told_s + LOCAL_TOLD_S:
            self._local_told_s = now_s
            self._log.warning("health checks cannot be made", reason=outcome.reason)

    def _tell(self, cluster: str, session: _Session, outcome: Outcome) -> None:
        host, port = session.key
        state = "failed" if session.health.failed else "degraded" if session.health.degraded else "healthy"
        where = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        if outcome.passed:
            self._log.info("health check passed", cluster=cluster, endpoint=where, state=state)
        else:
            reason = outcome.reason
            self._log.warning("health check failed", cluster=cluster, endpoint=where, state=state, reason=reason)


def is_logical(cluster: Cluster) -> bool:
    return cluster.dns is not None and cluster.dns.first_only


def target_of(cluster: Cluster, check: HealthCheck, key: Key, own: EndpointCheck, bind: Bind) -> Target:
    """Where the check of an endpoint goes, what it comes from, and the host that it names: the endpoint's own, the
    check's, or the cluster. `bind`: of clusters that have none.
    """
    host, port = own.address or key[0], own.port or key[1]
    asked = check.http or check.grpc
    name = own.hostname or (asked.host if asked is not None else "") or cluster.name
    return Target(host, port, name, cluster.bound_by(bind))
