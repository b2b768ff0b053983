"""What open connections notice while things go wrong: round trips during each fault beside quiet time of the same run.

    python -m bench.faults [--pairs N] [--seconds S] [--workers N] [--only NAME,...] [--output FILE]

Eight connections through `eastgate gateway` ask for 64 bytes every 4 ms by the clock (a request that has to wait counts
from when it was due), and eight straight to the sink beside them: what those notice is the machine, not the proxy.
Quiet time and fault take turns. A fault is measured from its first moment until everything of it is cleared away.
`make bench-build` comes first.
"""

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self

from envoy_data_plane.envoy.service.discovery.v3 import DiscoveryResponse
from envoy_data_plane.google.protobuf import Any as PackedAny

from tests.support import hardship, messages
from tests.support.encoded import assignment, endpoint
from tests.support.gateway_process import StallableGateway
from tests.support.recordings import EDS
from tests.support.replay_ads import ReplayThread
from tests.support.waiting import until

from .compare import commit, keep, machine, say
from .configuration import ROUTED
from .documents import PERCENTILES, faults_table
from .measure import LOAD, ROOT, LoadError, Sink, cpu_s, load, start_load
from .peers.proxy import free_port

RESULT = ROOT / "bench" / "results" / "faults.json"
OPEN, PACE_US = 8, 4000
PUSHED_ENDPOINTS = 100_000
BIG = messages.sni("big")

Window = dict[str, float]


