"""What is accepted: resource by resource, last good version kept, published as frozen snapshots. Knows no stream.

Guarantees:
- A bad resource never costs another one of the same response, nor its own last good version.
- Bytes that did not change are not decoded; other bytes of equal meaning do not move the generation.
- A CDS or LDS response is the complete state of its type, unless it says what was removed (Delta): then it is merged by
  name, as EDS and RDS responses always are.
- An assignment lives as long as an accepted cluster refers to it, however the cluster changes meanwhile; and so do
  routes with the listeners that name them, unless Delta says that they are gone.
"""

from collections import Counter
from collections.abc import Collection, Generator, Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from .decode import (
    CDS,
    EDS,
    LDS,
    RDS,
    SDS,
    SHORT_NAMES,
    Chains,
    Hosts,
    decode_assignment,
    decode_cluster,
    listener_steps,
    read_text,
    route_steps,
)
from .errors import XdsError
from .message import read
from .resources import Rejection, Snapshot
from .secret_refs import SecretRef
from .secret_store import SecretStore

SNI_DNAT_PREFIX = "outbound_."
_TYPE_URLS = {short: url for url, short in SHORT_NAMES.items()}
_REASONS_SHOWN = 5
# Unpacking a name takes about 2 us.
_NAMES_PER_SLICE = 256
# Asked for by name: a response holds some of them, and says nothing of the others.
_BY_NAME = frozenset((EDS, RDS))


@dataclass(frozen=True, slots=True)
class Applied:
    """What became of one response. ``changed``: the generation moved. ``rejected``: in order of the response.
    ``accepted``: names of what it left in use, changed or not.
    """

    changed: bool
    rejected: tuple[Rejection, ...]
    accepted: Collection[str] = ()

    @property
    def reason(self) -> str:
        """The rejections in one line, for error_detail; empty when there are none."""
        lines = [
            f"{SHORT_NAMES.get(one.type_url, one.type_url)} {one.name} rejected: {one.reason}"
            for one in self.rejected[:_REASONS_SHOWN]
        ]
        if len(self.rejected) > _REASONS_SHOWN:
            lines.append(f"and {len(self.rejected) - _REASONS_SHOWN} more")
        return "; ".join(lines)


