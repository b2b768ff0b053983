"""What became of each resource, of a proxy that keeps no ledger: versions and refusals by Envoy's config_dump.

Pure. In the shape of eastgate's /debug/xds, without nonces and without a stream, which a dump does not know.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

from .dump_fields import get, text
from .errors import DumpError

# Section of the dump -> type, and where in an entry the resource itself is.
CLUSTERS = ("dynamic_active_clusters", "dynamic_warming_clusters")
RESOURCES = {
    **dict.fromkeys(CLUSTERS, ("CDS", "cluster", "name")),
    "dynamic_endpoint_configs": ("EDS", "endpoint_config", "cluster_name"),
    "dynamic_route_configs": ("RDS", "route_config", "name"),
    "dynamic_active_secrets": ("SDS", "secret", "name"),
    "dynamic_warming_secrets": ("SDS", "secret", "name"),
}
ORDER = ("CDS", "EDS", "LDS", "RDS", "SDS")


def ledger_of(document: Any, now: datetime, *, kind: str = "", state: str = "", name: str = "") -> dict[str, Any]:
    """A ledger of a config_dump with EDS; ``kind``, ``state``, ``name``: as the page's query, empty for all.

    Raises DumpError for what is no config_dump.
    """
    try:
        rows = [row for section in get(document, "configs", ()) for row in _rows(section, now)]
    except (AttributeError, TypeError) as error:
        raise DumpError(f"not a config_dump: {error}") from None
    rows.sort(key=lambda row: (ORDER.index(row["type"]), row["name"]))
    return {"resources": _chosen(rows, kind, state, name)}


def _chosen(rows: Iterable[dict[str, Any]], kind: str, state: str, name: str) -> list[dict[str, Any]]:
    return [
        row
        for row in rows
        if row["type"].startswith(kind.upper()) and row["state"].startswith(state.upper()) and name in row["name"]
    ]


def ledger_among(
    documents: Sequence[tuple[str, Any]], now: datetime, *, kind: str = "", state: str = "", name: str = ""
) -> tuple[str, dict[str, Any]]:
    """The ledger of one proxy's dumps, and where it stands: its own /debug/xds, else what its config_dump says.

    ``documents``: each with its source; the rest as for ledger_of. Raises DumpError where there is none, or several.
    """
    own = [(source, one) for source, one in documents if isinstance(one, dict) and "stream" in one]
    found = own or [(source, one) for source, one in documents if isinstance(one, dict) and "configs" in one]
    if len(found) != 1:
        told = " and ".join(source for source, _ in found or documents)
        raise DumpError(
            f"{told}: a ledger each: name the dump of one proxy" if found else f"{told}: no config_dump and no ledger"
        )
    ((source, document),) = found
    if not own:
        return source, ledger_of(document, now, kind=kind, state=state, name=name)
    try:
        return source, {**document, "resources": _chosen(document["resources"], kind, state, name)}
    except (AttributeError, KeyError, TypeError) as error:
        raise DumpError(f"{source}: not a ledger: {error!r}") from None


def _rows(section: Mapping[str, Any], now: datetime) -> Iterator[dict[str, Any]]:
    for field, (kind, inner, key) in RESOURCES.items():
        for entry in get(section, field, ()):
            resource = get(entry, inner) or _failed(entry)
            called = text(get(entry, "name", "") if kind == "SDS" else get(resource, key, ""))
            yield _row(kind, called, entry, entry, now, waiting="warming" in field)
    for entry in get(section, "dynamic_listeners", ()):
        held = get(entry, "active_state") or get(entry, "warming_state") or {}
        waiting = not get(entry, "active_state") and bool(held)
        yield _row("LDS", text(get(entry, "name", "")), entry, held, now, waiting=waiting)


def _failed(entry: Mapping[str, Any]) -> Mapping[str, Any]:
    found: Mapping[str, Any] = get(get(entry, "error_state") or {}, "failed_configuration") or {}
    return found


def _row(
    kind: str, name: str, entry: Mapping[str, Any], held: Mapping[str, Any], now: datetime, *, waiting: bool
) -> dict[str, Any]:
    """``held``: what has the version that serves; ``waiting``: it does not serve yet."""
    error = get(entry, "error_state")
    accepted = None
    if get(held, "version_info") or get(held, "last_updated"):
        accepted = _response(get(held, "version_info", ""), get(held, "last_updated", ""), now)
    rejected = None
    if error:
        rejected = _response(get(error, "version_info", ""), get(error, "last_update_attempt", ""), now)
        rejected["reason"] = text(get(error, "details", ""))
    state = "NACKED" if rejected else "REQUESTED" if waiting else "ACKED"
    return {"type": kind, "name": name, "state": state, "accepted": accepted, "rejected": rejected}


def _response(version: Any, at: Any, now: datetime) -> dict[str, Any]:
    return {"version": text(version), "nonce": "", "age_s": age_s(text(at), now), "at": text(at)}


def age_s(at: str, now: datetime) -> float | None:
    """Seconds since a time as Envoy writes it; None for none."""
    try:
        return max(0.0, round((now - datetime.fromisoformat(at.replace("Z", "+00:00"))).total_seconds(), 3))
    except (ValueError, TypeError):
        return None
