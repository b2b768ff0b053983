"""Clients that nothing tells apart: what is predicted once for all of them is what each would be predicted alone."""

import random
from collections.abc import Hashable, Iterator, Set
from dataclasses import replace
from pathlib import Path

import pytest
from eastgate.mesh.endpoints import ClusterKey
from eastgate.mesh.errors import MeshError
from eastgate.mesh.locality import Group
from eastgate.mesh.mesh_file import load, parse
from eastgate.mesh.model import Mesh, Workload
from eastgate.mesh.node_view import NodeView
from eastgate.trial import outcomes, prediction
from eastgate.trial.alike import PartOfHosts, asked, asked_of_hosts, parts_of_hosts
from eastgate.trial.prediction import Moved, moved

ROOT = Path(__file__).parents[2]
FILES = sorted((*ROOT.glob("tests/data/mesh/cases/*-mesh.yaml"), *ROOT.glob("docs/examples/*.yaml")))


class EachForItself:
    """Tells every client from every other."""

    @staticmethod
    def answer(client: Workload) -> Hashable:
        labels = frozenset(client.labels.items())
        return client.identity, client.network, client.locality, client.node, labels


def one_by_one(old: Mesh, new: Mesh, monkeypatch: pytest.MonkeyPatch) -> tuple[Moved, ...]:
    """Everything of every client of both."""

    def each(meshes: tuple[Mesh, Mesh]) -> EachForItself:
        return EachForItself()

    def everything(old: Mesh, new: Mesh) -> None:
        return None

    def one_part(meshes: tuple[Mesh, Mesh], hosts: Set[str]) -> list[PartOfHosts]:
        return [PartOfHosts(EachForItself(), frozenset(hosts), frozenset(hosts))]

    with monkeypatch.context() as patch:
        patch.setattr(prediction, "asked", each)
        patch.setattr(prediction, "changed_hosts", everything)
        patch.setattr(prediction, "parts_of_hosts", one_part)
        return moved(old, new)


