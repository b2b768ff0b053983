"""One ADS stream as a control plane keeps it: what is watched, what was sent, what to answer. No sockets, no meshes.

The rules are istiod's, state-of-the-world and Delta: pilot/pkg/xds/ads.go, delta.go.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from .messages import CDS, EDS, LDS, RDS

Sent = Mapping[str, bytes]
Resources = Mapping[str, Sent]
"""Type URL -> name -> bytes inside the Any."""

WILDCARD = frozenset({CDS, LDS})
"""Types of which a proxy always has everything."""

PUSH_ORDER = (CDS, EDS, LDS, RDS)


@dataclass(frozen=True, slots=True)
class Response:
    """What to send: resources by name, and names that are gone (Delta only)."""

    type_url: str
    version: str
    nonce: str
    resources: Sent
    removed: tuple[str, ...] = ()


@dataclass(slots=True)
class Watch:
    """A type that the client asked for. ``held``: what it was sent last, by name."""

    names: set[str] = field(default_factory=set)
    held: dict[str, bytes] = field(default_factory=dict)
    nonce: str = ""
    version: str = ""
    acked_nonce: str = ""
    acked_version: str = ""
    rejected: str = ""
    answer_all: bool = False

    @property
    def state(self) -> str:
        """As istiod's syncz calls it."""
        if self.rejected:
            return "NACKed"
        return "SYNCED" if self.nonce and self.nonce == self.acked_nonce else "STALE" if self.nonce else "NOT SENT"


def empty_assignment(name: str) -> bytes:
    """A ClusterLoadAssignment that holds its name and nothing else."""
    text, length = name.encode(), bytearray()
    size = len(text)
    while size > 0x7F:
        length.append(size & 0x7F | 0x80)
        size >>= 7
    return b"\x0a" + bytes((*length, size)) + text


class Stream:
    """State of one stream. `resources` are what the client is to have; the caller sets them before each call."""

    def __init__(self, *, delta: bool) -> None:
        self.delta = delta
        self.watches: dict[str, Watch] = {}
        self._nonces = 0

    def on_request(
        self, type_url: str, names: Iterable[str], nonce: str, resources: Resources, version: str, *, error: str = ""
    ) -> list[Response]:
        """Answers to a state-of-the-world request."""
        wanted = set(names)
        watch = self.watches.get(type_url)
        if watch is None or not nonce:
            if not wanted and type_url not in WILDCARD:
                # No names: of a type that goes by name, that is to want nothing.
                self.watches.pop(type_url, None)
                return []
            first = Watch(wanted)
            self.watches[type_url] = first
            if type_url == CDS and EDS in self.watches:
                self.watches[EDS].answer_all = True
            return [self._respond(type_url, self._chosen(first, type_url, resources), version)]
        if not self._acknowledged(watch, nonce, error):
            return []
        if type_url in WILDCARD:
            return []
        if not wanted:
            del self.watches[type_url]
            return []
        added = wanted if watch.answer_all else wanted - watch.names
        watch.answer_all = False
        for name in watch.names - wanted:
            watch.held.pop(name, None)
        watch.names = wanted
        if not added:
            return []
        chosen = self._chosen(watch, type_url, resources)
        return [self._respond(type_url, {name: chosen[name] for name in added if name in chosen}, version)]

    def on_delta_request(
        self,
        type_url: str,
        subscribe: Iterable[str],
        unsubscribe: Iterable[str],
        nonce: str,
        resources: Resources,
        version: str,
        *,
        held: Iterable[str] = (),
        error: str = "",
    ) -> list[Response]:
        """Answers to a Delta request; `held` are the names that the client says it has from an earlier stream."""
        watch = self.watches.get(type_url)
        added, kept = set(subscribe) - {"*"}, set(held)
        if watch is None:
            watch = Watch(added | kept, dict.fromkeys(kept, b""))
            self.watches[type_url] = watch
            responses = [self._respond_delta(type_url, self._chosen(watch, type_url, resources), version)]
            if type_url == CDS and EDS in self.watches:
                eds = self.watches[EDS]
                responses.append(self._respond_delta(EDS, self._chosen(eds, EDS, resources), version))
            return responses
        if nonce and not self._acknowledged(watch, nonce, error):
            return []
        if type_url in WILDCARD:
            return []
        for name in unsubscribe:
            watch.names.discard(name)
            watch.held.pop(name, None)
        watch.names |= added
        if not added:
            return []
        chosen = self._chosen(watch, type_url, resources)
        gone = tuple(sorted(added - set(chosen)))
        return [self._respond_delta(type_url, {n: chosen[n] for n in added if n in chosen}, version, gone)]

    def on_push(self, resources: Resources, version: str) -> list[Response]:
        """What differs from what the client holds, in push order: whole types for CDS and LDS, names for the others."""
        responses = []
        for type_url in sorted(self.watches, key=lambda url: PUSH_ORDER.index(url) if url in PUSH_ORDER else 99):
            watch = self.watches[type_url]
            chosen = self._chosen(watch, type_url, resources)
            changed = {name: data for name, data in chosen.items() if watch.held.get(name) != data}
            gone = tuple(sorted(set(watch.held) - set(chosen)))
            if not changed and not gone:
                continue
            if self.delta:
                responses.append(self._respond_delta(type_url, changed, version, gone))
            else:
                whole = type_url in WILDCARD
                responses.append(self._respond(type_url, chosen if whole else changed, version))
        return responses

    @staticmethod
    def _acknowledged(watch: Watch, nonce: str, error: str) -> bool:
        """Note an ACK or NACK. False: nothing is to be answered, because it is old news or a NACK."""
        if nonce != watch.nonce:
            return False
        watch.rejected = error
        if error:
            return False
        watch.acked_nonce, watch.acked_version = nonce, watch.version
        return True

    @staticmethod
    def _chosen(watch: Watch, type_url: str, resources: Resources) -> dict[str, bytes]:
        """What the client is to have of the type. An unknown service has an assignment, which is empty."""
        known = resources.get(type_url, {})
        if type_url in WILDCARD:
            return dict(known)
        if type_url == EDS:
            return {name: known[name] if name in known else empty_assignment(name) for name in sorted(watch.names)}
        return {name: known[name] for name in sorted(watch.names) if name in known}

    def _next(self, type_url: str, version: str) -> Watch:
        watch = self.watches[type_url]
        self._nonces += 1
        watch.nonce, watch.version, watch.rejected = f"{version}-{self._nonces}", version, ""
        return watch

    def _respond(self, type_url: str, chosen: Sent, version: str) -> Response:
        watch = self._next(type_url, version)
        if type_url in WILDCARD:
            watch.held.clear()
        watch.held.update(chosen)
        return Response(type_url, version, watch.nonce, dict(chosen))

    def _respond_delta(
        self, type_url: str, chosen: Sent, version: str, gone: tuple[str, ...] | None = None
    ) -> Response:
        watch = self._next(type_url, version)
        removed = tuple(sorted(set(watch.held) - set(chosen))) if gone is None else gone
        for name in removed:
            watch.held.pop(name, None)
        watch.held.update(chosen)
        # A cluster that goes takes its assignment along: EDS never names one as removed.
        return Response(type_url, version, watch.nonce, dict(chosen), () if type_url == EDS else removed)
