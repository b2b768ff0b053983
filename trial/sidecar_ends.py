"""Ends as in real pods: ordinary HTTP servers and an ordinary HTTP client, each beside an `eastgate sidecar` that
speaks mesh mTLS in its place.

Nothing is redirected (INTERCEPTION_MODE NONE), so that no privilege is needed: the client's sidecar listens where the
client asks for the service, a server's where its endpoint is. All sidecars are on one machine: each has an address of
loopback of its own, which a Sidecar resource tells it.
"""

import asyncio
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path

from eastgate.insight.answer import compiled_cluster, find_cluster
from eastgate.insight.dump_source import UrlAdmin, live_proxy
from eastgate.insight.errors import InsightError
from eastgate.insight.event_text import EventReader
from eastgate.mesh.ads_server import AdsServer
from eastgate.mesh.ca import MeshCa
from eastgate.mesh.endpoints import target_port
from eastgate.mesh.identities import ROOT, TOKEN, Identities, server_credentials
from eastgate.mesh.model import Identity, Mesh, Resource, Workload
from eastgate.mesh.scenario import Scenario
from eastgate.mesh.sidecar import SidecarSpec
from eastgate.mesh.source import MeshSource
from eastgate.proxy.errors import TrialError

from .echo_processes import HOST, EchoProcesses, target_ports
from .ends import Ejection, Shares, Traffic
from .http_client import ask
from .loopback import Loopback, is_free, some_port
from .proxy_process import ProxyProcess, arguments

POD_LABEL = "statefulset.kubernetes.io/pod-name"
"""As pods of a StatefulSet have it: the one label by which a Sidecar can tell replicas apart."""
EJECTIONS = frozenset({"ejected", "returned"})
NOT_INTERCEPTED = ("--meta", "INTERCEPTION_MODE=NONE")


