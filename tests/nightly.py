"""What does not fit into CI, in parts of at most 40 minutes, each of which leaves its figures in bench/results.

    python -m tests.nightly [--again] [--list] [PART...]        make nightly, make nightly PARTS="fuzz-native lab"

A part that has passed at this commit is not run again, so that a run that was ended goes on where it was. Figures go to
bench/results/nightly.json, from which docs/reliability.md's table is made; commit both. A part that fails is not
recorded, its output is shown, and the others go on.
"""

import argparse
import json
import os
import re
import subprocess
import sys
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
RESULT = ROOT / "bench" / "results" / "nightly.json"
LOGS = ROOT / "build" / "nightly"
PART_S = 40 * 60
# What pytest and the fuzzer end with.
PASSED = re.compile(r"^=*\s*(\d+ passed[^=\n]*?) in [\d.]+s", re.MULTILINE)
FUZZED = re.compile(r"^\| (\w+) \| ([\d,]+) \| \d+ \| (\d+) \|", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Part:
    """A make target with its variables; ``what`` is for people."""

    what: str
    command: tuple[str, ...]


FUZZ_S = 600
PARTS = {
    "fuzz-native": Part(
        "fuzzing of native parsers, ten minutes each",
        ("fuzz", f"FUZZ_S={FUZZ_S}", "FUZZ=client_hello proxy_protocol endpoint_reader"),
    ),
    "fuzz-python": Part(
        "fuzzing of the readers of xds/, ten minutes each",
        ("fuzz", f"FUZZ_S={FUZZ_S}", "FUZZ=wire assignment responses"),
    ),
    "asan-fastpath": Part("the data side under ASan and UBSan", ("test-asan", "ASAN_TESTS=tests/fastpath tests/fuzz")),
    "asan-xds": Part(
        "readers and integration under ASan and UBSan", ("test-asan", "ASAN_TESTS=tests/xds tests/integration")
    ),
    "tsan": Part("worker threads under TSan", ("test-tsan",)),
    "debug": Part("native tests with bounds checks and assertions", ("test-debug",)),
    "long": Part("20,000 handshakes in floods, 500 listeners of random chains beside Envoy", ("test-long",)),
    "soak": Part("six soaks of five minutes under ASan", ("soak", "SOAK_S=300")),
    "chaos": Part("three cases of chaos, ten minutes each, under ASan", ("chaos", "CHAOS_S=600")),
    "envoy": Part("random configurations beside Envoy", ("test-envoy-long",)),
    "lab": Part("faults of real istiods, a minute each", ("lab-test-long", "LONG=same_as_istiod istiod_faults")),
    "lab-sidecars": Part(
        "ten minutes of rotating certificates, a late one, rolling restarts of pods that exit on zero",
        ("lab-test-long", "LONG=sidecar_start sidecar_life sidecar_embedded gateway_injected"),
    ),
    "lab-matrix": Part("the story in every mixture of eastgate and stock proxies", ("lab-matrix",)),
    "kind": Part("deploy/kind with real kind: gateways and sidecars of each sort", ("kind-test",)),
}


def git(*words: str) -> str:
    done = subprocess.run(["git", *words], cwd=ROOT, capture_output=True, text=True, check=False)
    return done.stdout.strip()


def commit() -> str:
    """The commit that is checked out; with a plus when files differ from it, results and documents apart."""
    differing = git("status", "--porcelain", "--", ".", ":!bench/results", ":!docs", ":!README.md")
    return (git("rev-parse", "--short=9", "HEAD") or "unknown") + ("+" if differing else "")


def figures(said: str) -> str:
    """What a part's output says of how much it did."""
    found = [words.strip() for words in PASSED.findall(said)]
    found += [f"{target}: {executions} executions" for target, executions, _ in FUZZED.findall(said)]
    return "; ".join(found)


def run(name: str) -> str:
    """Run a part and return its figures; empty when it failed or did nothing."""
    LOGS.mkdir(parents=True, exist_ok=True)
    log = LOGS / f"{name}.log"
    with log.open("w") as written:
        words = ["timeout", "--kill-after=60", str(PART_S), "make", *PARTS[name].command]
        done = subprocess.run(words, cwd=ROOT, stdout=written, stderr=subprocess.STDOUT, check=False)
    said = log.read_text(errors="replace")
    if done.returncode != 0:
        print("\n".join(said.splitlines()[-80:]), file=sys.stderr)
        return ""
    return figures(said)


def recorded() -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = json.loads(RESULT.read_text())["parts"] if RESULT.exists() else {}
    return found


def record(name: str, said: str, minutes: float, at: str) -> None:
    parts = recorded()
    parts[name] = {
        "what": PARTS[name].what,
        "command": f"make nightly PARTS={name}",
        "figures": said,
        "minutes": round(minutes, 1),
        "date": datetime.now(UTC).date().isoformat(),
        "commit": at,
    }
    # In the order of PARTS, whoever ran first.
    ordered = {known: parts[known] for known in PARTS if known in parts}
    RESULT.write_text(json.dumps({"parts": ordered}, indent=1) + "\n")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"of {', '.join(PARTS)}; all when none is named")
    parser.add_argument("--again", action="store_true", help="also what has passed at this commit")
    parser.add_argument("--list", action="store_true", help="say what each part is, run nothing")
    options = parser.parse_args()
    if unknown := ", ".join(name for name in options.parts if name not in PARTS):
        parser.error(f"no part of ours: {unknown}")
    if options.list:
        print("\n".join(f"{name:14} {part.what}: make {' '.join(part.command)}" for name, part in PARTS.items()))
        return 0
    os.environ.setdefault("PYTHONUNBUFFERED", "1")
    failed = []
    for name in options.parts or PARTS:
        at = commit()
        known = recorded().get(name, {})
        if known.get("commit") == at and not at.endswith("+") and not options.again:
            print(f"== {name}: passed at {at} already")
            continue
        print(f"== {name}: {PARTS[name].what}", flush=True)
        began = time.monotonic()
        if said := run(name):
            record(name, said, (time.monotonic() - began) / 60, at)
            print(f"== {name}: {said}")
        else:
            failed.append(name)
    if failed:
        print(f"== failed: {', '.join(failed)}; their output lies in build/nightly", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
