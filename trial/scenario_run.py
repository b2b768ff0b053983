"""A scenario step by step on a mesh of real parts, and what came of it."""

import asyncio
import json
import signal
import time
from collections.abc import Callable

from eastgate.mesh.mesh_file import MeshFile, parse
from eastgate.mesh.scenario import Scenario, Step, meant_by
from eastgate.proxy.errors import ExpectationError, MeshFileError, TrialError
from eastgate.proxy.log import Log
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn

from .report import StepResult, arithmetic, endpoint_rows, render, summary
from .trial import Trial

# Where the output goes to a file: nobody's window is too narrow.
WIDTH = 120
HEALTH = ("UNKNOWN", "HEALTHY", "UNHEALTHY", "DRAINING", "TIMEOUT", "DEGRADED")


async def run_step(trial: Trial, scenario: Scenario, step: Step, progress: Callable[[int], None]) -> StepResult:
    """Make the mesh as the step has it, send the client's connections, and count what happened."""
    started = time.monotonic()
    for outage in step.repaired:
        if outage.gateway:
            await trial.start_gateways(outage.gateway)
    await trial.apply(step.mesh)
    for outage in step.failed:
        if outage.gateway:
            await trial.stop_gateways(outage.gateway)
    target = trial.target()
    await trial.answered()
    before = await trial.routed()
    traffic = await trial.connect(target, scenario.connections, progress)
    answered = await trial.answered()
    direct = trial.dialled(target)
    by_identity = {one.identity: one for one in step.mesh.workloads}
    observed: dict[str, int] = {}
    for identity, count in answered.items():
        name = meant_by(step.expected, by_identity[identity])
        observed[name] = observed.get(name, 0) + count
    via_gateway = await trial.routed() - before
    columns = target.assignment.columns
    health = [HEALTH[value] for value in columns.health]
    return StepResult(
        name=step.name,
        why=step.why,
        endpoints=endpoint_rows(target.table, columns, health, trial.stands_for()),
        arithmetic=arithmetic(target.table.priorities(), target.assignment.overprovisioning_factor),
        expected=step.expected,
        observed=observed,
        connections=scenario.connections,
        via_gateway=via_gateway,
        behind_gateways=sum(count for identity, count in answered.items() if identity not in direct),
        errors=dict(traffic.errors),
        duration_s=time.monotonic() - started,
    )


async def run(file: MeshFile, console: Console, *, as_json: bool) -> list[StepResult]:
    """All steps. Raises TrialError when a part of the mesh does not work."""
    scenario = file.scenario
    assert scenario is not None
    for workload in file.mesh.workloads:
        if scenario.service.selects(workload) and workload.role != "echo":
            name = "/".join(workload.identity)
            raise MeshFileError(f"workload {name} stands behind {scenario.service.host}: a run needs role echo there")
    results: list[StepResult] = []
    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn())
    total = len(scenario.steps)
    with Progress(*columns, console=console, transient=True, disable=as_json) as progress:
        starting = progress.add_task("starting", total=None)
        async with Trial(scenario, file.mesh) as trial:
            await trial.start(lambda what: progress.update(starting, description=f"starting {what}"))
            progress.remove_task(starting)
            for number, step in enumerate(scenario.steps, 1):
                task = progress.add_task(f"({number}/{total}) {step.name}", total=scenario.connections)
                result = await run_step(trial, scenario, step, lambda done, task=task: progress.advance(task, done))  # type: ignore[misc]
                results.append(result)
                progress.remove_task(task)
                if not as_json:
                    progress.console.print(render(result, number, total))
    return results


async def _until_told(file: MeshFile, console: Console, *, as_json: bool) -> list[StepResult]:
    """The run, ended by SIGINT and SIGTERM so that its parts are stopped in order."""
    loop = asyncio.get_running_loop()
    running = asyncio.ensure_future(run(file, console, as_json=as_json))
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, running.cancel)
    return await running


def run_file(text: str | bytes, name: str, *, as_json: bool, connections: int | None = None) -> None:
    """The whole file. Raises MeshError or EastgateError, also when a step is off by more than sampling allows."""
    log = Log("mesh")
    console = Console(highlight=False)
    if not console.is_terminal:
        console = Console(highlight=False, width=WIDTH)
    with console.status(f"reading {name}"):
        file = parse(text, name)
    if file.scenario is None:
        raise MeshFileError(f"{name}: no document of kind Scenario; mesh serve needs none, mesh run does")
    if connections is not None:
        file = file.with_connections(connections)
    for finding in file.findings:
        log.warning("not honoured", finding=finding)
    started = time.monotonic()
    try:
        results = asyncio.run(_until_told(file, console, as_json=as_json))
    except asyncio.CancelledError:
        raise KeyboardInterrupt from None
    except TimeoutError as error:
        raise TrialError(str(error)) from None
    if as_json:
        console.file.write(json.dumps({"stages": [one.to_json() for one in results]}, indent=2) + "\n")
    else:
        console.print(f"{summary(results)}; {time.monotonic() - started:.0f} s")
    wrong = [one.name for one in results if one.problems()]
    if wrong:
        raise ExpectationError(f"not as expected: {', '.join(wrong)}")
