"""What dumps show of a bootstrap file: all of it, without keys, and its static resources one by one."""

import base64
from collections.abc import Iterator, Mapping
from typing import Any

from .bootstrap_file import field_name
from .sensitive import ALL

TYPE = "type.googleapis.com/"
CLUSTER = f"{TYPE}envoy.config.cluster.v3.Cluster"
LISTENER = f"{TYPE}envoy.config.listener.v3.Listener"
ROUTES = f"{TYPE}envoy.config.route.v3.RouteConfiguration"
REDACTED = "[redacted]"
# By their names alone: what is shown as redacted without need is no harm. An Any is looked into instead.
SECRET_FIELDS = frozenset().union(*ALL.values()) - {"typed_config"}
# Forms of a DataSource that say where a value is, not what it is.
PLACES = frozenset({"filename", "environment_variable", "watched_directory"})
PROVIDER = "private_key_provider"


def shown(document: Mapping[str, Any]) -> dict[str, Any]:
    """All but the values of fields that hold keys, passwords and tokens. The node's metadata is shown as it is."""
    return {key: value if key == "node" else _shown(value) for key, value in document.items()}


def _shown(value: Any) -> Any:
    if isinstance(value, list):
        return [_shown(item) for item in value]
    if not isinstance(value, dict):
        return value
    return {key: _shown_field(field_name(key), item) for key, item in value.items()}


def _shown_field(field: str, value: Any) -> Any:
    if field == PROVIDER and isinstance(value, dict):
        # What it is told is whatever the provider wants, its key for one.
        return {key: item for key, item in value.items() if field_name(key) != "typed_config"}
    return _redacted(value) if field in SECRET_FIELDS else _shown(value)


def _redacted(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: item if field_name(key) in PLACES else _hidden(field_name(key)) for key, item in value.items()}
    return [_redacted(item) for item in value] if isinstance(value, list) else REDACTED


def _hidden(field: str) -> str:
    # Text that is no base64 would spoil the whole dump for who parses it.
    return base64.b64encode(REDACTED.encode()).decode() if field == "inline_bytes" else REDACTED


def static_clusters(document: Mapping[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """(name, Cluster as JSON with its type) of each."""
    yield from _typed(document, "clusters", CLUSTER)


def static_listeners(document: Mapping[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """(name, Listener as JSON with its type) of each."""
    yield from _typed(document, "listeners", LISTENER)


def static_routes(document: Mapping[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """(name, RouteConfiguration as JSON with its type) of each listener that has routes in it."""
    for _, listener in static_listeners(document):
        for chain in _items(listener, "filter_chains"):
            for one in _items(chain, "filters"):
                routes = _get(_get(one, "typed_config", {}), "route_config", None)
                if isinstance(routes, dict):
                    yield str(routes.get("name", "")), {"@type": ROUTES, **routes}


def _typed(document: Mapping[str, Any], name: str, kind: str) -> Iterator[tuple[str, dict[str, Any]]]:
    for one in _items(_get(document, "static_resources", {}), name):
        yield str(one.get("name", "")), {"@type": kind, **_shown(one)}


def _get(parent: Any, name: str, default: Any) -> Any:
    if not isinstance(parent, dict):
        return default
    return next((value for key, value in parent.items() if field_name(key) == name and value is not None), default)


def _items(parent: Any, name: str) -> list[dict[str, Any]]:
    found = _get(parent, name, [])
    return [one for one in found if isinstance(one, dict)] if isinstance(found, list) else []
