"""Zone-aware routing (Envoy: load_balancer_impl.cc, where it makes its locality routing structures)."""

from collections.abc import Iterator, Sequence
from fractions import Fraction

SCALE = 10000
Localities = Sequence[tuple[str, int]]
"""zone and number of hosts, the proxy's own zone first"""


class ZoneRouting:
    """``state``: none, direct or residual."""

    def __init__(
        self,
        upstream: Localities,
        local: Localities,
        *,
        has_local: bool,
        minimum: int,
        local_hosts: int | None = None,
        force: bool = False,
        forcing: bool = False,
    ) -> None:
        """``force``: the own zone has what force_local_zone asks for; ``forcing``: it asks for something."""
        self.state = "none"
        self.local_percent = 0
        self.residual: list[int] = []
        self.percentages: list[tuple[int, int]] | None = None
        total = sum(hosts for _, hosts in upstream)
        if len(upstream) < 2 or (len(local) < 2 and not forcing) or not local or total < minimum:
            return
        # Endpoints of the local cluster in the proxy's own zone, whatever their health.
        if not (local[0][1] if local_hosts is None else local_hosts):
            return
        local_total = sum(hosts for _, hosts in local)
        of_local = {zone: SCALE * hosts // local_total if local_total else 0 for zone, hosts in local}
        self.percentages = [
            (of_local.get(zone, 0), SCALE * hosts // total if total else 0) if hosts else (0, 0)
            for zone, hosts in upstream
        ]
        here, there = self.percentages[0]
        if has_local and (force or (there > 0 and there >= here)):
            self.state = "direct"
            return
        self.state = "residual"
        self.local_percent = there * SCALE // here if has_local and here else 0
        behind = 0
        for index, (one, other) in enumerate(self.percentages):
            if index > 0 or not has_local:
                behind += max(0, other - one)
            self.residual.append(behind)

    def parts(self) -> list[Fraction]:
        """Part of all picks by locality."""
        assert self.percentages is not None
        count = len(self.percentages)
        if self.state == "direct":
            return [Fraction(1)] + [Fraction(0)] * (count - 1)
        here = Fraction(self.local_percent, SCALE)
        steps = [one - before for before, one in zip([0, *self.residual], self.residual, strict=False)]
        weights = steps if any(steps) else [1] * count
        found = [(1 - here) * Fraction(weight, sum(weights)) for weight in weights]
        found[0] += here
        return found

    def pick(self, draws: Iterator[int]) -> int:
        """Index of a locality."""
        if self.state == "direct" or next(draws) % SCALE < self.local_percent:
            return 0
        if self.residual[-1] == 0:
            return next(draws) % len(self.residual)
        threshold = next(draws) % self.residual[-1]
        return next(index for index, limit in enumerate(self.residual) if threshold < limit)
