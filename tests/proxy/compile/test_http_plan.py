"""Routes of HTTP chains as clusters: every chain of a real sidecar that has one destination, and what refuses."""

from dataclasses import replace
from types import MappingProxyType

import pytest
from eastgate.proxy.compile.http_plan import (
    by_request,
    clusters_of,
    compile_routes,
    refused_routes,
    routed,
    routed_chain,
    single_destination,
    used_routes,
)
from eastgate.proxy.compile.listener_plan import chain_spec
from eastgate.xds.decode_listener import decode_listener
from eastgate.xds.decode_route import decode_route
from eastgate.xds.resources import FilterChain, FilterChainMatch, HttpManager, Snapshot
from eastgate.xds.route import HeaderMatch, Redirect, Route, RouteConfiguration, RouteMatch, VirtualHost
from eastgate.xds.tls_records import TlsSettings

from ...support.recordings import LDS, RDS, recorded

ALL = RouteMatch("prefix", "/")


def route(match: RouteMatch = ALL, *clusters: tuple[str, int]) -> Route:
    return Route(match, "route", clusters=clusters or (("a", 1),))


def configuration(*routes: Route, domains: tuple[str, ...] = ("*",)) -> RouteConfiguration:
    return RouteConfiguration("r", (VirtualHost("v", domains, routes),))


def test_one_route_for_everybody_is_a_destination() -> None:
    assert single_destination(configuration(route())) == (("a", 1),)
    assert single_destination(configuration(route(ALL, ("a", 3), ("b", 1)))) == (("a", 3), ("b", 1))
    # What stands behind a route for everybody is never reached.
    assert single_destination(configuration(route(), route(ALL, ("b", 1)))) == (("a", 1),)
    assert single_destination(configuration(route(), domains=("a.example", "*"))) == (("a", 1),)


MANY = {
    "by host": configuration(route(), domains=("a.example",)),
    "by path": configuration(route(RouteMatch("prefix", "/a")), route(ALL, ("b", 1))),
    "by header": configuration(route(replace(ALL, conditions=("headers x",)))),
    "no route": configuration(),
    "redirect": configuration(Route(ALL, "redirect", redirect=Redirect())),
    "direct response": configuration(Route(ALL, "direct_response", response_status=200)),
    "cluster of a header": configuration(Route(ALL, "route", cluster_header="x")),
    "refused route": configuration(replace(route(), refusal="no")),
}


@pytest.mark.parametrize("why", MANY)
def test_no_other_has_one(why: str) -> None:
    assert single_destination(MANY[why]) is None


def http_chain(**fields: object) -> FilterChain:
    chain = FilterChain("c", FilterChainMatch(), http=HttpManager(), route_config_name="r")
    return replace(chain, **fields)  # type: ignore[arg-type]


def test_a_chain_refuses_for_its_filters_its_routes_or_their_absence() -> None:
    one = configuration(route())
    assert routed_chain(http_chain(), one).clusters == (("a", 1),)
    assert routed_chain(http_chain(refusal="no"), one).refusal == "no"
    assert "missing" in routed_chain(http_chain(), None).refusal
    assert "unusable: bad" in routed_chain(http_chain(), replace(one, refusal="bad")).refusal
    sealed = http_chain(tls=TlsSettings(is_server=True))
    assert routed_chain(sealed, one).refusal == ""
    assert "requests come sealed" in routed_chain(sealed, MANY["by host"]).refusal


