"""From two kubeconfigs to what a client will have: `mesh import`, `mesh endpoints` beside real Envoy and beside what
its connections are answered, `mesh diff` for a change; and the same commands on pods, whichever proxy is in them.

Three sets of rules; with EASTGATE_LAB_LONG=1 all.
"""

import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml

from lab.settings import ANTHOS, CLUSTERS, GKE, PROXIES, Cluster, other
from lab.shell import wait_for

from .mesh import ECHO, Mesh
from .pairs import NAMESPACE, Pairs
from .rules import (
    CLUSTER_LOCAL,
    FAILOVER,
    FAILOVER_PRIORITY,
    SERVICES,
    Object,
    distribute,
    host,
    locality_rules,
    resource,
)
from .user import User

SERVICE = "echo-tcp"
NAME = f"outbound|80||{host(SERVICE)}"
BOTH = [word for name in CLUSTERS for word in ("--context", name)]
COUNT = 200


@pytest.fixture
def user(mesh: Mesh, tmp_path: Path) -> User:
    return User(mesh.lab, tmp_path)


def policies(policy: Object) -> list[Object]:
    """The same DestinationRule for both services."""
    return [
        resource("networking", "DestinationRule", service, {"host": host(service), "trafficPolicy": policy})
        for service in SERVICES
    ]


def ruled(rules: list[Object]) -> Callable[[Mesh], Any]:
    return lambda mesh: mesh.apply(rules)


def three_pods(mesh: Mesh) -> None:
    mesh.kubectl[GKE.name]("-n", "default", "scale", "deploy/echoserver", "--replicas=3")
    mesh.kubectl[GKE.name].wait_rolled_out("default", "echoserver")


def one_unready(mesh: Mesh) -> None:
    """Its priority then takes 140 % x 1 / 2 of the client's connections."""
    mesh.apply(locality_rules(FAILOVER))
    mesh.set_ready(ANTHOS, mesh.kubectl[ANTHOS.name].pods("default", ECHO)[0]["metadata"]["name"], ready=False)


SETS: dict[str, Callable[[Mesh], Any]] = {
    "one pod unready": one_unready,
    "distribute 35:65": ruled(locality_rules(distribute(35))),
    "three pods and two": three_pods,
    "no rule": lambda mesh: None,
    "failover": ruled(locality_rules(FAILOVER)),
    "failoverPriority": ruled(locality_rules(FAILOVER_PRIORITY)),
    "distribute 80:20": ruled(locality_rules(distribute(80))),
    "localities off": ruled(locality_rules({"enabled": False})),
    "RANDOM": ruled(policies({"loadBalancer": {"simple": "RANDOM"}})),
    "without mTLS": ruled(policies({"tls": {"mode": "DISABLE"}})),
    "clusterLocal": lambda mesh: mesh.mesh_settings(CLUSTER_LOCAL),
}
TRIED = list(SETS) if os.environ.get("EASTGATE_LAB_LONG") else list(SETS)[:3]


@contextmanager
def applied(mesh: Mesh, name: str) -> Iterator[None]:
    """The set, and pods ready again after it."""
    try:
        SETS[name](mesh)
        yield
    finally:
        for cluster in CLUSTERS.values():
            for pod in mesh.kubectl[cluster.name].pods("default", ECHO):
                mesh.set_ready(cluster, pod["metadata"]["name"], ready=True)


def pod_of(mesh: Mesh, cluster: Cluster) -> str:
    (pod,) = mesh.kubectl[cluster.name].pods("sleep", {"app": "sleep"})
    return str(pod["metadata"]["name"])


def predicted(user: User, client: str) -> list[Object]:
    """What `mesh endpoints` says of the client, of clusters that are there now."""
    user.run("mesh import", *BOTH, "--output", "mesh.yaml")
    found = user.json("mesh endpoints", "mesh.yaml", "--client", client, "--cluster", NAME)
    rows: list[Object] = found["endpoints"]
    return rows


def kept(rows: list[Object], status: str) -> set[tuple[str, int, int, bool]]:
    """(address, priority, weight, whether it is known to be down)"""
    return {(one["address"], one["priority"], one["weight"], one[status] == "UNHEALTHY") for one in rows}


