"""One measurement each: load on a proxy and what it cost. Knows nothing of rounds, peers and reports.

CPU of a proxy is what the scheduler gave to all its threads (/proc/PID/task/*/schedstat, nanoseconds): user and system
time, kernel TCP on its behalf included. The generator's and the sink's CPU are reported beside it.
"""

import json
import os
import signal
import subprocess
import time
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from .peers.proxy import Proxy

ROOT = Path(__file__).resolve().parents[1]
LOAD = ROOT / "build" / "load"
DEADLINE_S = 120

Sample = dict[str, float]


class LoadError(Exception):
    """The generator could not do its work: the proxy refused, cut, or did not answer."""


def load(*arguments: object, cpus: set[int] | None = None) -> dict[str, Any]:
    """One run of the generator to its end; what it reports."""
    with start_load(*arguments, cpus=cpus) as process:
        return answer(process, *arguments)


def start_load(*arguments: object, cpus: set[int] | None = None) -> "subprocess.Popen[str]":
    command = [str(LOAD), *map(str, arguments)]
    if cpus:
        command = ["taskset", "-c", ",".join(map(str, sorted(cpus))), *command]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, text=True)


def answer(process: "subprocess.Popen[str]", *arguments: object) -> dict[str, Any]:
    """Wait for a generator; its report. Raises LoadError."""
    try:
        out, error = process.communicate(timeout=DEADLINE_S)
    except subprocess.TimeoutExpired:
        process.kill()
        out, error = process.communicate()
        error += f"not done within {DEADLINE_S} s"
    if process.returncode != 0:
        raise LoadError(f"load {' '.join(map(str, arguments))}: {error.strip()}")
    report: dict[str, Any] = json.loads(out)
    return report


class Sink:
    """The TCP end behind the proxies. `number` (1 to 255) is what it fills its answers with."""

    def __init__(self, number: int, cpus: set[int] | None = None) -> None:
        self.number = number
        self._process = start_load("sink", number, cpus=cpus)
        assert self._process.stdout is not None
        self.port = int(self._process.stdout.readline() or 0)
        if not self.port:
            raise LoadError(f"sink did not start: {self._process.communicate()[1]}")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._process.communicate(timeout=10)

    @property
    def pid(self) -> int:
        return self._process.pid


def cpu_s(pid: int) -> float:
    """CPU of all living threads of a process, in seconds."""
    total = 0
    for task in os.listdir(f"/proc/{pid}/task"):
        with suppress(FileNotFoundError):
            total += int(Path(f"/proc/{pid}/task/{task}/schedstat").read_text().split()[0])
    return total / 1e9


