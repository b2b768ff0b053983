"""Which mode a port has: of the port, the workload, its namespace, the mesh; UNSET is what stands above."""

import pytest
from eastgate.mesh.peer_authentication import namespace_mode, workload_modes

from .sidecars import peer_authentication, read

LABELS = {"app": "web"}
SELECTOR = "selector: {matchLabels: {app: web}}"


def aged(spec: str, name: str, age: str, namespace: str = "shop") -> str:
    return peer_authentication(spec, name=name, namespace=namespace, more=f', creationTimestamp: "{age}"')


MESH_STRICT = aged("{mtls: {mode: STRICT}}", "mesh", "2020", "istio-system")
NAMESPACE_DISABLE = aged("{mtls: {mode: DISABLE}}", "namespace", "2020")


@pytest.mark.parametrize(
    ("documents", "mode", "port"),
    [
        ((), "PERMISSIVE", "PERMISSIVE"),
        ((MESH_STRICT,), "STRICT", "STRICT"),
        ((MESH_STRICT, NAMESPACE_DISABLE), "DISABLE", "DISABLE"),
        ((MESH_STRICT, aged("{mtls: {mode: UNSET}}", "namespace", "2020")), "STRICT", "STRICT"),
        ((MESH_STRICT, aged(f"{{{SELECTOR}, mtls: {{mode: PERMISSIVE}}}}", "own", "2020")), "PERMISSIVE", "PERMISSIVE"),
        (
            (MESH_STRICT, aged(f"{{{SELECTOR}, portLevelMtls: {{80: {{mode: DISABLE}}}}}}", "own", "2020")),
            "STRICT",
            "DISABLE",
        ),
        (
            (aged(f"{{{SELECTOR}, mtls: {{mode: STRICT}}, portLevelMtls: {{80: {{mode: UNSET}}}}}}", "own", "2020"),),
            "STRICT",
            "STRICT",
        ),
        # Of two for the same the older, whichever stands first.
        (
            (aged("{mtls: {mode: STRICT}}", "a", "2021"), aged("{mtls: {mode: DISABLE}}", "b", "2020")),
            "DISABLE",
            "DISABLE",
        ),
        # Ports of another policy of the workload's are not asked.
        (
            (
                aged(f"{{{SELECTOR}, mtls: {{mode: STRICT}}}}", "a", "2020"),
                aged(f"{{{SELECTOR}, portLevelMtls: {{80: {{mode: DISABLE}}}}}}", "b", "2021"),
            ),
            "STRICT",
            "STRICT",
        ),
        # A selector in the root namespace is for nobody.
        (
            (aged(f"{{{SELECTOR}, mtls: {{mode: STRICT}}}}", "mesh", "2020", "istio-system"),),
            "PERMISSIVE",
            "PERMISSIVE",
        ),
    ],
)
def test_the_narrowest_that_says_something_counts(documents: tuple[str, ...], mode: str, port: str) -> None:
    modes = workload_modes(read(*documents).mesh, "a", "shop", LABELS)
    assert (modes.of(443), modes.of(80)) == (mode, port)


def test_workloads_of_the_root_namespace_have_the_meshs() -> None:
    mesh = read(MESH_STRICT, aged(f"{{{SELECTOR}, mtls: {{mode: DISABLE}}}}", "own", "2020", "istio-system")).mesh
    assert workload_modes(mesh, "a", "istio-system", LABELS).of(80) == "STRICT"


def test_a_namespace_is_not_asked_for_its_workloads() -> None:
    mesh = read(aged(f"{{{SELECTOR}, mtls: {{mode: DISABLE}}}}", "own", "2020")).mesh
    assert namespace_mode(mesh, "a", "shop") == "PERMISSIVE"
