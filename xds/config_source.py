"""Where a resource that another one names is to be asked for."""

from collections.abc import Mapping
from typing import Any

from .fields import seconds

ADS = "ads"
"""The ADS stream itself"""
FETCH_TIMEOUT_S = 15.0
"""Envoy's default of initial_fetch_timeout"""


def fetch_timeout_s(config: Mapping[str, Any] | None) -> float:
    """How long a first answer is waited for; 0: as long as it takes. Raises ValueError."""
    return seconds(config or {}, "initial_fetch_timeout", FETCH_TIMEOUT_S)


def source_of(config: Mapping[str, Any] | None) -> str:
    """ADS; "cluster:NAME", a cluster of the bootstrap that serves it; or what eastgate does not ask: "static" (the
    bootstrap), "path" (a file), "other". `config` is a ConfigSource as message.read answers it.
    """
    if config is None:
        return "static"
    if "ads" in config:
        return ADS
    if "api_config_source" in config:
        services = config["api_config_source"].get("grpc_services", ())
        name = services[0].get("envoy_grpc", {}).get("cluster_name", "") if services else ""
        return f"cluster:{name}" if name else "other"
    return "path" if "path" in config or "path_config_source" in config else "other"
