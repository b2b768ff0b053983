"""What tables of other clusters have to know of the local one, where policies look at zones. Computes nothing."""

Census = tuple[int, int, int, int, dict[tuple[str, str, str], tuple[int, int, int]]]
"""What ClusterTable.census says of a local cluster"""
ZONED = ("ROUND_ROBIN", "LEAST_REQUEST", "RANDOM")
"""Policies that look at zones"""
