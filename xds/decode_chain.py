"""Turn the bytes of a FilterChain into resources.FilterChain: what it does, or why it refuses.

A chain serves only if every filter in it is evaluated (an authorization policy), known to be inert, or the tcp_proxy or
HTTP connection manager that it ends in, and if every field of its match, its filters and its tcp_proxy is known.
Anything else closes that chain, with a sentence, and no other.
"""

from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import Any, NamedTuple

from .access_log import access_logs
from .assignment import read_text
from .cidr import CidrRange, cidr_range
from .decode_http import http_manager
from .decode_rbac import NETWORK_RBAC, NotEvaluatedError, rbac_filter
from .decode_route import http_routes
from .fields import PORT_MAX, checked_text, checked_texts, number, printable, seconds, type_name
from .message import read
from .rbac import RbacFilter
from .resources import Criteria, FilterChain, FilterChainMatch, HttpManager
from .secret_refs import secret_refs
from .subsets import merged_criteria
from .tls_records import TlsSettings
from .tls_settings import tls_settings
from .wire import unknown_fields

_FILTER_CHAIN = "envoy.config.listener.v3.FilterChain"
_NETWORK = "envoy.extensions.filters.network."
_TCP_PROXY = f"{_NETWORK}tcp_proxy.v3.TcpProxy"
_HTTP_CONNECTION_MANAGER = f"{_NETWORK}http_connection_manager.v3.HttpConnectionManager"
_WASM = f"{_NETWORK}wasm.v3.Wasm"
_SET_FILTER_STATE = f"{_NETWORK}set_filter_state.v3.Config"
_TYPED_STRUCTS = ("udpa.type.v1.TypedStruct", "xds.type.v3.TypedStruct")

# Telemetry and peer metadata: they read, and change neither bytes nor route. Up to Istio 1.20 istio.stats was a Wasm
# plugin under that name.
_INERT_TYPES = ("stats.PluginConfig", "envoy.tcp.metadataexchange.config.MetadataExchange")
_INERT_NAMES = ("istio.stats", "istio.metadata_exchange", "envoy.filters.network.metadata_exchange")

# What a well-known filter that is not served would have done, for the refusal.
_NOT_SERVED = {
    f"{_NETWORK}sni_cluster.v3.SniCluster": "the cluster would come from the SNI (sni_cluster), which is not served",
}
# What set_filter_state writes for telemetry and policies alone. Other objects may choose the cluster, its server name
# or the destination.
_INERT_OBJECTS = ("io.istio.", "istio.", "wasm.")
# Which Envoy does not load either.
_MATCH_UNSUPPORTED = ("address_suffix", "suffix_len")
_SOURCE_TYPES = ("ANY", "SAME_IP_OR_LOOPBACK", "EXTERNAL")
_TCP_PROXY_REFUSALS = {
    "tunneling_config": "tcp_proxy.tunneling_config asks for an HTTP tunnel, which is not served",
    "on_demand": "tcp_proxy.on_demand asks for clusters on demand, which is not served",
}
_TCP_PROXY_WARNINGS = {
    "access_log_flush_interval": "a connection has one line, when it has ended",
    "access_log_options": "a connection has one line, when it has ended",
    "flush_access_log_on_connected": "a connection has one line, when it has ended",
    "check_drain_close": "a drain lets connections end by themselves",
    "proxy_protocol_tlv_merge_policy": "no TLVs are added",
    "backoff_options": "attempts follow each other at once",
    "max_downstream_connection_duration_jitter_percentage": "no jitter is added",
    "max_early_data_bytes": "bytes wait for the upstream connection",
    "proxy_protocol_tlvs": "no TLVs are added",
    "upstream_connect_mode": "the upstream connection is opened at once",
}


class DecodedChain(NamedTuple):
    """A chain, and the fields in it that deserve a warning of the listener."""

    chain: FilterChain
    warnings: tuple[str, ...]


Chains = dict[bytes, DecodedChain]


