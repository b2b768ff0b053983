"""A node from the outside: start it, reach into it, end it.

A node is a set of namespaces (network, mounts, processes, host name, IPC) that nothing on the machine has a name for.
Its first process is `lab.node_init`; when that ends, for whatever reason, the kernel ends all processes and unmounts
everything of the node. So nothing but empty cgroups and files below the state folder can be left behind.
"""

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from .errors import LabError
from .settings import ROOT, Cluster, Settings, other
from .shell import program, run

CGROUPS = Path("/sys/fs/cgroup")
CONTAINERD = "/run/containerd/containerd.sock"
END_S = 20.0


def start_time(pid: int) -> str:
    """When a process was started, in ticks since boot: tells it from a later one with its id. Empty: there is none."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return ""
    # The name in brackets may hold anything.
    return stat.rpartition(")")[2].split()[19]


def cgroup_name(settings: Settings, cluster: Cluster) -> str:
    """Unlike any other lab's on this machine."""
    return f"eastgate-{cluster.name}-{hashlib.sha256(str(settings.state).encode()).hexdigest()[:8]}"


class Node:
    """The one node of a cluster."""

    def __init__(self, settings: Settings, cluster: Cluster) -> None:
        self.settings = settings
        self.cluster = cluster
        self.folder = settings.folder(cluster)
        self._pid_file = self.folder / "node.pid"

    @property
    def pid(self) -> int:
        """The node's first process, as the machine sees it; 0 when it does not run."""
        try:
            known = json.loads(self._pid_file.read_text())
        except (OSError, ValueError):
            return 0
        return known["pid"] if start_time(known["pid"]) == known["started"] else 0

    def start(self) -> None:
        """Start the node's first process; it waits for its end of the wire. Raises LabError."""
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        log = self.folder / "init.log"
        # The shell ends at once: whoever starts the lab is not the parent of what must outlive it.
        outer = run(
            "sh", "-c", 'log=$1; shift; setsid "$@" </dev/null >>"$log" 2>&1 & echo $!', "sh", log,
            program("unshare"), "--net", "--mount", "--uts", "--ipc", "--pid", "--fork", "--mount-proc", "--kill-child",
            sys.executable, "-m", "lab.node_init", self.cluster.name,
            cwd=ROOT, env=self.environment(),
        ).stdout.strip()  # fmt: skip
        children = Path(f"/proc/{outer}/task/{outer}/children")
        for _ in range(100):
            with suppress(OSError):
                if found := children.read_text().split():
                    break
            time.sleep(0.05)
        else:
            said = log.read_text(errors="replace").strip()[-200:]
            raise LabError(f"{self.cluster.name}: no namespaces of its own (root is needed): {said}")
        pid = int(found[0])
        self._pid_file.write_text(json.dumps({"pid": pid, "started": start_time(pid)}))

    def environment(self) -> dict[str, str]:
        """For what runs in the node: this lab's settings, and no proxies of the machine."""
        kept = {key: value for key, value in os.environ.items() if not key.lower().endswith("_proxy")}
        places = {"EASTGATE_LAB_CACHE": self.settings.cache, "EASTGATE_LAB_STATE": self.settings.state}
        return {**kept, **{key: str(value) for key, value in places.items()}}

    def end(self) -> None:
        """End the node with all that is in it, and forget its files. Nothing happens when there is none."""
        if pid := self.pid:
            os.kill(pid, signal.SIGKILL)
            deadline = time.monotonic() + END_S
            while start_time(pid):
                if time.monotonic() > deadline:
                    raise LabError(f"{self.cluster.name}: process {pid} does not end within {END_S:g} s")
                time.sleep(0.05)
        self._remove_cgroups()
        if self.folder.exists():
            shutil.rmtree(self.folder, ignore_errors=True)

    def _remove_cgroups(self) -> None:
        deadline = time.monotonic() + END_S
        while True:
            left = [
                path for root in CGROUPS.glob(f"*/{cgroup_name(self.settings, self.cluster)}") for path in below(root)
            ]
            for path in left:
                # Not empty until the kernel has ended what was in it.
                with suppress(OSError):
                    path.rmdir()
            if not left or time.monotonic() > deadline:
                return
            time.sleep(0.1)

    def in_network(self, *command: Any, **more: Any) -> subprocess.CompletedProcess[str]:
        """Run a program of the machine in the node's network."""
        return run("nsenter", "-t", self._running(), "--net", *command, **more)

    def inside(self, *command: Any) -> list[str]:
        """Words that run a command in all namespaces of the node."""
        flags = ("--net", "--mount", "--uts", "--ipc", "--pid")
        return ["nsenter", "-t", str(self._running()), *flags, *map(str, command)]

    def processes(self, name: str) -> list[int]:
        """Processes of the node with this name, as the node numbers them."""
        found = (
            'for each in /proc/[0-9]*; do read -r is < $each/comm; [ "$is" = "$1" ] && echo ${each#/proc/}; done; true'
        )
        return [int(word) for word in run(*self.inside("bash", "-c", found, "bash", name)).stdout.split()]

    def send_signal(self, name: str, number: signal.Signals) -> None:
        """To the processes of the node with this name. Raises LabError when there is none."""
        found = self.processes(name)
        if not found:
            raise LabError(f"{self.cluster.name}: no process {name} to send {number.name}")
        run(*self.inside("kill", f"-{number.value}", *found))

    def _running(self) -> int:
        if not (pid := self.pid):
            raise LabError(f"the node of {self.cluster.name} does not run: `make lab-up` starts it")
        return pid

    def import_image(self, archive: Path) -> None:
        run(*self.inside("ctr", "-a", CONTAINERD, "-n", "k8s.io", "images", "import", archive), timeout_s=300)

    def containerd_answers(self) -> bool:
        return run(*self.inside("ctr", "-a", CONTAINERD, "version"), check=False).returncode == 0


def below(folder: Path) -> list[Path]:
    """A folder of the cgroup file system and those in it, the innermost first."""
    return sorted((path for path in folder.glob("**/") if path.is_dir()), reverse=True)


def connect(one: Node, two: Node) -> None:
    """A wire between both nodes, and on it only what a multi-network mesh needs."""
    run("ip", "link", "add", "wire", "netns", one.pid, "type", "veth", "peer", "name", "wire", "netns", two.pid)
    for node in (one, two):
        mine, peer = node.cluster, other(node.cluster)
        for words in (
            ("link", "set", "lo", "up"),
            ("addr", "add", f"{mine.node_ip}/24", "dev", "wire"),
            ("link", "set", "wire", "up"),
            # The other side's load balancer: its kube-proxy answers for that address, nothing owns it.
            ("route", "add", peer.gateway_ip, "via", peer.node_ip),
            # There is no default route, and without a route the node's own calls to a service (webhooks!) fail before
            # kube-proxy rewrites them.
            ("route", "add", mine.service_cidr, "dev", "wire", "src", mine.node_ip),
        ):
            node.in_network("ip", *words)
        node.in_network("nft", "-f", "-", input=fence(peer))
        for setting in ("ip_forward", "conf/all/forwarding"):
            node.in_network("sh", "-c", f"echo 1 > /proc/sys/net/ipv4/{setting}")


def fence(peer: Cluster) -> str:
    """nftables: pods reach the other cluster's gateway and API server, and nothing else of it."""
    return f"""
        table inet lab {{
            chain forward {{
                type filter hook forward priority 10; policy accept;
                oifname != "wire" accept
                ct state established,related accept
                ip daddr {peer.gateway_ip} tcp dport 15443 accept
                ip daddr {peer.node_ip} tcp dport 6443 accept
                counter drop
            }}
        }}"""
