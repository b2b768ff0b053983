"""How long admin takes to answer: scrapes of many clusters, and pilot-agent's questions, also beside full workers.

    python -m bench.answers [--rounds N] [--services N] [--asks N] [--output FILE]

eastgate and Envoy have the same services and one worker each. Each question is asked by a connection of its own, one
after the other, as pilot-agent and Prometheus ask; within a round by each proxy in turn. CPU is that of the whole proxy
for an answer, memory what the first scrape of its life takes. *Full*: connections are made as fast as the proxy
takes them, sixteen at a time, so that its worker, the generator and the sink want all CPUs; from there on what an
answer takes by the clock is how the proxy's own threads share them. `make bench-build` comes first.
"""

import argparse
import os
import signal
import socket
import statistics
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tests.support.hostile_clients import request

from .admin import PROXIES, admin_of
from .compare import commit, keep, machine, say
from .configuration import services
from .documents import answers_table
from .intervals import paired_ratio
from .measure import LOAD, ROOT, LoadError, Sink, answer, cpu_s, load, resident_bytes, settle, start_load
from .peers.xds import EnvoyProxy, XdsProxy

RESULT = ROOT / "bench" / "results" / "answers.json"
PATIENCE_S = 60
IN_FLIGHT = 16
FULL_ASKS = 20
SCRAPES = {"a scrape": "/stats/prometheus", "a scrape, what counted (usedonly)": "/stats/prometheus?usedonly"}
# As pilot-agent sends them: expressions raw in the request target.
AGENT = {
    "readiness: state": r"/stats?usedonly&filter=^(server\.state|listener_manager\.workers_started)",
    "readiness: configuration": (
        r"/stats?usedonly&filter=^(cluster_manager\.cds|listener_manager\.lds)\.(update_success|update_rejected)$"
    ),
    "drain: open connections": "/stats?usedonly&filter=downstream_cx_active$",
    "/ready": "/ready",
}


def asked(proxy: XdsProxy, path: str) -> tuple[float, int]:
    """Seconds from connecting to the end of the answer, and its bytes. Raises LoadError for any other than 200."""
    begun = time.perf_counter()
    with socket.create_connection(admin_of(proxy), PATIENCE_S) as peer:
        peer.sendall(request(path, "Connection: close"))
        head = peer.recv(65536)
        size = len(head)
        while part := peer.recv(1 << 20):
            size += len(part)
    if not head.startswith(b"HTTP/1.1 200 "):
        raise LoadError(f"{proxy.name} {path}: {head[:80]!r}")
    return time.perf_counter() - begun, size


def more_memory(proxy: XdsProxy, path: str) -> dict[str, float]:
    """MB that a proxy which has never been asked takes for it at most, and afterwards."""
    # Forgets the most that there was.
    Path(f"/proc/{proxy.pid}/clear_refs").write_text("5")
    resident = resident_bytes(proxy.pid)
    asked(proxy, path)
    most = 1024 * int(Path(f"/proc/{proxy.pid}/status").read_text().split("VmHWM:")[1].split()[0])
    settle(proxy.pid)
    return {"most": (most - resident) / 1e6, "afterwards": (resident_bytes(proxy.pid) - resident) / 1e6}


def sample(proxy: XdsProxy, path: str, asks: int) -> dict[str, float]:
    """So many answers, one after the other."""
    cpu = cpu_s(proxy.pid)
    answers = [asked(proxy, path) for _ in range(asks)]
    return {
        "ms": 1000 * statistics.median(took for took, _ in answers),
        "cpu_ms": 1000 * (cpu_s(proxy.pid) - cpu) / asks,
        "mb": answers[0][1] / 1e6,
    }