def decode_chain(raw: bytes) -> DecodedChain:
    """Read the bytes of a FilterChain. Raises ValueError for what Envoy does not load either."""
    message = read(_FILTER_CHAIN, raw)
    match = _match(message.get("filter_chain_match", {}))
    tcp_proxy, policies, refusal, http, warnings = _filters(message.get("filters", ()))
    tls = tls_settings(message["transport_socket"]) if "transport_socket" in message else None
    unknown = unknown_fields(message)
    if match.unsupported:
        refusal = f"match criteria are not evaluated: {', '.join(match.unsupported)}"
    elif unknown:
        refusal = f"unknown fields: {', '.join(unknown)}"
    elif not refusal:
        refusal = _chain_refusal(message, tls)
    clusters: tuple[tuple[str, int], ...] = ()
    if tcp_proxy is not None:
        clusters = _clusters(tcp_proxy)
        refusal = refusal or _tcp_proxy_refusal(tcp_proxy, clusters)
        warnings = tuple(
            f"tcp_proxy.{field}: {what}"
            for field, what in _TCP_PROXY_WARNINGS.items()
            if tcp_proxy.get(field) not in (None, False, "", [])
        ) + _hash_warnings(tcp_proxy)
    config = tcp_proxy or {}
    logs = access_logs(_access_log_bytes(message.get("filters", ())))
    warnings += logs.warnings
    checked_texts(message, "name")
    checked_texts(config, "stat_prefix")
    routes = http_routes(message.get("filters", ()))
    chain = FilterChain(
        name=message.get("name", ""),
        match=match,
        clusters=() if refusal else clusters,
        criteria=() if refusal else _criteria(config),
        idle_timeout_s=seconds(config, "idle_timeout", 3600.0),
        max_downstream_connection_duration_s=seconds(config, "max_downstream_connection_duration", 0.0),
        max_connect_attempts=number(config, "max_connect_attempts", 0, low=1),
        hash_source_ip=any("source_ip" in one for one in config.get("hash_policy", ())),
        stat_prefix=config.get("stat_prefix", ""),
        route_config_name=routes.name,
        route_config=routes.inline,
        policies=policies,
        http=http,
        secrets=secret_refs(message["transport_socket"]) if "transport_socket" in message else (),
        tls=tls,
        handshake_timeout_s=seconds(message, "transport_socket_connect_timeout", 0.0),
        refusal=printable("; ".join(filter(None, (refusal, routes.refusal)))),
        telemetry=any(_counts_for_istio(one) for one in message.get("filters", ())),
        access_logs=logs.logs,
    )
    if tls is not None:
        warnings += tuple(f"transport_socket: {warning}" for warning in tls.warnings)
    return DecodedChain(chain, warnings)


@lru_cache(maxsize=64)
def _shared(items: tuple[str, ...]) -> tuple[str, ...]:
    """One tuple for equal ones: the five ALPNs of Istio stand on every chain."""
    return items


def _match(message: Mapping[str, Any]) -> FilterChainMatch:
    checked_texts(message, "server_names", "application_protocols", "transport_protocol")
    server_names = tuple(message.get("server_names", ()))
    for name in server_names:
        if "*" in name.removeprefix("*."):
            raise ValueError(f"server name {name!r}: a wildcard stands for whole labels at the front (*.example.com)")
    source_type = message.get("source_type", "ANY")
    if source_type not in _SOURCE_TYPES:
        raise ValueError(f"source_type {source_type} is none of {', '.join(_SOURCE_TYPES)}")
    source_ports = tuple(message.get("source_ports", ()))
    for port in source_ports:
        if not 1 <= port <= PORT_MAX:
            raise ValueError(f"source_ports: {port} is outside 1..65535")
    return FilterChainMatch(
        destination_port=number(message, "destination_port", 0, low=1, high=PORT_MAX),
        destination_prefixes=_prefixes(message, "prefix_ranges"),
        server_names=server_names,
        transport_protocol=message.get("transport_protocol", ""),
        application_protocols=_shared(tuple(message.get("application_protocols", ()))),
        direct_source_prefixes=_prefixes(message, "direct_source_prefix_ranges"),
        source_type=source_type,
        source_prefixes=_prefixes(message, "source_prefix_ranges"),
        source_ports=source_ports,
        unsupported=tuple(field for field in _MATCH_UNSUPPORTED if field in message),
    )


def _prefixes(message: Mapping[str, Any], field: str) -> tuple[CidrRange, ...]:
    return tuple(cidr_range(field, one) for one in message.get(field, ()))


class _Filters(NamedTuple):
    """What a chain's filters do; ``refusal``: why the chain must refuse, empty if it need not."""

    tcp_proxy: Mapping[str, Any] | None = None
    policies: tuple[RbacFilter, ...] = ()
    refusal: str = ""
    http: HttpManager | None = None
    warnings: tuple[str, ...] = ()


def _filters(filters: Any) -> _Filters:
    tcp_proxy: Mapping[str, Any] | None = None
    policies: list[RbacFilter] = []
    http: HttpManager | None = None
    warnings: tuple[str, ...] = ()
    for network_filter in filters:
        name = network_filter.get("name", "")
        config = network_filter.get("typed_config", {})
        kind = type_name(config)
        if tcp_proxy is not None or http is not None:
            last = "tcp_proxy" if http is None else "http_connection_manager"
            return _Filters(refusal=f"filter {name} stands behind {last}")
        if "config_discovery" in network_filter:
            return _Filters(refusal=f"filter {name} is configured by ECDS, which is not supported")
        if kind == NETWORK_RBAC:
            try:
                policies.append(rbac_filter(config, is_http=False))
            except NotEvaluatedError as error:
                return _Filters(refusal=f"its authorization policy (rbac) is not evaluated: {error}")
        elif kind == _TCP_PROXY:
            tcp_proxy = config
        elif kind == _HTTP_CONNECTION_MANAGER:
            http, warnings = http_manager(config)
            policies += http.policies
        elif kind == _SET_FILTER_STATE:
            if refusal := _filter_state_refusal(name, config):
                return _Filters(refusal=refusal)
        elif not _is_inert(name, kind, config):
            refusal = _NOT_SERVED.get(kind) or f"filter {name} ({kind or 'no configuration'}) is not supported"
            return _Filters(refusal=refusal)
    if http is not None:
        return _Filters(policies=tuple(policies), refusal=http.refusal, http=http, warnings=warnings)
    return _Filters(tcp_proxy, tuple(policies), "" if tcp_proxy is not None else "no tcp_proxy filter")


