"""What is accepted: resource by resource, last good version kept, published as frozen snapshots. Knows no stream.

Guarantees:
- A bad resource never costs another one of the same response, nor its own last good version. A response of which
  nothing is accepted, or that mixes types, changes nothing; one that holds a damaged resource deletes nothing.
- Bytes that did not change are not decoded; other bytes of equal meaning do not move the generation.
- A CDS or LDS response is the complete state of its type, unless it says what was removed (Delta): then it is merged by
  name, as EDS and RDS responses always are.
- An assignment lives as long as an accepted cluster refers to it, however the cluster changes meanwhile; and so do
  routes with the listeners that name them, unless Delta says that they are gone.
- A cluster that changes to an assignment which was not answered yet waits for it: its old version serves meanwhile.
"""

from collections.abc import Callable, Collection, Generator, Iterable, Mapping, Sequence
from time import monotonic
from types import MappingProxyType
from typing import Any

from .deadlines import Deadlines, Key, Kind
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
    route_steps,
)
from .errors import XdsError, own_fault
from .incoming import Incoming, sort_steps
from .message import encode
from .record import record
from .resources import Assignment, Cluster, Rejection, Snapshot
from .response import Response
from .secret_store import SecretStore
from .wanted import leads_to, named_routes, named_secrets, routed_clusters

_TYPE_URLS = {short: url for url, short in SHORT_NAMES.items()}
_REASONS_SHOWN = 5
# Asked for by name: a response holds some of them, and says nothing of the others.
_BY_NAME = frozenset((EDS, RDS))
# As in Envoy, what ends by its ttl: for the others there is nothing that a removal would mean.
_WITH_TTL = frozenset((CDS, LDS))
_ASSIGNMENT = "envoy.config.endpoint.v3.ClusterLoadAssignment"


