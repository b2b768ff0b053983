"""Both clusters together: up, down, status."""

import fcntl
import os
import shutil
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path

from . import gateways, istio, objects
from .build import build_all, install_packages
from .errors import LabError
from .images import IMAGES, archive_of, make_images
from .kubectl import Kubectl
from .node import CGROUPS, Node, connect
from .settings import CLUSTERS, Cluster, Proxies, Settings
from .shell import say, wait_for


def obstacle() -> str:
    """Why this machine cannot run the lab; empty when it can."""
    if os.geteuid() != 0:
        return "the lab needs root: it makes network namespaces, mounts and cgroups"
    if not (CGROUPS / "memory").is_dir():
        return (
            "the lab needs cgroup v1 (boot with systemd.unified_cgroup_hierarchy=0): there is no /sys/fs/cgroup/memory"
        )
    if not Path("/proc/self/ns/net").exists():
        return "the lab needs network namespaces: there is no /proc/self/ns/net"
    return ""


class Lab:
    """The two clusters of one state folder."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.nodes = {name: Node(settings, cluster) for name, cluster in CLUSTERS.items()}
        self.kubectl = {name: Kubectl(node) for name, node in self.nodes.items()}
        # There when everything is up: one that was stopped on its way there is not.
        self._complete_mark = settings.state / "complete"

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Nobody else starts or ends this lab meanwhile. Raises LabError when somebody does."""
        self.settings.state.mkdir(mode=0o700, parents=True, exist_ok=True)
        with (self.settings.state / "lock").open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                raise LabError(f"another process starts, tests or ends the lab in {self.settings.state}") from None
            yield

    def build(self) -> None:
        """Have everything in the cache."""
        install_packages()
        build_all(self.settings)
        say("== images")
        make_images(self.settings)

    def up(self) -> None:
        """Start whatever is not there yet: nodes, Istio, services."""
        if reason := obstacle():
            raise LabError(reason)
        if self._complete_mark.exists() and all(node.pid for node in self.nodes.values()):
            say("== both clusters are up already: `make lab-down` ends them")
            return
        self.build()
        self.down()
        begin = time.monotonic()
        say("== two Kubernetes clusters")
        for node in self.nodes.values():
            node.start()
        connect(*self.nodes.values())
        with ThreadPoolExecutor() as pool:
            list(pool.map(self._complete, CLUSTERS.values()))
        say("== Istio")
        istio.install(self.settings, self.kubectl)
        say("== gateways and services")
        self.place(self.settings.proxies)
        self._complete_mark.touch()
        say(f"== up in {time.monotonic() - begin:.0f} s; `make lab-shell` opens a shell, `make lab-down` ends it")

    def place(self, proxies: Mapping[str, Proxies]) -> None:
        """Run these proxies, and wait until they do. Pods whose proxy stays the same stay as they are."""
        for name, cluster in CLUSTERS.items():
            say(f"   {name}: {proxies[name]}")
            gateways.apply(self.kubectl[name], cluster, proxies[name].gateway)
            self.kubectl[name].apply(*objects.apps(cluster, proxies[name]))
        for kubectl in self.kubectl.values():
            for where, deployment in ((gateways.NAMESPACE, gateways.NAME), *objects.APPS):
                kubectl.wait_rolled_out(where, deployment)

    def _complete(self, cluster: Cluster) -> None:
        name, node, kubectl = cluster.name, self.nodes[cluster.name], self.kubectl[cluster.name]
        wait_for(f"{name} containerd", node.containerd_answers)
        for image in IMAGES:
            node.import_image(archive_of(self.settings, image))
        say(f"   {name}: {len(IMAGES)} images imported")
        wait_for(f"{name} API server", lambda: kubectl("get", "--raw", "/readyz"))
        wait_for(f"{name} node is Ready", lambda: node_ready(kubectl, cluster))
        kubectl.apply(*objects.dns(cluster))
        kubectl.wait_rolled_out("kube-system", "coredns")

    def down(self) -> None:
        """End both nodes; what is not there is no error."""
        self._complete_mark.unlink(missing_ok=True)
        for node in self.nodes.values():
            node.end()

    def save_logs(self, folder: Path) -> None:
        """Copy the logs of services and pods there, in the place of earlier ones."""
        shutil.rmtree(folder, ignore_errors=True)
        for name, node in self.nodes.items():
            for log in node.folder.glob("**/*.log"):
                kept = folder / name / log.relative_to(node.folder)
                kept.parent.mkdir(parents=True, exist_ok=True)
                # Kubelet removes the logs of pods that are gone, perhaps just now.
                with suppress(FileNotFoundError):
                    shutil.copyfile(log, kept)

    def status(self) -> Iterator[str]:
        """One line for each node and each pod."""
        for name, node in self.nodes.items():
            yield f"{name}: {f'process {node.pid}' if node.pid else 'down'}"
            if node.pid:
                for line in self.kubectl[name]("get", "pods", "-A", "-o", "wide", "--no-headers").splitlines():
                    yield f"  {line}"


def node_ready(kubectl: Kubectl, cluster: Cluster) -> bool:
    conditions = kubectl.get("node", cluster.node)["status"]["conditions"]
    return any(one["type"] == "Ready" and one["status"] == "True" for one in conditions)
