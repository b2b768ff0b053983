"""9,000 connections at once through `eastgate gateway`: each moves bytes both ways, and all end."""

import json
import os
import resource
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from ..support import messages
from ..support.gateway_process import Eastgate
from ..support.replay_ads import ReplayThread
from ..support.waiting import until

LOAD = Path(__file__).parents[2] / "bench" / "load.c"
# What load.c asks for.
NAME = "outbound_.80_._.echo-svc.default.svc.cluster.local"
CONNECTIONS = 9000
# Two sockets a connection, and what the process has open by itself.
DESCRIPTORS = 2 * CONNECTIONS + 300
# More than are served unless told: some descriptors are kept for pipes.
BY_HAND = ("--max-connections", str(2 * CONNECTIONS))
USUAL_SOFT_LIMIT = 1024
# Every connection asks once in that time, so that the first report behind it has all of them.
TURN_US = 2_000_000
# 512 are promised of an idle connection; the rest is what the process takes for itself while it accepts them. A
# sanitizer puts its own bytes around each allocation.
USER_BYTES = 3000 if "libasan" in os.environ.get("LD_PRELOAD", "") else 570


@pytest.fixture(scope="module")
def load(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The load generator of the benchmarks."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard < DESCRIPTORS:
        pytest.skip(f"the limit of open files is {hard}, and {CONNECTIONS} connections need {DESCRIPTORS}")
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("cc is not installed")
    made = tmp_path_factory.mktemp("load") / "load"
    subprocess.run([compiler, "-std=gnu11", "-O2", "-o", str(made), str(LOAD)], check=True)
    # What container runtimes and login shells give: whoever needs more raises it by himself.
    resource.setrlimit(resource.RLIMIT_NOFILE, (USUAL_SOFT_LIMIT, hard))
    yield made
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@contextmanager
def started(load: Path, *arguments: object) -> Iterator["subprocess.Popen[str]"]:
    """A process of the generator; it ends with its stdin."""
    pipe = subprocess.PIPE
    with subprocess.Popen(
        [str(load), *map(str, arguments)], stdin=pipe, stdout=pipe, stderr=pipe, text=True
    ) as process:
        try:
            yield process
        finally:
            _, error = process.communicate(timeout=30)
        assert process.returncode == 0, error


def line_of(process: "subprocess.Popen[str]") -> Any:
    assert process.stdout is not None
    line = process.stdout.readline()
    assert line, process.communicate()[1]
    return json.loads(line)


def round_trips(process: "subprocess.Popen[str]") -> int:
    """How many there were since it was asked last. Fails when a connection was cut."""
    assert process.stdin is not None
    process.stdin.write("\n")
    process.stdin.flush()
    report = line_of(process)
    assert report["failures"] == 0
    return int(report["count"])


@pytest.mark.parametrize("workers", [0, 1, 4])
def test_9000_connections_are_held_at_once(load: Path, workers: int) -> None:
    with started(load, "sink", 1) as sink:
        resources = messages.resources({NAME: [messages.At(("127.0.0.1", line_of(sink)))]})
        with (
            ReplayThread(resources) as control,
            Eastgate(control.address, "--workers", str(workers), *BY_HAND) as gateway,
        ):
            port = gateway.wait_ready().bound_address(messages.LISTENER)[1]
            with started(load, "steady", port, TURN_US, 1) as first:
                assert line_of(first) == {"open": 1}
            listener, cluster = f"listener.{messages.LISTENER}.", f"cluster.{NAME}."
            gateway.wait_stat(listener + "downstream_cx_active", 0)
            before_kb = gateway.resident_kb()
            with started(load, "steady", port, TURN_US, CONNECTIONS) as clients:
                assert line_of(clients) == {"open": CONNECTIONS}
                assert gateway.stat(listener + "downstream_cx_active") == CONNECTIONS
                assert gateway.stat(cluster + "upstream_cx_active") == CONNECTIONS
                assert (gateway.resident_kb() - before_kb) * 1024 <= CONNECTIONS * USER_BYTES
                done = 0

                def all_asked() -> bool:
                    nonlocal done
                    done += round_trips(clients)
                    return done >= CONNECTIONS

                until(all_asked, "every connection has moved bytes both ways", pause_s=0.2)
                assert gateway.stat(listener + "downstream_cx_active") == CONNECTIONS
            for name in (
                *(listener + "downstream_cx_active", listener + "downstream_pre_cx_active"),
                *(cluster + "upstream_cx_active", cluster + "upstream_rq_pending_active"),
            ):
                gateway.wait_stat(name, 0)
            counters = gateway.stats(listener)
            assert counters["downstream_cx_total"] == CONNECTIONS + 1
            assert not any(value for name, value in counters.items() if name.startswith("refused."))
            # Those 64 bytes that each was greeted with, and as many for each question.
            assert counters["eastgate.tx_bytes_total"] >= 64 * 2 * CONNECTIONS
