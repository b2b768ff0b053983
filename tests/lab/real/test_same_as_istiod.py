"""Sets of rules, applied to real API servers: what istiod sends must be what the embedded control plane sends.

Both are asked for clients in the services' namespace, in another and in the root namespace, and for gateways: clusters,
endpoints with priority, locality and weight, and listeners, field by field.
"""

import json
import os
import time
from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import cache
from typing import Any

import pytest
from eastgate.mesh import model
from eastgate.mesh.control_plane import resources
from eastgate.mesh.errors import MeshError
from eastgate.mesh.importing import ClusterObjects, collect, mesh_text
from eastgate.mesh.mesh_file import MeshFile, parse
from eastgate.mesh.node_view import node_view
from eastgate.xds.resources import Locality
from envoy_data_plane.envoy.config.cluster.v3 import Cluster
from envoy_data_plane.envoy.config.endpoint.v3 import ClusterLoadAssignment
from envoy_data_plane.envoy.config.listener.v3 import FilterChain, Listener

from lab.ads import CDS, EDS, LDS, Proxy, Resources, ask
from lab.errors import LabError
from lab.kubectl import Kubectl
from lab.lab import Lab
from lab.settings import CLUSTERS
from lab.shell import wait_for

from ...mesh.meaning import differences, meaning
from . import world
from .mesh import Mesh
from .world import RuleSet

# A part of them where there is little time; the numbers stay.
EVERY = 1 if os.environ.get("EASTGATE_LAB_LONG") else 5
ALL_SETS = world.read_sets()
SETS = [one for one in ALL_SETS if one.refused or one.networks or one.number % EVERY == 0]
WITH_NETWORKS = [one for one in SETS if one.networks]
WITH_RULES = [one for one in SETS if world.rules(one, "gke")]


def title(one: RuleSet) -> str:
    return f"{one.number:03}-{one.name}"


CLASSES = {CDS: Cluster, EDS: ClusterLoadAssignment, LDS: Listener}
SETTLED_S, LONGEST_S = 3.0, 60.0
ROOT = "istio-system"
LABELS = {"app": "client"}


def proxies(cluster: str) -> dict[str, Proxy]:
    """Who asks, by a name for it."""
    found = {
        "gateway": world.router(cluster, "gateway"),
        "root gateway": world.router(cluster, ROOT),
        "root": world.client(cluster, ROOT, LABELS, 0),
        "batch": world.client(cluster, "batch", {"app": "batch"}, 1),
    }
    for one in SETS:
        if not one.refused:
            found[one.shop] = world.client(cluster, one.shop, one.client_labels, 2 * one.number, one.shop)
            found[one.away] = world.client(cluster, one.away, one.client_labels, 2 * one.number + 1, one.shop)
    return found


def reading(kubectl: Kubectl) -> ClusterObjects:
    """What `eastgate mesh import` reads of a cluster."""

    def run(words: Any) -> str:
        try:
            return kubectl(*words)
        except LabError as error:
            raise MeshError(kubectl.node.cluster.name, 0, str(error)) from None

    return collect(run, "")


@pytest.fixture(scope="module")
def applied(lab: Lab) -> Iterator[dict[str, dict[str, Resources]]]:
    """All sets on both clusters; what istiod sends once it says the same for a while."""
    taken = [one for one in SETS if not one.refused]
    try:
        for name, kubectl in lab.kubectl.items():
            kubectl.apply(*world.nodes(name), *(part for one in taken for part in world.namespaces(one)))
            kubectl.apply(*(part for one in taken for part in world.services(one)))
            pods = [pod for one in taken for pod in world.pods(one, name)]
            kubectl.apply(*({key: pod[key] for key in pod if key != "status"} for pod in pods))
            text = "\n---\n".join(json.dumps({key: pod[key] for key in pod if key != "spec"}) for pod in pods)
            kubectl("apply", "--server-side", "--force-conflicts", "--subresource=status", "-f", "-", input=text)
            # One after the other where their age counts: it is known in seconds.
            rules = [rule for one in taken for rule in world.rules(one, name)]
            younger = [rule for rule in rules if (rule["metadata"].get("annotations") or {}).get("younger")]
            kubectl.apply(*(rule for rule in rules if rule not in younger))
            if younger:
                time.sleep(1.1)
                kubectl.apply(*younger)
            for rule in (rule for rule in rules if "status" in rule):
                said = json.dumps({key: rule[key] for key in rule if key != "spec"})
                kubectl("apply", "--server-side", "--force-conflicts", "--subresource=status", "-f", "-", input=said)
        yield {name: settled(lab.kubectl[name]) for name in CLUSTERS}
    finally:
        if not os.environ.get("EASTGATE_LAB_KEEP_SETS"):
            for name, kubectl in lab.kubectl.items():
                cleared(kubectl, name)


