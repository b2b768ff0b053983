"""Traffic between pods, and what proxies say about it: what the tests of the lab ask for."""

import json
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from .errors import LabError
from .istio import istioctl
from .kubectl import Kubectl
from .node import Node
from .settings import Settings
from .shell import run

LOAD = ("python3", "/app/load.py")
HOLD = ("python3", "/app/hold.py")
KEEP = ("python3", "/app/keep.py")
GRPC = ("/app/grpc", "call")
EACH = ("python3", "/app/each.py")
STOP_S = 30.0
XDS_TYPES = ("cluster", "endpoint", "listener")


@dataclass(frozen=True, slots=True)
class Answers:
    """Who answered how often, and how many connections failed."""

    answers: Mapping[str, int]
    failed: int
    errors: tuple[str, ...]
    longest_ms: float
    seconds: float

    @classmethod
    def parse(cls, text: str) -> Self:
        said = json.loads(text)
        return cls(said["answers"], said["failed"], tuple(said["errors"]), said["longest_ms"], said["seconds"])

    @property
    def total(self) -> int:
        return sum(self.answers.values()) + self.failed

    def share(self, who: str) -> float:
        """Of all connections, failed ones included."""
        return self.answers.get(who, 0) / self.total if self.total else 0.0

    def __str__(self) -> str:
        parts = [f"{who} {count}" for who, count in sorted(self.answers.items())]
        return ", ".join([*parts, *([f"failed {self.failed}"] if self.failed else [])])


def kind_of(service: str) -> str:
    return "tcp" if service.endswith("-tcp") else "http"


@dataclass(frozen=True, slots=True)
class Called:
    """What lab/modules/grpc saw as client: milliseconds until the SETTINGS of each connection came, who answered."""

    ready_ms: list[float]
    answers: Mapping[str, int]
    error: str


@dataclass(frozen=True, slots=True)
class Client:
    """A Deployment from whose pod connections are opened, and its container."""

    namespace: str = "sleep"
    name: str = "sleep"

    def ask(self, kubectl: Kubectl, kind: str, host: str, count: int, port: int = 80) -> Answers:
        """Connect that often, one after the other. ``kind``: tcp or http."""
        words = (*LOAD, kind, host, port, count)
        return Answers.parse(kubectl.exec(self.namespace, f"deploy/{self.name}", self.name, *words))

    def each(self, kubectl: Kubectl, *targets: str) -> list[str]:
        """What became of one connection to each of these, KIND:HOST:PORT; lab/app/each.py says which words."""
        answers: list[str] = json.loads(kubectl.exec(self.namespace, f"deploy/{self.name}", self.name, *EACH, *targets))
        return answers

    def call(self, kubectl: Kubectl, host: str, port: int, count: int) -> Called:
        """So many connections of grpc-go, one after the other, each with one call and a stream of as many messages."""
        words = (*GRPC, f"{host}:{port}", count)
        return Called(**json.loads(kubectl.exec(self.namespace, f"deploy/{self.name}", self.name, *words)))

    def argv(self, kubectl: Kubectl, *command: Any) -> list[str]:
        """Words that run a command in its container."""
        return kubectl.argv("-n", self.namespace, "exec", "-i", f"deploy/{self.name}", "-c", self.name, "--", *command)


CLIENT = Client()


def ask(kubectl: Kubectl, service: str, count: int) -> Answers:
    """Connect from the cluster's client to a service of the article, one after the other."""
    return CLIENT.ask(kubectl, kind_of(service), f"{service}.default", count)


class Running:
    """A program in a client's container, from `with` until it is told to stop."""

    def __init__(self, argv: list[str]) -> None:
        self._argv = argv

    def __enter__(self) -> Self:
        pipe = subprocess.PIPE
        self._process = subprocess.Popen(self._argv, stdin=pipe, stdout=pipe, stderr=pipe, text=True)
        return self

    def told_to_stop(self) -> str:
        """End it; what it printed. Raises LabError when it cannot say."""
        try:
            text, said = self._process.communicate("stop\n", timeout=STOP_S)
        except subprocess.TimeoutExpired:
            raise LabError(f"the load does not end within {STOP_S:g} s") from None
        if self._process.returncode != 0:
            raise LabError(f"the load ended with {self._process.returncode}: {said.strip()}")
        return text

    def __exit__(self, *error: object) -> None:
        if self._process.poll() is None:
            self._process.kill()
            self._process.communicate()


