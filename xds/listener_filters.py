"""What the listener filters of a Listener look at, and at which destination ports they are switched off."""

from collections.abc import Mapping, Sequence
from typing import Any

from .fields import checked_text, type_name
from .record import record
from .wire import unknown_fields

Ports = tuple[tuple[int, int], ...]
"""Half-open ranges of ports, ascending, none next to another."""

_ALL: Ports = ((0, 65536),)
_FILTERS = {
    "envoy.extensions.filters.listener.tls_inspector.v3.TlsInspector": "tls_inspector",
    "envoy.extensions.filters.listener.proxy_protocol.v3.ProxyProtocol": "proxy_protocol",
    "envoy.extensions.filters.listener.original_dst.v3.OriginalDst": "original_dst",
    "envoy.extensions.filters.listener.http_inspector.v3.HttpInspector": "http_inspector",
}
_INSPECTORS = ("tls_inspector", "http_inspector")
# Settings that change what Envoy does and nothing here. How much is read at once is nobody's matter but the reader's.
_UNUSED = {
    "proxy_protocol": ("rules",),
    "tls_inspector": (
        "enable_ja3_fingerprinting",
        "enable_ja4_fingerprinting",
        "close_connection_on_client_hello_parsing_errors",
    ),
}
# What Envoy accepts as max_client_hello_size; the larger one is its default, and the most that is looked at here.
HELLO_LIMIT_LEAST, HELLO_LIMIT = 256, 16384
_PROXY_VERSIONS = {"V1": 1, "V2": 2}


@record
class ProxyHeaders:
    """Which PROXY headers connections begin with. ``optional``: those that begin with something else go on without.
    ``stat_prefix``: what they are counted by, empty for all that have none.
    """

    versions: tuple[int, ...] = (1, 2)
    optional: bool = False
    stat_prefix: str = ""


NO_HEADERS = ProxyHeaders(())


@record
class ListenerFilters:
    """``skipped``: of each filter that is there, the destination ports where it is not asked. ``closed``: why all
    chains must refuse, empty if they need not. ``hello_limit``: bytes that a ClientHello may take.
    """

    skipped: Mapping[str, Ports]
    closed: str = ""
    proxy_headers: ProxyHeaders | None = None
    hello_limit: int = HELLO_LIMIT
    warnings: tuple[str, ...] = ()

    def __contains__(self, kind: str) -> bool:
        return kind in self.skipped


def listener_filters(filters: Sequence[Mapping[str, Any]]) -> ListenerFilters:
    """Read listener_filters. Raises ValueError for what Envoy does not load either."""
    skipped: dict[str, Ports] = {}
    closed = ""
    proxy_headers = None
    hello_limit = HELLO_LIMIT
    warnings: list[str] = []
    for one in filters:
        name, config = one.get("name", ""), one.get("typed_config", {})
        kind = _kind(name, config)
        if kind is None:
            what = type_name(config) or "no configuration"
            closed = closed or f"the listener's filter {name} ({what}) is not supported"
            continue
        ports: Ports = ()
        if "filter_disabled" in one and kind in _INSPECTORS:
            try:
                ports = disabled_ports(one["filter_disabled"])
            except NotImplementedError as error:
                closed = closed or f"listener_filters.{kind}.filter_disabled: {error} is not evaluated"
        elif "filter_disabled" in one:
            warnings.append(f"listener_filters.{kind}.filter_disabled: the filter always runs")
        if kind == "proxy_protocol" and kind in skipped:
            closed = closed or "the listener has two proxy_protocol filters: only one header is read"
        if kind == "proxy_protocol":
            proxy_headers = _proxy_headers(config)
        elif kind == "tls_inspector":
            hello_limit = min(hello_limit, _hello_limit(config))
        # One of the same kind that is not switched off looks in any case.
        skipped[kind] = ports if kind not in skipped else intersected(skipped[kind], ports)
        unused = (field for field in _UNUSED.get(kind, ()) if config.get(field))
        warnings += [f"listener_filters.{kind}.{field}: not used" for field in unused]
    return ListenerFilters(skipped, closed, proxy_headers, hello_limit, tuple(warnings))


def _proxy_headers(config: Mapping[str, Any]) -> ProxyHeaders:
    said = config.get("disallowed_versions", ())
    if unknown := [one for one in said if one not in _PROXY_VERSIONS]:
        raise ValueError(f"listener_filters.proxy_protocol.disallowed_versions: {unknown[0]!r} is no version")
    versions = tuple(number for name, number in _PROXY_VERSIONS.items() if name not in said)
    if not versions:
        raise ValueError("listener_filters.proxy_protocol.disallowed_versions: all versions are disallowed")
    counted_by = checked_text("listener_filters.proxy_protocol.stat_prefix", config.get("stat_prefix", ""))
    return ProxyHeaders(versions, bool(config.get("allow_requests_without_proxy_protocol", False)), counted_by)


def _hello_limit(config: Mapping[str, Any]) -> int:
    size = config.get("max_client_hello_size", HELLO_LIMIT)
    if not HELLO_LIMIT_LEAST <= size <= HELLO_LIMIT:
        raise ValueError(
            f"listener_filters.tls_inspector.max_client_hello_size is {size}, "
            f"must be from {HELLO_LIMIT_LEAST} to {HELLO_LIMIT}"
        )
    return int(size)


def _kind(name: str, config: Mapping[str, Any]) -> str | None:
    kind = _FILTERS.get(type_name(config))
    if kind is None and not config and name.startswith("envoy.filters.listener."):
        last = name.rpartition(".")[2]
        kind = last if last in _FILTERS.values() else None
    return kind


def disabled_ports(message: Mapping[str, Any]) -> Ports:
    """Ports that a ListenerFilterChainMatchPredicate holds for. NotImplementedError names what nobody here knows."""
    if unknown := unknown_fields(message):
        raise NotImplementedError(", ".join(unknown))
    if message.get("any_match"):
        return _ALL
    if "not_match" in message:
        return inverted(disabled_ports(message["not_match"]))
    if "destination_port_range" in message:
        ports = message["destination_port_range"]
        first, end = max(ports.get("start", 0), 0), min(ports.get("end", 0), 65536)
        return ((first, end),) if first < end else ()
    for field in ("or_match", "and_match"):
        if field in message:
            rules = message[field].get("rules", ())
            if len(rules) < 2:
                raise ValueError(f"filter_disabled: {field} of {len(rules)} rules, at least 2 are needed")
            parts = [disabled_ports(one) for one in rules]
            return united(*parts) if field == "or_match" else inverted(united(*map(inverted, parts)))
    raise ValueError("filter_disabled: a predicate without a rule")


def united(*parts: Ports) -> Ports:
    """Ports in any of them."""
    found: list[tuple[int, int]] = []
    for first, end in sorted(one for part in parts for one in part):
        if found and first <= found[-1][1]:
            found[-1] = found[-1][0], max(end, found[-1][1])
        else:
            found.append((first, end))
    return tuple(found)


def inverted(ports: Ports) -> Ports:
    """All other ports."""
    bounds = [0, *(bound for one in ports for bound in one), 65536]
    pairs = zip(bounds[::2], bounds[1::2], strict=True)
    return tuple((first, end) for first, end in pairs if first < end)


def intersected(*parts: Ports) -> Ports:
    """Ports in all of them."""
    return inverted(united(*map(inverted, parts)))
