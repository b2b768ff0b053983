"""Where connections of HTTP chains go: routes of a snapshot as the chain's clusters.

istiod's inbound chains have one route for every request, and so have outbound ones of a single service: these become
plain chains, and no request is read for them. Others refuse.
"""

from dataclasses import replace

from eastgate.xds.resources import FilterChain, Listener, Snapshot
from eastgate.xds.route import Route, RouteConfiguration

Used = tuple[RouteConfiguration | None, ...]
"""Routes by chain of a listener, the default chain last; None where there are none, or where they have not come."""


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
    """An HTTP chain with the clusters that every request goes to, or with why it refuses."""
    reason = chain.refusal or http_refusal(chain, routes)
    if reason or routes is None:
        return replace(chain, refusal=reason or "its routes are missing", clusters=())
    return replace(chain, clusters=single_destination(routes) or ())


def http_refusal(chain: FilterChain, routes: RouteConfiguration | None) -> str:
    """Why an HTTP chain whose filters are served refuses; empty when it does not, or when there are no routes."""
    if chain.http is None or routes is None:
        return ""
    if routes.refusal:
        return f"its routes ({routes.name or 'inline'}) are unusable: {routes.refusal}"
    if single_destination(routes) is None:
        return f"its routes ({routes.name or 'inline'}) choose clusters by request, which is not served"
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
