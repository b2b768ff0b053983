"""Turn the bytes of a RouteConfiguration into route.RouteConfiguration. Keeps no state.

What Envoy rejects is rejected. A policy that eastgate does not have is never skipped: it closes the route or virtual
host that it stands at, and what the schema does not know closes the whole configuration, since it may be such a policy.
"""

from collections import Counter
from collections.abc import Generator, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from .assignment import read_text
from .config_source import ADS, source_of
from .errors import XdsError
from .fields import checked_text, checked_texts, number, printable, type_name
from .message import read
from .route import HeaderMatch, Redirect, Route, RouteConfiguration, RouteMatch, VirtualHost
from .wire import unknown_fields

KIND = "RDS"
_PREFIX = "envoy.config.route.v3."
_HTTP_CONNECTION_MANAGER = "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager"
_PATHS = ("prefix", "path", "safe_regex", "path_separated_prefix", "connect_matcher", "path_match_policy")
_CONDITIONS = (
    "headers",
    "query_parameters",
    "cookies",
    "grpc",
    "runtime_fraction",
    "tls_context",
    "dynamic_metadata",
    "filter_state",
)
_NAMED_CONDITIONS = ("headers", "query_parameters", "cookies")
_TEXT_KINDS = ("exact", "prefix", "suffix", "contains")
_ACTIONS = ("route", "redirect", "direct_response", "non_forwarding_action", "filter_action")
_REDIRECT_CODES = {
    "MOVED_PERMANENTLY": 301,
    "FOUND": 302,
    "SEE_OTHER": 303,
    "TEMPORARY_REDIRECT": 307,
    "PERMANENT_REDIRECT": 308,
}

# What closes, by the field that asks for it. typed_per_filter_config may hold an authorization policy.
_CONFIG_REFUSALS = {
    "typed_per_filter_config": "settings of HTTP filters (typed_per_filter_config) are not evaluated",
    "vhds": "virtual hosts on demand (vhds) are not asked for",
    "vhost_header": "the virtual host would come from a header (vhost_header), which is not served",
}
_HOST_REFUSALS = {
    "typed_per_filter_config": "settings of HTTP filters (typed_per_filter_config) are not evaluated",
    "matcher": "a generic matcher is not evaluated",
    "require_tls": "require_tls is not enforced",
}
_ROUTE_REFUSALS = {
    "typed_per_filter_config": "settings of HTTP filters (typed_per_filter_config) are not evaluated",
}
_REWRITES = ("regex_rewrite", "path_rewrite", "path_rewrite_policy")
_HOST_REWRITES = (
    "host_rewrite_literal",
    "host_rewrite",
    "host_rewrite_header",
    "host_rewrite_path_regex",
    "auto_host_rewrite",
)
_ACTION_REFUSALS = {
    **dict.fromkeys(_REWRITES, "it would rewrite paths, and no byte is changed"),
    **dict.fromkeys(_HOST_REWRITES, "it would rewrite the host, and no byte is changed"),
    "metadata_match": "metadata_match would restrict endpoints and is not evaluated",
    "cluster_specifier_plugin": "a plugin would choose the cluster (cluster_specifier_plugin)",
    "inline_cluster_specifier_plugin": "a plugin would choose the cluster (inline_cluster_specifier_plugin)",
}
_WEIGHT_REFUSALS = {
    "host_rewrite_literal": "it would rewrite the host, and no byte is changed",
    "metadata_match": "weighted_clusters.metadata_match would restrict endpoints and is not evaluated",
    "typed_per_filter_config": "settings of HTTP filters (typed_per_filter_config) are not evaluated",
}

# What changes requests or responses, and is not done.
_HEADERS = {
    "request_headers_to_add": "headers are not changed",
    "request_headers_to_remove": "headers are not changed",
    "response_headers_to_add": "headers are not changed",
    "response_headers_to_remove": "headers are not changed",
}
_CONFIG_WARNINGS = {**_HEADERS, "request_mirror_policies": "nothing is mirrored"}
_HOST_WARNINGS = {
    **_HEADERS,
    "cors": "not answered",
    "rate_limits": "not asked for",
    "request_mirror_policies": "nothing is mirrored",
}
_ROUTE_WARNINGS = _HEADERS
_ACTION_WARNINGS = {
    "hash_policy": "only tcp_proxy.hash_policy gives connections a hash",
    "request_mirror_policies": "nothing is mirrored",
    "internal_redirect_policy": "redirects go to the client",
    "internal_redirect_action": "redirects go to the client",
    "rate_limits": "not asked for",
    "cors": "not answered",
}
_WEIGHT_WARNINGS = _HEADERS

