"""A small mesh for tests of what sidecars are sent, and what they are sent as plain data."""

from typing import Any

from eastgate.mesh.control_plane import cluster_resources, resources
from eastgate.mesh.mesh_file import MeshFile, parse
from eastgate.mesh.messages import CDS, LDS, RDS
from eastgate.mesh.model import Mesh
from eastgate.mesh.node_view import NodeView, node_view
from eastgate.xds.resources import Locality
from envoy_data_plane.envoy.config.cluster.v3 import Cluster
from envoy_data_plane.envoy.config.listener.v3 import FilterChain, Listener
from envoy_data_plane.envoy.config.route.v3 import RouteConfiguration

MESH = """\
kind: Mesh
clusters:
  a:
    network: na
    addresses: {web.shop: 10.9.0.1, api.shop: 10.9.0.2, data.shop: 10.9.0.3, any.shop: 10.9.0.4, far.other: 10.9.0.5}
    workloads:
      - {name: web-1, namespace: shop, address: 10.1.0.1, labels: {app: web}, service_account: web}
      - {name: web-2, namespace: shop, address: 10.1.0.2, labels: {app: web}, service_account: web}
      - {name: client, namespace: shop, address: 10.1.0.9, labels: {app: client}, service_account: client}
services:
  - {name: web, namespace: shop, selector: {app: web}, ports: [{name: http, port: 80, targetPort: 8080}]}
  - {name: api, namespace: shop, selector: {app: web}, ports: [{name: grpc, port: 80, targetPort: 8081}]}
  - {name: data, namespace: shop, selector: {app: web}, ports: [{name: tcp, port: 5432, targetPort: 5432}]}
  - {name: any, namespace: shop, selector: {app: web}, ports: [{port: 7000}]}
  - {name: pods, namespace: shop, selector: {app: web}, headless: true, ports: [{name: tcp, port: 9000}]}
  - {name: far, namespace: other, ports: [{name: tcp, port: 5432}]}
"""


NETWORKING, SECURITY = "networking.istio.io/v1", "security.istio.io/v1"


def applied(
    kind: str, spec: str, *, group: str = NETWORKING, name: str = "x", namespace: str = "shop", more: str = ""
) -> str:
    """A document with a resource; ``more``: of its metadata."""
    metadata = f"{{name: {name}, namespace: {namespace}{more}}}"
    return f"---\napiVersion: {group}\nkind: {kind}\nmetadata: {metadata}\nspec: {spec}\n"


def peer_authentication(spec: str, **place: str) -> str:
    """A document with a PeerAuthentication."""
    return applied("PeerAuthentication", spec, group=SECURITY, **place)


def authorization_policy(spec: str, **place: str) -> str:
    """A document with an AuthorizationPolicy."""
    return applied("AuthorizationPolicy", spec, group=SECURITY, **place)


def read(*documents: str) -> MeshFile:
    """The small mesh with these resources."""
    return parse(MESH + "".join(documents), "mesh.yaml")


def sidecar(mesh: Mesh, name: str = "web-1", **metadata: Any) -> NodeView:
    """A workload's sidecar."""
    workload = next(one for one in mesh.workloads if one.name == name)
    meta = {"CLUSTER_ID": "a", "NETWORK": "na", "NAMESPACE": workload.namespace, **metadata}
    domain = f"{workload.namespace}.svc.cluster.local"
    return node_view(f"sidecar~{workload.address}~{name}.{workload.namespace}~{domain}", meta, Locality(), mesh)


def listeners(mesh: Mesh, node: NodeView) -> dict[str, Listener]:
    """LDS by name."""
    return {name: Listener.parse(raw) for name, raw in resources(mesh, node)[LDS].items()}


def clusters(mesh: Mesh, node: NodeView) -> dict[str, Cluster]:
    """CDS by name."""
    return {name: Cluster.parse(raw) for name, raw in cluster_resources(mesh, node)[CDS].items()}


def routes(mesh: Mesh, node: NodeView) -> dict[str, RouteConfiguration]:
    """RDS by name."""
    return {name: RouteConfiguration.parse(raw) for name, raw in resources(mesh, node)[RDS].items()}


def kind_of(chain: FilterChain) -> str:
    """What a chain is, in short: "tls[istio] http +mtls"."""
    match = chain.filter_chain_match
    alpn = ",".join(match.application_protocols) if match else ""
    transport = match.transport_protocol if match else ""
    ends = "http" if chain.filters[-1].name.endswith("http_connection_manager") else "tcp"
    return f"{transport}{f'[{alpn}]' if alpn else ''} {ends}{' +mtls' if chain.transport_socket else ''}"
