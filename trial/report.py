"""What a step of a scenario gave: expected and observed shares, whether they agree, and how that is told. Pure."""

import math
import textwrap
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from eastgate.fastpath.tables.cluster_table import ClusterTable
from eastgate.xds.columns import Columns
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from .ends import Ejection

REFUSED = "refused"
WIDTH, INDENT = 80, 10
STANDARD_DEVIATIONS = 5.0
"""How far a share may be off by chance: one run in two million is."""


@dataclass(frozen=True, slots=True)
class EndpointRow:
    """One endpoint of the client's table. ``share``: of new connections, 0 to 1. ``stands_for``: what is behind it."""

    address: str
    priority: int
    locality: str
    weight: int
    health: str
    share: float
    stands_for: str = ""


@dataclass(frozen=True, slots=True)
class StepResult:
    """``observed``: connections that workloads answered, by their own count: by cluster, or as expectations name them.

    ``via_gateway``: connections that the gateways routed, by their own counters. ``behind_gateways``: answers of
    workloads that the client does not dial itself. ``errors``: what became of the others, by kind. ``handshakes``: of
    mTLS at the servers' sidecars, all and those that were resumed; None without sidecars. ``through``: by gateway, how
    many it routed and which share was expected. ``ejections``: of the client's endpoints, by what stands behind them.
    """

    name: str
    why: str
    endpoints: tuple[EndpointRow, ...]
    arithmetic: str
    expected: Mapping[str, float]
    observed: Mapping[str, int]
    connections: int
    via_gateway: int
    behind_gateways: int
    errors: Mapping[str, int]
    duration_s: float = 0.0
    handshakes: tuple[int, int] | None = None
    through: Mapping[str, tuple[int, float]] = field(default_factory=dict)
    ejections: tuple[Ejection, ...] = ()

    @property
    def refused(self) -> int:
        """Connections without an answer."""
        return self.connections - sum(self.observed.values())

    def problems(self) -> list[str]:
        """Sentences about what is not as it must be; empty when all is well."""
        found = []
        counts = {**self.observed, REFUSED: self.refused}
        compared = [(name, counts.get(name, 0), self.expected.get(name, 0.0)) for name in {*counts, *self.expected}]
        through = [(f"through {name}", *told) for name, told in self.through.items()]
        for name, count, share in [*(sorted(compared) if self.expected else ()), *through]:
            if abs(count - share * self.connections) > tolerance(share, self.connections):
                got = count / self.connections
                found.append(f"{name}: {got:.1%} of {self.connections}, and {share:.1%} were expected")
        if self.via_gateway != self.behind_gateways:
            found.append(
                f"the gateways routed {self.via_gateway} connections, and {self.behind_gateways} answers came from"
                " workloads behind a gateway"
            )
        return found

    def to_json(self) -> dict[str, Any]:
        """The stage as `--json` prints it."""
        total = max(self.connections, 1)
        return {
            "name": self.name,
            "why": self.why,
            "arithmetic": self.arithmetic,
            "endpoints": [
                {
                    "address": row.address,
                    "priority": row.priority,
                    "locality": row.locality,
                    "weight": row.weight,
                    "health": row.health,
                    "share": row.share,
                    "stands_for": row.stands_for,
                }
                for row in self.endpoints
            ],
            "expected": dict(self.expected),
            "observed": {name: count / total for name, count in self.observed.items()},
            "connections": self.connections,
            "via_gateway": self.via_gateway,
            "errors": dict(self.errors),
            "handshakes": None
            if self.handshakes is None
            else dict(zip(("all", "resumed"), self.handshakes, strict=True)),
            "through": {name: count / total for name, (count, _) in self.through.items()},
            "ejections": [asdict(one) for one in self.ejections],
            "ok": not self.problems(),
        }


def tolerance(share: float, connections: int) -> float:
    """Connections that sampling alone may be off by; none where everything or nothing is expected."""
    return STANDARD_DEVIATIONS * math.sqrt(connections * share * (1 - share))


def arithmetic(priorities: Sequence[Sequence[Any]], factor: int) -> str:
    """How priorities share the load, in numbers: rows as ClusterTable.priorities() gives them."""
    parts = []
    for number, row in enumerate(priorities):
        total, healthy, _, _, healthy_load, degraded_load, _, panic = row
        if not total:
            continue
        reach = healthy * factor / total
        shown = f"{healthy}/{total} healthy"
        worked = f"{healthy}/{total} x {factor} % = {reach:.0f} %"
        detail = worked if 0 < healthy < total else shown
        parts.append(
            f"priority {number}: {detail}{', panic' if panic else ''} -> {healthy_load + degraded_load} % of picks"
        )
    return "; ".join(parts) or "no endpoints"


