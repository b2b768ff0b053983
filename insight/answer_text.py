"""`eastgate explain` for people. Renders; computes nothing."""

from collections.abc import Iterable

from rich.console import Console
from rich.table import Table

from .answer import Answer
from .endpoint_table import shown_address
from .explain import Explanation
from .findings import Finding
from .runway import Runway

# More endpoints than this are for --json or --all.
ENDPOINTS_SHOWN = 40


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
    pairs = sorted(zip(said.endpoints, now.endpoints, strict=True), key=lambda pair: pair[0].priority)[:limit]
    # However narrow the window is: an address in two pieces is none to copy.
    places = [shown_address(one.address, one.additional_addresses) for one, _ in pairs]
    table.columns[0].min_width = max(map(len, places), default=0)
    for place, (one, then) in zip(places, pairs, strict=True):
        table.add_row(
            place,
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


def so_far_table(said: Answer) -> Table:
    table = plain_table("PRIORITY", "LOCALITY", "CONNECTS", "SHARE", "FAILED")
    for one in said.so_far:
        table.add_row(
            str(one.priority), one.locality or "-", f"{one.connects:,}", percent(one.share), f"{one.failures:,}"
        )
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
    if said.so_far:
        console.print("\nSo far, of the endpoints that there are now", style="bold")
        print_table(so_far_table(said), console)
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
