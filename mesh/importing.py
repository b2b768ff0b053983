"""Running clusters as a mesh file: what kubectl says of them, written as sections and Istio resources.

Pure but for `collect`, which asks by kubectl. Secrets are never asked for.
"""

import json
import re
import subprocess
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import yaml
from pydantic import ValidationError

from .authorization import DRY_RUN
from .documents import Document
from .errors import MeshError
from .findings import Findings
from .gather import Found, Gathered, Place, gather
from .istio import MeshConfig
from .kubernetes import KINDS, group_of
from .mesh_schema import Section
from .model import TLS_MODE_LABEL
from .part import TRUE
from .placed import CLUSTERS_ANNOTATION
from .service_entry import HEALTH_CHECKS, conditions_of
from .specs import GROUPS, SPECS

ROOT = "istio-system"
KUBECTL_S = 120.0
ASKED = (
    "namespaces", "nodes", "services", "endpointslices.discovery.k8s.io", "pods",
    "gateways.gateway.networking.k8s.io",
    "destinationrules.networking.istio.io", "virtualservices.networking.istio.io", "gateways.networking.istio.io",
    "peerauthentications.security.istio.io", "authorizationpolicies.security.istio.io",
    "serviceentries.networking.istio.io", "sidecars.networking.istio.io",
    "envoyfilters.networking.istio.io", "workloadentries.networking.istio.io",
)  # fmt: skip
"""What kubectl is asked for."""

DROPPED_LABELS = re.compile(
    r"pod-template-hash|controller-revision-hash|statefulset\.kubernetes\.io/|apps\.kubernetes\.io/"
)
UNHEALTHY_SENT_SINCE = (1, 31)
# Of what proxies are started with, istiod's own variable tells all that is read.
READ_CONFIG = frozenset(one.alias for one in MeshConfig.model_fields.values()) - {"defaultConfig"}
Object = dict[str, Any]
Kubectl = Callable[[Sequence[str]], str]
"""Runs kubectl with these words. Returns its standard output. Raises MeshError with what it said."""


@dataclass(frozen=True, slots=True)
class ClusterObjects:
    """What one cluster holds. ``mesh_config`` and ``mesh_networks``: of istiod's ConfigMap. ``options``: of istiod."""

    name: str
    objects: list[Object]
    mesh_config: Object = field(default_factory=dict)
    mesh_networks: Object = field(default_factory=dict)
    options: Object = field(default_factory=dict)


def collect(kubectl: Kubectl, name: str) -> ClusterObjects:
    """Ask one cluster. ``name`` empty: the name that its istiod has. Raises MeshError."""
    objects: list[Object] = []
    for kind in ASKED:
        try:
            objects += json.loads(kubectl(("get", kind, "--all-namespaces", "-o", "json")))["items"]
        except MeshError as error:
            # A cluster without this kind of objects has none of them.
            if "the server doesn't have a resource type" not in error.cause:
                raise
    config = _one(kubectl, "configmap", "istio")
    istiod = _one(kubectl, "deployment", "istiod")
    environment = {
        str(entry.get("name")): str(entry.get("value", ""))
        for container in (istiod.get("spec", {}).get("template", {}).get("spec", {}).get("containers") or ())
        for entry in container.get("env") or ()
    }
    data = config.get("data") or {}
    return ClusterObjects(
        name=name or environment.get("CLUSTER_ID") or "Kubernetes",
        objects=objects,
        mesh_config=yaml.safe_load(data.get("mesh") or "") or {},
        mesh_networks=(yaml.safe_load(data.get("meshNetworks") or "") or {}).get("networks") or {},
        options=_options(environment, istiod),
    )


def run_kubectl(program: str, context: str) -> Kubectl:
    """The user's own kubectl with a context. The function raises MeshError with what it said last."""

    def run(words: Sequence[str]) -> str:
        command = [program, "--context", context, *words]
        try:
            done = subprocess.run(command, check=False, text=True, capture_output=True, timeout=KUBECTL_S)
        except FileNotFoundError:
            raise MeshError(program, 0, "not found on PATH (clusters are read through your own kubectl)") from None
        except OSError as error:
            raise MeshError(program, 0, f"{error.strerror} (clusters are read through your own kubectl)") from None
        except subprocess.TimeoutExpired:
            raise MeshError(f"{program} --context {context}", 0, f"no answer within {KUBECTL_S:.0f} s") from None
        if done.returncode:
            raise MeshError(f"{program} --context {context}", 0, done.stderr.strip() or f"exit code {done.returncode}")
        return done.stdout

    return run


