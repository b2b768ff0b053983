"""A scenario step by step on a mesh of real parts, and what came of it."""

import asyncio
import json
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

from eastgate.mesh.documents import Progress as Reading
from eastgate.mesh.documents import silent
from eastgate.mesh.mesh_file import MeshFile, parse
from eastgate.mesh.scenario import Scenario, Step, meant_by
from eastgate.proxy.errors import ExpectationError, MeshFileError, SettingsError, TrialError
from eastgate.proxy.log import Log
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn

from .ends import Traffic
from .report import StepResult, arithmetic, endpoint_rows, render, summary
from .story import opening, stay
from .trial import Trial

# Where the output goes to a file: any window is as wide.
WIDTH = 80


async def run_step(trial: Trial, scenario: Scenario, step: Step, progress: Callable[[int], None]) -> StepResult:
    """Make the mesh as the step has it, send the client's connections, and count what happened."""
    started = time.monotonic()
    await trial.start_gateways(trial.down - step.down(trial.down))
    await trial.apply(step.mesh)
    await trial.stop_gateways(step.ended(0))
    await trial.answered()
    await trial.ejections()
    routed, before = await trial.routed(), await trial.handshakes()
    # The proxy's dump is made beside its traffic, as that of any proxy that somebody looks at.
    shares, traffic = await asyncio.gather(trial.shares(), _traffic(trial, scenario, step, progress))
    if any(one.after for one in step.failed):
        shares = await trial.shares()
    answered = await trial.answered()
    direct = trial.dialled(shares)
    by_identity = {one.identity: one for one in step.mesh.workloads}
    observed: dict[str, int] = {}
    for identity, count in answered.items():
        name = meant_by(step.expected, by_identity[identity])
        observed[name] = observed.get(name, 0) + count
    after = await trial.handshakes()
    through = await trial.routed() - routed
    stands_for = trial.stands_for()
    return StepResult(
        name=step.name,
        why=step.why,
        endpoints=endpoint_rows(shares.table, shares.columns, shares.health, stands_for),
        arithmetic=arithmetic(shares.table.priorities(), shares.overprovisioning_factor),
        expected=step.expected,
        observed=observed,
        connections=scenario.connections,
        via_gateway=through.total(),
        behind_gateways=sum(count for identity, count in answered.items() if identity not in direct),
        errors=dict(traffic.errors),
        duration_s=time.monotonic() - started,
        handshakes=(after[0] - before[0], after[1] - before[1]) if after and before else None,
        through={trial.gateway_name(name): (through[name], step.through[name]) for name in step.through},
        ejections=tuple(one.named(stands_for) for one in await trial.ejections()),
    )


async def _traffic(trial: Trial, scenario: Scenario, step: Step, progress: Callable[[int], None]) -> Traffic:
    """All connections of a step; gateways end where the step has it, with connections before and after."""
    traffic, done = Traffic(), 0
    for moment in sorted({one.after for one in step.failed if one.after}):
        due = round(scenario.connections * moment) - done
        traffic.add(await trial.connect(due, progress))
        done += due
        await trial.stop_gateways(step.ended(moment))
    traffic.add(await trial.connect(scenario.connections - done, progress))
    return traffic


@dataclass(frozen=True, slots=True)
class Wanted:
    """How a scenario is run. ``stay``: keep the mesh up after its last step, until somebody ends it."""

    as_json: bool = False
    stay: bool = False


async def run(file: MeshFile, console: Console, wanted: Wanted) -> list[StepResult]:
    """All steps. Raises TrialError when a part of the mesh does not work."""
    scenario = file.scenario
    assert scenario is not None
    for workload in file.mesh.workloads:
        if scenario.service.selects(workload) and workload.role != "echo":
            name = "/".join(workload.identity)
            raise MeshFileError(f"workload {name} stands behind {scenario.service.host}: a run needs role echo there")
    async with Trial(scenario, file.mesh) as trial:
        results = await _told(trial, scenario, file, console, wanted)
        if wanted.stay:
            # Whoever ends this has seen the whole story.
            with suppress(asyncio.CancelledError):
                await stay(trial, scenario, console)
    return results


async def _told(trial: Trial, scenario: Scenario, file: MeshFile, console: Console, wanted: Wanted) -> list[StepResult]:
    """Start everything, then step by step; what is told comes as soon as it is known."""
    results: list[StepResult] = []
    started = time.monotonic()
    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn())
    total = len(scenario.steps)
    if scenario.sidecars and not wanted.as_json:
        console.print(opening(file.mesh, scenario))
    with Progress(*columns, console=console, transient=True, disable=wanted.as_json) as progress:
        starting = progress.add_task("starting", total=None)
        await trial.start(lambda what: progress.update(starting, description=f"starting {what}"))
        progress.remove_task(starting)
        for number, step in enumerate(scenario.steps, 1):
            task = progress.add_task(f"({number}/{total}) {step.name}", total=scenario.connections)
            result = await run_step(trial, scenario, step, lambda done, task=task: progress.advance(task, done))  # type: ignore[misc]
            results.append(result)
            progress.remove_task(task)
            if not wanted.as_json:
                progress.console.print(render(result, number, total))
    if not wanted.as_json:
        console.print(f"{summary(results)}; {time.monotonic() - started:.0f} s")
    return results


async def _until_told(file: MeshFile, console: Console, wanted: Wanted) -> list[StepResult]:
    """The run, ended by SIGINT and SIGTERM so that its parts are stopped in order."""
    loop = asyncio.get_running_loop()
    running = asyncio.ensure_future(run(file, console, wanted))
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, running.cancel)
    return await running


def run_file(
    text: str | bytes, name: str, wanted: Wanted, *, connections: int | None = None, progress: Reading = silent
) -> None:
    """The whole file. Raises MeshError or EastgateError, also when a step is off by more than sampling allows.

    ``progress``: of its reading.
    """
    log = Log("mesh")
    console = Console(highlight=False)
    if not console.is_terminal:
        console = Console(highlight=False, width=WIDTH)
    file = parse(text, name, progress)
    if file.scenario is None:
        raise MeshFileError(f"{name}: no document of kind Scenario; mesh serve needs none, mesh run does")
    if wanted.stay and not file.scenario.sidecars:
        raise SettingsError("--stay", None, f"{name} has no sidecars: true in its Scenario, and so nothing to ask")
    if connections is not None:
        file = file.with_connections(connections)
    for finding in file.findings:
        log.warning("not honoured", finding=finding)
    try:
        results = asyncio.run(_until_told(file, console, wanted))
    except asyncio.CancelledError:
        raise KeyboardInterrupt from None
    except TimeoutError as error:
        raise TrialError(str(error)) from None
    if wanted.as_json:
        console.file.write(json.dumps({"stages": [one.to_json() for one in results]}, indent=2) + "\n")
    wrong = [one.name for one in results if one.problems()]
    if wrong:
        raise ExpectationError(f"not as expected: {', '.join(wrong)}")
