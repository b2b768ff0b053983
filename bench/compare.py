"""Compare eastgate with other proxies: the same route, load and sink for all, in interleaved rounds.

    python -m bench.compare [--quick] [--peers envoy,haproxy,...] [--rounds N] [--output FILE]

In each round every measurement goes over all peers before the next one begins, and each round begins with another
peer; ratios are taken within a round. What is not installed is named, not failed. `make bench-build` comes first.

Processes are left to the scheduler unless told otherwise: with the generator and the sink on one CPU and the proxy on
the other of a two-CPU machine, p99 is the scheduler's tick (4 ms) and half of the rate is lost to waiting.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from .configuration import services, standby
from .intervals import interval, paired_ratio
from .measure import LOAD, ROOT, LoadError, Sample, Sink, Target, fresh_start, lost_after_kill, pin, pushes
from .peers.pickers import PICKERS
from .peers.proxy import Proxy, first_line
from .peers.static import FloorProxy, HaproxyProxy, HaproxySpliceProxy, NginxProxy, UringFloorProxy, UvloopProxy
from .peers.xds import EastgateBusyProxy, EastgateProxy, EnvoyProxy, XdsProxy, assignment_push, killed_push

US = EastgateProxy.name
DIRECT = "direct"
PEERS: dict[str, type[Proxy]] = {
    kind.name: kind
    for kind in (
        EastgateProxy,
        EastgateBusyProxy,
        EnvoyProxy,
        HaproxyProxy,
        HaproxySpliceProxy,
        NginxProxy,
        FloorProxy,
        UringFloorProxy,
        UvloopProxy,
    )
}
RATIOS_TO = (EnvoyProxy.name, HaproxyProxy.name, FloorProxy.name)
SKETCHES = (UringFloorProxy.name,)
"""What was tried and not taken; measured once in a while."""
PUSHED_ENDPOINTS = 10_000
PER_CLUSTER = 12
PICKED_FROM = (10, 100, 1000, 10_000)


@dataclass(frozen=True, slots=True)
class Sizes:
    """How much of everything; a run that is compared with another must have the same."""

    rounds: int
    connections: int
    in_flight: int
    bulk_bytes: int
    round_trips: tuple[tuple[int, int], ...]
    """(open connections, round trips on all of them)"""
    idle_connections: int
    push_pause_s: float
    endpoints: int
    clusters: int
    picks: int
    """of each picker and size in each round"""
    budget_s: float = 86_400.0
    """no further round begins that would last longer than this in all"""


FULL = Sizes(
    rounds=15,
    connections=5000,
    in_flight=16,
    bulk_bytes=1_000_000_000,
    round_trips=((1, 10_000), (8, 40_000), (64, 60_000)),
    idle_connections=2500,
    push_pause_s=0.3,
    endpoints=50_000,
    clusters=1000,
    picks=1_000_000,
)
QUICK = Sizes(
    rounds=3,
    connections=1500,
    in_flight=16,
    bulk_bytes=400_000_000,
    round_trips=((1, 2000), (8, 8000), (64, 16_000)),
    idle_connections=1000,
    push_pause_s=0.25,
    endpoints=20_000,
    clusters=300,
    picks=300_000,
    budget_s=105.0,
)


def machine() -> dict[str, Any]:
    """What a reader needs to know of this machine."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return {
        "cpu": models[0] if models else platform.machine(),
        "cpus": os.cpu_count(),
        "memory_gb": round(memory / 2**30),
        "kernel": platform.release(),
        "system": platform.freedesktop_os_release().get("PRETTY_NAME", ""),
        "python": platform.python_version(),
        "compiler": first_line("cc", "--version"),
    }


def commit() -> str:
    done = subprocess.run(
        ["git", "describe", "--always", "--dirty"], capture_output=True, text=True, cwd=ROOT, check=False
    )
    return done.stdout.strip()


@contextmanager
def running(kind: type[Proxy], sink: Sink) -> Iterator[Proxy]:
    """A proxy that has answered once."""
    proxy = kind(sink.port)
    try:
        fresh_start(proxy, 1)
        yield proxy
    finally:
        proxy.stop()


