"""A proxy of a trial: an `eastgate` process that stands for a workload's proxy, and what its admin says."""

import asyncio
import json
import time
import urllib.request
from collections.abc import Callable, Sequence
from typing import Any, Self
from urllib.parse import quote

from eastgate.mesh.model import Workload

from .child import Child

HOST = "127.0.0.1"
READY_S = 20.0
POLL_S = 0.02
ANNOUNCED = "admin listening on "
ROUTED_PREFIX = "cluster.outbound_."
WARMING = "cluster_manager.warming_clusters"
NODE_TYPES = {"gateway": "router", "sidecar": "sidecar"}


def arguments(command: str, workload: Workload, address: str, more: Sequence[str]) -> list[str]:
    """`eastgate gateway` or `eastgate sidecar` for a workload at this address; `more`: where its control plane is."""
    identity = f"{address}~{workload.name}.{workload.namespace}~{workload.namespace}.svc.cluster.local"
    flags = {
        "--node-id": f"{NODE_TYPES[command]}~{identity}",
        "--cluster-id": workload.cluster,
        "--network": workload.network,
        "--namespace": workload.namespace,
        "--locality": str(workload.locality),
        "--admin": f"{HOST}:0",
        "--workers": "1",
        "--drain-time": "0",
    }
    found = [command, *more]
    for flag, value in flags.items():
        if value:
            found += [flag, value]
    for key, value in workload.labels.items():
        found += ["--label", f"{key}={value}"]
    return found


class ProxyProcess:
    """One running proxy. ``admin``: its URL."""

    def __init__(self, workload: Workload, child: Child, admin: str) -> None:
        self.workload, self.child, self.admin = workload, child, admin
        self.bound = 0

    @classmethod
    async def start(cls, workload: Workload, arguments: Sequence[str]) -> Self:
        """Start it, and wait until it has said where its admin is. Raises TrialError."""
        name = f"{arguments[0]} of {workload.cluster}/{workload.name}"
        child = await Child.start(name, "eastgate.commands", arguments)
        try:
            line = await child.wait_line(ANNOUNCED, READY_S)
        except BaseException:
            await child.stop()
            raise
        return cls(workload, child, line.rpartition(ANNOUNCED)[2].split()[0])

    async def ready(self, hint: str) -> None:
        """Until it has its configuration and listens; ``hint``: why it may not. Raises TrialError."""
        await self.until(lambda: self._get("/ready") is not None, "it is ready")
        await self.until(self._listening, f"it listens ({hint})")

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
            with urllib.request.urlopen(f"{self.admin}{path}", timeout=READY_S) as answer:
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
        found = self._json(f"/stats?format=json&filter={quote(name)}")["stats"]
        return next((int(one["value"]) for one in found if one.get("name") == name), 0)

    async def stats(self) -> dict[str, int]:
        """All counters and gauges by name."""
        found = await asyncio.to_thread(self._json, "/stats?format=json")
        return {one["name"]: one["value"] for one in found["stats"] if isinstance(one.get("value"), int)}

    async def routed(self) -> int:
        """Connections that a gateway has passed on to an endpoint."""
        counts = await self.stats()
        total = 0
        for name, value in counts.items():
            if name.startswith(ROUTED_PREFIX) and name.endswith(".upstream_cx_total"):
                total += value - counts.get(name.removesuffix("total") + "connect_fail", 0)
        return total

    async def handshakes(self) -> tuple[int, int]:
        """Handshakes of TLS that its listeners have ended, and how many of them went on with an earlier session."""
        counts = await self.stats()

        def total(short: str) -> int:
            return sum(v for name, v in counts.items() if name.startswith("listener.") and name.endswith(short))

        return total(".ssl.handshake"), total(".ssl.session_reused")
