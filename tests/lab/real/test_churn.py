"""Endpoints that change all the time: every move is picked by eastgate and by Envoy. `make lab-churn` measures."""

import json
import sys

from lab.settings import ROOT
from lab.shell import run

from .mesh import Mesh

SECONDS, SERVICES, ENDPOINTS = 15, 100, 20


def test_every_push_is_picked_while_endpoints_churn(mesh: Mesh) -> None:
    words = (sys.executable, "-m", "lab", "churn", SECONDS, SERVICES, ENDPOINTS)
    environment = mesh.lab.nodes["gke"].environment()
    *_, last = run(*words, cwd=ROOT, env=environment, timeout_s=300).stdout.splitlines()
    result = json.loads(last)
    for name in ("eastgate", "envoy"):
        cost = result[name]
        told = "median {median_ms:.0f} ms, p99 {p99_ms:.0f} ms, CPU {cpu_s:.2f} s, {rss_mib:.0f} MiB".format(**cost)
        mesh.row(f"churn, {SERVICES} x {ENDPOINTS}, {result['moves']} moves", name, "all picked", told)
    # A move that is not picked is an error of the command.
    assert result["moves"] >= 3
    assert result["changes"] > 5 * SECONDS
