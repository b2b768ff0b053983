"""Which listeners there are, with and without sockets: opened, routed and closed as LDS says.

Where one of them hands connections over (use_original_dst), all are published by their addresses. Decides nothing about
a single connection.
"""

import errno
from collections.abc import Callable, Mapping, Set
from functools import partial
from types import MappingProxyType
from typing import Any
from weakref import WeakValueDictionary

from eastgate.fastpath.loop.engine import Engine
from eastgate.fastpath.loop.histogram import Durations
from eastgate.fastpath.loop.listener_states import ListenerCounters
from eastgate.fastpath.loop.review import ReviewSettings
from eastgate.fastpath.match.listener_table import ListenerAddress
from eastgate.fastpath.match.proxy_counts import Proxied, ProxyCounts
from eastgate.proxy.compile.compiled import CompiledListener
from eastgate.proxy.compile.listener_plan import packed_ip
from eastgate.proxy.compile.notices import why_skipped
from eastgate.proxy.compile.places import Place
from eastgate.xds.listener_filters import NO_HEADERS
from eastgate.xds.resources import Listener

from .control_errors import ControlErrors, Part
from .given import Given
from .log import Log
from .moved_places import MovedPlaces
from .open_listener import Bound, OpenListener, Retired
from .setting import join_host_port

RETRY_FIRST_S = 0.5
RETRY_MAX_S = 30.0
# Connections that may wait to be accepted, where LDS does not say; the kernel's own limit holds too.
BACKLOG = 4096
# Listeners of which counters and names are kept after they left: they come and go with the addresses of a mesh.
LEFT_KEPT = 1024


def likely_cause(error: OSError) -> str:
    """The error in words, with what an operator should look at."""
    causes = {
        "EADDRINUSE": "another process listens there",
        "EPERM": "socket_options that need CAP_NET_ADMIN, such as SO_MARK",
        "EACCES": "the port is privileged: add CAP_NET_BIND_SERVICE or lower net.ipv4.ip_unprivileged_port_start",
        "EADDRNOTAVAIL": "no interface has this address",
        "EMFILE": "the process is out of file descriptors",
    }
    cause = causes.get(errno.errorcode.get(error.errno or 0, ""), "")
    return f"{error.strerror} ({cause})" if cause else str(error.strerror)


def listening(given: Given) -> dict[str, Any]:
    """What Listeners are told of the settings."""
    return {
        "defer_accept": given.defer_accept,
        "fast_open": given.fast_open,
        "silent_inbound_s": given.silent_inbound_timeout,
        "drain_s": given.drain_time,
        "cuts_changed": given.drain_changed == "envoy",
    }


