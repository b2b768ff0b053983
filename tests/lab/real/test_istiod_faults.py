"""Traffic through both gateways while their istiods are killed, away, frozen, out of reach, or spoilt on their way.

EASTGATE_LAB_LONG=1 (`make lab-test-long`): a minute and ten thousand connections for each fault.
"""

import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager

import pytest

from lab import gateways
from lab.errors import LabError
from lab.faults import BadLine, cut_off
from lab.istio import ISTIOD, NAMESPACE, PLAIN_PORT, TLS_PORT
from lab.settings import CLUSTERS, Cluster, other
from lab.shell import wait_for
from lab.traffic import Load, eastgate_admin, gateway_endpoints

from .mesh import ECHO, Mesh
from .rules import distribute, locality_rules, subset_rules

LONG = bool(os.environ.get("EASTGATE_LAB_LONG"))
FAULT_S = 60.0 if LONG else 12.0
CONNECTIONS = 10_000 if LONG else 2_000
# gRPC's keepalive notices a connection that says nothing any more in 40 s. A shorter silence ends when TCP repeats what
# was lost, which is up to as long again after it.
SILENCE_S = max(FAULT_S, 45.0)
# Of each of two clients.
PER_SECOND = 75.0 if LONG else 50.0
CONVERGED_S = 10.0
LATER_S = 3.0
PUSH_EVERY_S = 2.0
CLUSTER = "outbound_.80_._.echo-tcp.default.svc.cluster.local"
Fault = Callable[[Mesh], AbstractContextManager[Callable[[], str]]]


def nothing() -> str:
    return ""


@contextmanager
def killed(mesh: Mesh) -> Iterator[Callable[[], str]]:
    """kubelet starts them again."""
    for cluster in CLUSTERS.values():
        node = mesh.lab.nodes[cluster.name]
        old = node.processes(ISTIOD)
        node.send_signal(ISTIOD, signal.SIGKILL)
        wait_for(f"{cluster.name} istiod starts again", lambda n=node, o=old: set(n.processes(ISTIOD)) - set(o))
    yield nothing


@contextmanager
def away(mesh: Mesh) -> Iterator[Callable[[], str]]:
    """Long enough for the gateways to try again less and less often."""
    for kubectl in mesh.kubectl.values():
        kubectl("-n", NAMESPACE, "scale", "deploy/istiod", "--replicas=0")
    yield nothing
    for kubectl in mesh.kubectl.values():
        kubectl("-n", NAMESPACE, "scale", "deploy/istiod", "--replicas=1")
    for kubectl in mesh.kubectl.values():
        kubectl.wait_rolled_out(NAMESPACE, "istiod")


@contextmanager
def frozen(mesh: Mesh) -> Iterator[Callable[[], str]]:
    for node in mesh.lab.nodes.values():
        node.send_signal(ISTIOD, signal.SIGSTOP)
    try:
        yield nothing
    finally:
        for node in mesh.lab.nodes.values():
            node.send_signal(ISTIOD, signal.SIGCONT)


@contextmanager
def out_of_reach(mesh: Mesh) -> Iterator[Callable[[], str]]:
    with ExitStack() as both:
        for kubectl in mesh.kubectl.values():
            both.enter_context(cut_off(kubectl))
        yield nothing


@contextmanager
def spoilt(mesh: Mesh, lines: list[BadLine], order: str) -> Iterator[Callable[[], str]]:
    for line in lines:
        line.order(order)
    done: list[dict[str, int]] = []

    def told() -> str:
        pages = [eastgate_admin(node, "/stats").splitlines() for node in mesh.lab.nodes.values()]
        rejected = [int(line.rpartition(" ")[2]) for page in pages for line in page if ".rejections: " in line]
        both = "; ".join(f"{one['flips']} flips, {one['cuts']} cuts" for one in done)
        return f"{both}; both gateways refused {sum(rejected)} resources"

    yield told
    done += [line.order("clean") for line in lines]
    # Both were in the way of something, and every new attempt as well.
    assert all(one["flips"] and one["connections"] > 3 for one in done), done


def istiod_ready(mesh: Mesh, cluster: Cluster) -> bool:
    pods = mesh.kubectl[cluster.name].pods(NAMESPACE, {"app": "istiod"})
    conditions = [one for pod in pods for one in pod["status"].get("conditions", ())]
    return any(one["type"] == "Ready" and one["status"] == "True" for one in conditions)


def converged_after(mesh: Mesh, cluster: Cluster, pod: dict) -> float:
    """Seconds until the gateway knows that a pod is not ready. The pod is made ready again."""
    address = f"{pod['status']['podIP']}:9090"
    node, begin = mesh.lab.nodes[cluster.name], time.monotonic()
    mesh.set_ready(cluster, pod["metadata"]["name"], False)

    def healthy() -> bool:
        return gateway_endpoints(node, CLUSTER)[address] == "HEALTHY"

    try:
        wait_for(f"{cluster.name} gateway knows", lambda: not healthy(), seconds=60, every=0.1)
        return time.monotonic() - begin
    finally:
        mesh.set_ready(cluster, pod["metadata"]["name"], True)
        wait_for(f"{cluster.name} gateway knows again", healthy, seconds=60)


