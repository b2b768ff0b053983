"""Pods that have a proxy in them, and the admin of such a proxy. Asks by kubectl; judges nothing that it says."""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

from eastgate.xds.record import record

from .dump_source import Admin, UrlAdmin
from .errors import InsightError, NoSuchPageError, UnreachableError
from .kubectl import ForbiddenError, Kubectl, KubectlError, in_namespace

ADMIN_PORT = 15000
PROXY_NAMES = ("istio-proxy", "eastgate", "envoy")
# Of what Istio writes on a pod, what tells pods of one workload from those of another.
WORKLOAD_LABELS = ("service.istio.io/canonical-name", "app.kubernetes.io/name", "app")
ROUTERS, SIDECARS = ("router", "gateway"), ("sidecar",)
PROXIES_OF_A_GATEWAY = 3


class NoPodError(InsightError):
    """No pod of that name, or none with a proxy in it."""

    exit_code = 1


@record
class Pod:
    """A pod with a proxy. ``container``: the proxy's. ``role``: router, sidecar, or empty where nothing tells."""

    name: str
    namespace: str
    container: str
    role: str
    workload: str

    @property
    def text(self) -> str:
        return f"{self.name}.{self.namespace}"


def found_pod(kubectl: Kubectl, text: str, *, said_by: str = "--pod") -> Pod:
    """The pod that NAME[.NAMESPACE] names, or a running one of KIND/NAME[.NAMESPACE]. Raises InsightError."""
    kind, slash, rest = text.rpartition("/")
    name, _, namespace = rest.rpartition(".") if "." in rest else (rest, "", "")
    if not name or (slash and not kind):
        raise InsightError(f"{said_by} {text!r}: expected NAME[.NAMESPACE] or deploy/NAME[.NAMESPACE]")
    place = in_namespace(namespace)
    try:
        if kind in ("", "po", "pod", "pods"):
            content = kubectl.json("get", "pod", name, *place)
        else:
            content = _pod_of(kubectl, kind, name, place)
    except KubectlError as error:
        raise type(error)(f"{said_by} {text}: {error}") from None
    pod = pod_of(content)
    if pod is None:
        containers = ", ".join(str(one.get("name")) for one in _containers(content)) or "none"
        raise NoPodError(f"{said_by} {text}: no proxy in it (containers: {containers}): is it injected?")
    return pod


def _pod_of(kubectl: Kubectl, kind: str, name: str, place: Sequence[str]) -> Mapping[str, Any]:
    """A pod of a workload or service: a running one first, by name. Raises KubectlError or NoPodError."""
    selector = kubectl.json("get", f"{kind}/{name}", *place).get("spec", {}).get("selector") or {}
    labels = selector.get("matchLabels", selector if "matchExpressions" not in selector else {})
    if not labels:
        raise KubectlError(f"{kind}/{name} selects no pods by labels: name a pod")
    query = ",".join(f"{key}={value}" for key, value in labels.items())
    pods = kubectl.json("get", "pods", *place, "--selector", query).get("items", [])
    usable = sorted((one for one in pods if is_running(one)), key=lambda one: str(one["metadata"]["name"]))
    if not usable:
        raise KubectlError(f"no running pod of {kind}/{name} ({query})")
    return next((one for one in usable if pod_of(one) is not None), usable[0])


def is_running(content: Mapping[str, Any]) -> bool:
    """Whether a pod runs and is not about to end."""
    return content.get("status", {}).get("phase") == "Running" and not content["metadata"].get("deletionTimestamp")


