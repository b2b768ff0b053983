"""Accepted RouteConfigurations as the rest of eastgate sees them: frozen, plain. decode_route.py makes them.

A match is data, not code: whoever routes a request evaluates it. What may not be used says why in ``refusal``, as a
filter chain does; everything else around it stays usable.
"""

from dataclasses import field

from .record import record


@record
class HeaderMatch:
    """What a header of a request must say. ``kind``: exact, prefix, suffix, contains, present, or unknown for a regular
    expression or a range; ``inverted``: it must not. A header that is missing fulfils an inverted ``present`` alone,
    unless ``missing_is_empty``.
    """

    name: str
    kind: str
    text: str = ""
    ignore_case: bool = False
    inverted: bool = False
    missing_is_empty: bool = False


@record
class RouteMatch:
    """``kind``: prefix, path, safe_regex, path_separated_prefix, connect_matcher or path_match_policy, with its
    ``value`` (the type's name of the last, empty for connect_matcher).

    ``conditions``: what else a request must fulfil, as "headers end-user" or "runtime_fraction"; ``headers``: those of
    them that are headers, in the same order.
    """

    kind: str
    value: str = ""
    case_sensitive: bool = True
    conditions: tuple[str, ...] = ()
    headers: tuple[HeaderMatch, ...] = ()

    @property
    def asks_headers_alone(self) -> bool:
        """Whether, beside the path, nothing but headers is asked for."""
        return len(self.headers) == len(self.conditions)


@record
class Redirect:
    """Empty or 0: as the request has it."""

    host: str = ""
    path: str = ""
    scheme: str = ""
    port: int = 0
    response_code: int = 301


@record
class Route:
    """One route. ``action``: route, redirect, direct_response, non_forwarding_action or filter_action.

    Of action route, ``clusters`` are (name, weight) pairs, one of weight 1 for a plain cluster, and ``cluster_header``
    names the request header that says the cluster; one of the two is there.
    """

    match: RouteMatch
    action: str
    name: str = ""
    clusters: tuple[tuple[str, int], ...] = ()
    cluster_header: str = ""
    redirect: Redirect | None = None
    response_status: int = 0
    refusal: str = ""


@record
class VirtualHost:
    """``domains`` as sent: exact, "*.suffix", "prefix.*" or "*"; Envoy compares them without regard to case."""

    name: str
    domains: tuple[str, ...]
    routes: tuple[Route, ...] = ()
    refusal: str = ""


@record
class RouteConfiguration:
    """``refusal`` closes every chain that uses it; ``warnings`` name what the message holds and eastgate does not do.

    ``raw`` are the bytes inside the Any; equality ignores them.
    """

    name: str
    virtual_hosts: tuple[VirtualHost, ...] = ()
    ignore_port_in_host_matching: bool = False
    refusal: str = ""
    warnings: tuple[str, ...] = ()
    raw: bytes = field(default=b"", compare=False, repr=False)

    @property
    def clusters(self) -> frozenset[str]:
        """Names of the clusters that some route leads to."""
        routes = [route for host in self.virtual_hosts for route in host.routes]
        return frozenset(name for route in routes for name, _ in route.clusters)
