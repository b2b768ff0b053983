"""Labels of Istio's TCP metrics, as istio.stats of Istio's Envoy makes them. Pure.

Worked example: a sidecar with workload `shop` in namespace `a` sends to an endpoint whose metadata `istio.workload` is
`store;b;store;v2;gke`, in a cluster whose metadata `istio.services` names the service `store` of `b`. Reporter is
`source`; the source is known from our node, the destination workload from the endpoint, its service from the cluster,
and the principals from the certificates of both sides where they speak TLS. What nobody says is `unknown`, a canonical
revision `latest`.
"""

from collections.abc import Mapping
from functools import lru_cache
from typing import Any, NamedTuple

from eastgate.xds.errors import XdsError
from eastgate.xds.message import read
from eastgate.xds.record import record
from eastgate.xds.resources import Cluster

UNKNOWN = "unknown"
LATEST = "latest"
# Whoever scrapes asks for the same ones again.
SERIES_CACHED = 16384
# Clusters that stand for no service: they are named as they are.
NAMELESS = (
    "BlackHoleCluster",
    "PassthroughCluster",
    "InboundPassthroughCluster",
    "InboundPassthroughClusterIpv4",
    "InboundPassthroughClusterIpv6",
)
NAMES = (
    "reporter",
    "source_workload",
    "source_canonical_service",
    "source_canonical_revision",
    "source_workload_namespace",
    "source_principal",
    "source_app",
    "source_version",
    "source_cluster",
    "destination_workload",
    "destination_workload_namespace",
    "destination_principal",
    "destination_app",
    "destination_version",
    "destination_service",
    "destination_canonical_service",
    "destination_canonical_revision",
    "destination_service_name",
    "destination_service_namespace",
    "destination_cluster",
    "request_protocol",
    "response_flags",
    "connection_security_policy",
)
Labels = tuple[tuple[str, str], ...]


class Workload(NamedTuple):
    """One side of a connection; empty: nobody says."""

    name: str = ""
    namespace: str = ""
    canonical_service: str = ""
    canonical_revision: str = ""
    cluster: str = ""
    app: str = ""
    version: str = ""

    def labels(self, side: str) -> dict[str, str]:
        return {
            f"{side}_workload": self.name or UNKNOWN,
            f"{side}_workload_namespace": self.namespace or UNKNOWN,
            f"{side}_canonical_service": self.canonical_service or UNKNOWN,
            f"{side}_canonical_revision": self.canonical_revision or LATEST,
            f"{side}_cluster": self.cluster or UNKNOWN,
            f"{side}_app": self.app or UNKNOWN,
            f"{side}_version": self.version or UNKNOWN,
        }


class Service(NamedTuple):
    """Where connections of a cluster go; empty: nobody says."""

    host: str = ""
    name: str = ""
    namespace: str = ""


def own_workload(metadata: Mapping[str, Any]) -> Workload:
    """Ourselves, by the metadata of our node."""
    labels = metadata.get("LABELS") or {}
    own = metadata.get("WORKLOAD_NAME", "")
    return Workload(
        own,
        metadata.get("NAMESPACE", ""),
        labels.get("service.istio.io/canonical-name")
        or labels.get("app.kubernetes.io/name")
        or labels.get("app")
        or own,
        labels.get("service.istio.io/canonical-revision")
        or labels.get("app.kubernetes.io/version")
        or labels.get("version", ""),
        metadata.get("CLUSTER_ID", ""),
        labels.get("app.kubernetes.io/name") or labels.get("app", ""),
        labels.get("app.kubernetes.io/version") or labels.get("version", ""),
    )


def filter_metadata(metadata: bytes) -> Mapping[str, Any]:
    """What a Metadata says under `istio`; nothing for bytes that are none."""
    try:
        said = read("envoy.config.core.v3.Metadata", metadata).get("filter_metadata", {}).get("istio", {})
    except XdsError:
        return {}
    return said if isinstance(said, Mapping) else {}


def endpoint_workload(lb_endpoint: Mapping[str, Any]) -> Workload:
    """The workload of an endpoint, by its metadata: workload;namespace;canonical service;revision;cluster."""
    said = filter_metadata(lb_endpoint["metadata"]).get("workload") if "metadata" in lb_endpoint else None
    return Workload(*said.split(";")[:5]) if isinstance(said, str) else Workload()


def cluster_service(cluster: Cluster) -> Service:
    """The service of a cluster, by its metadata."""
    if cluster.name in NAMELESS:
        return Service(name=cluster.name)
    try:
        metadata = read("envoy.config.cluster.v3.Cluster", cluster.raw).get("metadata")
    except XdsError:
        return Service()
    services = filter_metadata(metadata).get("services") if isinstance(metadata, bytes) else None
    first = services[0] if isinstance(services, list) and services else None
    if not isinstance(first, Mapping):
        return Service()
    return Service(*(str(first.get(field, "")) for field in ("host", "name", "namespace")))


def namespace_of(principal: str) -> str:
    """The namespace that a SPIFFE name stands in; empty where it says none."""
    parts = principal.removeprefix("spiffe://").split("/")
    return parts[parts.index("ns") + 1] if "ns" in parts[:-1] else ""


@record
class Local:
    """This side of all connections. ``principal``: of its certificate; empty without one."""

    workload: Workload
    principal: str = ""


@lru_cache(maxsize=SERIES_CACHED)
def source_labels(local: Local, peer: Workload, principal: str, service: Service, flags: str) -> Labels:
    """Of connections that we send. ``principal``: of the endpoint, empty where it was spoken to in plain text."""
    peer = peer._replace(namespace=namespace_of(principal) or peer.namespace)
    return _labels(
        {
            "reporter": "source",
            **local.workload.labels("source"),
            "source_principal": local.principal if principal and local.principal else UNKNOWN,
            **peer.labels("destination"),
            "destination_principal": principal or UNKNOWN,
            "destination_service": service.host or UNKNOWN,
            "destination_service_name": service.name or UNKNOWN,
            "destination_service_namespace": service.namespace or peer.namespace or UNKNOWN,
            "response_flags": flags,
            "connection_security_policy": UNKNOWN,
        }
    )


@lru_cache(maxsize=SERIES_CACHED)
def destination_labels(local: Local, principal: str, service: Service, flags: str) -> Labels:
    """Of connections that we are sent. ``principal``: of the client, empty where it showed none."""
    own = local.workload
    return _labels(
        {
            "reporter": "destination",
            **Workload(namespace=namespace_of(principal)).labels("source"),
            "source_principal": principal or UNKNOWN,
            **own.labels("destination"),
            "destination_principal": local.principal if principal and local.principal else UNKNOWN,
            "destination_service": service.host or UNKNOWN,
            "destination_service_name": service.name or own.canonical_service or UNKNOWN,
            "destination_service_namespace": service.namespace or own.namespace or UNKNOWN,
            "response_flags": flags,
            "connection_security_policy": "mutual_tls" if principal and local.principal else "none",
        }
    )


def too_many() -> Labels:
    """Of the one series that stands for those beyond the limit."""
    return tuple((name, "tcp" if name == "request_protocol" else "too_many_series") for name in NAMES)


def _labels(said: Mapping[str, str]) -> Labels:
    return tuple((name, "tcp" if name == "request_protocol" else said[name]) for name in NAMES)
