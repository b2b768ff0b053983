"""The embedded control plane of a mesh file, until it is told to stop.

The file is read again when it changes; one that cannot be used is named, and the last good mesh stays.
"""

import asyncio
import errno
import signal
from dataclasses import dataclass
from pathlib import Path

from eastgate.xds.log import Log

from .ads_server import AdsServer
from .ca import MeshCa
from .documents import now_and_then
from .errors import MeshError
from .identities import Identities, server_credentials
from .mesh_file import MeshFile, load
from .model import Mesh
from .source import MeshSource

WATCH_S = 0.5
"""How often the file is looked at."""

NAMED = 3
"""Workloads that a finding names."""


class Stopped(Exception):  # noqa: N818 - no error: nobody waits for the file any more
    """Ends the reading of a file."""


class Reading:
    """Says how far a file has been read, when that takes long. ``stop``: end it at the next piece."""

    def __init__(self, path: Path, log: Log) -> None:
        self._tell = now_and_then(
            lambda done, total: log.info("reading", file=path, percent=100 * done // total, bytes=total)
        )
        self.stop = False

    def __call__(self, done: int, total: int) -> None:
        if self.stop:
            raise Stopped
        self._tell(done, total)


def signature(path: Path) -> tuple[int, ...]:
    """What changes when the file does; empty while there is none (an editor may be replacing it)."""
    try:
        found = path.stat()
    except OSError:
        return ()
    return found.st_mtime_ns, found.st_size, found.st_ino


def without_address(mesh: Mesh) -> str:
    """What a client of a mesh misses whose workloads get their addresses from a run only; empty when all have one."""
    missing = [one for one in mesh.workloads if not one.address]
    if not missing:
        return ""
    names = ", ".join("/".join(one.identity) for one in missing[:NAMED])
    more = f" and {len(missing) - NAMED} more" if len(missing) > NAMED else ""
    return (
        f"{len(missing)} of {len(mesh.workloads)} workloads have no address, and stand in no endpoints: {names}{more};"
        " mesh run gives them some, mesh serve sends what the file says"
    )


def load_file(path: Path, log: Log, reading: Reading | None = None) -> MeshFile:
    """The file, its findings logged. Raises MeshError, and Stopped when `reading` was stopped."""
    file = load(path, reading or Reading(path, log))
    for finding in file.findings:
        log.warning("not honoured", finding=finding)
    if missing := without_address(file.mesh):
        log.warning("not served", reason=missing)
    return file


async def watch(path: Path, serving: "Serving", log: Log) -> None:
    """Serve what the file says, from now on, whenever it changes."""
    seen = signature(path)
    while True:
        await asyncio.sleep(WATCH_S)
        now = signature(path)
        if not now or now == seen:
            continue
        seen = now
        reading = Reading(path, log)
        try:
            mesh = (await asyncio.to_thread(load_file, path, log, reading)).mesh
        except MeshError as error:
            log.error("mesh file not used, the last good mesh stays", reason=error)
            continue
        finally:
            # The thread does not end with us: it is told.
            reading.stop = True
        await serving.changed(mesh)
        log.info("mesh file read again", file=path)


@dataclass(frozen=True, slots=True)
class Secure:
    """A second address, with TLS and certificates for workloads; ``folder``: what those need for it."""

    address: str
    folder: Path


class Serving:
    """The servers of a mesh, which answer from one source."""

    def __init__(self, source: MeshSource, log: Log) -> None:
        self._source, self._log = source, log
        self._servers: list[AdsServer] = []
        self._identities: Identities | None = None

    async def open(self, address: str) -> str:
        """Serve in plaintext; the address with its port. Raises OSError."""
        return await self._add(AdsServer(self._source), address)

    async def open_secure(self, secure: Secure) -> str:
        """Serve with TLS, and sign what workloads with a token ask for. Raises OSError."""
        ca = MeshCa(self._source.mesh.config.trust_domain)
        self._identities = Identities(secure.folder, ca)
        await self._identities.start(self._source.mesh)
        credentials = server_credentials(ca, secure.address.rpartition(":")[0])
        server = AdsServer(self._source, services=self._identities.services, credentials=credentials)
        return await self._add(server, secure.address)

    async def _add(self, server: AdsServer, address: str) -> str:
        try:
            port = await server.start(address)
        except OSError as error:
            raise OSError(errno.EADDRNOTAVAIL, error.strerror or str(error), address) from None
        self._servers.append(server)
        return f"{address.rpartition(':')[0]}:{port}"

    async def changed(self, mesh: Mesh) -> None:
        """Serve this mesh from now on."""
        self._source.mesh = mesh
        for server in self._servers:
            server.changed()
        if self._identities:
            try:
                await self._identities.update(mesh)
            except OSError as error:
                self._log.error("a workload has no identity", reason=error)

    async def stop(self) -> None:
        """End all of it."""
        for server in self._servers:
            await server.stop()
        if self._identities:
            await self._identities.stop()


async def serve(path: Path, file: MeshFile, address: str, log: Log, secure: Secure | None = None) -> None:
    """Serve all clusters of the file on one address; a node says by CLUSTER_ID to which it belongs.

    Raises OSError for an address or folder that cannot be had.
    """
    serving = Serving(MeshSource(file.mesh), log)
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stopped.set)
    try:
        clusters = ",".join(file.mesh.clusters)
        log.info("serving", file=path, clusters=clusters, address=await serving.open(address))
        if secure:
            log.info("serving with TLS", address=await serving.open_secure(secure), identities=secure.folder)
        async with asyncio.TaskGroup() as tasks:
            watching = tasks.create_task(watch(path, serving, log))
            await stopped.wait()
            watching.cancel()
    finally:
        await serving.stop()


def serve_file(path: Path, address: str, secure: Secure | None = None) -> None:
    """Read the file and serve it. Raises MeshError for the file, OSError for an address or the folder."""
    log = Log("mesh")
    # Before there is a loop that keeps signals to itself: Ctrl-C ends a long reading at once.
    file = load_file(path, log)
    asyncio.run(serve(path, file, address, log, secure))
