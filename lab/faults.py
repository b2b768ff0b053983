"""What can come between a gateway and istiod: a network that loses everything, a line that spoils bytes."""

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from . import gateways, line
from .errors import LabError
from .istio import NAMESPACE, PLAIN_PORT, TLS_PORT, istiod_address
from .kubectl import Kubectl, named
from .settings import Cluster
from .shell import run, wait_for

ISTIOD_HOST = f"istiod.{NAMESPACE}.svc"


def silence(istiod: str) -> str:
    """nftables: packets to and from this istiod are dropped, and no others.

    The port alone does not tell them. kube-proxy gives connections from outside any source port above 1023, now and
    then istiod's.
    """
    return f"""
        table inet silence {{
            chain out {{ type filter hook output priority 0; ip daddr {istiod} tcp dport {TLS_PORT} counter drop; }}
            chain in {{ type filter hook input priority 0; ip saddr {istiod} tcp sport {TLS_PORT} counter drop; }}
        }}"""


@contextmanager
def cut_off(kubectl: Kubectl) -> Iterator[None]:
    """The node's eastgate and istiod do not hear each other, and nobody tells them."""
    node = kubectl.node
    inside = ("nsenter", "-t", max(node.processes("eastgate")), "--net", "nft")
    run(*node.inside(*inside, "-f", "-"), input=silence(istiod_address(kubectl)))
    try:
        yield
        dropped = run(*node.inside(*inside, "list", "table", "inet", "silence")).stdout
        if "packets" not in dropped.replace("packets 0", ""):
            raise LabError(f"{node.cluster.name}: the gateway said nothing to istiod meanwhile")
    finally:
        run(*node.inside(*inside, "delete", "table", "inet", "silence"))


class BadLine:
    """`line.py` on the node, and the gateway behind it: both from `with` until its end."""

    def __init__(self, kubectl: Kubectl, port: int) -> None:
        self._kubectl = kubectl
        self._node = kubectl.node
        self._port = port

    def __enter__(self) -> "BadLine":
        cluster = self._node.cluster
        words = (sys.executable, Path(line.__file__), cluster.node_ip, istiod_address(self._kubectl), self._port)
        pipe = subprocess.PIPE
        self._process = subprocess.Popen(
            ["nsenter", "-t", str(self._node.pid), "--net", *map(str, words)], stdin=pipe, stdout=pipe, text=True
        )
        try:
            self.order("clean")
            self._kubectl.apply(*behind(cluster, self._port))
            self._kubectl.wait_rolled_out(gateways.NAMESPACE, gateways.NAME)
            # The gateway is behind it, and no older pod answers in its place.
            wait_for(f"{cluster.name} gateway is behind the line", lambda: self.order("clean")["connections"])
            wait_for(f"{cluster.name} old gateway is gone", lambda: len(self._node.processes("eastgate")) == 1)
        except BaseException:
            self.__exit__()
            raise
        return self

    def order(self, order: str) -> dict[str, int]:
        """What was done so far, after this order. Raises LabError when the line is gone."""
        stdin, stdout = self._process.stdin, self._process.stdout
        if stdin is None or stdout is None:
            raise LabError("the line has no pipes")
        try:
            stdin.write(f"{order}\n")
            stdin.flush()
        except OSError:
            raise LabError(f"{self._node.cluster.name}: the line ended with {self._process.wait(5)}") from None
        if not (said := stdout.readline()):
            raise LabError(f"{self._node.cluster.name}: the line ended with {self._process.wait(5)}")
        return {"connections": 0, "flips": 0, "cuts": 0, **json.loads(said)}

    def __exit__(self, *error: object) -> None:
        try:
            gateways.apply(self._kubectl, self._node.cluster, "eastgate")
            self._kubectl.wait_rolled_out(gateways.NAMESPACE, gateways.NAME)
        finally:
            self._process.kill()
            self._process.communicate()


def behind(cluster: Cluster, port: int) -> list[dict[str, Any]]:
    """The gateway with istiod's name on the node's own address; without credentials on the port for plaintext."""
    objects = gateways.eastgate(cluster)
    pod = named(objects, "Deployment", gateways.NAME)["spec"]["template"]["spec"]
    pod["hostAliases"] = [{"ip": cluster.node_ip, "hostnames": [ISTIOD_HOST]}]
    (container,) = pod["containers"]
    if port == PLAIN_PORT:
        kept = [word for word in container["args"] if not word.startswith(("--discovery-root-cert=", "--token-file="))]
        container["args"] = [word.replace(f":{TLS_PORT}", f":{PLAIN_PORT}") for word in kept]
    return objects
