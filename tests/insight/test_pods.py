"""Pods with a proxy, found and reached by kubectl: a program on PATH that speaks as the real one."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from eastgate.insight.dump_source import live_proxy
from eastgate.insight.errors import InsightError, NoSuchPageError, UnreachableError
from eastgate.insight.kubectl import Kubectl, KubectlError
from eastgate.insight.mesh_walk import contexts, walk
from eastgate.insight.pods import ForwardedAdmin, found_pod, pod_of, reached, sampled

from ..support.admin_pages import envoy_pages, serving
from ..support.fake_kubectl import install, pod

WEB = {"app": "web"}
ROUTER = ("proxy", "router")
PODS = [
    pod("web-b", labels=WEB),
    pod("web-a", labels=WEB, phase="Pending"),
    pod("bare", container=""),
    pod("gw-1", namespace="istio-system", args=ROUTER, labels={"app": "eastwest"}),
    pod("native", namespace="shop", native=True),
    pod("ours", namespace="istio-system", container="eastgate", args=("gateway",), labels={"app": "ours"}),
    pod("deaf", namespace="shop"),
]
OBJECTS = {
    "deploy/web": {"spec": {"selector": {"matchLabels": WEB}}},
    "service/web": {"spec": {"selector": WEB}},
    "deploy/gone": {"spec": {"selector": {"matchLabels": {"app": "gone"}}}},
}


@pytest.fixture
def kubectl(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Kubectl]:
    with serving(envoy_pages("anthos-sidecar")) as sidecar, serving(envoy_pages("gke-gateway")) as gateway:
        admins = {"default/web-b": sidecar, "istio-system/gw-1": gateway, "shop/native": sidecar}
        cluster: dict[str, Any] = {"pods": PODS, "objects": OBJECTS, "admins": admins}
        known = {
            "west": cluster,
            "east": {**cluster, "pods": PODS[3:4]},
            "strict": {**cluster, "forbidden": ["port-forward"]},
            "closed": {**cluster, "forbidden": ["port-forward", "exec"]},
            "down": None,
            "empty": {"pods": [PODS[2]]},
            "deaf": {"pods": [PODS[6]]},
        }
        for key, value in install(tmp_path, known).items():
            monkeypatch.setenv(key, value)
        yield Kubectl()


@pytest.mark.parametrize(
    ("text", "name", "container", "role"),
    [
        ("web-b", "web-b.default", "istio-proxy", "sidecar"),
        ("web-b.default", "web-b.default", "istio-proxy", "sidecar"),
        ("pod/gw-1.istio-system", "gw-1.istio-system", "istio-proxy", "router"),
        ("native.shop", "native.shop", "istio-proxy", "sidecar"),
        ("ours.istio-system", "ours.istio-system", "eastgate", "router"),
        # The pod that runs, though another comes before it by name.
        ("deploy/web", "web-b.default", "istio-proxy", "sidecar"),
        ("service/web.default", "web-b.default", "istio-proxy", "sidecar"),
    ],
)
def test_pods_are_found_by_what_people_call_them(
    kubectl: Kubectl, text: str, name: str, container: str, role: str
) -> None:
    found = found_pod(kubectl, text)
    assert (found.text, found.container, found.role) == (name, container, role)


@pytest.mark.parametrize(
    ("context", "text", "reason"),
    [
        ("", "nobody", r'--pod nobody: kubectl: Error from server \(NotFound\): pods "nobody" not found'),
        ("", "bare", r"--pod bare: no proxy in it \(containers: app\): is it injected\?"),
        ("", "deploy/nothing", r'--pod deploy/nothing: kubectl: .* "nothing" not found'),
        ("", "deploy/gone", r"--pod deploy/gone: no running pod of deploy/gone \(app=gone\)"),
        ("", "cronjob/x", 'the server doesn\'t have a resource type "cronjob"'),
        ("", "/x", r"--pod '/x': expected NAME\[.NAMESPACE\] or deploy/NAME"),
        ("nowhere", "web-b", 'kubectl: error: context "nowhere" does not exist'),
        # Attempts come before the reason.
        ("down", "web-b", r"kubectl: The connection to the server localhost:8080 was refused"),
    ],
)
def test_what_is_not_there_is_one_line(kubectl: Kubectl, context: str, text: str, reason: str) -> None:
    with pytest.raises(InsightError, match=reason) as raised:
        found_pod(Kubectl(context=context), text)
    assert "\n" not in str(raised.value)


def test_without_kubectl_it_is_named() -> None:
    with pytest.raises(KubectlError, match=r"^--pod x: no-such-kubectl: not found on PATH"):
        found_pod(Kubectl("no-such-kubectl"), "x")
    with pytest.raises(KubectlError, match="not found on PATH"), Kubectl("no-such-kubectl").forwarded("x", "", 1):
        pass


def test_a_forwarded_port_ends_with_the_context(kubectl: Kubectl) -> None:
    with reached(kubectl, found_pod(kubectl, "web-b")) as admin:
        proxy = live_proxy(admin, more=True)
    assert isinstance(admin, ForwardedAdmin)
    assert proxy.source == "pod web-b.default"
    assert len(proxy.clusters) > 10
    with pytest.raises(UnreachableError, match=r"^pod web-b\.default: /clusters: "):
        admin.read("/clusters")


def test_where_ports_may_not_be_forwarded_the_agent_is_asked(kubectl: Kubectl) -> None:
    strict = Kubectl(context="strict")
    with reached(strict, found_pod(strict, "gw-1.istio-system")) as admin:
        proxy = live_proxy(admin, more=True)
        with pytest.raises(NoSuchPageError):
            admin.read("/debug/xds")
    assert proxy.source == "pod gw-1.istio-system (strict)"
    assert proxy.node is not None
    assert proxy.node.type == "router"


def test_where_nothing_may_be_asked_that_is_said(kubectl: Kubectl) -> None:
    closed = Kubectl(context="closed")
    with (
        reached(closed, found_pod(closed, "web-b")) as admin,
        pytest.raises(UnreachableError, match=r"pod web-b.default \(closed\): .*Forbidden.*pods/exec"),
    ):
        live_proxy(admin)


def test_a_pod_whose_admin_does_not_listen(kubectl: Kubectl) -> None:
    with (
        reached(kubectl, found_pod(kubectl, "deaf.shop")) as admin,
        pytest.raises(UnreachableError, match=r"^pod deaf\.shop: /clusters\?format=json: "),
    ):
        live_proxy(admin)


def test_gateways_and_one_sidecar_a_workload_are_sampled() -> None:
    contents = [
        *(pod(f"gw-{n}", namespace="istio-system", args=ROUTER, labels={"app": "gw"}) for n in range(5)),
        *(pod(f"w{w}-{n}", labels={"app": f"w{w}"}) for w in range(6) for n in range(3)),
        pod("old", phase="Succeeded"),
        pod("bare", container=""),
    ]
    names = [one.name for one in sampled(contents, sidecars=3)]
    assert names == ["gw-0", "gw-1", "gw-2", "w0-0", "w2-0", "w4-0"]
    assert len(sampled(contents, sidecars=0)) == 3 + 6


def test_proxies_of_several_clusters_side_by_side(kubectl: Kubectl) -> None:
    told: list[tuple[int, int]] = []
    found = walk(
        tuple(contexts(kubectl, ("west", "east"))),
        sidecars=10,
        port=15000,
        told=lambda done, total, name: told.append((done, total)),
    )
    assert [one.source for one in found.proxies] == [
        "pod gw-1.istio-system (west)",
        "pod web-b.default (west)",
        "pod native.shop (west)",
        "pod gw-1.istio-system (east)",
    ]
    # eastgate's pod and another have no admin there: said, and no reason to stop.
    assert [one.partition(": ")[0] for one in found.failures] == [
        "pod ours.istio-system (west)",
        "pod deaf.shop (west)",
    ]
    assert told == [(done, 6) for done in range(1, 7)]


@pytest.mark.parametrize(
    ("context", "reason"), [("empty", "no running pod with a proxy in empty"), ("deaf", "none of 1 proxies answered")]
)
def test_a_mesh_without_an_answer_is_an_error(kubectl: Kubectl, context: str, reason: str) -> None:
    with pytest.raises(InsightError, match="--mesh: " + reason):
        walk(tuple(contexts(kubectl, (context,))), sidecars=1, port=15000, told=lambda *_: None)


def test_a_pod_without_labels_is_known_by_its_owner() -> None:
    content = pod("web-abc")
    content["metadata"]["ownerReferences"] = [{"name": "web-5d4"}]
    found = pod_of(content)
    assert found is not None
    assert found.workload == "web-5d4"