def _one(kubectl: Kubectl, kind: str, name: str) -> Object:
    found = kubectl(("get", kind, name, "--namespace", ROOT, "--ignore-not-found", "-o", "json")).strip()
    content = json.loads(found) if found else {}
    return content if isinstance(content, dict) else {}


def _options(environment: Mapping[str, str], istiod: Object) -> Object:
    """Options that differ from the newest istiod's defaults."""
    found: Object = {}
    if environment.get("PILOT_ENABLE_METADATA_EXCHANGE") == "false":
        found["metadata_exchange"] = False
    if environment.get("PILOT_DISABLE_MX_ALPN") == "true":
        found["metadata_exchange_alpn"] = False
    if environment.get("RESOLVE_HOSTNAME_GATEWAYS") == "false":
        found["resolve_hostname_gateways"] = False
    if environment.get("ISTIO_DUAL_STACK") in TRUE:
        found["istio_dual_stack"] = True
    shown = environment.get("PILOT_AUTO_SEND_UNHEALTHY_ENDPOINTS")
    if shown == "false" or (shown is None and _is_older(istiod)):
        found["send_unhealthy_endpoints"] = False
    return found


def _is_older(istiod: Object) -> bool:
    containers = istiod.get("spec", {}).get("template", {}).get("spec", {}).get("containers") or ()
    for container in containers:
        matched = re.search(r":(\d+)\.(\d+)\.", str(container.get("image", "")))
        if matched:
            return (int(matched[1]), int(matched[2])) < UNHEALTHY_SENT_SINCE
    return False


def mesh_text(clusters: Sequence[ClusterObjects]) -> tuple[str, tuple[str, ...]]:
    """The mesh file of these clusters, and findings: what it does not say. Raises MeshError."""
    findings = Findings()
    found: list[Found] = []
    for cluster in clusters:
        for content in cluster.objects:
            model = KINDS.get((group_of(content.get("apiVersion")), str(content.get("kind"))))
            if model is not None:
                place = Place(Document(cluster.name, content, {}), ())
                try:
                    found.append(Found(place, frozenset((cluster.name,)), model.model_validate(content)))
                except ValidationError as error:
                    first = error.errors(include_url=False)[0]
                    where = ".".join(map(str, first["loc"]))
                    name = (content.get("metadata") or {}).get("name")
                    raise MeshError(cluster.name, 0, f"{content['kind']} {name}: {where}: {first['msg']}") from None
    root = str(clusters[0].mesh_config.get("rootNamespace") or ROOT)
    gathered = gather(found, root, findings.note)
    for _, place, cause in gathered.dead_ends:
        findings.note(place, cause)
    document = _document(clusters, gathered)
    resources = _resources(clusters)
    text = yaml.safe_dump_all([document, *resources], sort_keys=False, width=118, default_flow_style=None)
    return text, findings.lines()


def _document(clusters: Sequence[ClusterObjects], gathered: Gathered) -> Object:
    options: Object = {}
    config: Object = {}
    networks: Object = {}
    for cluster in reversed(clusters):
        options.update(cluster.options)
        config.update({key: value for key, value in cluster.mesh_config.items() if key in READ_CONFIG})
        networks.update(cluster.mesh_networks)
    names = [cluster.name for cluster in clusters]
    made: Object = {"kind": "Mesh"}
    made.update({"options": options} if options else {})
    made.update({"meshConfig": config} if config else {})
    made.update({"meshNetworks": {"networks": networks}} if networks else {})
    made["clusters"] = {name: _cluster(name, gathered) for name in names}
    made["services"] = [
        {**_plain(section), **({} if set(section.clusters) != set(names) else {"clusters": []})}
        for section, _, _ in gathered.services
    ]
    for service in made["services"]:
        if not service.get("clusters"):
            service.pop("clusters", None)
    return made