class Comparison:
    """Samples by metric and peer, one per round."""

    def __init__(self, sizes: Sizes, peers: list[str], *, pinned: bool) -> None:
        self.sizes = sizes
        self.peers = peers
        cpus = sorted(os.sched_getaffinity(0))
        self.proxy_cpus = {cpus[0]} if pinned else set(cpus)
        self.load_cpus = set(cpus[1:]) if pinned else set(cpus)
        self.samples: dict[str, dict[str, list[float]]] = {}
        self.pickers = [kind for kind in PICKERS if not kind.absent()]
        self.picks: dict[str, dict[int, list[float]]] = {}
        self.failed: dict[str, str] = {}

    def run(self) -> None:
        with ExitStack() as stack:
            sinks = [stack.enter_context(Sink(number, self.load_cpus)) for number in (1, 2)]
            targets = {DIRECT: Target(None, sinks[0], load_cpus=self.load_cpus)}
            for name in self.peers:
                proxy = stack.enter_context(running(PEERS[name], sinks[0]))
                pin(proxy.pid, self.proxy_cpus)
                targets[name] = Target(proxy, sinks[0], load_cpus=self.load_cpus)
            others = standby(PUSHED_ENDPOINTS - 1)
            self.many_endpoints = standby(self.sizes.endpoints)
            self.many_clusters = services(self.sizes.clusters, PER_CLUSTER)
            all_begun = time.monotonic()
            for number in range(self.sizes.rounds):
                begun = time.monotonic()
                self.round(number, targets, (sinks[0], sinks[1]), others)
                took_s, all_s = time.monotonic() - begun, time.monotonic() - all_begun
                say(f"round {number + 1} of {self.sizes.rounds}: {took_s:.1f} s")
                if all_s + took_s > self.sizes.budget_s and number + 1 < self.sizes.rounds:
                    say("no time for more: the machine is busy, look again later")
                    self.sizes = replace(self.sizes, rounds=number + 1)
                    break

    def round(self, number: int, targets: dict[str, Target], sinks: tuple[Sink, Sink], others: bytes) -> None:
        sizes = self.sizes
        names = [*self.peers, DIRECT]
        turned = names[number % len(names) :] + names[: number % len(names)]

        def on_all(measure: Callable[[Target], Sample], chosen: list[str] = turned) -> None:
            for name in chosen:
                self.add(name, lambda name=name: measure(targets[name]))  # type: ignore[misc]

        on_all(lambda target: target.connections(sizes.connections, sizes.in_flight))
        on_all(lambda target: target.bulk(sizes.bulk_bytes))
        for open_connections, count in sizes.round_trips:
            on_all(lambda target, n=open_connections, m=count: target.round_trips(m, n))  # type: ignore[misc]
        pushed = [name for name in turned if name in PEERS and PEERS[name].is_pushed]
        on_all(lambda target: pushes(target, sinks, push_steps(number, sinks, others), sizes.push_pause_s), pushed)
        port = sinks[0].port
        killed, whole = killed_push(f"killed-{number}", port), assignment_push(f"whole-{number}", port)
        on_all(lambda target: lost_after_kill(target, killed, whole, sizes.push_pause_s), pushed)
        for name in turned:
            if name != DIRECT:
                self.add(name, lambda name=name: self.fresh(name, sinks[0]))  # type: ignore[misc]
        for kind in (*self.pickers[number % len(self.pickers) :], *self.pickers[: number % len(self.pickers)]):
            for size in PICKED_FROM:
                for title, ns in kind.costs(size, sizes.picks).items():
                    self.picks.setdefault(title, {}).setdefault(size, []).append(ns)

    def fresh(self, name: str, sink: Sink) -> Sample:
        """New processes, on any CPU as they would be in a pod: memory freed once would not be counted again."""
        kind = PEERS[name]
        sample = started(kind(sink.port), self.sizes.idle_connections)
        if issubclass(kind, XdsProxy) and kind.is_pushed:
            base = sample["resident_mb_at_start"]
            endpoints = started(kind(sink.port, standby_endpoints=self.many_endpoints), 1)["resident_mb_at_start"]
            clusters = started(kind(sink.port, more=self.many_clusters), 1)["resident_mb_at_start"]
            sample["bytes_per_endpoint"] = (endpoints - base) * 1e6 / self.sizes.endpoints
            sample["kb_per_cluster"] = (clusters - base) * 1e3 / self.sizes.clusters
        return sample

    def add(self, name: str, measure: Callable[[], Sample]) -> None:
        """Take one sample. A peer that fails once is out of all metrics of that measurement, and named."""
        try:
            sample = measure()
        except LoadError as error:
            if name == US:
                raise
            self.failed[name] = str(error)
            say(f"{name}: {error}")
            return
        for metric, value in sample.items():
            self.samples.setdefault(metric, {}).setdefault(name, []).append(value)

    def report(self) -> dict[str, Any]:
        """What goes into the JSON: medians with intervals, ratios, and every sample."""
        rounds = self.sizes.rounds
        complete = {
            metric: {name: values for name, values in by_peer.items() if len(values) == rounds}
            for metric, by_peer in self.samples.items()
        }
        return {
            "date": datetime.now(UTC).date().isoformat(),
            "commit": commit(),
            "machine": machine(),
            "sizes": asdict(self.sizes),
            "pinned": {"proxy": sorted(self.proxy_cpus), "load": sorted(self.load_cpus)},
            "peers": {name: PEERS[name].version() for name in self.peers},
            "absent": {name: kind.absent() for name, kind in PEERS.items() if kind.absent()},
            "failed": self.failed,
            "medians": {
                metric: {name: asdict(interval(values)) for name, values in by_peer.items()}
                for metric, by_peer in complete.items()
            },
            "ratios": {
                metric: {
                    name: asdict(ratio)
                    for name in RATIOS_TO
                    if name in by_peer and (ratio := paired_ratio(by_peer[US], by_peer[name]))
                }
                for metric, by_peer in complete.items()
                if US in by_peer
            },
            "pickers": {
                "versions": [kind.version() for kind in self.pickers],
                "absent": {kind.name: kind.absent() for kind in PICKERS if kind.absent()},
                "ns": {
                    title: {size: asdict(interval(values)) for size, values in by_size.items()}
                    for title, by_size in self.picks.items()
                },
            },
            "samples": self.samples,
        }


