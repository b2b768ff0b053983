"""`eastgate mesh serve`: the embedded control plane of a mesh file, until it is told to stop.

The file is read again when it changes; one that cannot be used is named, and the last good mesh stays.
"""

import asyncio
import os
import signal
from pathlib import Path

from eastgate.mesh.ads_server import AdsServer
from eastgate.mesh.errors import MeshError
from eastgate.mesh.mesh_file import MeshFile, load
from eastgate.mesh.source import MeshSource
from eastgate.proxy.errors import MeshFileError, SettingsError
from eastgate.proxy.log import Log

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
    """The file, its findings logged. Raises MeshFileError."""
    try:
        file = load(Path(path))
    except MeshError as error:
        raise MeshFileError(str(error)) from None
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
        except MeshFileError as error:
            log.error("mesh file not used, the last good mesh stays", reason=error)
            continue
        server.changed()
        log.info("mesh file read again", file=path)


async def serve(path: Path, host: str, port: int) -> None:
    """Serve all clusters of the file on one address; a node says by CLUSTER_ID to which it belongs."""
    log = Log("mesh")
    file = load_file(path, log)
    source = MeshSource(file.mesh)
    server = AdsServer(source)
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stopped.set)
    try:
        bound = await server.start(f"{host}:{port}")
    except OSError as error:
        raise SettingsError("--listen", f"{host}:{port}", str(error)) from None
    log.info("serving", file=path, clusters=",".join(file.mesh.clusters), address=f"{host}:{bound}")
    async with asyncio.TaskGroup() as tasks:
        watching = tasks.create_task(watch(path, source, server, log))
        await stopped.wait()
        watching.cancel()
    await server.stop()


def run_serve(path: str, listen: str) -> None:
    """Entry point. Raises EastgateError for what the user can mend."""
    host, _, port = listen.rpartition(":")
    if not host or not port.isdigit() or int(port) > 65535:
        raise SettingsError("--listen", listen, "expected HOST:PORT")
    asyncio.run(serve(Path(path), host.strip("[]") if host.startswith("[") else host, int(port)))
