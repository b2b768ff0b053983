"""What a sidecar takes in a real pod, eastgate's beside stock ones: in a lab that is up.

    python -m bench.pods [--rounds N] [--output FILE]        make lab-cost

Each proxy has a pair of pods, client and server, and mesh mTLS between them. A round starts all four anew, looks at
them while nobody connects, opens connections that stay idle, and then connections one after the other; the next round
begins with the other pair, and ratios are taken within a round. Figures are the container's, pilot-agent included:
memory as kubelet compares it with the limit (usage without inactive files), CPU as the cgroup counts it. What is idle
is taken off the CPU of connections, and what pilot-agent's own memory changed by off that of open ones.
"""

import argparse
import os
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from lab import objects, versions
from lab.errors import LabError
from lab.kubectl import Kubectl
from lab.lab import Lab
from lab.node import CGROUPS, cgroup_name, start_time
from lab.settings import GKE, PROXIES, from_environment
from lab.shell import run, wait_for
from lab.sidecars import annotations
from lab.traffic import Client, Keep

from .compare import commit, keep, machine, say
from .documents import pods_table
from .intervals import interval, paired_ratio
from .measure import ROOT
from .peers.xds import EnvoyProxy

RESULT = ROOT / "bench" / "results" / "pods.json"
WHERE = "cost"
ROLES = ("client", "server")
PORT = 9090
START_S = 120.0
READY = "until curl -s -f -m 1 -o /dev/null http://127.0.0.1:15021/healthz/ready; do sleep 0.01; done"
MIB = 2**20
Object = dict[str, Any]
Sample = dict[str, float]


@dataclass(frozen=True, slots=True)
class Sizes:
    """How much of everything in a round."""

    idle_s: float = 15.0
    kept: int = 2000
    connections: int = 1000


def world() -> Iterator[Object]:
    """Both pairs, and nothing but mTLS between them."""
    yield objects.namespace(WHERE, {"istio-injection": "enabled"})
    strict = {"metadata": {"name": "default", "namespace": WHERE}, "spec": {"mtls": {"mode": "STRICT"}}}
    yield {"apiVersion": "security.istio.io/v1", "kind": "PeerAuthentication", **strict}
    words = {"client": ["-c", "import time; time.sleep(1e9)"], "server": ["/app/echo.py", "cost", "cost"]}
    for proxy in PROXIES:
        for role in ROLES:
            container = {"image": objects.image("app"), "args": words[role]}
            yield objects.deployment(name(role, proxy), WHERE, container, annotations=annotations(proxy))
        ports = [{"name": "tcp", "port": 80, "targetPort": PORT}]
        yield objects.service(name("server", proxy), WHERE, name("server", proxy), ports)


def name(role: str, proxy: str) -> str:
    return f"{role}-{proxy}"


@dataclass(frozen=True, slots=True)
class Container:
    """The container of a sidecar, by its pilot-agent as this machine numbers it."""

    agent: int

    def _file(self, controller: str, file: str) -> str:
        for line in Path(f"/proc/{self.agent}/cgroup").read_text().splitlines():
            _, controllers, path = line.split(":", 2)
            if controller in controllers.split(","):
                return (CGROUPS / controller / path.lstrip("/") / file).read_text()
        raise LabError(f"process {self.agent} has no cgroup of {controller}")

    def cpu_s(self) -> float:
        return int(self._file("cpuacct", "cpuacct.usage")) / 1e9

    def memory(self) -> int:
        """Bytes, as kubelet counts them for the limit."""
        counted = dict(line.split() for line in self._file("memory", "memory.stat").splitlines())
        return int(self._file("memory", "memory.usage_in_bytes")) - int(counted["total_inactive_file"])

    def without_agent(self) -> int:
        """The same without what pilot-agent allocated, which comes and goes."""
        return self.memory() - 1024 * field(f"/proc/{self.agent}/status", "RssAnon")

    def proxy_memory(self) -> int:
        """Bytes of the proxy's processes: proportional share of what they map."""
        pids = {int(word) for word in self._file("memory", "cgroup.procs").split()} - {self.agent}
        return 1024 * sum(field(f"/proc/{pid}/smaps_rollup", "Pss") for pid in pids)


