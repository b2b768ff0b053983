"""How a pod chooses its sidecar: one image carries both proxies, an annotation says which one pilot-agent starts."""

import json
from typing import Any

BINARY = "/usr/local/bin/eastgate-envoy"
CONFIG = "proxy.istio.io/config"


def annotations(proxy: str, **config: Any) -> dict[str, str]:
    """Of a pod whose sidecar is this proxy; without a choice it is stock Envoy. ``config``: more of its ProxyConfig."""
    chosen = {"binaryPath": BINARY, **config} if proxy == "eastgate" else config
    return {CONFIG: json.dumps(chosen)} if chosen else {}
