"""Instructions that the hot functions take, counted by callgrind, beside those that are kept.

    python -m bench.callgrind [--renew]

Counts do not depend on how busy the machine is, so that a growth of more than 5 % is a change of the code: it fails.
They do depend on compiler, Cython and Python: where those differ from the kept ones, the figures are shown and not
judged. --renew keeps what was counted; commit it with the change that explains it. Kernel and Python code in front of
the native modules are not counted.
"""

import argparse
import json
import os
import platform
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path
from types import ModuleType
from typing import Any

from eastgate.fastpath.loop import engine
from eastgate.fastpath.match import client_hello, route_table
from eastgate.fastpath.tables import cluster_table
from eastgate.xds import assignment

from .compare import say
from .measure import ROOT
from .peers.proxy import first_line

KEPT = ROOT / "bench" / "results" / "callgrind.json"
MOST_GROWTH = 0.05
# What the cases call, by module. One at a time is entered, from Python only.
ENTRIES = (
    (client_hello, "spin"),
    (route_table, "RouteTable.spin"),
    (cluster_table, "ClusterTable.spin"),
    (cluster_table, "ClusterTable.compile"),
    (assignment, "decode_assignment"),
    (engine, "Engine.turn"),
)
MARK = (cluster_table, "ClusterTable.memory")
DEADLINE_S = 300
Case = dict[str, Any]


def absent() -> str:
    """Why nothing can be counted here; empty when it can."""
    return "" if shutil.which("valgrind") else "apt install valgrind"


def symbol(module: ModuleType, name: str) -> str:
    """The C function that Cython makes of a method or function that Python calls."""
    # ..._12ClusterTable_17spin: lengths and a number stand between the names.
    wanted = re.compile(r"__pyx_pw_\S*?" + r"_\d+".join(name.split(".")) + "$")
    printed = subprocess.run(["nm", "-P", str(module.__file__)], capture_output=True, text=True, check=True).stdout
    (found,) = {word for line in printed.splitlines() if wanted.match(word := line.split()[0])}
    return found


def tools() -> dict[str, str]:
    """What the counts depend on."""
    return {
        "compiler": first_line("cc", "--version"),
        "cython": version("cython"),
        "python": platform.python_version(),
        "machine": platform.machine(),
    }


def counted() -> dict[str, Case]:
    """Run all cases under callgrind."""
    with tempfile.TemporaryDirectory(prefix="callgrind-") as folder:
        done = subprocess.run(
            [
                *("valgrind", "--tool=callgrind", "--quiet", f"--callgrind-out-file={folder}/out"),
                *(f"--toggle-collect={symbol(*entry)}" for entry in ENTRIES),
                *(f"--dump-before={symbol(*MARK)}", "--combine-dumps=no"),
                *(sys.executable, "-m", "bench.callgrind_cases"),
            ],
            env={**os.environ, "PYTHONHASHSEED": "0", "PYTHONMALLOC": "pymalloc"},
            capture_output=True,
            text=True,
            timeout=DEADLINE_S,
            cwd=ROOT,
            check=False,
        )
        if done.returncode != 0:
            sys.exit(f"valgrind ended with {done.returncode}:\n{done.stderr[-4000:]}")
        return by_case(done.stdout, Path(folder))


def by_case(printed: str, folder: Path) -> dict[str, Case]:
    """Counts per unit, the medians of several times. Dumps are numbered from 1, in the order of the marks."""
    found: dict[str, Case] = {}
    number = 0
    for line in printed.splitlines():
        name, unit, units, times = json.loads(line)
        # The first of each case is the warm-up.
        totals = [total(folder / f"out.{number + 1 + place}") for place in range(1 + times)][1:]
        number += 1 + times
        found[name] = {"unit": unit, "instructions": round(statistics.median(totals) / units, 2)}
    return found


def total(dump: Path) -> int:
    """Instructions of one dump."""
    for line in dump.read_text().splitlines():
        if line.startswith("totals:"):
            return int(line.split()[1])
    raise ValueError(f"{dump}: no line of totals")


def compared(cases: dict[str, Case], kept: dict[str, Case]) -> list[str]:
    """What grew by too much or is not there any more; empty when all is well."""
    found = [f"{name}: is kept, but not counted any more" for name in kept if name not in cases]
    for name, case in cases.items():
        before = kept.get(name, {}).get("instructions")
        if before is None:
            found.append(f"{name}: is not kept yet")
        elif case["instructions"] > before * (1 + MOST_GROWTH):
            growth = case["instructions"] / before - 1
            found.append(f"{name}: {case['instructions']:,} instead of {before:,} instructions, {growth:+.1%}")
    return found


def show(cases: dict[str, Case], kept: dict[str, Case]) -> None:
    print("| instructions | counted | kept |\n| --- | --- | --- |")
    for name, case in cases.items():
        before = kept.get(name, {}).get("instructions")
        print(
            f"| {name}, each {case['unit']} | {case['instructions']:,} | {'-' if before is None else f'{before:,}'} |"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--renew", action="store_true", help="keep what is counted")
    options = parser.parse_args()
    if reason := absent():
        say(f"valgrind is not here ({reason}): nothing was counted")
        return
    cases = counted()
    before = json.loads(KEPT.read_text()) if KEPT.exists() else {"tools": {}, "cases": {}}
    show(cases, before["cases"])
    if options.renew:
        KEPT.parent.mkdir(parents=True, exist_ok=True)
        KEPT.write_text(json.dumps({"tools": tools(), "cases": cases}, indent=1) + "\n")
        say(f"written to {KEPT}")
        return
    other = [
        f"{name} {now} instead of {before['tools'].get(name)}"
        for name, now in tools().items()
        if now != before["tools"].get(name)
    ]
    wrong = compared(cases, before["cases"])
    if other:
        say(f"not judged, counted with {', '.join(other)}")
    elif wrong:
        sys.exit("\n".join([*wrong, "make callgrind-renew keeps the new counts"]))


if __name__ == "__main__":
    main()
