"""Turn the bytes of a Listener into resources.Listener. Decides what each filter chain does, or why it refuses.

Rules, in order of what they protect:
1. A chain serves only if every filter in it is known to be inert or is tcp_proxy, and every field of its match, its
   filters and its tcp_proxy is known. Anything else closes that chain, with a sentence, and no other.
2. What stands at the listener and would change what all its chains see (an unknown listener filter, a generic matcher)
   closes all of them.
3. Everything else that is not honoured is a warning.
4. Only a listener that cannot exist (no address, a negative duration, broken bytes) is rejected.
"""

import socket
from collections import Counter
from collections.abc import Generator, Mapping
from dataclasses import replace
from functools import lru_cache
from typing import Any, NamedTuple

from .assignment import read_text
from .decode_route import http_routes
from .errors import XdsError
from .fields import PORT_MAX, checked_text, checked_texts, number, printable, seconds, type_name
from .message import read
from .resources import CidrRange, Criteria, FilterChain, FilterChainMatch, Listener
from .secret_refs import secret_refs
from .socket_options import decode_socket_options
from .subsets import merged_criteria
from .tls_records import TlsSettings
from .tls_settings import tls_settings
from .wire import unknown_fields

KIND = "LDS"
_LISTENER = "envoy.config.listener.v3.Listener"
_FILTER_CHAIN = "envoy.config.listener.v3.FilterChain"
_NETWORK = "envoy.extensions.filters.network."
_TCP_PROXY = f"{_NETWORK}tcp_proxy.v3.TcpProxy"
_HTTP_CONNECTION_MANAGER = f"{_NETWORK}http_connection_manager.v3.HttpConnectionManager"
_WASM = f"{_NETWORK}wasm.v3.Wasm"
_TYPED_STRUCTS = ("udpa.type.v1.TypedStruct", "xds.type.v3.TypedStruct")

# Telemetry and peer metadata: they read, and change neither bytes nor route. Up to Istio 1.20 istio.stats was a Wasm
# plugin under that name.
_INERT_TYPES = ("stats.PluginConfig", "envoy.tcp.metadataexchange.config.MetadataExchange")
_INERT_NAMES = ("istio.stats", "istio.metadata_exchange", "envoy.filters.network.metadata_exchange")

# What a well-known filter that is not served would have done, for the refusal.
_NOT_SERVED = {
    f"{_NETWORK}sni_cluster.v3.SniCluster": "the cluster would come from the SNI (sni_cluster), which is not served",
    f"{_NETWORK}rbac.v3.RBAC": "its authorization policy (rbac) is not evaluated",
}
_LISTENER_FILTERS = {
    "envoy.extensions.filters.listener.tls_inspector.v3.TlsInspector": "tls_inspector",
    "envoy.extensions.filters.listener.proxy_protocol.v3.ProxyProtocol": "proxy_protocol",
    "envoy.extensions.filters.listener.original_dst.v3.OriginalDst": "original_dst",
    "envoy.extensions.filters.listener.http_inspector.v3.HttpInspector": "http_inspector",
}
_LISTENER_WARNINGS = {
    "access_log": "eastgate writes its own access log",
    "bypass_overload_manager": "its connections count as those of any listener",
    "connection_balance_config": "the kernel spreads connections",
    "drain_type": "it drains as any other listener",
    "enable_mptcp": "not set",
    "fcds_config": "filter chains are not asked for one by one",
    "freebind": "not set",
    "ignore_global_conn_limit": "its connections count as those of any listener",
    "per_connection_buffer_high_watermark_timeout": "no connection is closed for what waits in it",
    "stat_prefix": "counters go by its address",
    "tcp_fast_open_queue_length": "not set",
    "tcp_keepalive": "not set",
    "transparent": "not set",
}
# Those that are true unless they say otherwise.
_LISTENER_WARNINGS_OFF = {
    "enable_reuse_port": "each worker has a socket of its own",
}
# Which Envoy does not load either.
_MATCH_UNSUPPORTED = ("address_suffix", "suffix_len")
_SOURCE_TYPES = ("ANY", "SAME_IP_OR_LOOPBACK", "EXTERNAL")
_TCP_PROXY_REFUSALS = {
    "tunneling_config": "tcp_proxy.tunneling_config asks for an HTTP tunnel, which is not served",
    "on_demand": "tcp_proxy.on_demand asks for clusters on demand, which is not served",
}
_TCP_PROXY_WARNINGS = {
    "access_log": "eastgate writes its own access log",
    "access_log_flush_interval": "eastgate writes its own access log",
    "access_log_options": "eastgate writes its own access log",
    "flush_access_log_on_connected": "eastgate writes its own access log",
    "check_drain_close": "a drain lets connections end by themselves",
    "proxy_protocol_tlv_merge_policy": "no TLVs are added",
    "backoff_options": "attempts follow each other at once",
    "max_downstream_connection_duration_jitter_percentage": "no jitter is added",
    "max_early_data_bytes": "bytes wait for the upstream connection",
    "proxy_protocol_tlvs": "no TLVs are added",
    "upstream_connect_mode": "the upstream connection is opened at once",
}
# Chains between two chances for the caller to let others run: about 1 ms.
_SLICE = 128
# What listen() of the kernel takes.
BACKLOG_MAX = 2**31 - 1