class Load(Running):
    """Connections at a rate, from `with` until `stop`; to a service of the article, or to another namespace's."""

    def __init__(
        self, kubectl: Kubectl, service: str, per_second: float, client: Client = CLIENT, *, kind: str = ""
    ) -> None:
        host = service if "." in service else f"{service}.default"
        words = (*LOAD, kind or kind_of(service), host, 80, 0, per_second)
        super().__init__(client.argv(kubectl, *words))

    def stop(self) -> Answers:
        """End it, and say what it saw. Raises LabError when it cannot say."""
        return Answers.parse(self.told_to_stop())


@dataclass(frozen=True, slots=True)
class Held:
    """What became of one connection: answers on it, and why it ended before it was told to."""

    answers: int
    seconds: float
    ended: str


class Opened(Running):
    """A program that says when it has its connections; `with` waits for that."""

    def __enter__(self) -> Self:
        super().__enter__()
        assert self._process.stderr is not None
        if (line := self._process.stderr.readline()) != "open\n":
            raise LabError(
                f"no answer on a connection that was to be held: {line.strip() or self.told_to_stop().strip()}"
            )
        return self


class Hold(Opened):
    """One connection that is used all the time, from `with` until `stop`."""

    def __init__(self, kubectl: Kubectl, client: Client, host: str, port: int = 80, per_second: float = 5.0) -> None:
        super().__init__(client.argv(kubectl, *HOLD, host, port, per_second))

    def stop(self) -> Held:
        return Held(**json.loads(self.told_to_stop()))


class Keep(Opened):
    """So many connections that nobody uses, from `with` until `stop`."""

    def __init__(self, kubectl: Kubectl, client: Client, host: str, count: int, port: int = 80) -> None:
        super().__init__(client.argv(kubectl, *KEEP, host, port, count))

    def stop(self) -> int:
        """End them; how many had ended before."""
        return int(json.loads(self.told_to_stop())["ended"])


def eastgate_admin(node: Node, path: str) -> str:
    """A page of the admin of the node's eastgate gateway: the pod that was started last, asked from its own network."""
    processes = node.processes("eastgate")
    if not processes:
        raise LabError(f"no eastgate runs in {node.cluster.name}")
    url = f"http://127.0.0.1:15000{path}"
    return run(*node.inside("nsenter", "-t", max(processes), "--net", "curl", "-s", "-S", "-f", url)).stdout


def envoy_admin(kubectl: Kubectl, namespace: str, pod: str, path: str, method: str = "GET") -> str:
    """A page of the admin of a stock proxy."""
    url = f"http://127.0.0.1:15000{path}"
    return kubectl.exec(namespace, pod, "istio-proxy", "curl", "-s", "-S", "-f", "-X", method, url)


def gateway_endpoints(node: Node, cluster: str) -> dict[str, str]:
    """Address -> health, as istiod told the eastgate gateway."""
    for one in json.loads(eastgate_admin(node, "/clusters?format=json"))["cluster_statuses"]:
        if one["name"] == cluster:
            return {
                "{address}:{port_value}".format(**host["address"]["socket_address"]): host["health_status"][
                    "eds_health_status"
                ]
                for host in one.get("host_statuses", ())
            }
    raise LabError(f"the gateway of {node.cluster.name} has no cluster {cluster}")


@dataclass(frozen=True, slots=True)
class Subscription:
    """What istiod has sent a proxy of one type, and what of it was acknowledged: nonces, and when."""

    sent: str
    acked: str


def subscriptions(settings: Settings, kubectl: Kubectl, proxy: str) -> dict[str, Subscription]:
    """By type, from istiod's /debug/syncz. Raises LabError when it does not list this proxy."""
    for one in json.loads(istioctl(settings, kubectl, "x", "internal-debug", "syncz")):
        if one["proxy"] == proxy:
            return {kind: Subscription(one.get(f"{kind}_sent", ""), one.get(f"{kind}_acked", "")) for kind in XDS_TYPES}
    raise LabError(f"istiod does not list {proxy}")


def gateway_counter(node: Node, cluster: str, counter: str) -> int:
    """A counter of this cluster in the eastgate gateway."""
    # istiod's name for the statistics of a cluster ends in a semicolon.
    name = f"cluster.{cluster};.{counter}"
    for line in eastgate_admin(node, "/stats").splitlines():
        key, _, value = line.partition(": ")
        if key == name:
            return int(value)
    raise LabError(f"the gateway of {node.cluster.name} has no counter {name}")
