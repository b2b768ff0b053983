"""Kubernetes objects that the lab applies. Pure: dictionaries in, dictionaries out."""

from base64 import b64encode
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from .settings import HUB, TAG, Cluster, Proxies
from .sidecars import annotations

Object = dict[str, Any]
COREFILE = """.:53 {
    errors
    health
    ready
    kubernetes cluster.local in-addr.arpa ip6.arpa {
        pods insecure
        ttl 5
    }
    cache 5
    reload
}
"""
# Namespace and name of the Deployments of `apps`.
APPS = (("default", "echoserver"), ("sleep", "sleep"))
UNREADY = "/tmp/unready"
RBAC = "rbac.authorization.k8s.io"


def image(name: str) -> str:
    return f"{HUB}/{name}:{TAG}"


def namespace(name: str, labels: Mapping[str, str] | None = None) -> Object:
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": dict(labels or {})}}


def secret(name: str, where: str, content: Mapping[str, bytes]) -> Object:
    data = {key: b64encode(value).decode() for key, value in content.items()}
    return {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name, "namespace": where}, "data": data}


def service_account(name: str, where: str) -> Object:
    return {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": name, "namespace": where}}


def service(name: str, where: str, app: str, ports: Sequence[Mapping[str, Any]]) -> Object:
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name, "namespace": where, "labels": {"app": app}},
        "spec": {"selector": {"app": app}, "ports": list(ports)},
    }


def deployment(
    name: str,
    where: str,
    container: Object,
    *,
    replicas: int = 1,
    annotations: Mapping[str, str] | None = None,
    **pod: Any,
) -> Object:
    """A Deployment with one container named after it; ``pod``: further fields of the pod's spec."""
    container = {"name": name, "imagePullPolicy": "Never", **container}
    template = {
        "metadata": {"labels": {"app": name}, "annotations": dict(annotations or {})},
        "spec": {"terminationGracePeriodSeconds": 1, "containers": [container], **pod},
    }
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name, "namespace": where},
        "spec": {"replicas": replicas, "selector": {"matchLabels": {"app": name}}, "template": template},
    }


def role_binding(name: str, role: str, subject: Object) -> Object:
    return {
        "apiVersion": f"{RBAC}/v1",
        "kind": "ClusterRoleBinding",
        "metadata": {"name": name},
        "roleRef": {"apiGroup": RBAC, "kind": "ClusterRole", "name": role},
        "subjects": [subject],
    }


def dns(cluster: Cluster) -> Iterator[Object]:
    """CoreDNS, and the one binding of kube-proxy that kubeadm would make."""
    meta = {"name": "coredns", "namespace": "kube-system"}
    rules = [
        {"apiGroups": [""], "resources": ["endpoints", "services", "pods", "namespaces"], "verbs": ["list", "watch"]},
        {"apiGroups": ["discovery.k8s.io"], "resources": ["endpointslices"], "verbs": ["list", "watch"]},
    ]
    yield service_account("coredns", "kube-system")
    yield {"apiVersion": f"{RBAC}/v1", "kind": "ClusterRole", "metadata": {"name": "coredns"}, "rules": rules}
    yield role_binding("coredns", "coredns", {"kind": "ServiceAccount", **meta})
    yield {"apiVersion": "v1", "kind": "ConfigMap", "metadata": meta, "data": {"Corefile": COREFILE}}
    ports = [{"name": "dns", "port": 53, "protocol": "UDP"}, {"name": "dns-tcp", "port": 53, "protocol": "TCP"}]
    kube_dns = service("kube-dns", "kube-system", "coredns", ports)
    kube_dns["spec"]["clusterIP"] = cluster.dns_ip
    yield kube_dns
    yield deployment(
        "coredns",
        "kube-system",
        {
            "image": image("coredns"),
            "args": ["-conf", "/etc/coredns/Corefile"],
            "readinessProbe": {"httpGet": {"path": "/ready", "port": 8181}, "periodSeconds": 1},
            "volumeMounts": [{"name": "config", "mountPath": "/etc/coredns"}],
        },
        serviceAccountName="coredns",
        dnsPolicy="Default",
        volumes=[{"name": "config", "configMap": {"name": "coredns"}}],
    )
    user = {"apiGroup": RBAC, "kind": "User", "name": "system:kube-proxy"}
    yield role_binding("lab:node-proxier", "system:node-proxier", user)


def apps(cluster: Cluster, proxies: Proxies) -> Iterator[Object]:
    """The article's services, two pods of them, and a client; all injected, with these proxies."""
    injected = {"istio-injection": "enabled"}
    yield namespace("default", injected)
    yield namespace("sleep", injected)
    yield deployment(
        "echoserver",
        "default",
        {
            "image": image("app"),
            "args": ["/app/echo.py", cluster.greeting, "$(POD_NAME)"],
            "env": [{"name": "POD_NAME", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}],
            # A file makes the pod not ready: the server answers all the same.
            "readinessProbe": {
                "exec": {"command": ["test", "!", "-e", UNREADY]},
                "periodSeconds": 1,
                "failureThreshold": 1,
            },
        },
        replicas=2,
        annotations=annotations(proxies.server),
    )
    yield service("echo-svc", "default", "echoserver", [{"name": "http", "port": 80, "targetPort": 8080}])
    yield service("echo-tcp", "default", "echoserver", [{"name": "tcp", "port": 80, "targetPort": 9090}])
    yield service_account("sleep", "sleep")
    sleeping = {"image": image("app"), "args": ["-c", "import time; time.sleep(1e9)"]}
    yield deployment("sleep", "sleep", sleeping, annotations=annotations(proxies.client), serviceAccountName="sleep")
