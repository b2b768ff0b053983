"""The embedded control plane, given the objects of the clusters, drives eastgate to the tables of a real istiod."""

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
import yaml

from lab import gateways
from lab.errors import LabError
from lab.kubectl import Kubectl, named
from lab.settings import CLUSTERS, GKE, Cluster
from lab.shell import program, run, wait_for
from lab.traffic import eastgate_admin

from .mesh import ECHO, Mesh
from .rules import (
    FAILOVER,
    FAILOVER_PRIORITY,
    Object,
    distribute,
    hashing_rules,
    hiding,
    locality_rules,
    subset_rules,
)
from .test_same_as_envoy import DUMP, Table, endpoints, gateways_own

TLS_MODE = "security.istio.io/tlsMode"
SYSTEM = {"rootNamespace": "istio-system", "trustDomain": "cluster.local"}
# As lab/istio.py sets them up.
OPTIONS = {"metadata_exchange": False, "metadata_exchange_alpn": False}
BALANCER = ("lb_policy", "ring_hash_lb_config", "maglev_lb_config")
HASHED_CHAINS = 4
Tables = tuple[Table, set[str], set[str]]
EASTGATE = program("eastgate", Path(sys.executable).parent)


def qualified(one: Object) -> str:
    return f"{one['metadata']['name']}.{one['metadata']['namespace']}"


def workload(pod: Object) -> Object:
    """A pod as the mesh file has it."""
    conditions = {one["type"]: one["status"] for one in pod["status"].get("conditions", ())}
    labels = pod["metadata"].get("labels", {})
    return {
        "name": pod["metadata"]["name"],
        "namespace": pod["metadata"]["namespace"],
        "address": pod["status"]["podIP"],
        "node": pod["spec"]["nodeName"],
        "labels": labels,
        "service_account": pod["spec"]["serviceAccountName"],
        "ready": conditions.get("Ready") == "True",
        "mtls": labels.get(TLS_MODE) == "istio",
    }


def cluster_section(kubectl: Kubectl, cluster: Cluster, services: list[Object]) -> Object:
    pods = [one for one in kubectl.get("pods", "-A")["items"] if one["status"].get("podIP")]
    return {
        "network": cluster.network,
        "gateways": [{"address": cluster.gateway_ip}],
        "nodes": {cluster.node: {"region": cluster.region, "zone": cluster.zone}},
        "addresses": {qualified(one): one["spec"]["clusterIP"] for one in services},
        "workloads": [workload(one) for one in pods],
    }


def service_section(service: Object, clusters: list[str]) -> Object:
    ports = [
        {key: port[key] for key in ("name", "port", "targetPort", "protocol", "appProtocol") if key in port}
        for port in service["spec"]["ports"]
        # A mesh file may name a port once; the mesh knows nothing of UDP.
        if port["protocol"] == "TCP"
    ]
    found = {"name": service["metadata"]["name"], "namespace": service["metadata"]["namespace"], "ports": ports}
    return {**found, "selector": service["spec"].get("selector", {}), "clusters": clusters}


def described(mesh: Mesh, rules: list[Object]) -> str:
    """A mesh file of what the API servers hold now."""
    services = {name: kubectl.get("services", "-A")["items"] for name, kubectl in mesh.kubectl.items()}
    everywhere: dict[str, tuple[Object, list[str]]] = {}
    for name, items in services.items():
        for one in items:
            everywhere.setdefault(qualified(one), (one, []))[1].append(name)
    document = {
        "kind": "Mesh",
        "options": OPTIONS,
        "meshConfig": SYSTEM,
        "clusters": {
            name: cluster_section(kubectl, CLUSTERS[name], services[name]) for name, kubectl in mesh.kubectl.items()
        },
        "services": [service_section(one, names) for one, names in everywhere.values()],
    }
    gateway = named(gateways.eastgate(GKE), "Gateway", "cross-network-gateway")
    return str(yaml.safe_dump_all([document, gateway, *rules]))


class Embedded:
    """`eastgate mesh serve`, and a proxy with the node of a real one, in a network of their own."""

    def __init__(self, folder: Path, node: dict[str, Any]) -> None:
        self.file = folder / "mesh.yaml"
        self._node = node
        self._processes: list[subprocess.Popen[bytes]] = []

    def start(self) -> None:
        """Once the file is there."""
        self._start("unshare", "--net", "sh", "-c", 'ip link set lo up; exec "$@"', "sh", "sleep", "infinity")
        self._inside = ("nsenter", "-t", str(self._processes[0].pid), "--net")
        wait_for("a network", lambda: "LOOPBACK,UP" in run(*self._inside, "ip", "link", "show", "lo").stdout)
        self._start(*self._inside, EASTGATE, "mesh", "serve", self.file)
        metadata, where = self._node["metadata"], self._node.get("locality", {})
        command = "gateway" if self._node["id"].startswith("router~") else "sidecar"
        flags = {
            "discovery": "127.0.0.1:15010",
            "xds-protocol": "delta",
            "node-id": self._node["id"],
            "cluster-id": metadata["CLUSTER_ID"],
            "network": metadata["NETWORK"],
            "namespace": metadata["NAMESPACE"],
            "locality": "/".join(where.get(part, "") for part in ("region", "zone", "sub_zone")).rstrip("/"),
            "meta": f"SERVICE_ACCOUNT={metadata['SERVICE_ACCOUNT']}",
        }
        words = [f"--{flag}={value}" for flag, value in flags.items()]
        words += [f"--label={key}={value}" for key, value in metadata["LABELS"].items()]
        self._start(*self._inside, EASTGATE, command, *words)

    def _start(self, *words: object) -> None:
        self._processes.append(subprocess.Popen([str(word) for word in words], stdin=subprocess.DEVNULL))

    def admin(self, path: str) -> str:
        return run(*self._inside, "curl", "-s", "-S", "-f", f"http://127.0.0.1:15000{path}").stdout

    def stop(self) -> None:
        for process in reversed(self._processes):
            process.kill()
            process.wait()


