"""A running mesh on loopback: a control plane per cluster, gateway processes, echo workloads and one client.

Everything is real but the machines. Ports are the kernel's; what a mesh file says about addresses is replaced by them.
"""

import asyncio
import json
import time
import urllib.request
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import asdict, replace
from typing import Any, Self

from eastgate.mesh.ads_server import AdsServer
from eastgate.mesh.ca import MeshCa
from eastgate.mesh.endpoints import ClusterKey, target_port
from eastgate.mesh.model import Mesh, Workload
from eastgate.mesh.scenario import Scenario
from eastgate.mesh.source import MeshSource
from eastgate.mesh.split_horizon import NetworkGateway
from eastgate.mesh.virtual_service import GatewaySpec
from eastgate.xds.node import NodeIdentity

from .child import Child
from .client import MeshClient, Target, Traffic

HOST = "127.0.0.1"
READY_S = 20.0
POLL_S = 0.02
ANNOUNCED = "admin listening on "
ROUTED_PREFIX = "cluster.outbound_."
WARMING = "cluster_manager.warming_clusters"
DEBOUNCE_S = 0.02


def gateway_arguments(workload: Workload, discovery: str) -> list[str]:
    """`eastgate gateway` for a gateway workload."""
    flags = {
        "--discovery": discovery,
        "--node-id": f"router~{HOST}~{workload.name}.{workload.namespace}~{workload.namespace}.svc.cluster.local",
        "--cluster-id": workload.cluster,
        "--network": workload.network,
        "--namespace": workload.namespace,
        "--locality": str(workload.locality),
        "--admin": f"{HOST}:0",
        "--workers": "0",
        "--drain-time": "0",
    }
    found = ["gateway"]
    for flag, value in flags.items():
        if value:
            found += [flag, value]
    for key, value in workload.labels.items():
        found += ["--label", f"{key}={value}"]
    return found


class Gateway:
    """One gateway process, and what its admin says."""

    def __init__(self, workload: Workload, child: Child, admin: str) -> None:
        self.workload, self.child, self._admin = workload, child, admin
        self.bound = 0

    @classmethod
    async def start(cls, workload: Workload, discovery: str) -> Self:
        """Start it, and wait until it has its configuration."""
        arguments = gateway_arguments(workload, discovery)
        child = await Child.start(f"gateway of {workload.cluster}", "eastgate.commands", arguments)
        line = await child.wait_line(ANNOUNCED, READY_S)
        gateway = cls(workload, child, line.rpartition(ANNOUNCED)[2].split()[0])
        await gateway.until(lambda: gateway._get("/ready") is not None, "it is ready")
        # Without a listener nobody outside can come in: most likely no Gateway selects it.
        await gateway.until(gateway._listening, "it listens (does a Gateway resource select its labels?)")
        return gateway

    async def until(self, condition: Callable[[], bool], what: str) -> None:
        """Poll. Raises TrialError when the time or the process ends."""
        deadline = time.monotonic() + READY_S
        while not await asyncio.to_thread(condition):
            if not self.child.running:
                raise self.child.failure("ended")
            if time.monotonic() > deadline:
                raise self.child.failure(f"not within {READY_S:g} s: {what}")
            await asyncio.sleep(POLL_S)

    def _get(self, path: str) -> str | None:
        try:
            with urllib.request.urlopen(f"{self._admin}{path}", timeout=READY_S) as answer:
                return str(answer.read().decode())
        except OSError:
            return None

    def _json(self, path: str) -> Any:
        text = self._get(path)
        if text is None:
            raise self.child.failure(f"admin does not answer {path}")
        return json.loads(text)

    def _listening(self) -> bool:
        entries = self._json("/listeners?format=json")["listener_statuses"]
        self.bound = int(entries[0]["local_address"]["socket_address"]["port_value"]) if entries else 0
        return self.bound != 0

    async def wait_warm(self) -> None:
        """Until no cluster waits for its endpoints."""
        if self.child.running:
            await self.until(lambda: self._value(WARMING) == 0, "all clusters have endpoints")

    def _value(self, name: str) -> int:
        found = self._json("/stats?format=json")["stats"]
        return next((int(one["value"]) for one in found if one.get("name") == name), 0)

    async def stats(self) -> dict[str, int]:
        """All counters and gauges by name."""
        found = await asyncio.to_thread(self._json, "/stats?format=json")
        return {one["name"]: one["value"] for one in found["stats"] if isinstance(one.get("value"), int)}

    async def routed(self) -> int:
        """Connections that it has passed on to an endpoint."""
        counts = await self.stats()
        total = 0
        for name, value in counts.items():
            if name.startswith(ROUTED_PREFIX) and name.endswith(".upstream_cx_total"):
                total += value - counts.get(name.removesuffix("total") + "connect_fail", 0)
        return total


