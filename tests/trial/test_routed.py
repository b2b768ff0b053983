"""Where VirtualServices lead connections, and what a change of them moves."""

import pytest
from eastgate.mesh.mesh_file import parse
from eastgate.mesh.model import Mesh
from eastgate.mesh.scenario import workload_named
from eastgate.trial.prediction import moved, routes_text, routes_within
from eastgate.trial.routed import routed
from eastgate.trial.stand_ins import view_of

MESH = """\
kind: Mesh
clusters:
  west:
    workloads:
      - {name: v1-1, address: 10.1.0.1, labels: {app: web, version: v1}}
      - {name: v2-1, address: 10.1.0.2, labels: {app: web, version: v2}}
      - {name: client, address: 10.1.0.9, labels: {app: client}}
services:
  - name: web
    ports: [{name: tcp, port: 80, targetPort: 8080}, {name: http, port: 81}, {name: tls, port: 443}]
    selector: {app: web}
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: web}
spec:
  host: web
  subsets: [{name: v1, labels: {version: v1}}, {name: v2, labels: {version: v2}}]
"""
HOST = "web.default.svc.cluster.local"


def with_routes(routes: str) -> Mesh:
    head = "---\napiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: web}\n"
    return parse(f"{MESH}{head}spec:\n  hosts: [web, {HOST}]\n  {routes}\n", "x").mesh


def to(*parts: tuple[str, int]) -> str:
    return ", ".join(f"{{destination: {{host: web, subset: {name}}}, weight: {weight}}}" for name, weight in parts)


def tcp(*parts: tuple[str, int]) -> Mesh:
    return with_routes(f"tcp: [{{match: [{{port: 80}}], route: [{to(*parts)}]}}]")


def changes(old: Mesh, new: Mesh) -> dict[str, tuple[dict[str, float], dict[str, float], float]]:
    found = moved(old, new, ("west/client",))
    return {one.cluster: (dict(one.before), dict(one.after), one.points) for one in found}


PLAIN = parse(MESH, "x").mesh
OWN = f"outbound|80||{HOST}"


def test_weights_of_a_route_move_its_connections() -> None:
    found = changes(tcp(("v1", 100), ("v2", 0)), tcp(("v1", 75), ("v2", 25)))
    assert found == {f"{HOST}:80": ({"west/v1-1": 1.0}, {"west/v1-1": 0.75, "west/v2-1": 0.25}, pytest.approx(25))}


def test_a_route_that_comes_takes_from_the_services_own_cluster() -> None:
    (change,) = changes(PLAIN, tcp(("v2", 1))).items()
    assert change == (f"{HOST}:80", ({"west/v1-1": 0.5, "west/v2-1": 0.5}, {"west/v2-1": 1.0}, pytest.approx(50)))


def test_a_route_to_a_subset_that_nobody_defines_is_refused() -> None:
    (change,) = changes(tcp(("v1", 1)), tcp(("v3", 1))).values()
    assert change == ({"west/v1-1": 1.0}, {"refused": 1.0}, pytest.approx(100))


def test_a_route_by_server_name_counts_for_it_alone() -> None:
    name = f"match: [{{port: 443, sniHosts: [{HOST}]}}]"
    new = with_routes(f"tls: [{{{name}, route: [{to(('v1', 1))}]}}]")
    assert set(changes(PLAIN, new)) == {f"{HOST}:443 server name {HOST}"}


def test_requests_are_told_apart_by_what_their_route_asks() -> None:
    new = with_routes(
        f"http: [{{match: [{{uri: {{prefix: /v2}}, port: 81}}], route: [{to(('v2', 1))}]}},"
        f" {{match: [{{port: 81}}], route: [{to(('v1', 3), ('v2', 1))}]}}]"
    )
    found = changes(PLAIN, new)
    assert {place: change[1] for place, change in found.items()} == {
        f"{HOST}:81 http /v2*": {"west/v2-1": 1.0},
        f"{HOST}:81 http": {"west/v1-1": 0.75, "west/v2-1": 0.25},
    }


def test_what_no_route_is_for_is_answered() -> None:
    new = with_routes("http: [{match: [{uri: {exact: /a}, port: 81}], redirect: {uri: /b}}]")
    found = changes(PLAIN, new)
    assert found[f"{HOST}:81 http"][1] == {"answered 404": 1.0}
    assert found[f"{HOST}:81 http /a"][1] == {"answered with a redirect": 1.0}


def test_http_routes_are_not_for_a_tcp_port() -> None:
    assert changes(PLAIN, with_routes(f"http: [{{match: [{{port: 80}}], route: [{to(('v2', 1))}]}}]")) == {}


def test_the_same_routes_move_nothing() -> None:
    assert changes(tcp(("v1", 1), ("v2", 1)), tcp(("v1", 50), ("v2", 50))) == {}


def test_a_clients_routes_are_told_beside_its_endpoints() -> None:
    mesh = tcp(("v1", 9), ("v2", 1))
    node = view_of(mesh, workload_named(mesh, "west/client"), gateway=False)
    assert routes_text(mesh, node, routes_within(mesh, node, HOST)).splitlines()[1:] == [
        f"{'CONNECTIONS TO':<{len(HOST) + 3}}  GO TO",
        f"{HOST}:80  outbound|80|v1|{HOST} 90.0%, outbound|80|v2|{HOST} 10.0%",
    ]
    assert routes_text(mesh, node, routes_within(mesh, node, "")) == routes_text(
        mesh, node, routes_within(mesh, node, "outbound|80||")
    )
    assert routes_text(mesh, node, routes_within(mesh, node, "other")) == ""
    gateway = view_of(mesh, workload_named(mesh, "west/client"), gateway=True)
    assert routed(mesh, gateway) == {}


def test_a_cluster_that_a_client_does_not_have_is_told_beside_its_route() -> None:
    """A subset that nobody defines, or that a rule defines for others alone."""
    mesh = tcp(("v1", 9), ("v3", 1))
    node = view_of(mesh, workload_named(mesh, "west/client"), gateway=False)
    (line,) = routes_text(mesh, node, routes_within(mesh, node, HOST)).splitlines()[2:]
    assert line.endswith(f"outbound|80|v1|{HOST} 90.0%, outbound|80|v3|{HOST} (no such cluster: refused) 10.0%")
