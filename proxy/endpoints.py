"""`eastgate endpoints`: istioctl's endpoint table plus priority, locality, weight and share.

Reads a running proxy's admin (eastgate's or Envoy's), or a file: /clusters JSON, or a config_dump with EDS. Shares that
the proxy did not give are computed by compiling the same endpoints into the same table that picks.
"""

import json
import sys
import urllib.error
import urllib.request
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from ipaddress import ip_address
from pathlib import Path
from typing import Any

from eastgate.fastpath.cluster_table import ClusterTable
from eastgate.xds.resources import Columns, Locality, LocalityEntry

from .dumps import HEALTH_NAMES, flat_address
from .errors import DumpError, UnreachableError

TIMEOUT_S = 5.0
HEADER = ("ENDPOINT", "STATUS", "OUTLIER CHECK", "CLUSTER", "PRIORITY", "LOCALITY", "WEIGHT", "SHARE")


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One row. ``share`` of the cluster's new connections, 0 to 1; None when the dump does not say enough for it."""

    address: str
    status: str
    outlier_check: str
    cluster: str
    priority: int
    locality: str
    weight: int
    share: float | None


@dataclass(frozen=True, slots=True)
class LoadBalancing:
    """What of a cluster's configuration decides shares; Envoy's defaults."""

    policy: str = "ROUND_ROBIN"
    panic_threshold: int = 50
    locality_weighted: bool = False
    overprovisioning_factor: int = 140


def fetch(url: str) -> Any:
    """JSON of an admin page. Raises UnreachableError or DumpError."""
    if not url.startswith(("http://", "https://")):
        raise DumpError(f"--admin {url!r}: expected a URL such as http://127.0.0.1:15000")
    try:
        with urllib.request.urlopen(url, timeout=TIMEOUT_S) as answer:
            return json.load(answer)
    except urllib.error.HTTPError as error:
        raise UnreachableError(f"{url}: answered {error.code} {error.reason} (is that an admin address?)") from None
    except (urllib.error.URLError, TimeoutError, OSError) as error:
        reason = getattr(error, "reason", error)
        raise UnreachableError(f"{url}: no answer: {reason} (is the proxy running, and its admin there?)") from None
    except ValueError:
        raise UnreachableError(f"{url}: the answer is not JSON (is that an admin address?)") from None


def load(path: str) -> Any:
    """JSON of a dump file. Raises DumpError."""
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise DumpError(f"--dump {path}: {error.strerror}") from None
    except ValueError as error:
        raise DumpError(f"--dump {path}: not JSON: {error}") from None


def get(message: Mapping[str, Any], name: str, default: Any = None) -> Any:
    """A field by its proto name, also when the file has the camelCase form."""
    if name in message:
        return message[name]
    head, *rest = name.split("_")
    return message.get(head + "".join(part.title() for part in rest), default)


def locality_of(message: Mapping[str, Any]) -> Locality:
    return Locality(*(str(get(message, part, "")) for part in ("region", "zone", "sub_zone")))


def load_balancing(cluster: Mapping[str, Any]) -> LoadBalancing:
    """From a Cluster as config_dump shows it."""
    common = get(cluster, "common_lb_config", {})
    panic = get(common, "healthy_panic_threshold")
    return LoadBalancing(
        policy=get(cluster, "lb_policy", "ROUND_ROBIN"),
        panic_threshold=50 if panic is None else int(panic.get("value", 0)),
        locality_weighted=get(common, "locality_weighted_lb_config") is not None,
    )


def columns_of(rows: Iterable[tuple[str, int, int, Locality, int, str]], weights: Mapping[Any, int]) -> Columns:
    """Columns of (address, priority, weight, locality, health, _) rows; `weights` by (priority, locality)."""
    import struct

    family, packed, port, weight, health, priority, locality = bytearray(), bytearray(), [], [], [], [], []
    places: dict[tuple[int, Locality], int] = {}
    names: list[bytes] = []
    for address, level, own_weight, where, status, _ in rows:
        host, _, number = address.rpartition(":")
        try:
            parsed = ip_address(host.strip("[]"))
            family.append(parsed.version)
            packed += parsed.packed.ljust(16, b"\0")
            port.append(int(number))
        except ValueError:
            family.append(1)
            packed += struct.pack("=I12x", len(names))
            names.append(address.encode())
            port.append(0)
        weight.append(own_weight)
        health.append(status)
        priority.append(level)
        locality.append(places.setdefault((level, where), len(places)))
    count = len(weight)
    return Columns(
        count=count,
        family=bytes(family),
        address=bytes(packed),
        port=struct.pack(f"={count}H", *port),
        weight=struct.pack(f"={count}I", *weight),
        health=bytes(health),
        priority=bytes(priority),
        locality=struct.pack(f"={count}H", *locality),
        flags=bytes(count),
        localities=tuple(LocalityEntry(where, level, weights.get((level, where))) for level, where in places),
        names=tuple(names),
    )


