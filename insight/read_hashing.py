"""Settings of RING_HASH and MAGLEV, and keys of endpoints, from dumps. Envoy's defaults where a dump says nothing."""

from collections.abc import Callable, Mapping
from typing import Any

from eastgate.xds.hashing import hash_key
from eastgate.xds.resources import Hashing

HASHING = ("RING_HASH", "MAGLEV")
Get = Callable[..., Any]
"""get(message, name, default) of read_dump"""


def read_hashing(policy: str, own: Mapping[str, Any], common: Mapping[str, Any], get: Get) -> Hashing | None:
    """From the policy's own message and the one that may hold consistent_hashing_lb_config; None for other policies."""
    if policy not in HASHING:
        return None
    shared = get(common, "consistent_hashing_lb_config", own)
    function = str(get(own, "hash_function", "XX_HASH"))
    return Hashing(
        hash_function="XX_HASH" if function == "DEFAULT_HASH" else function,
        minimum_ring_size=whole(get(own, "minimum_ring_size"), 1024),
        maximum_ring_size=whole(get(own, "maximum_ring_size"), 8388608),
        table_size=whole(get(own, "table_size"), 65537),
        balance_factor=whole(get(shared, "hash_balance_factor"), 0),
        use_hostname=bool(get(shared, "use_hostname_for_hashing", False)),
    )


def whole(value: Any, default: int) -> int:
    """A number as JSON has it: large ones as text, wrapped ones perhaps as a message."""
    if isinstance(value, Mapping):
        value = value.get("value", 0)
    return default if value is None else int(value)


def endpoint_key(one: Mapping[str, Any], get: Get, *, use_hostname: bool) -> str:
    """What stands for an LbEndpoint; empty for its address."""
    fields = get(one.get("metadata") or {}, "filter_metadata", {})
    hostname = str(get(one.get("endpoint", {}), "hostname", ""))
    return hash_key(fields.get("envoy.lb", {}).get("hash_key"), hostname, use_hostname=use_hostname)
