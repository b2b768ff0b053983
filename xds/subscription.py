"""The state-of-the-world protocol of one ADS stream: which request to send when. No socket, no decoding, no clock.

A stream asks for a type, answers each response with ACK or NACK, and asks again when the names it wants change. What
istiod makes of these requests decides the rules here:

1. Nonces belong to a stream: after a reconnect each type begins with an empty one and its full list of names.
2. A request whose nonce is not the newest is dropped by the server, so the names in it may never have arrived. Every
   ACK therefore carries the names wanted now; a NACK is not read for names, so after one they are sent again.
3. Empty names mean "unsubscribe" for a type that has names: sent once, when the last name is not wanted any more. A
   name that comes back is then answered as a new one, where a request that repeats the former names is not.
"""

from collections.abc import Iterable, Mapping, Sequence

from .message import encode, read
from .record import record
from .response import Response

ADS_SERVICE = "/envoy.service.discovery.v3.AggregatedDiscoveryService"
DISCOVERY_RESPONSE = "envoy.service.discovery.v3.DiscoveryResponse"
DISCOVERY_REQUEST = "envoy.service.discovery.v3.DiscoveryRequest"
# google.rpc.Code INVALID_ARGUMENT: what Envoy puts into error_detail too.
INVALID_ARGUMENT = 3
# istiod refuses requests above 4 MiB, and the text ends in its status page.
REASON_LIMIT = 4096


@record
class Request:
    """One DiscoveryRequest to send. ``error``: reason of a NACK, empty otherwise."""

    type_url: str
    version: str = ""
    nonce: str = ""
    names: tuple[str, ...] = ()
    error: str = ""

    def encode(self, node: dict[str, object] | None = None) -> bytes:
        """The bytes of the DiscoveryRequest; `node` is the Node message in the shape of message.read."""
        value: dict[str, object] = {"version_info": self.version}
        if node is not None:
            value["node"] = node
        value["resource_names"] = self.names
        value["type_url"] = self.type_url
        value["response_nonce"] = self.nonce
        if self.error:
            value["error_detail"] = {"code": INVALID_ARGUMENT, "message": self.error[:REASON_LIMIT]}
        return encode(DISCOVERY_REQUEST, value)


class SotwSubscription:
    """One type URL. ``wildcard`` types (CDS, LDS) send no names; others are silent while no name is wanted."""

    def __init__(self, type_url: str, *, wildcard: bool) -> None:
        self.type_url = type_url
        self.wildcard = wildcard
        # Outlives streams: the last version that was accepted.
        self.version = ""
        # Newest nonce of this stream, empty before the first response.
        self.nonce = ""
        self._wanted: tuple[str, ...] = ()
        # Names of the last request of this stream that the server reads for names; None before the first request.
        self._asked: tuple[str, ...] | None = None
        # Whether names were sent since the last ACK: the server may have dropped that request.
        self._names_in_doubt = False

    def restart(self) -> Request | None:
        """Begin on a new stream; return the first request, None when there is nothing to ask for."""
        self.nonce = ""
        self._asked = None
        self._names_in_doubt = False
        return self._ask()

    def want(self, names: Iterable[str]) -> Request | None:
        """Set the names wanted from now on; return the request that says so, None when nothing is to be said."""
        self._wanted = tuple(sorted(set(names)))
        return self._ask()

    def prepare(self, names: Iterable[str]) -> None:
        """Set the names wanted without saying so: the first request will."""
        self._wanted = tuple(sorted(set(names)))

    def received(self, nonce: str) -> None:
        """Note a response. Its ACK or NACK must follow before the next one is noted."""
        self.nonce = nonce

    def ack(self, version: str) -> Request | None:
        """Accept the response noted last; return the ACK, None when the server gave no nonce to answer to."""
        self.version = version
        self._names_in_doubt = False
        return self._answer("")

    def nack(self, reason: str) -> list[Request]:
        """Reject the response noted last, keeping the previous version; return the requests that say so."""
        answer = self._answer(reason)
        if answer is None:
            return []
        # A NACK is not read for names: what is in doubt, or wanted since, has to be said in a request of its own.
        if self.wildcard or not self._wanted or (self._asked == self._wanted and not self._names_in_doubt):
            return [answer]
        self._asked = None
        again = self._ask()
        return [answer] if again is None else [answer, again]

    def _ask(self) -> Request | None:
        if self._asked is not None and (self.wildcard or self._asked == self._wanted):
            return None
        if not self.wildcard and not self._wanted and not self._asked:
            return None
        self._names_in_doubt = self._asked is not None or self.nonce != ""
        self._asked = self._wanted
        return Request(self.type_url, self.version, self.nonce, self._wanted)

    def _answer(self, error: str) -> Request | None:
        names = self._wanted or self._asked or ()
        if not self.nonce or (not names and not self.wildcard):
            return None
        if not error:
            self._asked = names
        return Request(self.type_url, self.version, self.nonce, names, error)


class SotwSubscriptions:
    """All types of one ADS stream, in the order in which they are asked for: (type URL, wildcard) pairs.

    Until something was accepted of the first type, the others wait for its first response: istiod answers requests in
    order, so assignments asked for on seeing the clusters arrive before the listeners that lead to them.
    """

    method = f"{ADS_SERVICE}/StreamAggregatedResources"

    def __init__(self, types: Sequence[tuple[str, bool]]) -> None:
        self._by_type = {type_url: SotwSubscription(type_url, wildcard=wildcard) for type_url, wildcard in types}
        self._held: list[SotwSubscription] = []

    def __contains__(self, type_url: str) -> bool:
        return type_url in self._by_type

    def __getitem__(self, type_url: str) -> SotwSubscription:
        return self._by_type[type_url]

    def read(self, payload: bytes) -> Response:
        """Read a response and, when it is of a subscribed type, note it. Raises XdsError."""
        message = read(DISCOVERY_RESPONSE, payload)
        type_url, version, nonce = (message.get(name, "") for name in ("type_url", "version_info", "nonce"))
        if type_url in self._by_type:
            self.received(type_url, nonce)
        return Response(type_url, version, nonce, message.get("resources", ()))

    def restart(self, held: Mapping[str, Iterable[str]] | None = None) -> list[Request]:
        """First requests of a new stream. The node belongs into the first of them. What is held is not asked about."""
        del held
        first, *others = self._by_type.values()
        requests = [first.restart()]
        if first.version:
            self._held = []
            requests += [one.restart() for one in others]
        else:
            self._held = others
        return [request for request in requests if request is not None]

    def release(self) -> list[Request]:
        """First requests of the types that waited for the first response."""
        held, self._held = self._held, []
        return [request for one in held if (request := one.restart()) is not None]

    def received(self, type_url: str, nonce: str) -> None:
        """Note a response of a subscribed type."""
        self._by_type[type_url].received(nonce)

    def answer(self, type_url: str, version: str, reason: str = "", rejected: Iterable[str] = ()) -> list[Request]:
        """ACK the response noted last, or NACK it for `reason`."""
        del rejected
        one = self._by_type[type_url]
        if reason:
            return one.nack(reason)
        request = one.ack(version)
        return [] if request is None else [request]

    def want(self, type_url: str, names: Iterable[str]) -> list[Request]:
        """Set the names wanted of a type. What a type still waits for is said by its first request."""
        if any(one.type_url == type_url for one in self._held):
            self._by_type[type_url].prepare(names)
            return []
        request = self._by_type[type_url].want(names)
        return [] if request is None else [request]
