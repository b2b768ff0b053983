"""`eastgate endpoints`: istioctl's endpoint table plus priority, locality, weight and share.

Shares are read off the table that the endpoints compile into. Without the cluster's configuration (Envoy's /clusters
alone) there is nothing to compile: the share is what the proxy stated, if it did.
"""

import json
import sys
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass

from eastgate.insight.cluster_model import ClusterModel, ProxyModel, compile_model
from eastgate.proxy.errors import DumpError

from .dump_source import proxies

HEADER = ("ENDPOINT", "STATUS", "OUTLIER CHECK", "CLUSTER", "PRIORITY", "LOCALITY", "WEIGHT", "SHARE")


@dataclass(frozen=True, slots=True)
class Row:
    """One row. ``share`` of the cluster's new connections, 0 to 1; None when the dump does not say enough for it."""

    address: str
    status: str
    outlier_check: str
    cluster: str
    priority: int
    locality: str
    weight: int
    share: float | None


def shares_of(model: ClusterModel) -> Sequence[float | None]:
    """Share by endpoint. What is no endpoint by itself (ring hash, original destination) has none."""
    if model.configured:
        try:
            return list(compile_model(model).table.shares())
        except ValueError:
            return [None] * len(model.endpoints)
    return [endpoint.stated_share for endpoint in model.endpoints]


def rows_of(proxy: ProxyModel) -> list[Row]:
    """Rows of all clusters. Raises DumpError when the dump has no endpoints."""
    if not proxy.has_endpoints:
        raise DumpError(
            f"{proxy.source}: the config_dump has no endpoints: take it with /config_dump?include_eds, or use /clusters"
        )
    return [
        Row(
            one.address,
            one.health,
            "FAILED" if one.failed == "outlier" else "OK",
            model.name,
            one.priority,
            str(one.locality),
            one.weight,
            share,
        )
        for model in proxy.clusters.values()
        for one, share in zip(model.endpoints, shares_of(model), strict=True)
    ]


def sort_key(row: Row) -> tuple[str, str]:
    return row.address, row.cluster


def table_text(rows: Iterable[Row]) -> str:
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


def print_endpoints(admin: str, dump: Sequence[str], cluster: str, *, as_json: bool) -> None:
    """Print the table, or JSON, on stdout. Raises EastgateError."""
    rows = [row for proxy in proxies(admin, dump) for row in rows_of(proxy)]
    if cluster:
        rows = [row for row in rows if row.cluster == cluster]
        if not rows:
            raise DumpError(f"--cluster {cluster}: no endpoints of such a cluster in {', '.join(dump) or admin}")
    rows.sort(key=sort_key)
    text = json.dumps([asdict(row) for row in rows], indent=1) + "\n" if as_json else table_text(rows)
    sys.stdout.write(text)
