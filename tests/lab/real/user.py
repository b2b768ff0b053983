"""A user of both clusters: one kubeconfig with a context for each, their own kubectl, and eastgate's command line.

All of it runs in the network of the node of gke, from which both API servers are reached.
"""

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from lab.lab import Lab
from lab.settings import CLUSTERS, GKE
from lab.shell import run


class User:
    """``folder``: where the kubeconfig and files that commands write go."""

    def __init__(self, lab: Lab, folder: Path) -> None:
        self._lab = lab
        self.folder = folder
        self.kubeconfig = folder / "kubeconfig"
        self.kubeconfig.write_text(yaml.safe_dump(self._merged()))

    def _merged(self) -> dict[str, Any]:
        merged: dict[str, Any] = {"apiVersion": "v1", "kind": "Config", "current-context": GKE.name}
        for name, kubectl in self._lab.kubectl.items():
            one = yaml.safe_load(kubectl.config.read_text())
            cluster, user = one["clusters"][0]["cluster"], one["users"][0]["user"]
            merged.setdefault("clusters", []).append(
                {"name": name, "cluster": {**cluster, "server": CLUSTERS[name].api_url}}
            )
            merged.setdefault("users", []).append({"name": name, "user": user})
            merged.setdefault("contexts", []).append({"name": name, "context": {"cluster": name, "user": name}})
        return merged

    def run(self, command: str, *words: Any, codes: tuple[int, ...] = (0,)) -> str:
        """Standard output of `eastgate COMMAND`. Raises AssertionError for another exit code."""
        done = run(*self._line(command, words), cwd=self.folder, check=False)
        assert done.returncode in codes, f"eastgate {command} {words}: {done.returncode}: {done.stderr[-2000:]}"
        return done.stdout

    def _inside(self) -> list[str]:
        """Words that run what follows them in the network of the node."""
        path = f"PATH={self._lab.settings.binaries}:/usr/sbin:/usr/bin:/sbin:/bin"
        pid = str(self._lab.kubectl[GKE.name].node.pid)
        return ["nsenter", "-t", pid, "--net", "env", f"KUBECONFIG={self.kubeconfig}", path]

    def _line(self, command: str, words: tuple[Any, ...]) -> list[str]:
        program = str(Path(sys.executable).with_name("eastgate"))
        return [*self._inside(), program, *command.split(), *map(str, words)]

    def json(self, command: str, *words: Any, codes: tuple[int, ...] = (0,)) -> Any:
        return json.loads(self.run(command, *words, "--json", codes=codes))

    @contextmanager
    def runs(self, command: str, *words: Any) -> Iterator["subprocess.Popen[str]"]:
        """`eastgate COMMAND` while it runs, its standard output a pipe; it is interrupted in the end."""
        with subprocess.Popen(
            self._line(command, words), stdout=subprocess.PIPE, cwd=self.folder, text=True
        ) as process:
            try:
                yield process
            finally:
                process.send_signal(signal.SIGINT)

    def page(self, url: str) -> str:
        """What answers there, in the network of the commands."""
        return run(*self._inside(), "curl", "-s", "-S", "-f", "-g", url).stdout