def endpoint_rows(
    table: ClusterTable, columns: Columns, health: Sequence[str], stands_for: Mapping[str, str]
) -> tuple[EndpointRow, ...]:
    """Rows of a table compiled from `columns`; `health` by endpoint, `stands_for` by address.

    In the order of what they stand for within a locality: addresses are of ports that differ from run to run.
    """
    shares = table.shares()
    rows = []
    for index in range(columns.count):
        address = table.address(index)
        rows.append(
            EndpointRow(
                address=address,
                priority=columns.priority[index],
                locality=str(columns.entry(index).locality),
                weight=columns.weights[index],
                health=health[index],
                share=shares[index],
                stands_for=stands_for.get(address, ""),
            )
        )
    return tuple(sorted(rows, key=lambda row: (row.locality, row.stands_for, row.address)))


def _where(locality: str) -> str:
    """A locality in short: a zone that begins with its region's name says both."""
    region, _, rest = locality.partition("/")
    return rest if rest.startswith(f"{region}-") else locality


def _table(result: StepResult) -> Table:
    table = Table(box=None, pad_edge=False, header_style="dim")
    for name, justify in (
        ("ENDPOINT", "left"), ("LOCALITY", "left"), ("PRIORITY", "right"), ("WEIGHT", "right"), ("HEALTH", "left"),
        ("SHARE", "right"),
    ):  # fmt: skip
        table.add_column(name, justify=justify, no_wrap=True)  # type: ignore[arg-type]
    for row in result.endpoints:
        cells = (row.stands_for or row.address, _where(row.locality), str(row.priority), str(row.weight), row.health)
        table.add_row(*cells, f"{row.share:.1%}", style="" if row.share else "dim")
    if not result.endpoints:
        table.add_row("(none)")
    return table


def _told(result: StepResult) -> Iterator[tuple[str, str, str]]:
    """What is told below the table: a word, what it says, its style."""
    names = sorted({*result.observed, *result.expected} - {REFUSED})
    total = max(result.connections, 1)
    if result.expected:
        yield "expected", "  ".join(f"{name} {result.expected.get(name, 0):.1%}" for name in names), ""
    observed = "  ".join(f"{name} {result.observed.get(name, 0) / total:.1%}" for name in names)
    refused = f", {result.refused} refused" if result.refused else ""
    crossed = f"({result.connections} connections, {result.via_gateway} through a gateway{refused})"
    yield "observed", f"{observed}\n{crossed}", ""
    if result.through:
        yield "through", "  ".join(f"{name} {count / total:.1%}" for name, (count, _) in result.through.items()), ""
    for one in result.ejections:
        yield "event", ejection_text(one), ""
    if result.handshakes is not None:
        every, resumed = result.handshakes
        yield "mTLS", f"{every} handshakes at the servers' sidecars, {resumed} of them resumed", ""
    numbers = result.arithmetic.replace("; ", "\n")
    yield "why", f"{result.why}\n{numbers}" if result.why else numbers, ""
    for problem in result.problems():
        yield "problem", problem, "red"
    if result.errors:
        said = ", ".join(f"{count} x {kind}" for kind, count in sorted(result.errors.items()))
        yield "errors", said, "red" if result.problems() else "dim"


def ejection_text(one: Ejection) -> str:
    """What happened to an endpoint, in a line."""
    return f"{one.cause}: {one.moved:.1%} of connections move"


def _lines(word: str, text: str) -> Iterator[str]:
    """A word, and what it says beside it, no wider than WIDTH."""
    for part in text.split("\n"):
        for line in textwrap.wrap(part, WIDTH - INDENT):
            yield f"{word:<{INDENT}}{line}"
            word = ""


def render(result: StepResult, number: int, total: int) -> RenderableType:
    """A step for people, in 80 columns: the table, expected and observed, and why."""
    verdict = Text("ok", "bold green") if not result.problems() else Text("WRONG", "bold red")
    title = Text.assemble((f"({number}/{total}) {result.name}  ", "bold"), verdict)
    lines = [Text(line, style) for word, text, style in _told(result) for line in _lines(word, text)]
    return Group(title, _table(result), *lines, Text())


def summary(results: Iterable[StepResult]) -> str:
    """One line about all steps."""
    finished = list(results)
    good = sum(1 for one in finished if not one.problems())
    connections = sum(one.connections for one in finished)
    crossed = sum(one.via_gateway for one in finished)
    return f"{good} of {len(finished)} steps as expected; {connections} connections, {crossed} through a gateway"
