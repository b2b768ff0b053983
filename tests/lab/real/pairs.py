"""Clients and servers of one namespace, each once beside eastgate and once beside stock Envoy: every pair of them."""

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from lab import objects
from lab.kubectl import Kubectl
from lab.objects import image
from lab.settings import PROXIES
from lab.sidecars import annotations
from lab.traffic import Client, envoy_admin

from .rules import Object

NAMESPACE = "pairs"
PROXY = "istio-proxy"
# Longer than what a drain takes until the proxy is ended; see lab/app/echo.py: it does not end at SIGTERM.
GRACE_S = 10
PORTS = [{"name": "http", "port": 8080, "targetPort": 8080}, {"name": "tcp", "port": 80, "targetPort": 9090}]
BARE = "bare"
SLEEPING = {"image": image("app"), "args": ["-c", "import time; time.sleep(1e9)"]}


def echo(greeting: str) -> Object:
    """The container of a server that answers with this word."""
    return {"image": image("app"), "args": ["/app/echo.py", greeting, greeting]}


def authentication(mode: str) -> Object:
    """What the servers ask of whoever connects: STRICT, PERMISSIVE or DISABLE."""
    return {
        "apiVersion": "security.istio.io/v1",
        "kind": "PeerAuthentication",
        "metadata": {"name": "default", "namespace": NAMESPACE},
        "spec": {"mtls": {"mode": mode}},
    }


def pod(name: str, proxy: str, container: Object, role: str, **config: Any) -> Object:
    """A Deployment of one pod with this sidecar, and a service account of its role; ``bare``: without sidecar.

    ``config``: of the sidecar's ProxyConfig.
    """
    account = name if role in {"client", "server"} else "default"
    chosen = annotations(proxy, **config)
    one = objects.deployment(name, NAMESPACE, container, annotations=chosen, serviceAccountName=account)
    template = one["spec"]["template"]
    template["metadata"]["labels"]["role"] = role
    template["spec"]["terminationGracePeriodSeconds"] = 1 if role == "client" else GRACE_S
    if proxy == BARE:
        template["metadata"]["labels"]["sidecar.istio.io/inject"] = "false"
    return one


def world() -> Iterator[Object]:
    """A client and a server of each kind, a client without sidecar; services of each server and of both."""
    yield objects.namespace(NAMESPACE, {"istio-injection": "enabled"})
    yield authentication("STRICT")
    for proxy in (*PROXIES, BARE):
        yield objects.service_account(f"client-{proxy}", NAMESPACE)
        yield pod(f"client-{proxy}", proxy, SLEEPING, "client")
    for proxy in PROXIES:
        yield objects.service_account(f"server-{proxy}", NAMESPACE)
        yield pod(f"server-{proxy}", proxy, echo(proxy), "server")
        yield objects.service(f"server-{proxy}", NAMESPACE, f"server-{proxy}", PORTS)
    both = objects.service("servers", NAMESPACE, "", PORTS)
    both["spec"]["selector"] = {"role": "server"}
    yield both


class Pairs:
    """The world as tests use it."""

    def __init__(self, kubectl: Kubectl) -> None:
        self.kubectl = kubectl
        self.settings = kubectl.node.settings

    def start(self) -> None:
        self.kubectl.apply(*world())
        for one in world():
            if one["kind"] == "Deployment":
                self.kubectl.wait_rolled_out(NAMESPACE, one["metadata"]["name"])

    def client(self, proxy: str) -> Client:
        return Client(NAMESPACE, f"client-{proxy}")

    def pods(self, name: str) -> list[Object]:
        return self.kubectl.pods(NAMESPACE, {"app": name})

    def admin(self, name: str, path: str, method: str = "GET") -> str:
        """A page of the admin of the sidecar of a Deployment's only pod."""
        (one,) = self.pods(name)
        return envoy_admin(self.kubectl, NAMESPACE, one["metadata"]["name"], path, method)

    def version(self, name: str) -> str:
        """Which proxy it is, as its admin says."""
        return str(json.loads(self.admin(name, "/server_info"))["version"])

    def answered(self, client: str, host: str, count: int, kind: str = "tcp") -> Any:
        """Who answered the client beside that proxy at a service or address."""
        port = 80 if kind == "tcp" else 8080
        return self.client(client).ask(self.kubectl, kind, host, count, port)

    def restart(self, name: str) -> None:
        self.kubectl("-n", NAMESPACE, "rollout", "restart", f"deploy/{name}")
        self.kubectl.wait_rolled_out(NAMESPACE, name)


@contextmanager
def deployed(pairs: Pairs, *deployments: Object, ports: Sequence[Mapping[str, Any]] = PORTS) -> Iterator[None]:
    """These Deployments, each behind a service of its name, until the end."""
    names = [one["metadata"]["name"] for one in deployments]
    pairs.kubectl.apply(*deployments, *(objects.service(name, NAMESPACE, name, ports) for name in names))
    try:
        for name in names:
            pairs.kubectl.wait_rolled_out(NAMESPACE, name)
        yield
    finally:
        pairs.kubectl.delete(NAMESPACE, "deployment", *names)
        pairs.kubectl.delete(NAMESPACE, "service", *names)
