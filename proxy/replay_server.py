"""`eastgate replay --serve`: a control plane that sends what a journal holds, for a real Envoy or another eastgate."""

import asyncio
import signal
from collections.abc import Mapping
from typing import Any

from eastgate.mesh.ads_server import AdsServer
from eastgate.xds.decode import CDS, EDS, LDS
from eastgate.xds.resources import Snapshot

from .disk.replay import Journal, Replayed, Wanted, described, wanted_of
from .errors import SettingsError
from .log import Log
from .setting import join_host_port, parse_host_port


class JournalSource:
    """What was accepted, to every node alike."""

    def __init__(self, snapshot: Snapshot) -> None:
        self.snapshot = snapshot

    def resources(self, node: Any) -> Mapping[str, Mapping[str, bytes]]:
        """Type URL -> name -> bytes."""
        del node
        snapshot = self.snapshot
        return {
            CDS: {name: one.raw for name, one in snapshot.clusters.items()},
            EDS: {name: one.raw for name, one in snapshot.assignments.items()},
            LDS: {name: one.raw for name, one in snapshot.listeners.items()},
        }


async def serve(path: str, wanted: Wanted, listen: str, *, interval_s: float) -> None:
    """Serve the state of one push, and with an interval those after it, until a signal comes. Raises EastgateError."""
    log = Log("replay")
    journal = Journal(path)
    found = journal.at(wanted)
    source = JournalSource(found.store.snapshot)
    server = AdsServer(source)
    host, port = parse_host_port("--serve", listen, allow_port_zero=True)
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stopped.set)
    try:
        bound = await server.start(join_host_port(host, port))
    except OSError as error:
        raise SettingsError("--serve", listen, str(error)) from None
    tell(log, found, f"{host}:{bound}")
    async with asyncio.TaskGroup() as tasks:
        playing = tasks.create_task(play(journal, found, source, server, interval_s=interval_s, log=log))
        await stopped.wait()
        playing.cancel()
    await server.stop()


async def play(
    journal: Journal, found: Replayed, source: JournalSource, server: AdsServer, *, interval_s: float, log: Log
) -> None:
    """One push after the other."""
    reached = found.push.number if found.push else 0
    numbers = [push.number for push in journal.pushes() if push.number > reached] if interval_s else []
    for number in numbers:
        await asyncio.sleep(interval_s)
        found = await asyncio.to_thread(journal.at, Wanted(number=number))
        source.snapshot = found.store.snapshot
        server.changed()
        tell(log, found, "")


def tell(log: Log, found: Replayed, address: str) -> None:
    where = {"address": address} if address else {}
    log.info("serving", journal=found.source, state=described(found), **where)
    for note in found.notes:
        log.warning("journal", note=note)


def run_serve(path: str, listen: str, *, push: int | None, at: str, interval_s: float) -> None:
    """Entry point. Raises EastgateError."""
    asyncio.run(serve(path, wanted_of(push, at), listen, interval_s=interval_s))
