"""What a comparison shows, in order: rows of the table, panels of the plot."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Row:
    """One metric. ``digits``: behind the decimal point. ``better``: which way is good."""

    metric: str
    title: str
    digits: int = 0
    better: str = "lower"
    plotted: bool = False


ROWS = (
    Row("cpu_us_per_connection", "CPU per connection, us", 1, plotted=True),
    Row("connections_per_s", "connections/s, 16 in flight", better="higher"),
    Row("cpu_s_per_gb", "CPU per GB relayed, s", 3, plotted=True),
    Row("gb_per_s", "GB/s, one connection", 2, better="higher"),
    Row("round_trip_p50_us_1", "round trip of 64 B, p50, 1 connection, us", plotted=True),
    Row("round_trip_p99_us_1", "p99, 1 connection, us"),
    Row("round_trip_p50_us_8", "p50, 8 connections, us"),
    Row("round_trip_p99_us_8", "p99, 8 connections, us"),
    Row("round_trip_p50_us_64", "p50, 64 connections, us"),
    Row("round_trip_p99_us_64", "p99, 64 connections, us"),
    Row("cpu_us_per_round_trip_8", "CPU per round trip, 8 connections, us", 1),
    Row("bytes_per_idle_connection", "memory per idle connection, bytes", plotted=True),
    Row("bytes_per_endpoint", "memory per endpoint with Istio's metadata, bytes", plotted=True),
    Row("kb_per_cluster", "memory per cluster of 12 such endpoints and its chain, kB", 1, plotted=True),
    Row("resident_mb_at_start", "resident memory at start, MB", 1, plotted=True),
    Row("time_to_first_accept_ms", "process start to first answer, ms"),
    Row("push_to_first_pick_ms_1", "push to first pick under load, 1 endpoint, ms", 1),
    Row("push_to_first_pick_ms_10000", "the same, 10,000 endpoints, ms", 1, plotted=True),
    Row("lost_of_first_5", "connections lost of the first 5 after one of two pods was killed", 1),
    Row("client_us_per_connection", "generator: CPU per connection, us", 1),
    Row("sink_us_per_connection", "sink: CPU per connection, us", 1),
    Row("client_s_per_gb", "generator: CPU per GB, s", 3),
)
"""The last three are the harness's own cost."""
