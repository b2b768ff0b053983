"""Zone-aware routing (Envoy: load_balancer_impl.cc, where it makes its locality routing structures)."""

from collections.abc import Iterator, Sequence

SCALE = 10000
Localities = Sequence[tuple[str, int]]
"""zone and number of hosts, the proxy's own zone first"""


class ZoneRouting:
    """``state``: none, direct or residual."""

    def __init__(self, upstream: Localities, local: Localities, *, has_local: bool, minimum: int) -> None:
        self.state = "none"
        self.local_percent = 0
        self.residual: list[int] = []
        self.percentages: list[tuple[int, int]] | None = None
        total = sum(hosts for _, hosts in upstream)
        if len(upstream) < 2 or len(local) < 2 or not local[0][1] or total < minimum:
            return
        local_total = sum(hosts for _, hosts in local)
        of_local = {zone: SCALE * hosts // local_total if local_total else 0 for zone, hosts in local}
        self.percentages = [
            (of_local.get(zone, 0), SCALE * hosts // total if total else 0) if hosts else (0, 0)
            for zone, hosts in upstream
        ]
        here, there = self.percentages[0]
        if has_local and there > 0 and there >= here:
            self.state = "direct"
            return
        self.state = "residual"
        self.local_percent = there * SCALE // here if has_local and here else 0
        behind = 0
        for index, (one, other) in enumerate(self.percentages):
            if index > 0 or not has_local:
                behind += max(0, other - one)
            self.residual.append(behind)

    def pick(self, draws: Iterator[int]) -> int:
        """Index of a locality."""
        if self.state == "direct" or next(draws) % SCALE < self.local_percent:
            return 0
        if self.residual[-1] == 0:
            return next(draws) % len(self.residual)
        threshold = next(draws) % self.residual[-1]
        return next(index for index, limit in enumerate(self.residual) if threshold < limit)
