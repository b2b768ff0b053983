"""`eastgate record`: subscribe as a node and keep every push in a journal. Opens no port and serves nobody.

Resources are compiled as a gateway compiles them, so that the answers are a gateway's answers too.
"""

import asyncio
import os
import signal

from eastgate.fastpath.loop.cluster_slots import ClusterSlots
from eastgate.proxy.compile.compiler import Compiler
from eastgate.proxy.compile.publisher import Publisher
from eastgate.proxy.disk.recorder import Recorder
from eastgate.xds.ads import AdsClient, Push
from eastgate.xds.decode import SHORT_NAMES
from eastgate.xds.store import Store

from .about import node_identity
from .log import Log
from .settings import GatewaySettings


async def record(settings: GatewaySettings) -> None:
    """Record until a signal comes. Raises EastgateError for what cannot be started."""
    node = node_identity(settings, os.environ)
    log = Log("journal")
    recorder = Recorder(
        settings.given.record, node.message, file_bytes=settings.record_file_bytes, keep=settings.given.record_files
    )
    store = Store(router=settings.role.routed_only)

    def pushed(push: Push) -> None:
        recorder.record(push, store.snapshot)
        log.info(
            "push",
            type=SHORT_NAMES[push.type_url],
            version=push.version,
            bytes=len(push.payload),
            answer="NACK" if push.reason else "ACK",
        )

    ads = AdsClient(
        settings.discovery,
        node,
        store,
        on_snapshot=Publisher(Compiler(ClusterSlots()), lambda: ()).publish,
        on_push=pushed,
        protocol=settings.xds_protocol,
        open_channel=settings.credentials.open_channel,
        metadata=settings.credentials.metadata,
    )
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stopped.set)
    recorder.begin(store.snapshot)
    try:
        async with asyncio.TaskGroup() as group:
            group.create_task(ads.run())
            await stopped.wait()
            await ads.close()
    finally:
        recorder.close()
        recorded, lost, failed = recorder.counters()
        log.info("stopped", recorded=recorded, lost=lost, failed=failed)


def run_record(settings: GatewaySettings) -> None:
    """Entry point. Raises EastgateError."""
    asyncio.run(record(settings))