class DecodedChain(NamedTuple):
    """A chain, and the fields in it that deserve a warning of the listener."""

    chain: FilterChain
    warnings: tuple[str, ...]


Chains = dict[bytes, DecodedChain]


def decode_listener(raw: bytes, known: Mapping[bytes, DecodedChain] | None = None) -> tuple[Listener, Chains]:
    """Decode the bytes inside the Any; return the listener and its chains by their bytes.

    Chains whose bytes stand in `known` are taken from there. Raises XdsError("LDS", name, reason).
    """
    steps = listener_steps(raw, known or {})
    while True:
        try:
            next(steps)
        except StopIteration as end:
            decoded: tuple[Listener, Chains] = end.value
            return decoded


def listener_steps(raw: bytes, known: Mapping[bytes, DecodedChain]) -> Generator[None, None, tuple[Listener, Chains]]:
    """decode_listener in slices: yields about every millisecond of work."""
    name = ""
    try:
        message = read(_LISTENER, raw)
        name = message.get("name", "")
        chains: Chains = {}
        raw_chains = message.get("filter_chains", [])
        default = message.get("default_filter_chain")
        for index, raw_chain in enumerate(raw_chains if default is None else [*raw_chains, default]):
            chains[raw_chain] = known.get(raw_chain) or _filter_chain(raw_chain)
            if index % _SLICE == _SLICE - 1:
                yield
        return _listener(name, message, raw, chains), chains
    except XdsError as error:
        raise XdsError(KIND, error.resource or read_text(raw, 1), error.reason, malformed=error.malformed) from None
    except ValueError as error:
        raise XdsError(KIND, name, str(error)) from None


