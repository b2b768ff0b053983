"""Which hosts a change concerns: all that it can, and nothing is predicted otherwise for looking at fewer."""

from collections.abc import Callable

import pytest
from eastgate.mesh.mesh_file import parse
from eastgate.mesh.model import Mesh
from eastgate.trial import prediction
from eastgate.trial.changed import changed_hosts

MESH = """\
kind: Mesh
clusters:
  west:
    workloads:
      - {name: web-1, address: 10.1.0.1, labels: {app: web, version: v1}}
      - {name: web-2, address: 10.1.0.2, labels: {app: web, version: v2}}
      - {name: db-1, address: 10.1.0.3, labels: {app: db}}
      - {name: client, address: 10.1.0.9, labels: {app: client}}
services:
  - {name: web, ports: [{name: tcp, port: 80, targetPort: 8080}], selector: {app: web}}
  - {name: db, ports: [{name: tcp, port: 5432}], selector: {app: db}}
  - {name: other, ports: [{name: tcp, port: 1}], selector: {app: other}}
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: web}
spec: {host: web, subsets: [{name: v1, labels: {version: v1}}]}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: web}
spec: {hosts: [web], tcp: [{route: [{destination: {host: web, subset: v1}}]}]}
---
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: {name: default}
spec: {mtls: {mode: STRICT}}
"""
WEB, DB = "web.default.svc.cluster.local", "db.default.svc.cluster.local"
CASES: list[tuple[str, str, set[str] | None]] = [
    ("name: web-1", "name: web-1", set()),
    ("{version: v1}}]", "{version: v2}}]", {WEB}),
    ("spec: {host: web,", 'spec: {host: "*.local",', {WEB, DB, "other.default.svc.cluster.local"}),
    ("destination: {host: web, subset: v1}", "destination: {host: db, port: {number: 5432}}", {WEB, DB}),
    ("name: db-1,", "name: db-1, ready: false,", {DB}),
    ("labels: {app: client}", "labels: {app: web}", {WEB}),
    ("mode: STRICT", "mode: DISABLE", None),
    ("port: 5432", "port: 5433", {DB}),
    ("kind: Mesh", "kind: Mesh\noptions: {send_unhealthy_endpoints: false}", None),
]


@pytest.mark.parametrize(("old", "new", "hosts"), CASES)
def test_hosts_of_a_change(old: str, new: str, hosts: set[str] | None) -> None:
    assert old in MESH
    assert changed_hosts(parse(MESH, "x").mesh, parse(MESH.replace(old, new), "x").mesh) == hosts


def everything(old: Mesh, new: Mesh) -> None:
    """What differs may concern every host."""


@pytest.mark.parametrize(("old", "new", "hosts"), CASES)
def test_what_moves_is_the_same_as_when_everything_is_looked_at(
    old: str, new: str, hosts: set[str] | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, after = parse(MESH, "x").mesh, parse(MESH.replace(old, new), "x").mesh
    found = prediction.moved(before, after)
    looked_at: Callable[[Mesh, Mesh], None] = everything
    monkeypatch.setattr(prediction, "changed_hosts", looked_at)
    assert found == prediction.moved(before, after)
    assert bool(found) == (old != new and old != "mode: STRICT" and "send_unhealthy" not in new)


ENTRY = """
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: api}
spec:
  hosts: [api.example]
  resolution: STATIC
  ports: [{number: 80, name: tcp, protocol: TCP}]
  endpoints: [{address: 192.0.2.1}]
"""
YOUNGER = """
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: younger}
spec: {hosts: [web], tcp: [{route: [{destination: {host: db, port: {number: 5432}}}]}]}
"""


def test_a_service_that_comes_concerns_its_host_and_who_is_led_there() -> None:
    """Destinations without a service are no clusters."""
    led = MESH.replace("destination: {host: web, subset: v1}", "destination: {host: api.example, port: {number: 80}}")
    old, new = parse(led, "x").mesh, parse(led + ENTRY, "x").mesh
    assert changed_hosts(old, new) == {"api.example", WEB}
    assert changed_hosts(parse(MESH, "x").mesh, parse(MESH + ENTRY, "x").mesh) == {"api.example"}


def test_where_the_next_route_leads_is_looked_at_too() -> None:
    """A route that goes leaves its connections to another VirtualService of the host."""
    old, new = (
        parse(MESH + YOUNGER, "x").mesh,
        parse(MESH.replace("hosts: [web]", "hosts: [other]") + YOUNGER, "x").mesh,
    )
    assert {WEB, DB} <= (changed_hosts(old, new) or frozenset())
    (change,) = [one for one in prediction.moved(old, new, ("west/client",)) if one.cluster == f"{WEB}:80"]
    assert (dict(change.before), dict(change.after)) == ({"west/web-1": 1.0}, {"west/db-1": 1.0})
