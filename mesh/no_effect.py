"""Kinds of objects that people have beside those that are read, and what leaving them out means."""

APPLIED_BY_PROXIES = "checked by proxies when connections arrive: not part of what is predicted"
WITHOUT_EFFECT = "without effect on where TCP connections go"

KINDS: dict[tuple[str, str], str] = {
    ("networking.istio.io", "EnvoyFilter"): "its patches are not applied: what they change is not predicted",
    ("networking.istio.io", "WorkloadEntry"): "not applied: its endpoint is not known",
    ("networking.istio.io", "WorkloadGroup"): WITHOUT_EFFECT,
    ("networking.istio.io", "ProxyConfig"): WITHOUT_EFFECT,
    ("security.istio.io", "RequestAuthentication"): APPLIED_BY_PROXIES,
    ("telemetry.istio.io", "Telemetry"): WITHOUT_EFFECT,
    ("extensions.istio.io", "WasmPlugin"): WITHOUT_EFFECT,
    ("install.istio.io", "IstioOperator"): "not read: give its meshConfig to the Mesh document",
    ("gateway.networking.k8s.io", "HTTPRoute"): WITHOUT_EFFECT,
    ("gateway.networking.k8s.io", "GRPCRoute"): WITHOUT_EFFECT,
    ("gateway.networking.k8s.io", "TCPRoute"): "not applied: connections that it moves are predicted without it",
    ("gateway.networking.k8s.io", "TLSRoute"): "not applied: connections that it moves are predicted without it",
}

UNKNOWN = "not read here"


def meaning(group: str, kind: str) -> str:
    """What it means that objects of a kind are left out."""
    if (group, kind) in KINDS:
        return KINDS[group, kind]
    known = group in ("", "apps", "batch", "rbac.authorization.k8s.io", "policy", "autoscaling", "storage.k8s.io")
    return WITHOUT_EFFECT if known else UNKNOWN
