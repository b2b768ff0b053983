"""What is told around the steps of a scenario with sidecars: who talks to whom, and how to ask along."""

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import suppress

from eastgate.mesh.model import Identity, Mesh, Workload
from eastgate.mesh.scenario import Scenario, Step
from rich.console import Console
from rich.text import Text

from .sidecar_ends import SidecarEnds
from .trial import Trial

LINE_BYTES = 4096
NAMED = 3


def opening(mesh: Mesh, scenario: Scenario) -> Text:
    """The mesh in a few lines: where everything is, and the way of a connection."""
    own = scenario.client
    servers = [one for one in mesh.workloads if one.role == "echo" and scenario.service.selects(one)]
    lines = [f"{len(mesh.clusters)} clusters on this machine. Sidecars and gateways are eastgate; == is mesh mTLS."]
    gateways = [one for one in mesh.workloads if one.role == "gateway"]
    clusters = dict.fromkeys(one.cluster for one in (own, *servers))
    for cluster in clusters:
        lines += _ways(own, [one for one in servers if one.cluster == cluster], gateways)
    lines.append("")
    return Text("\n".join(lines))


def _ways(client: Workload, servers: Sequence[Workload], gateways: Sequence[Workload]) -> Iterator[str]:
    """How the client's connections get to the servers of one cluster."""
    for network in dict.fromkeys(one.network for one in servers):
        behind = [one for one in servers if one.network == network]
        names = ", ".join(one.name for one in behind[:NAMED]) + (", ..." if len(behind) > NAMED else "")
        text = behind[0].answer or behind[0].cluster
        several = "s" if sum(1 for one in gateways if one.cluster == behind[0].cluster) > 1 else ""
        crossing = "" if network == client.network else f" gateway{several} of {behind[0].cluster} =="
        yield f'  {client.name} - sidecar =={crossing} sidecar - {behind[0].cluster}/{names}: "{text}"'


def invitation(admin: str, ends: SidecarEnds, cluster: str) -> Text:
    """What to type in another terminal."""
    host, port = ends.client_address
    where = admin.removeprefix("http://")
    return Text(
        f"All of it stays up. In another terminal:\n\n"
        f"  curl http://{host}:{port}/\n"
        f"  eastgate explain '{cluster}' \\\n      --admin {where}\n"
        f"  eastgate endpoints --admin {where}\n\n"
        f"A browser at {admin} shows the page of the client's sidecar.\n"
        "The number of a step and Enter makes the mesh as it is there; Ctrl-C ends all."
    )


async def stay(trial: Trial, scenario: Scenario, console: Console) -> None:
    """Back to the first step, and then wherever somebody types to, until this task is cancelled."""
    assert trial.sidecars is not None
    await _make(trial, scenario.steps, 1)
    text = invitation(trial.sidecars.client.admin, trial.sidecars, await trial.sidecars.cluster())
    console.print(text, soft_wrap=True)
    total = len(scenario.steps)
    console.print(f"\n(1/{total}) {scenario.steps[0].name}", markup=False)
    async for line in typed():
        if line.isdecimal() and 1 <= int(line) <= total:
            await _make(trial, scenario.steps, int(line))
            console.print(f"({int(line)}/{total}) {scenario.steps[int(line) - 1].name}", markup=False)
        elif line:
            console.print(f"steps are 1 to {total}", markup=False)


async def _make(trial: Trial, steps: Sequence[Step], number: int) -> None:
    """The mesh as it is in a step, whichever was before."""
    down: frozenset[Identity] = frozenset()
    for step in steps[:number]:
        down = step.down(down)
    await trial.with_gateways_down(down)
    await trial.apply(steps[number - 1].mesh)


async def typed() -> AsyncIterator[str]:
    """Lines of standard input, without blanks; when it ends, or cannot be waited for, nothing more comes, for ever."""
    loop, lines = asyncio.get_running_loop(), asyncio.Queue[str]()
    number = sys.stdin.fileno() if sys.stdin and not sys.stdin.closed else -1
    begun = bytearray()

    def read() -> None:
        data = os.read(number, LINE_BYTES)
        if not data:
            loop.remove_reader(number)
            return
        begun.extend(data)
        *whole, rest = bytes(begun).split(b"\n")
        begun[:] = rest[-LINE_BYTES:]
        for line in whole:
            lines.put_nowait(line.decode(errors="replace").strip())

    # What is no terminal and no pipe cannot be waited for.
    with suppress(OSError, ValueError):
        loop.add_reader(number, read)
    try:
        while True:
            yield await lines.get()
    finally:
        if number >= 0:
            loop.remove_reader(number)
