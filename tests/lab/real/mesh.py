"""The mesh under test: rules on both clusters, drained pods, and shares that are judged by what sampling allows."""

import math
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import yaml

from lab import objects
from lab.istio import NAMESPACE, istioctl
from lab.lab import Lab
from lab.settings import CLUSTERS, Cluster
from lab.shell import wait_for
from lab.traffic import Answers, ask, envoy_admin

from .rules import SERVICES, Object

# Five standard deviations: one run in a million is off by chance.
DEVIATIONS = 5.0
CHECKED, COUNTED = 10, 100
ECHO = {"app": "echoserver"}
SHOW_UNHEALTHY = "PILOT_AUTO_SEND_UNHEALTHY_ENDPOINTS"
KINDS = ("destinationrule", "virtualservice")


def allowance(share: float, count: int) -> float:
    """By how much a share of that many connections may differ from the expected one."""
    return DEVIATIONS * math.sqrt(share * (1 - share) / count)


class Mesh:
    """The running lab, as the tests use it. Rows of the table that the run ends with are added to ``table``."""

    def __init__(self, lab: Lab, table: list[tuple[str, ...]]) -> None:
        self.lab = lab
        self.kubectl = lab.kubectl
        # Whether the table says what istioctl shows of the client at each stage; it takes a second each time.
        self.shows_endpoints = False
        self._table = table

    def row(self, stage: str, where: str, expected: str, seen: str, endpoints: str = "") -> None:
        self._table.append((stage, where, expected, seen, endpoints))

    def endpoints(self, client: Cluster, service: str) -> str:
        """What `istioctl proxy-config endpoint` shows of the client's sidecar: how many of which status and check."""
        if not self.shows_endpoints:
            return ""
        (pod,) = self.kubectl[client.name].pods("sleep", {"app": "sleep"})
        name = f"{pod['metadata']['name']}.sleep"
        flags = ("--cluster", f"outbound|80||{service}.default.svc.cluster.local")
        words = istioctl(self.lab.settings, self.kubectl[client.name], "proxy-config", "endpoint", name, *flags)
        lines = [line.split() for line in words.splitlines()[1:] if line.strip()]
        counted = Counter(f"{status} {check}" for _, status, check, *_ in lines)
        return ", ".join(f"{count} {what}" for what, count in sorted(counted.items()))

    def apply(self, rules: list[Object]) -> None:
        """The same on both clusters, as the article has it."""
        for kubectl in self.kubectl.values():
            kubectl.apply(*rules)

    def reset(self) -> None:
        """No rules, all pods ready and not drained."""
        for kubectl in self.kubectl.values():
            for kind in KINDS:
                kubectl.delete("default", kind, *SERVICES)
            kubectl("-n", "default", "scale", "deploy/echoserver", "--replicas=2")
        self.mesh_settings(None)

    def mesh_settings(self, settings: list[Object] | None) -> None:
        """serviceSettings of the mesh configuration, on both clusters."""
        for kubectl in self.kubectl.values():
            config = kubectl.get("-n", "istio-system", "configmap", "istio")
            mesh = yaml.safe_load(config["data"]["mesh"])
            if mesh.get("serviceSettings") == settings:
                continue
            mesh.pop("serviceSettings", None)
            if settings is not None:
                mesh["serviceSettings"] = settings
            patch = yaml.safe_dump({"data": {"mesh": yaml.safe_dump(mesh)}})
            kubectl("-n", "istio-system", "patch", "configmap", "istio", "--type=merge", "-p", patch)

    def answers(
        self,
        stage: str,
        client: Cluster,
        service: str,
        shares: dict[str, float],
        count: int = COUNTED,
        *,
        tries: int = 1,
    ) -> None:
        """Wait until the client is answered by these and nobody else; then count, and judge the shares.

        ``tries``: how often to count again after a failed request, where the client's Envoy is still finding out who
        is gone: it ejects an endpoint when a request has met it.
        """
        wanted = {who for who, share in shares.items() if share}
        kubectl = self.kubectl[client.name]

        def as_wanted() -> bool:
            seen = ask(kubectl, service, CHECKED)
            return set(seen.answers) == wanted and not seen.failed

        expected = ", ".join(f"{who} {share:.0%}" for who, share in sorted(shares.items()) if share)
        for _ in range(tries):
            wait_for(f"{stage}: {client.name} {service}", as_wanted, seconds=60)
            seen = ask(kubectl, service, count)
            self.row(stage, f"{client.name} {service}", expected, str(seen), self.endpoints(client, service))
            if not seen.failed:
                break
        assert not seen.failed, seen.errors
        for who, share in shares.items():
            off = abs(seen.share(who) - share)
            assert off <= allowance(share, count), (
                f"{stage}, {client.name} {service}: {who} should get {share:.0%}: {seen}"
            )

    def drain(self, cluster: Cluster, *, first: int = 0, pods: int = 2) -> None:
        """Make sidecars of the services refuse new connections, from the first on; the pods stay Ready."""
        for pod in self.kubectl[cluster.name].pods("default", ECHO)[first : first + pods]:
            envoy_admin(self.kubectl[cluster.name], "default", pod["metadata"]["name"], "/drain_listeners", "POST")

    def restart(self, cluster: Cluster, namespace: str = "default", name: str = "echoserver") -> None:
        kubectl = self.kubectl[cluster.name]
        kubectl("-n", namespace, "rollout", "restart", f"deploy/{name}")
        kubectl.wait_rolled_out(namespace, name)

    @contextmanager
    def unhealthy_hidden(self) -> Iterator[None]:
        """Both istiods as until 1.30: pods that are not ready are no endpoints."""
        self._istiods_with(f"{SHOW_UNHEALTHY}=false")
        try:
            yield
        finally:
            self._istiods_with(f"{SHOW_UNHEALTHY}-")

    def _istiods_with(self, setting: str) -> None:
        for kubectl in self.kubectl.values():
            kubectl("-n", NAMESPACE, "set", "env", "deploy/istiod", setting)
        for kubectl in self.kubectl.values():
            kubectl.wait_rolled_out(NAMESPACE, "istiod")

    def set_ready(self, cluster: Cluster, pod: str, ready: bool) -> None:
        words = ("rm", "-f", objects.UNREADY) if ready else ("touch", objects.UNREADY)
        self.kubectl[cluster.name].exec("default", pod, "echoserver", *words)


def every(check: Callable[[Cluster, str], None]) -> None:
    """Both ways, both services."""
    for cluster in CLUSTERS.values():
        for service in SERVICES:
            check(cluster, service)


__all__ = ["Answers", "Mesh", "allowance", "every"]
