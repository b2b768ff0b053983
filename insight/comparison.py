"""Two moments of a proxy beside each other, as the page shows them: what moved in shares, the most first. Bounded."""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from .cluster_model import ClusterModel, ProxyModel
from .traffic_diff import difference

CLUSTERS_SHOWN = 200
ENDPOINTS_SHOWN = 20

Pair = tuple[ClusterModel | None, ClusterModel | None]


def comparison(pairs: Mapping[str, Pair]) -> dict[str, Any]:
    """Of clusters before and after; ``more``: how many that differ are not shown. Shares are 0 to 1, points percent."""
    before = {name: one for name, (one, _) in pairs.items() if one is not None}
    after = {name: one for name, (_, one) in pairs.items() if one is not None}
    found = difference(ProxyModel("before", before), ProxyModel("after", after)).clusters
    return {
        "clusters": [
            {
                "name": one.name,
                "kind": one.kind,
                "moved_points": one.moved,
                "sentence": one.sentence.removeprefix(f"{one.name}: "),
                "endpoints": [asdict(each) for each in one.endpoints[:ENDPOINTS_SHOWN]],
                "more_endpoints": max(0, len(one.endpoints) - ENDPOINTS_SHOWN),
                "settings": list(one.settings),
            }
            for one in found[:CLUSTERS_SHOWN]
        ],
        "more": max(0, len(found) - CLUSTERS_SHOWN),
    }
