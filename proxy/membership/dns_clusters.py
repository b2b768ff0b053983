"""STRICT_DNS and LOGICAL_DNS: keeps the names of clusters resolved and says when endpoints changed. Opens no socket.

Rules, as in Envoy (source/extensions/clusters/dns):
- each name of a cluster is asked for by itself, and asked for again dns_refresh_rate after its answer came; with
  respect_dns_ttl after the lowest TTL instead, unless that is 0; dns_jitter adds up to so much;
- an answer replaces the endpoints of its name, also the answer that there are none (LOGICAL_DNS keeps its endpoint);
- a failure replaces nothing: the last good addresses stay. The next try comes after the refresh rate, or with
  dns_failure_refresh_rate after a random part of a wait that doubles with each failure;
- a cluster is warm with the first answer or failure for any of its names.

Different from Envoy: a cluster that comes again with other settings keeps the addresses that its names have, instead of
waiting for them anew; and names of clusters that no route leads to are not asked for.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import field

from eastgate.proxy.control_errors import REST_S, ControlErrors, Part
from eastgate.proxy.log import Log
from eastgate.xds.dns import is_address, resolved_assignment
from eastgate.xds.errors import XdsError
from eastgate.xds.record import record
from eastgate.xds.resources import Assignment, Cluster, DnsResolver, DnsSettings

from .name_resolver import Answer, ResolveError

Resolve = Callable[[str, str, DnsResolver], Awaitable[Answer]]
# A random part of a back-off may be nothing; a name is not asked for more often than this.
SHORTEST_S = 0.01


@record(frozen=False)
class DnsCounters:
    """How often the names of one cluster were asked for, and what came of it."""

    attempt: int = 0
    success: int = 0
    failure: int = 0
    empty: int = 0


class Refresh:
    """When a name is asked for again. Knows no clock; ``random`` answers numbers from 0 up to 1."""

    def __init__(self, settings: DnsSettings, random: Callable[[], float]) -> None:
        self._settings = settings
        self._random = random
        self._backoff_s = settings.failure_base_s

    def after_answer(self, ttl_s: int) -> float:
        """Seconds to wait after an answer."""
        settings = self._settings
        self._backoff_s = settings.failure_base_s
        wait_s = settings.refresh_rate_s
        if settings.respect_ttl and ttl_s > 0:
            wait_s = max(float(ttl_s), settings.min_refresh_s)
        return max(SHORTEST_S, wait_s + self._random() * settings.jitter_s)

    def after_failure(self) -> float:
        """Seconds to wait after a failure."""
        if not self._settings.failure_base_s:
            return self._settings.refresh_rate_s
        wait_s = self._random() * self._backoff_s
        self._backoff_s = min(2 * self._backoff_s, self._settings.failure_max_s)
        return max(SHORTEST_S, wait_s)


@record(frozen=False)
class _Entry:
    """One cluster. ``addresses`` by host, of those that were ever answered; ``warm``: something came for a name."""

    name: str
    settings: DnsSettings
    addresses: dict[str, tuple[str, ...]]
    counters: DnsCounters
    warm: bool = False
    assignment: Assignment | None = None
    tasks: list[asyncio.Task[None]] = field(default_factory=list)


class DnsClusters:
    """Resolves while `run` runs. ``changed`` is told a cluster's name when it has another assignment."""

    def __init__(
        self,
        resolve: Resolve,
        *,
        changed: Callable[[str], object],
        random: Callable[[], float],
        errors: ControlErrors | None = None,
    ) -> None:
        self._errors = errors if errors is not None else ControlErrors()
        self._resolve = resolve
        self._changed = changed
        self._random = random
        self._entries: dict[str, _Entry] = {}
        self._group: asyncio.TaskGroup | None = None
        self._log = Log("dns")

    @property
    def warming(self) -> frozenset[str]:
        """Clusters for none of whose names anything came yet."""
        return frozenset(name for name, entry in self._entries.items() if not entry.warm)

    def counters(self, name: str) -> DnsCounters | None:
        """None for a cluster without names to resolve."""
        entry = self._entries.get(name)
        return entry.counters if entry is not None else None

    def assignment(self, cluster: Cluster) -> Assignment | None:
        """Endpoints of the cluster as it is given; None while it is warming, or when it is not resolved at all."""
        entry = self._entries.get(cluster.name)
        return entry.assignment if entry is not None and entry.settings == cluster.dns else None

    def apply(self, clusters: Mapping[str, Cluster]) -> None:
        """Resolve the names of these clusters, of those that have any, and of no others."""
        for name in [name for name in self._entries if name not in clusters or clusters[name].dns is None]:
            self._stop(self._entries.pop(name))
        for name, cluster in clusters.items():
            known = self._entries.get(name)
            if cluster.dns is None or (known is not None and known.settings == cluster.dns):
                continue
            entry = _Entry(name, cluster.dns, {}, DnsCounters())
            if known is not None:
                self._stop(known)
                entry.counters = known.counters
                hosts = {target.host for target in cluster.dns.targets}
                same = known.settings.resolver == cluster.dns.resolver
                same = same and known.settings.lookup_family == cluster.dns.lookup_family
                entry.addresses = {host: known.addresses[host] for host in hosts & known.addresses.keys() if same}
            self._entries[name] = entry
            hosts = {target.host for target in cluster.dns.targets if not is_address(target.host)}
            if entry.addresses or not hosts:
                entry.warm = True
                self._assign(entry)
            self._start(entry)

    async def run(self) -> None:
        """Resolve until cancelled."""
        async with asyncio.TaskGroup() as group:
            self._group = group
            try:
                for entry in self._entries.values():
                    self._start(entry)
                await asyncio.Event().wait()
            finally:
                self._group = None
                for entry in self._entries.values():
                    self._stop(entry)

    def _start(self, entry: _Entry) -> None:
        if self._group is None:
            return
        for host in dict.fromkeys(target.host for target in entry.settings.targets):
            if not is_address(host):
                entry.tasks.append(self._group.create_task(self._keep(entry, host)))

    @staticmethod
    def _stop(entry: _Entry) -> None:
        for task in entry.tasks:
            task.cancel()
        entry.tasks.clear()

    async def _keep(self, entry: _Entry, host: str) -> None:
        """Keep one name resolved."""
        refresh = Refresh(entry.settings, self._random)
        while True:
            entry.counters.attempt += 1
            wait_s = 0.0
            with self._errors.guard(Part.DNS, f"{entry.name} {host}") as edge:
                wait_s = await self._ask(entry, host, refresh)
            if edge.error is not None:
                # No other name is to suffer; this one keeps its addresses, and is asked for again.
                entry.counters.failure += 1
                wait_s = max(REST_S, refresh.after_failure())
                with self._errors.guard(Part.DNS, entry.name):
                    if not entry.warm:
                        self._note(entry)
            await asyncio.sleep(wait_s)

    async def _ask(self, entry: _Entry, host: str, refresh: Refresh) -> float:
        """Ask once for a name; return how long to wait before the next time."""
        try:
            answer = await self._resolve(host, entry.settings.lookup_family, entry.settings.resolver)
        except ResolveError as error:
            entry.counters.failure += 1
            wait_s = refresh.after_failure()
            self._log.warning("name not resolved", cluster=entry.name, host=host, reason=str(error))
            if not entry.warm:
                self._note(entry)
            return wait_s
        entry.counters.success += 1
        entry.counters.empty += not answer.addresses
        wait_s = refresh.after_answer(answer.ttl_s)
        self._answered(entry, host, answer)
        return wait_s

    def _answered(self, entry: _Entry, host: str, answer: Answer) -> None:
        before = entry.addresses.get(host)
        first_only = entry.settings.first_only
        if first_only and not answer.addresses and before:
            return
        # The order of an answer rotates; the endpoints are the same. The one of LOGICAL_DNS is known by the first.
        if (
            before is not None
            and sorted(before) == sorted(answer.addresses)
            and (not first_only or before[:1] == answer.addresses[:1])
        ):
            return
        entry.addresses[host] = answer.addresses
        self._log.info("name resolved", cluster=entry.name, host=host, addresses=len(answer.addresses))
        self._note(entry)

    def _note(self, entry: _Entry) -> None:
        entry.warm = True
        self._assign(entry)
        self._changed(entry.name)

    def _assign(self, entry: _Entry) -> None:
        try:
            entry.assignment = resolved_assignment(entry.name, entry.settings, entry.addresses)
        except XdsError as error:
            # The endpoints of before stay: weights that no sum can hold came with too many addresses.
            self._log.warning("resolved endpoints not usable", cluster=entry.name, reason=error.reason)
