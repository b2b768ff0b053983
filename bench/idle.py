"""Measure memory per idle connection again, of eastgate alone, as bench.compare does it.

    python -m bench.idle [--rounds N] [--keep]

With --keep the samples take the place of eastgate's in bench/results/compare.json,
which then says when that was: what a connection takes is the same whatever else the machine does, so that it may stand
beside peers of an earlier day. `make bench-build` comes first, `make bench-table` after it.
"""

import argparse
import json
import statistics
import sys
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

from .compare import FULL, RATIOS_TO, US, commit, keep, started
from .intervals import interval, paired_ratio
from .measure import LOAD, Sink
from .peers.xds import EastgateBusyProxy, EastgateProxy
from .table import RESULT

METRIC = "bytes_per_idle_connection"
KINDS = (EastgateProxy, EastgateBusyProxy)


def measure(rounds: int) -> dict[str, list[float]]:
    """Samples by peer, one of each per round; every sample is of a new process."""
    samples: dict[str, list[float]] = {kind.name: [] for kind in KINDS}
    with Sink(1) as sink:
        for _ in range(rounds):
            for kind in KINDS:
                samples[kind.name].append(started(kind(sink.port), FULL.idle_connections)[METRIC])
    return samples


def renew(result: dict[str, Any], samples: dict[str, list[float]]) -> None:
    """Put them into the result of a comparison, with what follows from them."""
    known = result["samples"][METRIC]
    for name, values in samples.items():
        known[name] = values
        result["medians"][METRIC][name] = asdict(interval(values))
    for name in RATIOS_TO:
        if name in known and (ratio := paired_ratio(known[US], known[name])):
            result["ratios"][METRIC][name] = asdict(ratio)
    result.setdefault("renewed", {})[METRIC] = {
        "peers": list(samples),
        "date": datetime.now(UTC).date().isoformat(),
        "commit": commit(),
        "command": "python -m bench.idle --keep",
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=FULL.rounds)
    parser.add_argument("--keep", action="store_true")
    options = parser.parse_args()
    if not LOAD.exists():
        sys.exit(f"{LOAD} is missing: make bench-build")
    result = json.loads(RESULT.read_text())
    if options.keep and options.rounds != result["sizes"]["rounds"]:
        parser.error(f"--keep takes as many rounds as the comparison had: {result['sizes']['rounds']}")
    samples = measure(options.rounds)
    for name, values in samples.items():
        print(f"{name}: median {statistics.median(values):.1f}, {min(values):.1f} to {max(values):.1f} bytes")
    if options.keep:
        renew(result, samples)
        keep(result, RESULT)


if __name__ == "__main__":
    main()