class Store:
    """Accepted configuration of one node. Owned by the thread that feeds it; what it hands out is frozen.

    ``router``: subscribe only to the assignments that a route can lead to (SNI-DNAT clusters and those that filter
    chains name), to that of ``local_cluster``, and to the secrets of such clusters; otherwise to those of all clusters.
    A gateway has thousands of clusters that nothing leads to, all with the key of the workload: what is not needed is
    not fetched.
    """

    def __init__(self, *, router: bool = True, local_cluster: str = "") -> None:
        self._router = router
        self._local_cluster = local_cluster
        # Kept apart: nothing that shows, saves or compares a snapshot gets hold of a key.
        self.secrets = SecretStore()
        # Accepted resources by name, per type URL. The inner maps are replaced as a whole: snapshots share them.
        self._resources: dict[str, dict[str, Any]] = {CDS: {}, EDS: {}, LDS: {}, RDS: {}}
        self._versions: dict[str, str] = {}
        self._rejections: dict[tuple[str, str], Rejection] = {}
        self._chains: dict[str, Chains] = {}
        self._hosts: dict[str, Hosts] = {}
        # Assignment name of each EDS cluster, all of these names, and those of them to subscribe to.
        self._assignment_of: dict[str, str] = {}
        self._referred: frozenset[str] = frozenset()
        self._wanted: frozenset[str] = frozenset()
        self._warming: frozenset[str] = frozenset()
        # Names of the routes that accepted listeners refer to.
        self._wanted_routes: frozenset[str] = frozenset()
        self._generation = 0
        self._snapshot: Snapshot | None = Snapshot()
        # What the last response replaced, and the version before it: for revoke.
        self._replaced: dict[tuple[str, str], Any] = {}
        self._versions_before: dict[str, str] = {}

    @property
    def snapshot(self) -> Snapshot:
        """The accepted configuration now. Two snapshots of one generation differ at most in rejections and versions."""
        if self._snapshot is None:
            self._snapshot = Snapshot(
                generation=self._generation,
                clusters=MappingProxyType(self._resources[CDS]),
                assignments=MappingProxyType(self._resources[EDS]),
                listeners=MappingProxyType(self._resources[LDS]),
                routes=MappingProxyType(self._resources[RDS]),
                warming=self._warming,
                missing_routes=self._wanted_routes.difference(self._resources[RDS]),
                secret_names=frozenset(self.secrets.held()),
                rejections=(*self._rejections.values(), *self.secrets.rejections()),
                versions=MappingProxyType(self._versions),
            )
        return self._snapshot

    @property
    def wanted_assignments(self) -> tuple[str, ...]:
        """Names to subscribe to for EDS, sorted."""
        return tuple(sorted(self._wanted))

    @property
    def wanted_routes(self) -> tuple[str, ...]:
        """Names to subscribe to for RDS, sorted."""
        return tuple(sorted(self._wanted_routes))

    @property
    def wanted(self) -> Mapping[str, frozenset[str]]:
        """Names to subscribe to, by type, where a type is asked for by name."""
        return {EDS: self._wanted, RDS: self._wanted_routes, SDS: frozenset(self.secrets.wanted())}

    def names(self, type_url: str) -> tuple[str, ...]:
        """Names of the accepted resources of a type."""
        if type_url == SDS:
            return self.secrets.held()
        return tuple(self._resources[type_url])

    def apply(
        self,
        type_url: str,
        version: str,
        resources: Sequence[bytes],
        *,
        names: Sequence[str] = (),
        removed: Sequence[str] | None = None,
    ) -> Applied:
        """Accept or reject the Anys of a response of type CDS, EDS, LDS, RDS or SDS, all at once."""
        steps = self.steps(type_url, version, resources, names=names, removed=removed)
        while True:
            try:
                next(steps)
            except StopIteration as end:
                applied: Applied = end.value
                return applied

    def steps(
        self,
        type_url: str,
        version: str,
        resources: Sequence[bytes],
        *,
        names: Sequence[str] = (),
        removed: Sequence[str] | None = None,
    ) -> Generator[None, None, Applied]:
        """`apply` in slices: yields between resources; nothing is visible before the end. One at a time.

        ``removed`` is None for state of the world. Otherwise nothing else is taken away; and of EDS nothing at all: an
        assignment goes with its cluster.
        """
        if type_url == SDS:
            # Few and small. Whoever uses them has been told when this returns; the generation does not move.
            rejected_secrets = self.secrets.apply(version, resources, names=names)
            self._snapshot = None
            return Applied(False, rejected_secrets, self.secrets.held())
        decoders = {
            CDS: self._clusters_in,
            EDS: self._assignments_in,
            LDS: self._listeners_in,
            RDS: self._routes_in,
        }
        rejected: list[Rejection] = []
        named, unreadable = yield from self._named(type_url, version, resources, names, rejected)
        accepted = yield from decoders[type_url](named, version, rejected)
        rejected_names = {one.name for one in rejected}

        current = self._resources[type_url]
        if type_url == EDS or (removed is None and (unreadable or type_url in _BY_NAME)):
            # An unreadable resource may be any of ours: take nothing as deleted.
            resources_now = {**current, **accepted}
        elif removed is not None:
            gone = set(removed)
            resources_now = {name: one for name, one in current.items() if name not in gone}
            resources_now.update(accepted)
        else:
            resources_now = {name: one for name, one in current.items() if name in rejected_names}
            resources_now.update(accepted)
        self._replaced = {
            (type_url, name): current.get(name)
            for name, one in accepted.items()
            if current.get(name) is not one and current.get(name) != one
        }
        changed = bool(self._replaced) or len(resources_now) != len(current)
        self._resources[type_url] = resources_now
        self._versions_before = self._versions
        if not rejected:
            self._versions = {**self._versions, type_url: version}
        for key in [key for key in self._rejections if key[0] == type_url]:
            # A rejection is over when its name was accepted or, in a complete state, is gone; one without a readable
            # name when the next response of its type has come.
            complete = type_url not in _BY_NAME and removed is None
            if key[1] in accepted or complete or key[1].startswith("(") or key[1] in (removed or ()):
                del self._rejections[key]
        self._rejections.update({(type_url, one.name): one for one in rejected})
        self._snapshot = None
        if changed:
            self._refresh(type_url)
        return Applied(changed, tuple(rejected), accepted.keys())

    def revoke(self, errors: Iterable[XdsError]) -> Applied:
        """Take back resources of the last response that nobody could compile: their last good version is back.

        Whoever reports them has kept serving that version, so there is nothing to publish again. Errors that name no
        resource which the last response changed are left out.
        """
        rejected = []
        for error in errors:
            type_url = _TYPE_URLS.get(error.kind, "")
            key = (type_url, error.resource)
            if key not in self._replaced:
                continue
            current = self._resources[type_url]
            version, raw = self._versions.get(type_url, ""), current[error.resource].raw
            rejected.append(Rejection(type_url, error.resource, version, error.reason, raw))
            before = self._replaced.pop(key)
            kept = {name: one for name, one in current.items() if name != error.resource}
            self._resources[type_url] = kept if before is None else {**kept, error.resource: before}
            self._rejections[key] = rejected[-1]
        if rejected:
            self._versions = self._versions_before
            for type_url in {one.type_url for one in rejected}:
                self._refresh(type_url)
        return Applied(bool(rejected), tuple(rejected))

    def _refresh(self, type_url: str) -> None:
        """Bring what is derived up to date after resources of a type changed: a new generation."""
        assignments, listeners = self._resources[EDS], self._resources[LDS]
        if type_url == CDS:
            clusters = self._resources[CDS]
            self._assignment_of = {
                name: one.eds_service_name or name for name, one in clusters.items() if one.type == "EDS"
            }
            self._referred = frozenset(self._assignment_of.values())
            if not self._referred.issuperset(assignments):
                assignments = {name: one for name, one in assignments.items() if name in self._referred}
                self._resources[EDS] = assignments
        if type_url == LDS:
            self._chains = {name: chains for name, chains in self._chains.items() if name in listeners}
            self._wanted_routes = self._wanted_routes_now()
            if not self._wanted_routes.issuperset(self._resources[RDS]):
                routes = self._resources[RDS]
                self._resources[RDS] = {name: one for name, one in routes.items() if name in self._wanted_routes}
            for key in [key for key in self._rejections if key[0] == RDS and key[1] not in self._wanted_routes]:
                del self._rejections[key]
        if type_url in (LDS, RDS):
            self._hosts = {name: hosts for name, hosts in self._hosts.items() if name in self._resources[RDS]}
        if type_url not in _BY_NAME:
            self._wanted = self._wanted_now()
            self.secrets.want(self._wanted_secrets_now())
        if type_url not in _BY_NAME or self._warming:
            unanswered = self._wanted.difference(assignments)
            self._warming = frozenset(
                [name for name, wanted in self._assignment_of.items() if wanted in unanswered] if unanswered else ()
            )
        self._generation += 1
        self._snapshot = None

    def _wanted_now(self) -> frozenset[str]:
        if not self._router:
            return self._referred
        routed = self._routed()
        return frozenset(
            assignment
            for name, assignment in self._assignment_of.items()
            if name.startswith(SNI_DNAT_PREFIX) or name in routed or name == self._local_cluster
        )

    def _routed(self) -> set[str]:
        """Clusters that filter chains name."""
        return {
            target
            for listener in self._resources[LDS].values()
            for chain in (*listener.filter_chains, listener.default_filter_chain)
            if chain is not None
            for target, _ in chain.clusters
        }

    def _wanted_routes_now(self) -> frozenset[str]:
        return frozenset(
            chain.route_config_name
            for listener in self._resources[LDS].values()
            for chain in (*listener.filter_chains, listener.default_filter_chain)
            if chain is not None and chain.route_config_name
        )

    def _wanted_secrets_now(self) -> frozenset[SecretRef]:
        chains = {
            chain.secrets
            for listener in self._resources[LDS].values()
            for chain in (*listener.filter_chains, listener.default_filter_chain)
            if chain is not None
        }
        routed = self._routed() if self._router else set()
        named = chains.union(
            cluster.secrets
            for name, cluster in self._resources[CDS].items()
            if cluster.secrets and (not self._router or name.startswith(SNI_DNAT_PREFIX) or name in routed)
        )
        return frozenset(ref for refs in named for ref in refs)

    def _named(
        self,
        type_url: str,
        version: str,
        resources: Sequence[bytes],
        names: Sequence[str],
        rejected: list[Rejection],
    ) -> Generator[None, None, tuple[list[tuple[str, bytes]], bool]]:
        """Names and payloads of a response; and whether one has no readable name, so that it may be any resource."""
        named: list[tuple[str, bytes]] = []
        unreadable = False
        for index, resource in enumerate(resources):
            name, payload, reason = "", resource, ""
            said = names[index] if index < len(names) else ""
            try:
                packed = read("google.protobuf.Any", resource)
                payload = packed.get("value", b"")
                name = read_text(payload, 1)
                if packed.get("type_url") != type_url:
                    reason = f"its type is {packed.get('type_url') or 'missing'}"
                elif said and name != said:
                    reason = f"it calls itself {name!r}"
            except XdsError as error:
                reason = error.reason
            name = said or name
            if reason or not name:
                unreadable = unreadable or not name
                label = name or f"(resource {index + 1} of {len(resources)})"
                rejected.append(Rejection(type_url, label, version, reason or "no name", payload))
            else:
                named.append((name, payload))
            if index % _NAMES_PER_SLICE == _NAMES_PER_SLICE - 1:
                yield
        counts = Counter(name for name, _ in named)
        repeated = [name for name, count in counts.items() if count > 1]
        for name in repeated:
            payload = next(payload for other, payload in named if other == name)
            rejected.append(Rejection(type_url, name, version, f"named {counts[name]} times in one response", payload))
        return [(name, payload) for name, payload in named if counts[name] == 1], unreadable

    def _clusters_in(
        self, named: Sequence[tuple[str, bytes]], version: str, rejected: list[Rejection]
    ) -> Generator[None, None, dict[str, Any]]:
        accepted: dict[str, Any] = {}
        for name, payload in named:
            known = self._resources[CDS].get(name)
            try:
                accepted[name] = known if known and known.raw == payload else decode_cluster(payload)
            except XdsError as error:
                rejected.append(Rejection(CDS, name, version, error.reason, payload))
            yield
        return accepted

    def _listeners_in(
        self, named: Sequence[tuple[str, bytes]], version: str, rejected: list[Rejection]
    ) -> Generator[None, None, dict[str, Any]]:
        accepted: dict[str, Any] = {}
        for name, payload in named:
            known = self._resources[LDS].get(name)
            try:
                if known and known.raw == payload:
                    accepted[name] = known
                else:
                    accepted[name], self._chains[name] = yield from listener_steps(payload, self._chains.get(name, {}))
            except XdsError as error:
                rejected.append(Rejection(LDS, name, version, error.reason, payload))
            yield
        return accepted

    def _assignments_in(
        self, named: Sequence[tuple[str, bytes]], version: str, rejected: list[Rejection]
    ) -> Generator[None, None, dict[str, Any]]:
        accepted: dict[str, Any] = {}
        for name, payload in named:
            # istiod answers for what was asked; the cluster may be gone meanwhile.
            if name not in self._referred:
                continue
            known = self._resources[EDS].get(name)
            try:
                accepted[name] = known if known and known.raw == payload else decode_assignment(payload)
            except XdsError as error:
                rejected.append(Rejection(EDS, name, version, error.reason, payload))
            yield
        return accepted

    def _routes_in(
        self, named: Sequence[tuple[str, bytes]], version: str, rejected: list[Rejection]
    ) -> Generator[None, None, dict[str, Any]]:
        accepted: dict[str, Any] = {}
        for name, payload in named:
            # No listener names it any more, or none did.
            if name not in self._wanted_routes:
                continue
            known = self._resources[RDS].get(name)
            try:
                if known and known.raw == payload:
                    accepted[name] = known
                else:
                    accepted[name], self._hosts[name] = yield from route_steps(payload, self._hosts.get(name, {}))
            except XdsError as error:
                rejected.append(Rejection(RDS, name, version, error.reason, payload))
            yield
        return accepted
