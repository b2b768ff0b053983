"""A network namespace for a scenario: the recorded 10.x and 172.16.x addresses exist in it and nowhere else.

The test runs `unshare -Urn python -m <scenario>`; the scenario calls ``bring_up`` first, then runs its steps and prints
one JSON document. Nothing in the namespace reaches any real network.
"""

import ctypes
import fcntl
import json
import os
import shutil
import socket
import struct
import subprocess
import sys
import threading
import traceback
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

import pytest

ROOT = Path(__file__).parent.parent.parent
SIOCSIFADDR, SIOCGIFFLAGS, SIOCSIFFLAGS = 0x8916, 0x8913, 0x8914
IFF_UP = 1
CLONE_NEWNET = 0x40000000

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")


def bring_up(*addresses: str) -> None:
    """Put lo up and give it addresses. On lo the whole classful network of each is local (10.0.0.1: all of 10/8)."""
    assert [name for _, name in socket.if_nameindex()] == ["lo"], "not in a namespace of its own"
    with socket.socket() as control:
        request = struct.pack("16sH14x", b"lo", 0)
        (flags,) = struct.unpack_from("H", fcntl.ioctl(control, SIOCGIFFLAGS, request), 16)
        fcntl.ioctl(control, SIOCSIFFLAGS, struct.pack("16sH14x", b"lo", flags | IFF_UP))
        for index, address in enumerate(addresses, 1):
            alias = f"lo:{index}".encode()
            packed = struct.pack("16sHH4s8x", alias, socket.AF_INET, 0, socket.inet_aton(address))
            fcntl.ioctl(control, SIOCSIFADDR, packed)


def ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, timeout=20)


class Elsewhere:
    """A second namespace, for what stands outside of a pod: sockets that are made through `call` are there."""

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(1)
        self.call(self._leave)

    def call(self, work: Callable[Arguments, Result], *arguments: Arguments.args, **named: Arguments.kwargs) -> Result:
        """Do it in the one thread that is there. What that starts, threads and processes, is there too."""
        return self._thread.submit(work, *arguments, **named).result(60)

    @staticmethod
    def _leave() -> None:
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.unshare(CLONE_NEWNET):
            raise OSError(ctypes.get_errno(), "unshare(CLONE_NEWNET)")


def pod_beside(elsewhere: Elsewhere, pod: str, peer: str, *networks: str) -> None:
    """Make this namespace a pod's, with one interface to `elsewhere`, where every address of these networks is.

    ``peer``: what connections from there come from.
    """
    ip("link", "set", "lo", "up")
    there = elsewhere.call(threading.get_native_id)
    ip("link", "add", "pod", "type", "veth", "peer", "name", "nodes", "netns", str(there))
    ip("address", "add", f"{pod}/32", "dev", "pod")
    ip("link", "set", "pod", "up")
    ip("route", "add", "default", "dev", "pod")

    def outside() -> None:
        ip("link", "set", "lo", "up")
        ip("address", "add", f"{peer}/32", "dev", "nodes")
        ip("link", "set", "nodes", "up")
        # In the table after the one of local addresses, so that the pod's own is not among them.
        for network in networks:
            ip("route", "add", "local", network, "dev", "lo", "table", "main")
        ip("route", "add", f"{pod}/32", "dev", "nodes")

    elsewhere.call(outside)


@cache
def missing() -> str:
    """Why this machine cannot do it; empty when it can."""
    if shutil.which("unshare") is None:
        return "unshare (util-linux) is not installed"
    probe = subprocess.run(["unshare", "-Urnpf", "--kill-child", "true"], capture_output=True, text=True, check=False)
    return "" if probe.returncode == 0 else f"unshare -Urnpf: {probe.stderr.strip()}"


class Steps:
    """What a scenario saw, step by step: one step that fails does not hide what the others saw."""

    def __init__(self) -> None:
        self._seen: dict[str, dict[str, Any]] = {}

    def take(self, name: str, step: Callable[..., Any], *arguments: Any, **named: Any) -> None:
        """Run a step and keep what it returns (plain JSON values), or its traceback."""
        try:
            self._seen[name] = {"seen": step(*arguments, **named)}
        except Exception:  # noqa: BLE001 the traceback is the result
            self._seen[name] = {"error": traceback.format_exc()}

    def print(self) -> None:
        """Print the result where run_scenario looks for it: in the last line."""
        print(json.dumps(self._seen), flush=True)


class Seen:
    """What the steps of a scenario saw, for the tests that judge it."""

    def __init__(self, steps: dict[str, dict[str, Any]]) -> None:
        self._steps = steps

    def __getitem__(self, name: str) -> Any:
        assert name in self._steps, f"the scenario did not get to {name!r}: {', '.join(self._steps)}"
        step = self._steps[name]
        if "error" in step:
            pytest.fail(f"scenario step {name!r} failed:\n{step['error']}", pytrace=False)
        return step["seen"]


def run_scenario(
    module: str, *arguments: str, timeout_s: float = 180.0, all_users: bool = False, **environment: str
) -> Seen:
    """Run a scenario module in a namespace of its own; return what its steps saw.

    ``all_users``: it acts as others than its own user, which takes a root that is real.
    """
    reason = missing() or ("not root" if all_users and os.geteuid() else "")
    if reason and os.environ.get("CI"):
        pytest.fail(f"no network namespace: {reason}")
    if reason:
        pytest.skip(f"no network namespace: {reason}")
    # A process namespace as well: whatever the scenario started ends with it, however it ends.
    run = subprocess.run(
        ["unshare", "-npf" if all_users else "-Urnpf", "--kill-child", sys.executable, "-m", module, *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        env={**os.environ, **environment},
        timeout=timeout_s,
        check=False,
    )
    assert run.returncode == 0, run.stdout[-2000:] + run.stderr[-6000:]
    return Seen(json.loads(run.stdout.splitlines()[-1]))
