"""What the runner knows of any proxy: whether it is here, how it starts, its process. Knows no product."""

import os
import shutil
import socket
import subprocess
import tempfile
import time
from pathlib import Path
from typing import ClassVar

SNI = "outbound_.80_._.echo-svc.default.svc.cluster.local"


class Proxy:
    """One proxy before its start, and its process afterwards. Configured to lead SNI to ``sink_port``."""

    name: ClassVar[str] = ""
    # Whether new endpoints can be pushed to it while it runs.
    is_pushed: ClassVar[bool] = False

    def __init__(self, sink_port: int) -> None:
        self.sink_port = sink_port
        self.port = free_port()
        self.begun_ns = 0
        """CLOCK_MONOTONIC when the process was started."""

    @classmethod
    def absent(cls) -> str:
        """Why it cannot be measured here; empty when it can."""
        return ""

    @classmethod
    def version(cls) -> str:
        """What it calls itself, in one line."""
        raise NotImplementedError

    @property
    def pid(self) -> int:
        raise NotImplementedError

    def launch(self) -> None:
        """Start the process; return without waiting until it serves."""
        raise NotImplementedError

    def push(self, response: bytes) -> None:
        """Send a DiscoveryResponse to it, as its control plane."""
        raise NotImplementedError

    def stop(self) -> None:
        raise NotImplementedError


class CommandProxy(Proxy):
    """A proxy that is a command and perhaps a file of configuration."""

    def __init__(self, sink_port: int) -> None:
        super().__init__(sink_port)
        self._folder = tempfile.TemporaryDirectory(prefix=f"bench-{self.name}-")
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def folder(self) -> Path:
        return Path(self._folder.name)

    @property
    def pid(self) -> int:
        assert self._process is not None, "not launched"
        return self._process.pid

    def command(self) -> list[str]:
        """Write what the command needs into ``folder``; return it."""
        raise NotImplementedError

    def launch(self) -> None:
        command = self.command()
        log = (self.folder / "stderr").open("wb")
        self.begun_ns = time.monotonic_ns()
        with log:
            self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)

    def stop(self) -> None:
        if self._process is not None:
            self._process.terminate()
            try:
                self._process.wait(10)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait(10)
        self._folder.cleanup()


def free_port() -> int:
    """A port of loopback that was free just now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def installed(command: str) -> str:
    """Path of a command, also where Debian puts servers; empty when it is not installed."""
    return shutil.which(command, path=os.environ.get("PATH", "") + os.pathsep + "/usr/sbin") or ""


def first_line(*command: str) -> str:
    """What a command prints first, on whichever stream."""
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    return next(iter((done.stdout + done.stderr).strip().splitlines()), "")