def field(file: str, wanted: str) -> int:
    """A number of a file of lines `Name:   123 kB`. Raises LabError."""
    for line in Path(file).read_text().splitlines():
        key, _, value = line.partition(":")
        if key == wanted:
            return int(value.split()[0])
    raise LabError(f"{file} has no {wanted}")


def agents(kubectl: Kubectl) -> dict[str, int]:
    """Pod -> its pilot-agent, of the pods of this namespace."""
    found, ours = {}, f"/{cgroup_name(kubectl.node.settings, GKE)}/"
    for folder in Path("/proc").iterdir():
        # Most are others', and any may end meanwhile.
        with suppress(OSError, IndexError):
            words = (folder / "cmdline").read_bytes().split(b"\0")
            if not words[0].endswith(b"/pilot-agent") or words[1] != b"proxy":
                continue
            said = dict(word.split("=", 1) for word in (folder / "environ").read_text().split("\0") if "=" in word)
            if said.get("POD_NAMESPACE") == WHERE and ours in (folder / "cgroup").read_text():
                found[said["POD_NAME"]] = int(folder.name)
    return found


def of(kubectl: Kubectl, deployment: str) -> list[int]:
    return [pid for pod, pid in agents(kubectl).items() if pod.startswith(f"{deployment}-")]


def ready(kubectl: Kubectl, deployment: str) -> bool:
    (pod,) = kubectl.pods(WHERE, {"app": deployment})
    return any(one["type"] == "Ready" and one["status"] == "True" for one in pod["status"]["conditions"])


def started(kubectl: Kubectl, deployment: str) -> tuple[Container, Sample]:
    """Its pod anew, and how long that took. Raises LabError."""
    kubectl("-n", WHERE, "scale", f"deploy/{deployment}", "--replicas=0")
    wait_for(f"no {deployment}", lambda: not kubectl.pods(WHERE, {"app": deployment}) and not of(kubectl, deployment))
    began = time.monotonic()
    kubectl("-n", WHERE, "scale", f"deploy/{deployment}", "--replicas=1")
    while not (found := of(kubectl, deployment)):
        if time.monotonic() - began > START_S:
            raise LabError(f"{deployment}: no pilot-agent within {START_S:g} s")
        time.sleep(0.01)
    (agent,) = found
    run("nsenter", "-t", agent, "--net", "sh", "-c", READY, timeout_s=START_S)
    since_boot = int(start_time(agent)) / os.sysconf("SC_CLK_TCK")
    sample = {"proxy_ready_s": time.clock_gettime(time.CLOCK_BOOTTIME) - since_boot}
    wait_for(f"{deployment} is Ready", lambda: ready(kubectl, deployment), every=0.05)
    return Container(agent), {**sample, "pod_ready_s": time.monotonic() - began}


