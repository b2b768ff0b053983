"""The first process of a node: `python -m lab.node_init CLUSTER`, started by lab.node in namespaces of its own.

Makes the node's mounts and cgroups, starts its services, starts again what ends, and reaps what is orphaned.
"""

import ctypes
import os
import ssl
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

from . import pki, services
from .node import CGROUPS, cgroup_name
from .settings import CLUSTERS, Cluster, from_environment
from .shell import program, run, say

RUN = Path("/run")
AGAIN_S = 2.0
CPU_SHARES = 16 * 1024
# kubelet moves nothing out of these: the node's own processes live there.
OWN_CGROUPS = ("memory", "systemd")


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def mount(source: object, target: object, *flags: str) -> None:
    if "--bind" not in flags:
        Path(str(target)).mkdir(parents=True, exist_ok=True)
    run("mount", *flags, source, target)


def make_mounts(folder: Path) -> None:
    """Folders that are the node's alone. Its mount namespace ends with it, and these with that."""
    mount("tmpfs", RUN, "-t", "tmpfs")
    (RUN / "netns").mkdir()
    # Addresses of pods must not survive the node; kubelet writes into the other one whatever its --root-dir.
    for path in ("/var/lib/cni", "/var/lib/kubelet"):
        mount("tmpfs", path, "-t", "tmpfs")
    log = folder / "var-log"
    log.mkdir(exist_ok=True)
    mount(log, "/var/log", "--bind")
    for key, value in services.SYSCTLS.items():
        mount(write(RUN / "sysctl" / key, f"{value}\n"), f"/proc/sys/{key}", "--bind")


def make_cgroups(name: str) -> None:
    """kubelet wants its root in every hierarchy."""
    for root in CGROUPS.iterdir():
        if root.name == "unified" or not root.is_dir():
            continue
        (root / name).mkdir(exist_ok=True)
        if root.name in OWN_CGROUPS:
            own = root / name / "services"
            own.mkdir(exist_ok=True)
            (own / "cgroup.procs").write_text("1")
    # All pods of a node count as one against each process of the machine otherwise, and starve beside a build.
    (CGROUPS / "cpu" / name / "cpu.shares").write_text(f"{CPU_SHARES}\n")


def wire_is_there(cluster: Cluster) -> bool:
    return cluster.node_ip in run("ip", "-4", "addr", "show", "up").stdout


def api_ready(folder: Path, cluster: Cluster) -> bool:
    context = ssl.create_default_context(cafile=str(folder / "pki/ca.crt"))
    context.load_cert_chain(folder / "pki/admin.crt", folder / "pki/admin.key")
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=context))
    try:
        with opener.open(f"{cluster.api_url}/readyz", timeout=2) as answer:
            return bool(answer.status == 200)
    except (OSError, urllib.error.URLError):
        return False


class Supervisor:
    """Starts the services, and starts again what ended."""

    def __init__(self, folder: Path, argv: dict[str, list[str]]) -> None:
        self._folder = folder
        self._argv = argv
        # Popen objects are kept: forgotten ones are reaped by the next Popen, and their end would not be seen.
        self._running: dict[int, tuple[str, subprocess.Popen[bytes]]] = {}

    def start(self, service: str) -> None:
        with (self._folder / f"{service}.log").open("ab") as log:
            process = subprocess.Popen(
                self._argv[service],
                cwd=self._folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self._running[process.pid] = service, process

    def run(self) -> None:
        """Reap for ever: processes of ended containers have this one as their parent."""
        while True:
            pid, status = os.wait()
            if pid in self._running:
                service, _ = self._running.pop(pid)
                say(f"{service} ended with {os.waitstatus_to_exitcode(status)}, again in {AGAIN_S:g} s")
                time.sleep(AGAIN_S)
                self.start(service)


def main() -> None:
    settings, cluster = from_environment(), CLUSTERS[sys.argv[1]]
    folder = settings.folder(cluster)
    os.umask(0o022)
    ctypes.CDLL(None).sethostname(cluster.node.encode(), len(cluster.node))
    make_mounts(folder)
    cgroup = cgroup_name(settings, cluster)
    make_cgroups(cgroup)
    if not (folder / "pki").exists():
        pki.write_kubernetes(folder / "pki", cluster)
    for path, text in services.files(folder, cluster, cgroup).items():
        write(path, text)
    while not wire_is_there(cluster):
        time.sleep(0.05)
    argv = services.commands(folder, cluster, lambda name: program(name, settings.binaries))
    supervisor = Supervisor(folder, argv)
    for service in services.FIRST:
        supervisor.start(service)
    while not api_ready(folder, cluster):
        time.sleep(0.2)
    for service in argv:
        if service not in services.FIRST:
            supervisor.start(service)
    say("all services started")
    supervisor.run()


if __name__ == "__main__":
    main()
