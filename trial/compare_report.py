"""What a comparison with Envoy gave: shares beside each other and beside what the table states, and what they cost."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from statistics import median
from typing import Any

from eastgate.insight.cluster_model import ClusterModel, compile_model
from eastgate.proxy.errors import ExpectationError
from rich.console import Console
from rich.table import Table

from .compare import Measured
from .compare_model import distinct

POINTS = 2.0
"""Percentage points that a share may differ before the exit code is 1."""

LABELS = {
    "handshakes": "handshakes at the server",
    "resumed": "resumed of these",
    "cpu_us_per_connection": "CPU per connection, us",
    "connections_per_s": "connections per second",
    "latency_p50_ms": "connect to answer, p50, ms",
    "latency_p99_ms": "connect to answer, p99, ms",
    "resident_mib": "resident memory, MiB",
    "failed": "failed connections",
}


@dataclass(frozen=True, slots=True)
class Row:
    """One address of the cluster: shares between 0 and 1."""

    address: str
    priority: int
    locality: str
    health: str
    expected: float
    envoy: float
    eastgate: float

    @property
    def points(self) -> float:
        """How far the two are apart, in percentage points."""
        return abs(self.envoy - self.eastgate) * 100


def rows(model: ClusterModel, envoy: Measured, eastgate: Measured) -> list[Row]:
    """One row per address."""
    # Neither proxy of the trial is told where it runs, and to both all endpoints are new.
    grown = tuple(one._replace(weight_factor=1.0) for one in model.endpoints)
    shares = compile_model(replace(model, own_locality=None, endpoints=grown)).table.shares()
    found = []
    for number, address in enumerate(distinct(model)):
        entries = [(one, shares[at]) for at, one in enumerate(model.endpoints) if one.plain_address == address]
        first = entries[0][0]
        found.append(
            Row(
                address,
                first.priority,
                str(first.locality),
                first.state,
                sum(share for _, share in entries),
                envoy.share([number]),
                eastgate.share([number]),
            )
        )
    return found


def figures(one: Measured) -> dict[str, float]:
    """What a proxy, or pair, cost, for one connection where that says more."""
    count = max(one.connections, 1)
    ended = {"handshakes": float(one.handshakes), "resumed": float(one.resumed)} if one.handshakes else {}
    return {
        **ended,
        "cpu_us_per_connection": one.cpu_s / count * 1e6,
        "connections_per_s": count / one.wall_s if one.wall_s else 0.0,
        "latency_p50_ms": median(one.latencies_s) * 1000 if one.latencies_s else 0.0,
        "latency_p99_ms": one.quantile_ms(0.99),
        "resident_mib": one.resident_kb / 1024,
        "failed": float(one.errors.total()),
    }


def render(model: ClusterModel, found: Sequence[Row], envoy: Measured, eastgate: Measured, console: Console) -> None:
    """Two tables for people."""
    console.print(f"{model.name}: {model.policy}, {eastgate.connections} connections through each")
    console.print(_shares(found))
    console.print(_costs(envoy, eastgate))


def render_pairs(
    model: ClusterModel, found: Mapping[str, tuple[Sequence[Row], Measured, Measured]], console: Console
) -> None:
    """By kind of handshake: shares and costs of two pairs of sidecars."""
    for kind, (rows_of, envoy, eastgate) in found.items():
        console.print(f"{model.name}: {model.policy}, {eastgate.connections} connections through each pair, {kind}")
        console.print(_shares(rows_of))
        console.print(_costs(envoy, eastgate))
        console.print()


def _shares(found: Sequence[Row]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="dim")
    for name in ("ENDPOINT", "PRIORITY", "LOCALITY", "HEALTH"):
        table.add_column(name, no_wrap=True)
    for name in ("EXPECTED", "ENVOY", "EASTGATE", "POINTS"):
        table.add_column(name, justify="right", no_wrap=True)
    for row in found:
        shares = (f"{row.expected:.1%}", f"{row.envoy:.1%}", f"{row.eastgate:.1%}", f"{row.points:.1f}")
        style = "red" if row.points > POINTS else ""
        table.add_row(row.address, str(row.priority), row.locality, row.health, *shares, style=style)
    return table


def _costs(envoy: Measured, eastgate: Measured) -> Table:
    costs = Table(box=None, pad_edge=False, header_style="dim")
    costs.add_column("")
    for name in ("ENVOY", "EASTGATE", "RATIO"):
        costs.add_column(name, justify="right")
    theirs, ours = figures(envoy), figures(eastgate)
    for name, value in theirs.items():
        ratio = f"{ours[name] / value:.2f}" if value else ""
        costs.add_row(LABELS[name], f"{value:.1f}", f"{ours[name]:.1f}", ratio)
    return costs


def document(model: ClusterModel, found: Sequence[Row], envoy: Measured, eastgate: Measured) -> dict[str, Any]:
    """The same as JSON."""
    return {
        "cluster": model.name,
        "policy": model.policy,
        "connections": eastgate.connections,
        "endpoints": [{**asdict(row), "points": row.points} for row in found],
        "envoy": figures(envoy),
        "eastgate": figures(eastgate),
    }


def check(found: Sequence[Row]) -> None:
    """Raises ExpectationError when a share differs by more than POINTS."""
    off = [row.address for row in found if row.points > POINTS]
    if off:
        raise ExpectationError(f"shares differ by more than {POINTS:g} points: {', '.join(off)}")