def _containers(content: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Containers that run beside each other: native sidecars are init containers that go on."""
    spec = content.get("spec", {})
    begun = [one for one in spec.get("initContainers") or () if one.get("restartPolicy") == "Always"]
    return [*(spec.get("containers") or ()), *begun]


def pod_of(content: Mapping[str, Any]) -> Pod | None:
    """A Pod object as one with a proxy; None for one without."""
    for container in _containers(content):
        name, image = str(container.get("name", "")), str(container.get("image", "")).rpartition("/")[2]
        if name in PROXY_NAMES or image.startswith(PROXY_NAMES):
            meta = content["metadata"]
            return Pod(
                str(meta["name"]), str(meta.get("namespace", "default")), name, role_of(container), workload_of(meta)
            )
    return None


def role_of(container: Mapping[str, Any]) -> str:
    """What the proxy was started as, by its arguments."""
    words = [str(one) for one in (*(container.get("command") or ()), *(container.get("args") or ()))]
    if any(word in ROUTERS for word in words):
        return "router"
    return "sidecar" if any(word in SIDECARS for word in words) else ""


def workload_of(meta: Mapping[str, Any]) -> str:
    """What pods of one workload have in common."""
    labels = meta.get("labels") or {}
    owners = meta.get("ownerReferences") or ()
    owner = str(owners[0].get("name", "")) if owners else str(meta["name"])
    return next((str(labels[key]) for key in WORKLOAD_LABELS if labels.get(key)), owner)


def sampled(contents: Iterable[Mapping[str, Any]], *, sidecars: int) -> list[Pod]:
    """Pods to look at in a cluster: up to three of each gateway, and one of so many workloads, spread evenly by name.

    ``sidecars`` 0: one of each workload.
    """
    pods = sorted(
        (pod for one in contents if is_running(one) and (pod := pod_of(one)) is not None),
        key=lambda pod: (pod.namespace, pod.workload, pod.name),
    )
    gateways: dict[tuple[str, str], list[Pod]] = {}
    others: dict[tuple[str, str], Pod] = {}
    for pod in pods:
        key = (pod.namespace, pod.workload)
        if pod.role == "router":
            gateways.setdefault(key, []).append(pod)
        else:
            others.setdefault(key, pod)
    first = [pod for group in gateways.values() for pod in group[:PROXIES_OF_A_GATEWAY]]
    chosen = list(others.values())
    if sidecars and len(chosen) > sidecars:
        chosen = [chosen[at * len(chosen) // sidecars] for at in range(sidecars)]
    return first + chosen


@record
class ForwardedAdmin:
    """Through a forwarded port."""

    name: str
    url: str

    def read(self, path: str) -> Any:
        """JSON of a page. Raises UnreachableError naming the pod."""
        try:
            return UrlAdmin(self.url).read(path)
        except UnreachableError as error:
            # The pod, and not the port of this machine, is what the reader knows.
            reason = str(error).removeprefix(self.url + path).lstrip(": ")
            raise type(error)(f"{self.name}: {path}: {reason}") from None


@record
class ExecAdmin:
    """Through `pilot-agent request` in the proxy's container, as istioctl asks."""

    name: str
    kubectl: Kubectl
    pod: Pod

    def read(self, path: str) -> Any:
        """JSON of a page. Raises UnreachableError naming the pod."""
        words = ("pilot-agent", "request", "GET", path.removeprefix("/"))
        try:
            place = in_namespace(self.pod.namespace)
            text = self.kubectl.text("exec", self.pod.name, *place, "-c", self.pod.container, "--", *words)
        except KubectlError as error:
            kind = NoSuchPageError if "404" in str(error) else UnreachableError
            raise kind(f"{self.name}: {path}: {error}") from None
        try:
            return json.loads(text)
        except ValueError:
            raise UnreachableError(f"{self.name}: {path}: the answer is not JSON") from None


@contextmanager
def reached(kubectl: Kubectl, pod: Pod, *, port: int = ADMIN_PORT) -> Iterator[Admin]:
    """The admin of the proxy in a pod: through a forwarded port, or by exec where that alone is allowed.

    Raises KubectlError.
    """
    name = f"pod {pod.text}" + (f" ({kubectl.context})" if kubectl.context else "")
    with ExitStack() as stack:
        admin: Admin
        try:
            local = stack.enter_context(kubectl.forwarded(pod.name, pod.namespace, port))
        except ForbiddenError:
            admin = ExecAdmin(name, kubectl, pod)
        except KubectlError as error:
            raise type(error)(f"{name}: {error}") from None
        else:
            admin = ForwardedAdmin(name, f"http://127.0.0.1:{local}")
        yield admin
