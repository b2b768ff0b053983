"""Subsets of a cluster's endpoints by their metadata, as configured, and what routes ask for. Chooses nothing."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from .dns import canonical_host
from .message import read
from .resources import Criteria, Subsets, SubsetSelector

_ASSIGNMENT = "envoy.config.endpoint.v3.ClusterLoadAssignment"
_METADATA = "envoy.config.core.v3.Metadata"
# The namespace of filter_metadata that load balancing reads.
_NAMESPACE = "envoy.lb"

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
            values |= _lb(raw)
    return criteria_from(values)


def _lb(metadata: bytes) -> dict[str, Any]:
    found = read(_METADATA, metadata).get("filter_metadata", {}).get(_NAMESPACE, {})
    return dict(found)


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


def endpoint_metadata(assignment: bytes) -> dict[tuple[str, int], EndpointMetadata]:
    """What each endpoint says of itself to load balancing, by (address, port); a Unix socket by its path and 0."""
    found: dict[tuple[str, int], EndpointMetadata] = {}
    for locality in read(_ASSIGNMENT, assignment).get("endpoints", ()):
        for one in locality.get("lb_endpoints", ()):
            where = one.get("endpoint", {}).get("address", {})
            place = where.get("socket_address", {})
            host = place.get("address") or where.get("pipe", {}).get("path", "")
            key = (canonical_host(host), place.get("port_value", 0))
            # Of equal addresses the first one is the endpoint.
            found.setdefault(key, _lb(one["metadata"]) if "metadata" in one else {})
    return found


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