class Steady:
    """Open connections that ask by the clock, in a process of their own."""

    def __init__(self, port: int, cpus: set[int] | None = None) -> None:
        self._process = start_load("steady", port, PACE_US, OPEN, cpus=cpus)
        self._line()

    def window(self) -> Window:
        """What was seen since the last call. Raises LoadError when a connection was cut."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.write("\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            pass
        report = self._line()
        return {name: float(report[name]) for name in (*PERCENTILES, "count")}

    def _line(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        if line := self._process.stdout.readline():
            report: dict[str, Any] = json.loads(line)
            return report
        raise LoadError(f"steady: {self._process.communicate()[1].strip()}")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.communicate(timeout=10)


class Place:
    """A gateway, what is before and behind it, and the faults that it can be put through."""

    def __init__(self, stack: ExitStack, workers: int) -> None:
        self.sink = stack.enter_context(Sink(1))
        self.endpoints = stack.enter_context(hardship.RoughEndpoints())
        self.address = ("127.0.0.1", free_port())
        services: dict[str, Sequence[messages.At]]
        services = {name: [messages.At(address)] for name, address in self.endpoints.addresses.items()}
        services |= {ROUTED: [messages.At(("127.0.0.1", self.sink.port))], BIG: []}
        listener = messages.listener([messages.chain(name) for name in services], port=self.address[1])
        self.control = stack.enter_context(ReplayThread(messages.resources(services, listeners=[listener])))
        self.gateway = stack.enter_context(
            StallableGateway(self.control.address, "--log-level", "warning", "--workers", str(workers))
        ).wait_ready()
        load("first", self.address[1])
        self._pushes = [big_push(weight) for weight in (1, 2)]
        self.pushed = 0
        # The heap is made now, not while something is measured.
        until(self.gateway.collect(), "the heap is made")

    def counters(self) -> dict[str, int]:
        return self.gateway.stats("listener.eastwest.")

    @contextmanager
    def stall(self) -> Iterator[None]:
        until(self.gateway.stall(), "the stall is over")
        yield

    @contextmanager
    def collection(self) -> Iterator[None]:
        for _ in range(3):
            until(self.gateway.collect(), "the collection is over")
        yield

    @contextmanager
    def push(self) -> Iterator[None]:
        """The same 100,000 endpoints with other weights: all of it is decoded, compared and compiled."""
        for _ in range(3):
            before = self.gateway.stat("eastgate.eds.update_success")
            self.control.send_raw(self._pushes[self.pushed % 2])
            self.pushed += 1
            until(lambda: self.gateway.stat("eastgate.eds.update_success") > before, "the push is applied")  # noqa: B023
        assert self.gateway.stat(f"cluster.{BIG}.membership_total") == PUSHED_ENDPOINTS
        yield

    def faults(self) -> dict[str, Callable[[], AbstractContextManager[object]]]:
        address, pid = self.address, self.gateway.pid
        return {
            "descriptors exhausted": lambda: hardship.descriptors_exhausted(pid, address),
            "backlog full": lambda: hardship.backlog_full(pid, address),
            "64 slow readers": lambda: hardship.slow_readers(address),
            "500 slow hellos": lambda: hardship.slow_hellos(address),
            "200 half-open peers": lambda: hardship.silent_peers(address),
            "resets in every state": lambda: hardship.resets_in_every_state(address),
            "endpoint never reads, 64 clients": lambda: hardship.endpoint_never_reads(address, self.endpoints),
            "2 s stall of the control thread": self.stall,
            "3 collections of 1,500,000 objects": self.collection,
            "3 pushes of 100,000 endpoints": self.push,
        }


def big_push(weight: int) -> bytes:
    """A DiscoveryResponse with 100,000 endpoints of one cluster."""
    payload = assignment([endpoint(1 + index, weight=weight) for index in range(PUSHED_ENDPOINTS)], name=BIG)
    packed = PackedAny(type_url=EDS, value=payload)
    return bytes(DiscoveryResponse(version_info=f"w{weight}", type_url=EDS, nonce=f"w{weight}", resources=[packed]))


class Faults:
    """Windows by fault, in pairs of quiet time and fault."""

    def __init__(self, place: Place, through: Steady, direct: Steady, seconds: float) -> None:
        self._place, self._through, self._direct, self._seconds = place, through, direct, seconds
        self.windows: dict[str, list[dict[str, Any]]] = {}

    def _worker_waited_s(self) -> float:
        """How long the workers were ready and had no CPU, since they were born."""
        waited = 0
        for task in Path(f"/proc/{self._place.gateway.pid}/task").iterdir():
            if (task / "comm").read_text().startswith("eastgate-"):
                waited += int((task / "schedstat").read_text().split()[1])
        return waited / 1e9

    def pair(self, name: str, fault: Callable[[], AbstractContextManager[object]]) -> None:
        self._both()
        waited_s = [self._worker_waited_s()]
        time.sleep(self._seconds)
        waited_s.append(self._worker_waited_s())
        quiet = self._both()
        before, cpu = self._place.counters(), cpu_s(self._place.gateway.pid)
        self._both()
        waited_s.append(self._worker_waited_s())
        begun = time.monotonic()
        with fault():
            time.sleep(max(0.0, self._seconds - (time.monotonic() - begun)))
        took_s = time.monotonic() - begun
        waited_s.append(self._worker_waited_s())
        during = self._both()
        used = cpu_s(self._place.gateway.pid) - cpu
        hardship.wait_quiet(lambda: self._place.counters()["downstream_cx_active"], OPEN)
        after = self._place.counters()
        refused = {key: after[key] - before[key] for key in after if key.startswith("refused.")}
        counted = {"connections": after["eastgate.accepted_total"] - before["eastgate.accepted_total"]}
        counted |= {key.removeprefix("refused."): value for key, value in refused.items() if value}
        self.windows.setdefault(name, []).append(
            {
                "quiet": quiet,
                "fault": during,
                "seconds": took_s,
                "gateway_cpu_s": used,
                "workers_waited_ms": {
                    "quiet": (waited_s[1] - waited_s[0]) * 1e3 / self._seconds,
                    "fault": (waited_s[3] - waited_s[2]) * 1e3 / took_s,
                },
                "counted": counted,
            }
        )

    def _both(self) -> dict[str, Window]:
        return {"through": self._through.window(), "direct": self._direct.window()}


def summary(windows: list[dict[str, Any]]) -> dict[str, Any]:
    """Medians over the pairs; of the longest round trips the longest."""

    def over_pairs(when: str, where: str) -> Window:
        each = [window[when][where] for window in windows]
        middle = {name: statistics.median(one[name] for one in each) for name in PERCENTILES[:-1]}
        return {**middle, "max_us": max(one["max_us"] for one in each), "count": sum(one["count"] for one in each)}

    counted: dict[str, int] = {}
    for window in windows:
        for key, value in window["counted"].items():
            counted[key] = counted.get(key, 0) + value
    return {
        "through": {when: over_pairs(when, "through") for when in ("quiet", "fault")},
        "direct": {when: over_pairs(when, "direct") for when in ("quiet", "fault")},
        "gateway_cpu_share": statistics.median(one["gateway_cpu_s"] / one["seconds"] for one in windows),
        "workers_waited_ms": {
            when: statistics.median(one["workers_waited_ms"][when] for one in windows) for when in ("quiet", "fault")
        },
        "counted": counted,
    }


def measured(options: argparse.Namespace) -> dict[str, Any]:
    """The whole run; what goes into the JSON."""
    with ExitStack() as stack:
        place = Place(stack, options.workers)
        chosen = place.faults()
        if options.only:
            chosen = {name: fault for name, fault in chosen.items() if any(part in name for part in options.only)}
        with Steady(place.address[1]) as through, Steady(place.sink.port) as direct:
            until(lambda: place.counters()["downstream_cx_active"] == OPEN, "connections are open")
            faults = Faults(place, through, direct, options.seconds)
            for number in range(options.pairs):
                begun = time.monotonic()
                for name, fault in chosen.items():
                    faults.pair(name, fault)
                say(f"pair {number + 1} of {options.pairs}: {time.monotonic() - begun:.1f} s")
        hardship.wait_quiet(lambda: place.counters()["downstream_cx_active"], 0)
    return {
        "date": datetime.now(UTC).date().isoformat(),
        "commit": commit(),
        "machine": machine(),
        "workers": options.workers,
        "pairs": options.pairs,
        "window_s": options.seconds,
        "open_connections": OPEN,
        "pace_us": PACE_US,
        "faults": {name: summary(windows) for name, windows in faults.windows.items()},
        "windows": faults.windows,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=2.5, help="how long quiet time and each fault last at least")
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--only", type=lambda text: text.split(","), help="faults whose names contain one of these")
    parser.add_argument("--output", type=Path, default=RESULT)
    options = parser.parse_args()
    if not LOAD.exists():
        sys.exit(f"{LOAD} is missing: make bench-build")
    result = measured(options)
    print(faults_table(result))
    keep(result, options.output)


if __name__ == "__main__":
    main()