def cleared(kubectl: Kubectl, name: str) -> None:
    """Nothing of the sets is left; pods of nodes that do not run only go by force."""
    for one in SETS:
        for rule in world.rules(one, name):
            if rule["metadata"]["namespace"] == ROOT:
                kubectl.delete(ROOT, rule["kind"], rule["metadata"]["name"])
    for node in ("none-a", "none-b", "none-c"):
        where = f"--field-selector=spec.nodeName={node}"
        kubectl("delete", "pods", "--all-namespaces", where, "--force", "--grace-period=0")
    kubectl("delete", "namespaces", "-l", "eastgate/set", "--wait=false")
    kubectl("delete", "nodes", "none-a", "none-b", "none-c", "--ignore-not-found")


def settled(kubectl: Kubectl) -> dict[str, Resources]:
    """What istiod sends to all proxies, once it is settled."""
    settle(kubectl)
    asked = proxies(kubectl.node.cluster.name)
    return dict(zip(asked, ask(kubectl, list(asked.values())), strict=True))


def settle(kubectl: Kubectl) -> None:
    """Wait until a gateway is told the same for a while."""
    cluster = kubectl.node.cluster.name
    before: Any = None
    since = begin = time.monotonic()
    while time.monotonic() - begin < LONGEST_S:
        (now,) = ask(kubectl, [world.router(cluster, ROOT)])
        said = {kind: sorted(named.items()) for kind, named in now.items() if kind != CDS}
        if said != before:
            before, since = said, time.monotonic()
        elif time.monotonic() - since > SETTLED_S:
            break
        time.sleep(0.5)


@pytest.fixture(scope="module")
def file(lab: Lab, applied: object) -> MeshFile:
    """The same objects, read from both API servers."""
    text, _ = mesh_text([reading(kubectl) for kubectl in lab.kubectl.values()])
    return parse(text, "imported.yaml")


def with_networks(kubectl: Kubectl, networks: str) -> str:
    """What istiod's ConfigMap says of meshNetworks, which is then this."""
    place = ("-n", ROOT, "configmap", "istio")
    before = str(kubectl.get(*place)["data"].get("meshNetworks", ""))
    change = json.dumps({"data": {"meshNetworks": networks}})
    kubectl("-n", ROOT, "patch", "configmap", "istio", "--type", "merge", "-p", change)
    return before


def in_assignments(kubectl: Kubectl, client: Proxy, texts: list[bytes]) -> bool:
    """Whether istiod names all of these to a client among its endpoints."""
    (sent,) = ask(kubectl, [client])
    told = b"".join(sent[EDS].values())
    return all(text in told for text in texts)


def compared(file: MeshFile, proxy: Proxy, sent: Resources, one: RuleSet) -> list[str]:
    """Differences in everything that is named after the set's namespace."""
    mesh = part_of(file.mesh, one)
    ours = resources(mesh, node_view(proxy.id, proxy.metadata, Locality(*proxy.locality), mesh))
    suffix = f".{one.shop}.svc.cluster.local"
    found = []
    for kind in (CDS, EDS):
        names = {name for name in (*sent[kind], *ours[kind]) if name.endswith(suffix)}
        for name in sorted(names):
            found += said(kind, name, sent[kind].get(name), ours[kind].get(name))
    for name, raw in ours[LDS].items():
        found += said(LDS, name, part(sent[LDS].get(name), suffix), part(raw, suffix))
    return found


def part_of(mesh: model.Mesh, one: RuleSet) -> model.Mesh:
    """The mesh with the set's services only, which nothing else of the mesh changes."""
    return replace(
        mesh,
        services=tuple(service for service in mesh.services if service.namespace == one.shop),
        workloads=tuple(work for work in mesh.workloads if work.namespace in (one.shop, one.away)),
    )


def part(raw: bytes | None, suffix: str) -> Listener | None:
    """A listener with the chains that lead to the set's services; None without any."""
    if raw is None:
        return None
    listener, chains = opened(raw)
    kept = [chain for chain, text in chains if suffix.encode() in text]
    return replace(listener, filter_chains=kept) if kept else None


@cache
def opened(raw: bytes) -> tuple[Listener, list[tuple[FilterChain, bytes]]]:
    """A listener and its chains, each with its bytes; a gateway's has chains of all sets."""
    listener = Listener.parse(raw)
    return listener, [(chain, bytes(chain)) for chain in listener.filter_chains]


