"""Draw a comparison as SVG: one panel a metric, one bar a peer, 95 % intervals as whiskers.

python -m bench.plot [bench/results/compare.json] [bench/results/compare.svg]
"""

import argparse
import json
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from .rows import ROWS, Row
from .table import HARNESS_ONLY, NAMES, RESULT, US

COLUMNS, PANEL_WIDTH, BAR, GAP, MARGIN = 2, 430, 18, 8, 20
LABEL_WIDTH, VALUE_WIDTH = 110, 70
OURS, OTHERS, INK = "#2f6f4f", "#9aa5b1", "#222"


def drawing(result: dict[str, Any]) -> ElementTree.ElementTree:
    """All plotted rows that were measured."""
    panels = [row for row in ROWS if row.plotted and row.metric in result["medians"]]
    peers = [name for name in result["peers"] if name != HARNESS_ONLY]
    height = 34 + len(peers) * (BAR + GAP) + 10
    rows = -(-len(panels) // COLUMNS)
    width, total = COLUMNS * PANEL_WIDTH + 2 * MARGIN, rows * height + 2 * MARGIN + 16
    svg = ElementTree.Element(
        "svg",
        {
            "xmlns": "http://www.w3.org/2000/svg",
            "viewBox": f"0 0 {width} {total}",
            "width": str(width),
            "height": str(total),
            "font-family": "sans-serif",
            "font-size": "12",
        },
    )
    ElementTree.SubElement(svg, "rect", {"width": "100%", "height": "100%", "fill": "white"})
    for index, row in enumerate(panels):
        left, top = MARGIN + index % COLUMNS * PANEL_WIDTH, MARGIN + index // COLUMNS * height
        panel(svg, row, result["medians"][row.metric], peers, left, top)
    machine = result["machine"]
    foot = f"{result['date']}, {machine['cpus']} x {machine['cpu']}, Linux {machine['kernel']}; bars are medians of "
    foot += f"{result['sizes']['rounds']} rounds, lines 95 % intervals"
    text(svg, foot, MARGIN, total - 10, size=10)
    return ElementTree.ElementTree(svg)


def panel(
    svg: ElementTree.Element, row: Row, medians: dict[str, Any], peers: list[str], left: float, top: float
) -> None:
    text(svg, row.title, left, top + 14, weight="bold")
    most = max((one["high"] for name, one in medians.items() if name in peers), default=0.0) or 1.0
    scale = (PANEL_WIDTH - LABEL_WIDTH - VALUE_WIDTH) / most
    for index, name in enumerate(peers):
        y = top + 26 + index * (BAR + GAP)
        text(svg, NAMES.get(name, name), left, y + BAR - 5)
        if name not in medians:
            text(svg, "not measured", left + LABEL_WIDTH, y + BAR - 5, size=10)
            continue
        one, x = medians[name], left + LABEL_WIDTH
        bar = {"x": f"{x:.1f}", "y": f"{y:.1f}", "width": f"{one['median'] * scale:.1f}", "height": str(BAR)}
        ElementTree.SubElement(svg, "rect", {**bar, "fill": OURS if name == US else OTHERS})
        whisker = {"x1": f"{x + one['low'] * scale:.1f}", "x2": f"{x + one['high'] * scale:.1f}"}
        middle = f"{y + BAR / 2:.1f}"
        ElementTree.SubElement(svg, "line", {**whisker, "y1": middle, "y2": middle, "stroke": INK})
        text(svg, f"{one['median']:,.{row.digits}f}", x + one["high"] * scale + 6, y + BAR - 5)


def text(svg: ElementTree.Element, content: str, x: float, y: float, *, size: int = 12, weight: str = "normal") -> None:
    where = {"x": f"{x:.1f}", "y": f"{y:.1f}", "fill": INK, "font-size": str(size), "font-weight": weight}
    ElementTree.SubElement(svg, "text", where).text = content


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("result", type=Path, nargs="?", default=RESULT)
    parser.add_argument("svg", type=Path, nargs="?", default=RESULT.with_suffix(".svg"))
    options = parser.parse_args()
    tree = drawing(json.loads(options.result.read_text()))
    ElementTree.indent(tree)
    tree.write(options.svg, encoding="unicode")
    with options.svg.open("a") as file:
        file.write("\n")


if __name__ == "__main__":
    main()
