"""An HTTP connection manager as far as layer 4 takes its place: its policies, how it compares hosts and paths, and why
its chain must refuse.

Requests are not read beyond the first one's head, and no byte is changed. So a filter serves only if it is a policy, or
known to decide nothing about a request that reaches the cluster; what the manager itself would change is a warning.
"""

from collections.abc import Mapping
from typing import Any

from .assignment import read_text
from .decode_rbac import HTTP_RBAC, NotEvaluatedError, rbac_filter
from .fields import printable, type_name
from .rbac import RbacFilter
from .resources import HttpManager
from .wire import unknown_fields

_HTTP = "envoy.extensions.filters.http."
ROUTER = f"{_HTTP}router.v3.Router"
_TYPED_STRUCTS = ("udpa.type.v1.TypedStruct", "xds.type.v3.TypedStruct")
# Istio's own, for requests that go on in its mTLS. What eastgate offers there: fastpath/loop/handshakes.
ALPN = "istio.envoy.config.filter.http.alpn.v2alpha1.FilterConfig"
_INERT = (
    # Telemetry, peer metadata.
    "stats.PluginConfig",
    "io.istio.http.peer_metadata.Config",
    f"{_HTTP}grpc_stats.v3.FilterConfig",
    # What it does stands at routes, which refuse.
    f"{_HTTP}cors.v3.Cors",
    ALPN,
)
# Inert as long as its configuration is empty: routes that have one refuse.
_INERT_EMPTY = (f"{_HTTP}fault.v3.HTTPFault",)
_REFUSED = {
    "original_ip_detection_extensions": "original_ip_detection_extensions would say the client's address",
    "early_header_mutation_extensions": "early_header_mutation_extensions would change what is routed by",
    "strip_matching_host_port": "strip_matching_host_port is not evaluated",
    "strip_trailing_host_dot": "strip_trailing_host_dot is not evaluated",
}
_NOT_DONE = {
    "add_user_agent": "headers are not changed",
    "append_x_forwarded_port": "headers are not changed",
    "via": "headers are not changed",
    "local_reply_config": "replies are Envoy's",
    "access_log": "eastgate writes its own access log",
}


def http_manager(config: Mapping[str, Any]) -> tuple[HttpManager, tuple[str, ...]]:
    """What of it is done, and the warnings in it. Raises ValueError for a policy that Envoy does not load either."""
    policies: list[RbacFilter] = []
    refusals: list[str] = []
    if unknown := unknown_fields(config):
        refusals.append(f"unknown fields: {', '.join(unknown)}")
    if config.get("codec_type") == "HTTP3":
        refusals.append("codec_type HTTP3 is not served")
    refusals += [sentence for field, sentence in _REFUSED.items() if config.get(field)]
    sets_alpn = False
    for one in config.get("http_filters", ()):
        if one.get("disabled"):
            continue
        kind = _kind(one)
        sets_alpn = sets_alpn or kind == ALPN
        if kind == HTTP_RBAC:
            try:
                policies.append(rbac_filter(one["typed_config"], is_http=True))
            except NotEvaluatedError as error:
                refusals.append(f"its authorization policy ({one.get('name', '')}) is not evaluated: {error}")
        elif refusal := _filter_refusal(one, kind):
            refusals.append(refusal)
    manager = HttpManager(
        policies=tuple(policies),
        ignores_port=bool(config.get("strip_any_host_port")),
        normalizes_path=bool(config.get("normalize_path")) or bool(config.get("merge_slashes")),
        sets_alpn=sets_alpn,
        refusal=printable("; ".join(refusals)),
    )
    said = tuple(f"http_connection_manager.{field}: {what}" for field, what in _NOT_DONE.items() if config.get(field))
    return manager, said


def _kind(http_filter: Mapping[str, Any]) -> str:
    config = http_filter.get("typed_config", {})
    kind = type_name(config)
    if kind in _TYPED_STRUCTS:
        # TypedStruct.type_url is its first field in both packages.
        kind = read_text(config["@value"], 1).rpartition("/")[2]
    return kind


def _filter_refusal(http_filter: Mapping[str, Any], kind: str) -> str:
    name = http_filter.get("name", "")
    if "config_discovery" in http_filter:
        return f"HTTP filter {name} is configured by ECDS, which is not supported"
    if kind == ROUTER or kind in _INERT:
        return ""
    if kind in _INERT_EMPTY:
        empty = not http_filter.get("typed_config", {}).get("@value")
        return "" if empty else f"HTTP filter {name} has a configuration, which is not evaluated"
    return f"HTTP filter {name} ({kind or 'no configuration'}) is not evaluated"
