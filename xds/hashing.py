"""Settings of RING_HASH and MAGLEV, and what stands for an endpoint there. Raises ValueError in words."""

from collections.abc import Mapping
from typing import Any

from .columns import EndpointKey
from .endpoint_messages import endpoint_messages, load_balancing_metadata
from .fields import number
from .resources import Hashing

_HASH_KEY = "hash_key"
LARGEST_RING = 8388608
LARGEST_TABLE = 5000011


def check_hashing(kind: str, common_lb: Mapping[str, Any]) -> None:
    """Refuse what Envoy refuses in common_lb_config of a cluster of this type, whatever its policy."""
    consistent = common_lb.get("consistent_hashing_lb_config", {})
    number(consistent, "hash_balance_factor", 0, low=100)
    if consistent.get("use_hostname_for_hashing") and kind != "STRICT_DNS":
        raise ValueError(f"use_hostname_for_hashing of common_lb_config is for STRICT_DNS only, not for type {kind}")


def decode_hashing(
    policy: str, config: Mapping[str, Any], common: Mapping[str, Any], warnings: list[str]
) -> Hashing | None:
    """Settings of the policy's own message, and of consistent_hashing_lb_config, which stands in `common`.

    None for a policy that does not hash. As in Envoy, settings of the second kind that a RingHash extension has by
    itself count only without the other message.
    """
    if policy not in ("RING_HASH", "MAGLEV"):
        return None
    shared = common.get("consistent_hashing_lb_config", config)
    if "hash_policy" in shared:
        warnings.append("consistent_hashing_lb_config.hash_policy: only tcp_proxy.hash_policy gives connections a hash")
    minimum = number(config, "minimum_ring_size", 1024, high=LARGEST_RING)
    maximum = number(config, "maximum_ring_size", LARGEST_RING, high=LARGEST_RING)
    if minimum > maximum:
        raise ValueError(f"ring hash: minimum_ring_size ({minimum}) > maximum_ring_size ({maximum})")
    size = number(config, "table_size", 65537, low=2, high=LARGEST_TABLE)
    if not is_prime(size):
        raise ValueError(f"The table size of maglev must be prime number: table_size is {size}")
    function = str(config.get("hash_function", "XX_HASH"))
    if function not in ("DEFAULT_HASH", "XX_HASH", "MURMUR_HASH_2"):
        raise ValueError(f"hash_function {function} is not known")
    return Hashing(
        hash_function="XX_HASH" if function == "DEFAULT_HASH" else function,
        minimum_ring_size=minimum,
        maximum_ring_size=maximum,
        table_size=size,
        balance_factor=number(shared, "hash_balance_factor", 0, low=100),
        use_hostname=bool(shared.get("use_hostname_for_hashing", False)),
    )


def is_prime(value: int) -> bool:
    return value > 1 and all(value % divisor for divisor in range(2, int(value**0.5) + 1))


def hash_key(metadata_value: object, hostname: str, *, use_hostname: bool) -> str:
    """What stands for an endpoint; empty for its address. Only a text of the metadata counts."""
    if isinstance(metadata_value, str) and metadata_value:
        return metadata_value
    return hostname if use_hostname else ""


def endpoint_hash_keys(assignment: bytes, *, use_hostname: bool) -> dict[EndpointKey, bytes]:
    """What is hashed for endpoints instead of their addresses. Raises ValueError for what cannot be read."""
    # Reading all endpoints again costs more than building their table: most say nothing of the kind.
    if not use_hostname and _HASH_KEY.encode() not in assignment:
        return {}
    found: dict[EndpointKey, bytes] = {}
    for key, one in endpoint_messages(assignment).items():
        said, hostname = load_balancing_metadata(one).get(_HASH_KEY), one.get("endpoint", {}).get("hostname", "")
        text = hash_key(said, hostname, use_hostname=use_hostname)
        if text:
            found[key] = text.encode()
    return found
