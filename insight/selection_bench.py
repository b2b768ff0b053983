"""How long choosing an endpoint takes: policies and sizes, beside a plain Python picker. Measures; prints nothing.

A pick is shorter than a timer can see, so each round makes many, and what is told is the median round divided by their
number: CPU time of this thread, so that others on the machine count little. Picks of the engine's kind are made by
`spin`, in a native loop; `random.choices` stands for what a Python program would do, with cumulative weights made once.
"""

import random
from collections.abc import Callable, Sequence
from itertools import accumulate
from statistics import median
from time import thread_time

from eastgate.fastpath.tables.cluster_table import ClusterTable
from eastgate.fastpath.tables.endpoints import Endpoint, Locality
from eastgate.xds.record import record

POLICIES = ("ROUND_ROBIN", "LEAST_REQUEST", "RANDOM", "RING_HASH", "MAGLEV")
SIZES = (10, 100, 1000, 10_000)
PYTHON = "random.choices"
ROUNDS = 7
# Long enough that a timer's tick, and calling, do not count.
ROUND_S = 0.02
MOST_PICKS = 2_000_000
ZONES = 3


@record
class Measured:
    """One cell. ``picker``: a policy, or PYTHON. ``build_ms``: of its table, or of the cumulative weights."""

    picker: str
    endpoints: int
    ns_per_pick: float
    build_ms: float
    bytes_per_endpoint: float


def endpoints_of(size: int, *, equal: bool, seed: int) -> list[Endpoint]:
    """So many endpoints in three zones, at priority 0; weights 1 to 100, or all 1."""
    draw = random.Random(seed)
    zones = [Locality("region", f"zone-{number}") for number in range(ZONES)]
    return [
        Endpoint(
            f"10.{row >> 16 & 255}.{row >> 8 & 255}.{row & 255}:80",
            weight=1 if equal else draw.randint(1, 100),
            locality=zones[row % ZONES],
        )
        for row in range(size)
    ]


def per_pick_ns(pick_many: Callable[[int], object], *, round_s: float = ROUND_S) -> float:
    """Median nanoseconds of a pick. ``pick_many`` makes so many picks."""
    picks = 1
    while picks < MOST_PICKS:
        began = thread_time()
        pick_many(picks)
        if (took := thread_time() - began) >= round_s / 4:
            picks = min(MOST_PICKS, max(1, int(picks * round_s / took)))
            break
        picks *= 8
    times = []
    for _ in range(ROUNDS):
        began = thread_time()
        pick_many(picks)
        times.append((thread_time() - began) / picks)
    return median(times) * 1e9


def measure_policy(policy: str, endpoints: Sequence[Endpoint], *, round_s: float = ROUND_S) -> Measured:
    """Raises ValueError for a policy that there is not."""
    began = thread_time()
    table = ClusterTable.from_endpoints(endpoints, policy=policy, seed=1)
    build_ms = (thread_time() - began) * 1000
    ns = per_pick_ns(table.spin, round_s=round_s)
    return Measured(policy, len(endpoints), ns, build_ms, table.memory() / len(endpoints))


def measure_python(endpoints: Sequence[Endpoint], *, round_s: float = ROUND_S) -> Measured:
    """`random.choices`, one pick a call, as a connection at a time would ask for it."""
    began = thread_time()
    weights = list(accumulate(one.weight for one in endpoints))
    build_ms = (thread_time() - began) * 1000
    choices = random.Random(1).choices

    def pick_many(count: int) -> None:
        for _ in range(count):
            choices(endpoints, cum_weights=weights)

    return Measured(PYTHON, len(endpoints), per_pick_ns(pick_many, round_s=round_s), build_ms, 0.0)


def measure(
    policies: Sequence[str] = POLICIES,
    sizes: Sequence[int] = SIZES,
    *,
    equal: bool = False,
    seed: int = 1,
    round_s: float = ROUND_S,
) -> list[Measured]:
    """All cells, by size and then by picker. Raises ValueError."""
    found = []
    for size in sizes:
        endpoints = endpoints_of(size, equal=equal, seed=seed)
        found += [measure_policy(policy, endpoints, round_s=round_s) for policy in policies]
        found.append(measure_python(endpoints, round_s=round_s))
    return found


def table_lines(found: Sequence[Measured]) -> list[str]:
    """Nanoseconds a pick: a row for each picker, a column for each size."""
    sizes = list(dict.fromkeys(one.endpoints for one in found))
    by_cell = {(one.picker, one.endpoints): one for one in found}
    pickers = dict.fromkeys(one.picker for one in found)
    rows = [
        ["ns a pick, endpoints:", *(f"{size:,}" for size in sizes)],
        *([picker, *(f"{by_cell[picker, size].ns_per_pick:,.1f}" for size in sizes)] for picker in pickers),
    ]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = []
    for head, *cells in rows:
        columns = (cell.rjust(width) for cell, width in zip(cells, widths[1:], strict=True))
        lines.append("  ".join((head.ljust(widths[0]), *columns)))
    return lines
