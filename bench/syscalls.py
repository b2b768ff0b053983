"""System calls of a connection, of a round trip and of a megabyte, by proxy, as strace counts them.

    python -m bench.syscalls [--peers eastgate,envoy,floor] [--output FILE]

Counts, not times: strace slows all of them down by far. `make bench-build` comes first.
"""

import argparse
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from .compare import DIRECT, PEERS, commit, keep, machine, running, say
from .documents import syscalls_table
from .measure import LOAD, ROOT, Sink, load
from .peers.proxy import Proxy

RESULT = ROOT / "bench" / "results" / "syscalls.json"
CONNECTIONS, IN_FLIGHT = 1000, 16
ROUND_TRIPS, OPEN = 2000, 8
BULK_BYTES = 200_000_000
Calls = dict[str, float]


@contextmanager
def traced(pid: int) -> Iterator[dict[str, int]]:
    """Calls of all threads of a process meanwhile; filled when the context is left."""
    found: dict[str, int] = {}
    with tempfile.NamedTemporaryFile("r", prefix="strace-") as file:
        process = subprocess.Popen(
            ["strace", "-f", "-c", "-o", file.name, "-p", str(pid)], stderr=subprocess.PIPE, text=True
        )
        assert process.stderr is not None
        # "Process N attached": from here on everything is counted.
        attached = process.stderr.readline()
        if "attached" not in attached:
            sys.exit(f"strace: {attached.strip()}")
        time.sleep(0.3)
        try:
            yield found
        finally:
            time.sleep(0.3)
            process.send_signal(signal.SIGINT)
            process.communicate(timeout=20)
        found.update(counts(file.read()))


def counts(summary: str) -> dict[str, int]:
    """Calls by name of `strace -c`: % time, seconds, usecs/call, calls, perhaps errors, name."""
    found = {}
    for line in summary.splitlines():
        words = line.split()
        if len(words) in (5, 6) and words[3].isdigit() and words[-1] != "total":
            found[words[-1]] = int(words[3])
    return found


def calls(proxy: Proxy, units: float, *arguments: object) -> Calls:
    """Calls for each unit of one run of the generator."""
    with traced(proxy.pid) as found:
        report = load(*arguments)
    if report["failures"]:
        sys.exit(f"{proxy.name}: {report['failures']} connections failed under strace")
    return {name: round(count / units, 3) for name, count in sorted(found.items(), key=lambda one: -one[1])}


def measured(proxy: Proxy) -> dict[str, Calls]:
    port = proxy.port
    return {
        "connection": calls(proxy, CONNECTIONS, "connect", port, CONNECTIONS, IN_FLIGHT),
        "connection, one at a time": calls(proxy, CONNECTIONS, "connect", port, CONNECTIONS, 1),
        "round trip": calls(proxy, ROUND_TRIPS, "roundtrip", port, ROUND_TRIPS, OPEN),
        "megabyte": calls(proxy, BULK_BYTES / 1e6, "down", port, BULK_BYTES, 1),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peers", default="eastgate,floor,envoy,haproxy", help="comma-separated")
    parser.add_argument("--output", type=Path, default=RESULT)
    options = parser.parse_args()
    if not shutil.which("strace"):
        say("strace is not here (apt install strace): nothing was counted")
        return
    if not LOAD.exists():
        sys.exit(f"{LOAD} is missing: make bench-build")
    peers: dict[str, dict[str, Calls]] = {}
    with Sink(1) as sink:
        for name in options.peers.split(","):
            if name not in PEERS or name == DIRECT:
                parser.error(f"no peer {name}; there are {', '.join(PEERS)}")
            if reason := PEERS[name].absent():
                say(f"{name} is not here ({reason})")
                continue
            with running(PEERS[name], sink) as proxy:
                peers[name] = measured(proxy)
    result: dict[str, Any] = {
        "date": datetime.now(UTC).date().isoformat(),
        "commit": commit(),
        "machine": machine(),
        "versions": {name: PEERS[name].version() for name in peers},
        "in_flight": IN_FLIGHT,
        "calls": peers,
    }
    print(syscalls_table(result))
    keep(result, options.output)


if __name__ == "__main__":
    main()