@record
class Applied:
    """What became of one response. ``changed``: the generation moved. ``rejected``: in order of the response.
    ``accepted``: names of what it left in use, changed or not. ``ended``: what ended by itself, in sentences.
    """

    changed: bool
    rejected: tuple[Rejection, ...]
    accepted: Collection[str] = ()
    ended: tuple[str, ...] = ()

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
    not fetched. ``clock``: seconds, by which what has a deadline ends.
    """

    def __init__(self, *, router: bool = True, local_cluster: str = "", clock: Callable[[], float] = monotonic) -> None:
        self._router = router
        self._local_cluster = local_cluster
        self._clock = clock
        # Kept apart: nothing that shows, saves or compares a snapshot gets hold of a key.
        self.secrets = SecretStore()
        # Accepted resources by name, per type URL. The inner maps are replaced as a whole: snapshots share them.
        self._resources: dict[str, dict[str, Any]] = {CDS: {}, EDS: {}, LDS: {}, RDS: {}}
        # Newest versions of clusters whose old ones serve until the new assignments have come.
        self._waiting: dict[str, Cluster] = {}
        self._versions: dict[str, str] = {}
        self._rejections: dict[tuple[str, str], Rejection] = {}
        self._chains: dict[str, Chains] = {}
        self._hosts: dict[str, Hosts] = {}
        # Assignment name of each EDS cluster, waiting ones included; all of these names, and those to subscribe to.
        self._assignment_of: dict[str, str] = {}
        self._referred: frozenset[str] = frozenset()
        self._wanted: frozenset[str] = frozenset()
        self._warming: frozenset[str] = frozenset()
        # Assignments, by cluster, that were rejected, or did not come within its initial_fetch_timeout.
        self._given_up: dict[str, str] = {}
        # Names of the routes that accepted listeners refer to.
        self._wanted_routes: frozenset[str] = frozenset()
        self._deadlines = Deadlines()
        self._generation = 0
        self._snapshot: Snapshot | None = Snapshot()
        # What the last response replaced, all assignments and the versions before it: for revoke.
        self._replaced: dict[tuple[str, str], Any] = {}
        self._assignments_before: dict[str, Assignment] = {}
        self._versions_before: dict[str, str] = {}

    @property
    def snapshot(self) -> Snapshot:
        """The accepted configuration now. Those of one generation differ at most in what does not move it."""
        if self._snapshot is None:
            self._snapshot = Snapshot(
                generation=self._generation,
                clusters=MappingProxyType(self._resources[CDS]),
                waiting=MappingProxyType(self._waiting),
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
        return self.apply_response(Response(type_url, version, resources=resources, names=names, removed=removed))

    def apply_response(self, response: Response) -> Applied:
        """The same for a whole response."""
        steps = self.steps(response)
        while True:
            try:
                next(steps)
            except StopIteration as end:
                applied: Applied = end.value
                return applied

    def steps(self, response: Response) -> Generator[None, None, Applied]:
        """`apply_response` in slices: yields between resources; nothing is visible before the end. One at a time.

        Where a response says what is removed nothing else is taken away; and of EDS nothing at all: an assignment goes
        with its cluster.
        """
        type_url = response.type_url
        if type_url == SDS:
            # Few and small. Whoever uses them has been told when this returns; the generation does not move.
            rejected_secrets = self.secrets.apply_response(response)
            self._snapshot = None
            return Applied(False, rejected_secrets, self.secrets.held())
        incoming = yield from sort_steps(response, self._versions.get(type_url, ""))
        accepted: dict[str, Any] = {}
        if not incoming.foreign:
            accepted = yield from self._accept(type_url, incoming, response.version)
        self._replaced, self._versions_before = {}, self._versions
        self._assignments_before = self._resources[EDS]
        resources_now = self._merged(response, incoming, accepted)
        moved = type_url == CDS and self._hold_back(accepted, resources_now)
        changed = self._replace(type_url, resources_now, accepted)
        if not incoming.rejected:
            self._versions = {**self._versions, type_url: response.version}
        self._note_rejections(response, incoming, accepted)
        self._note_deadlines(type_url, incoming, accepted)
        self._snapshot = None
        if changed or moved:
            changed = self._derive({type_url}) or changed
        changed = self._settle() or changed
        changed = self._wait_no_longer(incoming.rejected) or changed
        self._generation += changed
        return Applied(changed, tuple(incoming.rejected), accepted.keys())

    @property
    def replaced(self) -> tuple[tuple[str, str], ...]:
        """(type URL, name) of what the last response changed, and `revoke` can take back."""
        return tuple(self._replaced)

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
            if type_url == CDS and before is not None and before.assignment_name in self._assignments_before:
                # It may have left with the last cluster that named it.
                found = {before.assignment_name: self._assignments_before[before.assignment_name]}
                self._resources[EDS] = {**found, **self._resources[EDS]}
            self._rejections[key] = rejected[-1]
        if rejected:
            self._versions = self._versions_before
            self._derive({one.type_url for one in rejected})
            self._wait_no_longer(rejected)
            self._generation += 1
            self._snapshot = None
        return Applied(bool(rejected), tuple(rejected))

    @property
    def seconds_to_deadline(self) -> float | None:
        """In how many seconds `expire` has something to do; None while nothing ends by itself."""
        at_s = self._deadlines.next_s
        return None if at_s is None else max(0.0, at_s - self._clock())

    def expire(self) -> Applied:
        """End what has come to its deadline: a ttl, endpoints that went stale, a first fetch that took too long."""
        due = self._deadlines.due(self._clock())
        self._replaced, self._versions_before = {}, self._versions
        self._assignments_before = self._resources[EDS]
        ended = [sentence for key in due if (sentence := self._end(key))]
        if not ended:
            return Applied(False, ())
        self._snapshot = None
        self._derive({CDS, EDS, LDS})
        self._generation += 1
        return Applied(True, (), ended=tuple(ended))

    def _end(self, key: Key) -> str:
        """What a deadline ends, done and said; empty where it ends nothing."""
        kind, type_url, name = key
        current = self._resources[type_url]
        if kind is Kind.TTL and name in current:
            self._resources[type_url] = {other: one for other, one in current.items() if other != name}
            self._waiting = {other: one for other, one in self._waiting.items() if other != name}
            return f"{SHORT_NAMES[type_url]} {name}: its ttl is over, it is removed"
        if kind is Kind.STALE and name in current:
            empty = decode_assignment(encode(_ASSIGNMENT, {"cluster_name": name}))
            self._replaced[type_url, name] = current[name]
            self._resources[type_url] = {**current, name: empty}
            return f"EDS {name}: no update for {current[name].endpoint_stale_after_s:g} s, its endpoints are removed"
        if kind is Kind.FETCH:
            cluster = self._waiting.get(name) or (current.get(name) if name in self._warming else None)
            if cluster is not None:
                self._activate({name})
                self._given_up[name] = cluster.assignment_name
                return f"CDS {name}: its assignment did not come within {cluster.initial_fetch_timeout_s:g} s"
        return ""

    def _decode(self, type_url: str, name: str, payload: bytes) -> Generator[None, None, Any]:
        """Decode a resource, a large one in slices. Raises XdsError."""
        if type_url == LDS:
            listener, self._chains[name] = yield from listener_steps(payload, self._chains.get(name, {}))
            return listener
        if type_url == RDS:
            routes, self._hosts[name] = yield from route_steps(payload, self._hosts.get(name, {}))
            return routes
        return decode_cluster(payload) if type_url == CDS else decode_assignment(payload)

    def _accept(self, type_url: str, incoming: Incoming, version: str) -> Generator[None, None, dict[str, Any]]:
        """Decode what is new of a response; what cannot be decoded is added to what is rejected."""
        accepted: dict[str, Any] = {}
        relevant = {EDS: self._referred, RDS: self._wanted_routes}.get(type_url)
        current = self._resources[type_url]
        for name, payload in incoming.named.items():
            # istiod answers for what was asked; whoever named it may be gone meanwhile.
            if relevant is not None and name not in relevant:
                continue
            waiting = self._waiting.get(name) if type_url == CDS else None
            known = waiting if waiting is not None and waiting.raw == payload else current.get(name)
            try:
                if known and known.raw == payload:
                    accepted[name] = known
                else:
                    accepted[name] = yield from self._decode(type_url, name, payload)
            except XdsError as error:
                incoming.unreadable = incoming.unreadable or error.malformed
                incoming.rejected.append(Rejection(type_url, name, version, error.reason, payload))
            except Exception as error:  # noqa: BLE001 - nothing of ours ends what serves
                # Whatever a decoder of ours does not foresee costs this resource its update, and nothing else.
                incoming.rejected.append(Rejection(type_url, name, version, own_fault(error), payload))
            yield
        return accepted

    def _merged(self, response: Response, incoming: Incoming, accepted: Mapping[str, Any]) -> dict[str, Any]:
        """All resources of the response's type from now on."""
        current = self._resources[response.type_url]
        refused = {one.name for one in incoming.rejected}
        if incoming.foreign or response.type_url == EDS:
            gone: Collection[str] = ()
        elif response.removed is not None:
            gone = set(response.removed) - refused
        elif response.type_url in _BY_NAME or incoming.unreadable or incoming.heartbeats or (refused and not accepted):
            gone = ()
        else:
            gone = current.keys() - refused
        kept = {name: one for name, one in current.items() if name not in gone} if gone else current
        return {**kept, **accepted}

    def _hold_back(self, accepted: Mapping[str, Cluster], resources_now: dict[str, Any]) -> bool:
        """Leave old versions in use where the new ones have no endpoints yet; return whether that changes who waits."""
        before = self._waiting
        current, assignments = self._resources[CDS], self._resources[EDS]
        routed = self._routed()
        kept = {name: one for name, one in before.items() if name not in accepted and name in resources_now}
        for name, one in accepted.items():
            old = current.get(name)
            target = one.assignment_name
            if one is not old and one is not before.get(name):
                # A new version has all of its own time.
                self._deadlines.clear(Key(Kind.FETCH, CDS, name))
            if old is None or old is one or not target or target in assignments or target == old.assignment_name:
                continue
            serves = old.type != "EDS" or old.assignment_name in assignments
            if serves and leads_to(name, routed):
                kept[name] = one
                resources_now[name] = old
        self._waiting = kept
        return kept != before

    def _settle(self) -> bool:
        """Put clusters into use that need not wait any more; return whether there were some."""
        if not self._waiting:
            return False
        assignments, routed = self._resources[EDS], self._routed()
        ready = {
            name
            for name, one in self._waiting.items()
            if one.assignment_name in assignments or not leads_to(name, routed)
        }
        if ready:
            self._activate(ready)
            self._derive({CDS})
        return bool(ready)

    def _activate(self, names: Collection[str]) -> None:
        ready = {name: one for name, one in self._waiting.items() if name in names}
        self._waiting = {name: one for name, one in self._waiting.items() if name not in names}
        self._replaced.update({(CDS, name): self._resources[CDS].get(name) for name in ready})
        self._resources[CDS] = {**self._resources[CDS], **ready}

    def _replace(self, type_url: str, resources_now: dict[str, Any], accepted: Iterable[str]) -> bool:
        """Put a type's resources into use; return whether any of them has another meaning than before."""
        current = self._resources[type_url]
        for name in accepted:
            one, before = resources_now[name], current.get(name)
            if before is not one and before != one:
                self._replaced[type_url, name] = before
        self._resources[type_url] = resources_now
        return bool(self._replaced) or len(resources_now) != len(current)

    def _note_rejections(self, response: Response, incoming: Incoming, accepted: Collection[str]) -> None:
        """A rejection is over when its name was accepted or, in a complete state, is gone; one without a readable name
        when the next response of its type has come.
        """
        type_url, removed = response.type_url, response.removed or ()
        complete = type_url not in _BY_NAME and response.removed is None
        for key in [key for key in self._rejections if key[0] == type_url]:
            if key[1] in accepted or complete or key[1].startswith("(") or key[1] in removed:
                del self._rejections[key]
        self._rejections.update({(type_url, one.name): one for one in incoming.rejected})

    def _note_deadlines(self, type_url: str, incoming: Incoming, accepted: Mapping[str, Any]) -> None:
        now_s = self._clock()
        if type_url in _WITH_TTL and (incoming.ttls or self._deadlines):
            for name in (*accepted, *incoming.heartbeats):
                self._set_deadline(Key(Kind.TTL, type_url, name), now_s, incoming.ttls.get(name))
            self._deadlines.retain(Kind.TTL, type_url, self._resources[type_url])
        if type_url == EDS:
            for name, one in accepted.items():
                self._set_deadline(Key(Kind.STALE, EDS, name), now_s, one.endpoint_stale_after_s or None)

    def _set_deadline(self, key: Key, now_s: float, after_s: float | None) -> None:
        if after_s is None:
            self._deadlines.clear(key)
        else:
            self._deadlines.set(key, now_s + after_s)

    def _derive(self, touched: Collection[str]) -> bool:
        """Bring what is derived up to date; return whether other clusters are warming than before."""
        if CDS in touched:
            self._derive_from_clusters()
        if LDS in touched:
            self._derive_from_listeners()
        if LDS in touched or RDS in touched:
            self._hosts = {name: hosts for name, hosts in self._hosts.items() if name in self._resources[RDS]}
        if LDS in touched or CDS in touched or (RDS in touched and self._router):
            self._wanted = self._wanted_now()
            clusters = {**self._resources[CDS], **self._waiting} if self._waiting else self._resources[CDS]
            self.secrets.want(named_secrets(self._resources[LDS].values(), clusters, self._routed()))
        before = self._warming
        if before or any(kind in touched for kind in (LDS, CDS, RDS)):
            self._warming = self._warming_now()
        if self._warming or self._waiting or self._deadlines:
            self._note_fetches()
        return self._warming != before

    def _derive_from_clusters(self) -> None:
        clusters, assignments = self._resources[CDS], self._resources[EDS]
        self._assignment_of = {name: one.assignment_name for name, one in clusters.items() if one.type == "EDS"}
        referred = {*self._assignment_of.values(), *(one.assignment_name for one in self._waiting.values())}
        self._referred = frozenset(referred)
        if not self._referred.issuperset(assignments):
            assignments = {name: one for name, one in assignments.items() if name in self._referred}
            self._resources[EDS] = assignments
            self._deadlines.retain(Kind.STALE, EDS, assignments)
            for key in [key for key in self._rejections if key[0] == EDS and key[1] not in self._referred]:
                del self._rejections[key]
        self._given_up = {
            name: target for name, target in self._given_up.items() if self._assignment_of.get(name) == target
        }

    def _derive_from_listeners(self) -> None:
        listeners, routes = self._resources[LDS], self._resources[RDS]
        self._chains = {name: chains for name, chains in self._chains.items() if name in listeners}
        self._wanted_routes = named_routes(listeners.values())
        if not self._wanted_routes.issuperset(routes):
            self._resources[RDS] = {name: one for name, one in routes.items() if name in self._wanted_routes}
        for key in [key for key in self._rejections if key[0] == RDS and key[1] not in self._wanted_routes]:
            del self._rejections[key]

    def _routed(self) -> set[str] | None:
        """What routes lead to, for wanted.leads_to."""
        if not self._router:
            return None
        return {*routed_clusters(self._resources[LDS].values(), self._resources[RDS].values()), self._local_cluster}

    def _wanted_now(self) -> frozenset[str]:
        routed = self._routed()
        if routed is None:
            return self._referred
        wanted = {target for name, target in self._assignment_of.items() if leads_to(name, routed)}
        return frozenset(wanted.union(one.assignment_name for one in self._waiting.values()))

    def _warming_now(self) -> frozenset[str]:
        unanswered = self._wanted.difference(self._resources[EDS])
        if not unanswered:
            return frozenset()
        return frozenset(
            name
            for name, target in self._assignment_of.items()
            if target in unanswered and self._given_up.get(name) != target
        )

    def _wait_no_longer(self, rejected: Iterable[Rejection]) -> bool:
        """As Envoy, for first assignments that were rejected, whatever their time: nobody sends them anew."""
        names = {one.name for one in rejected if one.type_url == EDS}
        is_any = any(name.startswith("(") for name in names)
        given_up = {name for name in self._warming if is_any or self._assignment_of[name] in names}
        self._given_up.update({name: self._assignment_of[name] for name in given_up})
        self._warming -= given_up
        return bool(given_up)

    def _note_fetches(self) -> None:
        """Give every cluster that misses its assignment the time that it grants."""
        now_s = self._clock()
        missing = self._warming.union(self._waiting)
        self._deadlines.retain(Kind.FETCH, CDS, missing)
        for name in missing:
            timeout_s = (self._waiting.get(name) or self._resources[CDS][name]).initial_fetch_timeout_s
            if timeout_s:
                self._deadlines.begin(Key(Kind.FETCH, CDS, name), now_s + timeout_s)