def resident_bytes(pid: int) -> int:
    """Resident memory of a process."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def pin(pid: int, cpus: set[int]) -> None:
    """Keep all threads of a process, and those that they start, on these CPUs."""
    for task in os.listdir(f"/proc/{pid}/task"):
        with suppress(ProcessLookupError):
            os.sched_setaffinity(int(task), cpus)


class Target:
    """A running proxy (or, with none, the sink itself) as something to put load on."""

    def __init__(self, proxy: Proxy | None, sink: Sink, *, load_cpus: set[int] | None = None) -> None:
        self.proxy = proxy
        self.sink = sink
        self.load_cpus = load_cpus
        self.port = proxy.port if proxy else sink.port

    def _run(self, *arguments: object) -> tuple[dict[str, Any], float, float]:
        """(report, CPU of the proxy, CPU of the sink) of one run of the generator."""
        proxy = cpu_s(self.proxy.pid) if self.proxy else 0.0
        sink = cpu_s(self.sink.pid)
        report = load(*arguments, cpus=self.load_cpus)
        if report["failures"]:
            raise LoadError(f"{report['failures']} of {report['count']} connections failed")
        return report, (cpu_s(self.proxy.pid) if self.proxy else 0.0) - proxy, cpu_s(self.sink.pid) - sink

    def connections(self, count: int, in_flight: int) -> Sample:
        """One connection each: 517 bytes of hello in, 64 bytes back, closed by the client."""
        report, proxy, sink = self._run("connect", self.port, count, in_flight)
        sample = {
            "connections_per_s": count / report["seconds"],
            "client_us_per_connection": report["cpu_s"] / count * 1e6,
            "sink_us_per_connection": sink / count * 1e6,
        }
        return {**sample, "cpu_us_per_connection": proxy / count * 1e6} if self.proxy else sample

    def bulk(self, count_bytes: int, open_connections: int = 1) -> Sample:
        """So many bytes each way, one way after the other; CPU is the mean of both ways."""
        up, up_cpu, _ = self._run("up", self.port, count_bytes, open_connections)
        down, down_cpu, _ = self._run("down", self.port, count_bytes, open_connections)
        gigabytes = 2 * count_bytes / 1e9
        sample = {
            "gb_per_s": gigabytes / (up["seconds"] + down["seconds"]),
            "client_s_per_gb": (up["cpu_s"] + down["cpu_s"]) / gigabytes,
        }
        return {**sample, "cpu_s_per_gb": (up_cpu + down_cpu) / gigabytes} if self.proxy else sample

    def round_trips(self, count: int, open_connections: int) -> Sample:
        """64 bytes there and back on open connections, one in flight on each."""
        report, proxy, _ = self._run("roundtrip", self.port, count, open_connections)
        sample = {
            f"round_trip_p50_us_{open_connections}": report["p50_us"],
            f"round_trip_p99_us_{open_connections}": report["p99_us"],
        }
        if self.proxy:
            sample[f"cpu_us_per_round_trip_{open_connections}"] = proxy / count * 1e6
        return sample


def fresh_start(proxy: Proxy, idle_connections: int) -> Sample:
    """Start a proxy: until its first answer, resident memory then, and what idle connections add to it."""
    with start_load("first", proxy.port) as first:
        # The generator is up and polling before the proxy is born.
        time.sleep(0.05)
        proxy.launch()
        answered_ns = answer(first, "first", proxy.port)["answered_ns"]
    settle(proxy.pid)
    resident = resident_bytes(proxy.pid)
    sample = {"time_to_first_accept_ms": (answered_ns - proxy.begun_ns) / 1e6, "resident_mb_at_start": resident / 1e6}
    with start_load("idle", proxy.port, idle_connections) as idle:
        assert idle.stdout is not None
        if not idle.stdout.readline():
            raise LoadError(f"idle: {idle.communicate()[1].strip()}")
        settle(proxy.pid)
        sample["bytes_per_idle_connection"] = (resident_bytes(proxy.pid) - resident) / idle_connections
        idle.communicate(timeout=DEADLINE_S)
    return sample


def settle(pid: int) -> None:
    """Wait until a process has nothing to do: two readings of its CPU that differ by less than one percent of time."""
    before = cpu_s(pid)
    for _ in range(50):
        time.sleep(0.1)
        now = cpu_s(pid)
        if now - before < 0.001:
            return
        before = now


def pushes(target: Target, sinks: tuple[Sink, Sink], steps: list[tuple[str, int, bytes]], pause_s: float) -> Sample:
    """Move all picks between two sinks by push while connections are made; until the first answer from the new one.

    `steps`: (metric or empty, index of the sink that the push leads to, DiscoveryResponse). A push that leads to where
    picks go already cannot be seen, and has no metric.
    """
    assert target.proxy is not None
    sent: list[tuple[str, int, int]] = []
    with start_load("connect", target.port, 10_000_000, 8, cpus=target.load_cpus) as running:
        time.sleep(pause_s)
        for metric, index, response in steps:
            sent.append((metric, sinks[index].number, time.monotonic_ns()))
            target.proxy.push(response)
            time.sleep(pause_s)
        running.send_signal(signal.SIGTERM)
        report = answer(running, "connect")
    if report["failures"]:
        raise LoadError(f"{report['failures']} of {report['count']} connections failed while pushes came")
    sample: Sample = {}
    for metric, number, sent_ns in sent:
        seen = [ns for ns, answered_by in report["changes"] if ns >= sent_ns and answered_by == number]
        if metric and not seen:
            raise LoadError(f"{metric}: the push had no effect within {pause_s} s")
        if metric:
            sample[metric] = (seen[0] - sent_ns) / 1e6
    return sample


def lost_after_kill(target: Target, killed: bytes, whole: bytes, pause_s: float) -> Sample:
    """Of the first five connections, how many end without an answer while one of two endpoints listens no more.

    `killed`, `whole`: DiscoveryResponses with the dead endpoint beside the sink, and with the sink alone.
    """
    assert target.proxy is not None
    target.proxy.push(killed)
    time.sleep(pause_s)
    report = load("connect", target.port, 5, 1, cpus=target.load_cpus)
    target.proxy.push(whole)
    time.sleep(pause_s)
    return {"lost_of_first_5": float(report["failures"])}