# Known virtual hosts between two chances for the caller to let others run: well below 1 ms.
_SLICE = 256


class DecodedHost(NamedTuple):
    """A virtual host, its domains without regard to case, the warnings in it, and the fields that nobody knows."""

    host: VirtualHost
    folded: tuple[str, ...]
    warnings: tuple[str, ...]
    unknown: tuple[str, ...]


Hosts = dict[bytes, DecodedHost]


class HttpRoutes(NamedTuple):
    """Where an HTTP connection manager has its routes: by name from RDS, or inline; ``refusal``: why neither."""

    name: str = ""
    inline: RouteConfiguration | None = None
    refusal: str = ""


def http_routes(filters: Iterable[Mapping[str, Any]]) -> HttpRoutes:
    """The routes of the first HTTP connection manager among the filters of a chain, as message.read answers them."""
    for network_filter in filters:
        config = network_filter.get("typed_config", {})
        if type_name(config) != _HTTP_CONNECTION_MANAGER:
            continue
        if "route_config" in config:
            try:
                return HttpRoutes(inline=decode_route(config["route_config"])[0])
            except XdsError as error:
                return HttpRoutes(refusal=f"its inline routes are unusable: {error.reason}")
        if "scoped_routes" in config:
            return HttpRoutes(refusal="its routes come in scopes (scoped_routes), which are not served")
        rds = config.get("rds", {})
        if "config_source" in rds:
            source = source_of(read("envoy.config.core.v3.ConfigSource", rds["config_source"]))
            if source != ADS:
                return HttpRoutes(refusal=f"its routes come from {source}, which is not asked")
        return HttpRoutes(rds.get("route_config_name", ""))
    return HttpRoutes()


def decode_route(raw: bytes, known: Mapping[bytes, DecodedHost] | None = None) -> tuple[RouteConfiguration, Hosts]:
    """Decode the bytes inside the Any; return the configuration and its virtual hosts by their bytes.

    Virtual hosts whose bytes stand in `known` are taken from there. Raises XdsError("RDS", name, reason).
    """
    steps = route_steps(raw, known or {})
    while True:
        try:
            next(steps)
        except StopIteration as end:
            decoded: tuple[RouteConfiguration, Hosts] = end.value
            return decoded


def route_steps(
    raw: bytes, known: Mapping[bytes, DecodedHost]
) -> Generator[None, None, tuple[RouteConfiguration, Hosts]]:
    """decode_route in slices: yields after each virtual host that is new, and now and then between known ones."""
    name = ""
    try:
        message = read(_PREFIX + "RouteConfiguration", raw)
        name = message.get("name", "")
        hosts: Hosts = {}
        domains: set[str] = set()
        warned: Counter[str] = Counter()
        unknown = unknown_fields(message)
        for index, raw_host in enumerate(message.get("virtual_hosts", ())):
            found = known.get(raw_host)
            hosts[raw_host] = one = found or _decoded_host(raw_host)
            for domain in one.folded:
                if domain in domains:
                    raise ValueError(f"domain {domain!r} stands there more than once")
                domains.add(domain)
            warned.update(one.warnings)
            unknown += [f"virtual_hosts[{index}].{path}" for path in one.unknown]
            if found is None or index % _SLICE == _SLICE - 1:
                yield
        # A virtual host has a domain, and no domain stands there twice: none of them was merged.
        return _configuration(name, message, raw, hosts, warned, unknown), hosts
    except XdsError as error:
        raise XdsError(KIND, name or read_text(raw, 1), error.reason, malformed=error.malformed) from None
    except ValueError as error:
        raise XdsError(KIND, name, str(error)) from None


