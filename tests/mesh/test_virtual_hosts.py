"""RDS of a sidecar: hosts by port, short names as seen from a namespace, VirtualServices and what no host is."""

from dataclasses import replace
from typing import Any

from eastgate.mesh.model import Mesh
from envoy_data_plane.envoy.config.route.v3 import Route, VirtualHost

from .sidecars import applied, read, routes, sidecar

WEB, API = "web.shop.svc.cluster.local", "api.shop.svc.cluster.local"


def hosts(mesh: Mesh, name: str = "80", client: str = "client", **metadata: Any) -> dict[str, VirtualHost]:
    return {one.name: one for one in routes(mesh, sidecar(mesh, client, **metadata))[name].virtual_hosts}


def targets(found: list[Route]) -> list[str]:
    """Where routes lead, in short."""
    texts = []
    for one in found:
        if one.route and one.route.weighted_clusters:
            texts.append(
                "+".join(f"{part.name.split('|')[2]}:{part.weight}" for part in one.route.weighted_clusters.clusters)
            )
        elif one.route:
            texts.append(one.route.cluster or "")
        else:
            texts.append(
                "redirect" if one.redirect else f"status {one.direct_response.status if one.direct_response else 0}"
            )
    return texts


def routed(http: str, more: str = "") -> Mesh:
    return read(applied("VirtualService", f"{{hosts: [{WEB}], {more}http: {http}}}")).mesh


def test_http_services_of_a_port_share_one_configuration() -> None:
    mesh = read().mesh
    found = hosts(mesh)
    assert list(found) == [f"{API}:80", f"{WEB}:80", "allow_any"]
    assert found[f"{WEB}:80"].domains == [WEB, f"{WEB}.", "web", "web.shop.svc", "web.shop", "10.9.0.1"]
    assert targets(found["allow_any"].routes) == ["PassthroughCluster"]


def test_other_namespaces_need_the_services_own() -> None:
    mesh = read().mesh
    elsewhere = replace(sidecar(mesh, "client"), domain="other.svc.cluster.local")
    found = {one.name: one for one in routes(mesh, elsewhere)["80"].virtual_hosts}
    assert found[f"{WEB}:80"].domains == [WEB, f"{WEB}.", "web.shop", "web.shop.svc", "10.9.0.1"]


def test_a_sniffed_port_leads_to_its_service_whatever_the_host() -> None:
    (host,) = hosts(read().mesh, "any.shop.svc.cluster.local:7000").values()
    assert host.domains == ["*"]
    assert targets(host.routes) == ["outbound|7000||any.shop.svc.cluster.local"]


def test_what_no_host_is_may_be_refused() -> None:
    mesh = read(applied("Sidecar", "{outboundTrafficPolicy: {mode: REGISTRY_ONLY}}")).mesh
    assert targets(hosts(mesh)["block_all"].routes) == ["status 502"]


def test_routes_end_with_the_first_that_takes_everything() -> None:
    mesh = routed(
        "[{name: a, match: [{uri: {prefix: /a}}, {headers: {x: {exact: b}}}], route: [{destination: {host: api}}]},"
        " {route: [{destination: {host: web, subset: v1}, weight: 9},"
        " {destination: {host: web, subset: v2}, weight: 1}]},"
        " {route: [{destination: {host: never}}]}]"
    )
    found = hosts(mesh)[f"{WEB}:80"].routes
    assert targets(found) == [f"outbound|80||{API}", f"outbound|80||{API}", "v1:9+v2:1"]
    assert [one.decorator.operation for one in found if one.decorator] == [f"{API}:80/a*", f"{API}:80/*", "x:80/*"]
    assert found[0].match
    assert found[0].match.prefix == "/a"
    assert found[1].match
    (header,) = found[1].match.headers
    assert header.string_match
    assert (header.name, header.string_match.exact) == ("x", "b")


def test_a_match_is_for_some_proxies_and_ports() -> None:
    mesh = routed(
        "[{match: [{sourceLabels: {app: other}}, {sourceNamespace: other}, {port: 81}], redirect: {uri: /gone}},"
        " {match: [{sourceLabels: {app: client}, port: 80}], directResponse: {status: 503}}]"
    )
    assert targets(hosts(mesh)[f"{WEB}:80"].routes) == ["status 503"]
    # Nothing is for this one: the service's own route.
    assert targets(hosts(mesh, client="web-1")[f"{WEB}:80"].routes) == [f"outbound|80||{WEB}"]


def test_the_most_specific_host_counts() -> None:
    wide = applied(
        "VirtualService", '{hosts: ["*.shop.svc.cluster.local"], http: [{directResponse: {status: 501}}]}', name="a"
    )
    own = applied("VirtualService", f"{{hosts: [{WEB}], http: [{{directResponse: {{status: 502}}}}]}}", name="b")
    found = hosts(read(wide, own).mesh)
    assert targets(found[f"{WEB}:80"].routes) == ["status 502"]
    assert targets(found[f"{API}:80"].routes) == ["status 501"]


def test_a_name_that_no_service_has_is_served_on_port_80() -> None:
    mesh = read(
        applied("VirtualService", "{hosts: [shop.example], http: [{route: [{destination: {host: web}}]}]}")
    ).mesh
    found = hosts(mesh)
    assert found["shop.example:80"].domains == ["shop.example"]
    assert targets(found["shop.example:80"].routes) == [f"outbound|80||{WEB}"]


def test_retries_and_timeouts_of_a_route() -> None:
    mesh = routed(
        "[{timeout: 3s, retries: {attempts: 4, perTryTimeout: 1s, retryOn: 'connect-failure,503'},"
        " route: [{destination: {host: web}}]}]"
    )
    (route,) = hosts(mesh)[f"{WEB}:80"].routes
    assert route.route
    policy = route.route.retry_policy
    assert policy
    assert route.route.timeout
    assert (route.route.timeout.total_seconds(), policy.num_retries) == (3, 4)
    assert policy.retry_on == "connect-failure,retriable-status-codes"
    assert policy.retriable_status_codes == [503]


def test_what_is_no_status_is_left_to_the_proxy() -> None:
    """A number that no field of Envoy holds is a word like any other."""
    huge = "9" * 5000
    mesh = routed(f"[{{retries: {{attempts: 1, retryOn: '503,{huge},²'}}, route: [{{destination: {{host: web}}}}]}}]")
    (route,) = hosts(mesh)[f"{WEB}:80"].routes
    assert route.route
    policy = route.route.retry_policy
    assert policy
    assert policy.retriable_status_codes == [503]
    assert policy.retry_on == f"{huge},²,retriable-status-codes"


def test_retries_may_be_switched_off() -> None:
    (route,) = hosts(routed("[{retries: {attempts: 0}, route: [{destination: {host: web}}]}]"))[f"{WEB}:80"].routes
    assert route.route
    assert route.route.retry_policy is None


def test_sources_are_hashed_where_the_rule_says_so() -> None:
    rule = applied(
        "DestinationRule", "{host: web, trafficPolicy: {loadBalancer: {consistentHash: {useSourceIp: true}}}}"
    )
    (route,) = hosts(read(rule).mesh)[f"{WEB}:80"].routes
    assert route.route
    (policy,) = route.route.hash_policy
    assert policy.connection_properties
    assert policy.connection_properties.source_ip
