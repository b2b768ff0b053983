"""Ends without a proxy: echo workloads that speak mesh mTLS themselves, and a client that picks with the table that a
sidecar would.
"""

from collections.abc import Callable, Iterable, Mapping
from contextlib import AsyncExitStack
from dataclasses import asdict, replace
from typing import Any

from eastgate.mesh.ads_server import AdsServer
from eastgate.mesh.ca import MeshCa
from eastgate.mesh.endpoints import ClusterKey
from eastgate.mesh.model import Identity, Mesh, Resource, Workload
from eastgate.mesh.scenario import Scenario
from eastgate.mesh.source import MeshSource
from eastgate.xds.columns import Health
from eastgate.xds.node import NodeIdentity

from .client import MeshClient, Target
from .echo_processes import HOST, EchoProcesses
from .ends import Ejection, Shares, Traffic

HEALTH = tuple(one.name for one in Health)


class BareEnds:
    """See Ends."""

    def __init__(self, scenario: Scenario, mesh: Mesh, stack: AsyncExitStack) -> None:
        self._scenario, self._mesh, self._stack = scenario, mesh, stack
        self._ca = MeshCa(mesh.config.trust_domain)
        self._workloads = EchoProcesses()
        self._client: MeshClient | None = None

    def open_server(self, source: MeshSource, debounce_s: float) -> AdsServer:
        return AdsServer(source, debounce_s=debounce_s)

    def discovery_flags(self, _: Workload, discovery: str) -> list[str]:
        return ["--discovery", discovery]

    async def start_workloads(self) -> None:
        def certificate(workload: Workload) -> Mapping[str, Any]:
            return asdict(self._ca.issue(workload.spiffe_id(self._ca.trust_domain), cluster=workload.cluster))

        await self._workloads.start(self._mesh, certificate, self._stack)

    async def start_proxies(self, _: Mapping[str, str]) -> None:
        """There are none."""

    async def start_client(self, discovery: str) -> None:
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
        self._client = MeshClient(discovery, node, certificate)
        await self._client.start()
        self._stack.push_async_callback(self._client.stop)

    def place(self, workload: Workload) -> Workload:
        if not workload.role:
            return workload
        return replace(workload, address=HOST, listens=self._workloads.listens.get(workload.identity, {}))

    def resources(self, _: Mesh) -> Iterable[Resource]:
        return ()

    def addresses(self, workload: Workload) -> Iterable[str]:
        return (f"{HOST}:{bound}" for bound in self._workloads.listens.get(workload.identity, {}).values())

    async def settled(self) -> None:
        await self._the_client.wait(lambda snapshot: not snapshot.warming, "the whole configuration")

    async def shares(self) -> Shares:
        target = self._target()
        columns = target.assignment.columns
        health = [HEALTH[value] for value in columns.health]
        return Shares(target.table, columns, health, target.assignment.overprovisioning_factor)

    async def ejections(self) -> list[Ejection]:
        return []

    async def connect(self, count: int, progress: Callable[[int], None]) -> Traffic:
        return await self._the_client.connect(self._target(), count, progress)

    async def answered(self) -> dict[Identity, int]:
        return await self._workloads.answered()

    def _target(self) -> Target:
        """What the client would connect to now."""
        service, port = self._scenario.service, self._scenario.port
        address = next(iter(service.addresses.get(self._scenario.client.cluster, ())), "")
        name = self._the_client.route(f"{address}_{port.number}", ClusterKey(service, port).name)
        return self._the_client.target(name)

    @property
    def _the_client(self) -> MeshClient:
        assert self._client is not None
        return self._client