def _configuration(
    name: str, message: Mapping[str, Any], raw: bytes, hosts: Hosts, warned: Mapping[str, int], unknown: Sequence[str]
) -> RouteConfiguration:
    return RouteConfiguration(
        name=name,
        virtual_hosts=tuple(one.host for one in hosts.values()),
        ignore_port_in_host_matching=message.get("ignore_port_in_host_matching", False),
        refusal=f"unknown fields: {', '.join(unknown)}" if unknown else _first(_CONFIG_REFUSALS, message),
        warnings=(
            *_said(_CONFIG_WARNINGS, message, ""),
            *(f"{warning} ({count} virtual host{'s' if count > 1 else ''})" for warning, count in warned.items()),
        ),
        raw=raw,
    )


def _decoded_host(raw: bytes) -> DecodedHost:
    message = read(_PREFIX + "VirtualHost", raw)
    checked_texts(message, "name", "domains")
    name, domains = message.get("name", ""), tuple(message.get("domains", ()))
    if not name:
        raise ValueError("a virtual host without a name")
    if not domains or not all(domains):
        raise ValueError(f"virtual host {name!r} has {'an empty' if domains else 'no'} domain")
    warnings = list(_said(_HOST_WARNINGS, message, ""))
    routes = []
    for index, route in enumerate(message.get("routes", ())):
        try:
            routes.append(_route(route, warnings))
        except ValueError as error:
            raise ValueError(f"virtual host {name!r}, route {index + 1}: {error}") from None
    host = VirtualHost(name, domains, tuple(routes), _first(_HOST_REFUSALS, message))
    folded = tuple(domain.lower() for domain in domains)
    return DecodedHost(host, folded, tuple(dict.fromkeys(warnings)), tuple(unknown_fields(message)))


def _route(message: Mapping[str, Any], warnings: list[str]) -> Route:
    match = _match(message.get("match", {}))
    action = next((one for one in _ACTIONS if one in message), "")
    if not action:
        raise ValueError(f"no action (one of {', '.join(_ACTIONS)})")
    warnings += _said(_ROUTE_WARNINGS, message, "routes.")
    refusal = _first(_ROUTE_REFUSALS, message)
    name = checked_text("the route's name", message.get("name", ""))
    if action == "route":
        forward = message["route"]
        warnings += _said(_ACTION_WARNINGS, forward, "routes.route.")
        clusters, header, weight_refusal = _clusters(forward, warnings)
        refusal = refusal or _first(_ACTION_REFUSALS, forward) or _prefix_rewrite(match, forward) or weight_refusal
        return Route(match, action, name, clusters, header, refusal=printable(refusal))
    if action == "redirect":
        return Route(match, action, name, redirect=_redirect(message["redirect"]), refusal=refusal)
    if action == "direct_response":
        status = number(message["direct_response"], "status", 0, high=599)
        if status < 200:
            raise ValueError(f"direct_response.status is {status}, must be at least 200")
        return Route(match, action, name, response_status=status, refusal=refusal)
    return Route(match, action, name, refusal=refusal or f"action {action} is not served")


def _prefix_rewrite(match: RouteMatch, action: Mapping[str, Any]) -> str:
    rewritten = action.get("prefix_rewrite", "")
    if not rewritten or (match.kind == "prefix" and rewritten == match.value):
        return ""
    return f"it would rewrite paths (prefix_rewrite {rewritten}), and no byte is changed"


def _match(message: Mapping[str, Any]) -> RouteMatch:
    kind = next((one for one in _PATHS if one in message), "")
    if not kind:
        raise ValueError(f"match without a path (one of {', '.join(_PATHS)})")
    value = message[kind]
    if kind == "safe_regex":
        value = value.get("regex", "")
        if not value:
            raise ValueError("match.safe_regex.regex is empty")
    elif kind == "path_match_policy":
        value = value.get("name", "")
    elif kind == "connect_matcher":
        value = ""
    elif kind == "path_separated_prefix" and (len(value) < 2 or value.endswith("/") or {"?", "#"} & {*value}):
        raise ValueError(f"match.path_separated_prefix is {value!r}, must not end with / nor hold ? or #")
    conditions: list[str] = []
    for field in _CONDITIONS:
        if field in _NAMED_CONDITIONS:
            conditions += [f"{field} {read_text(raw, 1)}" for raw in message.get(field, ())]
        elif field in message:
            conditions.append(field)
    headers = tuple(_header(read(_PREFIX + "HeaderMatcher", raw)) for raw in message.get("headers", ()))
    return RouteMatch(kind, value, message.get("case_sensitive", True), tuple(conditions), headers)