def _cluster(name: str, gathered: Gathered) -> Object:
    network = gathered.networks.get(name, "")
    ways = [
        {**_plain(way), **({"network": other} if other != network else {})}
        for way, other, _ in gathered.gateways.get(name, ())
    ]
    workloads = []
    for cluster, section, _ in gathered.workloads:
        if cluster == name:
            plain = _plain(section)
            labels = {key: value for key, value in section.labels.items() if not DROPPED_LABELS.match(key)}
            # What `mtls` says already.
            if section.mtls:
                labels.pop(TLS_MODE_LABEL, None)
            workloads.append({**plain, **({"labels": labels} if labels else {})})
            if not labels:
                workloads[-1].pop("labels", None)
    addresses = {
        f"{section.name}.{section.namespace}": mine[name] if len(mine[name]) > 1 else mine[name][0]
        for section, mine, _ in gathered.services
        if mine.get(name)
    }
    made: Object = {"network": network} if network else {}
    made.update({"gateways": ways} if ways else {})
    made["nodes"] = {node: _plain(one) for node, one in gathered.nodes.get(name, {}).items()}
    for work in workloads:
        # A pod may outlive its node.
        made["nodes"].update({work["node"]: {}} if work.get("node") and work["node"] not in made["nodes"] else {})
    made.update({"addresses": addresses} if addresses else {})
    made["workloads"] = workloads
    return made


def _plain(section: Section) -> Object:
    return section.model_dump(by_alias=True, exclude_defaults=True)


def _resources(clusters: Sequence[ClusterObjects]) -> Iterable[Object]:
    """Istio's resources; one that is alike in all clusters, and as old beside its neighbours, is written once."""
    ordered: dict[str, dict[tuple[str, str], list[str]]] = {}
    everything: dict[tuple[str, str, str], dict[str, Object]] = {}
    for cluster in clusters:
        mine = [one for one in cluster.objects if group_of(one.get("apiVersion")) in set(GROUPS.values())]
        mine.sort(key=lambda one: (str(one["metadata"].get("creationTimestamp", "")), one["metadata"]["name"]))
        for one in mine:
            meta = one["metadata"]
            key = (one["kind"], meta.get("namespace", "default"), meta["name"])
            everything.setdefault(key, {})[cluster.name] = one
            ordered.setdefault(cluster.name, {}).setdefault(key[:2], []).append(key[2])
    for key, by_cluster in everything.items():
        alike: list[tuple[Object, list[str]]] = []
        for name, one in by_cluster.items():
            same = next(
                (
                    entry
                    for entry in alike
                    if _said(entry[0]) == _said(one) and _same_order(ordered, key, entry[1][0], name)
                ),
                None,
            )
            if same:
                same[1].append(name)
            else:
                alike.append((one, [name]))
        for one, names in alike:
            yield _written(one, names if len(names) < len(clusters) else [])


def _said(one: Object) -> tuple[object, ...]:
    labels = one["metadata"].get("labels") if one["kind"] == "WorkloadEntry" else None
    return one.get("spec"), labels, _annotations(one), _health(one)


def _annotations(one: Object) -> dict[str, str]:
    """What is read of them: whether a policy is tried only, and whether the health of a machine counts."""
    given = one["metadata"].get("annotations") or {}
    return {name: str(given[name]) for name in (DRY_RUN, HEALTH_CHECKS) if given.get(name)}


def _health(one: Object) -> list[Object]:
    """What the status of a WorkloadEntry says of its health, without times."""
    found = conditions_of(one.get("status")) if one["kind"] == "WorkloadEntry" else []
    return [{name: each[name] for name in ("type", "status") if name in each} for each in found]


def _same_order(
    ordered: Mapping[str, Mapping[tuple[str, str], list[str]]], key: tuple[str, str, str], one: str, other: str
) -> bool:
    first, second = ordered[one][key[:2]], ordered[other][key[:2]]
    common = set(first) & set(second)
    return [name for name in first if name in common] == [name for name in second if name in common]


def _written(one: Object, names: list[str]) -> Object:
    meta = one["metadata"]
    kept: Object = {"name": meta["name"], "namespace": meta.get("namespace", "default")}
    if meta.get("creationTimestamp"):
        kept["creationTimestamp"] = meta["creationTimestamp"]
    if one["kind"] == "WorkloadEntry" and meta.get("labels"):
        kept["labels"] = meta["labels"]
    if annotations := _annotations(one):
        kept["annotations"] = annotations
    if names:
        kept.setdefault("annotations", {})[CLUSTERS_ANNOTATION] = ",".join(names)
    spec = one.get("spec") if one["kind"] in SPECS else {}
    written = {"apiVersion": one["apiVersion"], "kind": one["kind"], "metadata": kept, "spec": spec or {}}
    health = _health(one)
    return {**written, "status": {"conditions": health}} if health else written
