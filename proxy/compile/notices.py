"""What of the configuration that serves has no effect, and what of it refuses: one home, for all who show it.

Noted when it is published, logged when it changes. Admin shows it in /config_dump, /listeners and /debug/xds, and
doctor makes findings of it. A refusal is logged once it has lasted for PATIENCE_S: while a configuration is still
arriving, clusters wait for secrets and listeners for routes that come a moment later.
"""

import time
from collections.abc import Callable, Iterator, Mapping
from enum import StrEnum

from eastgate.proxy.log import Log
from eastgate.xds.record import record
from eastgate.xds.resources import FilterChain, Listener, Snapshot
from eastgate.xds.route import RouteConfiguration

from .compiled import CompiledCluster, CompiledListener
from .http_plan import http_refusal, refused_routes
from .policies import unknown_parts

# What arrives with the same push is there within seconds, also from a busy istiod.
PATIENCE_S = 5.0
# Names that a log line shows of those that a notice is about.
NAMES_SHOWN = 3


class Sort(StrEnum):
    """What a notice says. The values are public: they stand in JSON."""

    NOT_HONOURED = "not_honoured"
    """A field or a part of a resource has no effect."""
    REFUSED = "refused"
    """Connections are refused, whoever asks."""


EVENTS = {Sort.NOT_HONOURED: "configuration not honoured", Sort.REFUSED: "connections will be refused"}


@record
class Notice:
    """One sentence about a resource."""

    sort: Sort
    text: str

    def as_json(self) -> dict[str, str]:
        return {"kind": self.sort.value, "text": self.text}


Notices = tuple[Notice, ...]


def not_honoured(sentences: tuple[str, ...]) -> Notices:
    return tuple(Notice(Sort.NOT_HONOURED, text) for text in sentences)


def cluster_notices(compiled: CompiledCluster) -> Notices:
    """Of a cluster that is published."""
    closed = (Notice(Sort.REFUSED, compiled.closed),) if compiled.closed else ()
    return not_honoured(compiled.cluster.warnings) + closed


def why_skipped(listener: Listener) -> str:
    """Why this listener is not served at all; empty when it is."""
    if listener.transparent and listener.original_dst:
        return "transparent: connections that TPROXY takes are not served, only those that are redirected"
    return ""


def hands_over(snapshot: Snapshot) -> bool:
    """Whether listeners without a socket get connections: another one hands them over."""
    return any(one.use_original_dst and not why_skipped(one) for one in snapshot.listeners.values())


def chain_refusals(listener: Listener, snapshot: Snapshot) -> Iterator[tuple[str, str]]:
    """(name of a chain, why it refuses)."""
    chains: list[tuple[str, FilterChain]] = [
        (chain.name or f"#{index}", chain) for index, chain in enumerate(listener.filter_chains)
    ]
    if listener.default_filter_chain is not None:
        chains.append((listener.default_filter_chain.name or "#default", listener.default_filter_chain))
    for name, chain in chains:
        if reason := snapshot.refusal(chain) or http_refusal(chain, snapshot.routes_of(chain)):
            yield name, reason


def listener_notices(listener: Listener, snapshot: Snapshot, *, handed_over: bool) -> Notices:
    """Of a listener that is published; chains that refuse for one reason are told together. `handed_over`: see
    hands_over.
    """
    by_reason: dict[str, list[str]] = {}
    for name, reason in chain_refusals(listener, snapshot):
        by_reason.setdefault(reason, []).append(name)
    found = [
        Notice(Sort.REFUSED, f"filter chain{'s' if len(names) > 1 else ''} {some(names)}: {reason}")
        for reason, names in by_reason.items()
    ]
    if skipped := why_skipped(listener):
        found.append(Notice(Sort.REFUSED, f"not served: {skipped}"))
    elif not listener.bind_to_port and not handed_over:
        reason = "bind_to_port is false, and no listener has use_original_dst"
        found.append(Notice(Sort.REFUSED, f"no connection comes to it: {reason}"))
    chains = [chain for chain in (*listener.filter_chains, listener.default_filter_chain) if chain is not None]
    configured = [chain.route_config for chain in chains if chain.route_config is not None]
    inline = [text for one in configured for text in one.warnings]
    refused = [text for one in configured for text in refused_routes(one)]
    found += [Notice(Sort.REFUSED, text) for text in dict.fromkeys(refused)]
    unknown = [text for chain in chains for text in unknown_parts(chain)]
    return not_honoured(tuple(dict.fromkeys((*listener.warnings, *inline, *unknown)))) + tuple(found)


