"""RouteConfigurations: what is read, what is rejected as Envoy rejects it, and what closes instead."""

from typing import Any

import pytest
from eastgate.xds.decode import decode_route
from eastgate.xds.decode_route import http_routes
from eastgate.xds.errors import XdsError
from eastgate.xds.message import encode, read
from eastgate.xds.route import HeaderMatch, Redirect, Route, RouteConfiguration, RouteMatch, VirtualHost

from ..support.encoded import field
from .istiod import number_field

ROUTE = "envoy.config.route.v3."
MANAGER = "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager"
ANY = {"prefix": "/"}


def route(**fields: Any) -> dict[str, Any]:
    return {"match": ANY, "route": {"cluster": "a"}, **fields}


def host(routes: Any = (), *, name: str = "h", domains: Any = ("*",), **fields: Any) -> bytes:
    return encode(ROUTE + "VirtualHost", {"name": name, "domains": domains, "routes": routes, **fields})


def configuration(*hosts: bytes, **fields: Any) -> bytes:
    return encode(ROUTE + "RouteConfiguration", {"name": "80", "virtual_hosts": hosts, **fields})


def decoded(*hosts: bytes, **fields: Any) -> RouteConfiguration:
    return decode_route(configuration(*hosts, **fields))[0]


def only(**fields: Any) -> Route:
    return decoded(host([route(**fields)])).virtual_hosts[0].routes[0]


def reason(*hosts: bytes, **fields: Any) -> str:
    with pytest.raises(XdsError) as caught:
        decoded(*hosts, **fields)
    assert (caught.value.kind, caught.value.resource) == ("RDS", "80")
    return caught.value.reason


def test_a_configuration() -> None:
    found = decoded(
        host([route(name="default")], name="a:80", domains=["a", "a.default", "10.96.0.80"]),
        host([route(route={"cluster": "PassthroughCluster"})], name="allow_any"),
        ignore_port_in_host_matching=True,
    )
    assert found == RouteConfiguration(
        "80",
        (
            VirtualHost(
                "a:80",
                ("a", "a.default", "10.96.0.80"),
                (Route(RouteMatch("prefix", "/"), "route", "default", (("a", 1),)),),
            ),
            VirtualHost(
                "allow_any", ("*",), (Route(RouteMatch("prefix", "/"), "route", "", (("PassthroughCluster", 1),)),)
            ),
        ),
        ignore_port_in_host_matching=True,
    )
    assert found.clusters == {"a", "PassthroughCluster"}


def test_matches_are_data() -> None:
    regex = {"google_re2": b"", "regex": "/v[0-9]+"}
    for fields, expected in (
        ({"path": "/x", "case_sensitive": False}, RouteMatch("path", "/x", case_sensitive=False)),
        ({"safe_regex": regex}, RouteMatch("safe_regex", "/v[0-9]+")),
        ({"path_separated_prefix": "/api"}, RouteMatch("path_separated_prefix", "/api")),
        ({"connect_matcher": b""}, RouteMatch("connect_matcher")),
        ({"path_match_policy": {"name": "template"}}, RouteMatch("path_match_policy", "template")),
        # Envoy takes an empty prefix: it matches every path.
        ({"prefix": ""}, RouteMatch("prefix", "")),
        (
            {**ANY, "headers": [field(1, b"end-user")], "query_parameters": [field(1, b"q")], "runtime_fraction": b""},
            RouteMatch(
                "prefix",
                "/",
                conditions=("headers end-user", "query_parameters q", "runtime_fraction"),
                headers=(HeaderMatch("end-user", "present"),),
            ),
        ),
    ):
        assert only(match=fields).match == expected


def test_where_routes_lead() -> None:
    weighted = {"clusters": [{"name": "a", "weight": 80}, {"name": "b", "weight": 20}, {"name": "c", "weight": 0}]}
    assert only(route={"weighted_clusters": weighted}).clusters == (("a", 80), ("b", 20), ("c", 0))
    assert only(route={"cluster_header": "x-cluster"}).cluster_header == "x-cluster"
    redirect = {"match": ANY, "redirect": {"https_redirect": True, "port_redirect": 443, "response_code": "FOUND"}}
    answer = {"match": ANY, "direct_response": {"status": 404}}
    found = decoded(host([redirect, answer])).virtual_hosts[0].routes
    assert found[0].redirect == Redirect(scheme="https", port=443, response_code=302)
    assert (found[1].action, found[1].response_status) == ("direct_response", 404)


