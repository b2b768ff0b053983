"""The echo workloads of a trial: a process for each cluster, and within it a listener for each port of a workload."""

import asyncio
import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import AsyncExitStack
from typing import Any

from eastgate.mesh.endpoints import target_port
from eastgate.mesh.model import Identity, Mesh, Workload

from .child import Child

HOST = "127.0.0.1"
READY_S = 20.0


def target_ports(mesh: Mesh, workload: Workload) -> list[int]:
    """Ports at which services expect a workload."""
    services = [one for one in mesh.services if one.selects(workload)]
    return sorted({target_port(workload, port) for one in services for port in one.ports} - {0})


class EchoProcesses:
    """All of them. ``listens``: by workload, where it really listens for each target port."""

    def __init__(self) -> None:
        self.listens: dict[Identity, dict[int, int]] = {}
        self._children: list[Child] = []

    async def start(self, mesh: Mesh, what: Callable[[Workload], Mapping[str, Any]], stack: AsyncExitStack) -> None:
        """Start them; ``what``: a workload's own part of the command. Raises TrialError."""
        await asyncio.gather(*(self._start(mesh, name, what, stack) for name in mesh.clusters))

    async def _start(
        self, mesh: Mesh, cluster: str, what: Callable[[Workload], Mapping[str, Any]], stack: AsyncExitStack
    ) -> None:
        child = await Child.start(f"workloads of {cluster}", "eastgate.trial.workload")
        stack.push_async_callback(child.stop)
        self._children.append(child)
        entries = list(self._entries(mesh, cluster, what))
        answer = json.loads(await child.ask(json.dumps({"listen": entries}), READY_S))
        for name, bound in answer["ports"].items():
            identity, port = _of(name)
            self.listens.setdefault(identity, {})[port] = bound

    def _entries(
        self, mesh: Mesh, cluster: str, what: Callable[[Workload], Mapping[str, Any]]
    ) -> Iterator[dict[str, Any]]:
        for workload in mesh.workloads:
            if workload.cluster == cluster and workload.role == "echo":
                own = {"host": HOST, "text": workload.answer or cluster, **what(workload)}
                for port in target_ports(mesh, workload):
                    yield {"name": f"{'/'.join(workload.identity)}:{port}", **own}

    async def answered(self) -> dict[Identity, int]:
        """Connections that each workload answered since the last time, by its own count."""
        found: dict[Identity, int] = {}
        for child in self._children:
            answer = json.loads(await child.ask(json.dumps({"counts": True}), READY_S))
            for name, count in answer["answered"].items():
                identity, _ = _of(name)
                found[identity] = found.get(identity, 0) + count
        return found


def _of(name: str) -> tuple[Identity, int]:
    identity, _, port = name.rpartition(":")
    cluster, namespace, own = identity.split("/")
    return (cluster, namespace, own), int(port)