def _header(message: Mapping[str, Any]) -> HeaderMatch:
    name = message.get("name", "").lower()
    inverted, as_empty = message.get("invert_match", False), message.get("treat_missing_header_as_empty", False)
    if unknown_fields(message):
        # Not even what it says of a header that is missing.
        return HeaderMatch(name, "unknown", missing_is_empty=True)
    text_match = message.get("string_match", {})
    for kind in _TEXT_KINDS:
        if kind in text_match:
            return HeaderMatch(name, kind, text_match[kind], text_match.get("ignore_case", False), inverted, as_empty)
        if f"{kind}_match" in message:
            return HeaderMatch(name, kind, message[f"{kind}_match"], inverted=inverted, missing_is_empty=as_empty)
    if text_match or "safe_regex_match" in message or "range_match" in message:
        return HeaderMatch(name, "unknown", inverted=inverted, missing_is_empty=as_empty)
    # Without a matcher, presence is asked for.
    inverted = inverted != (not message.get("present_match", True))
    return HeaderMatch(name, "present", inverted=inverted, missing_is_empty=as_empty)


def _clusters(action: Mapping[str, Any], warnings: list[str]) -> tuple[tuple[tuple[str, int], ...], str, str]:
    """Clusters with weights, the header that says the cluster, and why the route refuses."""
    if "weighted_clusters" in action:
        return _weighted(action["weighted_clusters"], warnings)
    for field in ("cluster", "cluster_header"):
        if action.get(field):
            checked_text(field, action[field])
            return ((action["cluster"], 1),) if field == "cluster" else (), action.get("cluster_header", ""), ""
    if any(field in action for field in ("cluster_specifier_plugin", "inline_cluster_specifier_plugin")):
        return (), "", ""
    raise ValueError("route names no cluster")


def _weighted(message: Mapping[str, Any], warnings: list[str]) -> tuple[tuple[tuple[str, int], ...], str, str]:
    items = message.get("clusters", ())
    if not items:
        raise ValueError("weighted_clusters holds no cluster")
    refusal = ""
    clusters = []
    for one in items:
        if bool(one.get("name")) == bool(one.get("cluster_header")):
            raise ValueError("weighted_clusters: exactly one of name and cluster_header is needed")
        if "weight" not in one:
            raise ValueError("weighted_clusters: a cluster without a weight")
        warnings += _said(_WEIGHT_WARNINGS, one, "routes.route.weighted_clusters.")
        refusal = refusal or _first(_WEIGHT_REFUSALS, one)
        if one.get("cluster_header"):
            refusal = refusal or "a header would say a weighted cluster (weighted_clusters.cluster_header)"
        clusters.append((checked_text("weighted_clusters: the name", one.get("name", "")), one["weight"]))
    total = sum(weight for _, weight in clusters)
    if not 0 < total <= 2**32 - 1:
        raise ValueError(f"weighted_clusters: weights sum to {total}, must be at least 1 and below 2^32")
    for field in ("header_name", "use_hash_policy"):
        if message.get(field):
            refusal = refusal or f"the request would say the share (weighted_clusters.{field})"
    return () if refusal else tuple(clusters), "", refusal


def _redirect(message: Mapping[str, Any]) -> Redirect:
    checked_texts(message, "host_redirect", "path_redirect", "scheme_redirect")
    code = message.get("response_code", "MOVED_PERMANENTLY")
    if code not in _REDIRECT_CODES:
        raise ValueError(f"redirect.response_code {code} is unknown")
    return Redirect(
        host=message.get("host_redirect", ""),
        path=message.get("path_redirect", ""),
        scheme="https" if message.get("https_redirect") else message.get("scheme_redirect", ""),
        port=message.get("port_redirect", 0),
        response_code=_REDIRECT_CODES[code],
    )


def _first(sentences: Mapping[str, str], message: Mapping[str, Any]) -> str:
    return next((sentence for field, sentence in sentences.items() if message.get(field, "NONE") != "NONE"), "")


def _said(sentences: Mapping[str, str], message: Mapping[str, Any], prefix: str) -> list[str]:
    return [f"{prefix}{field}: {what}" for field, what in sentences.items() if message.get(field)]