@pytest.mark.parametrize(
    ("hosts", "expected"),
    [
        ([host([], name="a", domains=["A.b"]), host([], name="b", domains=["a.B"])], "domain 'a.b' stands there more"),
        ([host([], domains=[])], "virtual host 'h' has no domain"),
        ([host([], domains=["a", ""])], "virtual host 'h' has an empty domain"),
        ([host([], name="")], "a virtual host without a name"),
        ([host([{"match": ANY}])], "virtual host 'h', route 1: no action"),
        ([host([route(), {"route": {"cluster": "a"}}])], "virtual host 'h', route 2: match without a path"),
        ([host([route(route={"timeout": "1s"})])], "route names no cluster"),
        ([host([route(match={"safe_regex": {}})])], "match.safe_regex.regex is empty"),
        ([host([route(match={"path_separated_prefix": "/a/"})])], "match.path_separated_prefix is '/a/'"),
        ([host([route(route={"weighted_clusters": {}})])], "weighted_clusters holds no cluster"),
        ([host([route(route={"weighted_clusters": {"clusters": [{"name": "a"}]}})])], "a cluster without a weight"),
        ([host([route(route={"weighted_clusters": {"clusters": [{"name": "a", "weight": 0}]}})])], "weights sum to 0"),
        ([host([route(route={"weighted_clusters": {"clusters": [{"weight": 1}]}})])], "exactly one of name and"),
        ([host([{"match": ANY, "direct_response": {"status": 99}}])], "direct_response.status is 99"),
        ([host([{"match": ANY, "redirect": {"response_code": 9}}])], "redirect.response_code 9 is unknown"),
    ],
)
def test_what_envoy_rejects(hosts: list[bytes], expected: str) -> None:
    assert expected in reason(*hosts)


def test_broken_bytes_are_rejected_by_name() -> None:
    with pytest.raises(XdsError, match="RDS 80 rejected: "):
        decode_route(configuration(host([route()]) + b"\x0a\xff"))


def test_a_policy_closes_what_it_stands_at() -> None:
    policy = {
        "typed_per_filter_config": {"envoy.filters.http.rbac": {"@type": "type.googleapis.com/x.Y", "@value": b""}}
    }
    found = decoded(host([route(), route(**policy)], name="a", domains=["a"]), host([], **policy))
    assert [one.refusal for one in found.virtual_hosts[0].routes] == [
        "",
        "settings of HTTP filters (typed_per_filter_config) are not evaluated",
    ]
    assert [bool(one.refusal) for one in found.virtual_hosts] == [False, True]
    assert found.refusal == ""
    assert decoded(**policy).refusal
    assert decoded(vhds=b"").refusal
    assert "require_tls" in decoded(host([], require_tls="ALL")).virtual_hosts[0].refusal
    assert "metadata_match" in only(route={"cluster": "a", "metadata_match": {}}).refusal
    assert "plugin" in only(route={"cluster_specifier_plugin": "p"}).refusal
    header = {"clusters": [{"cluster_header": "x", "weight": 1}]}
    assert "cluster_header" in only(route={"weighted_clusters": header}).refusal
    assert only(route={"weighted_clusters": header}).clusters == ()


def test_unknown_fields_close_the_configuration() -> None:
    unknown = number_field(99, 1)
    assert decode_route(configuration() + unknown)[0].refusal == "unknown fields: #99"
    assert decoded(host([]) + unknown).refusal == "unknown fields: virtual_hosts[0].#99"
    deep = encode(ROUTE + "RouteAction", {"cluster": "a"}) + unknown
    raw_route = field(1, encode(ROUTE + "RouteMatch", ANY)) + field(2, deep)
    assert decoded(host() + field(3, raw_route)).refusal == "unknown fields: virtual_hosts[0].routes[0].route.#99"


