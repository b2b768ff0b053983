"""A real Prometheus that scrapes a port and answers expressions: Debian's, of PATH or of `make prometheus`."""

import json
import os
import shutil
import subprocess
import tempfile
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import pytest
import yaml

from .free_ports import free_port
from .waiting import until

UNPACKED = Path(__file__).parents[2] / "build/prometheus/usr/bin"
MISSING = "is neither on PATH nor in build/prometheus: `make prometheus` unpacks Debian's package"


def program(name: str) -> str:
    """Path of prometheus or promtool. Without it the test is skipped by name, and fails where CI is set."""
    found = shutil.which(name) or shutil.which(name, path=str(UNPACKED))
    if found is None:
        if os.environ.get("CI"):
            pytest.fail(f"{name} {MISSING}")
        pytest.skip(f"{name} {MISSING}")
    return found


def promtool(*arguments: str, said: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [program("promtool"), *arguments], input=said, capture_output=True, text=True, timeout=60, check=False
    )


class Prometheus:
    """Scrapes one address every second, as a pod of that name and namespace."""

    def __init__(self, target: tuple[str, int], *, namespace: str = "gateway", pod: str = "eastgate-0") -> None:
        binary = program("prometheus")
        self._folder = tempfile.TemporaryDirectory(prefix="prometheus-")
        config = {
            "global": {"scrape_interval": "1s", "scrape_timeout": "1s", "evaluation_interval": "1s"},
            "scrape_configs": [
                {
                    "job_name": "eastgate",
                    "metrics_path": "/stats/prometheus",
                    "static_configs": [
                        {"targets": ["{}:{}".format(*target)], "labels": {"namespace": namespace, "pod": pod}}
                    ],
                }
            ],
        }
        (Path(self._folder.name) / "prometheus.yml").write_text(yaml.safe_dump(config))
        self._url = f"http://127.0.0.1:{free_port()}"
        self._log = (Path(self._folder.name) / "log").open("w")
        self._process = subprocess.Popen(
            [
                binary,
                f"--config.file={self._folder.name}/prometheus.yml",
                f"--storage.tsdb.path={self._folder.name}/data",
                f"--web.listen-address={self._url.removeprefix('http://')}",
                "--log.level=warn",
            ],
            stdout=self._log,
            stderr=self._log,
        )
        until(self._ready, "prometheus is ready")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._process.terminate()
        try:
            self._process.wait(20)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait(5)
        self._log.close()
        self._folder.cleanup()

    def answer(self, expression: str) -> list[dict[str, Any]]:
        """What the expression comes to now, a sample a series. Fails with Prometheus' own words."""
        asked = f"{self._url}/api/v1/query?{urllib.parse.urlencode({'query': expression})}"
        try:
            with urllib.request.urlopen(asked, timeout=20) as said:
                answered = json.load(said)
        except urllib.error.HTTPError as error:
            with error:
                raise AssertionError(f"{expression}: {json.load(error)['error']}") from None
        result: list[dict[str, Any]] = answered["data"]["result"]
        return result

    def scrapes(self) -> int:
        """How many scrapes succeeded so far, ten minutes back."""
        found = self.answer("sum_over_time(up[10m])")
        return int(float(found[0]["value"][1])) if found else 0

    def _ready(self) -> bool:
        assert self._process.poll() is None, (Path(self._folder.name) / "log").read_text()
        try:
            with urllib.request.urlopen(f"{self._url}/-/ready", timeout=2) as said:
                return bool(said.status == 200)
        except OSError:
            return False
