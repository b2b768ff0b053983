"""VirtualServices of many services."""

import pytest
from eastgate.mesh.mesh_file import parse
from eastgate.mesh.routes import RoutesByHost, of_host
from eastgate.mesh.service_entries import services_of

HOSTS = [
    ["web"],
    ["web.shop.svc.cluster.local"],
    ["*.shop.svc.cluster.local", "web"],
    ["*"],
    ["a.example", "b.example"],
    ["*.example"],
]
SERVICES = """\
kind: Mesh
clusters: {west: {}}
services:
  - {name: web, namespace: shop, ports: [{name: tcp, port: 80}]}
  - {name: web, ports: [{name: tcp, port: 80}]}
  - {name: db, ports: [{name: tcp, port: 80}]}
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: x, namespace: shop}
spec: {hosts: [a.example, "*.example"], resolution: NONE, ports: [{number: 80, name: tcp, protocol: TCP}]}
"""


@pytest.mark.parametrize("namespace", ["shop", "default"])
def test_an_index_of_virtual_services_finds_those_of_a_host(namespace: str) -> None:
    text = SERVICES
    for at, hosts in enumerate(HOSTS):
        names = ", ".join(f"'{host}'" for host in hosts)
        text += "---\napiVersion: networking.istio.io/v1\nkind: VirtualService\n"
        text += f"metadata: {{name: v{at}, namespace: {namespace}}}\n"
        text += f"spec: {{hosts: [{names}], tcp: [{{route: [{{destination: {{host: db}}}}]}}]}}\n"
    mesh = parse(text, "x").mesh
    resources = mesh.of_kind("VirtualService", "west")
    services = services_of(mesh, "west")
    assert len(services) == 5
    index = RoutesByHost(resources)
    for service in services:
        assert index.of(service) == tuple(of_host(resources, service))
    assert index.of(services[0])