@contextmanager
def full(proxy: XdsProxy) -> Iterator[None]:
    """Connections as fast as they are taken. Raises LoadError when one of them fails."""
    with start_load("connect", proxy.port, 100_000_000, IN_FLIGHT) as running:
        time.sleep(0.5)
        yield
        running.send_signal(signal.SIGTERM)
        report = answer(running, "connect")
    if report["failures"]:
        raise LoadError(f"{report['failures']} of {report['count']} connections failed")


def measured(options: argparse.Namespace) -> dict[str, Any]:
    quiet: dict[str, dict[str, list[dict[str, float]]]] = {name: {} for name in (*SCRAPES, *AGENT)}
    busy: dict[str, dict[str, list[float]]] = {name: {} for name in AGENT}
    loads, more_mb = [os.getloadavg()[0]], {}
    with ExitStack() as stack:
        sink = stack.enter_context(Sink(1))
        proxies = [kind(sink.port, more=services(options.services, 12)) for kind in PROXIES]
        for proxy in proxies:
            stack.callback(proxy.stop)
            proxy.launch()
            load("first", proxy.port)
            settle(proxy.pid)
            more_mb[proxy.name] = more_memory(proxy, SCRAPES["a scrape"])
            # What is loaded and kept when somebody asks first is not what an answer takes.
            for path in (*SCRAPES.values(), *AGENT.values()):
                asked(proxy, path)
            settle(proxy.pid)
        for number in range(options.rounds):
            begun = time.monotonic()
            turns = proxies if number % 2 else list(reversed(proxies))
            for name, path in (SCRAPES | AGENT).items():
                for proxy in turns:
                    quiet[name].setdefault(proxy.name, []).append(sample(proxy, path, options.asks))
            for proxy in turns:
                with full(proxy):
                    for name, path in AGENT.items():
                        took = [1000 * asked(proxy, path)[0] for _ in range(FULL_ASKS)]
                        busy[name].setdefault(proxy.name, []).extend(took)
                settle(proxy.pid)
            loads.append(os.getloadavg()[0])
            say(f"round {number + 1} of {options.rounds}: {time.monotonic() - begun:.1f} s")
    return {
        "date": datetime.now(UTC).date().isoformat(),
        "commit": commit(),
        "machine": machine(),
        "load": {"least": min(loads), "most": max(loads)},
        "versions": [kind.version() for kind in PROXIES],
        "services": options.services,
        "rounds": options.rounds,
        "asks": options.asks,
        "more_mb": more_mb,
        "quiet": {name: quiet_summary(each) for name, each in quiet.items()},
        "full": {name: {who: spread(times) for who, times in each.items()} for name, each in busy.items()},
    }


def quiet_summary(each: dict[str, list[dict[str, float]]]) -> dict[str, Any]:
    """Medians over rounds, and ratios within a round."""
    found: dict[str, Any] = {
        who: {metric: statistics.median(one[metric] for one in samples) for metric in samples[0]}
        for who, samples in each.items()
    }
    for metric in ("ms", "cpu_ms"):
        ours, theirs = ([one[metric] for one in each[who]] for who in ("eastgate", "envoy"))
        ratio = paired_ratio(ours, theirs)
        found[f"{metric}_ratio"] = asdict(ratio) if ratio else None
    return found


def spread(times: list[float]) -> dict[str, float]:
    ordered = sorted(times)
    return {
        "p50_ms": statistics.median(ordered),
        "p99_ms": ordered[int(0.99 * (len(ordered) - 1))],
        "max_ms": ordered[-1],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--asks", type=int, default=5, help="answers of each kind in a round, one after the other")
    parser.add_argument("--services", type=int, default=1000, help="clusters, of which admin has to tell")
    parser.add_argument("--output", type=Path, default=RESULT)
    options = parser.parse_args()
    if not LOAD.exists():
        sys.exit(f"{LOAD} is missing: make bench-build")
    if why := EnvoyProxy.absent():
        sys.exit(f"no Envoy to compare with: {why}")
    result = measured(options)
    print(answers_table(result))
    keep(result, options.output)


if __name__ == "__main__":
    main()
