"""Write the result table of a comparison between its markers in README.md.

python -m bench.table [--check] [bench/results/compare.json]
"""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from .rows import ROWS, Row

ROOT = Path(__file__).resolve().parents[1]
RESULT = ROOT / "bench" / "results" / "compare.json"
START, END = "<!-- bench:start -->", "<!-- bench:end -->"
US, HARNESS_ONLY = "eastgate", "direct"
NAMES = {
    "eastgate-busy": "eastgate, busy polling",
    "haproxy-splice": "HAProxy with splice",
    "haproxy": "HAProxy",
    "envoy": "Envoy",
    "floor": "C floor",
    "floor-uring": "C floor on io_uring",
}


def table(result: dict[str, Any]) -> str:
    """Medians of every peer, and our ratio to Envoy and HAProxy with its 95 % interval."""
    peers = [*result["peers"], HARNESS_ONLY]
    compared = [name for name in ("envoy", "haproxy") if name in result["peers"]]
    head = ["", *(NAMES.get(name, name) for name in peers), *(f"{US} / {NAMES[name]}" for name in compared)]
    lines = [line(head), line(["---"] * len(head))]
    for row in ROWS:
        medians = result["medians"].get(row.metric, {})
        if medians:
            ratios = result["ratios"].get(row.metric, {})
            lines.append(
                line(
                    [
                        row.title,
                        *(shown(row, medians.get(name)) for name in peers),
                        *(shown_ratio(ratios.get(name)) for name in compared),
                    ]
                )
            )
    return "\n".join([*lines, "", *notes(result), *picker_table(result.get("pickers", {}))])


def picker_table(pickers: dict[str, Any]) -> list[str]:
    """Weighted pickers of ours and of other projects, by the number of endpoints; nothing when none was measured."""
    costs = pickers.get("ns", {})
    if not costs:
        return []
    sizes = list(next(iter(costs.values())))
    head = ["weighted pick, ns, endpoints:", *(f"{int(size):,}" for size in sizes)]
    lines = ["", line(head), line(["---"] * len(head))]
    for name, by_size in costs.items():
        lines.append(line([name, *(f"{by_size[size]['median']:.1f}" for size in sizes)]))
    lines.append(f"\nOne thread, weights 1 to 100, no lock contended. {'; '.join(pickers['versions'])}.")
    if pickers["absent"]:
        missing = ", ".join(f"{name} ({why})" for name, why in pickers["absent"].items())
        lines.append(f"\nPickers not on this machine: {missing}.")
    return lines


def line(cells: list[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def shown(row: Row, median: dict[str, float] | None) -> str:
    return f"{median['median']:,.{row.digits}f}" if median else "-"


def shown_ratio(ratio: dict[str, float] | None) -> str:
    return f"{ratio['median']:.2f} [{ratio['low']:.2f}, {ratio['high']:.2f}]" if ratio else "-"


def notes(result: dict[str, Any]) -> list[str]:
    """How it was measured, and what is missing."""
    machine, sizes, pinned = result["machine"], result["sizes"], result["pinned"]
    layout = "proxy and load on a CPU each" if pinned["proxy"] != pinned["load"] else "no process pinned"
    versions = "; ".join(result["peers"].values())
    found = [
        f"Medians of {sizes['rounds']} interleaved rounds, ratios within a round with 95 % bootstrap intervals. "
        f"{result['date']}, commit {result['commit']}, {machine['cpus']} x {machine['cpu']}, "
        f"Linux {machine['kernel']}, {layout}; *direct* is the load without a proxy. {versions}. "
        "Command: `make bench-peers`."
    ]
    if result["absent"]:
        found.append(f"\nNot on this machine: {', '.join(NAMES.get(name, name) for name in result['absent'])}.")
    if result["failed"]:
        found.append("\nFailed: " + "; ".join(f"{name} ({why})" for name, why in result["failed"].items()) + ".")
    return found


def replaced(text: str, content: str) -> str:
    """The text with other content between the markers. Raises ValueError when they are not there."""
    before, start, rest = text.partition(START)
    _, end, after = rest.partition(END)
    if not start or not end:
        raise ValueError(f"no {START} and {END}")
    return f"{before}{START}\n{content}\n{END}{after}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("result", type=Path, nargs="?", default=RESULT)
    parser.add_argument("--check", action="store_true", help="fail when README.md shows anything else")
    parser.add_argument("--print", action="store_true", help="print the table, change no file")
    options = parser.parse_args()
    content = table(json.loads(options.result.read_text()))
    if options.print:
        print(content)
        return
    readme = ROOT / "README.md"
    before = readme.read_text()
    after = replaced(before, content)
    if options.check and after != before:
        sys.exit("README.md does not show bench/results/compare.json: make bench-table")
    readme.write_text(after)


if __name__ == "__main__":
    main()
