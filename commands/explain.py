"""`eastgate explain`: a cluster's shares with their arithmetic, what-if, failover runway. Renders; computes nothing."""

import json
import sys
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from difflib import get_close_matches
from typing import Any

from eastgate.insight.cluster_model import ClusterModel, CompiledModel, ProxyModel, compile_model
from eastgate.insight.duplicates import duplicates_of, merged
from eastgate.insight.explain import Explanation, explain
from eastgate.insight.findings import Finding, cluster_findings
from eastgate.insight.runway import Runway, runways
from eastgate.insight.what_if import apply_outages, parse_outages
from eastgate.proxy.errors import DumpError, SettingsError
from rich.console import Console
from rich.table import Table

from .dump_source import proxies

# More endpoints than this are for --json or --all.
ENDPOINTS_SHOWN = 40


@dataclass(frozen=True, slots=True)
class Answer:
    """Everything that is said about one cluster. ``after`` is None without a what-if; ``runways`` go on from there."""

    source: str
    before: Explanation
    findings: tuple[Finding, ...]
    runways: tuple[Runway, ...]
    duplicates: str
    changes: tuple[str, ...] = ()
    after: Explanation | None = None


def find_cluster(models: Sequence[ProxyModel], name: str) -> tuple[ProxyModel, ClusterModel]:
    """The cluster of that name, in the first proxy that has it. Raises DumpError with the nearest names."""
    for proxy in models:
        if name in proxy.clusters:
            return proxy, proxy.clusters[name]
    known = [cluster for proxy in models for cluster in proxy.clusters]
    holding = [cluster for cluster in known if name and name in cluster]
    near = (holding or get_close_matches(name, known, n=3, cutoff=0.4))[:3]
    where = ", ".join(proxy.source for proxy in models)
    hint = f"; did you mean {' or '.join(near)}?" if near else f"; it has {len(known)} clusters, none alike"
    raise DumpError(f"unknown cluster {name!r} in {where}{hint}")


def compiled_cluster(proxy: ProxyModel, model: ClusterModel) -> CompiledModel:
    """Raises DumpError for a cluster that has no shares to explain."""
    if not model.endpoints and not proxy.has_endpoints:
        raise DumpError(
            f"{proxy.source}: the config_dump has no endpoints: take it with /config_dump?include_eds, or add /clusters"
        )
    try:
        return compile_model(model)
    except ValueError as error:
        raise DumpError(f"{model.name}: no shares to explain: {error}") from None


def answer(proxy: ProxyModel, model: ClusterModel, *, what_if: Sequence[str], duplicates: str) -> Answer:
    """Explain the cluster. Raises EastgateError."""
    found = compiled_cluster(proxy, model)
    # What is wrong with the cluster is wrong however duplicates are counted.
    findings = cluster_findings(found, proxy.node)
    if duplicates == "sum" and duplicates_of(model):
        found = compiled_cluster(proxy, merged(model))
    said = Answer(proxy.source, explain(found), findings, (), duplicates)
    if not what_if:
        return replace(said, runways=runways(found))
    try:
        outages = parse_outages(what_if)
        after = apply_outages(found, outages)
    except ValueError as error:
        raise SettingsError("--what-if", None, str(error)) from None
    return replace(said, changes=tuple(map(str, outages)), after=explain(after), runways=runways(after))


def percent(share: float) -> str:
    return f"{100 * share:.2f} %"


def plain_table(*header: str) -> Table:
    table = Table(box=None, pad_edge=False, show_edge=False, padding=(0, 2, 0, 0))
    for name in header:
        table.add_column(name, overflow="fold")
    return table


def print_table(table: Table, console: Console) -> None:
    """Without the blanks that fill the last column."""
    with console.capture() as captured:
        console.print(table)
    console.out("\n".join(line.rstrip() for line in captured.get().splitlines()), highlight=False)


def priority_table(said: Explanation, after: Explanation | None) -> Table:
    table = plain_table("PRIORITY", "HEALTHY", "AVAILABLE", "LOAD", *(("LOAD AFTER",) if after else ()), "LOCALITIES")
    for one in said.priorities:
        then = (f"{after.priorities[one.priority].load_percent} %",) if after else ()
        gateways = f" (gateway {', '.join(one.gateways[:2])})" if one.gateways else ""
        table.add_row(
            str(one.priority),
            f"{one.healthy} / {one.total}",
            f"{one.availability_percent} %",
            f"{one.load_percent} %" + (" panic" if one.panic and one.load_percent else ""),
            *then,
            one.localities + gateways,
        )
    return table


