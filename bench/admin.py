"""What open connections notice of hostile clients of admin: round trips meanwhile beside quiet time of the same run.

    python -m bench.admin [--pairs N] [--seconds S] [--services N] [--only NAME,...] [--proxies NAME,...]
                          [--together] [--output FILE]

eastgate and Envoy have the same services and one worker each. Eight connections through the proxy ask for 64 bytes
every 4 ms by the clock (a request that has to wait counts from when it was due), and eight straight to the sink beside
them: what those notice is the machine, not the proxy. Quiet time and hostile clients take turns, and so do the proxies.

Hostile clients and whoever answers them take a CPU each, and on two CPUs nothing is left for connections, with or
without a proxy. So the worker, its clients and the sink have the last CPU, and all else the others: what connections
notice then is what admin holds of the proxy beside CPU. --together lets the kernel choose. `make bench-build` comes
first.
"""

import argparse
import os
import statistics
import sys
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tests.support import hostile_clients
from tests.support.waiting import until

from .compare import commit, keep, machine, say
from .configuration import services
from .documents import PERCENTILES, admin_table
from .faults import OPEN, PACE_US, Steady, Window
from .intervals import interval
from .measure import LOAD, ROOT, Sink, cpu_s, load, resident_bytes, settle
from .peers.xds import EastgateProxy, EnvoyProxy, XdsProxy

RESULT = ROOT / "bench" / "results" / "admin.json"
PROXIES: tuple[type[XdsProxy], ...] = (EastgateProxy, EnvoyProxy)
BACKLOG_S = 120
WORKERS = ("eastgate-", "wrk:")
"""How names of threads begin that relay."""

Address = tuple[str, int]
HOSTILE: dict[str, Callable[[Address], AbstractContextManager[object]]] = {
    "64 who ask for the counters and read nothing": hostile_clients.slow_readers,
    "256 halves of a request": hostile_clients.half_requests,
    "4 scrapers without a pause": hostile_clients.scrapes,
    "4 who ask nastily": hostile_clients.nasty_requests,
}


def admin_of(proxy: XdsProxy) -> Address:
    host, _, port = proxy.process.admin.removeprefix("http://").rpartition(":")
    return host, int(port)


@dataclass(frozen=True, slots=True)
class Cpus:
    """Where connections are relayed, and where all else runs."""

    relay: frozenset[int]
    rest: frozenset[int]

    @classmethod
    def chosen(cls, *, together: bool) -> "Cpus":
        every = sorted(os.sched_getaffinity(0))
        if together or len(every) == 1:
            return cls(frozenset(every), frozenset(every))
        return cls(frozenset(every[-1:]), frozenset(every[:-1]))

    def place(self, pid: int) -> None:
        """Each thread of a proxy on its CPUs."""
        for task in Path(f"/proc/{pid}/task").iterdir():
            is_worker = (task / "comm").read_text().startswith(WORKERS)
            os.sched_setaffinity(int(task.name), self.relay if is_worker else self.rest)


def pair(
    proxy: XdsProxy, sink: Sink, cpus: Cpus, hostile: Callable[[Address], AbstractContextManager[object]], s: float
) -> Any:
    """Quiet time, then hostile clients from their first moment until they are gone."""
    relay = set(cpus.relay)
    with Steady(proxy.port, relay) as through, Steady(sink.port, relay) as direct:

        def both() -> dict[str, Window]:
            return {"through": through.window(), "direct": direct.window()}

        both()
        time.sleep(s)
        quiet, cpu, begun = both(), cpu_s(proxy.pid), time.monotonic()
        with hostile(admin_of(proxy)) as clients:
            time.sleep(s)
        took_s = time.monotonic() - begun
        during, used = both(), cpu_s(proxy.pid) - cpu
        # Of what these have asked nothing is left to be done for the next.
        until(proxy.process.is_ready, "admin answers again", deadline_s=BACKLOG_S)
        again_s = time.monotonic() - begun - took_s
        settle(proxy.pid)
        return {
            "quiet": quiet,
            "hostile": during,
            "seconds": took_s,
            "cpu_s": used,
            "answers_again_s": again_s,
            "requests": clients.done if isinstance(clients, hostile_clients.Flood) else 0,
            "resident_mb": resident_bytes(proxy.pid) / 1e6,
        }