def had(user: User, cluster: Cluster, pod: str) -> list[Object]:
    """What its Envoy has."""
    rows: list[Object] = user.json("endpoints", "--pod", f"{pod}.sleep", "--context", cluster.name, "--cluster", NAME)
    return rows


@pytest.mark.parametrize("name", TRIED)
def test_predicted_shares_are_what_clients_are_answered(mesh: Mesh, user: User, name: str) -> None:
    with applied(mesh, name):
        for client in CLUSTERS.values():
            pod = pod_of(mesh, client)
            rows: list[Object] = []

            def known(client: Cluster = client, pod: str = pod, rows: list[Object] = rows) -> bool:
                rows[:] = predicted(user, f"{client.name}/{pod}")
                return kept(rows, "health") == kept(had(user, client, pod), "status")

            wait_for(f"{name}: Envoy in {client.name} has what is predicted", known, seconds=90, every=1)
            away = sum(one["share"] for one in rows if one["stands_for"] == f"gateway of {other(client).name}")
            shares = {client.greeting: 1 - away, other(client).greeting: away}
            mesh.answers(f"predicted, {name}", client, SERVICE, shares, count=COUNT)


def test_what_a_change_moves_is_told_before_it_is_made(mesh: Mesh, user: User) -> None:
    """docs/predict.md, from two kubeconfigs to a check before a merge."""
    user.run("mesh import", *BOTH, "--output", "mesh.yaml")
    text = (user.folder / "mesh.yaml").read_text()
    assert "PRIVATE KEY" not in text
    (user.folder / "new.yaml").write_text(text + "---\n" + yaml.safe_dump_all(locality_rules(FAILOVER)))
    said = user.run("mesh diff", "mesh.yaml", "new.yaml", "--fail-over", "5", "--markdown", codes=(1,))
    # Half of it went to the other cluster.
    rows = [line for line in said.splitlines() if NAME.replace("|", "\\|") in line]
    (row,) = [line for line in rows if f"{ANTHOS.name}/sleep/sleep" in line]
    assert "gateway of gke 50.0%" in row
    assert row.rstrip("| ").endswith("50.0 points")
    # Pods without a sidecar have no shares.
    assert "kube-system" not in said
    assert user.run("mesh diff", "mesh.yaml", "mesh.yaml", "--fail-over", "5").strip() == "No shares change."


@pytest.mark.parametrize("proxy", PROXIES)
def test_commands_on_a_pod(mesh: Mesh, user: User, pairs: Pairs, proxy: str) -> None:
    """Whichever proxy is in it, of pods and of a Deployment's."""
    name = f"outbound|80||servers.{NAMESPACE}.svc.cluster.local"
    for pod in (
        f"deploy/client-{proxy}.{NAMESPACE}",
        f"{pairs.pods(f'client-{proxy}')[0]['metadata']['name']}.{NAMESPACE}",
    ):
        place = ("--pod", pod, "--context", GKE.name)
        endpoints = user.json("endpoints", *place, "--cluster", name)
        assert {one["address"] for one in endpoints} == {
            f"{one['status']['podIP']}:9090" for proxy in PROXIES for one in pairs.pods(f"server-{proxy}")
        }
        assert user.json("explain", name, *place)["endpoints"] != []
        assert user.json("doctor", *place, "--cluster", name, codes=(0, 1))["findings"] == []
        assert name in json.dumps(user.json("ledger", *place))


def test_doctor_looks_at_both_clusters(mesh: Mesh, user: User) -> None:
    """A subset that only the client's cluster defines: nobody but both proxies together can tell."""

    def found() -> list[Object]:
        said = user.json("doctor --mesh", *BOTH, "--sample", "20", codes=(0, 1))["findings"]
        return [one for one in said if one["rule"] == "gateway-lacks-cluster"]

    assert found() == []
    rule = {"host": host(SERVICE), "subsets": [{"name": "all", "labels": ECHO}]}
    mesh.kubectl[ANTHOS.name].apply(resource("networking", "DestinationRule", SERVICE, rule))
    wait_for("doctor names the missing subset", found, seconds=60, every=1)
    (one,) = found()
    assert one["cluster"] == f"outbound|80|all|{host(SERVICE)}"
    assert f"knows {host(SERVICE)} and no subset all" in one["cause"]
    assert any("sleep" in source for source in one["proxies"])
