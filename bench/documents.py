"""Write what was measured between the markers in README.md and documents in docs/.

python -m bench.documents [--check]
"""

import argparse
import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from .table import NAMES, RESULT, ROOT, table

PERCENTILES = ("p50_us", "p99_us", "p999_us", "max_us")
FEW = 0.05


def faults_table(result: dict[str, Any]) -> str:
    """Markdown: round trips in us, quiet and during the fault."""
    lines = [
        "| fault | p50, quiet / during, us | p99 | p99.9 | longest | without proxy, p99 "
        "| workers waited for a CPU, ms each s | gateway's CPU, % | counted |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for name, one in result["faults"].items():

        def cell(where: str, percentile: str, one: dict[str, Any] = one) -> str:
            return f"{one[where]['quiet'][percentile]:,.0f} / {one[where]['fault'][percentile]:,.0f}"

        counted = ", ".join(f"{value:,} {key.replace('_', ' ')}" for key, value in one["counted"].items() if value)
        cells = [name, *(cell("through", percentile) for percentile in PERCENTILES), cell("direct", "p99_us")]
        waited = one["workers_waited_ms"]
        cells.append(f"{waited['quiet']:.0f} / {waited['fault']:.0f}")
        cells += [f"{one['gateway_cpu_share'] * 100:.0f}", counted]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def syscalls_table(result: dict[str, Any]) -> str:
    """Markdown: what each proxy calls, most frequent first; what is under 0.05 is left out."""
    peers = result["calls"]
    names = list(peers)
    lines = [f"| | {' | '.join(NAMES.get(name, name) for name in names)} |", f"| --- |{' --- |' * len(names)}"]
    for unit in next(iter(peers.values())):
        sums = " | ".join(f"{sum(peers[name][unit].values()):.1f}" for name in names)
        lines.append(f"| **calls for each {unit}** | {sums} |")
        cells = (
            ", ".join(f"{call} {count:.1f}" for call, count in peers[name][unit].items() if count >= FEW)
            for name in names
        )
        lines.append(f"| of these | {' | '.join(cells)} |")
    return "\n".join(lines)


def callgrind_table(result: dict[str, Any]) -> str:
    """Markdown: instructions of each hot function."""
    lines = ["| in user space | instructions | each |", "| --- | --- | --- |"]
    for name, one in result["cases"].items():
        lines.append(f"| {name} | {one['instructions']:,.0f} | {one['unit']} |")
    return "\n".join(lines)


def nightly_table(result: dict[str, Any]) -> str:
    """Markdown: what each part did last, when and at which commit."""
    lines = ["| part | did | minutes | date | commit |", "| --- | --- | --- | --- | --- |"]
    for one in result["parts"].values():
        cells = (one["what"], one["figures"], f"{one['minutes']:,.0f}", one["date"], one["commit"])
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def measured_at(result: dict[str, Any]) -> str:
    """When and where, in one line."""
    machine = result["machine"]
    where = f"{machine['cpus']} x {machine['cpu']}, Linux {machine['kernel']}"
    return f"{result['date']}, commit {result['commit']}, {where}."


@dataclass(frozen=True, slots=True)
class Place:
    """Markers in a document, and what stands between them: a result as `show` puts it."""

    document: str
    marker: str
    result: str
    show: Callable[[dict[str, Any]], str]

    def texts(self) -> tuple[str, str]:
        """The document as it is and as it should be; the same when nothing was measured."""
        before = (ROOT / self.document).read_text()
        path = RESULT.with_name(self.result)
        if not path.exists():
            return before, before
        result = json.loads(path.read_text())
        content = self.show(result)
        if self.show is not table and "machine" in result:
            content += f"\n\n{measured_at(result)}"
        return before, replaced(before, content, self.marker)


PLACES = (
    Place("README.md", "bench", "compare.json", table),
    Place("docs/performance.md", "syscalls", "syscalls.json", syscalls_table),
    Place("docs/performance.md", "callgrind", "callgrind.json", callgrind_table),
    Place("docs/performance.md", "faults", "faults.json", faults_table),
    Place("docs/reliability.md", "nightly", "nightly.json", nightly_table),
)


def replaced(text: str, content: str, marker: str) -> str:
    """The text with other content between the markers. Raises ValueError when they are not there."""
    opening, closing = f"<!-- {marker}:start -->", f"<!-- {marker}:end -->"
    before, start, rest = text.partition(opening)
    _, end, after = rest.partition(closing)
    if not start or not end:
        raise ValueError(f"no {opening} and {closing}")
    return f"{before}{opening}\n{content}\n{closing}{after}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="change nothing; fail when a document shows anything else")
    options = parser.parse_args()
    stale = []
    for place in PLACES:
        before, after = place.texts()
        if before == after:
            continue
        if options.check:
            stale.append(f"{place.document} does not show bench/results/{place.result}: make bench-table")
            continue
        (ROOT / place.document).write_text(after)
        print(f"== {place.document} shows bench/results/{place.result}")
    if stale:
        sys.exit("\n".join(stale))


if __name__ == "__main__":
    main()
