"""Pairs of sidecars beside each other: plaintext in, mesh mTLS between the two, plaintext out; ours and Envoy's.

    python -m bench.sidecars [--rounds N] [--only NAME,...] [--output FILE]

One configuration for both, certificates over SDS, one worker each. Both pairs of a section run at once and are measured
in turns; ratios are taken within a round. CPU and memory are those of both processes of a pair. *plaintext* is one
sidecar without TLS on either side, as it carries what has no mTLS; a redirect, which costs the kernel the same for
both, is not part of it. `make bench-build` comes first.
"""

import argparse
import asyncio
import json
import os
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from eastgate.fastpath.tls.library import openssl
from eastgate.insight.cluster_model import ClusterModel, Endpoint
from eastgate.proxy import log
from eastgate.trial.compare import Compared, envoy_to_compare
from eastgate.trial.compare_sidecar import Pairs, Start, programs

from .compare import commit, keep, machine, say
from .documents import sidecars_table
from .faults import Steady
from .intervals import interval, paired_ratio
from .measure import DEADLINE_S, LOAD, ROOT, LoadError, Sample, Sink, cpu_s, load, resident_bytes, settle, start_load
from .peers.xds import EastgateProxy, EnvoyProxy

RESULT = ROOT / "bench" / "results" / "sidecars.json"
US, ENVOY = "eastgate", "envoy"
FLOODING = 64
"""Handshakes at a time."""


@dataclass(frozen=True, slots=True)
class Sizes:
    """How much of everything in a round."""

    connections: int = 1000
    in_flight: int = 16
    round_trips: tuple[tuple[int, int], ...] = ((1, 3000), (8, 10_000), (64, 16_000))
    bulk_bytes: int = 400_000_000
    idle: int = 2000
    steady_s: float = 2.0


class Target:
    """A running pair, or one sidecar, as something to put load on."""

    def __init__(self, proxy: Compared, sink: Sink) -> None:
        self.proxy, self.port, self.sink = proxy, proxy.port, sink

    def cpu(self) -> float:
        return sum(map(cpu_s, self.proxy.pids))

    def resident(self) -> int:
        return sum(map(resident_bytes, self.proxy.pids))

    def run(self, *arguments: object) -> tuple[dict[str, Any], float]:
        """(report of the generator, CPU of the pair). Raises LoadError."""
        before = self.cpu()
        report = load(*arguments)
        if report["failures"]:
            raise LoadError(f"{self.proxy.name}: {report['failures']} of {report['count']} connections failed")
        return report, self.cpu() - before


Measure = Callable[[Target, Sizes], Sample]


def connections(target: Target, sizes: Sizes) -> Sample:
    """A connection each: hello in, 64 bytes back."""
    _, cpu = target.run("connect", target.port, sizes.connections, sizes.in_flight)
    return {"cpu_us_per_connection": cpu / sizes.connections * 1e6}


def relayed(target: Target, sizes: Sizes) -> Sample:
    """Round trips of 64 bytes on open connections, then bulk both ways."""
    sample = {}
    for count, trips in sizes.round_trips:
        report, cpu = target.run("roundtrip", target.port, trips, count)
        sample[f"round_trip_p50_us_{count}"] = report["p50_us"]
        sample[f"cpu_us_per_round_trip_{count}"] = cpu / trips * 1e6
    _, up = target.run("up", target.port, sizes.bulk_bytes, 1)
    _, down = target.run("down", target.port, sizes.bulk_bytes, 1)
    return {**sample, "cpu_s_per_gb": (up + down) / (2 * sizes.bulk_bytes / 1e9)}


def idle(target: Target, sizes: Sizes) -> Sample:
    """What open connections add to memory that nobody uses."""
    for pid in target.proxy.pids:
        settle(pid)
    before = target.resident()
    with start_load("idle", target.port, sizes.idle) as process:
        assert process.stdout is not None
        if not process.stdout.readline():
            raise LoadError(f"idle: {process.communicate()[1].strip()}")
        for pid in target.proxy.pids:
            settle(pid)
        found = (target.resident() - before) / sizes.idle
        process.communicate(timeout=DEADLINE_S)
    return {"bytes_per_idle_connection": found}


def flood(target: Target, sizes: Sizes) -> Sample:
    """Round trips by the clock on eight open connections, quiet, and while handshakes come as fast as they are done."""
    with Steady(target.port) as steady:
        time.sleep(sizes.steady_s)
        quiet = steady.window()
        report = load("connect", target.port, sizes.connections, FLOODING)
        busy = steady.window()
    return {
        "handshakes_per_s": sizes.connections / report["seconds"],
        "p99_quiet_us": quiet["p99_us"],
        "p99_flood_us": busy["p99_us"],
    }


