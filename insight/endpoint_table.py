"""`eastgate endpoints`: istioctl's endpoint table plus priority, locality, weight and share.

Shares are read off the table that the endpoints compile into. Without the cluster's configuration (Envoy's /clusters
alone) there is nothing to compile: the share is what the proxy stated, if it did.
"""

from collections.abc import Iterable, Sequence

from eastgate.xds.record import record

from .cluster_model import ClusterModel, ProxyModel, compile_model
from .errors import DumpError

HEADER = (
    *("ENDPOINT", "STATUS", "OUTLIER CHECK", "CLUSTER"),
    *("PRIORITY", "LOCALITY", "WEIGHT", "SHARE", "CONNECTS", "FAILED"),
)


@record
class Row:
    """One row. ``share`` of the cluster's new connections, 0 to 1; None when the dump does not say enough for it.
    ``connects``: attempts so far, of which ``failures`` failed; 0 where the dump does not say.
    ``additional_addresses``: those of the endpoint beside its first, which is what it is known by.
    """

    address: str
    status: str
    outlier_check: str
    cluster: str
    priority: int
    locality: str
    weight: int
    share: float | None
    connects: int
    failures: int
    additional_addresses: tuple[str, ...] = ()


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
            one.connects,
            one.connect_failures,
            one.further,
        )
        for model in proxy.clusters.values()
        for one, share in zip(model.endpoints, shares_of(model), strict=True)
    ]


def rows_of_all(proxies: Sequence[ProxyModel], cluster: str = "") -> list[Row]:
    """Rows of all proxies in order, or of one cluster. Raises DumpError."""
    rows = [row for proxy in proxies for row in rows_of(proxy) if not cluster or row.cluster == cluster]
    if cluster and not rows:
        where = ", ".join(proxy.source for proxy in proxies)
        raise DumpError(f"--cluster {cluster}: no endpoints of such a cluster in {where}")
    return sorted(rows, key=sort_key)


def sort_key(row: Row) -> tuple[str, str]:
    return row.address, row.cluster


def shown_address(address: str, further: Iterable[str]) -> str:
    """All addresses of an endpoint in one cell without a blank, as istioctl has them."""
    return ",".join((address, *further))


def table_text(rows: Iterable[Row]) -> str:
    """Columns padded with blanks, as istioctl prints them."""
    cells = [HEADER] + [
        (
            shown_address(row.address, row.additional_addresses),
            row.status,
            row.outlier_check,
            row.cluster,
            str(row.priority),
            row.locality or "-",
            str(row.weight),
            "-" if row.share is None else f"{row.share:.2%}",
            str(row.connects),
            str(row.failures),
        )
        for row in rows
    ]
    return padded(cells)


def padded(lines: Sequence[Sequence[str]]) -> str:
    """Columns as wide as their longest cell."""
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() + "\n" for line in lines
    )
