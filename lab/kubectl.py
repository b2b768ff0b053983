"""The API of one cluster, by kubectl in the network of its node."""

import json
from collections.abc import Iterable, Mapping
from typing import Any

import yaml

from .errors import LabError
from .node import Node
from .shell import program, wait_for

Object = dict[str, Any]
REPEATS = 3


class Kubectl:
    """What the lab asks of a cluster. Every method raises LabError with what the API server said."""

    def __init__(self, node: Node) -> None:
        self.node = node
        self.config = node.folder / "admin.kubeconfig"

    def argv(self, *arguments: Any) -> list[str]:
        """Words that run kubectl in the node's network."""
        kubectl = program("kubectl", self.node.settings.binaries)
        return [
            "nsenter",
            "-t",
            str(self.node.pid),
            "--net",
            kubectl,
            f"--kubeconfig={self.config}",
            *map(str, arguments),
        ]

    def __call__(self, *arguments: Any, **more: Any) -> str:
        return self.node.in_network(
            program("kubectl", self.node.settings.binaries), f"--kubeconfig={self.config}", *arguments, **more
        ).stdout

    def apply(self, *objects: Object | str) -> None:
        """Objects, or YAML text as it is."""
        text = "\n---\n".join(one if isinstance(one, str) else yaml.safe_dump(one) for one in objects)
        self("apply", "--server-side", "--force-conflicts", "-f", "-", input=text)

    def get(self, *arguments: Any) -> Any:
        return json.loads(self("get", *arguments, "-o", "json"))

    def delete(self, namespace: str, kind: str, *names: str) -> None:
        self("-n", namespace, "delete", kind, *names, "--ignore-not-found")

    def pods(self, namespace: str, labels: Mapping[str, str]) -> list[Object]:
        """Pods that are not being deleted, sorted by name."""
        selector = ",".join(f"{key}={value}" for key, value in labels.items())
        items = self.get("-n", namespace, "pods", "-l", selector)["items"]
        alive = [pod for pod in items if "deletionTimestamp" not in pod["metadata"]]
        return sorted(alive, key=lambda pod: str(pod["metadata"]["name"]))

    def rolled_out(self, namespace: str, names: Iterable[str]) -> bool:
        """Whether these Deployments are complete."""
        for name in names:
            self("-n", namespace, "rollout", "status", f"deploy/{name}", "--timeout=2s")
        return True

    def wait_rolled_out(self, namespace: str, name: str) -> None:
        """Wait until this Deployment is complete."""
        wait_for(f"{self.node.cluster.name} {namespace}/{name}", lambda: self.rolled_out(namespace, [name]))

    def exec(self, namespace: str, pod: str, container: str, *command: Any, **more: Any) -> str:
        """Standard output of a command in a container."""
        return self("-n", namespace, "exec", "-i", pod, "-c", container, "--", *command, **more)

    def expose(self, namespace: str, service: str, address: str) -> None:
        """The part of a cloud's load balancer: kube-proxy answers for this address."""
        status = {"status": {"loadBalancer": {"ingress": [{"ip": address}]}}}
        self(
            "-n",
            namespace,
            "patch",
            "service",
            service,
            "--subresource=status",
            "--type=merge",
            "-p",
            json.dumps(status),
        )


def named(objects: Iterable[Object], kind: str, name: str) -> Object:
    """The object of this kind and name. Raises LabError when there is none."""
    for one in objects:
        if one["kind"] == kind and one["metadata"]["name"] == name:
            return one
    raise LabError(f"no {kind} {name}")