@contextmanager
def embedded(folder: Path, node: dict[str, Any], text: str) -> Iterator[Embedded]:
    one = Embedded(folder, node)
    one.file.write_text(text)
    try:
        one.start()
        yield one
    finally:
        one.stop()


def routes(dump: str) -> set[str]:
    """What chains of all listeners match, where they lead and what they hash: one JSON text each, in no order."""
    found = set()
    for part in json.loads(dump)["configs"]:
        for entry in part.get("dynamic_listeners", ()):
            listener = entry["active_state"]["listener"]
            for chain in listener.get("filter_chains", ()):
                proxies = [
                    (one["typed_config"].get("cluster", ""), one["typed_config"].get("hash_policy", []))
                    for one in chain["filters"]
                    if one["typed_config"]["@type"].endswith(".TcpProxy")
                ]
                found.add(json.dumps([listener["name"], chain.get("filter_chain_match", {}), proxies], sort_keys=True))
    return found


def balancers(dump: str, wanted: Callable[[str], bool] = gateways_own) -> set[str]:
    """How each cluster that is wanted balances: one JSON text each."""
    found = set()
    for part in json.loads(dump)["configs"]:
        for entry in part.get("dynamic_active_clusters", ()):
            cluster = entry["cluster"]
            if wanted(cluster["name"]):
                kept = {field: cluster[field] for field in BALANCER if field in cluster}
                found.add(json.dumps([cluster["name"], kept], sort_keys=True))
    return found


@pytest.mark.parametrize("cluster", CLUSTERS.values(), ids=CLUSTERS)
def test_same_tables_as_under_istiod(mesh: Mesh, cluster: Cluster, tmp_path: Path) -> None:
    kubectl, real = mesh.kubectl[cluster.name], mesh.lab.nodes[cluster.name]
    node = json.loads(eastgate_admin(real, "/server_info"))["node"]
    pod, second = (one["metadata"]["name"] for one in kubectl.pods("default", ECHO))
    stages: dict[str, tuple[list[Object], dict[str, bool]]] = {
        "no rule": ([], {}),
        "failover": (locality_rules(FAILOVER), {}),
        "one pod unready": (locality_rules(FAILOVER), {pod: False}),
        "none ready": (locality_rules(FAILOVER), {second: False}),
        "none ready, hidden": (hiding(locality_rules(FAILOVER)), {}),
        "one ready, the other hidden": (hiding(locality_rules(FAILOVER)), {pod: True}),
        "ready again": (locality_rules(FAILOVER_PRIORITY), {second: True}),
        "distribute": (locality_rules(distribute(80)), {}),
        "hashed": (hashing_rules(), {}),
        "subsets": (subset_rules(GKE), {}),
    }
    same = {"no rule", "failover", "distribute"}
    table: Tables | None = None
    with embedded(tmp_path, node, described(mesh, [])) as ours:
        for stage, (rules, readiness) in stages.items():
            if stage == "subsets":
                mesh.reset()
            if rules:
                mesh.apply(rules)
            for name, ready in readiness.items():
                mesh.set_ready(cluster, name, ready)
            # Rules of locality change no table of a gateway, which sees one network only.
            before = None if stage in same else table
            table = compared(mesh, ours, tmp_path, cluster, stage, rules, before)
            # Chains of both services and of one of their two subsets.
            assert sum("source_ip" in chain for chain in table[1]) == (HASHED_CHAINS if stage == "hashed" else 0)
            told = "{} endpoints, {} chains, {} balancers equal".format(*map(len, table))
            mesh.row(f"{stage}: embedded control plane", f"{cluster.name} gateway", "as under istiod", told)


def compared(
    mesh: Mesh, ours: Embedded, folder: Path, cluster: Cluster, stage: str, rules: list[Object], before: Tables | None
) -> Tables:
    """Wait until both gateways show the same, with the objects as they are then, and something else than before."""
    real = mesh.lab.nodes[cluster.name]

    def tables(dump: str) -> Tables:
        return endpoints(folder, dump), routes(dump), balancers(dump)

    found = agreed(mesh, ours, f"{cluster.name}, {stage}", rules, lambda: eastgate_admin(real, DUMP), tables, before)
    assert len(found[1]) >= 10
    assert len(found[2]) >= 10
    return found


def agreed(
    mesh: Mesh,
    ours: Embedded,
    stage: str,
    rules: list[Object],
    real: Callable[[], str],
    tables: Callable[[str], Tables],
    before: Tables | None,
) -> Tables:
    """Wait until the dumps of a real proxy and of ours hold the same, and something else than before; what it is."""
    seen: dict[str, Tables] = {}

    def agree() -> bool:
        text = described(mesh, rules)
        if ours.file.read_text() != text:
            ours.file.write_text(text)
            return False
        for name, dump in (("istiod", real()), ("embedded", ours.admin(DUMP))):
            seen[name] = tables(dump)
        return seen["istiod"] == seen["embedded"] != before

    with suppress(LabError):
        wait_for(f"{stage}: both agree", agree, seconds=60, every=0.5)
    assert seen["embedded"] == seen["istiod"]
    assert seen["istiod"] != before
    return seen["istiod"]