def with_shares(
    cluster: str, hosts: Sequence[Mapping[str, Any]], balancing: LoadBalancing | None, weights: Mapping[Any, int]
) -> list[Endpoint]:
    """Rows of one cluster; shares come from compiling the endpoints when the proxy did not state them."""
    rows = []
    for host in hosts:
        status = str(get(get(host, "health_status", {}), "eds_health_status", "UNKNOWN"))
        health = HEALTH_NAMES.index(status) if status in HEALTH_NAMES else 0
        failed = bool(get(get(host, "health_status", {}), "failed_outlier_check", False))
        where = locality_of(host.get("locality", {}))
        address = flat_address(
            {key: get(host["address"], key) for key in ("socket_address", "pipe") if get(host["address"], key)}
            if "address" in host
            else {}
        )
        rows.append(
            (address, int(host.get("priority", 0)), max(1, int(host.get("weight", 1))), where, health, status, failed)
        )
    shares: list[float | None] = [host.get("eastgate_share") for host in hosts]
    if balancing is not None and any(share is None for share in shares):
        try:
            table = ClusterTable.compile(
                columns_of([row[:6] for row in rows], weights),
                policy=balancing.policy,
                panic_threshold=balancing.panic_threshold,
                locality_weighted=balancing.locality_weighted,
                overprovisioning_factor=balancing.overprovisioning_factor,
                failed=bytes(row[6] for row in rows),
            )
            shares = list(table.shares())
        except ValueError:
            # A policy that is not flattened into shares (ring hash, original destination).
            shares = [None] * len(rows)
    return [
        Endpoint(row[0], row[5], "FAILED" if row[6] else "OK", cluster, row[1], str(row[3]), row[2], share)
        for row, share in zip(rows, shares, strict=True)
    ]


def from_clusters(document: Mapping[str, Any], configured: Mapping[str, LoadBalancing]) -> list[Endpoint]:
    """Rows of admin.v3.Clusters."""
    found = []
    for status in get(document, "cluster_statuses", ()):
        hosts = get(status, "host_statuses", [])
        found += with_shares(status["name"], hosts, configured.get(status["name"]), {})
    return found


def from_config_dump(document: Mapping[str, Any]) -> list[Endpoint]:
    """Rows of the EndpointsConfigDump section. Raises DumpError when it is missing."""
    sections = document["configs"]
    configured = configured_clusters(sections)
    assignments = [
        get(entry, "endpoint_config", {})
        for section in sections
        for field in ("static_endpoint_configs", "dynamic_endpoint_configs")
        for entry in get(section, field, ())
    ]
    if not assignments:
        raise DumpError("the config_dump has no endpoints: take it with /config_dump?include_eds, or use /clusters")
    found = []
    for assignment in assignments:
        hosts, weights = [], {}
        for entry in assignment.get("endpoints", ()):
            where, level = entry.get("locality", {}), int(entry.get("priority", 0))
            if get(entry, "load_balancing_weight"):
                weights[level, locality_of(where)] = int(get(entry, "load_balancing_weight"))
            for endpoint in get(entry, "lb_endpoints", ()):
                status = get(endpoint, "health_status", "UNKNOWN")
                hosts.append(
                    {
                        "address": endpoint["endpoint"]["address"],
                        "health_status": {"eds_health_status": status},
                        "weight": get(endpoint, "load_balancing_weight", 1),
                        "priority": level,
                        "locality": where,
                    }
                )
        name = get(assignment, "cluster_name", "")
        found += with_shares(name, hosts, configured.get(name, LoadBalancing()), weights)
    return found


def configured_clusters(sections: Iterable[Mapping[str, Any]]) -> dict[str, LoadBalancing]:
    """Load balancing settings by cluster name, from the ClustersConfigDump section."""
    found = {}
    for section in sections:
        for field in ("static_clusters", "dynamic_active_clusters"):
            for entry in get(section, field, ()):
                cluster = entry.get("cluster", {})
                found[cluster.get("name", "")] = load_balancing(cluster)
    return found


def read_document(document: Any, source: str) -> list[Endpoint]:
    """Rows of either form. Raises DumpError for anything else."""
    try:
        if isinstance(document, dict) and get(document, "cluster_statuses") is not None:
            return from_clusters(document, {})
        if isinstance(document, dict) and "configs" in document:
            return from_config_dump(document)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise DumpError(f"{source}: not the shape that Envoy's admin has: {type(error).__name__}: {error}") from None
    raise DumpError(f"{source}: neither a config_dump nor /clusters?format=json")


def live(admin: str) -> list[Endpoint]:
    """Rows of a running proxy. Envoy's /clusters lacks what decides shares: its config_dump is asked as well."""
    admin = admin.rstrip("/")
    document = fetch(f"{admin}/clusters?format=json")
    rows = read_document(document, admin)
    if rows and all(row.share is None for row in rows):
        dumped = fetch(f"{admin}/config_dump?include_eds")
        return read_document(dumped, admin)
    return rows


def sort_key(row: Endpoint) -> tuple[str, str]:
    return row.address, row.cluster


def table_text(rows: Iterable[Endpoint]) -> str:
    """Columns padded with blanks, as istioctl prints them."""
    cells = [HEADER] + [
        (
            row.address,
            row.status,
            row.outlier_check,
            row.cluster,
            str(row.priority),
            row.locality or "-",
            str(row.weight),
            "-" if row.share is None else f"{row.share:.2%}",
        )
        for row in rows
    ]
    widths = [max(len(line[index]) for line in cells) for index in range(len(HEADER))]
    return "".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() + "\n" for line in cells
    )


def print_endpoints(admin: str, dump: str, cluster: str, *, as_json: bool) -> None:
    """Print the table, or JSON, on stdout. Raises EastgateError."""
    rows = read_document(load(dump), f"--dump {dump}") if dump else live(admin)
    if cluster:
        rows = [row for row in rows if row.cluster == cluster]
        if not rows:
            raise DumpError(f"--cluster {cluster}: no endpoints of such a cluster in {dump or admin}")
    rows.sort(key=sort_key)
    text = json.dumps([asdict(row) for row in rows], indent=1) + "\n" if as_json else table_text(rows)
    sys.stdout.write(text)