def changes_of(mesh: Mesh) -> Iterator[Mesh]:
    """The mesh without each of its rules, and with the pods of each service unready."""
    for resource in mesh.resources:
        yield mesh.without([resource.identity])
    for service in mesh.services:
        behind = {one.identity for one in mesh.behind(service)}
        yield mesh.changed(lambda one, behind=behind: replace(one, ready=one.identity not in behind))


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_files_of_others_are_predicted_as_one_by_one(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    try:
        mesh = load(file, resolve=lambda name: ["192.0.2.200"]).mesh
    except MeshError:
        pytest.skip("refused")
    for other in changes_of(mesh):
        assert moved(mesh, other) == one_by_one(mesh, other, monkeypatch)


HEAD, *RULES = (ROOT / "tests/data/mesh/told-apart.yaml").read_text().split("---\n")
OF_SERVICES = ["traffic_distribution: PreferClose", "export_to: [.]", "export_to: [away]", "node_local: true"]
MORE = "more.shop.svc.cluster.local"
OTHER = "  - {name: other-%s, namespace: shop, selector: {app: web}, ports: [{name: tcp, port: 80}]}\n"


def made(rules: Set[int], head: str = HEAD) -> Mesh:
    """A mesh with some of the rules."""
    return parse("---\n".join([head, *(RULES[at] for at in sorted(rules))]), "x").mesh


def of_services(draw: random.Random) -> str:
    """The mesh's own part, some of its services with something that tells clients apart."""
    lines = HEAD.splitlines(keepends=True)
    for at, line in enumerate(lines):
        if "selector:" in line and draw.random() < 0.5:
            lines[at] = line.replace("{name:", f"{{{draw.choice(OF_SERVICES)}, name:", 1)
    return "".join(lines)


# In the last two a Sidecar of the root namespace leaves a host only to whom a route leads there.
@pytest.mark.parametrize("seed", [*range(12), 101, 140])
def test_any_mesh_is_predicted_as_one_by_one(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    draw = random.Random(seed)
    rules = {at for at in range(len(RULES)) if draw.random() < 0.4}
    head = of_services(draw)
    changed = rules ^ {draw.randrange(len(RULES)) for _ in range(draw.choice([1, 1, 2]))}
    if seed % 3 == 0:
        head_after = head.replace(
            *draw.choice([("hash: x", "hash: y"), ("port: 81", "port: 82"), ("name: more", "name: new")])
        )
    else:
        head_after = head
    old, new = made(rules, head), made(changed, head_after)
    assert moved(old, new) == one_by_one(old, new, monkeypatch)


SIDECAR = """---
apiVersion: networking.istio.io/v1
kind: Sidecar
metadata: {name: default, namespace: istio-system}
spec: {egress: [{hosts: %s}]}
"""
EVERYTHING, OWN = '["*/*"]', '["./*"]'


def test_clients_are_told_apart_by_what_rules_ask() -> None:
    plain = made(set())
    names = {one.name: one for one in plain.workloads}
    one, elsewhere, other_zone = names["c-shop-0"], names["c-away-0"], names["c-shop-1"]
    nothing = asked((plain,))
    assert nothing.answer(one) == nothing.answer(elsewhere) != nothing.answer(other_zone)
    assert nothing.answer(one) == nothing.answer(replace(one, labels={"app": "z"}, node="n3", name="c"))
    selecting = asked((plain, made({0})))
    assert selecting.answer(one) != selecting.answer(replace(one, labels={"app": "z"}))
    for sidecar, apart in (
        (EVERYTHING, False),
        ('["shop/*", "~shop/more.shop.svc.cluster.local"]', False),
        (OWN, True),
    ):
        everywhere = asked((plain, parse(HEAD + SIDECAR % sidecar, "x").mesh))
        assert (everywhere.answer(one) != everywhere.answer(elsewhere)) == apart
    # A rule for another host asks nothing of who connects to this one.
    assert asked_of_hosts((plain, made({0}))).of([MORE]) == nothing


@pytest.mark.parametrize("rules", [{4}, {4, 6, 7}])
def test_work_grows_with_what_is_told_apart(rules: set[int], monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither with clients, nor with services that the change is not for."""
    made_clusters: list[str] = []
    real = outcomes.groups

    def counted(mesh: Mesh, node: NodeView, key: ClusterKey) -> tuple[Group, ...]:
        made_clusters.append(key.name)
        return real(mesh, node, key)

    def work(clients: int, services: int) -> int:
        made_clusters.clear()
        head = HEAD + "".join(OTHER % number for number in range(services))
        old, new = made(rules, head), made(rules | {1}, head)
        pods = [one for one in old.workloads if one.name.startswith("c-")]
        many = tuple(
            replace(one, name=f"{one.name}-{at}", address="", labels={**one.labels, "hash": f"{at}"})
            for one in pods
            for at in range(clients)
        )
        found = moved(*(replace(mesh, workloads=(*mesh.workloads, *many)) for mesh in (old, new)))
        assert found
        return len(made_clusters)

    monkeypatch.setattr(outcomes, "groups", counted)
    assert 0 < work(1, 1) == work(20, 1) == work(1, 20) == work(20, 20)


WORKLOAD = "      - {{name: web, namespace: t{0}, address: 10.1.0.{0}, labels: {{app: web}}}}\n"
SERVICE = "  - {{name: web, namespace: t{0}, selector: {{app: web}}, ports: [{{name: tcp, port: 80}}]}}\n"
RULE = """---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {{name: web, namespace: t{0}}}
spec: {{host: web, trafficPolicy: {{outlierDetection: {{}}}}}}
"""
FOR_EVERYBODY = """---
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: {name: default, namespace: istio-system}
spec: {mtls: {mode: DISABLE}}
"""


def test_a_change_for_everybody_is_work_for_each_kind_of_host_and_client(monkeypatch: pytest.MonkeyPatch) -> None:
    """Namespaces with rules for their own services tell clients apart for these alone."""
    asked_for: list[str] = []
    real = outcomes.groups

    def counted(mesh: Mesh, node: NodeView, key: ClusterKey) -> tuple[Group, ...]:
        asked_for.append(key.name)
        return real(mesh, node, key)

    def work(teams: int, more: str = "") -> int:
        asked_for.clear()
        parts = ["".join(part.format(team) for team in range(1, teams + 1)) for part in (WORKLOAD, SERVICE, RULE)]
        text = "kind: Mesh\nclusters:\n  a:\n    network: n\n    workloads:\n{}services:\n{}{}".format(*parts)
        old, new = parse(text + more, "x").mesh, parse(text + more + FOR_EVERYBODY, "x").mesh
        hosts = {one.host for one in old.services}
        assert len(parts_of_hosts((old, new), hosts)) == teams
        moved(old, new)
        return len(asked_for)

    monkeypatch.setattr(outcomes, "groups", counted)
    # Each host before and after, once for its own namespace and once for all others.
    assert (work(3), work(12)) == (3 * 2 * 2, 12 * 2 * 2)
    assert work(12, SIDECAR % EVERYTHING) == work(12)


def test_of_many_clients_that_are_alike_one_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prediction, "MOST_NAMED", 2)
    one = WORKLOAD.format(1)
    clients = "".join(one.replace("web", f"client-{at}").replace("1.0.1", f"1.0.{at + 1}") for at in range(4))
    text = f"kind: Mesh\nclusters:\n  a:\n    network: n\n    workloads:\n{clients}services:\n{SERVICE.format(1)}"
    old, new = parse(text, "x").mesh, parse(text.replace("port: 80", "port: 81"), "x").mesh
    assert {one.client for one in moved(old, new)} == {"a/t1/client-0 and 3 more"}
    assert {one.client for one in moved(old, new, ("a/client-1", "a/client-2"))} == {"a/t1/client-1", "a/t1/client-2"}
