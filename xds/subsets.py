"""Subsets of a cluster's endpoints by their metadata, as configured, and what routes ask for. Chooses nothing."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from .columns import EndpointKey
from .endpoint_messages import endpoint_messages, lb_values, load_balancing_metadata
from .resources import Criteria, Subsets, SubsetSelector

EndpointMetadata = Mapping[str, Any]


def canonical(value: Any) -> str:
    """A text that two values of a Struct share exactly when they are equal."""
    return json.dumps(value, sort_keys=True)


def criteria_from(values: Mapping[str, Any]) -> Criteria:
    """Criteria of a Struct, by key."""
    return tuple(sorted((key, canonical(value)) for key, value in values.items()))


def merged_criteria(parent: bytes | None, own: bytes | None) -> Criteria:
    """Criteria of a metadata_match, those of a weighted cluster's own before those of its tcp_proxy. Empty: none."""
    values: dict[str, Any] = {}
    for raw in (parent, own):
        if raw:
            values |= lb_values(raw)
    return criteria_from(values)


def decode_subsets(config: Mapping[str, Any] | None) -> Subsets | None:
    """Subsets of a cluster; None without a selector, as in Envoy. Raises ValueError for what is not supported."""
    if config is None or not config.get("subset_selectors"):
        return None
    if config.get("metadata_fallback_policy", "METADATA_NO_FALLBACK") != "METADATA_NO_FALLBACK":
        raise ValueError("lb_subset_config.metadata_fallback_policy: FALLBACK_LIST is not supported")
    return Subsets(
        selectors=tuple(_selector(one) for one in config["subset_selectors"]),
        fallback_policy=str(config.get("fallback_policy", "NO_FALLBACK")),
        default_subset=criteria_from(config.get("default_subset", {})),
        locality_weight_aware=config.get("locality_weight_aware", False),
        scale_locality_weight=config.get("scale_locality_weight", False),
        panic_mode_any=config.get("panic_mode_any", False),
        list_as_any=config.get("list_as_any", False),
    )


def _selector(config: Mapping[str, Any]) -> SubsetSelector:
    keys = tuple(sorted(set(config.get("keys", ()))))
    fallback = str(config.get("fallback_policy", "NOT_DEFINED"))
    fallback_keys = tuple(sorted(set(config.get("fallback_keys_subset", ()))))
    if not keys:
        raise ValueError("lb_subset_config: a selector has no keys")
    if config.get("single_host_per_subset"):
        raise ValueError("lb_subset_config: single_host_per_subset is not supported")
    if fallback == "KEYS_SUBSET" and not (fallback_keys and set(fallback_keys) < set(keys)):
        raise ValueError(f"lb_subset_config: fallback_keys_subset of {', '.join(keys)} is no part of these keys")
    return SubsetSelector(keys, fallback, fallback_keys)


def endpoint_metadata(assignment: bytes) -> dict[EndpointKey, EndpointMetadata]:
    """What each endpoint says of itself to load balancing. Raises ValueError for what cannot be read."""
    return {key: load_balancing_metadata(one) for key, one in endpoint_messages(assignment).items()}


def matches(criteria: Criteria, metadata: EndpointMetadata, *, list_as_any: bool) -> bool:
    """Whether an endpoint has all these values; with `list_as_any` a list has each of its elements."""
    for key, wanted in criteria:
        if key not in metadata:
            return False
        value = metadata[key]
        values: Sequence[Any] = value if list_as_any and isinstance(value, list) else (value,)
        if wanted not in map(canonical, values):
            return False
    return True