def endpoint_table(said: Explanation, after: Explanation | None, limit: int) -> Table:
    now = after or said
    table = plain_table(
        *("ENDPOINT", "PRIORITY", "LOCALITY", "WEIGHT", "HEALTH", "SHARE"), *(("AFTER",) if after else ()), "WHY"
    )
    pairs = sorted(zip(said.endpoints, now.endpoints, strict=True), key=lambda pair: pair[0].priority)
    for one, then in pairs[:limit]:
        table.add_row(
            one.address,
            str(one.priority),
            one.locality or "-",
            str(one.weight),
            then.health,
            percent(one.share),
            *((percent(then.share),) if after else ()),
            then.reason,
        )
    return table


def runway_table(one: Runway) -> Table:
    table = plain_table("FAILED", "HEALTHY", *(f"P{number}" for number in range(len(one.steps[0].loads))), "")
    for step in one.steps:
        remark = "refused" if step.refused else "panic" if step.panic else ""
        table.add_row(str(step.failures), str(step.healthy), *(f"{load} %" for load in step.loads), remark)
    return table


def print_answer(said: Answer, console: Console, *, limit: int) -> None:
    """For people."""
    before, after = said.before, said.after
    weighted = "localities weighted" if before.locality_weighted else "localities not weighted"
    console.print(before.cluster, style="bold")
    console.print(
        f"{before.policy}, overprovisioning factor {before.overprovisioning_factor} %,"
        f" panic threshold {before.panic_threshold} %, {weighted}"
    )
    if said.duplicates == "sum":
        console.print("duplicates added up: this is not what Envoy does, and not what eastgate does by default")
    for note in before.notes:
        console.print(f"note: {note}")
    if after:
        console.print(f"\nWhat if: {', '.join(said.changes)}", style="bold")
    if before.priorities:
        console.print()
        print_table(priority_table(before, after), console)
    shown = after or before
    console.print("\nWhy" if not after else "\nWhy, afterwards", style="bold")
    for one in shown.priorities:
        console.print(f"P{one.priority}  {'; '.join(one.arithmetic)}")
    for locality in shown.localities:
        console.print(
            f"P{locality.priority}  {locality.locality or 'no locality'}: {locality.arithmetic},"
            f" gets {percent(locality.share)}"
        )
    if not shown.endpoints:
        console.print("no endpoints: connections are refused")
    elif shown.refused:
        console.print("no endpoint can be picked: connections are refused")
    else:
        console.print()
        print_table(endpoint_table(before, after, limit), console)
        if len(before.endpoints) > limit:
            console.print(f"{len(before.endpoints) - limit:,} more endpoints: --all shows them, --json has them")
    print_runways(said, console)
    print_findings(said.findings, console)


def print_runways(said: Answer, console: Console) -> None:
    if said.runways:
        console.print("\nFailover runway" + (", afterwards" if said.after else ""), style="bold")
    for one in said.runways:
        before = (
            "" if one.priority == 0 else f", P{one.priority - 1} down" if one.priority == 1 else ", all before down"
        )
        console.print(f"P{one.priority} ({one.localities}{before}): {one.sentence}")
        print_table(runway_table(one), console)


def print_findings(findings: Iterable[Finding], console: Console) -> None:
    for number, one in enumerate(findings):
        if number == 0:
            console.print("\nFindings", style="bold")
        console.print(f"{one.severity}: {one.rule}: {one.evidence}")
        console.print(f"  cause: {one.cause}")
        console.print(f"  fix:   {one.fix}")


def answer_json(said: Answer) -> dict[str, Any]:
    """The answer as JSON; shares are between 0 and 1."""
    shown: dict[str, Any] = asdict(said.before)
    shown["endpoints"] = [one._asdict() for one in said.before.endpoints]
    shown["duplicates"] = said.duplicates
    if said.after:
        shown["what_if"] = {
            "changes": list(said.changes),
            "refused": said.after.refused,
            "refused_share": said.after.refused_share,
            "priorities": [asdict(one) for one in said.after.priorities],
            "endpoints": [
                {**then._asdict(), "share_before": now.share}
                for now, then in zip(said.before.endpoints, said.after.endpoints, strict=True)
            ],
        }
    shown["runway"] = [asdict(one) for one in said.runways]
    shown["findings"] = [asdict(one) for one in said.findings]
    return shown


def output_console() -> Console:
    """Standard output; where that is no terminal tables are wide, and sentences one line each."""
    terminal = sys.stdout.isatty()
    return Console(width=None if terminal else 200, markup=False, highlight=False, soft_wrap=not terminal)


def print_explanation(
    cluster: str,
    admin: str,
    dump: Sequence[str],
    *,
    what_if: Sequence[str],
    duplicates: str,
    show_all: bool,
    as_json: bool,
) -> None:
    """Explain a cluster on stdout. Raises EastgateError."""
    said = answer(*find_cluster(proxies(admin, dump), cluster), what_if=what_if, duplicates=duplicates)
    if as_json:
        sys.stdout.write(json.dumps(answer_json(said), indent=1) + "\n")
        return
    limit = len(said.before.endpoints) if show_all else ENDPOINTS_SHOWN
    print_answer(said, output_console(), limit=limit)
