"""Listener filters that look at the first bytes, or ask where a connection was going."""

from collections.abc import Mapping

from envoy_data_plane.envoy.config.listener.v3 import (
    ListenerFilter,
    ListenerFilterChainMatchPredicate,
    ListenerFilterChainMatchPredicateMatchSet,
)
from envoy_data_plane.envoy.extensions.filters.listener.http_inspector.v3 import HttpInspector
from envoy_data_plane.envoy.extensions.filters.listener.original_dst.v3 import OriginalDst
from envoy_data_plane.envoy.extensions.filters.listener.original_src.v3 import OriginalSrc
from envoy_data_plane.envoy.extensions.filters.listener.tls_inspector.v3 import TlsInspector
from envoy_data_plane.envoy.type.v3 import Int32Range

from .messages import pack

HTTP_NAMES = ("http/1.1", "h2c")
"""What the HTTP inspector calls plaintext HTTP, as filter chains match it."""
FIRST_READ = 512
MARK = 1337
"""Socket mark of connections that keep the client's address, with TPROXY."""
Predicate = ListenerFilterChainMatchPredicate
ANY_PORT = 0


def tls_inspector(ports: Mapping[int, bool] | None = None) -> ListenerFilter:
    """``ports``: which need it, 0 being all others; None: all."""
    config = pack(TlsInspector(initial_read_buffer_size=FIRST_READ))
    filter_ = ListenerFilter(name="envoy.filters.listener.tls_inspector", typed_config=config)
    wanted = ports or {ANY_PORT: True}
    # Ports that say nothing are looked at, or are not; those that differ are named.
    if wanted.get(ANY_PORT, False):
        other = [port for port, needs in wanted.items() if port and not needs]
        filter_.filter_disabled = _ports(other) if other else None
    else:
        own = [port for port, needs in wanted.items() if port and needs]
        filter_.filter_disabled = Predicate(not_match=_ports(own)) if own else None
    return filter_


def http_inspector(ports: Mapping[int, bool] | None = None) -> ListenerFilter:
    """``ports``: which need it, 0 being all others; None: all."""
    other = [port for port, needs in (ports or {}).items() if not needs]
    return ListenerFilter(
        name="envoy.filters.listener.http_inspector",
        typed_config=pack(HttpInspector()),
        filter_disabled=_ports(other) if other else None,
    )


def original_destination() -> ListenerFilter:
    """Where a redirected connection was going."""
    return ListenerFilter(name="envoy.filters.listener.original_dst", typed_config=pack(OriginalDst()))


def original_source() -> ListenerFilter:
    """Go on from the client's address, with TPROXY."""
    return ListenerFilter(name="envoy.filters.listener.original_src", typed_config=pack(OriginalSrc(mark=MARK)))


def _ports(numbers: list[int]) -> Predicate:
    found = [Predicate(destination_port_range=Int32Range(start=number, end=number + 1)) for number in sorted(numbers)]
    return found[0] if len(found) == 1 else Predicate(or_match=ListenerFilterChainMatchPredicateMatchSet(rules=found))