class Trial:
    """The parts of a running mesh. Use it as a context: leaving it leaves nothing running."""

    def __init__(self, scenario: Scenario, mesh: Mesh) -> None:
        self._scenario = scenario
        self._mesh = mesh
        self._ca = MeshCa(mesh.config.trust_domain)
        self._sources = {name: MeshSource(mesh, name) for name in mesh.clusters}
        self._servers: dict[str, AdsServer] = {}
        self._discovery: dict[str, str] = {}
        self._gateways: dict[tuple[str, str, str], Gateway] = {}
        self._workloads: dict[str, Child] = {}
        self._listens: dict[tuple[str, str, str], dict[int, int]] = {}
        self._client: MeshClient | None = None
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    async def start(self, say: Callable[[str], None]) -> None:
        """Start everything, in the order in which the parts need each other. Raises TrialError."""
        say("control planes")
        for name, source in self._sources.items():
            server = AdsServer(source, debounce_s=DEBOUNCE_S)
            self._discovery[name] = f"{HOST}:{await server.start(f'{HOST}:0')}"
            self._stack.push_async_callback(server.stop)
            self._servers[name] = server
        say("workloads")
        await asyncio.gather(*(self._start_workloads(name) for name in self._mesh.clusters))
        self._publish()
        say("gateways")
        gateways = [one for one in self._mesh.workloads if one.role == "gateway"]
        await asyncio.gather(*(self._start_gateway(one) for one in gateways))
        say("client")
        await self._start_client()
        await self.apply(self._mesh)

    async def _start_workloads(self, cluster: str) -> None:
        """All echo workloads of a cluster in one process, each with a listener per target port of its services."""
        child = await Child.start(f"workloads of {cluster}", "eastgate.trial.workload")
        self._stack.push_async_callback(child.stop)
        self._workloads[cluster] = child
        entries = []
        for workload in (one for one in self._mesh.workloads if one.cluster == cluster and one.role == "echo"):
            certificate = self._ca.issue(workload.spiffe_id(self._ca.trust_domain), cluster=cluster)
            names = [f"{'/'.join(workload.identity)}:{port}" for port in self._target_ports(workload)]
            what = {"host": HOST, "text": workload.answer or cluster, **asdict(certificate)}
            entries += [{"name": name, **what} for name in names]
        answer = json.loads(await child.ask(json.dumps({"listen": entries}), READY_S))
        for name, bound in answer["ports"].items():
            identity, _, port = name.rpartition(":")
            cluster_name, namespace, own = identity.split("/")
            self._listens.setdefault((cluster_name, namespace, own), {})[int(port)] = bound

    def _target_ports(self, workload: Workload) -> list[int]:
        services = [one for one in self._mesh.services if one.selects(workload)]
        return sorted({target_port(workload, port) for one in services for port in one.ports} - {0})

    async def _start_gateway(self, workload: Workload) -> None:
        gateway = await Gateway.start(workload, self._discovery[workload.cluster])
        self._stack.push_async_callback(gateway.child.stop)
        self._gateways[workload.identity] = gateway

    async def _start_client(self) -> None:
        workload = self._scenario.client
        node = NodeIdentity(
            type="sidecar",
            ips=(HOST,),
            pod_name=workload.name,
            namespace=workload.namespace,
            cluster_id=workload.cluster,
            network=workload.network,
            labels=workload.labels,
            locality=workload.locality,
            service_account=workload.service_account,
        )
        certificate = self._ca.issue(workload.spiffe_id(self._ca.trust_domain), cluster=workload.cluster)
        self._client = MeshClient(self._discovery[workload.cluster], node, certificate)
        await self._client.start()
        self._stack.push_async_callback(self._client.stop)

    def _placed(self, mesh: Mesh) -> Mesh:
        """The mesh with the addresses that its parts really have."""

        def place(one: Workload) -> Workload:
            if one.role == "gateway":
                # Port 0: the gateway takes a free one, and says which.
                return replace(one, address=HOST, listens=dict.fromkeys(self._gateway_ports(one), 0))
            return replace(one, address=HOST, listens=self._listens.get(one.identity, {})) if one.role else one

        reached = [
            NetworkGateway(one.workload.network, HOST, one.bound, one.workload.cluster)
            for one in self._gateways.values()
        ]
        return replace(mesh.changed(place), gateways=tuple(reached))

    def _gateway_ports(self, workload: Workload) -> list[int]:
        numbers = set()
        for resource in self._mesh.of_kind("Gateway", workload.cluster):
            assert isinstance(resource.spec, GatewaySpec)
            numbers |= {server.port.number for server in resource.spec.servers}
        return sorted(numbers)

    def _publish(self) -> None:
        placed = self._placed(self._mesh)
        for name, source in self._sources.items():
            source.mesh = placed
            if name in self._servers:
                self._servers[name].changed()

    async def apply(self, mesh: Mesh) -> None:
        """Make the mesh so, and wait until gateways and client have it."""
        self._mesh = mesh
        self._publish()
        for server in self._servers.values():
            await server.settled(READY_S)
        for gateway in self._gateways.values():
            await gateway.wait_warm()
        client = self._the_client
        await client.wait(lambda snapshot: not snapshot.warming, "the whole configuration")

    @property
    def _the_client(self) -> MeshClient:
        assert self._client is not None
        return self._client

    async def stop_gateways(self, cluster: str) -> None:
        """Kill the gateways of a cluster; the control planes are not told, as in real life."""
        for gateway in self._gateways.values():
            if gateway.workload.cluster == cluster:
                await gateway.child.stop()

    async def start_gateways(self, cluster: str) -> None:
        """Start them again, on new ports."""
        for gateway in [one for one in self._gateways.values() if one.workload.cluster == cluster]:
            await self._start_gateway(gateway.workload)

    def target(self) -> Target:
        """What the client would connect to now."""
        service, port = self._scenario.service, self._scenario.port
        address = service.addresses.get(self._scenario.client.cluster, "")
        name = self._the_client.route(f"{address}_{port.number}", ClusterKey(service, port).name)
        return self._the_client.target(name)

    async def connect(self, target: Target, count: int, progress: Callable[[int], None]) -> Traffic:
        """Connections of the client."""
        return await self._the_client.connect(target, count, progress)

    async def answered(self) -> dict[tuple[str, str, str], int]:
        """Connections that each workload answered since the last time, by its own count."""
        found: dict[tuple[str, str, str], int] = {}
        for child in self._workloads.values():
            answer = json.loads(await child.ask(json.dumps({"counts": True}), READY_S))
            for name, count in answer["answered"].items():
                cluster, namespace, own = name.rpartition(":")[0].split("/")
                identity = (cluster, namespace, own)
                found[identity] = found.get(identity, 0) + count
        return found

    def dialled(self, target: Target) -> set[tuple[str, str, str]]:
        """Workloads that the client reaches by their own address, rather than through a gateway."""
        columns = target.table.columns
        addresses = {target.table.address(row) for row in range(columns.count)}
        return {
            identity
            for identity, bound in self._listens.items()
            if any(f"{HOST}:{port}" in addresses for port in bound.values())
        }

    async def routed(self) -> int:
        """Connections that all running gateways have routed so far."""
        return sum([await one.routed() for one in self._gateways.values() if one.child.running])

    def stands_for(self) -> dict[str, str]:
        """What is behind each address: workload or gateway."""
        found = {
            f"{HOST}:{bound}": f"{one.cluster}/{one.name}"
            for one in self._mesh.workloads
            for bound in self._listens.get(one.identity, {}).values()
        }
        found.update((f"{HOST}:{one.bound}", f"gateway of {one.workload.cluster}") for one in self._gateways.values())
        return found
