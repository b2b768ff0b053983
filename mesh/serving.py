"""The embedded control plane of a mesh file, until it is told to stop.

The file is read again when it changes; one that cannot be used is named, and the last good mesh stays.
"""

import asyncio
import os
import signal
from pathlib import Path

from eastgate.xds.log import Log

from .ads_server import AdsServer
from .errors import MeshError
from .mesh_file import MeshFile, load
from .source import MeshSource

WATCH_S = 0.5
"""How often the file is looked at."""


def signature(path: Path) -> tuple[int, ...]:
    """What changes when the file does; empty while there is none (an editor may be replacing it)."""
    try:
        found = path.stat()
    except OSError:
        return ()
    return found.st_mtime_ns, found.st_size, found.st_ino


def load_file(path: str | os.PathLike[str], log: Log) -> MeshFile:
    """The file, its findings logged. Raises MeshError."""
    file = load(Path(path))
    for finding in file.findings:
        log.warning("not honoured", finding=finding)
    return file


async def watch(path: Path, source: MeshSource, server: AdsServer, log: Log) -> None:
    """Serve what the file says, from now on, whenever it changes."""
    seen = signature(path)
    while True:
        await asyncio.sleep(WATCH_S)
        now = signature(path)
        if not now or now == seen:
            continue
        seen = now
        try:
            source.mesh = load_file(path, log).mesh
        except MeshError as error:
            log.error("mesh file not used, the last good mesh stays", reason=error)
            continue
        server.changed()
        log.info("mesh file read again", file=path)


async def serve(path: Path, address: str) -> None:
    """Serve all clusters of the file on one address; a node says by CLUSTER_ID to which it belongs.

    Raises MeshError for the file, OSError for the address.
    """
    log = Log("mesh")
    file = load_file(path, log)
    source = MeshSource(file.mesh)
    server = AdsServer(source)
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stopped.set)
    port = await server.start(address)
    host = address.rpartition(":")[0]
    log.info("serving", file=path, clusters=",".join(file.mesh.clusters), address=f"{host}:{port}")
    async with asyncio.TaskGroup() as tasks:
        watching = tasks.create_task(watch(path, source, server, log))
        await stopped.wait()
        watching.cancel()
    await server.stop()
