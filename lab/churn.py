"""Services whose endpoints change all the time, and what that costs eastgate and Envoy on the same pushes.

`python -m lab churn [SECONDS [SERVICES [ENDPOINTS]]]` on a lab that is up. ServiceEntries that only gateways see are
written through the API server. One of them, the marker, has one endpoint that moves between two answerers. A stream of
its own hears of each move when istiod pushes it; from then on connections with the marker's SNI are opened through
both gateways until the new one answers. So the times include a connection, and none is too good.
"""

import ctypes
import http.client
import json
import os
import queue
import random
import socket
import ssl
import statistics
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import grpc
from eastgate.xds.node import NodeIdentity
from eastgate.xds.subscription import Request, SotwSubscriptions

from . import gateways
from .errors import LabError
from .istio import NAMESPACE as ISTIO
from .istio import plain_discovery
from .kubectl import Kubectl
from .lab import Lab
from .node import Node
from .objects import namespace
from .settings import GKE, Cluster
from .shell import run, say, wait_for

WHERE = "churn"
API = f"/apis/networking.istio.io/v1/namespaces/{WHERE}/serviceentries"
EDS = "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment"
GATEWAY_PORT = 15443
PORTS = (19001, 19002)
PER_SECOND = 50.0
FLIP_EVERY_S = 1.0
PICKED_S = 20.0
# Otherwise changes that never end are put off for ten seconds: too few pushes to measure.
DEBOUNCE = "PILOT_DEBOUNCE_MAX=1s"
CLONE_NEWNET = 0x40000000
Object = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Cost:
    """Of one proxy: milliseconds from push to pick, seconds of CPU while it churned, resident MiB after it."""

    median_ms: float
    p99_ms: float
    longest_ms: float
    cpu_s: float
    cpu_load_s: float
    rss_mib: float


@dataclass(frozen=True, slots=True)
class Result:
    """What a run has measured. ``changes``: objects written; ``moves``: of the marker, each of which was timed."""

    services: int
    endpoints: int
    seconds: float
    changes: int
    moves: int
    eastgate: Cost
    envoy: Cost

    def lines(self) -> Iterator[str]:
        yield (
            f"{self.services} services x {self.endpoints} endpoints, {self.changes} changes in {self.seconds:.0f} s, "
            f"{self.moves} pushes timed"
        )
        for name, cost in (("eastgate", self.eastgate), ("Envoy", self.envoy)):
            yield (
                f"{name}: push to pick median {cost.median_ms:.1f} ms, p99 {cost.p99_ms:.1f} ms, longest "
                f"{cost.longest_ms:.1f} ms; CPU {cost.cpu_s:.2f} s, and {cost.cpu_load_s:.2f} s for the first push; "
                f"{cost.rss_mib:.0f} MiB"
            )


def host(number: int) -> str:
    return f"s{number:04d}.{WHERE}.local"


MARKER = f"marker.{WHERE}.local"


def entry(name: str, endpoints: Sequence[Object]) -> Object:
    """A service of the mesh that only proxies in the gateways' namespace see."""
    return {
        "apiVersion": "networking.istio.io/v1",
        "kind": "ServiceEntry",
        "metadata": {"name": name.partition(".")[0], "namespace": WHERE},
        "spec": {
            "hosts": [name],
            "exportTo": [gateways.NAMESPACE],
            "location": "MESH_INTERNAL",
            "resolution": "STATIC",
            "ports": [{"number": 80, "name": "tcp", "protocol": "TCP"}],
            "endpoints": list(endpoints),
        },
    }


def endpoint(address: str, port: int, network: str) -> Object:
    """With mTLS: a gateway is told of no other endpoints."""
    return {
        "address": address,
        "network": network,
        "ports": {"tcp": port},
        "labels": {"security.istio.io/tlsMode": "istio"},
    }


def addresses(rng: random.Random, count: int) -> list[str]:
    """Of a network that is nowhere."""
    return [f"10.{200 + (one >> 16)}.{one >> 8 & 255}.{one & 255}" for one in rng.sample(range(1 << 18), count)]


