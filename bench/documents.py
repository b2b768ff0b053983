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


def admin_table(result: dict[str, Any]) -> str:
    """Markdown: round trips in us, quiet and beside hostile clients of admin, of each proxy."""
    heads = (
        "hostile clients of admin", "proxy", "p50, quiet / meanwhile, us", "p99", "p99.9", "longest",
        "p99, meanwhile by quiet", "without proxy, p99", "by quiet", "proxy's CPU, %", "requests/s",
        "admin answers again after, s", "resident after each, MB",
    )  # fmt: skip
    lines = [f"| {' | '.join(heads)} |", f"|{' --- |' * len(heads)}"]
    for name, proxies in result["hostile"].items():
        for who, one in proxies.items():

            def cell(where: str, percentile: str, one: dict[str, Any] = one) -> str:
                return f"{one[where]['quiet'][percentile]:,.0f} / {one[where]['hostile'][percentile]:,.0f}"

            cells = [name, NAMES.get(who, who), *(cell("through", percentile) for percentile in PERCENTILES)]
            through, direct = (
                f"{ratio['median']:.2f} [{ratio['low']:.2f}, {ratio['high']:.2f}]"
                for ratio in (one["p99_ratio"][where] for where in ("through", "direct"))
            )
            cells += [through, cell("direct", "p99_us"), direct, f"{one['cpu_share'] * 100:.0f}"]
            cells += [f"{one['requests_per_s']:,.0f}" if one["requests"] else "-"]
            cells += [f"{one['answers_again_s']:.2f}", ", ".join(f"{mb:.0f}" for mb in one["resident_mb"])]
            lines.append(f"| {' | '.join(cells)} |")
    apart = "worker, its clients and the sink on one CPU, all else on the others"
    place = apart if result["apart"] else "on all CPUs"
    busy, starts = result["load"], result["resident_mb_at_start"]
    lines += [
        "",
        f"{result['services']:,} services, {result['pairs']} pairs of {result['window_s']:g} s, medians,"
        f" ratios within a pair with 95 % bootstrap intervals; {place}; load of the"
        f" machine meanwhile {busy['least']:.0f} to {busy['most']:.0f}. Resident before the first: "
        + ", ".join(f"{NAMES.get(who, who)} {mb:.0f} MB" for who, mb in starts.items())
        + f". {'; '.join(result['versions'])}.",
    ]
    return "\n".join(lines)


def answers_table(result: dict[str, Any]) -> str:
    """Markdown: how long admin takes to answer, what that takes of CPU and memory, and how long beside full workers."""
    heads = (
        "question", "answer, MB", "took, ms", "CPU, ms", "CPU, eastgate / Envoy",
        "workers full: p50, ms", "p99", "longest",
    )  # fmt: skip
    lines = ["each cell: eastgate, Envoy", "", f"| {' | '.join(heads)} |", f"|{' --- |' * len(heads)}"]
    for name, one in result["quiet"].items():

        def both(each: dict[str, Any], metric: str, digits: int = 1) -> str:
            return ", ".join(f"{each[who][metric]:,.{digits}f}" for who in ("eastgate", "envoy"))

        ratio = one["cpu_ms_ratio"]
        said = f"{ratio['median']:.2f} [{ratio['low']:.2f}, {ratio['high']:.2f}]" if ratio else "-"
        cells = [name, both(one, "mb", 2), both(one, "ms"), both(one, "cpu_ms"), said]
        full = result["full"].get(name)
        cells += [both(full, metric) if full else "-" for metric in ("p50_ms", "p99_ms", "max_ms")]
        lines.append(f"| {' | '.join(cells)} |")
    busy = result["load"]
    memory = ", ".join(
        f"{NAMES.get(who, who)} {one['most']:.1f} and {one['afterwards']:.1f} MB"
        for who, one in result["more_mb"].items()
    )
    lines += [
        "",
        f"{result['services']:,} services of 12 endpoints, {result['rounds']} rounds of {result['asks']} answers,"
        f" medians, CPU ratios within a round with 95 % bootstrap intervals; load of the machine {busy['least']:.0f} to"
        f" {busy['most']:.0f}. More memory for the first scrape, at most and afterwards: {memory}."
        f" {'; '.join(result['versions'])}.",
    ]
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