def test_what_is_not_done_is_listed() -> None:
    hashing = route(route={"cluster": "a", "hash_policy": [b""], "timeout": "1s", "retry_policy": b""})
    found = decoded(
        host([hashing, hashing], name="a", domains=["a"]),
        host([hashing], response_headers_to_remove=["x"]),
        request_headers_to_remove=["y"],
    )
    assert found.warnings == (
        "request_headers_to_remove: headers are not changed",
        "routes.route.hash_policy: only tcp_proxy.hash_policy gives connections a hash (2 virtual hosts)",
        "response_headers_to_remove: headers are not changed (1 virtual host)",
    )


@pytest.mark.parametrize(
    ("action", "why"),
    [
        ({"prefix_rewrite": "/x"}, "prefix_rewrite /x"),
        ({"regex_rewrite": b""}, "rewrite paths"),
        ({"host_rewrite_literal": "b"}, "rewrite the host"),
        ({"auto_host_rewrite": True}, "rewrite the host"),
        # To itself.
        ({"prefix_rewrite": "/"}, ""),
    ],
)
def test_routes_that_would_change_bytes_refuse(action: dict[str, Any], why: str) -> None:
    found = decoded(host([route(route={"cluster": "a", **action})])).virtual_hosts[0].routes[0]
    assert why in found.refusal
    assert bool(why) == bool(found.refusal)


def header_match(**fields: Any) -> HeaderMatch:
    raw = encode(ROUTE + "HeaderMatcher", {"name": "X-Y", **fields})
    found = decoded(host([route(match={**ANY, "headers": [raw]})])).virtual_hosts[0].routes[0].match
    assert found.conditions == ("headers X-Y",)
    assert found.asks_headers_alone
    return found.headers[0]


def test_headers_are_read() -> None:
    assert header_match() == HeaderMatch("x-y", "present")
    assert header_match(present_match=True) == HeaderMatch("x-y", "present")
    assert header_match(present_match=False) == HeaderMatch("x-y", "present", inverted=True)
    assert header_match(present_match=False, invert_match=True) == HeaderMatch("x-y", "present")
    assert header_match(exact_match="a") == HeaderMatch("x-y", "exact", "a")
    assert header_match(prefix_match="a", invert_match=True) == HeaderMatch("x-y", "prefix", "a", inverted=True)
    assert header_match(
        string_match={"suffix": "a", "ignore_case": True}, treat_missing_header_as_empty=True
    ) == HeaderMatch("x-y", "suffix", "a", ignore_case=True, missing_is_empty=True)
    assert header_match(string_match={"safe_regex": {"regex": "a"}}) == HeaderMatch("x-y", "unknown")
    assert header_match(safe_regex_match={"regex": "a"}) == HeaderMatch("x-y", "unknown")
    assert header_match(range_match={"end": 2}) == HeaderMatch("x-y", "unknown")
    # What a header that is missing counts as is known all the same.
    assert header_match(
        string_match={"safe_regex": {"regex": "a"}}, invert_match=True, treat_missing_header_as_empty=True
    ) == HeaderMatch("x-y", "unknown", inverted=True, missing_is_empty=True)


def test_known_virtual_hosts_are_not_read_again() -> None:
    first, hosts = decode_route(configuration(host([route()], name="a", domains=["a"])))
    second, _ = decode_route(configuration(host([route()], name="a", domains=["a"]), host([])), hosts)
    assert second.virtual_hosts[0] is first.virtual_hosts[0]
    assert len(second.virtual_hosts) == 2


def managed(**fields: Any) -> Any:
    packed = encode(MANAGER, fields)
    return {"name": "hcm", "typed_config": {"@type": f"type.googleapis.com/{MANAGER}", **read(MANAGER, packed)}}


def test_routes_of_a_chain() -> None:
    assert http_routes([{"name": "tcp"}]) == ("", None, "")
    assert http_routes([{"name": "x"}, managed(rds={"route_config_name": "80"})]).name == "80"
    inline = http_routes([managed(route_config=configuration(host([route()])))]).inline
    assert inline is not None
    assert inline.clusters == {"a"}
    assert "inline routes are unusable: virtual host 'h' has no domain" in (
        http_routes([managed(route_config=configuration(host([], domains=[])))]).refusal
    )
    assert "scoped_routes" in http_routes([managed(scoped_routes=b"")]).refusal
