"""The result table of a comparison, in Markdown.

python -m bench.table [bench/results/compare.json]
"""

import argparse
import json
from pathlib import Path
from typing import Any

from .rows import ROWS, Row

ROOT = Path(__file__).resolve().parents[1]
RESULT = ROOT / "bench" / "results" / "compare.json"
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
    for metric, one in result.get("renewed", {}).items():
        title = next(row.title for row in ROWS if row.metric == metric)
        names = " and ".join(NAMES.get(name, name) for name in one["peers"])
        found.append(
            f"\n*{title}*: {names} measured again {one['date']}, commit {one['commit']}. Command: `{one['command']}`."
        )
    if result["absent"]:
        found.append(f"\nNot on this machine: {', '.join(NAMES.get(name, name) for name in result['absent'])}.")
    if result["failed"]:
        found.append("\nFailed: " + "; ".join(f"{name} ({why})" for name, why in result["failed"].items()) + ".")
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("result", type=Path, nargs="?", default=RESULT)
    print(table(json.loads(parser.parse_args().result.read_text())))


if __name__ == "__main__":
    main()
