"""Turn the bytes of a Listener into resources.Listener.

Rules, in order of what they protect:
1. Each chain decides for itself whether it serves: see decode_chain.
2. What stands at the listener and would change what all its chains see (an unknown listener filter, a generic matcher)
   closes all of them.
3. Everything else that is not honoured is a warning.
4. Only a listener that cannot exist (no address, a negative duration, broken bytes) is rejected.
"""

import socket
from collections import Counter
from collections.abc import Generator, Mapping
from dataclasses import replace
from typing import Any

from .access_log import access_logs
from .assignment import read_text
from .decode_chain import Chains, DecodedChain, decode_chain
from .errors import XdsError
from .fields import PORT_MAX, checked_texts, number, printable, seconds
from .listener_filters import listener_filters
from .message import read
from .resources import FilterChain, Listener
from .socket_options import decode_socket_options
from .wire import unknown_fields

KIND = "LDS"
_LISTENER = "envoy.config.listener.v3.Listener"
_LISTENER_WARNINGS = {
    "bypass_overload_manager": "its connections count as those of any listener",
    "connection_balance_config": "the kernel spreads connections",
    "drain_type": "it drains as any other listener",
    "enable_mptcp": "not set",
    "fcds_config": "filter chains are not asked for one by one",
    "freebind": "not set",
    "ignore_global_conn_limit": "its connections count as those of any listener",
    "per_connection_buffer_high_watermark_timeout": "no connection is closed for what waits in it",
    "tcp_fast_open_queue_length": "not set",
    "tcp_keepalive": "not set",
    "transparent": "not set",
}
# Those that are true unless they say otherwise.
_LISTENER_WARNINGS_OFF = {
    "enable_reuse_port": "each worker has a socket of its own",
}
# Chains between two chances for the caller to let others run: about 1 ms.
_SLICE = 128
# What listen() of the kernel takes.
BACKLOG_MAX = 2**31 - 1


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
            chains[raw_chain] = known.get(raw_chain) or decode_chain(raw_chain)
            if index % _SLICE == _SLICE - 1:
                yield
        return _listener(name, message, raw, chains), chains
    except XdsError as error:
        raise XdsError(KIND, error.resource or read_text(raw, 1), error.reason, malformed=error.malformed) from None
    except ValueError as error:
        raise XdsError(KIND, name, str(error)) from None


def same_but_for_chains(one: Listener, other: Listener) -> bool:
    """Whether the messages of two listeners differ in their filter chains at most."""
    return _without_chains(one.raw) == _without_chains(other.raw)


def _without_chains(raw: bytes) -> dict[str, Any]:
    chains = ("filter_chains", "default_filter_chain")
    return {name: value for name, value in read(_LISTENER, raw).items() if name not in chains}


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
    filters = listener_filters(message.get("listener_filters", ()))
    warnings += filters.warnings
    logs = access_logs(message.get("access_log", ()))
    warnings += logs.warnings
    closed = filters.closed
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
        transparent=message.get("transparent", False),
        tls_inspector="tls_inspector" in filters,
        tls_skipped_ports=filters.skipped.get("tls_inspector", ()),
        http_inspector="http_inspector" in filters,
        http_skipped_ports=filters.skipped.get("http_inspector", ()),
        hello_limit=filters.hello_limit,
        proxy_headers=filters.proxy_headers,
        listener_filters_timeout_s=seconds(message, "listener_filters_timeout", 15.0),
        continue_on_listener_filters_timeout=message.get("continue_on_listener_filters_timeout", False),
        ipv4_compat=tuple(compat),
        backlog=number(message, "tcp_backlog_size", 0, high=BACKLOG_MAX),
        socket_options=socket_options,
        stat_prefix=message.get("stat_prefix", ""),
        traffic_direction=str(message.get("traffic_direction", "UNSPECIFIED")),
        access_logs=logs.logs,
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