def said(kind: str, name: str, theirs: Any, ours: Any) -> list[str]:
    """Differences of one resource."""
    if theirs is None and ours is None:
        return []
    if theirs is None or ours is None:
        return [f"{name}: {'istiod sends none' if theirs is None else 'missing'} ({kind.rpartition('.')[2]})"]
    if isinstance(theirs, bytes):
        return list(unlike(kind, name, theirs, ours))
    return [f"{name}: {line}" for line in differences(ordered(meaning(theirs)), ordered(meaning(ours)))]


@cache
def unlike(kind: str, name: str, theirs: bytes, ours: bytes) -> tuple[str, ...]:
    """Differences of two messages: several proxies are told the same."""
    one, other = (meaning(CLASSES[kind].parse(raw)) for raw in (theirs, ours))
    return tuple(f"{name}: {line}" for line in differences(ordered(one), ordered(other)))


def ordered(value: Any) -> Any:
    """Endpoints of a locality, and chains of a listener, in one order: istiod's changes from push to push."""
    if isinstance(value, Mapping):
        found = {key: ordered(one) for key, one in value.items()}
        for key in ("lb_endpoints", "filter_chains"):
            if isinstance(found.get(key), list):
                found[key] = sorted(found[key], key=repr)
        return found
    return [ordered(one) for one in value] if isinstance(value, list) else value


@pytest.mark.parametrize("one", [one for one in SETS if not one.refused], ids=title)
def test_same_as_istiod(applied: dict[str, dict[str, Resources]], file: MeshFile, one: RuleSet) -> None:
    found = []
    for cluster, answers in applied.items():
        asked = proxies(cluster)
        for who in ("gateway", "root gateway", "root", "batch", one.shop, one.away):
            lines = compared(file, asked[who], answers[who], one)
            found += [f"{cluster} {who}: {line}" for line in lines]
    # What is known to differ must differ, or docs/mesh-vs-istiod.md says too much.
    assert bool(found) == bool(one.differs), "\n".join(found[:12])


@pytest.mark.parametrize("one", WITH_NETWORKS, ids=title)
def test_same_as_istiod_with_mesh_networks(lab: Lab, applied: object, one: RuleSet) -> None:
    """A pod's own label counts, then that of the root namespace, and meshNetworks last."""
    del applied
    text = json.dumps({"networks": one.networks})
    ways = [way["address"].encode() for network in one.networks.values() for way in network["gateways"]]
    before = {name: with_networks(kubectl, text) for name, kubectl in lab.kubectl.items()}
    try:
        # Until istiod names the gateway that only meshNetworks have: for the pod that says itself that it is there.
        for name, kubectl in lab.kubectl.items():
            client = proxies(name)[one.shop]
            wait_for(f"meshNetworks in {name}", lambda: in_assignments(kubectl, client, ways))  # noqa: B023 - called here
            settle(kubectl)
        text, _ = mesh_text([reading(kubectl) for kubectl in lab.kubectl.values()])
        file = parse(text, "imported.yaml")
        found = []
        for name, kubectl in lab.kubectl.items():
            asked = [proxies(name)[who] for who in ("gateway", "root", one.shop, one.away)]
            for proxy, sent in zip(asked, ask(kubectl, asked), strict=True):
                found += [f"{name} {proxy.id}: {line}" for line in compared(file, proxy, sent, one)]
        assert not found, "\n".join(found[:12])
    finally:
        for name, kubectl in lab.kubectl.items():
            with_networks(kubectl, before[name])


@pytest.mark.parametrize("one", WITH_RULES, ids=title)
def test_refused_as_by_istiod(lab: Lab, one: RuleSet) -> None:
    """By its webhook, and when a mesh file is read."""
    kubectl = lab.kubectl["gke"]
    rules = [{**rule, "metadata": {**rule["metadata"], "namespace": "default"}} for rule in world.rules(one, "gke")]
    text = "\n---\n".join(json.dumps(rule) for rule in rules)
    mesh = {"kind": "Mesh", "clusters": {"gke": {}, "anthos": {}}}
    text_of_file = "\n---\n".join([json.dumps(mesh), text])
    refusals = {}
    try:
        kubectl("apply", "--server-side", "--dry-run=server", "-f", "-", input=text)
    except LabError as error:
        refusals["istiod"] = str(error)
    try:
        parse(text_of_file, "mesh.yaml")
    except MeshError as error:
        refusals["mesh"] = str(error)
    assert set(refusals) == ({"istiod", "mesh"} if one.refused else set()), refusals


def test_sets_are_told(mesh: Mesh) -> None:
    """How many were compared, in the table at the end."""
    taken = [one for one in SETS if not one.refused]
    mesh.row(
        "sets of rules", "gateways, clients", "as istiod", f"{len(taken)} compared, {len(SETS) - len(taken)} refused"
    )
    assert len(ALL_SETS) >= 60
