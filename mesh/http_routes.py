"""Routes of HTTP: those of VirtualServices, the one of a service without any, and the one of an inbound chain.

Source of the rules: istio, pilot/pkg/networking/core/route/route.go and route/retry/retry.go.
"""

from collections.abc import Mapping
from datetime import timedelta

from eastgate.xds.whole_number import UINT32, whole_number
from envoy_data_plane.envoy.config.route.v3 import (
    Decorator,
    DirectResponseAction,
    HeaderMatcher,
    RedirectAction,
    RedirectActionRedirectResponseCode,
    RetryPolicy,
    RetryPolicyRetryHostPredicate,
    RouteAction,
    RouteActionHashPolicy,
    RouteActionHashPolicyConnectionProperties,
    RouteActionMaxStreamDuration,
    RouteConfiguration,
    RouteMatch,
    VirtualHost,
    WeightedCluster,
    WeightedClusterClusterWeight,
)
from envoy_data_plane.envoy.config.route.v3 import Route as RoutePb
from envoy_data_plane.envoy.extensions.retry.host.previous_hosts.v3 import PreviousHostsPredicate
from envoy_data_plane.envoy.type.matcher.v3 import RegexMatcher, StringMatcher

from .endpoints import ClusterKey
from .messages import config_path, metadata, pack
from .model import Mesh, Resource, Service
from .node_view import NodeView
from .policy import effective
from .routes import MESH, gateway_name, spec_of
from .rules import full_host, rule_of
from .service_entries import service_of
from .virtual_service import Destination, HttpMatch, HttpRetry, HttpRoute, StringMatch

NO_LIMIT = timedelta(0)
GRPC = frozenset({"grpc", "grpc-web"})
RETRY_ON = "connect-failure,refused-stream,unavailable,cancelled,retriable-status-codes"
RETRIES, HOST_ATTEMPTS = 2, 5
EVERYTHING = "/"
REDIRECTS = {
    301: RedirectActionRedirectResponseCode.MOVED_PERMANENTLY,
    302: RedirectActionRedirectResponseCode.FOUND,
    303: RedirectActionRedirectResponseCode.SEE_OTHER,
    307: RedirectActionRedirectResponseCode.TEMPORARY_REDIRECT,
    308: RedirectActionRedirectResponseCode.PERMANENT_REDIRECT,
}


def service_route(mesh: Mesh, node: NodeView, key: ClusterKey) -> RoutePb:
    """Where requests for a service port go that no VirtualService is for."""
    action = _action(RETRY_ON, _host_predicate())
    action.cluster = key.name
    if _hashes_sources(mesh, node, key.service, "", key.port.number):
        action.hash_policy = _source_hash()
    return RoutePb(
        name="default",
        match=RouteMatch(prefix=EVERYTHING),
        route=action,
        decorator=Decorator(operation=f"{key.service.host}:{key.port.number}/*"),
    )


def inbound_routes(cluster: str, service_port: int, operation: str, protocol: str) -> RouteConfiguration:
    """Routes of an inbound chain: everything to its cluster."""
    action = RouteAction(
        cluster=cluster,
        timeout=NO_LIMIT,
        max_stream_duration=RouteActionMaxStreamDuration(
            max_stream_duration=NO_LIMIT, grpc_timeout_header_max=NO_LIMIT
        ),
    )
    if protocol not in GRPC:
        action.retry_policy = RetryPolicy(retry_on="reset-before-request", num_retries=RETRIES)
    route = RoutePb(
        name="default",
        match=RouteMatch(prefix=EVERYTHING),
        route=action,
        decorator=Decorator(operation=f"{operation}:{service_port}/*"),
    )
    host = VirtualHost(name=f"inbound|http|{service_port}", domains=["*"], routes=[route])
    return RouteConfiguration(name=cluster, virtual_hosts=[host], validate_clusters=False)


