"""go-control-plane's snapshot cache as a process: built once, fed with snapshots, listened to."""

import base64
import json
import queue
import subprocess
import threading
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

EVENT_S = 20.0


class ControlPlane:
    """One running server. Events are dicts, as the program prints them; each is taken once."""

    def __init__(self, path: Path) -> None:
        self._process = subprocess.Popen([path], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self._events: queue.Queue[dict[str, Any]] = queue.Queue()
        self.seen: list[dict[str, Any]] = []
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        self.address: str = self.until(lambda one: one["event"] == "listening")["address"]

    def __enter__(self) -> "ControlPlane":
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        assert self._process.wait(10) == 0
        self._reader.join(10)

    def serve(self, version: str, resources: Mapping[str, Iterable[bytes]]) -> None:
        """Give everyone this snapshot."""
        packed = {url: [base64.b64encode(one).decode() for one in payloads] for url, payloads in resources.items()}
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({"version": version, "resources": packed}).encode() + b"\n")
        self._process.stdin.flush()
        self.until(lambda one: one["event"] == "snapshot" and one["version"] == version)

    def until(self, wanted: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        """The next event that is wanted."""
        while True:
            try:
                one = self._events.get(timeout=EVENT_S)
            except queue.Empty:
                raise AssertionError(f"not within {EVENT_S:g} s; seen: {self.seen[-10:]}") from None
            self.seen.append(one)
            if wanted(one):
                return one

    def _read(self) -> None:
        assert self._process.stdout is not None
        with self._process.stdout as lines:
            for line in lines:
                self._events.put(json.loads(line))
