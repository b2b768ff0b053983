"""Each field that is decoded has a consumer, or a warning that names it, or no meaning for a TCP proxy.

Every field of a cluster and of a listener is set alone, at a value that is not its default, in each of some settings:
in one of them it changes what was decoded, is refused by name, or is warned about. What Envoy itself does not look at
for TCP stands in INERT, with the reason.
"""

import ast
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest
from eastgate.xds.decode_cluster import decode_cluster
from eastgate.xds.decode_listener import decode_listener
from eastgate.xds.errors import XdsError
from eastgate.xds.message import encode
from eastgate.xds.resources import Assignment, Cluster, FilterChain, Listener
from eastgate.xds.schema import ENUMS, MESSAGES, FieldSchema

from ..support import messages

ROOT = Path(__file__).parents[2]
Tree = dict[str, Any]
CLUSTER = "envoy.config.cluster.v3.Cluster"
LISTENER = "envoy.config.listener.v3.Listener"
CHAIN = "envoy.config.listener.v3.FilterChain"
TCP_PROXY = "envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy"
SCALARS = {
    "string": "x",
    "bytes": b"x",
    "bool": True,
    "uint32": 7,
    "uint64": 7,
    "int32": 7,
    "int64": 7,
    "double": 0.5,
    "float": 0.5,
    "opaque": b"\x0a\x01x",
    "duration": "7s",
    "struct": {"x": "y"},
    "value": "x",
    "list": ["x"],
    "any": {"@type": "type.googleapis.com/envoy.config.core.v3.Locality", "region": "r"},
}
HTTP = "HTTP only"
SHOWN = "shown or counted, and changes no connection"
BUFFERS = "how much Envoy buffers: eastgate leaves bytes in the kernel"
OTHER_TRANSPORT = "of UDP, QUIC or an internal listener"
# Path, or the beginning of paths up to a dot -> why a TCP connection is treated no otherwise for it.
INERT = {
    CLUSTER: {
        "per_connection_buffer_limit_bytes": BUFFERS,
        "max_requests_per_connection": HTTP,
        "circuit_breakers.thresholds.max_requests": HTTP,
        "circuit_breakers.thresholds.max_retries": HTTP,
        "circuit_breakers.thresholds.retry_budget": HTTP,
        "circuit_breakers.thresholds.max_connection_pools": HTTP,
        "http_protocol_options": HTTP,
        "http2_protocol_options": HTTP,
        "common_http_protocol_options": HTTP,
        "upstream_http_protocol_options": HTTP,
        "protocol_selection": HTTP,
        "track_timeout_budgets": HTTP,
        "connection_pool_per_downstream_connection": HTTP,
        "common_lb_config.override_host_status": HTTP,
        "original_dst_lb_config.http_header_name": "read with use_http_header only, which is warned about",
        "metadata": SHOWN,
        "track_cluster_stats": SHOWN,
        "upstream_connection_options.set_local_interface_name_on_upstream_connections": SHOWN,
        "cleanup_interval": "how long Envoy remembers destinations that nobody asks for: there is nothing to remember",
        "circuit_breakers.per_host_thresholds.track_remaining": SHOWN,
        "typed_dns_resolver_config.name": "the type of the configuration decides, not the name",
        "common_lb_config.update_merge_window": "how long Envoy gathers changes of health: they are applied at once",
    },
    LISTENER: {
        "per_connection_buffer_limit_bytes": BUFFERS,
        "metadata": SHOWN,
        "deprecated_v1": "what bind_to_port says there is what it says beside it",
        "udp_listener_config": OTHER_TRANSPORT,
        "listener_filters.name": "the type of the configuration decides, not the name",
        "reuse_port": "what enable_reuse_port says, in its old place",
        "max_connections_to_accept_per_socket_event": "how many at once: all that wait are accepted",
    },
    CHAIN: {
        "filters.name": "the type of the configuration decides, not the name",
        "metadata": SHOWN,
    },
    TCP_PROXY: {
        "downstream_idle_timeout": "Envoy does not look at it",
        "upstream_idle_timeout": "Envoy does not look at it",
    },
}