def varint(number: int) -> bytes:
    """As protobuf writes it."""
    parts = bytearray()
    while number > 127:
        parts.append(number & 127 | 128)
        number >>= 7
    return bytes([*parts, number])


def enter_network(node: Node) -> None:
    """Move this process, and what it starts from now on, into the node's network."""
    libc = ctypes.CDLL(None, use_errno=True)
    with open(f"/proc/{node.pid}/ns/net", "rb") as file:
        if libc.setns(file.fileno(), CLONE_NEWNET):
            raise LabError(f"cannot enter the network of {node.cluster.name}: {os.strerror(ctypes.get_errno())}")


def gateway_node(pod: str, address: str) -> NodeIdentity:
    """What a gateway at this address says of itself."""
    return NodeIdentity(
        type="router",
        ips=(address,),
        pod_name=pod,
        namespace=gateways.NAMESPACE,
        cluster_id=GKE.name,
        network=GKE.network,
        network_view=(GKE.network,),
        labels={"istio": "eastwestgateway"},
    )


class Api:
    """The API server over one connection for each thread."""

    def __init__(self, folder: Path, cluster: Cluster) -> None:
        self._host = cluster.node_ip
        self._context = ssl.create_default_context(cafile=str(folder / "pki/ca.crt"))
        self._context.load_cert_chain(folder / "pki/admin.crt", folder / "pki/admin.key")
        self._local = threading.local()

    def __call__(self, method: str, path: str, content: Object | None = None) -> None:
        """Raises LabError with what the server said."""
        kind = "application/merge-patch+json" if method == "PATCH" else "application/json"
        connection = getattr(self._local, "connection", None)
        if connection is None:
            connection = http.client.HTTPSConnection(self._host, 6443, timeout=30, context=self._context)
            self._local.connection = connection
        connection.request(method, path, json.dumps(content) if content else None, {"Content-Type": kind})
        answer = connection.getresponse()
        text = answer.read()
        if answer.status >= 300:
            raise LabError(f"{method} {path}: {answer.status} {text[:200].decode(errors='replace')}")


class Watch:
    """A stream that hears of one assignment only: when each push of it came."""

    def __init__(self, address: str, node: NodeIdentity, name: str) -> None:
        self.pushes: queue.SimpleQueue[tuple[float, bytes]] = queue.SimpleQueue()
        self._requests: queue.SimpleQueue[bytes] = queue.SimpleQueue()
        self._requests.put(Request(EDS, names=(name,)).encode(node.message))
        self._name = name
        self._channel = grpc.insecure_channel(address)
        call = self._channel.stream_stream(SotwSubscriptions.method)
        self._answers = call(iter(self._requests.get, b""))
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        reader = SotwSubscriptions(((EDS, False),))
        try:
            for payload in self._answers:
                self.pushes.put((time.monotonic(), payload))
                response = reader.read(payload)
                self._requests.put(Request(EDS, response.version, response.nonce, (self._name,)).encode())
        except grpc.RpcError:
            # Whoever waits for a push says that none came.
            return

    def wait(self, port: int) -> float:
        """When an assignment with this port came. Raises LabError."""
        wanted = b"\x18" + varint(port)
        deadline = time.monotonic() + PICKED_S
        while (left := deadline - time.monotonic()) > 0:
            try:
                when, payload = self.pushes.get(timeout=left)
            except queue.Empty:
                break
            if wanted in payload:
                return when
        raise LabError(f"istiod did not push the marker within {PICKED_S:g} s")

    def close(self) -> None:
        self._requests.put(b"")
        self._channel.close()


def answerer(listener: socket.socket, word: bytes) -> None:
    """Answer every connection with this word, whatever it says."""
    while True:
        try:
            connection, _ = listener.accept()
        except OSError:
            return
        with connection:
            connection.sendall(word)


