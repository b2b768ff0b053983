"""A running mesh on loopback: a control plane per cluster, gateway processes, and what stands at the two ends.

Everything is real but the machines. Ports are the kernel's; what a mesh file says about addresses is replaced by them.
"""

import asyncio
from collections import Counter
from collections.abc import Callable, Set
from contextlib import AsyncExitStack
from dataclasses import replace
from typing import Self

from eastgate.mesh.ads_server import AdsServer
from eastgate.mesh.model import Identity, Mesh, Workload
from eastgate.mesh.scenario import Scenario
from eastgate.mesh.source import MeshSource
from eastgate.mesh.split_horizon import NetworkGateway
from eastgate.mesh.virtual_service import GatewaySpec

from .bare_ends import BareEnds
from .ends import Ejection, Ends, Shares, Traffic
from .proxy_process import HOST, READY_S, ProxyProcess, arguments
from .sidecar_ends import SidecarEnds

DEBOUNCE_S = 0.02
# Without a listener nobody outside can come in.
NOT_LISTENING = "does a Gateway resource select its labels?"


class Trial:
    """The parts of a running mesh. Use it as a context: leaving it leaves nothing running."""

    def __init__(self, scenario: Scenario, mesh: Mesh) -> None:
        self._mesh = mesh
        self._client_cluster = scenario.client.cluster
        self._sources = {name: MeshSource(mesh, name) for name in mesh.clusters}
        self._servers: dict[str, AdsServer] = {}
        self._discovery: dict[str, str] = {}
        self._gateways: dict[Identity, ProxyProcess] = {}
        self._routed: Counter[Identity] = Counter()
        self._stack = AsyncExitStack()
        self.sidecars = SidecarEnds(scenario, mesh, self._stack) if scenario.sidecars else None
        self._ends: Ends = self.sidecars or BareEnds(scenario, mesh, self._stack)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    async def start(self, say: Callable[[str], None]) -> None:
        """Start everything, in the order in which the parts need each other. Raises TrialError."""
        say("workloads")
        await self._ends.start_workloads()
        say("control planes")
        for name, source in self._sources.items():
            server = self._ends.open_server(source, DEBOUNCE_S)
            self._discovery[name] = f"{HOST}:{await server.start(f'{HOST}:0')}"
            self._stack.push_async_callback(server.stop)
            self._servers[name] = server
        self._publish()
        say("gateways and sidecars" if self.sidecars else "gateways")
        gateways = [one for one in self._mesh.workloads if one.role == "gateway"]
        await asyncio.gather(self._ends.start_proxies(self._discovery), *(self._start_gateway(one) for one in gateways))
        say("client")
        await self._ends.start_client(self._discovery[self._client_cluster])
        await self.apply(self._mesh)

    async def _start_gateway(self, workload: Workload) -> None:
        flags = self._ends.discovery_flags(workload, self._discovery[workload.cluster])
        gateway = await ProxyProcess.start(workload, arguments("gateway", workload, HOST, flags))
        self._stack.push_async_callback(gateway.child.stop)
        self._gateways[workload.identity] = gateway
        await gateway.ready(NOT_LISTENING)

    def _placed(self, mesh: Mesh) -> Mesh:
        """The mesh with the addresses that its parts really have."""

        def place(one: Workload) -> Workload:
            if one.role == "gateway":
                # Port 0: the gateway takes a free one, and says which.
                return replace(one, address=HOST, listens=dict.fromkeys(self._gateway_ports(one), 0))
            return self._ends.place(one)

        reached = [
            NetworkGateway(one.workload.network, HOST, one.bound, one.workload.cluster)
            for one in self._gateways.values()
            if one.bound
        ]
        placed = replace(mesh.changed(place), gateways=tuple(reached))
        return placed.applied(self._ends.resources(placed))

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
        await self._ends.settled()

    @property
    def down(self) -> frozenset[Identity]:
        """Gateways whose processes have ended."""
        return frozenset(name for name, one in self._gateways.items() if not one.child.running)

    async def stop_gateways(self, names: Set[Identity]) -> None:
        """Kill gateways; the control planes are not told, as in real life. What they have routed stays counted."""
        for name in sorted(names - self.down):
            gateway = self._gateways[name]
            self._routed[name] += await gateway.routed()
            await gateway.child.kill()

    async def start_gateways(self, names: Set[Identity]) -> None:
        """Start them again, on new ports."""
        await asyncio.gather(*(self._start_gateway(self._gateways[name].workload) for name in sorted(names)))

    async def with_gateways_down(self, names: Set[Identity]) -> None:
        """These gateways down, and all others up."""
        await self.stop_gateways(names)
        await self.start_gateways(self.down - names)

    async def handshakes(self) -> tuple[int, int] | None:
        """Handshakes of mTLS at the servers' sidecars so far, and how many of them were resumed; None without."""
        return await self.sidecars.handshakes() if self.sidecars else None

    async def shares(self) -> Shares:
        """The client's cluster as it is now. Raises TrialError."""
        return await self._ends.shares()

    async def connect(self, count: int, progress: Callable[[int], None]) -> Traffic:
        """Connections of the client."""
        return await self._ends.connect(count, progress)

    async def answered(self) -> dict[Identity, int]:
        """Connections that each workload answered since the last time, by its own count."""
        return await self._ends.answered()

    def dialled(self, shares: Shares) -> set[Identity]:
        """Workloads that the client reaches by their own address, rather than through a gateway."""
        addresses = {shares.table.address(row) for row in range(shares.columns.count)}
        return {one.identity for one in self._mesh.workloads if addresses & {*self._ends.addresses(one)}}

    async def ejections(self) -> list[Ejection]:
        """Endpoints of the client that went out or came back since the last time."""
        return await self._ends.ejections()

    async def routed(self) -> Counter[Identity]:
        """Connections that each gateway has routed so far, whether it still runs or not."""
        found = self._routed.copy()
        for name, one in self._gateways.items():
            if one.child.running:
                found[name] += await one.routed()
        return found

    def gateway_name(self, name: Identity) -> str:
        """What a gateway is called in a report: by its cluster, where that has no other."""
        cluster, _, short = name
        alone = sum(1 for one in self._gateways if one[0] == cluster) == 1
        return f"gateway of {cluster}" if alone else f"{short} of {cluster}"

    def stands_for(self) -> dict[str, str]:
        """What is behind each address: workload or gateway."""
        found = {
            address: f"{one.cluster}/{one.name}"
            for one in self._mesh.workloads
            for address in self._ends.addresses(one)
        }
        found.update((f"{HOST}:{one.bound}", self.gateway_name(name)) for name, one in self._gateways.items())
        return found