@dataclass(frozen=True, slots=True)
class Section:
    """What is started for some measurements. ``endpoints``: of the cluster; ``tls``: whether there is a pair;
    ``fresh``: anew for each round, since memory that was given back once is not counted again.
    """

    measures: tuple[Measure, ...]
    endpoints: int = 1
    rsa: bool = False
    resumption: bool = True
    tls: bool = True
    fresh: bool = False


SECTIONS = {
    "one endpoint, P-256": Section((connections,)),
    "four endpoints, P-256": Section((connections,), endpoints=4),
    "four endpoints, RSA-2048": Section((connections,), endpoints=4, rsa=True),
    "full handshakes, P-256": Section((connections,), resumption=False),
    "full handshakes, RSA-2048": Section((connections,), rsa=True, resumption=False),
    "handshake flood": Section((flood,), resumption=False),
    "relayed": Section((relayed,)),
    "idle": Section((idle,), fresh=True),
    "plaintext": Section((connections,), tls=False),
}


@asynccontextmanager
async def targets(section: Section, sink: Sink, envoy: Path) -> AsyncIterator[list[Target]]:
    """Both proxies of a section, ready; ours last."""
    model = ClusterModel("measured", endpoints=tuple(Endpoint(f"10.0.0.{n}:80") for n in range(section.endpoints)))
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-")))
        pairs = Pairs(model, [sink.port] * section.endpoints, folder, stack, rsa=section.rsa)
        await pairs.prepare()
        found = []
        for name, program in programs(envoy).items():
            start = Start(name, program, folder, section.resumption)
            found.append(Target(await (pairs.pair(start) if section.tls else pairs.plain(start)), sink))
        yield found


async def measured(section: Section, rounds: int, sink: Sink, envoy: Path) -> dict[str, dict[str, list[float]]]:
    """Samples by metric and proxy, one a round."""
    samples: dict[str, dict[str, list[float]]] = {}
    for first in range(0, rounds, 1 if section.fresh else rounds):
        async with targets(section, sink, envoy) as both:
            for target in both:
                # What either sets up with its first connections is nobody's cost per connection.
                await asyncio.to_thread(load, "connect", target.port, 50, 4)
            for number in range(first, first + (1 if section.fresh else rounds)):
                for target in both if number % 2 else reversed(both):
                    for measure in section.measures:
                        for metric, value in (await asyncio.to_thread(measure, target, Sizes())).items():
                            samples.setdefault(metric, {}).setdefault(target.proxy.name, []).append(value)
    return samples


def summary(samples: dict[str, dict[str, list[float]]]) -> dict[str, Any]:
    """Medians of both and the ratio, by metric."""
    found = {}
    for metric, of in samples.items():
        ratio = paired_ratio(of[US], of[ENVOY])
        found[metric] = {
            **{name: asdict(interval(values)) for name, values in of.items()},
            "ratio": asdict(ratio) if ratio else None,
        }
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", default=",".join(SECTIONS), help="names of sections; the others stay as they were")
    parser.add_argument("--output", type=Path, default=RESULT)
    options = parser.parse_args()
    if not LOAD.exists():
        sys.exit(f"{LOAD} is missing: make bench-build")
    log.configure("error")
    envoy = envoy_to_compare()
    sections: dict[str, Any] = {}
    if options.output.exists():
        # What is not measured again stays as it was.
        sections = json.loads(options.output.read_text())["sections"]
    loads = []
    with Sink(1) as sink:
        for name, section in SECTIONS.items():
            if name in options.only:
                say(name)
                loads.append(os.getloadavg()[0])
                try:
                    sections[name] = summary(asyncio.run(measured(section, options.rounds, sink, envoy)))
                except LoadError as error:
                    say(f"{name}: {error}")
    result = {
        "date": datetime.now(UTC).date().isoformat(),
        "commit": commit(),
        "machine": machine(),
        "rounds": options.rounds,
        "sizes": asdict(Sizes()),
        "load": {"least": min(loads), "most": max(loads)},
        "versions": {US: EastgateProxy.version(), ENVOY: EnvoyProxy.version(), "openssl": openssl()[0]},
        "sections": sections,
    }
    print(sidecars_table(result))
    keep(result, options.output)


if __name__ == "__main__":
    main()
