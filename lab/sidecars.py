"""How a pod chooses its sidecar: one image carries both proxies, an annotation says which one pilot-agent starts."""

import json

BINARY = "/usr/local/bin/eastgate-envoy"
CONFIG = "proxy.istio.io/config"


def annotations(proxy: str) -> dict[str, str]:
    """Of a pod whose sidecar is this proxy. Without any it is stock Envoy."""
    return {CONFIG: json.dumps({"binaryPath": BINARY})} if proxy == "eastgate" else {}