def refused(mesh: Mesh, cluster: Cluster) -> list[str]:
    """Lines of a gateway's access log that say why something went wrong; none: it was not the gateway."""
    log = mesh.kubectl[cluster.name]("-n", gateways.NAMESPACE, "logs", f"deploy/{gateways.NAME}", "--since=3m")
    words = [(line, line.split()) for line in log.splitlines() if line.startswith("[")]
    return [line for line, parts in words if parts[1:2] != ["-"]][-5:]


def arrived(mesh: Mesh, cluster: Cluster) -> int:
    """Connections that this cluster's gateway has accepted so far."""
    for line in eastgate_admin(mesh.lab.nodes[cluster.name], "/stats").splitlines():
        name, _, value = line.partition(": ")
        if name == "listener.0.0.0.0_15443.eastgate.accepted_total":
            return int(value)
    raise LabError(f"the gateway of {cluster.name} has no listener on 15443")


def push_for(mesh: Mesh, seconds: float) -> None:
    """Give istiods something to say all the time; those that cannot hear it say it later."""
    begin = time.monotonic()
    number = 0
    while (left := begin + seconds - time.monotonic()) > 0:
        number += 1
        for cluster, kubectl in mesh.kubectl.items():
            rules = locality_rules(distribute(50 + number % 2))
            target = other(CLUSTERS[cluster])
            (rule, *_) = rules
            (subsets, *_) = (one for one in subset_rules(target) if one["metadata"]["name"] == rule["metadata"]["name"])
            subsets["spec"]["trafficPolicy"] = rule["spec"]["trafficPolicy"]
            kubectl.apply(subsets)
        time.sleep(min(PUSH_EVERY_S, max(0.0, left)))


def carried(mesh: Mesh, name: str, fault: AbstractContextManager[Callable[[], str]]) -> None:
    """Every connection of both clients is to the other cluster, through the gateway there; none may fail.

    A pod of each cluster becomes unready when the fault is over, and the gateways know it within ten seconds.
    """
    for cluster, kubectl in mesh.kubectl.items():
        kubectl.apply(*subset_rules(other(CLUSTERS[cluster])))
    for cluster in CLUSTERS.values():
        mesh.answers("before the fault", cluster, "echo-tcp", {other(cluster).greeting: 1.0}, count=20)
    pods = {cluster.name: mesh.kubectl[cluster.name].pods("default", ECHO)[0] for cluster in CLUSTERS.values()}
    before = {cluster.name: arrived(mesh, other(cluster)) for cluster in CLUSTERS.values()}
    loads = [Load(mesh.kubectl[name], "echo-tcp", PER_SECOND) for name in CLUSTERS]
    with loads[0], loads[1]:
        begin = time.monotonic()
        with fault as told:
            push_for(mesh, SILENCE_S if name == "out of reach" else FAULT_S)
        for cluster in CLUSTERS.values():
            wait_for(f"{cluster.name} istiod is ready", lambda c=cluster: istiod_ready(mesh, c))
        took = {cluster.name: converged_after(mesh, cluster, pods[cluster.name]) for cluster in CLUSTERS.values()}
        # The clients began a little later.
        time.sleep(max(0.0, CONNECTIONS / len(loads) / PER_SECOND + LATER_S - (time.monotonic() - begin)))
        seen = dict(zip(CLUSTERS.values(), (load.stop() for load in loads), strict=True))
    for cluster, answers in seen.items():
        result = f"{answers}; converged in {took[cluster.name]:.1f} s; {told()}".removesuffix("; ")
        mesh.row(f"istiods {name}", f"{cluster.name} echo-tcp", "none failed", result)
    for cluster, answers in seen.items():
        reached = arrived(mesh, other(cluster)) - before[cluster.name]
        reason = (cluster.name, answers.errors, answers.total, reached, refused(mesh, other(cluster)))
        assert answers.failed == 0, reason
        assert set(answers.answers) == {other(cluster).greeting}
        assert took[cluster.name] <= CONVERGED_S
    assert sum(answers.total for answers in seen.values()) >= CONNECTIONS


@pytest.mark.parametrize("fault", [killed, away, frozen, out_of_reach])
def test_traffic_does_not_notice_that_istiods_are(mesh: Mesh, fault: Fault) -> None:
    """Both at once."""
    carried(mesh, fault.__name__.replace("_", " "), fault(mesh))


@pytest.mark.parametrize(("port", "order"), [(PLAIN_PORT, "marks"), (TLS_PORT, "noise")], ids=["plaintext", "TLS"])
def test_traffic_does_not_notice_a_line_that_spoils_what_istiods_say(mesh: Mesh, port: int, order: str) -> None:
    """Without TLS the damage reaches our decoder, and istiod's."""
    with ExitStack() as both:
        lines = [both.enter_context(BadLine(kubectl, port)) for kubectl in mesh.kubectl.values()]
        carried(mesh, f"spoilt, port {port}", spoilt(mesh, lines, order))