@contextmanager
def answerers(address: str) -> Iterator[None]:
    listeners = [socket.create_server((address, port), backlog=128) for port in PORTS]
    for listener, port in zip(listeners, PORTS, strict=True):
        threading.Thread(target=answerer, args=(listener, str(port).encode()), daemon=True).start()
    try:
        yield
    finally:
        for listener in listeners:
            listener.close()


def hello(server_name: str) -> bytes:
    """The first bytes of a client of the mesh."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.set_alpn_protocols(["istio"])
    sent = ssl.MemoryBIO()
    client = context.wrap_bio(ssl.MemoryBIO(), sent, server_hostname=server_name)
    try:
        client.do_handshake()
    except ssl.SSLWantReadError:
        return sent.read()
    raise LabError("a handshake without a server")


def picked(gateway: str, first: bytes, port: int, begin: float, *, gateway_port: int = GATEWAY_PORT) -> float:
    """Milliseconds from `begin` until a connection through this gateway is answered by the new one."""
    wanted = str(port).encode()
    while time.monotonic() - begin < PICKED_S:
        try:
            with socket.create_connection((gateway, gateway_port), timeout=5) as connection:
                connection.sendall(first)
                if connection.recv(16) == wanted:
                    return (time.monotonic() - begin) * 1000
        except OSError:
            # Both answer all the time: a gateway that refuses has not got that far.
            continue
    raise LabError(f"{gateway} does not pick the marker's new endpoint within {PICKED_S:g} s")


class Process:
    """A process of the node: its CPU time and memory."""

    def __init__(self, node: Node, name: str, address: str) -> None:
        """The one of this name whose pod has this address. Raises LabError."""
        self._node = node
        for pid in node.processes(name):
            if f" {address}/" in run(*node.inside("nsenter", "-t", pid, "--net", "ip", "-4", "-o", "addr")).stdout:
                self._pid = pid
                return
        raise LabError(f"{node.cluster.name}: no process {name} at {address}")

    def _read(self, file: str) -> str:
        return run(*self._node.inside("cat", f"/proc/{self._pid}/{file}")).stdout

    def cpu_s(self) -> float:
        fields = self._read("stat").rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def rss_mib(self) -> float:
        for line in self._read("status").splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) / 1024
        raise LabError(f"process {self._pid} has no VmRSS")


def churned(api: Api, table: list[list[str]], network: str, stop: threading.Event) -> int:
    """Move one endpoint after the other, at a rate; how many were moved."""
    rng = random.Random(2)
    begin, count = time.monotonic(), 0
    while not stop.wait(max(0.0, begin + count / PER_SECOND - time.monotonic())):
        number = rng.randrange(len(table))
        table[number][rng.randrange(len(table[number]))] = addresses(rng, 1)[0]
        spec = {"endpoints": [endpoint(one, 9090, network) for one in sorted(set(table[number]))]}
        api("PATCH", f"{API}/{host(number).partition('.')[0]}", {"spec": spec})
        count += 1
    return count


def cost(times: Sequence[float], process: Process, before: tuple[float, float]) -> Cost:
    begin_s, loaded_s = before
    return Cost(
        median_ms=statistics.median(times),
        p99_ms=sorted(times)[max(0, -(-99 * len(times) // 100) - 1)],
        longest_ms=max(times),
        cpu_s=process.cpu_s() - loaded_s,
        cpu_load_s=loaded_s - begin_s,
        rss_mib=process.rss_mib(),
    )


@contextmanager
def istiod_with_short_debounce(kubectl: Kubectl) -> Iterator[None]:
    kubectl("-n", ISTIO, "set", "env", "deploy/istiod", DEBOUNCE)
    kubectl.wait_rolled_out(ISTIO, "istiod")
    try:
        yield
    finally:
        kubectl("-n", ISTIO, "set", "env", "deploy/istiod", f"{DEBOUNCE.partition('=')[0]}-")
        kubectl.wait_rolled_out(ISTIO, "istiod")


@contextmanager
def both_gateways(kubectl: Kubectl) -> Iterator[dict[str, str]]:
    """Name of the process -> address of the pod: eastgate's gateway as it is, and a stock one beside it."""
    with gateways.stock_beside(kubectl, GKE):
        labels = {"eastgate": gateways.LABELS, "envoy": {"app": gateways.STOCK_NAME}}
        yield {
            name: kubectl.pods(gateways.NAMESPACE, labels_)[0]["status"]["podIP"] for name, labels_ in labels.items()
        }