def resource_routes(mesh: Mesh, node: NodeView, resource: Resource, port: int) -> list[RoutePb]:
    """Routes that a VirtualService has for this proxy on a port, up to the first that takes everything."""
    found: list[RoutePb] = []
    for entry in spec_of(resource).http:
        matches: list[HttpMatch | None] = [one for one in entry.match if _is_for(one, resource, node, port)]
        if not entry.match:
            matches = [None]
        for match in matches:
            found.append(_resource_route(mesh, node, resource, entry, match, port))
            if _takes_everything(found[-1]):
                return found
    return found


def _is_for(match: HttpMatch, resource: Resource, node: NodeView, port: int) -> bool:
    """A match that names gateways is not asked for labels and namespace, as istiod has it."""
    if match.port not in (0, port):
        return False
    if match.gateways:
        return MESH in (gateway_name(name, resource.namespace) for name in match.gateways)
    return match.source_labels.items() <= node.labels.items() and match.source_namespace in ("", node.namespace)


def _takes_everything(route: RoutePb) -> bool:
    match = route.match
    assert match
    anything = match.prefix == EVERYTHING or (match.safe_regex is not None and match.safe_regex.regex == ".*")
    return anything and not match.headers


def _resource_route(
    mesh: Mesh, node: NodeView, resource: Resource, entry: HttpRoute, match: HttpMatch | None, port: int
) -> RoutePb:
    route = RoutePb(
        name=f"{entry.name}.{match.name}" if match and match.name else entry.name,
        match=_match(match),
        metadata=metadata(istio={"config": config_path(resource.kind, resource.namespace, resource.name)}),
    )
    target = resource.name, port
    if entry.redirect:
        redirect = entry.redirect
        route.redirect = RedirectAction(
            host_redirect=redirect.authority,
            path_redirect=redirect.uri,
            scheme_redirect=redirect.scheme or None,
            port_redirect=redirect.port,
            response_code=REDIRECTS[redirect.redirect_code],
        )
    elif entry.direct_response:
        route.direct_response = DirectResponseAction(status=entry.direct_response.status)
    else:
        route.route = _destinations(mesh, node, resource, entry, port)
        only = route.route.cluster
        if only:
            # A cluster's name says it better than the VirtualService's.
            _, number, _, host = only.split("|")
            target = host, int(number)
    route.decorator = Decorator(operation=f"{target[0]}:{target[1]}{_path(route)}")
    return route


def _path(route: RoutePb) -> str:
    match = route.match
    assert match
    if match.path is not None:
        return match.path
    return match.safe_regex.regex if match.safe_regex else f"{match.prefix}*"


def _destinations(mesh: Mesh, node: NodeView, resource: Resource, entry: HttpRoute, port: int) -> RouteAction:
    targets = [one for one in entry.route if one.weight] if len(entry.route) > 1 else entry.route
    hashed = [_hashed(mesh, node, resource, one.destination, port) for one in targets]
    predicate = _host_predicate() if len(entry.route) > 1 or not any(hashed) else []
    action = _action(RETRY_ON, predicate)
    if entry.retries:
        action.retry_policy = _retries(entry.retries, predicate)
    if entry.timeout is not None:
        action.timeout = timedelta(seconds=entry.timeout)
    if any(hashed):
        action.hash_policy = _source_hash()
    names = [_cluster(resource, one.destination, port) for one in targets]
    if len(entry.route) == 1:
        action.cluster = names[0]
    else:
        action.weighted_clusters = WeightedCluster(
            clusters=[
                WeightedClusterClusterWeight(name=name, weight=one.weight)
                for name, one in zip(names, targets, strict=True)
            ]
        )
    return action


def _cluster(resource: Resource, destination: Destination, port: int) -> str:
    """A service that listens on this port is taken there, another one too, where nobody may listen."""
    number = destination.port.number if destination.port else port
    return f"outbound|{number}|{destination.subset}|{full_host(destination.host, resource.namespace)}"


def _hashed(mesh: Mesh, node: NodeView, resource: Resource, destination: Destination, port: int) -> bool:
    host = full_host(destination.host, resource.namespace)
    service = service_of(mesh, node.cluster, host, node.namespace)
    number = destination.port.number if destination.port else port
    return service is not None and _hashes_sources(mesh, node, service, destination.subset, number)