def _listener(name: str, message: Mapping[str, Any], raw: bytes, chains: Chains) -> Listener:
    if "address" not in message:
        raise ValueError("no address")
    checked_texts(message, "name", "stat_prefix")
    addresses = [_address(message["address"])]
    every = [message["address"], *(one.get("address", {}) for one in message.get("additional_addresses", ()))]
    addresses += [_address(one) for one in every[1:]]
    compat = [pair for pair, one in zip(addresses, every, strict=True) if one["socket_address"].get("ipv4_compat")]
    for field in ("api_listener", "internal_listener", "udp_listener_config"):
        if field in message:
            raise ValueError(f"{field}: only TCP listeners are supported")
    # Also an empty message is one that is set.
    warnings = [
        f"{field}: {what}"
        for field, what in _LISTENER_WARNINGS.items()
        if message.get(field) not in (None, False, "", [])
    ]
    warnings += [f"{field}: {what}" for field, what in _LISTENER_WARNINGS_OFF.items() if not message.get(field, True)]
    if any("socket_options" in one for one in message.get("additional_addresses", ())):
        warnings.append("additional_addresses.socket_options: those of the listener are set")
    socket_options = decode_socket_options(message.get("socket_options", ()), warnings)
    filters, closed = _listener_filters(message.get("listener_filters", ()), warnings)
    if "filter_chain_matcher" in message:
        closed = "the listener's filter_chain_matcher is not evaluated"
    warnings += [f"{path}: unknown field" for path in unknown_fields(message)]
    served = [chains[raw_chain] for raw_chain in message.get("filter_chains", ())]
    default = chains[message["default_filter_chain"]] if "default_filter_chain" in message else None
    counted = Counter(warning for one in [*served, *([default] if default else [])] for warning in one.warnings)
    warnings += [f"{warning} ({count} chain{'s' if count > 1 else ''})" for warning, count in counted.items()]
    return Listener(
        name=name or f"{addresses[0][0]}_{addresses[0][1]}",
        addresses=tuple(addresses),
        filter_chains=tuple(_closed(one.chain, closed) for one in served),
        default_filter_chain=_closed(default.chain, closed) if default else None,
        bind_to_port=message.get("bind_to_port", True),
        use_original_dst=message.get("use_original_dst", False),
        original_dst=message.get("use_original_dst", False) or "original_dst" in filters,
        tls_inspector="tls_inspector" in filters,
        proxy_protocol="proxy_protocol" in filters,
        listener_filters_timeout_s=seconds(message, "listener_filters_timeout", 15.0),
        continue_on_listener_filters_timeout=message.get("continue_on_listener_filters_timeout", False),
        ipv4_compat=tuple(compat),
        backlog=number(message, "tcp_backlog_size", 0, high=BACKLOG_MAX),
        socket_options=socket_options,
        traffic_direction=str(message.get("traffic_direction", "UNSPECIFIED")),
        warnings=tuple(map(printable, warnings)),
        raw=raw,
    )


def _closed(chain: FilterChain, reason: str) -> FilterChain:
    return replace(chain, refusal=printable(reason)) if reason and not chain.refusal else chain


def _address(message: Mapping[str, Any]) -> tuple[str, int]:
    address = message.get("socket_address")
    if address is None:
        raise ValueError(f"address: {' '.join(message) or 'empty'}, only socket_address is supported")
    if "protocol" in address:
        raise ValueError(f"address: protocol {address['protocol']} is not supported")
    if "port_value" not in address:
        raise ValueError("address: no port_value")
    for field in ("network_namespace_filepath", "resolver_name"):
        if address.get(field):
            raise ValueError(f"address: {field} is not supported")
    host, port = address.get("address", ""), number(address, "port_value", 0, high=PORT_MAX)
    try:
        socket.inet_pton(socket.AF_INET6 if ":" in host else socket.AF_INET, host)
    except (OSError, ValueError):
        raise ValueError(f"address: {host!r} is not an IP address") from None
    return host, port


def _listener_filters(filters: Any, warnings: list[str]) -> tuple[set[str], str]:
    """Which listener filters there are, and why all chains must refuse (empty if they need not)."""
    found: set[str] = set()
    closed = ""
    for listener_filter in filters:
        name = listener_filter.get("name", "")
        config = listener_filter.get("typed_config", {})
        kind = _LISTENER_FILTERS.get(type_name(config))
        if kind is None and not config and name.startswith("envoy.filters.listener."):
            kind = name.rpartition(".")[2] if name.rpartition(".")[2] in _LISTENER_FILTERS.values() else None
        if kind is None:
            closed = (
                closed or f"the listener's filter {name} ({type_name(config) or 'no configuration'}) is not supported"
            )
            continue
        found.add(kind)
        if "filter_disabled" in listener_filter:
            warnings.append(f"listener_filters.{kind}.filter_disabled: the filter always runs")
        if kind == "proxy_protocol":
            warnings += [
                f"listener_filters.proxy_protocol.{field}: not used"
                for field in ("rules", "allow_requests_without_proxy_protocol", "disallowed_versions")
                if config.get(field)
            ]
    return found, closed


