from collections.abc import Sequence

def zone_parts(
    upstream: Sequence[int], local: Sequence[int], *, local_total: int, has_local: bool, force: bool = False
) -> tuple[bool, int, list[int], list[tuple[int, int]], list[float]]:
    """Envoy's numbers for localities with these healthy endpoints: (direct, local percent, residuals, parts, picks).

    `parts`: (of the local cluster, of the cluster) by locality, in ten-thousandths. `upstream[0]` is the proxy's own
    locality if `has_local`.
    """