def route_notices(routes: RouteConfiguration) -> Notices:
    """Of routes that came by RDS."""
    return not_honoured(routes.warnings) + tuple(Notice(Sort.REFUSED, text) for text in refused_routes(routes))


def some(names: list[str]) -> str:
    """The first names, and how many there are more."""
    more = len(names) - NAMES_SHOWN
    return ", ".join(names[:NAMES_SHOWN]) + (f" and {more} more" if more > 0 else "")


@record
class _Seen:
    """A listener as it was looked at, with what RDS had of the routes that it names."""

    listener: Listener
    routes: Mapping[str, RouteConfiguration | None]
    handed_over: bool

    @classmethod
    def now(cls, listener: Listener, snapshot: Snapshot, *, handed_over: bool) -> "_Seen":
        chains = filter(None, (*listener.filter_chains, listener.default_filter_chain))
        names = {chain.route_config_name for chain in chains if chain.route_config_name}
        return cls(listener, {name: snapshot.routes.get(name) for name in names}, handed_over)

    def is_current(self, listener: Listener, snapshot: Snapshot, *, handed_over: bool) -> bool:
        return (
            self.listener is listener
            and all(snapshot.routes.get(name) is one for name, one in self.routes.items())
            and self.handed_over == handed_over
        )


class NoticeBook:
    """Notices by (kind, name) of the resource; `kind` is CDS, LDS or RDS. Control thread only."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._notices: dict[tuple[str, str], Notices] = {}
        # What the log has not told yet: since when, and whom it is about.
        self._news: dict[tuple[str, Notice], tuple[float, list[str]]] = {}
        self._listeners: dict[str, _Seen] = {}
        self._routes: dict[str, RouteConfiguration] = {}
        self._log = Log("compiler")

    def of(self, kind: str, name: str) -> Notices:
        """Those of one resource."""
        return self._notices.get((kind, name), ())

    @property
    def by_resource(self) -> Mapping[tuple[str, str], Notices]:
        """All of them, now; a copy."""
        return dict(self._notices)

    def note(self, kind: str, name: str, notices: Notices) -> None:
        """All that there is to say of a resource from now on. What was not said of it before is for `tell`."""
        before = self._notices.pop((kind, name), ())
        if notices:
            self._notices[kind, name] = notices
        for notice in notices:
            if notice not in before:
                self._news.setdefault((kind, notice), (self._clock(), []))[1].append(name)

    def note_listeners(self, listeners: Mapping[str, CompiledListener], snapshot: Snapshot) -> None:
        """Of all listeners that are published, and of their routes. Looks closer only at those that changed."""
        handed = hands_over(snapshot)
        for name, compiled in listeners.items():
            seen = self._listeners.get(name)
            if seen is None or not seen.is_current(compiled.listener, snapshot, handed_over=handed):
                # Routes that came or changed make chains serve, or refuse.
                self._listeners[name] = _Seen.now(compiled.listener, snapshot, handed_over=handed)
                self.note("LDS", name, listener_notices(compiled.listener, snapshot, handed_over=handed))
        for name, routes in snapshot.routes.items():
            if self._routes.get(name) is not routes:
                self._routes[name] = routes
                self.note("RDS", name, route_notices(routes))
        for name in self._listeners.keys() - listeners.keys():
            del self._listeners[name]
            self.forget("LDS", name)
        for name in self._routes.keys() - snapshot.routes.keys():
            del self._routes[name]
            self.forget("RDS", name)

    def forget(self, kind: str, name: str) -> None:
        """The resource left."""
        self._notices.pop((kind, name), None)

    @property
    def wait_s(self) -> float | None:
        """Seconds until `tell` has something to say, 0 for now; None while nothing waits."""
        if not self._news:
            return None
        due = min(since + _patience_s(notice) for (_, notice), (since, _) in self._news.items())
        return max(0.0, due - self._clock())

    def tell(self) -> None:
        """Log what is new and has lasted: a line for each sentence, however many resources it is about."""
        now = self._clock()
        for (kind, notice), (since, names) in list(self._news.items()):
            if now < since + _patience_s(notice):
                continue
            del self._news[kind, notice]
            lasting = [name for name in dict.fromkeys(names) if notice in self.of(kind, name)]
            if lasting:
                self._log.warning(
                    EVENTS[notice.sort], type=kind, name=some(lasting), count=len(lasting), reason=notice.text
                )


def _patience_s(notice: Notice) -> float:
    return PATIENCE_S if notice.sort is Sort.REFUSED else 0.0
