"""A Docker engine of its own: own network, mounts, roots and sockets; no service of the machine's.

dockerd sets rules of iptables and a FORWARD policy of DROP wherever it runs, and kind publishes API servers at
127.0.0.1. So the engine has a network namespace, and what talks to a cluster runs in it: `Engine.command`.
"""

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from ..errors import LabError
from ..node import CGROUPS, below, start_time
from ..settings import Settings
from ..shell import SYSTEM_PATH, program, run, wait_for

HERE = Path(__file__).parent
CGROUP = "eastgate-kind"
BRIDGE = "172.31.0.1/16"
# kind mounts it into each node, whether the machine has modules or not.
MODULES = Path("/lib/modules")
END_S = 60.0


class Engine:
    """The one engine of a cache. Its images stay when it ends."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.folder = settings.cache / "kind"
        self._root = self.folder / "engine"
        self._run = self.folder / "run"
        self._log = self.folder / "log"
        self._made_modules = self._root / "made-lib-modules"

    @property
    def socket(self) -> str:
        return f"unix://{self._run / 'docker.sock'}"

    def pid(self, name: str) -> int:
        """A process of the engine by its name; 0 when it does not run."""
        try:
            known = json.loads((self._run / f"{name}.json").read_text())
        except (OSError, ValueError):
            return 0
        return int(known["pid"]) if start_time(known["pid"]) == known["started"] else 0

    def environment(self) -> dict[str, str]:
        """For what runs in the engine's network: its socket, programs of the cache first, no proxies of the machine."""
        kept = {key: value for key, value in os.environ.items() if not key.lower().endswith("_proxy")}
        # Python's own folder: the programs of kind's node are not told to find one.
        path = f"{self.settings.binaries}:{Path(sys.executable).parent}:{SYSTEM_PATH}"
        return {**kept, "DOCKER_HOST": self.socket, "PATH": path}

    def command(self, *words: Any) -> list[str]:
        """Words that run a command in the engine's network and mounts, from the folder where the caller is."""
        if not (holder := self.pid("holder")):
            raise LabError("the engine of kind does not run: `make kind-up` starts it")
        script = 'cd "$1"; shift; exec "$@"'
        inside = ["nsenter", "-t", str(holder), "--net", "--mount", "--", "sh", "-c", script, "sh", os.getcwd()]
        return [*inside, *map(str, words)]

    def run(self, *words: Any, **more: Any) -> subprocess.CompletedProcess[str]:
        """Run a command there to its end. Raises LabError with what it said last."""
        return run(*self.command(*words), env=self.environment(), **more)

    def docker(self, *words: Any, **more: Any) -> subprocess.CompletedProcess[str]:
        return self.run("docker", *words, **more)

    def up(self) -> None:
        """Start it, where it does not run. Raises LabError."""
        if self.answers():
            return
        self.down()
        for folder in (self._run, self._root, self._log):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not MODULES.exists():
            MODULES.mkdir()
            self._made_modules.touch()
        self._start("holder", [program("unshare"), "--net", "--mount", "--propagation", "slave", "sleep", "infinity"])
        wait_for("the engine's network", self._has_network, seconds=10)
        self.run("ip", "link", "set", "lo", "up")
        self.run(
            "sh", "-c", "for each in ipv4/ip_forward ipv6/conf/all/forwarding; do echo 1 > /proc/sys/net/$each; done"
        )
        config = self._run / "containerd.toml"
        config.write_text(
            f'version = 2\nroot = "{self._root}/containerd"\nstate = "{self._run}/containerd"\n'
            'disabled_plugins = ["io.containerd.grpc.v1.cri"]\n'
            f'[grpc]\n  address = "{self._run}/containerd.sock"\n'
        )
        self._start("containerd", self.command("containerd", "--config", config))
        wait_for("containerd", (self._run / "containerd.sock").is_socket, seconds=30)
        self._start("dockerd", self.command(*self._dockerd()))
        wait_for("Docker's engine", self.answers, seconds=60)

    def _dockerd(self) -> list[Any]:
        return [
            "dockerd", "--containerd", self._run / "containerd.sock", "--host", self.socket,
            "--pidfile", self._run / "dockerd.pid", "--data-root", self._root / "docker",
            "--exec-root", self._run / "docker", "--cgroup-parent", f"/{CGROUP}",
            "--exec-opt", "native.cgroupdriver=cgroupfs", "--add-runtime", f"here={HERE / 'runc-here'}",
            "--default-runtime", "here", "--oom-score-adjust", "0", "--storage-driver", "overlay2", "--bip", BRIDGE,
        ]  # fmt: skip

    def _has_network(self) -> bool:
        holder = self.pid("holder")
        return holder != 0 and os.readlink(f"/proc/{holder}/ns/net") != os.readlink("/proc/self/ns/net")

    def answers(self) -> bool:
        return bool(self.pid("dockerd")) and self.docker("version", check=False, timeout_s=20).returncode == 0

    def _start(self, name: str, words: list[str]) -> None:
        """Start a process that outlives this one, and remember which it is."""
        with (self._log / f"{name}.log").open("ab") as log:
            child = subprocess.Popen(
                words, env=self.environment(), stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )
        (self._run / f"{name}.json").write_text(json.dumps({"pid": child.pid, "started": start_time(child.pid)}))

    def down(self) -> None:
        """End all containers, the engine, and what it left; images stay. Nothing happens when there is none."""
        if self.answers() and (containers := self.docker("ps", "-aq").stdout.split()):
            self.docker("rm", "-fv", *containers)
        for name in ("dockerd", "containerd", "holder"):
            self._end(name)
        if self._made_modules.exists():
            with suppress(OSError):
                MODULES.rmdir()
            self._made_modules.unlink()
        for root in CGROUPS.glob(f"*/{CGROUP}"):
            for path in below(root):
                with suppress(OSError):
                    path.rmdir()

    def _end(self, name: str) -> None:
        if pid := self.pid(name):
            os.kill(pid, signal.SIGTERM)
            deadline = time.monotonic() + END_S
            while self.pid(name):
                if time.monotonic() > deadline:
                    os.kill(pid, signal.SIGKILL)
                with suppress(ChildProcessError):
                    os.waitpid(pid, os.WNOHANG)
                time.sleep(0.05)
        (self._run / f"{name}.json").unlink(missing_ok=True)