def _filter_state_refusal(name: str, config: Mapping[str, Any]) -> str:
    if unknown := unknown_fields(config):
        return f"filter {name}: unknown fields: {', '.join(unknown)}"
    values = (value for field, set_there in config.items() if field.startswith("on_") for value in set_there)
    for value in values:
        key = value.get("object_key", "")
        if not key.startswith(_INERT_OBJECTS):
            return f"filter {name} would set {key or 'an object without a key'}, which is not evaluated"
    return ""


def _access_log_bytes(filters: Any) -> Iterator[bytes]:
    for network_filter in filters:
        config = network_filter.get("typed_config", {})
        if type_name(config) in (_TCP_PROXY, _HTTP_CONNECTION_MANAGER):
            yield from config.get("access_log", ())


def _real_type(kind: str, config: Mapping[str, Any]) -> str:
    if kind in _TYPED_STRUCTS:
        # TypedStruct.type_url is its first field in both packages.
        return read_text(config["@value"], 1).rpartition("/")[2]
    return kind


def _counts_for_istio(network_filter: Mapping[str, Any]) -> bool:
    """Whether a filter is istio.stats, or a connection manager that has it."""
    config = network_filter.get("typed_config", {})
    kind = type_name(config)
    if kind == _HTTP_CONNECTION_MANAGER:
        return any(one.get("name") == "istio.stats" for one in config.get("http_filters", ()))
    return network_filter.get("name") == "istio.stats" or _real_type(kind, config) == "stats.PluginConfig"


def _is_inert(name: str, kind: str, config: Mapping[str, Any]) -> bool:
    kind = _real_type(kind, config)
    return kind in _INERT_TYPES or (not kind and name in _INERT_NAMES) or (kind == _WASM and name == "istio.stats")


def _chain_refusal(message: Mapping[str, Any], tls: TlsSettings | None) -> str:
    if tls is not None and tls.refusal:
        return f"transport_socket: {tls.refusal}"
    if message.get("use_proxy_proto"):
        return "use_proxy_proto of a single chain is not supported"
    return ""


def _clusters(tcp_proxy: Mapping[str, Any]) -> tuple[tuple[str, int], ...]:
    if "weighted_clusters" not in tcp_proxy:
        cluster = checked_text("tcp_proxy.cluster", tcp_proxy.get("cluster", ""))
        return ((cluster, 1),) if cluster else ()
    weighted = tcp_proxy["weighted_clusters"].get("clusters", ())
    clusters = tuple((one.get("name", ""), one.get("weight", 0)) for one in weighted)
    for name, weight in clusters:
        checked_text("tcp_proxy.weighted_clusters: the name", name)
        if weight < 1:
            raise ValueError(f"tcp_proxy.weighted_clusters: weight of {name} is 0, must be at least 1")
    if sum(weight for _, weight in clusters) > 2**32 - 1:
        raise ValueError("tcp_proxy.weighted_clusters: weights sum past 2^32-1")
    return clusters


def _tcp_proxy_refusal(tcp_proxy: Mapping[str, Any], clusters: tuple[tuple[str, int], ...]) -> str:
    for field, sentence in _TCP_PROXY_REFUSALS.items():
        if field in tcp_proxy:
            return sentence
    if not clusters or not all(name for name, _ in clusters):
        return "tcp_proxy names no cluster"
    return ""


def _hash_warnings(tcp_proxy: Mapping[str, Any]) -> tuple[str, ...]:
    policies = tcp_proxy.get("hash_policy", ())
    if len(policies) > 1:
        raise ValueError(f"tcp_proxy.hash_policy has {len(policies)} entries, at most one is possible")
    for one in policies:
        if "filter_state" in one:
            return ("tcp_proxy.hash_policy: there is no filter state: connections get random hashes",)
        if "source_ip" not in one:
            raise ValueError("tcp_proxy.hash_policy has an entry that says nothing that is known")
    return ()


def _criteria(tcp_proxy: Mapping[str, Any]) -> tuple[Criteria, ...]:
    """What each of the clusters is asked for; empty when none is asked for anything."""
    parent = tcp_proxy.get("metadata_match")
    weighted = tcp_proxy.get("weighted_clusters", {}).get("clusters", ({},))
    found = tuple(merged_criteria(parent, one.get("metadata_match")) for one in weighted)
    return found if any(found) else ()