SIDECAR_ROWS = {
    "cpu_us_per_connection": ("CPU per connection, us", 1),
    "round_trip_p50_us_1": ("round trip of 64 B, p50, 1 connection, us", 0),
    "round_trip_p50_us_8": ("p50, 8 connections, us", 0),
    "round_trip_p50_us_64": ("p50, 64 connections, us", 0),
    "cpu_us_per_round_trip_1": ("CPU per round trip, 1 connection, us", 1),
    "cpu_us_per_round_trip_8": ("8 connections, us", 1),
    "cpu_us_per_round_trip_64": ("64 connections, us", 1),
    "cpu_s_per_gb": ("CPU per GB, s", 2),
    "bytes_per_idle_connection": ("memory per idle connection, bytes", 0),
    "handshakes_per_s": ("handshakes/s, 64 in flight", 0),
    "p99_quiet_us": ("p99 of 8 relayed connections, quiet, us", 0),
    "p99_flood_us": ("the same under these handshakes, us", 0),
}


def sidecars_table(result: dict[str, Any]) -> str:
    """Markdown: pairs of sidecars, by section."""
    lines = ["| pair of sidecars | | eastgate | Envoy | eastgate / Envoy |", "| --- | --- | --- | --- | --- |"]
    for name, metrics in result["sections"].items():
        for metric, (title, digits) in SIDECAR_ROWS.items():
            if one := metrics.get(metric):
                ours, theirs = (f"{one[who]['median']:,.{digits}f}" for who in ("eastgate", "envoy"))
                ratio = one["ratio"]
                said = f"{ratio['median']:.2f} [{ratio['low']:.2f}, {ratio['high']:.2f}]" if ratio else "-"
                lines.append(f"| {name} | {title} | {ours} | {theirs} | {said} |")
    busy, versions = result["load"], result["versions"]
    lines += [
        "",
        f"Medians of {result['rounds']} rounds, ratios within a round with 95 % bootstrap intervals; load of the"
        f" machine meanwhile {busy['least']:.0f} to {busy['most']:.0f}. {'; '.join(versions.values())}.",
    ]
    return "\n".join(lines)


POD_ROWS = {
    "pod_ready_s": ("pod wanted until it is Ready, s", 1),
    "proxy_ready_s": ("first process of the sidecar until 15021 says 200, s", 2),
    "idle_mib": ("memory of the container, idle, MiB", 0),
    "proxy_mib": ("processes of the proxy alone, their share of mapped files included (Pss), MiB", 0),
    "idle_millicores": ("CPU of the container, idle, thousandths of a core", 1),
    "cpu_us_per_connection": ("CPU of both containers for a connection, us", 0),
    "bytes_per_connection": ("memory of both for an open connection, bytes", 0),
}


def pods_table(result: dict[str, Any]) -> str:
    """Markdown: sidecars' containers in real pods."""
    lines = ["| sidecars in pods | eastgate | stock | eastgate / stock |", "| --- | --- | --- | --- |"]
    for metric, (title, digits) in POD_ROWS.items():
        one = result["metrics"][metric]
        ours, stock = (f"{one[who]['median']:,.{digits}f}" for who in ("eastgate", "stock"))
        ratio = one["ratio"]
        said = f"{ratio['median']:.2f} [{ratio['low']:.2f}, {ratio['high']:.2f}]" if ratio else "-"
        lines.append(f"| {title} | {ours} | {stock} | {said} |")
    lines += [
        "",
        f"Medians of {result['rounds']} rounds, ratios within a round with 95 % bootstrap intervals; load of the"
        f" machine {result['load']['least']:.0f} to {result['load']['most']:.0f}. {', '.join(result['versions'])}.",
    ]
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
    Place("README.md", "pods", "pods.json", pods_table),
    Place("docs/performance.md", "syscalls", "syscalls.json", syscalls_table),
    Place("docs/performance.md", "callgrind", "callgrind.json", callgrind_table),
    Place("docs/performance.md", "faults", "faults.json", faults_table),
    Place("docs/performance.md", "admin", "admin.json", admin_table),
    Place("docs/performance.md", "answers", "answers.json", answers_table),
    Place("docs/performance.md", "sidecars", "sidecars.json", sidecars_table),
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
