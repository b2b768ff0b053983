"""Where connections of HTTP chains go: routes of a snapshot, as the chain's clusters or as a table for the fast path.

istiod's inbound chains have one route for every request, and so have outbound ones of a single service: these become
plain chains, and no request is read for them.
"""

from collections.abc import Mapping
from dataclasses import astuple, replace

from eastgate.fastpath.match.http_routes import HttpRoutes
from eastgate.fastpath.match.http_specs import HeaderSpec, HttpHostSpec, HttpRouteSpec, HttpRoutesSpec
from eastgate.xds.resources import FilterChain, Listener, Snapshot
from eastgate.xds.route import Route, RouteConfiguration, VirtualHost

Used = tuple[RouteConfiguration | None, ...]
"""Routes by chain of a listener, the default chain last; None where there are none, or where they have not come."""

_PATHS = {"path": "exact", "path_separated_prefix": "separated", "connect_matcher": "never"}


def used_routes(listener: Listener, snapshot: Snapshot) -> Used:
    """The routes of a listener's chains as they are now; empty where no chain has any."""
    chains = [*listener.filter_chains, *filter(None, (listener.default_filter_chain,))]
    if all(chain.http is None for chain in chains):
        return ()
    return tuple(snapshot.routes_of(chain) if chain.http is not None else None for chain in chains)


def routed(listener: Listener, used: Used) -> Listener:
    """The listener with what its HTTP chains do, by these routes."""
    if not used:
        return listener
    chains = [
        chain if chain.http is None else routed_chain(chain, routes)
        for chain, routes in zip(listener.filter_chains, used, strict=False)
    ]
    default = listener.default_filter_chain
    if default is not None and default.http is not None:
        default = routed_chain(default, used[-1])
    return replace(listener, filter_chains=tuple(chains), default_filter_chain=default)


def routed_chain(chain: FilterChain, routes: RouteConfiguration | None) -> FilterChain:
    """An HTTP chain with the clusters that every request goes to, or the routes that choose, or why it refuses."""
    reason = chain.refusal or http_refusal(chain, routes)
    if reason or routes is None:
        return replace(chain, refusal=reason or "its routes are missing", clusters=())
    single = single_destination(routes)
    return replace(chain, clusters=single or (), route_config=None if single else routes)


def http_refusal(chain: FilterChain, routes: RouteConfiguration | None) -> str:
    """Why an HTTP chain whose filters are served refuses; empty when it does not, or when there are no routes."""
    if chain.http is None or routes is None:
        return ""
    if routes.refusal:
        return f"its routes ({routes.name or 'inline'}) are unusable: {routes.refusal}"
    if chain.tls is not None and single_destination(routes) is None:
        return "its routes choose clusters by request, and requests come sealed"
    return ""


def single_destination(routes: RouteConfiguration) -> tuple[tuple[str, int], ...] | None:
    """(cluster, weight) of the clusters that every request goes to, whatever it says; None when that depends."""
    if len(routes.virtual_hosts) != 1:
        return None
    (host,) = routes.virtual_hosts
    if "*" not in host.domains or host.refusal or not host.routes or not takes_all(host.routes[0]):
        return None
    first = host.routes[0]
    if first.action != "route" or first.refusal:
        return None
    return tuple((name, weight) for name, weight in first.clusters if weight) or None


def takes_all(route: Route) -> bool:
    """Whether a route matches every request (but CONNECT)."""
    match = route.match
    return match.kind == "prefix" and match.value in ("/", "") and not match.conditions


def clusters_of(chain: FilterChain) -> frozenset[str]:
    """Names of the clusters that a chain that was routed may lead to."""
    if chain.refusal:
        return frozenset()
    if by_request(chain) and chain.route_config is not None:
        return chain.route_config.clusters
    return frozenset(name for name, _ in chain.clusters)


def by_request(chain: FilterChain) -> bool:
    """Whether a chain that was routed chooses clusters by the first request."""
    return chain.http is not None and not chain.refusal and not chain.clusters


def compile_routes(chain: FilterChain, slots: Mapping[str, int]) -> HttpRoutes:
    """The table of a chain that chooses by request. Raises ValueError for what cannot be compiled."""
    routes, http = chain.route_config, chain.http
    if routes is None or http is None:
        raise ValueError(f"filter chain {chain.name}: no routes")
    hosts = tuple(_host(one, slots) for one in routes.virtual_hosts)
    ignores_port = routes.ignore_port_in_host_matching or http.ignores_port
    return HttpRoutes.compile(HttpRoutesSpec(hosts, ignores_port, http.normalizes_path))


def _host(host: VirtualHost, slots: Mapping[str, int]) -> HttpHostSpec:
    return HttpHostSpec(host.domains, tuple(_route(one, slots) for one in host.routes), bool(host.refusal))


def _route(route: Route, slots: Mapping[str, int]) -> HttpRouteSpec:
    match = route.match
    kind = _PATHS.get(match.kind, "unknown")
    if match.kind == "prefix":
        kind = "prefix" if match.value not in ("/", "") else "any"
    served = route.action == "route" and not route.refusal
    return HttpRouteSpec(
        path_kind=kind,
        path=match.value,
        ignore_case=not match.case_sensitive,
        headers=tuple(HeaderSpec(*astuple(one)) for one in match.headers),
        is_known=match.asks_headers_alone,
        targets=tuple((slots[name], weight) for name, weight in route.clusters if weight) if served else (),
    )


def refused_routes(routes: RouteConfiguration) -> tuple[str, ...]:
    """Which routes and virtual hosts refuse, and why, in sentences."""
    found = []
    for host in routes.virtual_hosts:
        if host.refusal:
            found.append(f"virtual host {host.name}: {host.refusal}")
            continue
        for number, route in enumerate(host.routes, 1):
            if why := _why_refused(route):
                found.append(f"virtual host {host.name}, route {number}: {why}")
    return tuple(found)


def _why_refused(route: Route) -> str:
    if route.refusal:
        return route.refusal
    if route.action != "route":
        return f"{route.action} is not served"
    if not route.clusters:
        return "a header of the request would say the cluster (cluster_header)"
    unknown = [one for one in route.match.conditions if not one.startswith("headers ")]
    unknown += [f"headers {one.name}" for one in route.match.headers if one.kind == "unknown"]
    if route.match.kind in ("safe_regex", "path_match_policy"):
        unknown.append(f"a path by {route.match.kind}")
    return f"it asks for {', '.join(unknown)}, which is not known here" if unknown else ""