# Of fields whose bytes are taken apart elsewhere, or that are true unless they say otherwise.
VALUES = {
    "eds_config": b"\x22\x02\x08\x07",
    "wait_for_warm_on_init": False,
    "enable_reuse_port": False,
    "bind_to_port": False,
}


def value(field: FieldSchema) -> Any:
    """One that is not the default; None for what this test sets nothing of."""
    if field.name in VALUES:
        return VALUES[field.name]
    kind = field.kind.removeprefix("wrapped ")
    if kind == "enum":
        one: Any = next(name for number, name in ENUMS[field.type].items() if number)
    else:
        one = SCALARS.get(kind)
    return [one] if field.repeated and one is not None else one


def walk(message: str, seen: tuple[str, ...] = ()) -> Iterator[tuple[str, Tree]]:
    """(path, message that holds this field alone) of each field below a message; messages within themselves once."""
    for field in MESSAGES[message]:
        if field.kind != "message":
            if (one := value(field)) is not None:
                yield field.name, {field.name: one}
        elif field.type not in seen:
            for path, inner in walk(field.type, (*seen, message)):
                yield f"{field.name}.{path}", {field.name: [inner] if field.repeated else inner}


def merged(base: Tree, over: Mapping[str, Any]) -> Tree:
    """Both; of lists of messages the first items."""
    made = dict(base)
    for key, one in over.items():
        before = made.get(key)
        if isinstance(one, dict) and isinstance(before, dict) and "@type" not in one:
            made[key] = merged(before, one)
        elif isinstance(one, list) and isinstance(before, list) and isinstance(one[0], dict):
            made[key] = [merged(before[0], one[0]), *before[1:]]
        else:
            made[key] = one
    return made


def assigned(host: str) -> bytes:
    return messages.assignment("c", [messages.At((host, 80))])


CHECK = {
    "timeout": "1s",
    "interval": "1s",
    "unhealthy_threshold": 2,
    "healthy_threshold": 2,
}
WINDOW = {"slow_start_config": {"slow_start_window": "60s"}}
EDS = {"name": "c", "type": "EDS", "eds_cluster_config": {"eds_config": b"\x1a\x00"}}
DNS = {"name": "c", "type": "STRICT_DNS", "load_assignment": assigned("a.test")}
CLUSTERS: list[Tree] = [
    EDS,
    {**EDS, "lb_policy": "LEAST_REQUEST", "least_request_lb_config": WINDOW},
    {**EDS, "round_robin_lb_config": WINDOW},
    {**EDS, "lb_policy": "RING_HASH"},
    {**EDS, "lb_policy": "MAGLEV"},
    {**EDS, "lb_subset_config": {"subset_selectors": [{"keys": ["x"]}]}},
    {**EDS, "health_checks": [{**CHECK, "tcp_health_check": {}}]},
    {**EDS, "health_checks": [{**CHECK, "http_health_check": {"path": "/"}}]},
    {**EDS, "health_checks": [{**CHECK, "grpc_health_check": {}}]},
    {**EDS, "circuit_breakers": {"thresholds": [{"max_connections": 3}]}},
    {**EDS, "circuit_breakers": {"per_host_thresholds": [{"max_connections": 3}]}},
    DNS,
    {**DNS, "dns_failure_refresh_rate": {"base_interval": "1s", "max_interval": "9s"}},
    {**DNS, "type": "LOGICAL_DNS"},
    {"name": "c", "type": "STATIC", "load_assignment": assigned("10.0.0.1")},
    {"name": "c", "type": "ORIGINAL_DST", "lb_policy": "CLUSTER_PROVIDED"},
]
INSPECTOR = "type.googleapis.com/envoy.extensions.filters.listener.tls_inspector.v3.TlsInspector"
LISTENED = {
    "name": "l",
    "address": {"socket_address": {"address": "::", "port_value": 1}},
    "filter_chains": [bytes(messages.chain("a"))],
}
LISTENERS: list[Tree] = [
    LISTENED,
    {**LISTENED, "listener_filters": [{"name": "x", "typed_config": {"@type": INSPECTOR}}]},
]


