"""The Delta protocol of one ADS stream: which request to send when. No socket, no decoding of resources, no clock.

What istiod makes of these requests (pilot/pkg/xds/delta.go, shouldRespondDelta) decides the rules here:

1. An ACK or NACK carries a nonce and changes no names; a change of names carries no nonce and nothing else. The other
   two combinations are logged as errors, and a change with an outdated nonce would be lost: without one it cannot be.
2. A stream begins with what is held (initial_resource_versions): what is gone then comes back in removed_resources.
   istiod sends everything else again; other servers leave out what has the version that is named.
3. The wildcard of CDS and LDS is said as "*": beside names in initial_resource_versions, silence would mean only these.
4. A version counts as held only when its resource was accepted: a rejected one is sent again on the next stream.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import field

from .message import encode, read
from .record import record
from .response import Response
from .subscription import ADS_SERVICE, INVALID_ARGUMENT, REASON_LIMIT

DELTA_REQUEST = "envoy.service.discovery.v3.DeltaDiscoveryRequest"
DELTA_RESPONSE = "envoy.service.discovery.v3.DeltaDiscoveryResponse"
WILDCARD = "*"


@record
class DeltaRequest:
    """One DeltaDiscoveryRequest to send. ``error``: reason of a NACK, empty otherwise."""

    type_url: str
    nonce: str = ""
    subscribe: tuple[str, ...] = ()
    unsubscribe: tuple[str, ...] = ()
    initial_versions: Mapping[str, str] = field(default_factory=dict)
    error: str = ""

    def encode(self, node: dict[str, object] | None = None) -> bytes:
        """The bytes of the DeltaDiscoveryRequest; `node` is the Node message in the shape of message.read."""
        value: dict[str, object] = {} if node is None else {"node": node}
        value["type_url"] = self.type_url
        value["resource_names_subscribe"] = self.subscribe
        value["resource_names_unsubscribe"] = self.unsubscribe
        value["initial_resource_versions"] = self.initial_versions
        value["response_nonce"] = self.nonce
        if self.error:
            value["error_detail"] = {"code": INVALID_ARGUMENT, "message": self.error[:REASON_LIMIT]}
        return encode(DELTA_REQUEST, value)


class DeltaSubscription:
    """One type URL. ``wildcard`` types (CDS, LDS) ask for everything; others are silent while no name is wanted."""

    def __init__(self, type_url: str, *, wildcard: bool) -> None:
        self.type_url = type_url
        self.wildcard = wildcard
        # Newest nonce of this stream, empty before the first response.
        self.nonce = ""
        # Outlives streams: the version of each resource that was accepted.
        self.versions: dict[str, str] = {}
        self._wanted: frozenset[str] = frozenset({WILDCARD} if wildcard else ())
        # What this stream has subscribed to; None before its first request.
        self._asked: frozenset[str] | None = None
        # Of the response noted last.
        self._received: dict[str, str] = {}
        self._removed: Sequence[str] = ()

    def restart(self, held: Iterable[str]) -> DeltaRequest | None:
        """Begin on a new stream; return the first request, None when there is nothing to ask for."""
        self.nonce = ""
        self._asked = None
        self._received, self._removed = {}, ()
        held_names = set(held) if self.wildcard else self._wanted.intersection(held)
        self.versions = {name: self.versions.get(name, "") for name in sorted(held_names)}
        return self._ask()

    def prepare(self, names: Iterable[str]) -> None:
        """Set the names wanted without saying so: the first request will."""
        if not self.wildcard:
            self._wanted = frozenset(names)

    def want(self, names: Iterable[str]) -> DeltaRequest | None:
        """Set the names wanted from now on; return the request that says so, None when nothing is to be said."""
        self.prepare(names)
        return self._ask()

    def received(self, nonce: str, versions: Mapping[str, str], removed: Sequence[str]) -> None:
        """Note a response. Its ACK or NACK must follow before the next one is noted."""
        self.nonce = nonce
        self._received, self._removed = dict(versions), removed

    def answer(self, reason: str, rejected: Iterable[str]) -> DeltaRequest | None:
        """ACK the response noted last, or NACK it for `reason`; None when the server gave no nonce to answer to."""
        refused = set(rejected)
        self.versions.update({name: version for name, version in self._received.items() if name not in refused})
        for name in self._removed:
            self.versions.pop(name, None)
        self._received, self._removed = {}, ()
        return DeltaRequest(self.type_url, self.nonce, error=reason) if self.nonce else None

    def _ask(self) -> DeltaRequest | None:
        first = self._asked is None
        asked = self._asked or frozenset()
        if asked == self._wanted:
            return None
        self._asked = self._wanted
        subscribe, unsubscribe = sorted(self._wanted - asked), sorted(asked - self._wanted)
        for name in unsubscribe:
            self.versions.pop(name, None)
        initial = dict(self.versions) if first else {}
        return DeltaRequest(self.type_url, "", tuple(subscribe), tuple(unsubscribe), initial)


class DeltaSubscriptions:
    """All types of one Delta ADS stream, in the order in which they are asked for: (type URL, wildcard) pairs.

    While nothing is held of the first type, the others wait for its first response, as with SotwSubscriptions.
    """

    method = f"{ADS_SERVICE}/DeltaAggregatedResources"

    def __init__(self, types: Sequence[tuple[str, bool]]) -> None:
        self._by_type = {type_url: DeltaSubscription(type_url, wildcard=wildcard) for type_url, wildcard in types}
        self._waiting: dict[str, Iterable[str]] = {}

    def __contains__(self, type_url: str) -> bool:
        return type_url in self._by_type

    def __getitem__(self, type_url: str) -> DeltaSubscription:
        return self._by_type[type_url]

    def read(self, payload: bytes) -> Response:
        """Read a response and, when it is of a subscribed type, note it. Raises XdsError."""
        message = read(DELTA_RESPONSE, payload)
        type_url, nonce = message.get("type_url", ""), message.get("nonce", "")
        removed = message.get("removed_resources", ())
        wrappers = message.get("resources", ())
        versions = {one.get("name", ""): one.get("version", "") for one in wrappers}
        heartbeats: dict[str, str | None] = {}
        if type_url in self._by_type:
            held = self._by_type[type_url].versions
            # One that was not told its version so far has all that there is to tell of that version.
            bare = [one for one in wrappers if "resource" not in one and one.get("name", "") in held]
            heartbeats = {one["name"]: one.get("ttl") for one in bare if one.get("version", "") == held[one["name"]]}
            self._by_type[type_url].received(nonce, versions, removed)
        full = [one for one in wrappers if one.get("name", "") not in heartbeats or "resource" in one]
        return Response(
            type_url,
            message.get("system_version_info", ""),
            nonce,
            [one.get("resource", b"") for one in full],
            [one.get("name", "") for one in full],
            removed,
            versions,
            [one.get("ttl") for one in full],
            heartbeats,
        )

    def restart(self, held: Mapping[str, Iterable[str]] | None = None) -> list[DeltaRequest]:
        """First requests of a new stream, given the names held of each type. The node belongs into the first."""
        held = held or {}
        first, *others = self._by_type.values()
        names = tuple(held.get(first.type_url, ()))
        self._waiting = {one.type_url: held.get(one.type_url, ()) for one in others}
        request = first.restart(names)
        requests = [] if request is None else [request]
        return requests + self.release() if names else requests

    def release(self) -> list[DeltaRequest]:
        """First requests of the types that waited for the first response."""
        waiting, self._waiting = self._waiting, {}
        requests = [self._by_type[type_url].restart(held) for type_url, held in waiting.items()]
        return [request for request in requests if request is not None]

    def answer(self, type_url: str, version: str, reason: str = "", rejected: Iterable[str] = ()) -> list[DeltaRequest]:
        """ACK the response noted last, or NACK it for `reason`; the versions of rejected names are not held."""
        del version
        request = self._by_type[type_url].answer(reason, rejected)
        return [] if request is None else [request]

    def want(self, type_url: str, names: Iterable[str]) -> list[DeltaRequest]:
        """Set the names wanted of a type. What a type still waits for is said by its first request."""
        if type_url in self._waiting:
            self._by_type[type_url].prepare(names)
            return []
        request = self._by_type[type_url].want(names)
        return [] if request is None else [request]
