"""The article's story as one cluster's client lives it, and the stages that follow it, for whatever proxies run."""

from collections.abc import Sequence

from lab.settings import Cluster, Proxies, other
from lab.traffic import ask

from .mesh import Mesh
from .rules import (
    CLUSTER_LOCAL,
    FAILOVER,
    FAILOVER_PRIORITY,
    SERVICES,
    distribute,
    home_rules,
    locality_rules,
    subset_rules,
)

JUST_DRAINED = 10
# One of two endpoints at home is ejected: 1/2 of them, times 1.4, is what priority 0 takes.
ONE_LEFT = 0.7


def told(
    mesh: Mesh,
    client: Cluster,
    title: str,
    proxies: Proxies | None = None,
    services: Sequence[str] = SERVICES,
) -> None:
    """No rule, locality failover, drained, restarted. ``proxies``: of its cluster, stock sidecars unless told."""
    here, there = client.greeting, other(client).greeting
    for service in services:
        mesh.answers(f"{title}no rule", client, service, {here: 0.5, there: 0.5})
    mesh.apply(locality_rules(FAILOVER))
    for service in services:
        mesh.answers(f"{title}failover rule", client, service, {here: 1.0})
    mesh.drain(client, first=0, pods=1)
    just_drained(mesh, client, f"{title}one just drained", proxies, services)
    for service in services:
        mesh.answers(f"{title}one drained", client, service, {here: ONE_LEFT, there: 1 - ONE_LEFT}, tries=3)
    mesh.drain(client, first=1, pods=1)
    just_drained(mesh, client, f"{title}both just drained", proxies, services)
    for service in services:
        mesh.answers(f"{title}both drained", client, service, {there: 1.0}, tries=3)
    mesh.restart(client)
    for service in services:
        mesh.answers(f"{title}restarted", client, service, {here: 1.0})


def just_drained(mesh: Mesh, client: Cluster, stage: str, proxies: Proxies | None, services: Sequence[str]) -> None:
    """The first connections after a drain.

    Stock Envoy tries one endpoint once: these fail, and make it eject the drained pod. eastgate tries another one.
    """
    ours = proxies is not None and proxies.client == "eastgate"
    for service in services:
        first = ask(mesh.kubectl[client.name], service, JUST_DRAINED)
        expected = "none fails" if ours else "not judged"
        mesh.row(stage, f"{client.name} {service}", expected, str(first))
        if ours:
            assert not first.failed, f"{stage}, {client.name} {service}: {first}: {first.errors}"


def stages(mesh: Mesh, client: Cluster, title: str, services: Sequence[str] = SERVICES) -> None:
    """failoverPriority, distribute, clusterLocal, a subset of each cluster, and subsets that stay at home."""
    here, there = client.greeting, other(client).greeting
    mesh.apply(locality_rules(FAILOVER_PRIORITY))
    for service in services:
        mesh.answers(f"{title}failoverPriority", client, service, {here: 1.0})
    mesh.apply(locality_rules(distribute(80)))
    for service in services:
        mesh.answers(f"{title}distribute 80:20", client, service, {here: 0.8, there: 0.2}, count=200)
    mesh.reset()
    mesh.mesh_settings(CLUSTER_LOCAL)
    for service in services:
        mesh.answers(f"{title}clusterLocal", client, service, {here: 1.0})
    mesh.mesh_settings(None)
    for target in (client, other(client)):
        mesh.apply(subset_rules(target))
        for service in services:
            mesh.answers(f"{title}subset {target.name}", client, service, {target.greeting: 1.0})
    mesh.apply(home_rules())
    for service in services:
        mesh.answers(f"{title}subset by sourceLabels", client, service, {here: 1.0})
    mesh.reset()