def with_proxy(**proxy: Any) -> Tree:
    """A chain whose last filter is this tcp_proxy."""
    config = {"@type": f"type.googleapis.com/{TCP_PROXY}", "stat_prefix": "a", **proxy}
    return {"filters": [{"name": "envoy.filters.network.tcp_proxy", "typed_config": config}]}


CHAINS: list[Tree] = [
    with_proxy(cluster="a"),
    {**with_proxy(cluster="a"), "filter_chain_match": {"server_names": ["a.test"]}},
]
PROXIES: list[Tree] = [
    {"cluster": "a"},
    {"weighted_clusters": {"clusters": [{"name": "a", "weight": 1}, {"name": "b", "weight": 2}]}},
    {"cluster": "a", "hash_policy": [{"source_ip": {}}]},
]


def with_chain(chain: bytes) -> bytes:
    return encode(LISTENER, {**LISTENED, "filter_chains": [chain]})


# What is walked -> how a tree of it is written, read again, and the settings that its fields are tried in.
ROOTS: dict[str, tuple[Callable[[Tree], bytes], Callable[[bytes], Any], list[Tree]]] = {
    CLUSTER: (lambda tree: encode(CLUSTER, tree), decode_cluster, CLUSTERS),
    LISTENER: (lambda tree: encode(LISTENER, tree), lambda raw: decode_listener(raw)[0], LISTENERS),
    CHAIN: (lambda tree: with_chain(encode(CHAIN, tree)), lambda raw: decode_listener(raw)[0], CHAINS),
    TCP_PROXY: (
        lambda tree: with_chain(encode(CHAIN, with_proxy(**tree))),
        lambda raw: decode_listener(raw)[0],
        PROXIES,
    ),
}


def has_effect(root: str, base: Tree, over: Tree, path: str) -> bool:
    write, decode, _ = ROOTS[root]
    good = decode(write(base))
    try:
        made = decode(write(merged(base, over)))
    except XdsError:
        return True
    if replace(made, raw=b"", warnings=()) != replace(good, raw=b"", warnings=()):
        return True
    names = set(path.split("."))
    return any(set(re.split(r"[.: ]+", text)) & names for text in set(made.warnings) - set(good.warnings))


def inert(message: str, path: str) -> bool:
    return any(path == one or path.startswith(f"{one}.") for one in INERT[message])


CASES = [
    pytest.param(message, path, over, id=f"{message.rpartition('.')[2]}.{path}")
    for message in ROOTS
    for path, over in walk(message)
    if not inert(message, path)
]


@pytest.mark.parametrize(("message", "path", "over"), CASES)
def test_field_has_an_effect_or_a_warning_that_names_it(message: str, path: str, over: Tree) -> None:
    assert any(has_effect(message, base, over, path) for base in ROOTS[message][2])


@pytest.mark.parametrize("message", INERT)
def test_what_is_inert_is_a_field_that_is_known(message: str) -> None:
    known = [path for path, _ in walk(message)]
    assert all(any(path == one or path.startswith(f"{one}.") for path in known) for one in INERT[message])


RECORDS = (Cluster, Listener, FilterChain, Assignment)
READERS = ("proxy", "insight", "commands", "trial")
# Decisions of the stream's side, beside those who decode.
DECIDING = ("store.py", "wanted.py", "deadlines.py", "resources.py")


def attributes_read() -> set[str]:
    """Names of all attributes that something reads which decides or shows."""
    found: set[str] = set()
    paths = [path for folder in READERS for path in (ROOT / folder).rglob("*.py")]
    for path in (*paths, *(ROOT / "xds" / name for name in DECIDING)):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Load):
                found.add(node.attr)
    return found


def test_each_attribute_of_what_is_decoded_has_a_reader() -> None:
    read = attributes_read()
    unread = {(one.__name__, field.name) for one in RECORDS for field in fields(one) if field.name not in read}
    assert not unread