def _filter_chain(raw: bytes) -> DecodedChain:
    message = read(_FILTER_CHAIN, raw)
    match = _match(message.get("filter_chain_match", {}))
    tcp_proxy, refusal = _terminal_filter(message.get("filters", ()))
    tls = tls_settings(message["transport_socket"]) if "transport_socket" in message else None
    unknown = unknown_fields(message)
    if match.unsupported:
        refusal = f"match criteria are not evaluated: {', '.join(match.unsupported)}"
    elif unknown:
        refusal = f"unknown fields: {', '.join(unknown)}"
    elif not refusal:
        refusal = _chain_refusal(message, tls)
    clusters: tuple[tuple[str, int], ...] = ()
    warnings: tuple[str, ...] = ()
    if tcp_proxy is not None:
        clusters = _clusters(tcp_proxy)
        refusal = refusal or _tcp_proxy_refusal(tcp_proxy, clusters)
        warnings = tuple(
            f"tcp_proxy.{field}: {what}"
            for field, what in _TCP_PROXY_WARNINGS.items()
            if tcp_proxy.get(field) not in (None, False, "", [])
        ) + _hash_warnings(tcp_proxy)
    config = tcp_proxy or {}
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
        secrets=secret_refs(message["transport_socket"]) if "transport_socket" in message else (),
        tls=tls,
        handshake_timeout_s=seconds(message, "transport_socket_connect_timeout", 0.0),
        refusal=printable("; ".join(filter(None, (refusal, routes.refusal)))),
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


def cidr_range(field: str, message: Mapping[str, Any]) -> CidrRange:
    """A CidrRange as Envoy reads it. Raises ValueError naming the field for what is no address."""
    text = message.get("address_prefix", "")
    try:
        address = socket.inet_pton(socket.AF_INET6 if ":" in text else socket.AF_INET, text)
    except (OSError, ValueError):
        raise ValueError(f"{field}: {text!r} is not an IP address") from None
    # A length past the address is the whole of it, as in Envoy.
    bits = 8 * len(address)
    length = min(number(message, "prefix_len", 0, high=128), bits)
    first = int.from_bytes(address, "big") >> (bits - length) << (bits - length)
    return CidrRange(first.to_bytes(len(address), "big"), length)


def _terminal_filter(filters: Any) -> tuple[Mapping[str, Any] | None, str]:
    """The tcp_proxy that a chain ends in, and why the chain must refuse (empty if it need not)."""
    tcp_proxy: Mapping[str, Any] | None = None
    for network_filter in filters:
        name = network_filter.get("name", "")
        config = network_filter.get("typed_config", {})
        kind = type_name(config)
        if tcp_proxy is not None:
            return None, f"filter {name} stands behind tcp_proxy"
        if "config_discovery" in network_filter:
            return None, f"filter {name} is configured by ECDS, which is not supported"
        if kind == _TCP_PROXY:
            tcp_proxy = config
        elif kind == _HTTP_CONNECTION_MANAGER:
            return None, _http_refusal(config)
        elif not _is_inert(name, kind, config):
            return None, _NOT_SERVED.get(kind) or f"filter {name} ({kind or 'no configuration'}) is not supported"
    return tcp_proxy, "" if tcp_proxy is not None else "no tcp_proxy filter"


def _is_inert(name: str, kind: str, config: Mapping[str, Any]) -> bool:
    if kind in _TYPED_STRUCTS:
        # TypedStruct.type_url is its first field in both packages.
        kind = read_text(config["@value"], 1).rpartition("/")[2]
    return kind in _INERT_TYPES or (not kind and name in _INERT_NAMES) or (kind == _WASM and name == "istio.stats")


def _http_refusal(config: Mapping[str, Any]) -> str:
    # An authorization policy is worth naming: whoever reads this wants to know that it was not skipped.
    policy = [one["name"] for one in config.get("http_filters", ()) if "rbac" in one.get("name", "")]
    return "HTTP is not served (http_connection_manager" + (f" with {policy[0]})" if policy else ")")


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