def _hashes_sources(mesh: Mesh, node: NodeView, service: Service, subset: str, port: int) -> bool:
    rule = rule_of(mesh, node.cluster, service, node.namespace, node.labels)
    balancer = effective(rule, subset, port).policy.load_balancer
    return bool(balancer and balancer.consistent_hash and balancer.consistent_hash.use_source_ip)


def _source_hash() -> list[RouteActionHashPolicy]:
    return [RouteActionHashPolicy(connection_properties=RouteActionHashPolicyConnectionProperties(source_ip=True))]


def _host_predicate() -> list[RetryPolicyRetryHostPredicate]:
    name = "envoy.retry_host_predicates.previous_hosts"
    return [RetryPolicyRetryHostPredicate(name=name, typed_config=pack(PreviousHostsPredicate()))]


def _action(retry_on: str, predicate: list[RetryPolicyRetryHostPredicate]) -> RouteAction:
    return RouteAction(
        timeout=NO_LIMIT,
        retry_policy=RetryPolicy(
            retry_on=retry_on,
            num_retries=RETRIES,
            retry_host_predicate=predicate,
            host_selection_retry_max_attempts=HOST_ATTEMPTS,
        ),
        max_grpc_timeout=NO_LIMIT,
    )


def _retries(wanted: HttpRetry, predicate: list[RetryPolicyRetryHostPredicate]) -> RetryPolicy | None:
    if wanted.attempts <= 0:
        return None
    words = [word.strip() for word in wanted.retry_on.split(",") if word.strip()]
    numbers = [whole_number(word, UINT32) for word in words]
    codes = [number for number in numbers if number is not None]
    named = [word for word, number in zip(words, numbers, strict=True) if number is None]
    if codes and "retriable-status-codes" not in named:
        named.append("retriable-status-codes")
    return RetryPolicy(
        retry_on=",".join(named) if words else RETRY_ON,
        retriable_status_codes=codes,
        num_retries=wanted.attempts,
        per_try_timeout=None if wanted.per_try_timeout is None else timedelta(seconds=wanted.per_try_timeout),
        retry_host_predicate=predicate,
        host_selection_retry_max_attempts=HOST_ATTEMPTS,
    )


def _match(match: HttpMatch | None) -> RouteMatch:
    if match is None:
        return RouteMatch(prefix=EVERYTHING)
    found = RouteMatch(case_sensitive=not match.ignore_uri_case)
    uri = match.uri or StringMatch()
    if uri.exact is not None:
        found.path = uri.exact
    elif uri.regex is not None:
        found.safe_regex = RegexMatcher(regex=uri.regex)
    else:
        found.prefix = EVERYTHING if uri.prefix is None else uri.prefix
    found.headers = [*_headers(match.headers), *_headers(match.without_headers, inverted=True)]
    found.headers.sort(key=lambda one: one.name)
    pseudo = {":method": match.method, ":authority": match.authority, ":scheme": match.scheme}
    found.headers += _headers({name: one for name, one in pseudo.items() if one})
    return found


def _headers(wanted: Mapping[str, StringMatch], *, inverted: bool = False) -> list[HeaderMatcher]:
    found = []
    for name, one in wanted.items():
        text = string_matcher(one)
        matcher = HeaderMatcher(name=name, invert_match=inverted)
        if text is None:
            matcher.present_match = True
        else:
            matcher.string_match = text
            matcher.treat_missing_header_as_empty = inverted
        found.append(matcher)
    return found


def string_matcher(wanted: StringMatch) -> StringMatcher | None:
    """None: only presence is asked for, which istiod also takes the regex "*" for."""
    if wanted.exact is not None:
        return StringMatcher(exact=wanted.exact)
    if wanted.prefix is not None:
        return StringMatcher(prefix=wanted.prefix)
    if wanted.regex not in (None, "*"):
        return StringMatcher(safe_regex=RegexMatcher(regex=wanted.regex or ""))
    return None