class SidecarEnds:
    """See Ends."""

    def __init__(self, scenario: Scenario, mesh: Mesh, stack: AsyncExitStack) -> None:
        self._scenario, self._mesh, self._stack = scenario, mesh, stack
        self._ca = MeshCa(mesh.config.trust_domain)
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="trial-")))
        # A certificate each gets by its token.
        self._identities = Identities(folder, self._ca, sockets=False)
        self._folder = folder
        self._loopback = Loopback.claim(scenario.port.number)
        stack.callback(self._loopback.close)
        servers = [one for one in mesh.workloads if one.role == "echo"]
        ends = [scenario.client, *servers]
        self._address = {one.identity: self._loopback.address(number) for number, one in enumerate(ends, 1)}
        self._listens = {one.identity: self._ports(one) for one in servers}
        self._applications = EchoProcesses()
        self._events = EventReader()
        self.sidecars: dict[Identity, ProxyProcess] = {}

    def _ports(self, workload: Workload) -> dict[int, int]:
        """Where the sidecar of a server listens for each target port: there, if nobody else does."""
        address = self._address[workload.identity]

        def port(wanted: int) -> int:
            try:
                return wanted if is_free(address, wanted) else some_port(address)
            except PermissionError:
                return some_port(address)

        return {wanted: port(wanted) for wanted in target_ports(self._mesh, workload)}

    @property
    def client_address(self) -> tuple[str, int]:
        """Where the client asks for the service."""
        return self._address[self._scenario.client.identity], self._scenario.port.number

    def open_server(self, source: MeshSource, debounce_s: float) -> AdsServer:
        credentials = server_credentials(self._ca, HOST)
        return AdsServer(source, debounce_s=debounce_s, services=self._identities.services, credentials=credentials)

    def discovery_flags(self, workload: Workload, discovery: str) -> list[str]:
        """Over TLS, with the workload's token, by which it also gets its certificate."""
        token = self._identities.place(workload) / TOKEN
        flags = ["--discovery", discovery, "--discovery-root-cert", str(self._folder / ROOT)]
        return [*flags, "--token-file", str(token), "--service-account", workload.service_account]

    async def start_workloads(self) -> None:
        self._stack.push_async_callback(self._identities.stop)
        await self._identities.start(self._mesh)
        await self._applications.start(self._mesh, lambda _: {}, self._stack)

    async def start_proxies(self, discovery: Mapping[str, str]) -> None:
        servers = [one for one in self._mesh.workloads if one.role == "echo"]
        await asyncio.gather(*(self._start(one, discovery[one.cluster]) for one in servers))

    async def start_client(self, discovery: str) -> None:
        await self._start(self._scenario.client, discovery)

    async def _start(self, workload: Workload, discovery: str) -> None:
        flags = [*self.discovery_flags(workload, discovery), *NOT_INTERCEPTED]
        command = arguments("sidecar", workload, self._address[workload.identity], flags)
        sidecar = await ProxyProcess.start(workload, command)
        self._stack.push_async_callback(sidecar.child.stop)
        self.sidecars[workload.identity] = sidecar
        await sidecar.ready("does a service select its workload?")

    def place(self, workload: Workload) -> Workload:
        address = self._address.get(workload.identity)
        if address is None:
            return workload
        labels = {POD_LABEL: workload.name, **workload.labels}
        return replace(workload, address=address, listens=self._listens.get(workload.identity, {}), labels=labels)

    def resources(self, mesh: Mesh) -> Iterator[Resource]:
        """A Sidecar for each of them; those of the mesh itself come after these, and so do not count."""
        for workload in mesh.workloads:
            if workload.identity in self._address:
                spec = SidecarSpec.model_validate(
                    {
                        "workloadSelector": {"labels": {POD_LABEL: workload.labels[POD_LABEL]}},
                        **(self._ingress(workload) if workload.role == "echo" else self._egress(workload)),
                    }
                )
                name = f"{workload.name}-on-loopback"
                yield Resource("Sidecar", workload.namespace, name, spec, frozenset({workload.cluster}))

    def _egress(self, workload: Workload) -> Mapping[str, object]:
        service, port = self._scenario.service, self._scenario.port
        opened = {"number": port.number, "protocol": port.protocol.upper(), "name": port.name}
        entry = {"port": opened, "bind": self._address[workload.identity], "hosts": [f"*/{service.host}"]}
        return {"egress": [entry]}

    def _ingress(self, workload: Workload) -> Mapping[str, object]:
        applications = self._applications.listens[workload.identity]
        entries = [
            {
                "port": {"number": bound, "protocol": self._protocol(workload.identity, target)},
                "bind": self._address[workload.identity],
                "defaultEndpoint": f"{HOST}:{applications[target]}",
            }
            for target, bound in self._listens[workload.identity].items()
        ]
        # Servers ask for nothing: their sidecars would listen where the client's does.
        return {"ingress": entries, "egress": [{"hosts": ["~/*"]}]}

    def _protocol(self, identity: Identity, target: int) -> str:
        """The protocol of the first service port that leads to a target port."""
        workload = next(one for one in self._mesh.workloads if one.identity == identity)
        services = [one for one in self._mesh.services if one.selects(workload)]
        found = [port for one in services for port in one.ports if target_port(workload, port) == target]
        return "TCP" if found[0].protocol == "auto" else found[0].protocol.upper()

    def addresses(self, workload: Workload) -> Iterable[str]:
        address = self._address.get(workload.identity)
        return (f"{address}:{bound}" for bound in self._listens.get(workload.identity, {}).values())

    async def settled(self) -> None:
        await asyncio.gather(*(one.wait_warm() for one in self.sidecars.values()))

    async def handshakes(self) -> tuple[int, int]:
        """Handshakes that servers' sidecars have ended, and how many of them were resumed."""
        servers = [one for one in self.sidecars.values() if one is not self.client]
        every, resumed = zip(*[await one.handshakes() for one in servers], strict=True)
        return sum(every), sum(resumed)

    @property
    def client(self) -> ProxyProcess:
        """The sidecar of the client."""
        return self.sidecars[self._scenario.client.identity]

    async def cluster(self) -> str:
        """The cluster to which the client's sidecar sends its connections. Raises TrialError."""
        return (await asyncio.to_thread(self._explained))[0]

    def _explained(self) -> tuple[str, Shares]:
        """The client's cluster, as its sidecar's admin tells it."""
        host, port = self.client_address
        try:
            proxy = live_proxy(self.client.admin)
            chains = [one for one in proxy.chains if one.listener == f"{host}_{port}" and one.clusters]
            if not chains:
                raise TrialError(f"client: the control plane sent no listener {host}_{port}")
            name = chains[0].clusters[0]
            found = compiled_cluster(*find_cluster([proxy], name))
        except InsightError as error:
            raise TrialError(f"client: {error}") from None
        health = [one.state for one in found.model.endpoints]
        return name, Shares(found.table, found.columns, health, found.model.overprovisioning_factor)

    async def shares(self) -> Shares:
        return (await asyncio.to_thread(self._explained))[1]

    async def ejections(self) -> list[Ejection]:
        """As the client's sidecar tells them. Raises TrialError."""
        try:
            events = await asyncio.to_thread(self._events.read, UrlAdmin(self.client.admin))
        except InsightError as error:
            raise TrialError(f"client: {error}") from None
        return [
            Ejection(one["kind"], one["endpoint"], one["cause"], one.get("moved") or 0.0)
            for one in events
            if one["kind"] in EJECTIONS and one.get("endpoint")
        ]

    async def connect(self, count: int, progress: Callable[[int], None]) -> Traffic:
        return await ask(*self.client_address, count, progress)

    async def answered(self) -> dict[Identity, int]:
        return await self._applications.answered()