class Pair:
    """Client and server of one proxy, started anew."""

    def __init__(self, kubectl: Kubectl, proxy: str) -> None:
        self._kubectl = kubectl
        self._client, self._host = Client(WHERE, name("client", proxy)), f"{name('server', proxy)}.{WHERE}"
        both = [started(kubectl, name(role, proxy)) for role in reversed(ROLES)]
        self.containers = [container for container, _ in both]
        self.sample: Sample = {key: sum(sample[key] for _, sample in both) / len(both) for key in both[0][1]}
        wait_for(f"{proxy} answers", lambda: not self._client.ask(kubectl, "tcp", self._host, 20).failed)

    def cpu_s(self) -> float:
        return sum(one.cpu_s() for one in self.containers)

    def look(self, idle_cpu_s: float, seconds: float) -> None:
        """Note what it takes while nobody connects."""
        count = len(self.containers)
        self.sample |= {
            "idle_millicores": idle_cpu_s / seconds / count * 1000,
            "idle_mib": sum(one.memory() for one in self.containers) / count / MIB,
            "proxy_mib": sum(one.proxy_memory() for one in self.containers) / count / MIB,
        }

    def keep(self, count: int) -> None:
        """Note what so many open connections add to the memory of both. Raises LabError."""
        before = sum(one.without_agent() for one in self.containers)
        with Keep(self._kubectl, self._client, self._host, count) as kept:
            time.sleep(2.0)
            after = sum(one.without_agent() for one in self.containers)
            if ended := kept.stop():
                raise LabError(f"{ended} of {count} connections did not stay open")
        self.sample["bytes_per_connection"] = (after - before) / count

    def connect(self, count: int) -> None:
        """Note the CPU of both for one connection of many. Raises LabError."""
        before, began = self.cpu_s(), time.monotonic()
        seen = self._client.ask(self._kubectl, "tcp", self._host, count)
        if seen.failed:
            raise LabError(f"{self._host}: {seen}: {seen.errors}")
        idle = self.sample["idle_millicores"] / 1000 * len(self.containers) * (time.monotonic() - began)
        self.sample["cpu_us_per_connection"] = (self.cpu_s() - before - idle) / count * 1e6


def one_round(kubectl: Kubectl, order: tuple[str, ...], sizes: Sizes) -> dict[str, Sample]:
    pairs = {proxy: Pair(kubectl, proxy) for proxy in order}
    # What they set up with their first connections is done.
    time.sleep(5.0)
    before = {proxy: pair.cpu_s() for proxy, pair in pairs.items()}
    time.sleep(sizes.idle_s)
    for proxy, pair in pairs.items():
        pair.look(pair.cpu_s() - before[proxy], sizes.idle_s)
    for pair in pairs.values():
        pair.keep(sizes.kept)
    for pair in pairs.values():
        pair.connect(sizes.connections)
    return {proxy: pair.sample for proxy, pair in pairs.items()}


def summary(rounds: list[dict[str, Sample]]) -> dict[str, Any]:
    """Medians of both and the ratio, by metric."""
    found = {}
    for metric in rounds[0][PROXIES[0]]:
        ours, stock = ([one[proxy][metric] for one in rounds] for proxy in PROXIES)
        ratio = paired_ratio(ours, stock)
        found[metric] = {
            "eastgate": asdict(interval(ours)),
            "stock": asdict(interval(stock)),
            "ratio": asdict(ratio) if ratio else None,
        }
    return found


def measured(lab: Lab, rounds: int, sizes: Sizes, loads: list[float]) -> list[dict[str, Sample]]:
    """Samples by proxy, one for each round. ``loads``: the machine's meanwhile are added to it."""
    kubectl = lab.kubectl[GKE.name]
    kubectl.apply(*world())
    try:
        for one in world():
            if one["kind"] == "Deployment":
                kubectl.wait_rolled_out(WHERE, one["metadata"]["name"])
        found = []
        for number in range(rounds):
            say(f"round {number + 1} of {rounds}")
            found.append(one_round(kubectl, PROXIES if number % 2 else PROXIES[::-1], sizes))
            loads.append(os.getloadavg()[0])
        return found
    finally:
        kubectl("delete", "namespace", WHERE, "--wait=false")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--output", type=Path, default=RESULT)
    options = parser.parse_args()
    stock = EnvoyProxy.version().partition(",")[0]
    lab, sizes, loads = Lab(from_environment()), Sizes(), list[float]()
    with lab.alone():
        rounds = measured(lab, options.rounds, sizes, loads)
    result = {
        "date": datetime.now(UTC).date().isoformat(),
        "commit": commit(),
        "machine": machine(),
        "rounds": options.rounds,
        "sizes": asdict(sizes),
        "load": {"least": min(loads), "most": max(loads)},
        "versions": [f"Istio {versions.ISTIO}", f"Kubernetes {versions.KUBERNETES}", stock],
        "metrics": summary(rounds),
    }
    print(pods_table(result))
    keep(result, options.output)


if __name__ == "__main__":
    main()