def churn(lab: Lab, seconds: float, services: int, endpoints: int) -> Result:
    """Measure; the lab is left as it was. Raises LabError."""
    kubectl, node = lab.kubectl[GKE.name], lab.nodes[GKE.name]
    enter_network(node)
    api = Api(node.folder, GKE)
    rng = random.Random(1)
    table = [addresses(rng, endpoints) for _ in range(services)]
    kubectl.apply(namespace(WHERE))
    try:
        with istiod_with_short_debounce(kubectl), both_gateways(kubectl) as pods, answerers(GKE.node_ip):
            processes = {name: Process(node, name, address) for name, address in pods.items()}
            begin = {name: process.cpu_s() for name, process in processes.items()}
            say(f"== {services} services with {endpoints} endpoints each")
            objects = [
                entry(host(number), [endpoint(one, 9090, GKE.network) for one in row])
                for number, row in enumerate(table)
            ]
            objects.append(entry(MARKER, [endpoint(GKE.node_ip, PORTS[0], GKE.network)]))
            with ThreadPoolExecutor(4) as pool:
                list(pool.map(lambda one: api("POST", API, one), objects))
            first = hello(f"outbound_.80_._.{MARKER}")
            for address in pods.values():
                picked(address, first, PORTS[0], time.monotonic())
            # Until the last of them has arrived, too.
            time.sleep(3)
            loaded = {name: (begin[name], process.cpu_s()) for name, process in processes.items()}
            say(f"== churn for {seconds:.0f} s")
            stop = threading.Event()
            with ThreadPoolExecutor(3) as pool:
                churning = pool.submit(churned, api, table, GKE.network, stop)
                try:
                    times = timed(lab, api, pods, first, seconds, pool)
                finally:
                    stop.set()
                changes = churning.result()
            costs = {name: cost(times[name], process, loaded[name]) for name, process in processes.items()}
            return Result(services, endpoints, seconds, changes, len(times["envoy"]), **costs)
    finally:
        kubectl("delete", "namespace", WHERE, "--wait=true", timeout_s=300)


def timed(
    lab: Lab, api: Api, pods: Mapping[str, str], first: bytes, seconds: float, pool: ThreadPoolExecutor
) -> dict[str, list[float]]:
    """Move the marker once a second; milliseconds from each push to each gateway's pick."""
    discovery = plain_discovery(lab.kubectl[GKE.name])
    watch = Watch(discovery, gateway_node("watch", GKE.node_ip), f"outbound_.80_._.{MARKER}")
    times: dict[str, list[float]] = {name: [] for name in pods}
    try:
        watch.wait(PORTS[0])
        begin, number = time.monotonic(), 0
        while (now := time.monotonic()) < begin + seconds:
            number += 1
            port = PORTS[number % 2]
            api("PATCH", f"{API}/marker", {"spec": {"endpoints": [endpoint(GKE.node_ip, port, GKE.network)]}})
            pushed = watch.wait(port)
            found = [pool.submit(picked, address, first, port, pushed) for address in pods.values()]
            for name, one in zip(pods, found, strict=True):
                times[name].append(one.result())
            time.sleep(max(0.0, now + FLIP_EVERY_S - time.monotonic()))
    finally:
        watch.close()
    return times


def main(lab: Lab, seconds: float, services: int, endpoints: int) -> None:
    """Measure and tell; the last line is JSON."""
    wait_for("gateway", lambda: lab.kubectl[GKE.name].rolled_out(gateways.NAMESPACE, [gateways.NAME]))
    result = churn(lab, seconds, services, endpoints)
    for line in result.lines():
        say(line)
    say(json.dumps(asdict(result)))
