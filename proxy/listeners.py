"""Which sockets listen: opened, routed and closed as LDS says. Decides nothing about a single connection."""

import errno
from collections.abc import Callable, Mapping, Set
from functools import partial
from types import MappingProxyType

from eastgate.fastpath.loop.engine import Engine, ListenerCounters
from eastgate.fastpath.loop.histogram import Durations
from eastgate.proxy.compile.compiled import CompiledListener
from eastgate.proxy.compile.notices import why_skipped
from eastgate.xds.resources import Listener

from .control_errors import ControlErrors, Part
from .log import Log
from .open_listener import Bound, OpenListener
from .setting import join_host_port

RETRY_FIRST_S = 0.5
RETRY_MAX_S = 30.0
# Connections that may wait to be accepted, where LDS does not say; the kernel's own limit holds too.
BACKLOG = 4096


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


class Listeners:
    """Owner of the listening sockets. Control thread only."""

    def __init__(
        self,
        engine: Engine,
        *,
        call_later: Callable[[float, Callable[[], None]], object],
        defer_accept: bool = False,
        fast_open: bool = False,
        errors: ControlErrors | None = None,
    ) -> None:
        self._engine = engine
        self._defer_accept = defer_accept
        self._fast_open = fast_open
        self._call_later = call_later
        self._open: dict[str, OpenListener] = {}
        self._retired: list[tuple[str, int]] = []
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
        """Open, route anew and close sockets so that they are what `compiled` says.

        Returns the names of listeners with which that did not succeed: they route as before, until the next call.
        """
        failed = set()
        for name in [name for name in self._open if name not in compiled]:
            with self._errors.guard(Part.PUBLISH, name) as edge:
                self._retire(name, self._open[name].bound)
                del self._open[name]
            if edge.error is not None:
                failed.add(name)
        for name, wanted in compiled.items():
            with self._errors.guard(Part.PUBLISH, name) as edge:
                self._apply_one(name, wanted)
            if edge.error is not None:
                failed.add(name)
        return failed

    def _apply_one(self, name: str, wanted: CompiledListener) -> None:
        entry = self._open.get(name)
        if entry is None:
            entry = self._open[name] = OpenListener(wanted.listener, wanted.routes, retry_s=RETRY_FIRST_S)
            entry.skipped = why_skipped(wanted.listener)
            if entry.skipped:
                self._log.warning("listener skipped", name=name, reason=entry.skipped)
        if not entry.skipped and not self._is_closed(wanted.listener):
            self._settle(name, entry, wanted)

    def _settle(self, name: str, entry: OpenListener, wanted: CompiledListener) -> None:
        rebind = needs_rebind(entry.listener, wanted.listener)
        addresses = set() if rebind else set(wanted.listener.addresses)
        self._retire(name, {key: entry.bound.pop(key) for key in list(entry.bound) if key not in addresses})
        if entry.routes is not wanted.routes:
            for bound in entry.bound.values():
                if bound.number is not None:
                    self._engine.publish_routes(bound.number, wanted.routes)
        entry.listener, entry.routes = wanted.listener, wanted.routes
        for host, port in wanted.listener.addresses:
            entry.bound.setdefault((host, port), Bound(host, port, asked=(host, port)))
        self._bind_missing(name)

    def _bind_missing(self, name: str) -> None:
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
                    proxy_protocol=listener.proxy_protocol,
                    original_dst=listener.original_dst,
                    inspect_tls=listener.tls_inspector,
                    continue_on_timeout=listener.continue_on_listener_filters_timeout,
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
                # LDS may ask for any free port.
                bound.port = self._engine.bound_address(bound.number)[1]
                self._log.info("listening", name=name, address=bound.host, port=bound.port)
        if failed:
            self._call_later(entry.retry_s, self._errors.guarded(Part.PUBLISH, partial(self._bind_missing, name)))
            entry.retry_s = min(entry.retry_s * 2, RETRY_MAX_S)
        else:
            entry.retry_s = RETRY_FIRST_S

    def _retire(self, name: str, sockets: Mapping[tuple[str, int], Bound]) -> None:
        for bound in sockets.values():
            if bound.number is not None:
                self._engine.stop_accepting(bound.number)
                self._retired.append((name, bound.number))
                self._log.info("stopped listening", name=name, address=bound.host, port=bound.port)

    def stop_accepting(self, *, inbound_only: bool = False) -> None:
        """Close the listening sockets for good; connections go on. `inbound_only`: those with direction INBOUND.

        What LDS sends from now on for that direction does not listen either.
        """
        self._closed = self._closed or not inbound_only
        self._inbound_closed = True
        for name, entry in self._open.items():
            if self._is_closed(entry.listener):
                self._retire(name, entry.bound)
                entry.bound.clear()

    def _is_closed(self, listener: Listener) -> bool:
        """Whether nothing listens for it any more."""
        return self._closed or (self._inbound_closed and listener.traffic_direction == "INBOUND")

    def counters(self) -> dict[str, ListenerCounters]:
        """Counters per listener name, over all its sockets, those that no longer listen included."""
        numbers: dict[str, list[int]] = {name: [] for name in self._open}
        for name, number in self._retired:
            numbers.setdefault(name, []).append(number)
        for name, entry in self._open.items():
            numbers[name] += [bound.number for bound in entry.bound.values() if bound.number is not None]
        return {name: summed([self._engine.listener_counters(n) for n in own]) for name, own in numbers.items() if own}

    def address_of(self, name: str) -> str:
        """The address that counters of a listener go by, as in Envoy; its name where LDS left the port open."""
        entry = self._open.get(name)
        host, port = entry.listener.addresses[0] if entry is not None else ("", 0)
        return join_host_port(host, port) if port else name

    def name_of(self, number: int) -> str:
        """Name of the listener that a ConnectionEvent's number belongs to; empty when there is none."""
        for name, entry in self._open.items():
            if any(bound.number == number for bound in entry.bound.values()):
                return name
        return next((name for name, retired in self._retired if retired == number), "")


def needs_rebind(before: Listener, after: Listener) -> bool:
    """Whether a change touches what was given to the socket when it was opened."""
    return socket_settings(before) != socket_settings(after)


def socket_settings(listener: Listener) -> tuple[object, ...]:
    """What a socket is given when it is opened."""
    return (
        listener.listener_filters_timeout_s,
        listener.continue_on_listener_filters_timeout,
        listener.tls_inspector,
        listener.proxy_protocol,
        listener.original_dst,
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
    )