def started(proxy: Proxy, idle_connections: int) -> Sample:
    """Start it, measure that, stop it."""
    try:
        return fresh_start(proxy, idle_connections)
    finally:
        proxy.stop()


def push_steps(number: int, sinks: tuple[Sink, Sink], others: bytes) -> list[tuple[str, int, bytes]]:
    """One endpoint to the other sink and back; then the same with 10,000 endpoints of which one changes."""

    def push(step: int, index: int, further: bytes = b"") -> bytes:
        return assignment_push(f"round-{number}-{step}", sinks[index].port, further)

    return [
        ("push_to_first_pick_ms_1", 1, push(0, 1)),
        ("", 0, push(1, 0)),
        ("", 0, push(2, 0, others)),
        ("push_to_first_pick_ms_10000", 1, push(3, 1, others)),
        ("", 0, push(4, 0)),
    ]


def say(line: str) -> None:
    print(f"== {line}", file=sys.stderr, flush=True)


def keep(result: dict[str, Any], output: Path) -> None:
    """Write what was measured."""
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text(json.dumps(result, indent=1) + "\n")
    say(f"written to {output}")


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="under two minutes, for a look; do not quote its figures")
    parser.add_argument("--peers", help="comma-separated; eastgate is always in. Default: all; --quick: no sketches")
    parser.add_argument("--rounds", type=int)
    parser.add_argument("--pinned", action="store_true", help="proxy on one CPU, generator and sink on another")
    parser.add_argument("--output", type=Path, default=ROOT / "build" / "compare.json")
    options = parser.parse_args()
    if options.peers is None:
        options.peers = ",".join(name for name in PEERS if not (options.quick and name in SKETCHES))
    unknown = set(options.peers.split(",")) - set(PEERS)
    if unknown:
        parser.error(f"no peer {', '.join(sorted(unknown))}; there are {', '.join(PEERS)}")
    return options


def main() -> None:
    options = arguments()
    if not LOAD.exists():
        sys.exit(f"{LOAD} is missing: make bench-build")
    wanted = dict.fromkeys([US, *options.peers.split(",")])
    for name in wanted:
        if reason := PEERS[name].absent():
            say(f"{name} is not here ({reason})")
    for kind in PICKERS:
        if reason := kind.absent():
            say(f"pickers of {kind.name} are not here ({reason})")
    sizes = QUICK if options.quick else FULL
    if options.rounds:
        sizes = Sizes(**{**asdict(sizes), "rounds": options.rounds})
    pinned = options.pinned and len(os.sched_getaffinity(0)) > 1
    comparison = Comparison(sizes, [name for name in wanted if not PEERS[name].absent()], pinned=pinned)
    comparison.run()
    keep(comparison.report(), options.output)


if __name__ == "__main__":
    main()