def test_routes_choose_where_requests_do() -> None:
    routes = RouteConfiguration(
        "r",
        (
            VirtualHost("one", ("one",), (route(replace(ALL, value="/x"), ("a", 1)), route(ALL, ("b", 1), ("c", 0)))),
            VirtualHost("two", ("two",), (Route(ALL, "redirect", redirect=Redirect()),)),
            VirtualHost("closed", ("three",), (route(),), "no"),
        ),
        ignore_port_in_host_matching=True,
    )
    chain = routed_chain(http_chain(), routes)
    assert by_request(chain)
    assert clusters_of(chain) == {"a", "b", "c"}
    table = compile_routes(chain, {"a": 1, "b": 2, "c": 3})

    def chosen(host: str, target: str) -> tuple[str, int]:
        return table.choose(f"GET {target} HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())

    assert chosen("one:80", "/x/y") == ("found", 1)
    assert chosen("one", "/") == ("found", 2)
    assert chosen("two", "/") == chosen("three", "/") == ("closed", -1)
    assert chosen("four", "/") == ("nobody", -1)
    spec = chain_spec(chain, {"a": 1, "b": 2, "c": 3}, name="c")
    assert (spec.targets, spec.is_http, spec.sets_alpn) == ((), True, False)
    assert spec.http_routes is not None
    assert refused_routes(routes) == (
        "virtual host two, route 1: redirect is not served",
        "virtual host closed: no",
    )


NOT_KNOWN = {
    "runtime_fraction": RouteMatch("prefix", "/", conditions=("runtime_fraction",)),
    "headers x": RouteMatch("prefix", "/", conditions=("headers x",), headers=(HeaderMatch("x", "unknown"),)),
    "a path by safe_regex": RouteMatch("safe_regex", "/.*"),
}


@pytest.mark.parametrize("what", NOT_KNOWN)
def test_what_routes_ask_and_nobody_knows_is_named(what: str) -> None:
    routes = configuration(route(NOT_KNOWN[what]), route())
    assert refused_routes(routes) == (f"virtual host v, route 1: it asks for {what}, which is not known here",)
    table = compile_routes(routed_chain(http_chain(), routes), {"a": 1})
    assert table.choose(b"GET / HTTP/1.1\r\nHost: a\r\nx: 1\r\n\r\n").choice == "unknown"


@pytest.mark.parametrize("stage", ["1-default", "11-strict-authz"])
@pytest.mark.parametrize("role", ["gke-sidecar-echo", "anthos-sidecar-echo"])
def test_inbound_chains_of_real_sidecars_serve(stage: str, role: str) -> None:
    resources = recorded(stage, role)
    routes = {name: decode_route(raw)[0] for name, raw in resources[RDS].items()}
    snapshot = Snapshot(routes=MappingProxyType(routes))
    inbound = decode_listener(resources[LDS]["virtualInbound"])[0]
    found = routed(inbound, used_routes(inbound, snapshot))
    for chain in found.filter_chains:
        assert (chain.refusal, len(chain.clusters)) == ("", 1), chain.name
    by_kind = {bool(chain.http): chain for chain in found.filter_chains if chain.match.destination_port == 8080}
    assert by_kind[True].clusters == by_kind[False].clusters == (("inbound|8080||", 1),)
    if stage == "11-strict-authz":
        assert by_kind[True].policies[0].is_http
        assert not by_kind[False].policies[0].is_http


def test_outbound_chains_of_one_service_serve() -> None:
    resources = recorded("1-default", "gke-sidecar")
    routes = {name: decode_route(raw)[0] for name, raw in resources[RDS].items()}
    snapshot = Snapshot(routes=MappingProxyType(routes))
    outbound = decode_listener(resources[LDS]["10.28.0.80_80"])[0]
    found = routed(outbound, used_routes(outbound, snapshot))
    assert found.filter_chains[0].clusters == (("outbound|80||echo-svc.default.svc.cluster.local", 1),)
    assert used_routes(outbound, Snapshot()) == (None, None)


def test_a_listener_without_http_is_left_alone() -> None:
    inbound = decode_listener(recorded("1-default", "gke-gateway")[LDS]["0.0.0.0_15443"])[0]
    assert used_routes(inbound, Snapshot()) == ()
    assert routed(inbound, ()) is inbound


def test_outbound_ports_of_many_services_choose_by_host_and_address() -> None:
    resources = recorded("9-subsets", "gke-sidecar")
    routes = {name: decode_route(raw)[0] for name, raw in resources[RDS].items()}
    outbound = decode_listener(resources[LDS]["0.0.0.0_80"])[0]
    found = routed(outbound, used_routes(outbound, Snapshot(routes=MappingProxyType(routes))))
    (chain,) = [one for one in found.filter_chains if one.http is not None]
    names = sorted(clusters_of(chain))
    slots = {name: number for number, name in enumerate(names)}
    table = compile_routes(chain, slots)
    httpbin = slots["outbound|80||httpbin-svc.sleep.svc.cluster.local"]
    for host in ("httpbin-svc", "httpbin-svc.sleep", "httpbin-svc.sleep.svc.cluster.local:80", "10.28.0.90"):
        assert table.choose(f"GET / HTTP/1.1\r\nHost: {host}\r\n\r\n".encode()).slot == httpbin
    assert table.choose_authority("10.28.0.90:80").slot == httpbin
    # The subset that istiod chose for this client.
    assert names[table.choose_authority("10.28.0.80:80").slot] == "outbound|80|gke|echo-svc.default.svc.cluster.local"
    assert names[table.choose(b"GET / HTTP/1.1\r\nHost: example.org\r\n\r\n").slot] == "PassthroughCluster"
    assert names[table.choose_authority("192.0.2.1:80").slot] == "PassthroughCluster"
    assert chain.http is not None
    assert chain.http.sets_alpn