def summary(windows: list[dict[str, Any]]) -> dict[str, Any]:
    """Medians over the pairs; of the longest round trips the longest; memory as it was after each."""

    def over_pairs(when: str, where: str) -> Window:
        each = [window[when][where] for window in windows]
        middle = {name: statistics.median(one[name] for one in each) for name in PERCENTILES[:-1]}
        return {**middle, "max_us": max(one["max_us"] for one in each), "count": sum(one["count"] for one in each)}

    def more(where: str) -> list[float]:
        return [one["hostile"][where]["p99_us"] / one["quiet"][where]["p99_us"] for one in windows]

    return {
        "p99_ratio": {where: asdict(interval(more(where))) for where in ("through", "direct")},
        **{where: {when: over_pairs(when, where) for when in ("quiet", "hostile")} for where in ("through", "direct")},
        "cpu_share": statistics.median(one["cpu_s"] / one["seconds"] for one in windows),
        "answers_again_s": max(one["answers_again_s"] for one in windows),
        "requests": sum(one["requests"] for one in windows),
        "requests_per_s": statistics.median(one["requests"] / one["seconds"] for one in windows),
        "resident_mb": [one["resident_mb"] for one in windows],
    }


def measured(options: argparse.Namespace) -> dict[str, Any]:
    """The whole run; what goes into the JSON."""
    chosen = {name: one for name, one in HOSTILE.items() if any(part in name for part in options.only)}
    windows: dict[str, dict[str, list[dict[str, Any]]]] = {name: {} for name in chosen}
    loads, before = [os.getloadavg()[0]], {}
    cpus = Cpus.chosen(together=options.together)
    os.sched_setaffinity(0, cpus.rest)
    with ExitStack() as stack:
        sink = stack.enter_context(Sink(1, set(cpus.relay)))
        kinds = [kind for kind in PROXIES if kind.name in options.proxies]
        proxies = [kind(sink.port, more=services(options.services, 12)) for kind in kinds]
        for proxy in proxies:
            stack.callback(proxy.stop)
            proxy.launch()
            load("first", proxy.port)
            settle(proxy.pid)
            cpus.place(proxy.pid)
            before[proxy.name] = resident_bytes(proxy.pid) / 1e6
        for number in range(options.pairs):
            begun = time.monotonic()
            for name, hostile in chosen.items():
                for proxy in proxies if number % 2 else reversed(proxies):
                    windows[name].setdefault(proxy.name, []).append(pair(proxy, sink, cpus, hostile, options.seconds))
            loads.append(os.getloadavg()[0])
            say(f"pair {number + 1} of {options.pairs}: {time.monotonic() - begun:.1f} s")
    return {
        "date": datetime.now(UTC).date().isoformat(),
        "commit": commit(),
        "machine": machine(),
        "load": {"least": min(loads), "most": max(loads)},
        "versions": [kind.version() for kind in kinds],
        "services": options.services,
        "pairs": options.pairs,
        "window_s": options.seconds,
        "open_connections": OPEN,
        "pace_us": PACE_US,
        "apart": cpus.relay != cpus.rest,
        "resident_mb_at_start": before,
        "hostile": {
            name: {who: summary(windows[name][who]) for who in (kind.name for kind in kinds)} for name in chosen
        },
        "windows": windows,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=2.5, help="how long quiet time and hostile clients last")
    parser.add_argument("--services", type=int, default=1000, help="clusters, of which admin has to tell")
    parser.add_argument("--only", type=lambda text: text.split(","), default=[""], help="part of a name; more by comma")
    every = [kind.name for kind in PROXIES]
    parser.add_argument("--proxies", type=lambda text: text.split(","), default=every, help="of these alone, by comma")
    parser.add_argument("--together", action="store_true", help="connections and admin on the same CPUs")
    parser.add_argument("--output", type=Path, default=RESULT)
    options = parser.parse_args()
    if not LOAD.exists():
        sys.exit(f"{LOAD} is missing: make bench-build")
    if "envoy" in options.proxies and (why := EnvoyProxy.absent()):
        sys.exit(f"no Envoy to compare with: {why}")
    result = measured(options)
    print(admin_table(result))
    keep(result, options.output)


if __name__ == "__main__":
    main()
