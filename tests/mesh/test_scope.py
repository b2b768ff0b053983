"""What a Sidecar leaves of the mesh: hosts, ports, and what VirtualServices lead to."""

from dataclasses import replace

import pytest
from eastgate.mesh.errors import MeshError
from eastgate.mesh.mesh_file import parse
from eastgate.mesh.model import Mesh
from eastgate.mesh.scope import scope_of

from .sidecars import MESH, applied, clusters, listeners, read, sidecar

ROOT = "istio-system"


def hosts(mesh: Mesh, name: str = "client") -> set[str]:
    return {one.host.removesuffix(".svc.cluster.local") for one in scope_of(mesh, sidecar(mesh, name)).services}


EVERY = {"web.shop", "api.shop", "data.shop", "any.shop", "pods.shop", "far.other"}


@pytest.mark.parametrize(
    ("wanted", "left"),
    [
        ('["*/*"]', EVERY),
        ('["./*"]', EVERY - {"far.other"}),
        ('["other/*"]', {"far.other"}),
        ('["shop/web.shop.svc.cluster.local"]', {"web.shop"}),
        ('["*/*.other.svc.cluster.local", "./data.shop.svc.cluster.local"]', {"far.other", "data.shop"}),
        ('["~/*"]', set()),
        ('["*/*", "~other/*"]', EVERY - {"far.other"}),
    ],
)
def test_hosts_of_an_egress_entry(wanted: str, left: set[str]) -> None:
    mesh = read(applied("Sidecar", f"{{egress: [{{hosts: {wanted}}}]}}")).mesh
    assert hosts(mesh) == left


def test_a_host_that_only_a_route_leads_to_has_a_cluster_and_no_listener() -> None:
    sidecars = applied("Sidecar", '{egress: [{hosts: ["./data.shop.svc.cluster.local"]}]}')
    route = (
        "{hosts: [data.shop.svc.cluster.local], tcp: [{route: [{destination: {host: far.other.svc.cluster.local}}]}]}"
    )
    mesh = read(sidecars, applied("VirtualService", route)).mesh
    node = sidecar(mesh, "client")
    names = clusters(mesh, node)
    assert {name for name in names if name.startswith("outbound|")} == {
        "outbound|5432||data.shop.svc.cluster.local", "outbound|5432||far.other.svc.cluster.local",
    }  # fmt: skip
    assert set(listeners(mesh, node)) == {"10.9.0.3_5432", "virtualOutbound", "virtualInbound"}


def test_the_most_special_sidecar_counts_and_of_equals_the_oldest() -> None:
    def hidden(name: str, host: str, selector: str = "", namespace: str = "shop", age: str = "2024") -> str:
        more = f', creationTimestamp: "{age}"'
        spec = f'{{{selector}egress: [{{hosts: ["*/{host}.svc.cluster.local"]}}]}}'
        return applied("Sidecar", spec, name=name, namespace=namespace, more=more)

    root = hidden("all", "far.other", namespace=ROOT)
    assert hosts(read(root).mesh) == {"far.other"}
    own = hidden("own", "data.shop", age="2023")
    assert hosts(read(root, own, hidden("a-younger", "any.shop")).mesh) == {"data.shop"}
    chosen = hidden("chosen", "web.shop", "workloadSelector: {labels: {app: client}}, ")
    mesh = read(root, own, chosen).mesh
    assert hosts(mesh) == {"web.shop"}
    assert hosts(mesh, "web-1") == {"data.shop"}


def test_what_says_nothing_is_exported_as_mesh_config_has_it() -> None:
    """Services of Kubernetes and of entries; one with a word of its own keeps it."""
    private = MESH.replace("clusters:", "meshConfig: {defaultServiceExportTo: [.]}\nclusters:", 1)
    spoken = private.replace("{name: far,", "{name: far, export_to: ['*'],")
    entry = applied(
        "ServiceEntry",
        "{hosts: [a.b], resolution: DNS, ports: [{number: 80, name: tcp, protocol: TCP}]}",
        namespace="other",
    )
    assert hosts(read(entry).mesh) == {*EVERY, "a.b"}
    assert hosts(parse(private + entry, "x").mesh) == EVERY - {"far.other"}
    assert hosts(parse(spoken + entry, "x").mesh) == EVERY
    assert hosts(parse(private + entry.replace("other", "shop"), "x").mesh) == {*EVERY, "a.b"} - {"far.other"}


def test_a_gateway_has_no_sidecar() -> None:
    mesh = read(applied("Sidecar", '{egress: [{hosts: ["~/*"]}]}')).mesh
    assert len(scope_of(mesh, replace(sidecar(mesh, "client"), type="router")).services) == len(EVERY)


@pytest.mark.parametrize(
    ("spec", "cause"),
    [
        ("{egress: [{hosts: [web]}]}", "not of the form namespace/dnsName"),
        ("{egress: [{hosts: []}]}", "hosts"),
        ('{egress: [{hosts: ["*/*"]}, {hosts: ["./*"]}]}', "must be the last one"),
        ('{egress: [{bind: 127.0.0.1, hosts: ["*/*"]}]}', "captureMode: NONE"),
        ("{}", "at least one of"),
        (
            '{ingress: [{port: {number: 80, protocol: TCP}, defaultEndpoint: "unix:///x"}]}',
            "unix sockets are not known",
        ),
        (
            '{ingress: [{port: {number: 80, protocol: TCP}, defaultEndpoint: "10.0.0.1:80"}]}',
            "is none of 127.0.0.1:PORT",
        ),
        ("{ingress: [{port: {number: 80, protocol: TCP}}, {port: {number: 80, protocol: HTTP}}]}", "stands twice"),
    ],
)
def test_what_istiod_refuses_is_refused_with_its_cause(spec: str, cause: str) -> None:
    with pytest.raises(MeshError, match=cause):
        read(applied("Sidecar", spec))