class Listeners:
    """Owner of the engine's listeners. Control thread only.

    ``drain_s``: how long connections go on that do not fit any more after a push; ``cuts_changed``: all of a chain that
    changed do not.
    """

    def __init__(
        self,
        engine: Engine,
        *,
        call_later: Callable[[float, Callable[[], None]], object],
        defer_accept: bool = False,
        fast_open: bool = False,
        silent_inbound_s: float = 0.0,
        drain_s: float = 0.0,
        cuts_changed: bool = False,
        errors: ControlErrors | None = None,
    ) -> None:
        self._engine = engine
        self._defer_accept = defer_accept
        self._fast_open = fast_open
        self._silent_inbound_s = silent_inbound_s
        self._drain_ms = round(drain_s * 1000)
        self._cuts_changed = cuts_changed
        self._moves = MovedPlaces()
        self._call_later = call_later
        self._open: dict[str, OpenListener] = {}
        # Those that left while connections of theirs are open; and counters by name, names by number, of those since.
        self._retired: list[Retired] = []
        self._left: dict[str, ListenerCounters] = {}
        self._left_names: dict[int, str] = {}
        # By stat_prefix; the engine holds them while a listener with it is there.
        self._unnamed = ProxyCounts()
        self._proxied: WeakValueDictionary[str, ProxyCounts] = WeakValueDictionary({"": self._unnamed})
        # Whether addresses came or left that are not published as such yet.
        self._moved = False
        self._closed = False
        self._inbound_closed = False
        self._errors = errors if errors is not None else ControlErrors()
        self._log = Log("listeners")

    @property
    def open(self) -> Mapping[str, OpenListener]:
        return MappingProxyType(self._open)

    @property
    def started(self) -> bool:
        """Whether every listener that should listen does."""
        return all(bound.number is not None for entry in self._open.values() for bound in entry.bound.values())

    def apply(self, compiled: Mapping[str, CompiledListener]) -> Set[str]:
        """Open, route anew and close listeners so that they are what `compiled` says.

        Returns the names of listeners with which that did not succeed: they route as before, until the next call.
        """
        failed = set()
        changed: dict[str, frozenset[Place]] = {}
        for name in [name for name in self._open if name not in compiled]:
            with self._errors.guard(Part.PUBLISH, name) as edge:
                changed[name] = frozenset()
                self._retire(name, self._open[name].bound)
                del self._open[name]
            if edge.error is not None:
                failed.add(name)
        for name, wanted in compiled.items():
            with self._errors.guard(Part.PUBLISH, name) as edge:
                if name not in self._open or self._open[name].routes is not wanted.routes:
                    changed[name] = wanted.places
                self._apply_one(name, wanted)
            if edge.error is not None:
                failed.add(name)
        with self._errors.guard(Part.PUBLISH):
            self._publish_addresses()
        with self._errors.guard(Part.PUBLISH):
            self._review(changed)
        self._forget_left()
        return failed

    def _review(self, changed: Mapping[str, frozenset[Place]]) -> None:
        """Have open connections of what changed, or left, looked at again."""
        self._moves.note(changed)
        left = [one for one in self._retired if one.left]
        if left:
            self._name_heirs(left)
        if changed or left:
            self._engine.review(ReviewSettings(self._drain_ms, self._cuts_changed, self._moves.moved))

    def _name_heirs(self, left: list[Retired]) -> None:
        """Who has the address now; where connections were handed over, else the listener that hands them over."""
        every = [(name, entry, bound) for name, entry in self._open.items() for bound in entry.bound.values()]
        owners = {(bound.host, bound.port, bound.listens): bound.number for _, _, bound in every}
        # Port 0 is another one each time.
        same = {(name, bound.asked, bound.listens): bound.number for name, _, bound in every}
        handing = next((bound.number for _, entry, bound in every if entry.listener.use_original_dst), None)
        for one in left:
            bound = one.bound
            heir = owners.get((bound.host, bound.port, bound.listens))
            if heir is None:
                heir = same.get((one.name, bound.asked, bound.listens))
            if heir is None and not bound.listens:
                heir = handing
            if not one.told or heir != one.heir:
                self._engine.leave(one.number, heir)
                one.heir, one.told = heir, True

    def _apply_one(self, name: str, wanted: CompiledListener) -> None:
        entry = self._open.get(name)
        if entry is None:
            entry = self._open[name] = OpenListener(wanted.listener, wanted.routes, retry_s=RETRY_FIRST_S)
        skipped, entry.skipped = entry.skipped, why_skipped(wanted.listener)
        if entry.skipped and entry.skipped != skipped:
            self._log.warning("listener skipped", name=name, reason=entry.skipped)
        if entry.skipped:
            self._retire(name, entry.bound)
            entry.bound.clear()
        elif not self._is_closed(wanted.listener):
            self._settle(name, entry, wanted)

    def _settle(self, name: str, entry: OpenListener, wanted: CompiledListener) -> None:
        rebind = needs_rebind(entry.listener, wanted.listener)
        addresses = set() if rebind else set(wanted.listener.addresses)
        leaving = {key: entry.bound.pop(key) for key in list(entry.bound) if key not in addresses}
        if entry.routes is not wanted.routes:
            for bound in entry.bound.values():
                if bound.number is not None:
                    self._engine.publish_routes(bound.number, wanted.routes)
        entry.listener, entry.routes = wanted.listener, wanted.routes
        for host, port in wanted.listener.addresses:
            entry.bound.setdefault((host, port), Bound(host, port, asked=(host, port)))
        # Where both have one address, nobody who comes in between is turned away.
        self._open_missing(name)
        self._retire(name, leaving)

    def _publish_addresses(self) -> None:
        """Let connections that are handed over find the listeners that there are, if these are others than before."""
        if not self._moved:
            return
        wanted: dict[tuple[bytes, int], ListenerAddress] = {}
        handed_over = any(entry.listener.use_original_dst and entry.bound for entry in self._open.values())
        for name, entry in self._open.items() if handed_over else ():
            for bound in entry.bound.values():
                if bound.number is None:
                    continue
                compat = bound.asked in entry.listener.ipv4_compat
                one = ListenerAddress(name, packed_ip(bound.host), bound.port, bound.number, compat)
                if wanted.setdefault((one.address, one.port), one) is not one:
                    # Last good versions of rejected ones may stand where newer ones do.
                    other = wanted[one.address, one.port].name
                    self._log.warning(
                        "listener has no connections", name=name, address=bound.host, port=bound.port, owner=other
                    )
        self._engine.publish_addresses(wanted.values())
        self._moved = False

    def _open_again(self, name: str) -> None:
        self._open_missing(name)
        self._publish_addresses()

    def _open_missing(self, name: str) -> None:
        entry = self._open.get(name)
        if entry is None or self._is_closed(entry.listener):
            return
        listener = entry.listener
        failed = False
        for bound in entry.bound.values():
            if bound.number is not None:
                continue
            try:
                bound.number = self._engine.listen(
                    bound.host,
                    bound.port,
                    routes=entry.routes,
                    hello_timeout_ms=round(listener.listener_filters_timeout_s * 1000),
                    proxy_protocol=(listener.proxy_headers or NO_HEADERS).versions,
                    proxy_optional=(listener.proxy_headers or NO_HEADERS).optional,
                    proxy_counts=self._proxy_counts(listener),
                    original_dst=listener.original_dst,
                    hands_over=listener.use_original_dst,
                    bind_to_port=listener.bind_to_port,
                    inspect_tls=listener.tls_inspector,
                    hello_limit=listener.hello_limit,
                    continue_on_timeout=listener.continue_on_listener_filters_timeout,
                    silent_timeout_ms=self._silent_ms(listener),
                    defer_accept=self._defer_accept,
                    fast_open=self._fast_open,
                    # By what LDS says, where a port that it left open has been taken meanwhile too.
                    ipv6_only=bound.asked not in listener.ipv4_compat,
                    backlog=listener.backlog or BACKLOG,
                    socket_options=listener.socket_options,
                )
            except OSError as error:
                reason, failed = likely_cause(error), True
                if reason != bound.error:
                    self._log.warning("cannot listen", name=name, address=bound.host, port=bound.port, reason=reason)
                bound.error = reason
            except ValueError as error:
                bound.error = str(error)
                self._log.warning("cannot listen", name=name, address=bound.host, port=bound.port, reason=str(error))
            else:
                bound.error = ""
                self._moved = True
                if listener.bind_to_port:
                    # LDS may ask for any free port.
                    bound.port = self._engine.bound_address(bound.number)[1]
                    bound.listens = True
                    self._log.info("listening", name=name, address=bound.host, port=bound.port)
        if failed:
            self._call_later(entry.retry_s, self._errors.guarded(Part.PUBLISH, partial(self._open_again, name)))
            entry.retry_s = min(entry.retry_s * 2, RETRY_MAX_S)
        else:
            entry.retry_s = RETRY_FIRST_S

    def _proxy_counts(self, listener: Listener) -> ProxyCounts:
        """What it counts PROXY headers in: with all others of its stat_prefix."""
        return self._proxied.setdefault((listener.proxy_headers or NO_HEADERS).stat_prefix, ProxyCounts())

    def proxied(self) -> dict[str, Proxied]:
        """What connections began with where PROXY headers are looked for, by stat_prefix."""
        return {prefix: counts.counters() for prefix, counts in self._proxied.items()}

    def _silent_ms(self, listener: Listener) -> int:
        """How long its clients may say nothing before they are routed as not TLS: those of a sidecar's applications,
        which may speak first; 0 elsewhere.
        """
        waits = listener.tls_inspector and listener.original_dst and listener.traffic_direction == "INBOUND"
        return round(self._silent_inbound_s * 1000) if waits else 0

    def _retire(self, name: str, sockets: Mapping[tuple[str, int], Bound], *, left: bool = True) -> None:
        for bound in sockets.values():
            if bound.number is not None:
                self._moved = True
                self._engine.stop_accepting(bound.number)
                self._retired.append(Retired(name, bound.number, bound, left))
                if bound.listens:
                    self._log.info("stopped listening", name=name, address=bound.host, port=bound.port)

    def stop_accepting(self, *, inbound_only: bool = False) -> None:
        """Close the listening sockets for good; connections go on. `inbound_only`: those with direction INBOUND.

        What LDS sends from now on for that direction does not listen either.
        """
        self._closed = self._closed or not inbound_only
        self._inbound_closed = True
        for name, entry in self._open.items():
            if self._is_closed(entry.listener):
                self._retire(name, entry.bound, left=False)
                entry.bound.clear()
        self._publish_addresses()

    def _forget_left(self) -> None:
        """Of listeners whose last connection has ended keep the counters and the name, and of the latest only."""
        open_still = []
        for one in self._retired:
            counters = self._engine.forget(one.number)
            if counters is None:
                open_still.append(one)
                continue
            before = self._left.pop(one.name, None)
            self._left[one.name] = counters if before is None else summed([before, counters])
            self._left_names[one.number] = one.name
        self._retired = open_still
        while len(self._left_names) > LEFT_KEPT:
            del self._left_names[next(iter(self._left_names))]
        for name in [name for name in self._left if name not in self._open][:-LEFT_KEPT]:
            del self._left[name]

    def _is_closed(self, listener: Listener) -> bool:
        """Whether nothing listens for it any more."""
        return self._closed or (self._inbound_closed and listener.traffic_direction == "INBOUND")

    def counters(self) -> dict[str, ListenerCounters]:
        """Counters per listener name, over all its addresses, those that it no longer has included."""
        self._forget_left()
        parts: dict[str, list[ListenerCounters]] = {name: [] for name in self._open}
        for name, counters in self._left.items():
            parts.setdefault(name, []).append(counters)
        for one in self._retired:
            parts.setdefault(one.name, []).append(self._engine.listener_counters(one.number))
        for name, entry in self._open.items():
            numbers = [bound.number for bound in entry.bound.values() if bound.number is not None]
            parts[name] += map(self._engine.listener_counters, numbers)
        return {name: summed(own) for name, own in parts.items() if own}

    def address_of(self, name: str) -> str:
        """What counters of a listener go by, as in Envoy: its stat_prefix, its address; its name where LDS left the
        port open.
        """
        entry = self._open.get(name)
        if entry is not None and entry.listener.stat_prefix:
            return entry.listener.stat_prefix
        host, port = entry.listener.addresses[0] if entry is not None else ("", 0)
        return join_host_port(host, port) if port else name

    def name_of(self, number: int) -> str:
        """Name of the listener that a ConnectionEvent's number belongs to; empty when there is none."""
        for name, entry in self._open.items():
            if any(bound.number == number for bound in entry.bound.values()):
                return name
        left = next((one.name for one in self._retired if one.number == number), "")
        return left or self._left_names.get(number, "")


