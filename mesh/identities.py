"""What workloads of a served mesh show and trust: a folder with a token and an SDS socket for each of them.

    FOLDER/root-cert.pem                          the mesh's root
    FOLDER/CLUSTER/NAMESPACE/WORKLOAD/token       for IstioCertificateService; replaced at half of its life
    FOLDER/CLUSTER/NAMESPACE/WORKLOAD/sds         the socket of an SDS server, in the place of pilot-agent's

All of it is its owner's alone: who may read a workload's folder is the workload.
"""

import asyncio
import os
import time
from collections.abc import Sequence
from pathlib import Path

import grpc

from .ca import LIFETIME as CERTIFICATE_LIFETIME
from .ca import MeshCa, WorkloadCertificate
from .certificate_service import CertificateService
from .model import Mesh, Workload
from .sds_server import SdsServer
from .tokens import LIFETIME as TOKEN_LIFETIME
from .tokens import Caller, Tokens

ROOT, TOKEN, SOCKET = "root-cert.pem", "token", "sds"
OWNER_ONLY, OWNERS_FOLDER = 0o600, 0o700
NAMES = ("localhost", "istiod.istio-system.svc")
"""What a control plane is called beside its own address."""
SERVER_CLUSTER = "istiod"

Identity = tuple[str, str, str]


class Identities:
    """Keeps the folder in step with a mesh. Owner: the event loop."""

    def __init__(self, folder: Path, ca: MeshCa, *, sockets: bool = True) -> None:
        """``sockets``: with SDS servers; without, a token is all that a workload gets beside the root."""
        self._folder, self._ca, self._sockets = folder, ca, sockets
        self._tokens = Tokens()
        self._servers: dict[Identity, SdsServer | None] = {}
        self._renewing: asyncio.Task[None] | None = None

    @property
    def services(self) -> Sequence[grpc.GenericRpcHandler]:
        """What an ADS server offers beside ADS to those who have a token."""
        return (CertificateService(self._ca, self._tokens).handler(),)

    async def start(self, mesh: Mesh) -> None:
        """Make the folder. Raises OSError where that is not possible."""
        await asyncio.to_thread(self._make_root)
        await self.update(mesh)
        self._renewing = asyncio.ensure_future(self._renew())

    async def update(self, mesh: Mesh) -> None:
        """Give new workloads theirs, and end the sockets of those that are gone. Raises OSError."""
        workloads = {one.identity: one for one in mesh.workloads}
        for gone in set(self._servers) - set(workloads):
            await self._end(self._servers.pop(gone))
        for identity, workload in workloads.items():
            if identity not in self._servers:
                await self._add(identity, workload)

    async def stop(self) -> None:
        """End all sockets. Tokens end with the process: nobody knows them again."""
        if self._renewing is not None:
            self._renewing.cancel()
        for server in self._servers.values():
            await self._end(server)

    @staticmethod
    async def _end(server: SdsServer | None) -> None:
        if server is not None:
            await server.stop()

    def place(self, workload: Workload) -> Path:
        """The folder of a workload."""
        return self._folder.joinpath(*workload.identity)

    def _make_root(self) -> None:
        self._folder.mkdir(mode=OWNERS_FOLDER, parents=True, exist_ok=True)
        _replace(self._folder / ROOT, self._ca.root)

    async def _add(self, identity: Identity, workload: Workload) -> None:
        where = self.place(workload)
        await asyncio.to_thread(self._make_place, where, workload)
        if not self._sockets:
            self._servers[identity] = None
            return
        server = SdsServer(lambda: self._certificate(workload))
        await server.start(where / SOCKET)
        self._servers[identity] = server

    def _make_place(self, where: Path, workload: Workload) -> None:
        where.mkdir(mode=OWNERS_FOLDER, parents=True, exist_ok=True)
        # A socket that an earlier process left behind.
        (where / SOCKET).unlink(missing_ok=True)
        self._write_token(where, Caller(workload.namespace, workload.service_account))

    def _write_token(self, where: Path, caller: Caller) -> None:
        _replace(where / TOKEN, self._tokens.issue(caller))

    def _certificate(self, workload: Workload) -> WorkloadCertificate:
        return self._ca.issue(workload.spiffe_id(self._ca.trust_domain), cluster=workload.cluster)

    async def _renew(self) -> None:
        while True:
            await asyncio.sleep(TOKEN_LIFETIME.total_seconds() / 2)
            for cluster, namespace, name in list(self._servers):
                where = self._folder / cluster / namespace / name
                token = await asyncio.to_thread((where / TOKEN).read_text)
                await asyncio.to_thread(self._write_token, where, self._tokens.check(token))


def _replace(path: Path, text: str) -> None:
    """Whole or not at all, for its owner alone."""
    draft = path.with_name(f".{path.name}.new")
    file = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, OWNER_ONLY)
    with os.fdopen(file, "w") as stream:
        stream.write(text)
    draft.replace(path)


def server_credentials(ca: MeshCa, host: str) -> grpc.ServerCredentials:
    """TLS of a control plane that is reached as `host`; its certificate is replaced at half of its life."""
    made: list[float] = []

    def configuration() -> object:
        own = ca.issue_server(host.strip("[]"), *NAMES, cluster=SERVER_CLUSTER)
        made[:] = [time.monotonic()]
        return grpc.ssl_server_certificate_configuration([(own.key.encode(), own.chain.encode())])

    def fetched() -> object | None:
        old = time.monotonic() - made[0] > CERTIFICATE_LIFETIME.total_seconds() / 2
        return configuration() if old else None

    return grpc.dynamic_ssl_server_credentials(configuration(), fetched)
