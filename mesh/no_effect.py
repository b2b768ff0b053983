"""Kinds of objects that people have beside those that are read, and what leaving them out means."""

from collections.abc import Mapping
from typing import Any

APPLIED_BY_PROXIES = "checked by proxies when connections arrive: not part of what is predicted"
WITHOUT_EFFECT = "without effect on where TCP connections go"
UNMOVED = "not applied: connections that it moves are predicted without it"
PODS_ALONE = "its pods are taken from the Pods of the files alone"

KINDS: dict[tuple[str, str], str] = {
    ("networking.istio.io", "EnvoyFilter"): "its patches are not applied: what they change is not predicted",
    ("networking.istio.io", "WorkloadGroup"): WITHOUT_EFFECT,
    ("networking.istio.io", "ProxyConfig"): WITHOUT_EFFECT,
    ("security.istio.io", "RequestAuthentication"): APPLIED_BY_PROXIES,
    ("telemetry.istio.io", "Telemetry"): WITHOUT_EFFECT,
    ("extensions.istio.io", "WasmPlugin"): WITHOUT_EFFECT,
    ("install.istio.io", "IstioOperator"): "not read: give its meshConfig to the Mesh document",
    ("apps", "ReplicaSet"): PODS_ALONE,
    ("argoproj.io", "Rollout"): PODS_ALONE,
    ("batch", "CronJob"): PODS_ALONE,
    ("batch", "Job"): PODS_ALONE,
    ("", "ReplicationController"): PODS_ALONE,
    **{("gateway.networking.k8s.io", f"{kind}Route"): UNMOVED for kind in ("HTTP", "GRPC", "TCP", "TLS")},
}

UNKNOWN = "not read here"


# What istiod's own ConfigMap has, under whatever name a revision gives it.
_OF_ISTIOD = {"mesh", "meshNetworks"}
TO_THE_MESH = "not read: give its mesh to the Mesh document as meshConfig, and its meshNetworks as such"


def meaning(group: str, kind: str, content: Mapping[str, Any]) -> str:
    """What it means that an object of a kind is left out."""
    held = content.get("data")
    if (group, kind) == ("", "ConfigMap") and isinstance(held, dict) and not _OF_ISTIOD.isdisjoint(held):
        return TO_THE_MESH
    if (group, kind) in KINDS:
        return KINDS[group, kind]
    known = group in ("", "apps", "batch", "rbac.authorization.k8s.io", "policy", "autoscaling", "storage.k8s.io")
    return WITHOUT_EFFECT if known else UNKNOWN