def needs_rebind(before: Listener, after: Listener) -> bool:
    """Whether a change touches what the listener was given when it was opened."""
    return socket_settings(before) != socket_settings(after)


def socket_settings(listener: Listener) -> tuple[object, ...]:
    """What a listener is given when it is opened."""
    return (
        listener.listener_filters_timeout_s,
        listener.continue_on_listener_filters_timeout,
        listener.tls_inspector,
        listener.hello_limit,
        listener.proxy_headers,
        listener.original_dst,
        listener.use_original_dst,
        listener.bind_to_port,
        listener.ipv4_compat,
        listener.backlog,
        listener.socket_options,
    )


def summed(parts: list[ListenerCounters]) -> ListenerCounters:
    """Counters of one listener with several sockets."""
    return ListenerCounters(
        cx_total=sum(part.cx_total for part in parts),
        cx_active=sum(part.cx_active for part in parts),
        cx_pre_active=sum(part.cx_pre_active for part in parts),
        rx_bytes=sum(part.rx_bytes for part in parts),
        tx_bytes=sum(part.tx_bytes for part in parts),
        refused=tuple(sum(column) for column in zip(*(part.refused for part in parts), strict=True)),
        length_ms=Durations(
            sum(part.length_ms.sum_ms for part in parts),
            tuple(sum(column) for column in zip(*(part.length_ms.counts for part in parts), strict=True)),
        ),
        rbac=tuple(sum(column) for column in zip(*(part.rbac for part in parts), strict=True)),
        tls_handshakes=sum(part.tls_handshakes for part in parts),
        tls_resumed=sum(part.tls_resumed for part in parts),
    )
